"""The store's side of whoever holds the lease: everything here is fenced.

Reading what was published is ``reader``'s; a handler cannot import this by accident.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from relay.errors import LeaseLost, OutOfStep
from relay.model import Batch, is_instrument
from relay.store.client import Client, Script
from relay.store.keys import Keys

# Rings in one call of the script that appends to them.
_RINGS_MAX: Final = 500
# Names with their sources, or markers, in one call: what the interpreter takes.
_NAMES_MAX: Final = 100_000


class Lease(Struct, frozen=True):
    """The right to ingest: who, and the token that fences everybody before."""

    holder: str
    token: int


class Stored(Struct, frozen=True):
    """What the store holds when a leader begins; ``health`` is the last one's JSON."""

    epoch: str
    offset: int
    floor: int
    tickers: dict[str, bytes]
    health: bytes = b"{}"


class Kept(Struct, frozen=True):
    """What a store has that may throw away what it likes when it is full.

    ``listed`` tells whether it knows what exists, ``tickers`` how many it holds.
    """

    listed: bool
    tickers: int


class Writer:
    """What the leader of one board does to the store."""

    def __init__(self, client: Client, keys: Keys, *, log_entries_max: int) -> None:
        self._client, self._keys = client, keys
        self._log_max = log_entries_max
        # How long the lease lives, and when it was last asked for and granted.
        self._life_ms = self._granted_ms = 0
        self._lease = client.script("lease", fenced=False)
        self._release = client.script("release", fenced=False)
        self._publish = client.script("publish", fenced=True)
        self._mark = client.script("mark", fenced=True)
        self._forget = client.script("forget", fenced=True)
        self._symbols = client.script("symbols", fenced=True)
        self._recent = client.script("recent", fenced=True)

    async def take(self, holder: str, life_ms: int) -> Lease | None:
        """Take the lease when it is free; None while somebody else has it.

        Raises:
            StoreDown: the store cannot be reached.
        """
        return await self._ask_lease(Lease(holder, 0), life_ms)

    async def keep(self, lease: Lease, life_ms: int) -> None:
        """Renew the lease.

        Raises:
            LeaseLost: it had ended.
            StoreDown: the store cannot be reached.
        """
        # A store that was wiped would take one for its own that has long run out.
        if self._is_over() or await self._ask_lease(lease, life_ms) is None:
            raise LeaseLost(lease.token, lease.token)

    def _is_over(self) -> bool:
        """Tell whether the lease has run out by our own clock, which is steady."""
        return self._client.clock.monotonic_ms() - self._granted_ms >= self._life_ms

    async def _ask_lease(self, lease: Lease, life_ms: int) -> Lease | None:
        keys = [self._keys.lease, self._keys.head]
        clock = self._client.clock
        asked_ms, now_ms = clock.monotonic_ms(), clock.wall_ms()
        answer = await self._lease.run(keys, lease.holder, lease.token, now_ms, life_ms)
        if not answer[0]:
            return None
        self._life_ms, self._granted_ms = life_ms, asked_ms
        return Lease(lease.holder, int(answer[1]))

    async def release(self, lease: Lease) -> bool:
        """Give the lease back; tell whether it was still ours.

        Raises:
            StoreDown: the store cannot be reached.
        """
        keys = [self._keys.lease]
        return bool(await self._release.run(keys, lease.holder, lease.token))

    async def load(self) -> Stored:
        """Read what the store holds.

        Raises:
            StoreDown: the store cannot be reached.
        """
        with self._client.asked():
            async with self._client.valkey.pipeline(transaction=True) as pipe:
                pipe.hgetall(self._keys.head)
                pipe.hgetall(self._keys.tickers)
                head, tickers = await pipe.execute()
        with self._client.understood():
            return Stored(
                head.get(b"epoch", b"").decode(),
                int(head.get(b"offset", 0)),
                int(head.get(b"floor", 0)),
                {name.decode(): ticker for name, ticker in tickers.items()},
                head.get(b"health", b"{}"),
            )

    async def publish(self, lease: Lease, batch: Batch) -> None:
        """Publish a batch; sending the same one again succeeds.

        Cancelled while waiting, the batch is published whole or not at all.

        Raises:
            LeaseLost: the lease is not ours any more.
            OutOfStep: the batch does not build on the store's offset.
            StoreDown: the store cannot be reached; it may have been published.
        """
        keys = [self._keys.lease, self._keys.head, self._keys.tickers, self._keys.log]
        answer = await self._write(
            self._publish,
            lease,
            keys,
            batch.epoch,
            batch.previous,
            batch.offset,
            self._log_max,
            *(part for pair in batch.tickers.items() for part in pair),
        )
        if answer[0] == b"step":
            raise OutOfStep(batch.previous, answer[1].decode(), int(answer[2]))

    async def mark(
        self,
        lease: Lease,
        mark: int,
        *,
        beat_ms: int,
        health: bytes,
        life_ms: int = 0,
    ) -> None:
        """Write a mark of the grid, which is the beat as well.

        ``life_ms`` is how long it tells every reader that somebody ingests, whatever
        the reader's settings say; 0 leaves it to them.

        Raises:
            LeaseLost: the lease is not ours any more.
            StoreDown: the store cannot be reached.
        """
        keys = [self._keys.lease, self._keys.head, self._keys.log, self._keys.beat]
        arguments = mark, beat_ms, self._log_max, health, life_ms
        await self._write(self._mark, lease, keys, *arguments)

    async def forget(self, lease: Lease, names: Iterable[str], *, floor: int) -> None:
        """Forget the markers of removed instruments; cursors below ``floor`` reset.

        Raises:
            LeaseLost: the lease is not ours any more.
            StoreDown: the store cannot be reached.
        """
        keys = [self._keys.lease, self._keys.head, self._keys.tickers]
        await self._write(self._forget, lease, keys, floor, *names)

    async def list_symbols(
        self, lease: Lease, sources: Mapping[str, Iterable[str]]
    ) -> None:
        """Replace what exists: instrument → the sources that list it.

        Raises:
            LeaseLost: the lease is not ours any more.
            StoreDown: the store cannot be reached.
        """
        keys = [self._keys.lease, self._keys.head, self._keys.symbols]
        pairs = [
            part for name, names in sources.items() for part in (name, ",".join(names))
        ][: 2 * _NAMES_MAX]
        await self._write(self._symbols, lease, keys, *pairs)

    async def remember(
        self, lease: Lease, points: Mapping[str, bytes], *, most: int, life_ms: int
    ) -> None:
        """Put one point before each instrument's ring, which keeps ``most`` of them.

        Raises:
            LeaseLost: the lease is not ours any more.
            StoreDown: the store cannot be reached.
        """
        names = list(points)
        for start in range(0, len(names), _RINGS_MAX):
            chunk = names[start : start + _RINGS_MAX]
            keys = [self._keys.lease, self._keys.head, *map(self._keys.recent, chunk)]
            rings = (points[name] for name in chunk)
            await self._write(self._recent, lease, keys, most, life_ms, *rings)

    async def demand(self, since_ms: int) -> list[str]:
        """Return what was asked for since, newest first; what is older is dropped.

        A name that nobody can read is none.

        Raises:
            StoreDown: the store cannot be reached.
        """
        with self._client.asked():
            async with self._client.valkey.pipeline(transaction=True) as pipe:
                pipe.zremrangebyscore(self._keys.demand, "-inf", f"({since_ms}")
                pipe.zrevrange(self._keys.demand, 0, -1)
                _, names = await pipe.execute()
        read = (name.decode(errors="replace") for name in names)
        return [name for name in read if is_instrument(name)]

    async def kept(self) -> Kept:
        """Return what the store still has of what only changes now and then.

        Raises:
            StoreDown: the store cannot be reached.
        """
        with self._client.asked():
            async with self._client.valkey.pipeline(transaction=True) as pipe:
                pipe.exists(self._keys.symbols)
                pipe.hlen(self._keys.tickers)
                listed, tickers = await pipe.execute()
        return Kept(bool(listed), tickers)

    async def _write(
        self,
        script: Script,
        lease: Lease,
        keys: list[str],
        *arguments: str | bytes | int,
    ) -> list[bytes]:
        """Run a fenced script; where the store has lost the lease, go on under ours.

        Raises:
            LeaseLost: the lease is not ours any more.
            StoreDown: the store cannot be reached; it may have been done.
        """
        answer: list[bytes] = await script.run(keys, *self._fence(lease), *arguments)
        if answer[0] == b"lost" and await self._regain(lease, answer):
            answer = await script.run(keys, *self._fence(lease), *arguments)
        if answer[0] == b"lost":
            raise LeaseLost(lease.token, int(answer[1]))
        return answer

    async def _regain(self, lease: Lease, answer: list[bytes]) -> bool:
        """Take the lease again where the store knows neither it nor a later one.

        One that has only run out is not taken again: its holder was asleep.
        """
        newest, left = int(answer[1]), answer[2]
        if left != b"none" or newest >= lease.token or self._is_over():
            return False
        return await self._ask_lease(lease, self._life_ms) is not None

    def _fence(self, lease: Lease) -> tuple[str, int, int]:
        return lease.holder, lease.token, self._client.clock.wall_ms()
