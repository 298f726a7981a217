"""``/v1/status``, ``/healthz`` and ``/readyz``: how this instance is, and the board.

The numbers for Prometheus stand in ``metrics``.
"""

from secrets import token_hex
from typing import Final

import msgspec
from litestar.types import HTTPScope, Receive
from msgspec import Struct

from relay import __version__
from relay.board import Board
from relay.clock import Clock
from relay.delivery.answer import NO_STORE, Answer, json_answer
from relay.delivery.query import read_query
from relay.delivery.word import read_word
from relay.errors import StoreDown
from relay.hub import Hub, Unready
from relay.store.reader import Head, Reader

# A JSON text has its quotes escaped, so this stands in no value.
_STALE: Final = b'"stale":true'
_NOTHING: Final = msgspec.Raw(b"{}")
_EMPTY: Final = {"events": msgspec.Raw(b"[]")}
_SAID: Final = (
    "sources",
    "streams",
    "budgets",
    "circuits",
    "instruments",
    "refused",
    "unsupported",
    "events",
    "off",
)


class BoardCount(Struct, frozen=True):
    """How many instruments a board holds, and how many of them are old or gone."""

    instruments: int
    stale: int
    removed: int

    @classmethod
    def of(cls, board: Board) -> "BoardCount":
        """Count a board's rows."""
        shown = [row for row in board.rows.values() if not row.removed]
        stale = sum(_STALE in row.ticker for row in shown)
        return cls(len(shown), stale, len(board.rows) - len(shown))


class InstanceState(Struct, frozen=True, kw_only=True):
    """How this instance is. Without a hub it holds nothing, and has no clients.

    ``id`` is drawn when it begins; ``now_ms`` is the store's clock, so that a reader
    learns how far its own is off.
    """

    id: str
    now_ms: int
    version: str
    uptime_ms: int
    live: bool
    ready: bool
    epoch: str
    offset: int
    mark: int | None
    mark_age_ms: int | None
    clients: dict[str, int]
    counts: dict[str, int]


class BoardState(Struct, frozen=True, kw_only=True):
    """The board's name, and what is on it as far as this instance knows."""

    name: str
    instruments: int
    stale: int
    removed: int


class LeaderState(Struct, frozen=True, kw_only=True):
    """Who ingests, and where the published sequence stands, by the store.

    Not ``alive`` is one whose beat is over.
    """

    alive: bool
    holder: str
    token: int
    epoch: str
    offset: int
    floor: int


class Page(Struct, frozen=True, kw_only=True):
    """The body. ``leader`` is null while the store cannot be reached.

    What the leader says besides is passed on, empty before the first: ``sources`` by
    name, ``streams``, ``budgets`` and ``circuits`` of each, ``instruments`` counted,
    who ``refused`` us, which names are ``unsupported``, the last ``events``, and what
    is ``off``. A source's ``age_ms`` goes on growing without a new word, its ``state``
    is ``alive``, ``silent`` or, while nobody ingests, ``unknown``, as its streams' is.
    """

    instance: InstanceState
    board: BoardState
    store: str
    leader: LeaderState | None
    sources: msgspec.Raw
    streams: msgspec.Raw
    budgets: msgspec.Raw
    circuits: msgspec.Raw
    instruments: msgspec.Raw
    refused: msgspec.Raw
    unsupported: msgspec.Raw
    events: msgspec.Raw
    off: msgspec.Raw


