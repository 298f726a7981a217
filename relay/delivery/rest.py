"""``/v1/prices``: the newest values, with an ETag that is the cursor.

Which board they come from stands in ``newest``, what was asked for in ``query``.

``?cursor=`` asks for what changed since, as a poll does, and is answered at once:
always 200, since no cache expects a 304 it has not asked for. ``If-None-Match`` makes
it, and any read, conditional. A cursor ahead of what the instance knows is never
answered with something older: a conditional read gets its 304, and ``?cursor=`` gets
its own cursor back with nothing new.
"""

from functools import lru_cache
from typing import Final
from urllib.parse import quote

import msgspec
from litestar.handlers import ASGIRouteHandler, HTTPRouteHandler
from litestar.types import HTTPScope, Receive, Scope
from msgspec import Struct
from msgspec.structs import replace

from relay.board import Board, Changes, encode
from relay.config import Http
from relay.delivery.answer import (
    READ,
    Answer,
    Freshness,
    Seen,
    digest,
    header,
    json_answer,
    negotiated,
    read_tags,
    route,
    route_with_symbol,
)
from relay.delivery.demand import Demand
from relay.delivery.newest import Newest
from relay.delivery.query import Ask, Names, read_ask, read_query, trim
from relay.errors import CursorInvalid
from relay.model import Cursor, Selection
from relay.store.reader import Reader

# The rings get a point each ten seconds.
FRESH_RECENT: Final = Freshness(max_age_s=5, revalidate_s=10, error_s=600)

# Queries whose reading is remembered, and bodies: at most 150 KB each.
_WANTS_MAX: Final = 1024
# What is longer than the largest selection is remembered in neither: anybody can make
# up any number of 64 KB each.
_QUERY_KEPT_MAX: Final = 8192
_BODIES_MAX: Final = 128


class Want(Struct, frozen=True):
    """One query, read: what it asks for, and where that has its canonical place."""

    ask: Ask
    place: str
    elsewhere: bool
    since: Cursor | None = None


class Written(Struct):
    """A body that is ready to send, and the board's state that it holds for."""

    state: tuple[str, int, int, bool]
    etag: str
    body: bytes


class Prices:
    """Answers ``/v1/prices`` and ``/v1/prices/{symbol}``."""

    def __init__(
        self, newest: Newest, demand: Demand, names: Names, http: Http
    ) -> None:
        self._newest, self._demand = newest, demand
        self._names, self._http = names, http
        self._fresh = Freshness.of(http)
        self._remembered = lru_cache(_WANTS_MAX)(self._read_afresh)
        self._written: dict[str, Written] = {}

    async def answer(self, scope: HTTPScope, _receive: Receive) -> Answer:
        """Answer one read.

        Raises:
            RequestError: what is asked for cannot be answered.
            StoreDown: there is nothing to answer with.
        """
        symbol = read_symbol(scope["path_params"])
        want = self._read_want(symbol, scope["query_string"])
        self._demand.note(want.ask.selection)
        board, live = await self._newest.board(want.ask.selection)
        return self._conditional(want, board, scope, live=live)

    def at_once(
        self, symbol: str, query: bytes, scope: Scope
    ) -> tuple[Selection, Answer] | None:
        """Return what is asked for with ``answer``'s answer.

        None where that has more to do than to write it. Of the scope only the headers
        are read.

        Raises:
            RequestError: what is asked for cannot be answered.
        """
        held = self._newest.held()
        want = self._read_want(symbol, query)
        if held is None or want.since is not None:
            return None
        board, live = held
        tags = header(scope, b"if-none-match")
        if tags and self._ahead(want.ask, board, tags):
            return None
        return want.ask.selection, self._conditional(want, board, scope, live=live)

    def state(self) -> object:
        """Return what all answers depend on; None while nothing is held."""
        held = self._newest.held()
        return None if held is None else _state(*held)

    def _read_want(self, symbol: str, query: bytes) -> Want:
        """Read a query, or remember what it said."""
        kept = len(symbol) + len(query) <= _QUERY_KEPT_MAX
        return (self._remembered if kept else self._read_afresh)(symbol, query)

    def _read_afresh(self, symbol: str, query: bytes) -> Want:
        """Read a query as it came; ``symbol`` is the path's, where it has one."""
        if symbol:
            given = read_query(query, ("fields", "cursor"))
            given["symbols"] = self._names.resolve(symbol)
            ask = read_ask(given, self._names, self._http, also=("cursor",))
        else:
            ask = read_ask(query, self._names, self._http, also=("cursor",))
        since = ask.more.get("cursor")
        place = _place(ask, since, one=bool(symbol))
        came = f"/v1/prices/{symbol}" if symbol else "/v1/prices"
        spelled = f"{came}?{query.decode('ascii')}" if query else came
        cursor = None if since is None else Cursor.parse(since)
        return Want(ask, place, spelled != place, cursor)

    def _conditional(
        self, want: Want, board: Board, scope: Scope, *, live: bool
    ) -> Answer:
        if want.since is not None:
            want = replace(want, since=self._newest.heed(board, want.since))
        written = self._write(want, board, live=live)
        answer = json_answer(written.body, self._fresh.headers())
        tags = header(scope, b"if-none-match")
        if want.elsewhere:
            answer.headers.append((b"content-location", want.place.encode()))
        ahead = self._ahead(want.ask, board, tags) if tags else []
        if ahead or (want.since is not None and board.is_behind(want.since)):
            self._newest.catch_up()
        return negotiated(answer, written.etag, scope, also=ahead)

    def _ahead(self, ask: Ask, board: Board, if_none_match: bytes) -> list[str]:
        """Return the tags that are cursors of this selection, ahead of the board."""
        ahead = []
        for tag in read_tags(if_none_match):
            try:
                cursor = self._newest.heed(board, Cursor.parse(tag))
            except CursorInvalid:
                continue
            if cursor.selection == ask.selection.hash and board.is_behind(cursor):
                ahead.append(tag)
        return ahead

    def _write(self, want: Want, board: Board, *, live: bool) -> Written:
        """Return the body, from the last time when nothing in it has changed."""
        state = _state(board, live)
        written = self._written.get(want.place)
        if written is not None and written.state == state:
            return written
        changes, suffix = _changes(want, board, live=live)
        etag = f"{changes.cursor}{suffix}"
        if written is not None and written.etag == etag:
            written.state = state
            return written
        changes = replace(changes, rows=trim(changes.rows, want.ask.fields))
        body = encode(changes, live=live, suffix=suffix)
        written = Written(state, etag, body)
        if len(want.place) <= _QUERY_KEPT_MAX:
            if len(self._written) >= _BODIES_MAX:
                self._written.clear()
            self._written[want.place] = written
        return written


