"""What real clients of a real server see while stores and sources come and go."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest
from msgspec.structs import replace

from relay.simulator.settings import Settings as SimulatorSettings
from tests.harness import eventually, until
from tests.simulation.processes import relay
from tests.simulation.rig import Rig, hurried, rigged, working
from tests.simulation.test_upstream_store import copied, restored
from tests.simulation.witnesses import Witness, attached, grievances

SYMBOLS = ("BTC-USD", "ETH-USD", "XMR-USD")
STREAMING = ("binance", "coinbase", "kraken")
CALM = SimulatorSettings(updates_per_second=100, burst_every_ms=0)
# Until everybody holds it: a mark, a poll's way, and a machine that is busy.
SOON_S = 20


@dataclass
class Stand:
    """A worker here, and a server as a process of its own."""

    rig: Rig
    url: str
    pinned: int = 0

    def pin(self) -> dict[str, dict[str, str]]:
        """Let the exchanges show a price of each of their own, and keep to it."""
        self.pinned += 1
        pins: dict[str, dict[str, str]] = {name: {} for name in SYMBOLS}
        for exchange, symbols in (
            ("coinbase", SYMBOLS[:2]),
            ("kraken", [name.replace("-", "/") for name in SYMBOLS]),
        ):
            for symbol in symbols:
                found = self.rig.simulator.exchanges[exchange].find(symbol)
                assert found is not None
                quote = found.look()
                price = quote.price(quote.last + self.pinned)
                self.rig.simulator.set_price(exchange, symbol, price)
                pins[symbol.replace("/", "-")][exchange] = price
        return pins

    async def settle(self, witnesses: Sequence[Witness]) -> None:
        """Wait until every client holds the newest of everything, live."""
        pins = self.pin()
        try:
            await eventually(
                lambda: all(one.holds(pins) for one in witnesses), within_s=SOON_S
            )
        except TimeoutError:
            lacking = {one.name: one.lacks(pins) for one in witnesses}
            raise AssertionError(f"not held: {lacking}") from None

    async def all_stream(self) -> None:
        """Wait until every connection stands: over a lost ledger, none comes soon."""
        counts = self.rig.simulator.counts
        await eventually(
            lambda: all(
                counts().exchanges[name].total.connections.open for name in STREAMING
            )
        )


@asynccontextmanager
async def standing(simulated: SimulatorSettings = CALM) -> AsyncIterator[Stand]:
    """Run a worker and a server over a store of their own."""
    async with rigged(hurried, simulated) as rig, working(rig):
        environ = {"RELAY_VALKEY_URL": rig.settings.store.url}
        async with relay("serve", "--port", "0", **environ) as server:
            url = (await server.says(r"relay at (\S+)", within_s=30))[1]
            await rig.shows("coinbase")
            stand = Stand(rig, url)
            await stand.all_stream()
            yield stand


async def _survive(hurt: Callable[[Rig], Awaitable[None]]) -> None:
    """Let clients of all four ways see a store lose what it knew."""
    async with standing() as stand, attached(stand.url, SYMBOLS) as witnesses:
        await stand.settle(witnesses)
        await hurt(stand.rig)
        await eventually(
            lambda: all(one.resets == 1 for one in witnesses), within_s=SOON_S
        )
        await stand.settle(witnesses)
        exchanges = stand.rig.simulator.counts().exchanges
        for name in STREAMING:
            assert exchanges[name].total.connections.opened == 1
    assert stand.rig.breaches() == {}
    assert [line for one in witnesses for line in one.wrong] == []
    assert [one.resets for one in witnesses] == [1] * len(witnesses)


async def _wipe(rig: Rig) -> None:
    await rig.client.valkey.flushall()


@pytest.mark.timeout(90)
async def test_clients_of_a_wiped_store_are_reset_and_hold_the_newest() -> None:
    """By all four ways: one reset, no step backwards, no value of before."""
    await _survive(_wipe)


@pytest.mark.faults
@pytest.mark.timeout(90)
async def test_clients_of_a_store_rolled_back_are_as_well_off() -> None:
    """What they have passed is not shown again, though the store has it again."""

    async def roll_back(rig: Rig) -> None:
        copy = await copied(rig)
        await rig.moves()
        await restored(rig, copy)

    await _survive(roll_back)


# So many as one process can also read, beside the exchanges and a worker.
CROWD = {"sse": 240, "poll": 100, "ws": 60}


@pytest.mark.faults
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("silence", "timed out|nothing was heard for"),
        ("refuse", "connection (refused|broke off)"),
    ],
)
async def test_a_crowd_sees_sources_change_and_nothing_else(
    fault: str, words: str
) -> None:
    """The first source goes and returns: no error, no step backwards, its name told."""
    async with (
        standing(replace(CALM, updates_per_second=40)) as stand,
        attached(stand.url, SYMBOLS[:2], CROWD) as witnesses,
    ):
        await _all_see(witnesses, ["coinbase"])
        stand.rig.simulator.fault("coinbase", fault)
        stand.rig.simulator.fault("coinbase", "cut")
        await _all_see(witnesses, ["coinbase", "kraken"])
        await _status_says(stand.url, words)
        stand.rig.simulator.clear_faults()
        await _all_see(witnesses, ["coinbase", "kraken", "coinbase"])
        await _status_says(stand.url, "^$")
        before = [one.answers for one in witnesses]
        await eventually(
            lambda: all(
                one.answers > answers
                for one, answers in zip(witnesses, before, strict=True)
            )
        )
    assert len(witnesses) == sum(CROWD.values())
    assert grievances(witnesses) == []
    assert stand.rig.breaches() == {}


async def _all_see(witnesses: Sequence[Witness], sources: list[str]) -> None:
    """Wait until every client was shown these, one after the other, of everything."""
    try:
        await eventually(
            lambda: all(
                one.live and one.sources.get(name) == sources
                for one in witnesses
                for name in one.symbols
            ),
            within_s=45,
        )
    except TimeoutError:
        others = [
            (one.name, one.live, one.sources, dict(one.errors), one.wrong[:1])
            for one in witnesses
            if any(one.sources.get(name) != sources for name in one.symbols)
        ]
        raise AssertionError(f"{len(others)} saw others: {others[:5]}") from None


async def _status_says(url: str, words: str) -> None:
    """Wait until the status gives this reason; it comes with the next mark."""

    async def said() -> bool:
        return re.search(words, await _reason(url)) is not None

    await until(said)


async def _reason(url: str) -> str:
    """Return why Coinbase is not shown, as the status has it; empty when it is."""
    async with httpx.AsyncClient(timeout=20) as client:
        status = (await client.get(f"{url}/v1/status")).json()
    source = status["sources"]["coinbase"]
    return str(source["reason"]) if not source["alive"] else ""
