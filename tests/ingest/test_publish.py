"""Publishing: what a takeover goes on with, and a store that has lost something."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial

import pytest
from msgspec.structs import replace

from relay.config import Settings
from relay.errors import LeaseLost
from relay.ingest.conflate import Merge
from relay.ingest.publish import Published, Publisher, newest, next_epoch
from relay.model import Listing, Symbols, Ticker, Update, decode_ticker
from relay.store.client import Client
from relay.store.keys import Keys
from relay.store.reader import Reader
from relay.store.writer import Lease, Writer
from tests.harness import eventually

NAMES = ("BTC-USD", "ETH-USD")


class Desk:
    """A merge that hears Kraken, and what publishes it."""

    def __init__(self, settings: Settings, client: Client, keys: Keys) -> None:
        self.clock = client.clock
        self.writer = Writer(client, keys, log_entries_max=100)
        self.reader = Reader(client, keys)
        board = replace(settings.board, groups=(), sources=("kraken",))
        self.merge = Merge(board, settings.ingest, {"kraken": 0})
        listings = [Listing(symbol=name, base=name[:3], quote="USD") for name in NAMES]
        self.merge.list("kraken", Symbols(listings))
        self.merge.want(NAMES)
        self.publisher = Publisher(
            self.writer, self.merge, client.clock, settings.ingest
        )
        self.published = Published()

    def hear(self, name: str, price: str) -> None:
        """Let Kraken say a price."""
        now_ms = self.clock.wall_ms()
        update = Update(
            exchange="kraken",
            channel="ticker",
            symbol=name,
            received_ms=now_ms,
            price=price,
        )
        self.merge.take([update], now_ms=now_ms)
        self.publisher.wake()

    async def lease(self, holder: str = "a") -> Lease:
        """Take the lease."""
        lease = await self.writer.take(holder, 10_000)
        assert lease is not None
        return lease

    async def prices(self) -> dict[str, str]:
        """Return what readers see."""
        view = await self.reader.read(None)
        return {name: decode_ticker(row).price for name, row in view.tickers.items()}


@pytest.fixture
def desk(settings: Settings, client: Client, keys: Keys) -> Desk:
    """Return a desk over a board of its own."""
    return Desk(settings, client, keys)


@asynccontextmanager
async def publishing(desk: Desk, lease: Lease) -> AsyncIterator[None]:
    """Publish in the background."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(desk.publisher.run(lease, desk.published))
        yield
        task.cancel()


def _ticker(offset: int) -> bytes:
    return Ticker(price=str(offset), offset=offset).encode()


@pytest.mark.parametrize(
    ("holdings", "kept"),
    [
        ([{"A": 1}, {"A": 2}], {"A": 2}),
        ([{"A": 2}, {"A": 1, "B": 1}], {"A": 2, "B": 1}),
        ([{}, {}], {}),
    ],
)
def test_of_two_tickers_the_newer_is_kept(
    holdings: Iterable[dict[str, int]], kept: dict[str, int]
) -> None:
    """Ours may be newer than the store's, or another leader's newer than ours."""
    tickers = [
        {name: _ticker(offset) for name, offset in one.items()} for one in holdings
    ]
    found = newest(*tickers)
    assert found == {name: _ticker(offset) for name, offset in kept.items()}


@pytest.mark.parametrize("earlier", [("zzzzzz",), ("", "zzzzzzzzzz"), ("", "")])
def test_a_new_epoch_sorts_behind_every_earlier_one(earlier: tuple[str, ...]) -> None:
    """Whatever the clock says."""
    epoch = next_epoch(5, *earlier)
    assert int(epoch, 36) >= 5
    assert all((len(epoch), epoch) > (len(one), one) for one in earlier)


def _has_published(desk: Desk, batches: int) -> bool:
    return desk.publisher.batches >= batches


async def test_what_is_heard_is_published(desk: Desk) -> None:
    """The first after a quiet spell at once, and what comes then in the next batch."""
    lease = await desk.lease()
    await desk.publisher.begin(desk.published)
    async with publishing(desk, lease):
        for batches, price in enumerate(("1", "2", "3")):
            desk.hear("BTC-USD", price)
            await eventually(partial(_has_published, desk, batches + 1))
    assert await desk.prices() == {"BTC-USD": "3"}


async def test_a_successor_goes_on_in_the_same_epoch(
    desk: Desk, settings: Settings, client: Client, keys: Keys
) -> None:
    """No client is reset for a change of leader."""
    first = await desk.lease()
    await desk.publisher.begin(desk.published)
    desk.hear("BTC-USD", "1")
    await desk.publisher.flush(first, desk.published)
    await desk.writer.release(first)
    after = Desk(settings, client, keys)
    second = await after.lease("b")
    await after.publisher.begin(after.published)
    after.hear("ETH-USD", "2")
    await after.publisher.flush(second, after.published)
    assert after.published.epoch == desk.published.epoch
    assert after.published.offset > desk.published.offset
    assert await desk.prices() == {"BTC-USD": "1", "ETH-USD": "2"}


