"""The store goes, the instances go: behind the edge readers go on, and are told."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from msgspec import Struct, field

from relay.clock import Clock
from relay.config import Settings
from relay.store.keys import Keys
from tests.edge.edges import NAMES as EDGES
from tests.edge.edges import program, running
from tests.edge.stage import ALIGN_MS, NAMES, Stage, all_ready, instance, stage
from tests.faults.valkey import OwnValkey
from tests.harness import eventually, open_client

PLACE = f"/v1/prices?symbols={NAMES[0]}"
POLL = f"/v1/poll?symbols={NAMES[0]}"
ASKED = ("/v1/prices", "/v1/poll")
READERS, POLLERS = 10, 30
# How long a read is shown without being marked: its max-age, rounded up, and the moment
# until somebody asks for it anew.
FRESH_MS = 2000
# How old a price may be: a poll's is a step old when the next one is due, and nginx
# lets nobody look before half a second is over; a read may be shown for its max-age and
# its stale-while-revalidate.
POLL_AGE_MS = 2000
READ_AGE_MS = 3500
# For answers to be on their way while both cores are busy.
SLACK_MS = 300
# How long is looked at after all is back, and what that may cost for one selection: one
# read and one poll a step, and as much again for those who held something old.
STEPS = 6
STAMPEDE_MAX = 4 * STEPS
# Of an answer that is shown although it is old: RFC 9211's member of either edge.
STALE = re.compile(r"detail=stale|ttl=-")


class Seen(Struct, frozen=True):
    """One answer: when it came, how old its prices were, and what was said of that."""

    when_ms: int
    status: int
    age_ms: int
    live: bool
    stale: bool


class Audience(Struct):
    """Clients that read and poll through the edge all the time."""

    url: str
    clock: Clock
    reads: list[Seen] = field(default_factory=list)
    polls: list[Seen] = field(default_factory=list)

    async def watch(self) -> None:
        """Ask for ever."""
        async with (
            httpx.AsyncClient(base_url=self.url, timeout=40) as asker,
            asyncio.TaskGroup() as tasks,
        ):
            for number in range(READERS):
                tasks.create_task(self._read(asker, number))
            for _ in range(POLLERS):
                tasks.create_task(self._poll(asker))

    async def _read(self, asker: httpx.AsyncClient, number: int) -> None:
        await asyncio.sleep(number / READERS / 2)
        while True:
            await self._ask(asker, PLACE, self.reads)
            await asyncio.sleep(0.5)

    async def _poll(self, asker: httpx.AsyncClient) -> None:
        cursor = ""
        while True:
            place = f"{POLL}&cursor={cursor}" if cursor else POLL
            answer = await self._ask(asker, place, self.polls)
            if answer.status_code == 200:
                cursor = answer.json()["cursor"]
            await asyncio.sleep(float(answer.headers.get("retry-after", "0.1")))

    async def _ask(
        self, asker: httpx.AsyncClient, place: str, seen: list[Seen]
    ) -> httpx.Response:
        answer = await asker.get(place)
        said = answer.json() if answer.status_code == 200 else {}
        seen.append(
            Seen(
                when_ms=self.clock.monotonic_ms(),
                status=answer.status_code,
                age_ms=self.clock.wall_ms() - said.get("as_of_ms", 0),
                live=said.get("live", False),
                stale=bool(STALE.search(answer.headers.get("cache-status", ""))),
            )
        )
        return answer

    def since(self, from_ms: int) -> tuple[list[Seen], list[Seen]]:
        """Return the reads and the polls that were answered since."""
        both = self.reads, self.polls
        reads, polls = ([one for one in seen if one.when_ms > from_ms] for seen in both)
        return reads, polls


class House(Struct):
    """A store that may be killed, two instances, an edge, and who asks."""

    store: OwnValkey
    board: str
    behind: Stage
    audience: Audience
    clock: Clock


@pytest.fixture(params=EDGES)
async def house(
    request: pytest.FixtureRequest, keys: Keys, settings: Settings, tmp_path: Path
) -> AsyncIterator[House]:
    """Run all of it."""
    name = str(request.param)
    program("varnishd" if name == "varnish" else name)
    store = OwnValkey(tmp_path / "store")
    await store.start()
    url = f"valkey://127.0.0.1:{store.port}"
    try:
        async with (
            open_client(url, settings) as client,
            stage(client, keys, url, every_ms=100) as behind,
            running(name, behind.urls, tmp_path) as edge,
            asked(Audience(edge, client.clock)) as audience,
        ):
            yield House(store, keys.board, behind, audience, client.clock)
    finally:
        await store.close()


@asynccontextmanager
async def asked(audience: Audience) -> AsyncIterator[Audience]:
    """Let the audience ask meanwhile."""
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(audience.watch())
        await eventually(lambda: len(audience.polls) > 2 * POLLERS)
        yield audience
        watching.cancel()


async def passes(steps: float) -> None:
    """Let so many grid steps pass."""
    await asyncio.sleep(steps * ALIGN_MS / 1000)


@pytest.mark.edge
@pytest.mark.timeout(60)
async def test_without_its_store_the_relay_says_that_nothing_is_live(
    house: House,
) -> None:
    """Nobody gets an error; all is fresh soon after it is back, without a stampede."""
    audience, firsts = house.audience, house.behind.publishing.first_ms
    gone_ms = house.clock.monotonic_ms()
    await house.store.kill()
    await eventually(lambda: not audience.reads[-1].live, within_s=10)
    await eventually(lambda: not audience.polls[-1].live, within_s=10)
    await passes(4)
    before = await house.behind.answered(*ASKED)
    await house.store.start()
    await eventually(lambda: len(firsts) == 2)
    await passes(STEPS)
    after = await house.behind.answered(*ASKED)
    reads, polls = audience.since(gone_ms)
    assert {one.status for one in [*reads, *polls]} == {200}
    _assert_fresh(audience, firsts[1])
    assert after - before <= STAMPEDE_MAX


@pytest.mark.edge
@pytest.mark.timeout(90)
async def test_without_the_relay_the_edge_shows_what_it_has_and_says_so(
    house: House,
) -> None:
    """Reads go on for as long as is configured; polls are told when to ask again."""
    audience, behind = house.audience, house.behind
    for one in behind.instances:
        one.process.send(signal.SIGKILL)
        await one.process.ended(within_s=5)
    gone_ms = house.clock.monotonic_ms()
    await eventually(lambda: audience.reads[-1].stale, within_s=10)
    await eventually(lambda: audience.polls[-1].status == 503, within_s=10)
    await passes(4)
    back_ms = house.clock.monotonic_ms()
    _assert_told(audience, gone_ms, back_ms)
    async with AsyncExitStack() as stack:
        ports = [urlsplit(url).port or 0 for url in behind.urls]
        url, board = f"valkey://127.0.0.1:{house.store.port}", house.board
        behind.instances = [
            await stack.enter_async_context(instance(url, board, port=port))
            for port in ports
        ]
        await all_ready(behind.urls)
        ready_ms = house.clock.monotonic_ms()
        before = await behind.answered(*ASKED)
        await passes(STEPS)
        after = await behind.answered(*ASKED)
        _assert_fresh(audience, ready_ms)
    assert after - before <= STAMPEDE_MAX


def _assert_told(audience: Audience, gone_ms: int, back_ms: int) -> None:
    """Nothing old goes unmarked, but for what is young enough to be shown as it is."""
    reads, polls = audience.since(gone_ms)
    assert {one.status for one in reads} == {200}
    shown = [one for one in reads if one.when_ms > gone_ms + FRESH_MS]
    assert shown
    assert all(one.stale for one in shown)
    assert {one.status for one in polls} <= {200, 503}
    # Retry-After is a second, and everybody keeps to it.
    refused = [one for one in polls if one.status == 503]
    assert len(refused) <= POLLERS * ((back_ms - gone_ms) / 1000 + 1)


def _assert_fresh(audience: Audience, from_ms: int) -> None:
    """Two grid steps later all is of this moment, as far as a cache may keep it."""
    reads, polls = audience.since(from_ms + 2 * ALIGN_MS + SLACK_MS)
    assert len(polls) > POLLERS
    assert len(reads) > READERS
    assert {(one.status, one.live) for one in [*reads, *polls]} == {(200, True)}
    assert max(one.age_ms for one in polls) < POLL_AGE_MS
    assert max(one.age_ms for one in reads) < READ_AGE_MS
