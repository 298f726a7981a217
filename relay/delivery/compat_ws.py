"""``/ws/prices`` and ``/ws/prices/{symbol}``: the older WebSocket.

What is sent and when is decided in ``group``, how it is written in ``compat``; reading,
limits and ends are those of ``ws``.

After its greeting a client is sent the prices, all that is selected at first and then
what has changed, at the pace of ``http.older_pace_ms``; and the state, after the first
prices, when it has changed, and now and then while nothing else is sent. It may say
``ping``, as text or as JSON; anything else is answered with an error, which closes
nothing.
"""

import asyncio
from typing import Any, Final

import msgspec
from litestar import WebSocket, asgi, websocket
from litestar.enums import HttpMethod, ScopeType
from litestar.types import ControllerRouterHandler, HTTPScope, Receive, Scope, Send

from relay.delivery import ws
from relay.delivery.answer import Answer, Seen, route_with_symbol
from relay.delivery.compat import EVERYTHING, Asked, Hello, Phase, StateTold, iso
from relay.delivery.compat_scene import Parts
from relay.delivery.query import trim
from relay.delivery.rest import read_symbol
from relay.errors import RequestError, SelectionInvalid
from relay.group import NOWHERE, Frame, Mailbox, Wish
from relay.hub import Hub

PATH: Final = "/ws/prices"
ONE: Final = "/ws/prices/{symbol}"

# Close code of RFC 6455.
_POLICY: Final = 1008

# Timers ring a little early or late: two updates at the pace of the group are not too
# close together.
_PACE_SHARE: Final = 0.9
# How long an early update waits for the group's next, which comes within the pace.
_PATIENCE_SHARE: Final = 1.25

_INSTEAD: Final = "/api/prices"
_PONG_TEXT: Final = "pong"
_PONG: Final = '{"type":"pong"}'


class Session(ws.Session):
    """One client, and what it asked for by connecting."""

    __slots__ = ("_asked", "_due_ms", "_free_ms", "_held", "_older", "_phase")

    def __init__(
        self, parts: ws.Parts, mailbox: Mailbox, older: Parts, asked: Asked
    ) -> None:
        super().__init__(parts, mailbox)
        self._older, self._asked = older, asked
        self._phase: Phase | None = None
        self._held: tuple[Frame, ...] = ()
        # When the next update may be sent, and when one that waits must be.
        self._free_ms = self._due_ms = 0
        parts.demand.note(asked.selection)
        wish = Wish(asked.selection, pace_ms=parts.http.older_pace_ms)
        mailbox.join(parts.hub.groups.find(wish, trim), NOWHERE)
        hello = Hello("connected", iso(parts.hub.clock.wall_ms()))
        self._owed.append(_write(hello))

    def answer(self, text: str | bytes) -> None:
        """Answer a ping in its own words.

        Raises:
            RequestError: it is none.
        """
        if text in ("ping", b"ping"):
            self._owed.append(_PONG_TEXT)
        elif _is_ping(text):
            self._owed.append(_PONG)
        else:
            raise RequestError(
                "message_invalid",
                "The message cannot be understood.",
                "Send ping, as text or as an object with this type.",
            )

    async def _next(self) -> str:
        """Wait for the next message to send."""
        while True:
            if self._owed:
                return self._owed.pop(0)
            self._heed_end()
            frame = await self._box.listen()
            self._look_at_phase()
            update = self._take(frame)
            if update:
                return update

    def _take(self, frame: Frame | None) -> str:
        """Return the update to send, empty while there is none or it is too early.

        The group keeps the pace, but not since a client has come: what comes too soon
        after its first update waits for the group's next, and goes with it.
        """
        now_ms = self._parts.hub.clock.monotonic_ms()
        pace_ms = self._parts.http.older_pace_ms
        if frame is not None:
            self._held += (frame,)
            if now_ms < self._free_ms:
                self._wait(now_ms, int(pace_ms * _PATIENCE_SHARE))
        if not self._held or now_ms < (
            self._due_ms if frame is None else self._free_ms
        ):
            return ""
        frames, self._held = self._held, ()
        update = self._older.writer.update(frames, self._asked)
        if update:
            self._free_ms = now_ms + int(pace_ms * _PACE_SHARE)
        return update

    def _wait(self, now_ms: int, patience_ms: int) -> None:
        """Wait for the group's next update, and send without it after a while."""
        self._due_ms = now_ms + patience_ms
        loop = asyncio.get_running_loop()
        # A little later than due, since timers may ring early.
        loop.call_later((patience_ms + 1) / 1000, self._box.answer, None)

    def _look_at_phase(self) -> None:
        """Tell the state when it has changed, or when nothing else is sent."""
        hub, box = self._parts.hub, self._box
        phase = self._older.scene.phase(live=hub.live)
        idle = box.is_idle(hub.clock.monotonic_ms(), self._parts.http.heartbeat_ms)
        if phase == self._phase and not idle:
            return
        self._phase = phase
        self._parts.demand.note(self._asked.selection)
        sight = self._older.scene.see(hub.board)
        now = iso(hub.clock.wall_ms())
        told = StateTold(phase, sight.source, len(sight.priced), now)
        self._owed.append(_write(told))


