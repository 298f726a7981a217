"""The leader's side of the store, on a real Valkey: every branch of every script."""

import msgspec
import pytest

from relay.clock import ManualClock
from relay.config import Settings
from relay.errors import LeaseLost, OutOfStep, StoreDown
from relay.model import Batch, Ticker
from relay.store.client import Client
from relay.store.keys import Keys
from relay.store.reader import Mark, Reader
from relay.store.writer import Lease, Writer
from tests.harness import open_client

LIFE_MS = 10_000


@pytest.fixture
def writer(client: Client, keys: Keys) -> Writer:
    """Return a writer of a board of its own."""
    return Writer(client, keys, log_entries_max=100)


@pytest.fixture
async def lease(writer: Writer) -> Lease:
    """Return a lease that is held."""
    taken = await writer.take("a", LIFE_MS)
    assert taken is not None
    return taken


def _batch(offset: int, previous: int = 0, **changes: str) -> Batch:
    ticker = Ticker(price="1", offset=offset).encode()
    batch = Batch(
        epoch="k3", previous=previous, offset=offset, tickers={"BTC-USD": ticker}
    )
    return msgspec.structs.replace(batch, **changes)


async def test_a_lease_is_one_holders(writer: Writer, lease: Lease) -> None:
    """Two leaders would spend the budget twice."""
    assert await writer.take("b", LIFE_MS) is None
    await writer.keep(lease, LIFE_MS)


async def test_whoever_holds_it_may_take_it_again(writer: Writer, lease: Lease) -> None:
    """An answer may get lost, or a term end at its beginning: nobody is waited for."""
    again = await writer.take("a", LIFE_MS)
    assert again is not None
    assert again.token > lease.token
    with pytest.raises(LeaseLost):
        await writer.keep(lease, LIFE_MS)
    await writer.keep(again, LIFE_MS)


async def test_a_released_lease_is_free_at_once(writer: Writer, lease: Lease) -> None:
    """A worker that stops in order must not cost its successor a lease's time."""
    assert await writer.release(lease)
    taken = await writer.take("b", LIFE_MS)
    assert taken is not None
    assert taken.token > lease.token
    assert not await writer.release(lease)


async def test_tokens_grow_by_the_callers_clock(
    client: Client, writer: Writer, lease: Lease
) -> None:
    """Expiry is compared with the time given, so it can be driven."""
    client.clock.set_wall(
        client.clock.wall_ms() + LIFE_MS, at_ms=client.clock.monotonic_ms()
    )
    taken = await writer.take("b", LIFE_MS)
    assert taken is not None
    assert taken.token > lease.token


async def test_a_lost_lease_cannot_be_kept(
    client: Client, writer: Writer, lease: Lease
) -> None:
    """Somebody may have led in between."""
    client.clock.set_wall(
        client.clock.wall_ms() + LIFE_MS, at_ms=client.clock.monotonic_ms()
    )
    await writer.take("b", LIFE_MS)
    with pytest.raises(LeaseLost):
        await writer.keep(lease, LIFE_MS)


async def test_tokens_grow_over_a_wiped_store(
    client: Client, keys: Keys, writer: Writer, lease: Lease
) -> None:
    """A store that came back empty must not hand out a token once more."""
    await client.valkey.delete(keys.lease, keys.head)
    taken = await writer.take("b", LIFE_MS)
    assert taken is not None
    assert taken.token >= lease.token


async def test_published_is_what_readers_see(
    client: Client, keys: Keys, writer: Writer, lease: Lease
) -> None:
    """Tickers, head and log move in one step."""
    batch = _batch(100)
    await writer.publish(lease, batch)
    reader = Reader(client, keys)
    view = await reader.read(None)
    assert (view.head.epoch, view.head.offset) == ("k3", 100)
    assert view.tickers == batch.tickers
    assert await reader.place() == "100-0"
    async with reader.follow(wait_ms=1) as follower:
        (entry,) = await follower.after("0-0")
    assert entry.item == batch


async def test_the_same_batch_twice_is_one(
    client: Client, keys: Keys, writer: Writer, lease: Lease
) -> None:
    """An answer that was lost on the way must not cost the batch."""
    await writer.publish(lease, _batch(100))
    await writer.publish(lease, _batch(100))
    assert await client.valkey.xlen(keys.log) == 1


@pytest.mark.parametrize("previous", [0, 99, 101])
async def test_a_batch_that_builds_on_another_offset_is_refused(
    writer: Writer, lease: Lease, previous: int
) -> None:
    """A leader that missed something must read the store again first."""
    await writer.publish(lease, _batch(100))
    with pytest.raises(OutOfStep) as refused:
        await writer.publish(lease, _batch(200, previous))
    assert (refused.value.epoch, refused.value.offset) == ("k3", 100)


