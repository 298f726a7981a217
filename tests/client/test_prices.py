"""What is held only goes forward, and keeps every digit."""

from decimal import Decimal
from typing import Any

import pytest

from relay.client.errors import Unavailable
from relay.client.prices import Prices, advance, place_of, read_body
from relay.client.status import read_status


def body(cursor: str, more: str = "", /, *, offset: int = 1, **prices: str) -> bytes:
    """Write a body as the relay does."""
    tickers = ",".join(
        f'"{name.replace("_", "-")}":{{"price":"{price}","offset":{offset}}}'
        for name, price in prices.items()
    )
    return (
        f'{{"cursor":"{cursor}","as_of_ms":{offset},"live":true,{more}'
        f'"prices":{{{tickers}}},"missing":["FOO-USD"],"gone":[]}}'
    ).encode()


def hold(*bodies: bytes) -> Prices:
    """Return what is held after these answers."""
    held = None
    for one in bodies:
        held = advance(held, read_body(one))
    assert held is not None
    return held


def test_prices_are_text_digit_for_digit_and_numbers_on_demand() -> None:
    """A trailing zero is information, and a float would lose it."""
    ticker = hold(body("k.s.1", BTC_USD="61000.10"))["BTC-USD"]
    assert ticker.price == "61000.10"
    assert ticker.decimal() == Decimal("61000.10")
    assert str(ticker.decimal()) == "61000.10"
    assert ticker.decimal("bid") is None


def test_an_answer_with_changes_leaves_the_rest_as_it_was() -> None:
    """Only what changed is sent."""
    first = body("k.s.1", BTC_USD="1", ETH_USD="2")
    held = hold(first, body("k.s.2", BTC_USD="3", offset=2))
    assert {name: one.price for name, one in held.items()} == {
        "BTC-USD": "3",
        "ETH-USD": "2",
    }
    assert held.changed == ("BTC-USD",)
    assert held.missing == ("FOO-USD",)


def test_what_is_held_is_never_replaced_by_something_older() -> None:
    """A cache between may answer with yesterday."""
    newer = body("k.s.5", BTC_USD="5", offset=5)
    held = hold(newer, body("k.s.4", BTC_USD="4", ETH_USD="1", offset=4))
    assert held["BTC-USD"].price == "5"
    assert held.changed == ("ETH-USD",)


def test_earlier_prices_stay_as_they_were() -> None:
    """They are handed out, so they never change."""
    first = hold(body("k.s.1", BTC_USD="1"))
    advance(first, read_body(body("k.s.2", BTC_USD="2", offset=2)))
    assert first["BTC-USD"].price == "1"


@pytest.mark.parametrize(
    "later",
    [
        body("k.s.2", '"reset":true,', ETH_USD="2"),
        body("k.other.2", ETH_USD="2"),
        body("another.s.2", ETH_USD="2"),
        body("no cursor", ETH_USD="2"),
    ],
)
def test_a_whole_answer_replaces_everything(later: bytes) -> None:
    """After a reset, and when a list was defined anew."""
    assert list(hold(body("k.s.9", BTC_USD="1", offset=9), later)) == ["ETH-USD"]


def test_what_was_removed_is_gone() -> None:
    """Nobody refreshes it any more."""
    held = hold(body("k.s.1", BTC_USD="1", ETH_USD="2"))
    told = body("k.s.2").replace(b'"gone":[]', b'"gone":["ETH-USD"]')
    after = advance(held, read_body(told))
    assert (list(after), after.gone) == (["BTC-USD"], ("ETH-USD",))


def test_prices_show_themselves_in_a_notebook() -> None:
    """As one line, and as rows for a table."""
    prices = hold(body("k.s.1", BTC_USD="1.50"))
    assert repr(prices) == "<Prices BTC-USD 1.50>"
    names: dict[str, Any] = {f"N{number}_USD": "1" for number in range(12)}
    many = hold(body("k.s.1", **names))
    assert repr(many).endswith("N9-USD 1, and 2 more>")
    row = prices.rows()[0]
    assert (row["instrument"], row["price"]) == ("BTC-USD", "1.50")


def test_a_place_to_go_on_from_is_a_text_or_prices() -> None:
    """A job keeps the text, a loop the prices."""
    prices = hold(body("k.s.1", BTC_USD="1"))
    assert place_of(prices) == (prices, "k.s.1")
    assert place_of("k.s.7") == (None, "k.s.7")
    assert place_of(None) == (None, "")


@pytest.mark.parametrize("text", [b"", b"<html>", b"{}", b'{"cursor":1}'])
def test_what_is_no_body_says_so(text: bytes) -> None:
    """A login page of some hotel, for instance."""
    with pytest.raises(Unavailable, match="no answer of a relay"):
        read_body(text)
    with pytest.raises(Unavailable, match="no answer of a relay"):
        read_status(text)
