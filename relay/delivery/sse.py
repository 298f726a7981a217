"""``GET /v1/stream``: server-sent events, resumed from ``Last-Event-ID``.

What is sent and when is decided in ``group``; here it is written, and worded for
``rank``, which writes to all who listen where the server hands its connections over.

A stream begins with a comment and ``retry:``, then what changed since the cursor (or
everything), then every change, newest state only: while a write has not drained nothing
is queued, and what comes after it is the newest. Each event's id is its cursor.
``every=`` asks for a slower pace. When a source falls silent or comes back there is an
event named ``status``, without an id: ``{"sources":{"kraken":false,…}}``. A quiet
stream gets a comment now and then; after its life it is told when to come back, and
ends.
"""

import asyncio
from secrets import randbelow
from typing import Final

from litestar import asgi
from litestar.enums import HttpMethod, ScopeType
from litestar.exceptions import MethodNotAllowedException
from litestar.handlers import ASGIRouteHandler
from litestar.types import HTTPScope, Receive, Scope, Send

from relay.config import Http
from relay.delivery.answer import NO_STORE, NOSNIFF, READ, Headers, Seen, header
from relay.delivery.demand import Demand
from relay.delivery.line import (
    chunked,
    hang_up,
    has_hung_up,
    when_gone,
    wire_of,
)
from relay.delivery.query import Names, QueryInvalid, read_ask, trim
from relay.group import NOWHERE, Frame, Mailbox, Place, Wish
from relay.hub import Hub
from relay.model import Selection
from relay.rank import Line, Voice, Wire

PATH: Final = "/v1/stream"
PARAMETERS: Final = ("cursor", "every")
"""What it takes besides the selection and the fields."""

_HEADERS: Final[Headers] = [
    (b"content-type", b"text/event-stream"),
    NO_STORE,
    NOSNIFF,
    # nginx passes each event on as it comes.
    (b"x-accel-buffering", b"no"),
]
_COMMENT: Final = b":\n\n"


# Written when others were rung while a client's write waited: it waits until that has
# drained, so that what is chosen next is the newest.
_NOTHING: Final = b""


def read_request(
    query: bytes, last_event_id: bytes, names: Names, http: Http
) -> tuple[Wish, Place]:
    """Read what a stream asks for; ``Last-Event-ID`` wins over ``cursor=``.

    Raises:
        RequestError: the query, the selection or the cursor is not what it must be.
    """
    ask = read_ask(query, names, http, also=PARAMETERS)
    cursor, last = ask.more.get("cursor"), last_event_id.decode("latin-1")
    place = NOWHERE if cursor is None else Place.read(cursor)
    if last:
        place = Place.read(last)
    pace_ms = _read_pace(ask.more.get("every"), http)
    return Wish(ask.selection, ask.fields, pace_ms), place


def _read_pace(text: str | None, http: Http) -> int:
    if text is None:
        return 0
    paces = {f"{pace_ms}ms": pace_ms for pace_ms in http.paces_ms}
    known = ", ".join(paces)
    paces |= {f"{ms // 1000}s": ms for ms in http.paces_ms if not ms % 1000}
    if text not in paces:
        raise QueryInvalid(
            f"There is no pace {text[:80]!r}.", f"The paces are: {known}."
        )
    return paces[text]


class Events(Voice):
    """Speaks in events, framed as chunks of HTTP/1.1."""

    def __init__(self, hub: Hub, http: Http, demand: Demand) -> None:
        super().__init__()
        self._hub, self._http, self._demand = hub, http, demand
        self._frame: Frame | None = None
        self._chunk = b""

    def now_ms(self) -> int:
        """Read the hub's clock."""
        return self._hub.clock.monotonic_ms()

    def tell(self, frame: Frame) -> bytes:
        """Return the frame's event; it is framed once for those told in a row."""
        if frame is not self._frame:
            self._frame, self._chunk = frame, chunked(frame.event)
        return self._chunk

    def notice(self, notice: bytes) -> bytes:
        """Return an event that has no id."""
        return chunked(notice)

    def pulse(self, quiet_ms: int) -> bytes:
        """Return a comment, when it is time for one."""
        return chunked(_COMMENT) if quiet_ms >= self._http.heartbeat_ms else b""

    def farewell(self) -> bytes:
        """Say when to come back; not everybody at once."""
        return chunked(farewell(self._http))

    def renew(self, selection: Selection) -> None:
        """Note it again, when the last note is old."""
        self._demand.note(selection)


