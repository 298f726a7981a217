"""Decimal text as it stands in JSON, digit for digit. No float, no rounding.

Decode numbers with ``float_hook=str`` into fields of type ``object``: a fraction is
then its own text, an integer an ``int`` of any size, and a null stays None.
"""

from decimal import Decimal, InvalidOperation
from typing import Final

# No price, size or supply is anywhere near; without a bound, `1e999999999` would be
# written out as a gigabyte of zeros.
_DIGITS_MAX: Final = 400


def text_of(value: object) -> str:
    """Return a JSON number or text as plain decimal text, empty for anything else."""
    if type(value) is str:
        return plain(value) if "e" in value or "E" in value else value
    return str(value) if type(value) is int else ""


def price_of(value: object) -> str:
    """Return decimal text like ``text_of``, empty for zero: no price, not a price."""
    # Nearly always it is text without an exponent: the hot path takes it as it is.
    if type(value) is not str or "e" in value or "E" in value:
        value = text_of(value)
    return value if value.strip("-0.") else ""


def plain(text: str) -> str:
    """Write an exponent out: ``1e-07`` becomes ``0.0000001``.

    Text that is no number stays as it is, for the reader to judge; a number that
    nobody could mean becomes empty.
    """
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    if abs(number.adjusted()) > _DIGITS_MAX:
        return ""
    return format(number, "f")