async def test_a_wiped_store_gets_nothing_old_as_if_it_were_new(desk: Desk) -> None:
    """It cannot tell any more when somebody led; what we published last does."""
    old_ms = desk.clock.wall_ms() - 600_000
    ticker = Ticker(price="9", source="kraken", received_ms=old_ms, offset=old_ms)
    published = Published("abc", old_ms, {"BTC-USD": ticker.encode()})
    await desk.publisher.begin(published)
    desk.merge.turn(now_ms=desk.clock.wall_ms())
    await desk.publisher.flush(await desk.lease(), published)
    view = await desk.reader.read(None)
    assert decode_ticker(view.tickers["BTC-USD"]).stale


async def test_a_store_that_was_wiped_gets_everything_again(
    desk: Desk, client: Client, keys: Keys
) -> None:
    """In a new epoch, so that clients throw away what they hold."""
    lease = await desk.lease()
    await desk.publisher.begin(desk.published)
    for name in NAMES:
        desk.hear(name, "1")
    await desk.publisher.flush(lease, desk.published)
    before = desk.published.epoch
    await client.valkey.delete(keys.head, keys.tickers, keys.log, keys.lease)
    lease = await desk.lease()
    await desk.publisher.begin(desk.published)
    await desk.publisher.flush(lease, desk.published)
    assert await desk.prices() == {"BTC-USD": "1", "ETH-USD": "1"}
    assert int(desk.published.epoch, 36) > int(before, 36)


async def test_a_store_that_stepped_back_under_our_lease_is_caught_up(
    desk: Desk, client: Client, keys: Keys
) -> None:
    """It came back from an older copy: what it lacks is published again."""
    lease = await desk.lease()
    await desk.publisher.begin(desk.published)
    desk.hear("BTC-USD", "1")
    await desk.publisher.flush(lease, desk.published)
    kept = await client.valkey.hgetall(keys.head)
    tickers = await client.valkey.hgetall(keys.tickers)
    before = desk.published.epoch
    desk.hear("ETH-USD", "2")
    await desk.publisher.flush(lease, desk.published)
    await client.valkey.delete(keys.tickers, keys.log)
    await client.valkey.hset(keys.head, mapping=kept)
    await client.valkey.hset(keys.tickers, mapping=tickers)
    passed = desk.published.offset
    desk.hear("BTC-USD", "3")
    async with publishing(desk, lease):
        await eventually(lambda: desk.published.offset > passed)
    assert await desk.prices() == {"BTC-USD": "3", "ETH-USD": "2"}
    assert int(desk.published.epoch, 36) > int(before, 36)


async def test_a_lost_lease_publishes_nothing_and_keeps_what_it_had(
    desk: Desk, client: Client, keys: Keys
) -> None:
    """What was not published is still there for the next term."""
    lease = await desk.lease()
    await desk.publisher.begin(desk.published)
    await client.valkey.delete(keys.lease)
    desk.hear("BTC-USD", "1")
    with pytest.raises(LeaseLost):
        await desk.publisher.run(lease, desk.published)
    assert await desk.prices() == {}
    assert desk.merge.dirty


async def test_publish_cancelled_while_waiting_leaves_no_half_batch(
    desk: Desk, client: Client
) -> None:
    """It is in the store whole, or the merge still has it."""
    lease = await desk.lease()
    await desk.publisher.begin(desk.published)
    for name in NAMES:
        desk.hear(name, "1")
    await client.valkey.client_pause(200)
    task = asyncio.ensure_future(  # noqa: TID251 - one that is cancelled by hand
        desk.publisher.flush(lease, desk.published)
    )
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await client.valkey.client_unpause()
    assert len(await desk.prices()) in {0, 2}
    await desk.publisher.begin(desk.published)
    assert desk.merge.dirty
    await desk.publisher.flush(lease, desk.published)
    assert await desk.prices() == {"BTC-USD": "1", "ETH-USD": "1"}


async def test_a_store_that_is_away_gets_the_same_batch_when_it_is_back(
    desk: Desk, client: Client
) -> None:
    """It may have had it, and have said so to nobody."""
    lease = await desk.lease()
    await desk.publisher.begin(desk.published)
    desk.hear("BTC-USD", "1")
    await client.valkey.client_kill_filter(_type="normal", skipme=False)
    await desk.publisher.flush(lease, desk.published)
    assert await desk.prices() == {"BTC-USD": "1"}