def _is_ping(text: str | bytes) -> bool:
    try:
        return isinstance(ws.read_message(text), ws.Ping)
    except ws.MessageInvalid:
        return False


def _write(message: Hello | StateTold) -> str:
    return msgspec.json.encode(message).decode()


class Sockets:
    """Opens sessions on the older paths."""

    def __init__(self, hub: Hub, parts: Parts, seen: Seen) -> None:
        self._older, self._seen = parts, seen
        self._parts = ws.Parts(hub, parts.names, parts.http, parts.demand)
        self._socket = ws.Socket(hub)

    async def serve(
        self, scope: Scope, receive: Receive, send: Send, symbol: str = ""
    ) -> None:
        """Serve one client; without a symbol it is sent the whole board."""

        def begin(mailbox: Mailbox) -> Session:
            return Session(self._parts, mailbox, self._older, self._read(symbol))

        self._seen[(ONE if symbol else PATH, 101)] += 1
        await self._socket.serve(scope, receive, send, begin)

    def _read(self, symbol: str) -> Asked:
        if not symbol:
            return EVERYTHING
        try:
            return Asked.read([symbol], self._parts.names, self._parts.http)
        except SelectionInvalid as error:
            # Without what was asked for: a reason has at most 123 bytes.
            reason = "this is not an instrument, which is for example BTC or BTC-USD"
            raise ws.Closed(_POLICY, reason) from error


def routes(hub: Hub, parts: Parts, seen: Seen) -> list[ControllerRouterHandler]:
    """Return the handlers of the older WebSocket."""
    sockets = Sockets(hub, parts, seen)

    async def serve_all(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.WEBSOCKET:
            await sockets.serve(scope, receive, send)
            return
        assert scope["type"] == ScopeType.HTTP
        await ws.answer_plainly(scope, send, _INSTEAD, seen)

    async def serve_one(socket: WebSocket[Any, Any, Any]) -> None:
        symbol = read_symbol(socket.scope["path_params"])
        await sockets.serve(socket.scope, socket.receive, socket.send, symbol)

    async def refuse(_scope: HTTPScope, _receive: Receive) -> Answer:
        raise ws.NoSocket(_INSTEAD)

    one = [f"{PATH}/{{symbol:str}}", f"{PATH}/{{symbol:str}}/{{currency:str}}"]
    return [
        asgi(PATH, copy_scope=False, methods=(HttpMethod.GET,))(serve_all),
        websocket(one)(serve_one),
        route_with_symbol(one, ("GET",), refuse, seen=seen),
    ]
