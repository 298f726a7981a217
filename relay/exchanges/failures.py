"""What an HTTP status and its headers mean, whatever the exchange.

Not here: the shapes in which each exchange writes its errors into bodies.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final, Literal

from msgspec import DecodeError, Struct

from relay.errors import (
    Banned,
    ExchangeDown,
    ExchangeError,
    RateLimited,
    Refused,
    UnknownSymbol,
)
from relay.exchanges.adapter import Answer

# What a JSON decoder raises over bytes that it cannot read: not JSON or not our shape,
# not UTF-8, nested beyond reason.
UNREADABLE: Final = (DecodeError, UnicodeDecodeError, RecursionError)

_MILLISECOND: Final = timedelta(milliseconds=1)

# Nobody means longer; a number beyond is a mistake, and would overflow a clock.
_WAIT_MAX_MS: Final = 30 * 24 * 3_600_000

# Who is down does not know for how long: it may be up again sooner.
_DOWN_MAX_MS: Final = 15 * 60_000

# Seconds in plain digits (RFC 9110, 10.2.3), with a fraction that some edges write. No
# exponent: `1e999990` alone would keep us busy for half a minute.
_is_seconds: Final = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{0,15})?").fullmatch

Kind = Literal["key", "blocked", "retired"]

_LIMITED: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.IM_A_TEAPOT)
_REFUSED: Final[dict[int, Kind]] = {
    HTTPStatus.UNAUTHORIZED: "key",
    HTTPStatus.FORBIDDEN: "blocked",
    HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS: "blocked",
    HTTPStatus.GONE: "retired",
}
# The server's wish to be asked again, not a fault of the request.
_AGAIN: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY)


class Advice(Struct, frozen=True, kw_only=True):
    """How one exchange refuses: its own figures and sentences.

    ``scope`` is what its limits count by, ``wait_ms`` the pause after a 429 that does
    not name one. ``key`` and ``blocked`` tell a person what to do. ``shared`` tells
    that one edge limits REST and streams alike: a 429 of either is meant for both.
    """

    scope: str
    wait_ms: int
    key: str
    blocked: str
    shared: bool = False


def retry_after_ms(answer: Answer) -> int | None:
    """Return how long ``Retry-After`` asks us to wait, None when it does not.

    It is seconds, or a date; a date is judged by the answer's own ``Date``, since
    neither our clock nor the exchange's need be right.
    """
    text = answer.headers.get("retry-after", "").strip()
    if _is_seconds(text):
        wait_ms = int(Decimal(text) * 1000)
    else:
        until, now = _http_date(text), _http_date(answer.headers.get("date", ""))
        if until is None:
            return None
        now = now or datetime.fromtimestamp(answer.received_ms // 1000, UTC)
        wait_ms = (until - now) // _MILLISECOND
    return min(max(wait_ms, 0), _WAIT_MAX_MS)


def _http_date(text: str) -> datetime | None:
    try:
        instant = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return instant.replace(tzinfo=instant.tzinfo or UTC)


def limited(answer: Answer, advice: Advice, wait_ms: int = 0) -> RateLimited:
    """Say how long to stay away: as asked, or for the exchange's usual time."""
    wait_ms = retry_after_ms(answer) or wait_ms or advice.wait_ms
    # A 429 is about the limit that was passed; a 418 bans the address.
    banned = answer.status == HTTPStatus.IM_A_TEAPOT
    kind = Banned if banned else RateLimited
    failure = kind(answer.request.exchange, advice.scope, wait_ms)
    if advice.shared and answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        failure.everywhere = True
    return failure


def by_status(answer: Answer, advice: Advice) -> ExchangeError | None:
    """Say what is wrong by the status alone, None for a 200 with a JSON body."""
    status = answer.status
    if status == HTTPStatus.OK:
        return None if looks_like_json(answer) else down(answer, "not JSON")
    if status in _LIMITED:
        return limited(answer, advice)
    if status in _REFUSED:
        return refused(answer, advice, _REFUSED[status])
    if 400 <= status < 500 and status not in _AGAIN:  # noqa: PLR2004  HTTP's own class
        return bad_request(answer)
    failure = down(answer, f"HTTP {status}")
    failure.retry_after_ms = min(retry_after_ms(answer) or 0, _DOWN_MAX_MS)
    return failure


def refused(answer: Answer, advice: Advice, kind: Kind) -> Refused:
    """Say that a person must act, and what to do."""
    gone = f"{answer.request.path} is gone: update the relay"
    words = {"key": advice.key, "blocked": advice.blocked}.get(kind, gone)
    return Refused(answer.request.exchange, kind, words)


def bad_request(answer: Answer, reason: str = "") -> Refused:
    """Say that our own request was wrong; asking again would be, too."""
    return Refused(answer.request.exchange, "request", _answered(answer, reason))


def unknown_symbol(answer: Answer, reason: str = "") -> UnknownSymbol:
    """Say that one of the symbols asked for is none, without knowing which."""
    return UnknownSymbol(answer.request.exchange, _answered(answer, reason))


def _answered(answer: Answer, reason: str) -> str:
    said = f"{answer.request.path} was answered with HTTP {answer.status}"
    return f"{said}: {reason}" if reason else said


def down(answer: Answer, cause: str) -> ExchangeDown:
    """Say that the exchange does not work at the moment."""
    return ExchangeDown(answer.request.exchange, cause)


def looks_like_json(answer: Answer) -> bool:
    """Tell JSON from an edge's HTML page by its first character."""
    return answer.body.lstrip()[:1] in (b"{", b"[")
