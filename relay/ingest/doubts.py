"""What of an update is not believed, and why: numbers, their order, their times.

No I/O and no clock. Prices that only jump are ``jumps``'s; what becomes of an update
is ``conflate``'s to decide.
"""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Final

from relay.model import Update

# Why something is not believed, as the status shows it.
LATE: Final = "late"
REPEATED: Final = "repeated"
FUTURE: Final = "event in the future"
AHEAD: Final = "event time ahead of its receipt"
UNTRUE_PRICE: Final = "untrue price"
UNTRUE_BOOK: Final = "untrue bid or ask"
UNTRUE_DAY: Final = "untrue day figure"
CROSSED: Final = "bid above ask"
JUMPED: Final = "jump that another source contradicts"
REVOKED: Final = "jump that was taken back"
UNKNOWN: Final = "no such symbol"
UNREADABLE: Final = "ticker nobody can read"

# An event time that is this far ahead of its receipt is a wrong clock's (recorded were
# 4 to 74 ms), or that of a REST answer that was long on its way.
_AHEAD_MS: Final = 5_000

# Decimal text as exchanges write it. ``Decimal`` alone would take blanks, underscores,
# other scripts' digits and a million of them.
_is_decimal: Final = re.compile(
    r"-?[0-9]{1,40}(?:\.[0-9]{0,80})?(?:[eE][+-]?[0-9]{1,3})?"
).fullmatch
_ZERO: Final = Decimal(0)


def read_number(text: str) -> Decimal | None:
    """Return a decimal text's value, None for anything that is no finite number."""
    return Decimal(text) if _is_decimal(text) else None


def read_price(text: str) -> Decimal | None:
    """Return a decimal text's value, None unless it is above zero."""
    if not _is_decimal(text):
        return None
    number = Decimal(text)
    return number if number > _ZERO else None


def read_size(text: str) -> Decimal | None:
    """Return a decimal text's value, None where it is negative."""
    number = read_number(text)
    return number if number is not None and number >= 0 else None


DAY: Final[tuple[tuple[str, Callable[[str], Decimal | None]], ...]] = (
    ("change_24h_pct", read_number),
    ("high_24h", read_price),
    ("low_24h", read_price),
    ("volume_24h", read_size),
    ("volume_24h_quote", read_size),
)
"""The figures of a day, and how each is read."""


def is_late(update: Update, last: Update | None) -> bool:
    """Tell whether an update is older than the one that moved a group last.

    Within a channel and symbol its sequence has been looked at already; otherwise the
    exchange's own times are compared, where both have one, and else those of receipt.
    A time that had not come yet when it was received does not hold up one that had: the
    exchange's clock was ahead, and has been set right.
    """
    if last is None or (
        update.sequence
        and update.channel == last.channel
        and update.symbol == last.symbol
    ):
        return False
    event_ms, last_ms = update.event_ms, last.event_ms
    set_right = is_ahead(last) and not is_ahead(update)
    if event_ms and last_ms and event_ms != last_ms and not set_right:
        return event_ms < last_ms
    return update.received_ms < last.received_ms


def is_ahead(update: Update) -> bool:
    """Tell whether an event's time cannot be true: it had not come at its receipt."""
    return update.event_ms - update.received_ms > _AHEAD_MS


def is_far(number: Decimal, other: Decimal, pct: Decimal) -> bool:
    """Tell whether a number differs from another by more than a share of the other."""
    return abs(number - other) * 100 > other * pct
