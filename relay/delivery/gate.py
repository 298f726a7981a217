"""Who asks, and how much one address may: requests in a time, and open at once.

How many are served in all stands in ``hub``, connections in ``server``.
"""

import math
from collections import Counter
from functools import lru_cache
from ipaddress import ip_network
from typing import Final

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from relay.clock import Clock
from relay.config import Http
from relay.delivery.answer import header
from relay.delivery.contract import Fault, Told
from relay.errors import RelayError

_FORWARDED: Final = b"x-forwarded-for"
_NOBODY: Final = ""
# A network of IPv6 that one customer gets, and uses any address of.
_CUSTOMER_BITS: Final = 64
_ADDRESSES_MAX: Final = 4096
# Whoever watches over us asks often, and must not be refused for it.
_FREE: Final = frozenset({"/healthz", "/readyz", "/metrics"})

_HINT: Final = "Ask less often, or again after Retry-After seconds."


class TooMany(RelayError):
    """One address asks for more than it may. ``code`` is ``rate`` or ``crowd``."""

    def __init__(self, code: str, reason: str, retry_after_s: int) -> None:
        super().__init__(code, reason, retry_after_s)
        self.code, self.reason, self.retry_after_s = code, reason, retry_after_s

    def __str__(self) -> str:
        return self.reason


def address_of(scope: Scope, trusted: int) -> str:
    """Return the address of who asks, as far as we can know it.

    ``trusted`` is how many proxies stand before us, each of which adds the address that
    it was asked from; what the client wrote before those is never believed.
    """
    peer = (scope.get("client") or (_NOBODY, 0))[0]
    if not trusted:
        return _customer(peer)
    said = header(scope, _FORWARDED).decode("latin-1")
    addresses = [one.strip() for one in said.split(",") if one.strip()]
    return _customer(addresses[-trusted:][0] if addresses else peer)


@lru_cache(_ADDRESSES_MAX)
def _customer(address: str) -> str:
    """Return an address, of IPv6 the network that one customer has."""
    if ":" not in address:
        return address
    try:
        return str(ip_network(f"{address}/{_CUSTOMER_BITS}", strict=False))
    except ValueError:
        return address  # with a port, or no address at all: as good as any other name


class Gate:
    """Lets requests through, each address as many as it may have.

    ``refused`` counts by code.
    """

    def __init__(self, http: Http, clock: Clock, refused: Counter[str]) -> None:
        self._http, self._clock, self._refused = http, clock, refused
        self._open: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()
        self._window = 0

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Put the gate before an application."""

        async def pass_through(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] in _FREE:
                await app(scope, receive, send)
                return
            address = address_of(scope, self._http.trusted_proxies)
            try:
                self.enter(address)
            except TooMany as error:
                self._refused[error.code] += 1
                if scope["type"] != ScopeType.WEBSOCKET:
                    raise
                await _refuse(error, scope, receive, send)
                return
            try:
                await app(scope, receive, send)
            finally:
                self.leave(address)

        return pass_through

    def enter(self, address: str) -> None:
        """Count a request in.

        Raises:
            TooMany: this address has as many as it may.
        """
        self._count(address)
        most = self._http.address_open_max
        if most and self._open[address] >= most:
            raise TooMany(
                "crowd", f"Your address holds {most} answers open, all it may.", 5
            )
        self._open[address] += 1

    def leave(self, address: str) -> None:
        """Count a request out."""
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]

    def _count(self, address: str) -> None:
        http = self._http
        if not http.address_requests_max:
            return
        now_ms, window_ms = self._clock.monotonic_ms(), http.address_window_ms
        if now_ms // window_ms != self._window:
            self._window = now_ms // window_ms
            self._asked.clear()
        self._asked[address] += 1
        if self._asked[address] > http.address_requests_max:
            left_s = math.ceil((window_ms - now_ms % window_ms) / 1000)
            most = f"{http.address_requests_max} requests in {window_ms} ms"
            raise TooMany("rate", f"Your address may send {most}.", left_s)


async def _refuse(error: TooMany, scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a handshake, with the same answer where the server can give one."""
    await receive()
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1013, "reason": error.reason})
        return
    body = msgspec.json.encode(Told(Fault(error.code, error.reason, _HINT)))
    headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"retry-after", b"%d" % error.retry_after_s),
        (b"content-length", b"%d" % len(body)),
    ]
    await send(
        {
            "type": "websocket.http.response.start",
            "status": 429,
            "headers": headers,
        }
    )
    await send(
        {"type": "websocket.http.response.body", "body": body, "more_body": False}
    )
