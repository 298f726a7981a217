"""``GET /v1/poll``: the answer when something selected has changed since the cursor.

Only cuts are answered, so that every client of one selection comes back with the same
cursor and caches collapse them; what a cut is stands in ``hub``.

A cursor behind the newest cut is answered at once. Any other is held until the mark
that brings a change to it, or until the first mark at or after the end of its wait:
then the answer is empty and its cursor the client's own, with the mark's number as a
suffix, so that nobody spins on one cached answer. A poll without a cursor waits for the
next mark when that brings what would be missing from this cut.

A turn of ``live`` releases what is held; a
poll that comes later with a cursor from before the turn is told at the next step of
the grid and not at once, since two instances that disagree would send it to and fro.
"""

import asyncio
import re
from typing import Final

from litestar.handlers import ASGIRouteHandler
from litestar.types import Receive, Scope
from msgspec import Struct
from msgspec.structs import replace

from relay.board import Board, encode
from relay.config import Http
from relay.delivery.answer import (
    NO_STORE,
    READ,
    Answer,
    Headers,
    Seen,
    json_answer,
)
from relay.delivery.answer import (
    route as answer_route,
)
from relay.delivery.demand import Demand
from relay.delivery.line import when_gone
from relay.delivery.query import Ask, Names, QueryInvalid, read_ask, trim
from relay.group import NOWHERE, Frame, Group, Place, Wish
from relay.hub import Hub, Unready
from relay.model import base36

PATH: Final = "/v1/poll"
PARAMETERS: Final = ("cursor", "wait", "align")
"""What it takes besides the selection and the fields."""

# One second, so that all who wait for one answer get one; and no stale directive, which
# would hand out an answer older than the question.
_CACHE: Final = (b"cache-control", b"public, max-age=0, s-maxage=1")

_DURATION: Final = re.compile(r"([0-9]{1,9})(ms|s|)")
_UNITS_MS: Final = {"ms": 1, "s": 1000, "": 1000}

# An instance that has just started, or read the board again, has no cut before the next
# mark; a poll waits for so many steps of the grid before it is sent elsewhere.
_SETTLE_STEPS: Final = 2


class Question(Struct, frozen=True):
    """One poll, read: ``place`` is what the client holds, ``wait_ms`` its patience."""

    ask: Ask
    place: Place
    wait_ms: int
    aligned: bool


