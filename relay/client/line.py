"""What both clients tell httpx: headers, limits, time-outs; and what its errors mean.

Pure. Who asks stands in ``asynchronous`` and ``synchronous``.
"""

from typing import Final

import httpx

from relay import __version__
from relay.client.errors import Unreachable

HEADERS: Final = {"user-agent": f"price-relay-client/{__version__}"}
LIMITS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=20)
"""Each feed holds a connection for itself, so that none may wait for another."""

_CONNECT_S: Final = 5.0


def timeout(silent_s: float) -> httpx.Timeout:
    """Return how long a connection may be silent."""
    return httpx.Timeout(silent_s, connect=_CONNECT_S)


def broken(url: str, error: httpx.HTTPError) -> Unreachable:
    """Return what an error of the line means."""
    silent = isinstance(error, httpx.ReadTimeout)
    if isinstance(error, httpx.TimeoutException):
        return Unreachable(url, "nothing came in time", silent=silent)
    return Unreachable(url, str(error).strip().rstrip(".") or type(error).__name__)
