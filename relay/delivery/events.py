"""Streams of server-sent events: how one is opened, kept alive, and ended.

What they say stands in ``sse`` and ``compat_sse``; who writes it to whom, in ``rank``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from secrets import randbelow
from typing import Final

from litestar import asgi
from litestar.enums import HttpMethod, ScopeType
from litestar.handlers import ASGIRouteHandler
from litestar.types import HTTPScope, Receive, Scope, Send
from msgspec import Struct

from relay.config import Http
from relay.delivery.answer import (
    NO_STORE,
    NOSNIFF,
    READ,
    Headers,
    Seen,
    answer_about,
    send_answer,
)
from relay.delivery.carry import Carrier
from relay.delivery.demand import Demand
from relay.delivery.line import chunked, wire_of
from relay.delivery.query import trim
from relay.group import Frame, Place, Wish
from relay.hub import Hub
from relay.model import Selection
from relay.rank import Line, Pump, Voice

Framing = Callable[[bytes], bytes]
"""What a connection makes of a part of an answer."""

_HEADERS: Final[Headers] = [
    (b"content-type", b"text/event-stream"),
    NO_STORE,
    NOSNIFF,
    # nginx passes each event on as it comes.
    (b"x-accel-buffering", b"no"),
]
_COMMENT: Final = b":\n\n"


def plain(part: bytes) -> bytes:
    """Leave a part of an answer as it is: something else frames it, or nothing does."""
    return part


class Parts(Struct, frozen=True):
    """What every stream needs, once for all."""

    hub: Hub
    http: Http
    demand: Demand
    pump: Pump


class Events(Voice):
    """Speaks in events."""

    def __init__(self, parts: Parts, framing: Framing) -> None:
        super().__init__(parts.pump)
        self._parts, self._framing = parts, framing
        self._said = self._framed = b""

    @abstractmethod
    def say(self, frame: Frame) -> bytes:
        """Return a frame as events; empty when it says nothing to those who listen."""

    def now_ms(self) -> int:
        """Read the hub's clock."""
        return self._parts.hub.clock.monotonic_ms()

    def hello(self) -> bytes:
        """Return what a stream begins with: whoever buffers lets go at once."""
        return self._framing(b":\nretry: %d\n\n" % self._parts.http.retry_ms)

    def tell(self, frame: Frame) -> bytes:
        """Return the frame's events; they are framed once for those told in a row."""
        said = self.say(frame)
        if said is not self._said:
            self._said, self._framed = said, self._framing(said)
        return self._framed

    def notice(self, notice: bytes) -> bytes:
        """Return an event that has no id."""
        return self._framing(notice)

    def pulse(self, quiet_ms: int) -> bytes:
        """Return a comment, when it is time for one."""
        due = quiet_ms >= self._parts.http.heartbeat_ms
        return self._framing(_COMMENT) if due else b""

    def farewell(self) -> bytes:
        """Say when to come back; not everybody at once."""
        retry_ms = self._parts.http.retry_ms
        return self._framing(b"retry: %d\n\n" % (retry_ms + randbelow(retry_ms)))

    def renew(self, selection: Selection) -> None:
        """Note it again, when the last note is old."""
        self._parts.demand.note(selection)


class Asking(Struct, frozen=True):
    """What one stream asks for, and who speaks to it in the framing that it needs."""

    wish: Wish
    place: Place
    voice: Callable[[Framing], Events]


class Stream(ABC):
    """Opens streams. Each is then its group's to write to, as fast as it reads."""

    def __init__(self, parts: Parts, seen: Seen) -> None:
        self._parts, self._seen = parts, seen

    @abstractmethod
    def read(self, scope: HTTPScope) -> Asking:
        """Read what is asked for.

        Raises:
            RequestError: the request is malformed.
        """

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever it is.

        Raises:
            MethodNotAllowedException: it is by a method that is not answered here.
            RequestError: the request is malformed.
            Unready: this instance has too much to do.
        """
        if scope["type"] != ScopeType.HTTP:
            await send({"type": "websocket.close", "code": 4404, "reason": "no socket"})
        elif scope["method"] not in READ:
            about = answer_about(scope["method"], READ)
            self._seen[(scope["path_template"], about.status)] += 1
            await send_answer(about, send, head=False)
        elif scope["method"] == HttpMethod.HEAD:
            self.read(scope)
            await self._start(scope, send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Open a stream; its connection is handed over, or carried until it ends."""
        asking = self.read(scope)
        line = self._open()
        wire = wire_of(scope) or Carrier(scope, send)
        try:
            await self._start(scope, send)
            self._join(line, asking)
            voice = asking.voice(chunked if wire.chunks else plain)
        except BaseException:
            line.leave()
            raise
        line.start(voice, wire, voice.hello())
        if isinstance(wire, Carrier):
            await wire.carry(receive)

    async def _start(self, scope: HTTPScope, send: Send) -> None:
        self._seen[(scope["path_template"], 200)] += 1
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})

    def _open(self) -> Line:
        """Count a client in, until its time is over.

        Raises:
            Unready: there are too many already, or the instance is about to end.
        """
        line = self._parts.hub.open_as(Line, "sse")
        http = self._parts.http
        # No two streams that begin together end together.
        jitter_ms = http.stream_life_jitter_ms
        life_ms = http.stream_life_ms - jitter_ms + randbelow(2 * jitter_ms + 1)
        line.due_ms = self._parts.hub.clock.monotonic_ms() + life_ms
        return line

    def _join(self, line: Line, asking: Asking) -> None:
        """Put a client into its group, which alone keeps what was asked for."""
        hub = self._parts.hub
        self._parts.demand.note(asking.wish.selection)
        line.join(hub.groups.find(asking.wish, trim), hub.heed(asking.place))


def route(path: str, stream: Stream) -> ASGIRouteHandler:
    """Return the one handler of a stream's path."""
    return asgi(path, copy_scope=False, methods=READ)(stream.answer)
