"""What both clients tell httpx: address, headers, time-outs; and what its errors mean.

Pure. Who asks stands in ``asynchronous`` and ``synchronous``.
"""

from typing import Any, Final

import httpx
from msgspec import Struct

from relay import __version__
from relay.client.errors import Unreachable
from relay.client.question import Request

HEADERS: Final = {"user-agent": f"price-relay-client/{__version__}"}
LIMITS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=20)
"""Each feed holds a connection for itself, so that none may wait for another."""

_CONNECT_S: Final = 5.0


class Line(Struct, frozen=True):
    """Where a relay is, and the key that it wants to see; empty for none."""

    url: str
    api_key: str = ""

    def call(self, request: Request) -> dict[str, Any]:
        """Return a request as httpx takes it."""
        shown = {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return {
            "url": f"{self.url}{request.place}",
            "headers": {**shown, **request.headers},
            "timeout": httpx.Timeout(request.silent_s, connect=_CONNECT_S),
        }

    def broken(self, error: httpx.HTTPError) -> Unreachable:
        """Return what an error of the line means."""
        silent = isinstance(error, httpx.ReadTimeout)
        if isinstance(error, httpx.TimeoutException):
            return Unreachable(self.url, "nothing came in time", silent=silent)
        cause = str(error).strip().rstrip(".") or type(error).__name__
        return Unreachable(self.url, cause)
