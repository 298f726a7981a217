"""What both clients tell httpx: address, headers, time-outs; and what its errors mean.

Pure. Who asks stands in ``asynchronous`` and ``synchronous``.
"""

import ssl
from collections.abc import Iterator
from typing import Any, Final

import httpx
from msgspec import Struct

from relay import __version__
from relay.client.errors import Unreachable
from relay.client.question import Request, without_login
from relay.errors import plain_reason

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
        url = without_login(self.url)
        if isinstance(error, httpx.TimeoutException):
            return Unreachable(url, "nothing came in time", silent=silent)
        causes = [plain_reason(one) for one in _behind(error) if _is_system(one)]
        said = causes[-1] if causes else str(error).strip().rstrip(".")
        return Unreachable(url, said or type(error).__name__)


def _behind(error: BaseException) -> Iterator[OSError]:
    """Yield what the machine said, the sentences around it first."""
    one: BaseException | None = error
    while one is not None:
        if isinstance(one, OSError):
            yield one
        # httpcore keeps what it was told as an argument, and the event loop the causes
        # of several addresses in a group.
        several = one.exceptions if isinstance(one, BaseExceptionGroup) else one.args
        wrapped = (other for other in several if isinstance(other, BaseException))
        one = one.__cause__ or next(wrapped, None)


def _is_system(error: OSError) -> bool:
    """Tell whether an error's number is the machine's: TLS has numbers of its own."""
    return bool(error.errno) and not isinstance(error, ssl.SSLError)