def _state(
    board: Board,
    live: bool,  # noqa: FBT001 - as the hub hands them over, together
) -> tuple[str, int, int, bool]:
    return board.epoch, board.offset, board.floor, live


def _place(ask: Ask, since: str | None, *, one: bool) -> str:
    """Return the canonical URL of what is asked for."""
    parts = [ask.canonical] if ask.canonical else []
    place = "/v1/prices"
    if one:
        assert ask.selection.instruments is not None
        place += f"/{quote(ask.selection.instruments[0], safe='$')}"
        parts = [part for part in ask.canonical.split("&") if part.startswith("fields")]
    if since is not None:
        parts.append(f"cursor={quote(since, safe='~')}")
    return f"{place}?{'&'.join(parts)}" if parts else place


def _changes(want: Want, board: Board, *, live: bool) -> tuple[Changes, str]:
    """Return what is to be told, and the suffix that keeps its cursor apart.

    Bodies that differ have cursors that differ: one that is not live, one that begins
    anew, one that has to wait for the board.
    """
    since = want.since
    suffix = "" if live else "d"
    if since is not None and board.is_behind(since):
        told = Changes(cursor=since, rows={}, missing=[], gone=[])
        return told, f"~{suffix}w"
    changes = board.changes(want.ask.selection, since)
    suffix += "r" if changes.reset else ""
    return changes, f"~{suffix}" if suffix else ""


class Recent:
    """Answers ``/v1/prices/{symbol}/recent``: the last minutes, a point each step."""

    def __init__(self, reader: Reader, names: Names) -> None:
        self._reader, self._names = reader, names

    async def answer(self, scope: HTTPScope, _receive: Receive) -> Answer:
        """Answer one read; an instrument without points has none.

        Raises:
            RequestError: what is asked for cannot be answered.
            StoreDown: the store cannot be reached.
        """
        query, symbol = scope["query_string"], read_symbol(scope["path_params"])
        read_query(query, ())
        instrument = self._names.resolve(symbol)
        points = await self._reader.recent(instrument)
        name = msgspec.json.encode(instrument)
        body = b'{"symbol":%b,"points":[%b]}' % (name, b",".join(points))
        answer = json_answer(body, FRESH_RECENT.headers())
        if symbol != instrument:
            place = f"/v1/prices/{quote(instrument, safe='$')}/recent"
            answer.headers.append((b"content-location", place.encode()))
        return negotiated(answer, digest(body), scope)


def read_symbol(parameters: dict[str, str]) -> str:
    """Return the instrument of a path; ``BTC/USD`` comes in two pieces."""
    symbol, currency = parameters.get("symbol", ""), parameters.get("currency")
    return f"{symbol}/{currency}" if currency else symbol


def routes(
    prices: Prices, recent: Recent, seen: Seen
) -> list[ASGIRouteHandler | HTTPRouteHandler]:
    """Return the handlers of ``/v1/prices``."""
    one = ["/v1/prices/{symbol:str}", "/v1/prices/{symbol:str}/{currency:str}"]
    last = [f"{path}/recent" for path in one]
    return [
        route("/v1/prices", READ, prices.answer, seen=seen),
        route_with_symbol(one, READ, prices.answer, seen=seen),
        route_with_symbol(last, READ, recent.answer, seen=seen),
    ]
