"""Who asks, and how much one address may: requests in a time, and open at once.

How many are served in all stands in ``hub``, connections in ``server``; what is said to
whom is refused in ``faults``.
"""

import math
from collections import Counter
from functools import lru_cache
from ipaddress import ip_network
from typing import Final

from litestar.types import Scope

from relay.clock import Clock
from relay.config import Http
from relay.delivery.answer import header
from relay.errors import RelayError

_FORWARDED: Final = b"x-forwarded-for"
_NOBODY: Final = ""
# A network of IPv6 that one customer gets, and uses any address of.
_CUSTOMER_BITS: Final = 64
_ADDRESSES_MAX: Final = 4096
# Whoever watches over us asks often, and must not be refused for it.
_FREE: Final = frozenset({"/healthz", "/readyz", "/metrics"})


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

    def admit(self, scope: Scope) -> str | None:
        """Count a request in; returns its address, None where nobody counts.

        Raises:
            TooMany: this address has as many as it may.
        """
        if scope["path"] in _FREE:
            return None
        address = address_of(scope, self._http.trusted_proxies)
        try:
            self.enter(address)
        except TooMany as error:
            self._refused[error.code] += 1
            raise
        return address

    def passes(self, scope: Scope) -> bool:
        """Count a request that is answered at once; when it may not pass, nothing."""
        http = self._http
        address = address_of(scope, http.trusted_proxies)
        if 0 < http.address_open_max <= self._open.get(address, 0):
            return False
        if not http.address_requests_max:
            return True
        self._turn_window()
        if self._asked[address] >= http.address_requests_max:
            return False
        self._asked[address] += 1
        return True

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
        left_ms = self._turn_window()
        self._asked[address] += 1
        if self._asked[address] > http.address_requests_max:
            most = (
                f"{http.address_requests_max} requests in {http.address_window_ms} ms"
            )
            left_s = math.ceil(left_ms / 1000)
            raise TooMany("rate", f"Your address may send {most}.", left_s)

    def _turn_window(self) -> int:
        """Begin a new window, if it is time; returns what is left, in milliseconds."""
        now_ms, window_ms = self._clock.monotonic_ms(), self._http.address_window_ms
        if now_ms // window_ms != self._window:
            self._window = now_ms // window_ms
            self._asked.clear()
        return window_ms - now_ms % window_ms