async def test_a_leader_goes_on_over_a_store_that_was_wiped(
    client: Client, keys: Keys, writer: Writer, lease: Lease
) -> None:
    """It knows of nobody, so whoever led goes on, under the same token."""
    await writer.publish(lease, _batch(100))
    await client.valkey.delete(keys.lease, keys.head, keys.tickers, keys.log)
    with pytest.raises(OutOfStep):
        await writer.publish(lease, _batch(200, 100))
    await writer.publish(lease, _batch(200))
    assert await writer.take("b", LIFE_MS) is None


async def test_a_leader_goes_on_over_a_copy_from_before_its_term(
    client: Client, keys: Keys, writer: Writer, lease: Lease
) -> None:
    """Nobody led since, as far as the store can tell."""
    await client.valkey.delete(keys.lease)
    await client.valkey.hset(keys.head, "token", str(lease.token - 1))
    await writer.publish(lease, _batch(100))
    assert await writer.take("b", LIFE_MS) is None


async def test_over_a_wiped_store_only_one_goes_on(
    client: Client, keys: Keys, writer: Writer, lease: Lease
) -> None:
    """Somebody was faster: the store is theirs now."""
    await client.valkey.delete(keys.lease, keys.head)
    assert await writer.take("b", LIFE_MS) is not None
    with pytest.raises(LeaseLost):
        await writer.publish(lease, _batch(100))
    with pytest.raises(LeaseLost):
        await writer.keep(lease, LIFE_MS)


async def test_over_a_wiped_store_nobody_goes_on_who_was_asleep(
    settings: Settings, valkey_url: str, keys: Keys
) -> None:
    """Its lease had run out, and the store has forgotten who has led since."""
    clock = ManualClock()
    async with open_client(valkey_url, settings, clock) as client:
        slow, quick = (Writer(client, keys, log_entries_max=9) for _ in range(2))
        old = await slow.take("a", LIFE_MS)
        assert old is not None
        clock.advance(LIFE_MS)
        new = await quick.take("b", LIFE_MS)
        assert new is not None
        await client.valkey.delete(keys.lease, keys.head)
        with pytest.raises(LeaseLost):
            await slow.publish(old, _batch(100))
        with pytest.raises(LeaseLost):
            await slow.keep(old, LIFE_MS)
        await quick.publish(new, _batch(100))


@pytest.mark.parametrize("wrong", [Lease("b", 0), Lease("a", 1)])
async def test_nothing_is_written_without_the_lease(
    client: Client, keys: Keys, writer: Writer, lease: Lease, wrong: Lease
) -> None:
    """Writes are fenced: every one of them."""
    name = ["BTC-USD"]
    with pytest.raises(LeaseLost) as refused:
        await writer.publish(wrong, _batch(100))
    assert refused.value.newest == lease.token
    with pytest.raises(LeaseLost):
        await writer.mark(wrong, 1, beat_ms=1000, health=b"{}")
    with pytest.raises(LeaseLost):
        await writer.forget(wrong, name, floor=1)
    with pytest.raises(LeaseLost):
        await writer.list_symbols(wrong, {"BTC-USD": ["kraken"]})
    with pytest.raises(LeaseLost):
        await writer.remember(wrong, {"BTC-USD": b"[1]"}, most=3, life_ms=1000)
    written = await client.valkey.exists(
        keys.tickers, keys.log, keys.beat, keys.symbols, keys.recent("BTC-USD")
    )
    assert written == 0


async def test_an_ended_lease_writes_nothing(
    client: Client, writer: Writer, lease: Lease
) -> None:
    """A worker that was paused for longer than its lease can do no harm."""
    client.clock.set_wall(
        client.clock.wall_ms() + LIFE_MS, at_ms=client.clock.monotonic_ms()
    )
    with pytest.raises(LeaseLost):
        await writer.publish(lease, _batch(100))


async def test_a_log_ahead_of_its_head_is_begun_anew(
    client: Client, keys: Keys, writer: Writer, lease: Lease
) -> None:
    """A store may lose one key and keep another: publishing must go on."""
    await client.valkey.xadd(keys.log, {"mark": "1"}, id="500-0")
    await writer.publish(lease, _batch(100))
    assert await Reader(client, keys).place() == "100-0"


async def test_a_log_that_is_no_log_is_the_stores_fault(
    client: Client, keys: Keys, writer: Writer, lease: Lease
) -> None:
    """Whatever else is wrong there is said in the store's own words."""
    await client.valkey.set(keys.log, "text")
    with pytest.raises(StoreDown, match="WRONGTYPE"):
        await writer.publish(lease, _batch(100))


async def test_a_large_batch_is_published_whole(
    client: Client, keys: Keys, writer: Writer, lease: Lease
) -> None:
    """The interpreter takes a few thousand values at once, so the script cuts."""
    ticker = Ticker(price="1", offset=100).encode()
    tickers = {f"A{number}-USD": ticker for number in range(3_500)}
    batch = Batch(epoch="k3", previous=0, offset=100, tickers=tickers)
    await writer.publish(lease, batch)
    view = await Reader(client, keys).read(None)
    assert view.tickers == tickers


