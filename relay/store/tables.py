"""What was read of an exchange and when, so that a restart does not read it again.

Shared by all boards; budgets, which are shared too, have keys of the same kind.
"""

from typing import Final

import msgspec
from msgspec import Struct

from relay.model import Listing
from relay.store.client import Client

_decode: Final = msgspec.json.Decoder(list[Listing]).decode
_encode: Final = msgspec.json.Encoder().encode


class Table(Struct, frozen=True):
    """An exchange's symbol table, and when it and its prices were last read.

    The instants are the store's clock in milliseconds, 0 for never.
    """

    listings: list[Listing]
    symbols_ms: int = 0
    snapshot_ms: int = 0


def _key(exchange: str) -> str:
    return f"relay:{{x:{exchange}}}:table"


class Tables:
    """The tables of every exchange."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def load(self, exchange: str) -> Table:
        """Return what is known; an empty table where nothing is.

        Raises:
            StoreDown: the store cannot be reached.
        """
        names = ["listings", "symbols_ms", "snapshot_ms"]
        with self._client.asked():
            async with self._client.valkey.pipeline(transaction=False) as pipe:
                pipe.hmget(_key(exchange), names)
                ((listings, symbols_ms, snapshot_ms),) = await pipe.execute()
        try:
            found = _decode(listings or b"[]")
            return Table(found, int(symbols_ms or 0), int(snapshot_ms or 0))
        except (msgspec.DecodeError, ValueError, RecursionError):
            # Another version's shape, or nobody's: as good as none, it is read again.
            return Table([])

    async def save_listings(
        self, exchange: str, listings: list[Listing], *, now_ms: int, life_ms: int
    ) -> None:
        """Keep a symbol table for ``life_ms``.

        Raises:
            StoreDown: the store cannot be reached.
        """
        await self._save(
            exchange,
            {"listings": _encode(listings), "symbols_ms": now_ms},
            life_ms=life_ms,
        )

    async def save_snapshot(self, exchange: str, *, now_ms: int, life_ms: int) -> None:
        """Note that the prices were read.

        Raises:
            StoreDown: the store cannot be reached.
        """
        await self._save(exchange, {"snapshot_ms": now_ms}, life_ms=life_ms)

    async def _save(
        self, exchange: str, fields: dict[str, bytes | int], *, life_ms: int
    ) -> None:
        with self._client.asked():
            async with self._client.valkey.pipeline(transaction=True) as pipe:
                for name, value in fields.items():
                    pipe.hset(_key(exchange), name, value)
                pipe.pexpire(_key(exchange), life_ms, gt=True)
                pipe.pexpire(_key(exchange), life_ms, nx=True)
                await pipe.execute()
