"""What every request comes through: the gate, the doors, and what a browser is told.

What each of them decides stands in ``gate``, ``doors`` and ``cors``; here it is done.
Nothing is inside for long streams: an answer's later parts pass by one plain call.
"""

from collections import Counter
from collections.abc import MutableMapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import quote

from litestar.enums import HttpMethod, ScopeType
from litestar.exceptions import NotFoundException
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from msgspec import Struct

from relay.delivery.answer import Answer, Headers, header, send_answer
from relay.delivery.cors import Cors
from relay.delivery.doors import (
    ANYBODY,
    TICKETED,
    Doors,
    Locked,
    needed,
    private,
    without_ticket,
)
from relay.delivery.gate import Gate, TooMany
from relay.delivery.handshake import refuse
from relay.delivery.line import when_over

_START: Final = "http.response.start"
_CLOSE: Final = "websocket.close"
# What the router says of an error that is no answer of its own.
_INTERNAL: Final = HTTPStatus.INTERNAL_SERVER_ERROR.phrase
_ASKED: Final = b"access-control-request-method"
# An address is not spelled otherwise tomorrow.
_FOR_AN_HOUR: Final = (b"cache-control", b"public, max-age=3600")


class Entrance(Struct, frozen=True):
    """What stands before the routes. Without a gate the platform has one of its own.

    ``refused`` counts by code who had no key; the gate counts for itself.
    """

    doors: Doors
    cors: Cors
    gate: Gate | None
    refused: Counter[str]

    def outside(self, app: ASGIApp) -> ASGIApp:
        """Put before an application what does not depend on the route."""

        async def enter(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == ScopeType.WEBSOCKET:
                await app(scope, receive, _explaining(scope, send))
                return
            assert scope["type"] == ScopeType.HTTP
            asked = self._preflight(scope)
            if asked is not None:
                await send_answer(asked, send, head=False)
                return
            said, moved = self.said(scope), _moved(scope)
            if said:
                send = _adding(send, said)
            if moved is not None:
                await send_answer(moved, send, head=False)
                return
            await app(scope, receive, send)

        return enter

    def said(self, scope: Scope) -> Headers:
        """Return the headers that each answer gets."""
        return self.cors.headers(self._origin(scope))

    def _origin(self, scope: Scope) -> bytes:
        return header(scope, b"origin") if self.cors.answers else b""

    def _preflight(self, scope: HTTPScope) -> Answer | None:
        """Answer a browser that asks whether a page may ask."""
        if scope["method"] != HttpMethod.OPTIONS or not header(scope, _ASKED):
            return None
        origin = self._origin(scope)
        return Answer(204, self.cors.preflight(origin)) if origin else None

    def inside(self, app: ASGIApp) -> ASGIApp:
        """Put before each route what lets a request in, or does not."""

        async def pass_through(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                address = self._let_in(scope)
            except (TooMany, Locked) as error:
                if scope["type"] != ScopeType.WEBSOCKET:
                    raise
                await refuse(scope, send, error)
                return
            if self.doors.private and scope["type"] == ScopeType.HTTP:
                send = _keeping_private(scope, send)
            try:
                await app(scope, receive, send)
            finally:
                if self.gate is not None and address is not None:
                    when_over(scope, partial(self.gate.leave, address))

        return pass_through

    def _let_in(self, scope: Scope) -> str | None:
        """Let a request in; returns the address that is counted as open.

        Raises:
            TooMany: its address has as many as it may.
            Locked: it may not.
        """
        address = self.gate.admit(scope) if self.gate is not None else None
        try:
            self._unlock(scope)
        except Locked as error:
            self.refused[error.code] += 1
            if self.gate is not None and address is not None:
                self.gate.leave(address)
            raise
        return address

    def _unlock(self, scope: Scope) -> None:
        route, query = scope["path_template"], scope["query_string"]
        if not _is_about_methods(scope):
            self.doors.check(route, scope["headers"], query)
        if query and route in TICKETED:
            changed = cast("MutableMapping[str, Any]", scope)
            changed["query_string"] = without_ticket(query)


def _is_about_methods(scope: Scope) -> bool:
    """Tell whether all that is answered is which methods the route takes."""
    if scope["type"] != ScopeType.HTTP:
        return False
    takes = scope["route_handler"].opt.get("methods")
    method = scope["method"]
    return method == HttpMethod.OPTIONS or (takes is not None and method not in takes)


def _moved(scope: HTTPScope) -> Answer | None:
    """Send on who writes slashes that are none of the address."""
    path = scope["path"]
    if "//" not in path and (not path.endswith("/") or path == "/"):
        return None
    place = quote("/" + "/".join(part for part in path.split("/") if part))
    if scope["query_string"]:
        place += f"?{scope['query_string'].decode('latin-1')}"
    return Answer(308, [(b"location", place.encode("latin-1")), _FOR_AN_HOUR])


def _adding(send: Send, more: Headers) -> Send:
    """Return a ``send`` that adds headers to an answer."""

    def sending(message: Message) -> Any:  # noqa: ANN401 - whatever ``send`` returns
        if message["type"] == _START:
            message["headers"] = [*message["headers"], *more]
        return send(message)

    return sending


def _keeping_private(scope: Scope, send: Send) -> Send:
    """Return a ``send`` whose answers shared caches do not keep."""
    if needed(scope["path_template"]) is ANYBODY:
        return send

    def sending(message: Message) -> Any:  # noqa: ANN401 - whatever ``send`` returns
        if message["type"] == _START:
            message["headers"] = private(list(message["headers"]))
        return send(message)

    return sending


def _explaining(scope: Scope, send: Send) -> Send:
    """Return a ``send`` that refuses with a reason what is closed before it is open."""
    begun = False

    def sending(message: Message) -> Any:  # noqa: ANN401 - whatever ``send`` returns
        nonlocal begun
        if message["type"] != _CLOSE or begun:
            begun = True
            return send(message)
        ours = message["reason"] == _INTERNAL
        return refuse(scope, send, Exception() if ours else NotFoundException())

    return sending
