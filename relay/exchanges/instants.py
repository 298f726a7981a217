"""Instants as exchanges write them, in Unix time. Nothing here asks for the time.

An instant that cannot be read is 0, as one that was not sent: a price with a damaged
time is still a price.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

# The year 9999 in microseconds: whatever is beyond is not an instant.
_MICROS_MAX: Final = 253_402_300_800_000_000

# Numbers below are seconds until the year 5138, numbers above milliseconds since 1973.
_SECONDS_MAX: Final = 100_000_000_000


def micros_of_iso(text: object) -> int:
    """Read RFC 3339 text into microseconds; finer digits are cut off."""
    if type(text) is not str:
        return 0
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return 0
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return max(0, (instant - _EPOCH) // _MICROSECOND)


def micros_of_seconds(text: str) -> int:
    """Read seconds with a fraction, as decimal text, into microseconds."""
    try:
        micros = Decimal(text).scaleb(6)
        return int(micros) if 0 <= micros < _MICROS_MAX else 0
    except InvalidOperation:
        return 0


def millis_of(value: object) -> int:
    """Read RFC 3339 text, or a count of seconds or milliseconds, into milliseconds."""
    if type(value) is not int:
        return micros_of_iso(value) // 1000
    millis = value * 1000 if value < _SECONDS_MAX else value
    return millis if 0 <= millis < _MICROS_MAX // 1000 else 0