def read_duration(name: str, text: str) -> int:
    """Read ``20``, ``20s`` or ``500ms``; returns milliseconds.

    Raises:
        QueryInvalid: it is no duration.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise QueryInvalid(
            f"{name} was {text[:80]!r}, which is no duration.",
            f"Write seconds or milliseconds, for example {name}=20s.",
        )
    return int(match[1]) * _UNITS_MS[match[2]]


def read_question(query: bytes, names: Names, http: Http, *, align_ms: int) -> Question:
    """Read a poll's query.

    Raises:
        RequestError: the query, the selection or the cursor is not what it must be.
    """
    ask = read_ask(query, names, http, also=PARAMETERS)
    cursor, wait, align = (ask.more.get(name) for name in PARAMETERS)
    place = NOWHERE if cursor is None else Place.read(cursor)
    wait_ms = http.wait_ms if wait is None else read_duration("wait", wait)
    aligned_ms = align_ms if align is None else read_duration("align", align)
    if aligned_ms not in (0, align_ms):
        raise QueryInvalid(
            f"align was {align!r}.",
            f"Leave it out for the grid of {align_ms} ms, or write align=0 for none.",
        )
    return Question(ask, place, hold_ms(wait_ms, http), aligned_ms > 0)


def hold_ms(wait_ms: int, http: Http) -> int:
    """Round a wait down to one of the fixed ones, below what the platform allows.

    The default is fixed as well.
    """
    most_ms = min(wait_ms, http.wait_max_ms)
    fixed = (*http.waits_ms, http.wait_ms)
    return max((one for one in fixed if one <= most_ms), default=0)


class Poll:
    """Answers polls from the hub."""

    def __init__(self, hub: Hub, names: Names, http: Http, demand: Demand) -> None:
        self._hub, self._names, self._http = hub, names, http
        self._demand = demand

    async def answer(self, scope: Scope, receive: Receive) -> Answer:  # noqa: ARG002 - a poll has no body
        """Answer one poll, now or when there is something to say.

        Raises:
            RequestError: the question is malformed.
            Unready: this instance is too far behind, or has too much to do.
        """
        hub = self._hub
        question = read_question(
            scope["query_string"], self._names, self._http, align_ms=hub.align_ms
        )
        question = replace(question, place=hub.heed(question.place))
        self._demand.note(question.ask.selection)
        wish = Wish(question.ask.selection, question.ask.fields, cuts=question.aligned)
        group = hub.groups.find(wish, trim)
        frame = group.frame(question.place)
        if frame is not None and not frame.news:
            frame = None
        if frame is None or self._comes_soon(question):
            frame = await self._hold(scope, group, question) or frame
        if frame is not None:
            return self._answer(frame.body, frame.text, question)
        return self._out_of_time(question)

    def _comes_soon(self, question: Question) -> bool:
        """Tell whether the next mark brings what the cut would call missing.

        So it is for a moment after anything was published for the first time. Who holds
        something already is told of it as of any other change.
        """
        board, cut = self._hub.board.rows, self._hub.cut.rows
        names = question.ask.selection.instruments
        if question.place.cursor is not None or names is None or not question.aligned:
            return False
        return len(board) > len(cut) and any(
            name in board and name not in cut for name in names
        )

    async def _hold(
        self, scope: Scope, group: Group, question: Question
    ) -> Frame | None:
        """Wait for the frame that brings news; None when the time is over."""
        hub, wait_ms = self._hub, question.wait_ms
        if not hub.ready:
            wait_ms = min(wait_ms, _SETTLE_STEPS * hub.align_ms)
        if not wait_ms:
            return None
        loop = asyncio.get_running_loop()
        with hub.open("poll") as mailbox:
            mailbox.join(group, question.place, looked=True)
            mailbox.due_ms = hub.clock.monotonic_ms() + wait_ms
            when_gone(scope, mailbox.wake)
            # The mark at or after the end of the wait ends it; a late one does not.
            late_ms = hub.align_ms if question.aligned and hub.live else 0
            when = loop.time() + (wait_ms + late_ms) / 1000
            timer = loop.call_at(when, mailbox.answer, None)
            try:
                return await mailbox.listen()
            finally:
                timer.cancel()

    def _out_of_time(self, question: Question) -> Answer:
        """Answer that nothing has changed: the client's own place, one mark later."""
        hub = self._hub
        board = hub.cut if question.aligned else hub.board
        if not question.place.known or not hub.ready:
            raise Unready("behind", "This instance has not caught up with the store.")
        body, tag = write_nothing(board, question, live=hub.live, number=hub.number)
        return self._answer(body, tag, question)

    def _answer(self, body: bytes, tag: str, question: Question) -> Answer:
        return poll_answer(body, tag, question, grid_ms=self._hub.grid_ms)


def write_nothing(
    board: Board, question: Question, *, live: bool, number: int
) -> tuple[bytes, str]:
    """Write that nothing has changed, with its tag: the client's own place.

    ``number`` is the mark's.
    """
    cursor = question.place.cursor
    assert cursor is not None
    mark = base36(number)
    if live and mark.startswith("d"):
        mark = f"0{mark}"  # which is the same number, and does not read as not live
    suffix = f"~{'' if live else 'd'}{mark}"
    changes = board.changes(question.ask.selection, cursor)
    nothing = replace(changes, cursor=cursor, rows={}, gone=[], reset=False)
    return encode(nothing, live=live, suffix=suffix), f"{cursor}{suffix}"


def poll_answer(body: bytes, tag: str, question: Question, *, grid_ms: int) -> Answer:
    """Answer a poll; ``grid_ms`` is how long until the next mark."""
    headers: Headers = [
        _CACHE if question.aligned else NO_STORE,
        (b"etag", f'"{tag}"'.encode()),
    ]
    if question.aligned:
        headers.append((b"x-grid-ttl", b"%.3fs" % (grid_ms / 1000)))
    return json_answer(body, headers)


def route(
    hub: Hub, names: Names, http: Http, *, demand: Demand, seen: Seen
) -> ASGIRouteHandler:
    """Return the handler of ``/v1/poll``."""
    return answer_route(PATH, READ, Poll(hub, names, http, demand).answer, seen=seen)
