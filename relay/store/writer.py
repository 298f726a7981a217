"""The store's side of whoever holds the lease: everything here is fenced.

Reading what was published is ``reader``'s; a handler cannot import this by accident.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from relay.errors import LeaseLost, OutOfStep
from relay.model import Batch
from relay.store.client import Client
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
    """What the store holds when a leader begins."""

    epoch: str
    offset: int
    floor: int
    tickers: dict[str, bytes]


class Writer:
    """What the leader of one board does to the store."""

    def __init__(self, client: Client, keys: Keys, *, log_entries_max: int) -> None:
        self._client, self._keys = client, keys
        self._log_max = log_entries_max
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
        if await self._ask_lease(lease, life_ms) is None:
            raise LeaseLost(lease.token, lease.token)

    async def _ask_lease(self, lease: Lease, life_ms: int) -> Lease | None:
        keys = [self._keys.lease, self._keys.head]
        now_ms = self._client.clock.wall_ms()
        answer = await self._lease.run(keys, lease.holder, lease.token, now_ms, life_ms)
        return Lease(lease.holder, int(answer[1])) if answer[0] else None

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
        return Stored(
            head.get(b"epoch", b"").decode(),
            int(head.get(b"offset", 0)),
            int(head.get(b"floor", 0)),
            {name.decode(): ticker for name, ticker in tickers.items()},
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
        answer = await self._publish.run(
            keys,
            *self._fence(lease),
            batch.epoch,
            batch.previous,
            batch.offset,
            self._log_max,
            *(part for pair in batch.tickers.items() for part in pair),
        )
        if answer[0] == b"step":
            raise OutOfStep(batch.previous, answer[1].decode(), int(answer[2]))
        _check(lease, answer)

    async def mark(
        self, lease: Lease, mark: int, *, beat_ms: int, health: bytes
    ) -> None:
        """Write a mark of the grid, which is the beat as well.

        Raises:
            LeaseLost: the lease is not ours any more.
            StoreDown: the store cannot be reached.
        """
        keys = [self._keys.lease, self._keys.head, self._keys.log, self._keys.beat]
        answer = await self._mark.run(
            keys, *self._fence(lease), mark, beat_ms, self._log_max, health
        )
        _check(lease, answer)

    async def forget(self, lease: Lease, names: Iterable[str], *, floor: int) -> None:
        """Forget the markers of removed instruments; cursors below ``floor`` reset.

        Raises:
            LeaseLost: the lease is not ours any more.
            StoreDown: the store cannot be reached.
        """
        keys = [self._keys.lease, self._keys.head, self._keys.tickers]
        _check(lease, await self._forget.run(keys, *self._fence(lease), floor, *names))

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
        _check(lease, await self._symbols.run(keys, *self._fence(lease), *pairs))

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
            answer = await self._recent.run(
                keys,
                *self._fence(lease),
                most,
                life_ms,
                *(points[name] for name in chunk),
            )
            _check(lease, answer)

    async def demand(self, since_ms: int) -> list[str]:
        """Return what was asked for since, newest first; what is older is dropped.

        Raises:
            StoreDown: the store cannot be reached.
        """
        with self._client.asked():
            async with self._client.valkey.pipeline(transaction=True) as pipe:
                pipe.zremrangebyscore(self._keys.demand, "-inf", f"({since_ms}")
                pipe.zrevrange(self._keys.demand, 0, -1)
                _, names = await pipe.execute()
        return [name.decode() for name in names]

    def _fence(self, lease: Lease) -> tuple[str, int, int]:
        return lease.holder, lease.token, self._client.clock.wall_ms()


def _check(lease: Lease, answer: list[bytes]) -> None:
    if answer[0] == b"lost":
        raise LeaseLost(lease.token, int(answer[1]))
