"""What is answered to bytes that never become a request, and how little is said of it.

What becomes one is answered by the application; ``server`` holds the connections.
"""

import logging
from typing import Final

import msgspec
from msgspec import Struct

from relay.clock import Clock
from relay.delivery.answer import Headers
from relay.delivery.bodies import Fault, Told

# Of what a stranger can cause as often as it likes, so much goes to the log.
_SELDOM_MS: Final = 60_000


class Refusal(Struct, frozen=True):
    """An answer after which the connection is closed, all but the server's headers."""

    line: bytes
    rest: bytes

    def written(self, headers: Headers) -> bytes:
        """Return its bytes, with the headers that the server gives every answer."""
        return b"".join(
            (self.line, *(b"%b: %b\r\n" % one for one in headers), self.rest)
        )


def _refuse(line: str, fault: Fault, *headers: str) -> Refusal:
    body = msgspec.json.encode(Told(fault))
    head = (
        "content-type: application/json",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        *headers,
        "connection: close",
        f"content-length: {len(body)}",
    )
    rest = "\r\n".join((*head, "", "")).encode() + body
    return Refusal(f"HTTP/1.1 {line}\r\n".encode(), rest)


MALFORMED: Final = _refuse(
    "400 Bad Request",
    Fault(
        "request_malformed",
        "What was sent is no HTTP request.",
        "Percent-encode the URL, and send one of the methods that /docs names.",
    ),
)
TOO_LONG: Final = _refuse(
    "414 URI Too Long",
    Fault(
        "url_too_long",
        "The URL is longer than 65535 bytes.",
        "Ask for less at once, or for a list.",
    ),
)
TOO_LARGE: Final = _refuse(
    "431 Request Header Fields Too Large",
    Fault(
        "head_too_large",
        "The head of the request is too large.",
        "Send fewer headers, or smaller cookies.",
    ),
)
FULL: Final = _refuse(
    "503 Service Unavailable",
    Fault(
        "busy",
        "This instance holds as many connections as it may.",
        "Ask another instance, or this one again after Retry-After seconds.",
    ),
    "retry-after: 5",
)


class Seldom(logging.Filter):
    """Lets one warning of a minute through, which then says how many there were."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._due_ms: int | None = None
        self._kept = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Let errors through, and a warning when it is time for one."""
        if record.levelno != logging.WARNING:
            return True
        now_ms = self._clock.monotonic_ms()
        if self._due_ms is not None and now_ms < self._due_ms:
            self._kept += 1
            return False
        self._due_ms = now_ms + _SELDOM_MS
        if self._kept:
            record.msg = f"{record.msg} And {self._kept} more such since the last line."
            self._kept = 0
        return True


def seldom_log(name: str, clock: Clock) -> logging.Logger:
    """Return the log of a server's connections."""
    log = logging.getLogger(name)
    # Set, so that nobody writes a line for each connection to find that none is wanted.
    log.setLevel(logging.INFO)
    log.filters = [Seldom(clock)]
    return log
