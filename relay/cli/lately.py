"""What the store has of an exchange: its symbol table, and when it was last read.

Read only; who reads the exchange is the leader (``relay.ingest``).
"""

from datetime import timedelta
from typing import Final

import msgspec
from msgspec import Struct

from relay.model import Symbols
from relay.store.client import Client
from relay.store.keys import Keys
from relay.store.reader import Reader
from relay.store.tables import Tables


class Lately(Struct, frozen=True, kw_only=True):
    """What was read of an exchange; instants are the store's clock, 0 for never.

    ``led`` tells whether somebody reads it now.
    """

    symbols: Symbols = Symbols()
    symbols_ms: int = 0
    snapshot_ms: int = 0
    stream_ms: int = 0
    led: bool = False

    def said(self, check: str, now_ms: int) -> str:
        """Say when what a check is about was last read, and by whom."""
        instants_ms = {
            "symbols": self.symbols_ms,
            "snapshot": self.snapshot_ms,
            "stream": self.stream_ms,
        }
        who = "the leader" if self.led else "a leader that is gone"
        at_ms = instants_ms[check]
        if not at_ms:
            return f"{who} has not read it yet" if self.led else "nobody leads"
        ago = timedelta(seconds=max(now_ms - at_ms, 0) // 1000)
        counted = f", {len(self.symbols)} instruments" if check == "symbols" else ""
        return f"{who} read it {ago} ago{counted}"


class _Source(Struct, frozen=True):
    age_ms: int | None = None


class _Leader(Struct, frozen=True):
    as_of_ms: int = 0


class _Health(Struct, frozen=True):
    leader: _Leader = _Leader()
    sources: dict[str, _Source] = {}


_decode: Final = msgspec.json.Decoder(_Health).decode


async def read_lately(client: Client, board: str, exchange: str) -> Lately:
    """Read what the store has of an exchange.

    Raises:
        StoreDown: the store cannot be reached.
    """
    table = await Tables(client).load(exchange)
    head = (await Reader(client, Keys(board)).read(())).head
    try:
        health = _decode(head.health)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        health = _Health()  # another version's
    age_ms = health.sources.get(exchange, _Source()).age_ms
    return Lately(
        symbols=Symbols(table.listings),
        symbols_ms=table.symbols_ms,
        snapshot_ms=table.snapshot_ms,
        stream_ms=0 if age_ms is None else health.leader.as_of_ms - age_ms,
        led=head.alive,
    )