class Status:
    """Answers ``/v1/status``."""

    def __init__(
        self, reader: Reader, hub: Hub | None, board_name: str, clock: Clock
    ) -> None:
        self._reader, self._hub = reader, hub
        self._name, self._clock = board_name, clock
        self._since_ms = clock.monotonic_ms()
        self._id = token_hex(3)

    async def answer(self, scope: HTTPScope, _receive: Receive) -> Answer:
        """Answer with what is known, whether the store can be reached or not.

        Raises:
            RequestError: there are parameters.
        """
        read_query(scope["query_string"], ())
        head, board = await self._read()
        said = self._said(head)
        page = Page(
            instance=self._instance(head, board),
            board=_board_state(self._name, board),
            store="reachable" if head is not None else "unreachable",
            leader=_leader(head) if head is not None else None,
            **{name: said.get(name, _EMPTY.get(name, _NOTHING)) for name in _SAID},
        )
        return json_answer(msgspec.json.encode(page), [NO_STORE])

    async def _read(self) -> tuple[Head | None, Board]:
        """Read the head; the board as well where no hub holds one."""
        hub = self._hub
        try:
            view = await self._reader.read(() if hub is not None else None)
        except StoreDown:
            return None, Board() if hub is None else hub.board
        if hub is not None:
            return view.head, hub.board
        head = view.head
        board = Board.read(head.epoch, head.offset, head.floor, view.tickers)
        return head, board

    def _instance(self, head: Head | None, board: Board) -> InstanceState:
        hub = self._hub
        return InstanceState(
            id=self._id,
            now_ms=self._clock.wall_ms(),
            version=__version__,
            uptime_ms=self._clock.monotonic_ms() - self._since_ms,
            live=hub.live if hub is not None else head is not None and head.alive,
            ready=is_ready(hub) if hub is not None else head is not None,
            epoch=board.epoch,
            offset=board.offset,
            mark=hub.mark if hub is not None else None,
            mark_age_ms=mark_age_ms(hub) if hub is not None and hub.mark else None,
            clients=dict(hub.counts.clients) if hub is not None else {},
            counts=_counts(hub) if hub is not None else {},
        )

    def _said(self, head: Head | None) -> dict[str, msgspec.Raw]:
        """Return what the leader said last, section by section, as old as it is."""
        word, doubt = _NOTHING, ""
        if head is not None:
            word, doubt = head.health, "" if head.alive else "nobody ingests"
        elif self._hub is not None:
            word = self._hub.health
            doubt = "" if self._hub.live else "the store cannot be reached"
        return read_word(word, self._clock.wall_ms(), doubt=doubt)


def _board_state(name: str, board: Board) -> BoardState:
    count = BoardCount.of(board)
    return BoardState(
        name=name,
        instruments=count.instruments,
        stale=count.stale,
        removed=count.removed,
    )


def _leader(head: Head) -> LeaderState:
    return LeaderState(
        alive=head.alive,
        holder=head.holder,
        token=head.token,
        epoch=head.epoch,
        offset=head.offset,
        floor=head.floor,
    )


def is_ready(hub: Hub) -> bool:
    """Tell whether an instance can serve: it holds a board, and is not ending."""
    return hub.board.offset > 0 and not hub.draining


def mark_age_ms(hub: Hub) -> int:
    """Return how long ago the newest mark stood on the grid, by the store's clock."""
    return max(hub.clock.wall_ms() - hub.mark * hub.align_ms, 0)


def _counts(hub: Hub) -> dict[str, int]:
    counts = hub.counts
    return {
        "deliveries": counts.deliveries.total(),
        "encoded": counts.encoded,
        "conflated": counts.conflated,
        "stalled": counts.stalled,
        "cut_off": counts.cut_off.total(),
        "refreshes": counts.refreshes.total(),
    }


class Health:
    """Answers ``/healthz`` and ``/readyz``."""

    def __init__(self, reader: Reader, hub: Hub | None) -> None:
        self._reader, self._hub = reader, hub

    async def alive(self, _scope: HTTPScope, _receive: Receive) -> Answer:
        """Answer: whoever can is alive."""
        return json_answer(b'{"alive":true}', [NO_STORE])

    async def ready(self, _scope: HTTPScope, _receive: Receive) -> Answer:
        """Answer whether there is a board to serve from.

        Raises:
            Unready: there is none yet, or the instance is ending.
            StoreDown: there is no hub, and the store cannot be reached.
        """
        if self._hub is None:
            await self._reader.read(())
        elif not is_ready(self._hub):
            raise Unready("not_ready", "This instance has no prices to serve.")
        return json_answer(b'{"ready":true}', [NO_STORE])
