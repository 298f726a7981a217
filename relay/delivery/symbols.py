"""``/v1/symbols``: every instrument that exists, the lists, and the other names.

What they are worth stands in ``rest``.
"""

from typing import Final

import msgspec
from litestar.types import HTTPScope, Receive
from msgspec import Struct

from relay.clock import Clock
from relay.config import Board
from relay.delivery.answer import (
    Answer,
    Freshness,
    digest,
    json_answer,
    negotiated,
)
from relay.delivery.query import Names, read_query
from relay.errors import StoreDown
from relay.store.reader import Reader

# Exchanges list something new every few days.
FRESH: Final = Freshness(max_age_s=60, revalidate_s=60, error_s=86400)
# The table has ten thousand rows and more: an instance reads it at most this often.
_KEEP_MS: Final = 30_000


class Table(Struct, frozen=True):
    """The body: what is known by which sources.

    ``symbols`` are all instruments that a source lists, ``core`` those that are always
    on, ``names`` what else an instrument may be called.
    """

    symbols: dict[str, list[str]]
    core: list[str]
    lists: dict[str, tuple[str, ...]]
    names: dict[str, str]


class Held(Struct, frozen=True):
    """A body, and when its table was read."""

    body: bytes
    etag: str
    read_ms: int


class SymbolTable:
    """Answers ``/v1/symbols``."""

    def __init__(
        self, reader: Reader, names: Names, board: Board, clock: Clock
    ) -> None:
        self._reader, self._clock = reader, clock
        self._core = sorted({name for one in board.groups for name in one.instruments})
        self._lists = board.lists
        self._names = {name: names.resolve(name) for name in sorted(board.names)}
        self._held: Held | None = None
        self._reading = False

    async def answer(self, scope: HTTPScope, _receive: Receive) -> Answer:
        """Answer one read; what was read last serves while the store is away.

        Raises:
            RequestError: there are parameters.
            StoreDown: the store cannot be reached, and nothing is held.
        """
        read_query(scope["query_string"], ())
        held = await self.read()
        answer = json_answer(held.body, FRESH.headers())
        return negotiated(answer, held.etag, scope)

    async def read(self) -> Held:
        """Return the body, read lately or now.

        While it is read for one, the others get the last.

        Raises:
            StoreDown: the store cannot be reached, and nothing is held.
        """
        held, now_ms = self._held, self._clock.monotonic_ms()
        if held is not None and (self._reading or now_ms - held.read_ms < _KEEP_MS):
            return held
        self._reading = True
        try:
            symbols = await self._reader.symbols()
        except StoreDown:
            if held is None:
                raise
            return held
        finally:
            self._reading = False
        body = self._write(symbols)
        self._held = Held(body, digest(body), now_ms)
        return self._held

    def _write(self, symbols: dict[str, list[str]]) -> bytes:
        table = Table(
            dict(sorted(symbols.items())), self._core, self._lists, self._names
        )
        return msgspec.json.encode(table)
