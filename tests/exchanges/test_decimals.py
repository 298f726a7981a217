"""Decimal text, digit for digit."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.exchanges.decimals import plain, price_of, text_of

_decode = msgspec.json.Decoder(float_hook=str).decode


@pytest.mark.parametrize(
    ("sent", "published"),
    [
        (b"0.10025", "0.10025"),
        (b"740.0", "740.0"),
        (b"61000", "61000"),
        (b"1e-07", "0.0000001"),
        (b"1.234e-05", "0.00001234"),
        (b"1.20E+3", "1200"),
        (b'"87711.199999999997089617"', "87711.199999999997089617"),
        (b'"1.5e-3"', "0.0015"),
        (b"123456789012345678901234567890", "123456789012345678901234567890"),
        (b"-0.17", "-0.17"),
        (b'"elsewhere"', "elsewhere"),
        (b"1e999999999", ""),
        (b"null", ""),
        (b"true", ""),
        (b"[1]", ""),
    ],
)
def test_a_number_keeps_every_digit_that_was_sent(sent: bytes, published: str) -> None:
    """A trailing zero shows the tick size; an exponent is written out."""
    assert text_of(_decode(sent)) == published


@pytest.mark.parametrize("sent", [b"0", b"0.0", b'"0.00000000"', b"-0.0", b"0e-8"])
def test_zero_is_no_price(sent: bytes) -> None:
    """Dead symbols are quoted at zero; publishing that would ring every alarm."""
    assert price_of(_decode(sent)) == ""


def test_a_price_below_zero_is_left_for_the_judge_who_counts() -> None:
    """Values that cannot be true are dropped in one place, and counted there."""
    assert price_of("-1.5") == "-1.5"


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_written_out_number_is_the_same_number(number: Decimal) -> None:
    """Writing an exponent out must not change the value by a hair."""
    text = plain(f"{number:E}")
    assert text == "" or Decimal(text) == number