class Stream:
    """Sends events to clients, each as fast as it reads."""

    def __init__(self, hub: Hub, names: Names, http: Http, demand: Demand) -> None:
        self._hub, self._names, self._http = hub, names, http
        self._demand = demand
        self._hello = b":\nretry: %d\n\n" % http.retry_ms
        self._events = Events(hub, http, demand)

    async def serve(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Serve one client until its time is over, it hangs up or takes nothing.

        Raises:
            RequestError: the request is malformed.
            Unready: this instance has too much to do.
        """
        if scope["method"] == HttpMethod.HEAD:
            self._read(scope)
            await _start(send)
            await _write(send, b"", more=False)
            return
        wire = wire_of(scope)
        if wire is not None:
            await self._hand_over(scope, send, wire)
            return
        with self._hub.open("sse") as mailbox:
            self._join(mailbox, scope)
            when_gone(scope, mailbox.wake)
            try:
                async with asyncio.timeout(None) as mailbox.limit:
                    await _start(send)
                    await self._send_events(mailbox, receive, send)
            except TimeoutError:
                await hang_up(scope)

    async def _hand_over(self, scope: HTTPScope, send: Send, wire: Wire) -> None:
        """Let the client's group write to it from now on."""
        line = self._hub.open_as(Line, "sse")
        try:
            self._join(line, scope)
            await _start(send)
        except BaseException:
            line.leave()
            raise
        line.start(self._events, wire, chunked(self._hello))

    def _read(self, scope: HTTPScope) -> tuple[Wish, Place]:
        query, last = scope["query_string"], header(scope, b"last-event-id")
        return read_request(query, last, self._names, self._http)

    def _join(self, mailbox: Mailbox, scope: HTTPScope) -> None:
        """Put a client into its group, which alone keeps what was asked for."""
        wish, place = self._read(scope)
        self._demand.note(wish.selection)
        mailbox.join(self._hub.groups.find(wish, trim), place)
        # No two streams that begin together end together.
        jitter_ms = self._http.stream_life_jitter_ms
        life_ms = self._http.stream_life_ms - jitter_ms + randbelow(2 * jitter_ms + 1)
        mailbox.due_ms = self._hub.clock.monotonic_ms() + life_ms
        if place.cursor is not None and self._hub.board.is_behind(place.cursor):
            self._hub.nudge()

    async def _send_events(
        self, mailbox: Mailbox, receive: Receive, send: Send
    ) -> None:
        clock = self._hub.clock
        chunk = self._hello
        while True:
            mailbox.begin(clock.monotonic_ms())
            await _write(send, chunk)
            if mailbox.lags:
                await _write(send, _NOTHING)
            mailbox.writing = False
            if clock.monotonic_ms() >= mailbox.due_ms:
                break
            chunk = mailbox.take_notice()
            if chunk:
                continue
            frame = await mailbox.listen()
            if frame is not None:
                chunk = frame.event
            elif has_hung_up(receive):
                return
            else:
                chunk = mailbox.take_notice() or _COMMENT
                self._renew(mailbox)
        await _write(send, farewell(self._http), more=False)

    def _renew(self, mailbox: Mailbox) -> None:
        """Ask again for what a client that stays wants."""
        if mailbox.group is not None:
            self._demand.note(mailbox.group.wish.selection)


def farewell(http: Http) -> bytes:
    """Say when to come back; not everybody at once."""
    return b"retry: %d\n\n" % (http.retry_ms + randbelow(http.retry_ms))


async def _start(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})


async def _write(send: Send, chunk: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": more})


def route(
    hub: Hub, names: Names, http: Http, *, demand: Demand, seen: Seen
) -> ASGIRouteHandler:
    """Return the handler of ``/v1/stream``."""
    stream = Stream(hub, names, http, demand)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await send({"type": "websocket.close", "code": 4404, "reason": "no socket"})
            return
        if scope["method"] not in READ:
            raise MethodNotAllowedException(headers={"allow": ", ".join(READ)})
        seen[(PATH, 200)] += 1
        await stream.serve(scope, receive, send)

    return asgi(PATH, copy_scope=False, methods=READ)(serve)
