"""The readers' side of the store, and a store that is not there."""

import asyncio

import pytest

from relay.clock import Clock, ManualClock
from relay.config import Settings
from relay.errors import StoreDown
from relay.model import Batch, Ticker
from relay.store.client import Client, address
from relay.store.keys import Keys
from relay.store.reader import Reader
from relay.store.writer import Writer
from tests.harness import open_client


async def test_an_empty_store_is_a_board_without_an_epoch(
    client: Client, keys: Keys
) -> None:
    """A reader may come before the first leader."""
    view = await Reader(client, keys).read(["BTC-USD"])
    assert (view.head.epoch, view.head.offset, view.head.alive) == ("", 0, False)
    assert view.tickers == {}
    assert await Reader(client, keys).place() == "0-0"


async def test_only_what_was_asked_for_is_read(client: Client, keys: Keys) -> None:
    """One round trip serves a function that holds no board."""
    writer = Writer(client, keys, log_entries_max=10)
    lease = await writer.take("a", 10_000)
    assert lease is not None
    tickers = {
        name: Ticker(price="1", offset=5).encode() for name in ("A-USD", "B-USD")
    }
    await writer.publish(lease, Batch(epoch="k", previous=0, offset=5, tickers=tickers))
    reader = Reader(client, keys)
    assert list((await reader.read(["B-USD", "C-USD"])).tickers) == ["B-USD"]
    assert (await reader.read([])).tickers == {}
    assert sorted((await reader.read(None)).tickers) == ["A-USD", "B-USD"]


async def test_a_follower_with_nothing_new_comes_back(
    client: Client, keys: Keys
) -> None:
    """It must be able to look at the time."""
    async with Reader(client, keys).follow(wait_ms=1) as follower:
        assert await follower.after("0-0") == []


async def test_a_store_that_is_not_there_is_named(settings: Settings) -> None:
    """One clear sentence, without the password."""
    url = "valkey://:secret@127.0.0.1:1/0"
    with pytest.raises(StoreDown) as down:
        async with open_client(url, settings):
            pass
    assert "127.0.0.1:1/0" in str(down.value)
    assert "secret" not in str(down.value)


async def test_the_wall_clock_is_the_stores(
    valkey_url: str, settings: Settings
) -> None:
    """A machine whose own clock is wrong by an hour does no harm."""
    clock = Clock()
    clock.set_wall(0, at_ms=clock.monotonic_ms())
    async with open_client(valkey_url, settings, clock) as client:
        seconds, _ = await client.valkey.time()
        assert abs(clock.wall_ms() - seconds * 1000) < 5_000
        clock.set_wall(0, at_ms=clock.monotonic_ms())
        await client.read_clock(at_most_every_ms=60_000)
        assert clock.wall_ms() < 60_000


@pytest.mark.parametrize(
    ("ahead_ms", "leaps"), [(-3_600_000, 0), (0, 0), (1_000, 0), (1_001, 1)]
)
def test_a_clock_that_is_set_far_ahead_has_leapt(ahead_ms: int, leaps: int) -> None:
    """Less time has passed than it says; a correction is something else."""
    clock = ManualClock()
    clock.set_wall(clock.wall_ms() + ahead_ms, at_ms=clock.monotonic_ms())
    assert clock.leaps == leaps


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("valkey://u:p@h:1/0", "valkey://h:1/0"),
        ("unix:///tmp/a.sock", "unix:///tmp/a.sock"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    """Secrets end in logs otherwise."""
    assert address(url) == shown


async def test_the_older_scheme_is_understood(settings: Settings) -> None:
    """Hosts still hand out redis:// addresses."""
    with pytest.raises(StoreDown, match="redis://127"):
        async with open_client("redis://127.0.0.1:1/0", settings):
            pass


@pytest.mark.parametrize("steps", range(24))
async def test_a_cancellation_is_never_lost(
    valkey_url: str, settings: Settings, keys: Keys, steps: int
) -> None:
    """Cancelled at any await, connecting included, a read is cancelled.

    The library below returns a result in place of a cancellation at some of them, and
    a task that lives on keeps a whole shutdown waiting.
    """
    async with open_client(valkey_url, settings) as client:
        await client.valkey.connection_pool.disconnect()
        task = asyncio.ensure_future(  # noqa: TID251 - one that is cancelled by hand
            Reader(client, keys).read(None)
        )
        for _ in range(steps):
            await asyncio.sleep(0)
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task


@pytest.mark.parametrize(
    ("store_ms", "kept"), [(0, True), (399, True), (-1, False), (401, False)]
)
async def test_a_reading_that_agrees_with_the_clock_does_not_move_it(
    client: Client, monkeypatch: pytest.MonkeyPatch, store_ms: int, *, kept: bool
) -> None:
    """The slower the answer, the worse the guess: what is in order stays as it is."""
    clock = ManualClock(wall_ms=10_000)

    async def time() -> tuple[int, int]:
        told_ms = 10_000 + store_ms
        clock.advance(400)
        return told_ms // 1_000, told_ms % 1_000 * 1_000

    monkeypatch.setattr(client, "clock", clock)
    monkeypatch.setattr(client, "_clock_read_ms", 0)  # it was read when it was opened
    monkeypatch.setattr(client.valkey, "time", time)
    await client.read_clock()
    assert (clock.wall_ms() == 10_400) is kept
    # Else it was read in the middle of its way, as far as anybody can tell.
    assert kept or clock.wall_ms() == 10_200 + store_ms
