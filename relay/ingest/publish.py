"""Self-clocked publishing: the next batch when the last one has been acknowledged.

What goes into a batch is ``conflate``'s to say; who may publish is the store's.
"""

import asyncio
from typing import Final

import msgspec
from msgspec import Struct, field

from relay.clock import Clock
from relay.config import Ingest
from relay.errors import LeaseLost, OutOfStep, StoreDown
from relay.ingest.conflate import Merge
from relay.ingest.events import Past
from relay.ingest.sources import Earlier
from relay.model import Batch, base36, decode_ticker
from relay.store.writer import Lease, Stored, Writer

# Between two tries to reach a store that is away, in seconds.
_TRY_AGAIN_S: Final = 0.1


class Published(Struct):
    """What this process has published last, whatever the store says meanwhile."""

    epoch: str = ""
    offset: int = 0
    tickers: dict[str, bytes] = field(default_factory=dict)

    def take(self, batch: Batch) -> None:
        """Note a batch that the store has acknowledged."""
        self.epoch, self.offset = batch.epoch, batch.offset
        self.tickers.update(batch.tickers)

    def is_ahead_of(self, stored: Stored) -> bool:
        """Tell whether the store has lost what it had acknowledged."""
        if self.epoch != stored.epoch:
            return _number(self.epoch) > _number(stored.epoch)
        return self.offset > stored.offset


def _number(epoch: str) -> int:
    return int(epoch, 36) if epoch else 0


def next_epoch(now_ms: int, *earlier: str) -> str:
    """Begin a new life of the board: an epoch that sorts behind every earlier one."""
    return base36(max(now_ms, *(_number(epoch) + 1 for epoch in earlier)))


def _offset(ticker: bytes) -> int:
    """Return a ticker's offset; of one that nobody can read it is before all others."""
    try:
        return decode_ticker(ticker).offset
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return -1


def newest(*holdings: dict[str, bytes]) -> dict[str, bytes]:
    """Return the newest of each instrument's tickers, by their offsets."""
    found: dict[str, tuple[int, bytes]] = {}
    for tickers in holdings:
        for name, ticker in tickers.items():
            offset = _offset(ticker)
            if name not in found or offset > found[name][0]:
                found[name] = (offset, ticker)
    return {name: ticker for name, (_, ticker) in found.items()}


def _earlier(past: Past, published: Published, now_ms: int) -> Earlier:
    """Tell how the term before ended; a store that has lost it may follow ours."""
    told_ms = past.leader.as_of_ms or published.offset or now_ms
    heard = {
        name: source.heard_ms
        for name, source in past.sources.items()
        if source.heard_ms is not None
    }
    return Earlier(min(told_ms, now_ms), past.leader.beat_ms, heard)


class Publisher:
    """Publishes what the merge holds, under one lease."""

    def __init__(
        self, writer: Writer, merge: Merge, clock: Clock, rules: Ingest
    ) -> None:
        self._writer, self._merge = writer, merge
        self._clock, self._rules = clock, rules
        self._wake = asyncio.Event()
        self._epoch, self._previous = "", 0
        self.batches = 0

    def wake(self) -> None:
        """Say that there is something to publish."""
        self._wake.set()

    async def begin(self, published: Published) -> bytes:
        """Find out what the store holds, and go on from there.

        Where the store has lost what this process had published, a new epoch begins,
        and what the store lacks is published again. Returns the last leader's JSON
        about its sources.

        Raises:
            StoreDown: the store cannot be reached.
        """
        stored = await self._writer.load()
        now_ms = self._clock.wall_ms()
        self._merge.restore(
            newest(stored.tickers, published.tickers),
            now_ms=now_ms,
            earlier=_earlier(Past.read(stored.health), published, now_ms),
        )
        self._go_on(stored, published)
        return stored.health

    def _go_on(self, stored: Stored, published: Published) -> None:
        self._previous = stored.offset
        if stored.epoch and not published.is_ahead_of(stored):
            self._epoch = stored.epoch
        else:
            now_ms = self._clock.wall_ms()
            self._epoch = next_epoch(now_ms, stored.epoch, published.epoch)
        kept = newest(stored.tickers, published.tickers)
        lost = [name for name in kept if kept[name] != stored.tickers.get(name)]
        if lost:
            self._merge.touch(lost)
            self._wake.set()

    async def run(self, lease: Lease, published: Published) -> None:
        """Publish for ever, at most once each ``publish_floor_ms``.

        Cancelled, the batch in hand is published whole or not at all.

        Raises:
            LeaseLost: somebody else leads, or the store was away for too long.
        """
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._merge.dirty:
                began_ms = self._clock.monotonic_ms()
                await self.flush(lease, published)
                spent_ms = self._clock.monotonic_ms() - began_ms
                await asyncio.sleep((self._rules.publish_floor_ms - spent_ms) / 1000)

    async def flush(self, lease: Lease, published: Published) -> None:
        """Publish one batch of what has changed, if anything has.

        Raises:
            LeaseLost: somebody else leads, or the store was away for too long.
        """
        # Never a number that clients may have passed, whatever the store remembers.
        now_ms = max(self._clock.wall_ms(), published.offset + 1)
        batch = self._merge.cut(
            epoch=self._epoch,
            previous=self._previous,
            now_ms=now_ms,
            most=self._rules.batch_tickers_max,
        )
        if batch is None:
            return
        try:
            await self._send(lease, batch)
        except OutOfStep:
            # The store is not where we left it, and the lease is ours: it was restored
            # from an older copy. What it lacks is published again, in a new epoch.
            self._merge.failed(batch)
            self._go_on(await self._writer.load(), published)
            return
        except BaseException:
            self._merge.failed(batch)
            raise
        published.take(batch)
        self._previous = batch.offset
        self.batches += 1

    async def _send(self, lease: Lease, batch: Batch) -> None:
        """Send a batch until the store has it; the same one, since it may have it."""
        deadline_ms = self._clock.monotonic_ms() + self._rules.lease_ms
        while True:
            try:
                return await self._writer.publish(lease, batch)
            except StoreDown as down:
                if self._clock.monotonic_ms() >= deadline_ms:
                    raise LeaseLost(lease.token, lease.token) from down
            await asyncio.sleep(_TRY_AGAIN_S)
