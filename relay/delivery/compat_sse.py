"""``GET /api/market-data/stream``: the older server-sent events, one for each pair.

What is sent and when is decided in ``group``, how it is written in ``compat``.

A stream begins with a comment and the newest known price of each pair, then one event
for each pair and change. It has no cursor: who comes back is told everything anew.
"""

import asyncio
from secrets import randbelow
from typing import Final
from urllib.parse import parse_qs

from litestar import asgi
from litestar.enums import HttpMethod, ScopeType
from litestar.exceptions import MethodNotAllowedException
from litestar.handlers import ASGIRouteHandler
from litestar.types import HTTPScope, Receive, Scope, Send

from relay.delivery.answer import NO_STORE, NOSNIFF, READ, Headers, Seen
from relay.delivery.compat import Asked
from relay.delivery.compat_scene import Parts
from relay.delivery.line import hang_up, has_hung_up, when_gone
from relay.delivery.query import QueryInvalid, trim
from relay.group import NOWHERE, Mailbox, Wish
from relay.hub import Hub

PATH: Final = "/api/market-data/stream"

_HEADERS: Final[Headers] = [
    (b"content-type", b"text/event-stream"),
    NO_STORE,
    NOSNIFF,
    # nginx passes each event on as it comes.
    (b"x-accel-buffering", b"no"),
]
_COMMENT: Final = b":\n\n"
# Written so that the client's last write drains before the next is chosen.
_NOTHING: Final = b""
# Parameters in one query: more than any client has.
_PARAMETERS_MAX: Final = 20


def read_pairs(query: bytes) -> list[str]:
    """Return the texts of ``pairs=``; other parameters are ignored.

    Raises:
        QueryInvalid: the query is not UTF-8, or there is no ``pairs=``.
    """
    try:
        given = parse_qs(
            query.decode("ascii"), errors="strict", max_num_fields=_PARAMETERS_MAX
        )
    except ValueError:  # UnicodeDecodeError is one
        given = {}
    if "pairs" not in given:
        raise QueryInvalid(
            "No pairs can be read from the query.", "Write pairs=BTC/USD,ETH/USD."
        )
    return ",".join(given["pairs"]).split(",")


class Stream:
    """Sends events to clients, each as fast as it reads."""

    def __init__(self, hub: Hub, parts: Parts) -> None:
        self._hub, self._parts = hub, parts
        self._hello = b":\nretry: %d\n\n" % parts.http.retry_ms

    async def serve(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Serve one client until its time is over, it hangs up or takes nothing.

        Raises:
            RequestError: the request is malformed.
            Unready: this instance has too much to do.
        """
        parts = self._parts
        pairs = read_pairs(scope["query_string"])
        asked = Asked.read(pairs, parts.names, parts.http)
        if scope["method"] == HttpMethod.HEAD:
            await _start(send)
            await _write(send, _NOTHING, more=False)
            return
        with self._hub.open("sse") as mailbox:
            self._join(mailbox, asked)
            when_gone(scope, mailbox.wake)
            try:
                async with asyncio.timeout(None) as mailbox.limit:
                    await _start(send)
                    await self._send_events(mailbox, asked, receive, send)
            except TimeoutError:
                await hang_up(scope)

    def _join(self, mailbox: Mailbox, asked: Asked) -> None:
        http = self._parts.http
        self._parts.demand.note(asked.selection)
        group = self._hub.groups.find(Wish(asked.selection), trim)
        mailbox.join(group, NOWHERE)
        # No two streams that begin together end together.
        jitter_ms = http.stream_life_jitter_ms
        life_ms = http.stream_life_ms - jitter_ms + randbelow(2 * jitter_ms + 1)
        mailbox.due_ms = self._hub.clock.monotonic_ms() + life_ms

    async def _send_events(
        self, mailbox: Mailbox, asked: Asked, receive: Receive, send: Send
    ) -> None:
        clock = self._hub.clock
        chunk = self._hello
        while True:
            if chunk:
                mailbox.begin(clock.monotonic_ms())
                await _write(send, chunk)
                if mailbox.lags:
                    await _write(send, _NOTHING)
                mailbox.writing = False
            if clock.monotonic_ms() >= mailbox.due_ms:
                break
            frame = await mailbox.listen()
            if frame is not None:
                phase = self._parts.scene.phase(live=self._hub.live)
                streams = phase == "connected"
                chunk = self._parts.writer.events(frame, asked, streams=streams)
            elif has_hung_up(receive):
                return
            else:
                chunk = self._comment(mailbox, asked)
        retry_ms = self._parts.http.retry_ms
        farewell = b"retry: %d\n\n" % (retry_ms + randbelow(retry_ms))
        await _write(send, farewell, more=False)

    def _comment(self, mailbox: Mailbox, asked: Asked) -> bytes:
        """Return what a client hears that was quiet; it still wants the same."""
        now_ms = self._hub.clock.monotonic_ms()
        if not mailbox.is_idle(now_ms, self._parts.http.heartbeat_ms):
            return _NOTHING
        self._parts.demand.note(asked.selection)
        return _COMMENT


async def _start(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})


async def _write(send: Send, chunk: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": more})


def route(hub: Hub, parts: Parts, seen: Seen) -> ASGIRouteHandler:
    """Return the handler of the older stream."""
    stream = Stream(hub, parts)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await send({"type": "websocket.close", "code": 4404, "reason": "no socket"})
            return
        if scope["method"] not in READ:
            raise MethodNotAllowedException(headers={"allow": ", ".join(READ)})
        seen[(PATH, 200)] += 1
        await stream.serve(scope, receive, send)

    return asgi(PATH, copy_scope=False, methods=READ)(serve)
