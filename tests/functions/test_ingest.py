"""The function that ticks, under the real runtime client, over simulated exchanges."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import pytest
from msgspec import Struct

from relay.clock import Clock
from relay.simulator.server import Simulator
from relay.store.client import Client
from relay.store.keys import Keys
from relay.store.reader import Head, Reader
from tests.functions.events import Event, schedule
from tests.functions.runtime import Runtime, function
from tests.harness import until

pytestmark = pytest.mark.timeout(60)

# A tick is told to end so long before the platform would end it.
MARGIN_S = 3
RULES = """
[ingest]
lease_ms = 1500
lease_renew_ms = 500
"""


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Run the simulator."""
    async with Simulator() as running:
        yield running


class Ticks(Struct):
    """What ticks run with, and the board that they write."""

    environ: dict[str, str]
    reader: Reader
    clock: Clock
    simulator: Simulator

    def function(self) -> AbstractAsyncContextManager[Runtime]:
        """Hold one more instance of the function."""
        return function("functions.ingest.handler", self.environ)

    def event(self, *, age_s: int = 0) -> Event:
        """Return the event of a schedule that rang so long ago."""
        return schedule(self.clock.wall_ms() - age_s * 1000)

    async def head(self) -> Head:
        """Read where the board stands."""
        return (await self.reader.read(())).head

    async def leads(self, *, after: int = 0) -> None:
        """Wait until somebody with a newer token publishes."""

        async def published() -> bool:
            head = await self.head()
            return head.token > after and head.offset > 0

        await until(published)


@pytest.fixture
def ticks(
    valkey_url: str, keys: Keys, client: Client, simulator: Simulator, tmp_path: Path
) -> Ticks:
    """Return what ticks need."""
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    environ = {
        "RELAY_VALKEY_URL": valkey_url,
        "RELAY_BOARD": keys.board,
        "RELAY_SIM_URL": simulator.url,
        "RELAY_CONFIG": str(rules),
    }
    return Ticks(environ, Reader(client, keys), client.clock, simulator)


async def test_one_event_is_one_tick_that_ends_in_time(
    ticks: Ticks, client: Client, keys: Keys
) -> None:
    """It fills the board, gives the lease back, and leaves a beat for the gap."""
    async with ticks.function() as runtime:
        outcome = await runtime.invoke(ticks.event(), seconds=MARGIN_S + 4)
    assert outcome.answer == {"tick": "led"}
    view = await ticks.reader.read(None)
    assert "BTC-USD" in view.tickers
    assert view.head.alive
    assert await client.valkey.exists(keys.lease) == 0


async def test_an_event_that_is_late_is_dropped(ticks: Ticks) -> None:
    """Queued for an hour while another one ran, it would ring upstream for nothing."""
    async with ticks.function() as runtime:
        outcome = await runtime.invoke(ticks.event(age_s=62))
    assert outcome.answer == {"tick": "stale"}
    assert (await ticks.head()).token == 0
    counts = ticks.simulator.counts().exchanges.values()
    assert all(one.total.requests.total == 0 for one in counts)


async def test_without_time_left_it_does_not_begin(ticks: Ticks) -> None:
    """A lease that is taken and not given back would keep the next one out."""
    async with ticks.function() as runtime:
        outcome = await runtime.invoke(ticks.event(), seconds=MARGIN_S - 0.5)
    assert outcome.answer == {"tick": "late"}
    assert (await ticks.head()).token == 0


@pytest.mark.serverless
async def test_overlapping_repeated_and_unordered_events_are_harmless(
    ticks: Ticks,
) -> None:
    """One leads at a time; the board goes on where it stood, and never back."""
    async with ticks.function() as one, ticks.function() as two:
        first = one.begin(ticks.event(), seconds=MARGIN_S + 5)
        await ticks.leads()
        overlapping = await two.invoke(ticks.event(), seconds=MARGIN_S + 5)
        assert overlapping.answer == {"tick": "busy"}
        assert (await first).answer == {"tick": "led"}
        before = await ticks.head()
        # The same minute once more, and one from before it.
        repeated = await one.invoke(ticks.event(age_s=2), seconds=MARGIN_S + 4)
        unordered = await two.invoke(ticks.event(age_s=30), seconds=MARGIN_S + 4)
    assert (repeated.answer, unordered.answer) == ({"tick": "led"},) * 2
    after = await ticks.head()
    assert after.epoch == before.epoch
    assert after.offset > before.offset
    assert after.token > before.token


async def test_a_store_that_is_away_fails_the_event(ticks: Ticks) -> None:
    """The platform counts it; the next minute is the retry."""
    environ = ticks.environ | {"RELAY_VALKEY_URL": "valkey://127.0.0.1:1"}
    async with function("functions.ingest.handler", environ) as runtime:
        outcome = await runtime.invoke(ticks.event())
    assert outcome.kind == "error"
    assert outcome.body["errorType"] == "StoreDown"


@pytest.mark.serverless
async def test_frozen_in_mid_tick_it_can_do_no_harm_when_it_wakes(ticks: Ticks) -> None:
    """Another one leads by then, and refuses nothing but the sleeper's writes."""
    heads: list[Head] = []
    async with ticks.function() as sleeper, ticks.function() as other:
        asleep = sleeper.begin(ticks.event(), seconds=MARGIN_S + 8)
        await ticks.leads()
        sleeper.send(signal.SIGSTOP)
        before = await ticks.head()
        await anyio.sleep(1.6)  # the lease runs out: this is the freeze itself
        awake = other.begin(ticks.event(), seconds=MARGIN_S + 8)
        await ticks.leads(after=before.token)
        sleeper.send(signal.SIGCONT)
        while not awake.done():
            heads.append(await ticks.head())
            await asyncio.sleep(0.02)
        assert (await awake).answer == {"tick": "led"}
        assert (await asyncio.wait_for(asleep, 10)).kind == "response"
    heads.append(await ticks.head())
    assert {head.holder for head in heads} == {heads[0].holder} != {before.holder}
    assert [head.offset for head in heads] == sorted(head.offset for head in heads)
    assert {head.epoch for head in heads} == {before.epoch}
