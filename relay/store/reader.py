"""The store's side of everybody who serves: the newest values, the log, the demand.

Nothing here publishes.
"""

from collections.abc import Awaitable, Iterable
from typing import Any, Final, Self, cast

import msgspec
from msgspec import Struct

from relay.model import Batch
from relay.store.client import Client
from relay.store.keys import Keys

# Entries taken from the log at once: a follower that fell behind catches up in steps.
_ENTRIES_MAX: Final = 500


class Head(Struct, frozen=True, kw_only=True):
    """Where the published sequence stands.

    An empty ``epoch`` means that nothing was published yet. ``alive`` tells whether
    somebody ingests, ``left_ms`` for how long that holds, 0 where the leader does not
    say. ``health`` is the leader's JSON about its sources.
    """

    epoch: str = ""
    offset: int = 0
    floor: int = 0
    holder: str = ""
    token: int = 0
    health: msgspec.Raw = msgspec.Raw(b"{}")
    alive: bool = False
    left_ms: int = 0


class View(Struct, frozen=True):
    """Tickers as they stood at one moment; markers of removed ones among them."""

    head: Head
    tickers: dict[str, bytes]


class Mark(Struct, frozen=True):
    """A point of the grid: the cut is the board as it stood when this was written.

    ``number`` counts the grid; the cut's offset is the last batch's before it.
    ``life_ms`` is how long it tells that somebody ingests, 0 where it does not say.
    """

    number: int
    offset: int
    life_ms: int = 0


class Entry(Struct, frozen=True):
    """One entry of the log, with the place to go on from."""

    place: str
    item: Batch | Mark


class Reader:
    """What is read of one board."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client, self._keys = client, keys
        self._ask = client.script("ask", fenced=False)

    async def read(self, instruments: Iterable[str] | None) -> View:
        """Read the head and these tickers as of one moment; None reads all of them.

        Raises:
            StoreDown: the store cannot be reached.
        """
        names = None if instruments is None else list(instruments)
        with self._client.asked():
            async with self._client.valkey.pipeline(transaction=True) as pipe:
                pipe.hgetall(self._keys.head)
                pipe.pttl(self._keys.beat)
                if names is None:
                    pipe.hgetall(self._keys.tickers)
                elif names:
                    pipe.hmget(self._keys.tickers, names)
                head, left_ms, *rest = await pipe.execute()
        with self._client.understood():
            return View(_head(head, left_ms), _tickers(names, rest))

    async def place(self) -> str:
        """Return the place of the log's newest entry, from which to follow.

        Read it before the board: what is then read twice changes nothing.

        Raises:
            StoreDown: the store cannot be reached.
        """
        with self._client.asked():
            newest = await self._client.valkey.xrevrange(self._keys.log, count=1)
        return newest[0][0].decode() if newest else "0-0"

    def follow(self, *, wait_ms: int) -> "Follower":
        """Return a follower of the log, on a connection of its own.

        It waits for half of the store's time-out at most, which would end it otherwise.
        """
        wait_ms = min(wait_ms, self._client.settings.timeout_ms // 2)
        return Follower(self._client, self._keys.log, wait_ms)

    async def recent(self, instrument: str) -> list[bytes]:
        """Return the last minutes' points of an instrument, oldest first.

        Each is JSON, ``[unix_ms,"price"]``.

        Raises:
            StoreDown: the store cannot be reached.
        """
        with self._client.asked():
            points: list[bytes] = await _answer(
                self._client.valkey.lrange(self._keys.recent(instrument), 0, -1)
            )
        return points[::-1]

    async def symbols(self) -> dict[str, list[str]]:
        """Return what exists: instrument → the sources that list it.

        Raises:
            StoreDown: the store cannot be reached.
        """
        with self._client.asked():
            rows = await _answer(self._client.valkey.hgetall(self._keys.symbols))
        return {name.decode(): row.decode().split(",") for name, row in rows.items()}

    async def ask(self, instruments: Iterable[str], *, most: int) -> int:
        """Note that clients ask for these; return how many were noted.

        Only instruments that a symbol table knows are, and ``most`` in all.

        Raises:
            StoreDown: the store cannot be reached.
        """
        keys = [self._keys.demand, self._keys.symbols]
        now_ms = self._client.clock.wall_ms()
        return int(await self._ask.run(keys, now_ms, most, *instruments))


class Follower:
    """Reads the log entry by entry; a connection of its own, since it blocks.

    Use as an asynchronous context manager.
    """

    def __init__(self, client: Client, log: str, wait_ms: int) -> None:
        self._client, self._log, self._wait_ms = client, log, wait_ms
        self._valkey = client.valkey.client()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._valkey.aclose(close_connection_pool=False)

    async def after(self, place: str) -> list[Entry]:
        """Return the entries behind ``place``; none when none came in the wait.

        Raises:
            StoreDown: the store cannot be reached.
        """
        with self._client.asked():
            streams = await self._valkey.xread(
                {self._log: place}, count=_ENTRIES_MAX, block=self._wait_ms
            )
        with self._client.understood():
            return [
                _entry(place.decode(), fields)
                for _, entries in streams or ()
                for place, fields in entries
            ]


def _answer(sent: object) -> Awaitable[Any]:
    """Name a type the client library leaves open: ours always answers later."""
    return cast("Awaitable[Any]", sent)


def _head(fields: dict[bytes, bytes], left_ms: int) -> Head:
    told = int(fields.get(b"life", 0)) > 0
    return Head(
        epoch=fields.get(b"epoch", b"").decode(),
        offset=int(fields.get(b"offset", 0)),
        floor=int(fields.get(b"floor", 0)),
        holder=fields.get(b"holder", b"").decode(),
        token=int(fields.get(b"token", 0)),
        health=msgspec.Raw(fields.get(b"health", b"{}")),
        # The store answers -2 where there is no beat.
        alive=left_ms >= 0,
        left_ms=max(left_ms, 0) if told else 0,
    )


def _tickers(names: list[str] | None, rest: list[object]) -> dict[str, bytes]:
    if not rest:
        return {}
    (found,) = rest
    if isinstance(found, dict):
        return {name.decode(): ticker for name, ticker in found.items()}
    assert isinstance(found, list)
    assert names is not None
    return {
        name: ticker
        for name, ticker in zip(names, found, strict=True)
        if ticker is not None
    }


def _entry(place: str, fields: dict[bytes, bytes]) -> Entry:
    offset = int(place.partition("-")[0])
    if b"mark" in fields:
        life_ms = int(fields.get(b"life", 0))
        return Entry(place, Mark(int(fields[b"mark"]), offset, life_ms))
    epoch, previous = fields.pop(b"epoch").decode(), int(fields.pop(b"previous"))
    tickers = {name.decode(): ticker for name, ticker in fields.items()}
    batch = Batch(epoch=epoch, previous=previous, offset=offset, tickers=tickers)
    return Entry(place, batch)