async def test_marks_come_between_batches(
    client: Client, keys: Keys, writer: Writer, lease: Lease
) -> None:
    """A mark cuts the board as it stands: it names the last batch's offset."""
    await writer.mark(lease, 6, beat_ms=5_000, health=b"{}")
    await writer.publish(lease, _batch(100))
    await writer.mark(lease, 7, beat_ms=5_000, health=b'{"a":1}')
    await writer.mark(lease, 8, beat_ms=5_000, life_ms=5_000, health=b"{}")
    await writer.publish(lease, _batch(101, 100))
    async with Reader(client, keys).follow(wait_ms=1) as follower:
        items = [entry.item for entry in await follower.after("0-0")]
    assert items[1:3] == [Mark(7, 100), Mark(8, 100, 5_000)]
    head = (await Reader(client, keys).read([])).head
    assert head.alive
    assert 0 < head.left_ms <= 5_000


async def test_forgotten_markers_raise_the_floor(
    client: Client, keys: Keys, writer: Writer, lease: Lease
) -> None:
    """A cursor from before cannot be told what went away; what came back stays."""
    tickers = {
        "A-USD": Ticker(removed=True, offset=100).encode(),
        "B-USD": Ticker(price="1", offset=100).encode(),
    }
    batch = Batch(epoch="k3", previous=0, offset=100, tickers=tickers)
    await writer.publish(lease, batch)
    await writer.forget(lease, ["A-USD", "B-USD", "C-USD"], floor=100)
    # What was forgotten stays forgotten, whatever is forgotten after it.
    await writer.forget(lease, ["D-USD"], floor=99)
    view = await Reader(client, keys).read(None)
    assert (view.head.floor, list(view.tickers)) == (100, ["B-USD"])


async def test_what_exists_is_replaced_whole(
    client: Client, keys: Keys, writer: Writer, lease: Lease
) -> None:
    """A delisted instrument must not stay behind."""
    await writer.list_symbols(lease, {"A-USD": ["kraken"], "B-USD": ["binance"]})
    await writer.list_symbols(lease, {"B-USD": ["binance", "kraken"]})
    assert await Reader(client, keys).symbols() == {"B-USD": ["binance", "kraken"]}


async def test_a_ring_keeps_the_newest_points(
    client: Client, keys: Keys, writer: Writer, lease: Lease
) -> None:
    """Sparklines are bounded, and there for who has just arrived."""
    for point in (b"[1]", b"[2]", b"[3]", b"[4]"):
        await writer.remember(lease, {"A-USD": point}, most=3, life_ms=60_000)
    assert await Reader(client, keys).recent("A-USD") == [b"[2]", b"[3]", b"[4]"]


async def test_many_rings_are_written_in_chunks(
    client: Client, keys: Keys, writer: Writer, lease: Lease
) -> None:
    """One call must not hold the store for long."""
    points = {f"A{number}-USD": b"[1]" for number in range(1_200)}
    await writer.remember(lease, points, most=3, life_ms=60_000)
    assert await Reader(client, keys).recent("A1199-USD") == [b"[1]"]


async def test_a_leader_begins_with_what_is_there(writer: Writer, lease: Lease) -> None:
    """A takeover begins from the store's values, not from nothing."""
    assert (await writer.load()).epoch == ""
    await writer.publish(lease, _batch(100))
    stored = await writer.load()
    assert (stored.epoch, stored.offset, stored.floor) == ("k3", 100, 0)
    assert list(stored.tickers) == ["BTC-USD"]


async def test_scripts_survive_a_store_that_forgot_them(
    client: Client, writer: Writer, lease: Lease
) -> None:
    """A restarted Valkey knows no script."""
    await client.valkey.script_flush()
    await writer.publish(lease, _batch(100))


async def test_demand_is_what_was_asked_for_lately(
    client: Client, keys: Keys, writer: Writer, lease: Lease
) -> None:
    """Only what a symbol table knows, only so much, and only for a while."""
    reader = Reader(client, keys)
    await writer.list_symbols(lease, {"A-USD": ["x"], "B-USD": ["x"], "C-USD": ["x"]})
    assert await reader.ask(["A-USD", "NOPE-USD", "B-USD", "C-USD"], most=2) == 2
    assert await reader.ask(["A-USD"], most=2) == 1
    now_ms = client.clock.wall_ms()
    assert sorted(await writer.demand(now_ms - 60_000)) == ["A-USD", "B-USD"]
    assert await writer.demand(now_ms + 60_000) == []


async def test_a_head_that_nobody_can_read_is_the_stores_fault(
    client: Client, keys: Keys, writer: Writer
) -> None:
    """Whoever would lead says so and tries again, and does not end."""
    await client.valkey.hset(keys.head, "offset", b"soon")
    with pytest.raises(StoreDown, match="cannot be read"):
        await writer.load()


async def test_names_that_nobody_can_read_are_not_asked_for(
    client: Client, keys: Keys, writer: Writer
) -> None:
    """Whoever writes them may not end a leader."""
    await client.valkey.zadd(keys.demand, {b"\xff": 5, b"A-USD": 6})
    assert await writer.demand(5) == ["A-USD"]
