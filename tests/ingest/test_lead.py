"""Leading: the lease is kept while the store answers, and lost in time when not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from relay.config import Ingest, Settings
from relay.errors import LeaseLost
from relay.ingest.conflate import Merge
from relay.ingest.lead import Leader
from relay.ingest.publish import Published
from relay.model import Batch, Ticker, decode_ticker
from relay.store.client import Client
from relay.store.embedded import embedded
from relay.store.keys import Keys
from relay.store.reader import Mark, Reader
from relay.store.writer import Lease, Writer
from tests.harness import open_client


@asynccontextmanager
async def leading(
    settings: Settings, client: Client, keys: Keys, rules: Ingest
) -> AsyncIterator[tuple[Leader, Lease]]:
    """Hold a leader of an empty board, and its lease."""
    writer = Writer(client, keys, log_entries_max=50)
    board = replace(settings.board, groups=())
    leader = Leader(
        writer,
        Merge(board, rules, dict.fromkeys(board.sources, 0)),
        client.clock,
        rules,
        published=Published(),
        beat_ms=5_000,
        health=lambda: b'{"sources":{}}',
    )
    lease = await writer.take("a", rules.lease_ms)
    assert lease is not None
    await leader.begin()
    yield leader, lease


async def test_the_lease_is_kept_for_longer_than_its_life(
    settings: Settings, client: Client, keys: Keys
) -> None:
    """Renewed in time, again and again."""
    rules = replace(settings.ingest, lease_ms=400, lease_renew_ms=100)
    async with leading(settings, client, keys, rules) as (leader, lease):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.2):
                await leader.run(lease)
        writer = Writer(client, keys, log_entries_max=50)
        assert await writer.take("b", 400) is None
        await leader.end(lease)
        assert await writer.take("b", 400) is not None


async def test_a_lease_that_somebody_took_ends_the_leading(
    settings: Settings, client: Client, keys: Keys
) -> None:
    """Paused for too long, it finds out at its next word to the store."""
    rules = replace(settings.ingest, lease_ms=400, lease_renew_ms=50)
    async with leading(settings, client, keys, rules) as (leader, lease):
        await client.valkey.set(keys.lease, f"b {lease.token + 1} 9999999999999")
        with pytest.RaisesGroup(
            LeaseLost, allow_unwrapped=True, flatten_subgroups=True
        ):
            await leader.run(lease)


async def test_without_a_store_the_lease_is_lost_when_its_time_is_over(
    settings: Settings, keys: Keys
) -> None:
    """Somebody else may lead by then, on the other side of whatever broke."""
    rules = replace(settings.ingest, lease_ms=600, lease_renew_ms=100)
    async with (
        embedded() as url,
        open_client(url, settings) as client,
        leading(settings, client, keys, rules) as (leader, lease),
    ):
        began_ms = client.clock.monotonic_ms()
        await client.valkey.shutdown(nosave=True)
        with pytest.RaisesGroup(
            LeaseLost, allow_unwrapped=True, flatten_subgroups=True
        ):
            await leader.run(lease)
        assert client.clock.monotonic_ms() - began_ms >= 500


async def test_the_grid_is_marked_at_its_points(
    settings: Settings, client: Client, keys: Keys
) -> None:
    """Numbered by the store's clock, so that all leaders number them alike."""
    rules = replace(settings.ingest, align_ms=100)
    await client.valkey.hset(keys.head, mapping={"epoch": "k", "offset": "5"})
    async with leading(settings, client, keys, rules) as (leader, lease):
        before = client.clock.wall_ms() // 100
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await leader.run(lease)
        after = client.clock.wall_ms() // 100 + 1
    async with Reader(client, keys).follow(wait_ms=1) as follower:
        items = [entry.item for entry in await follower.after("0-0")]
    numbers = [item.number for item in items if isinstance(item, Mark)]
    assert numbers == sorted(set(numbers))
    assert len(numbers) >= 3
    assert before <= numbers[0] <= numbers[-1] <= after


@pytest.mark.parametrize(("away_ms", "stale"), [(5_000, False), (600_000, True)])
async def test_what_is_old_is_stale_before_anybody_says_that_it_is_live(
    settings: Settings, client: Client, keys: Keys, away_ms: int, *, stale: bool
) -> None:
    """Nobody has led for long; readers take the first mark for a sign of life."""
    now_ms = client.clock.wall_ms()
    ticker = Ticker(price="9", source="coinbase", received_ms=1, offset=5)
    health = f'{{"leader":{{"as_of_ms":{now_ms - away_ms}}}}}'
    head = {"epoch": "k", "offset": "5", "health": health}
    await client.valkey.hset(keys.head, mapping=head)
    await client.valkey.hset(keys.tickers, "BTC-USD", ticker.encode())
    async with leading(settings, client, keys, settings.ingest) as (leader, lease):
        await leader.announce(lease)
    async with Reader(client, keys).follow(wait_ms=1) as follower:
        items = [entry.item for entry in await follower.after("0-0")]
    assert isinstance(items.pop(), Mark)
    batches = [item for item in items if isinstance(item, Batch)]
    said = [decode_ticker(one.tickers["BTC-USD"]) for one in batches]
    assert [one.stale for one in said] == [True] * stale


async def test_who_has_not_begun_to_lead_says_nothing_at_the_end(
    settings: Settings, client: Client, keys: Keys
) -> None:
    """Stopped before it knew the board, it cannot vouch for what is on it."""
    writer = Writer(client, keys, log_entries_max=50)
    merge = Merge(settings.board, settings.ingest, {})
    leader = Leader(
        writer,
        merge,
        client.clock,
        settings.ingest,
        published=Published(),
        beat_ms=5_000,
        health=lambda: b"{}",
    )
    lease = await writer.take("a", 5_000)
    assert lease is not None
    await leader.end(lease)
    assert not (await Reader(client, keys).read([])).head.alive
    assert await writer.take("b", 5_000) is not None
