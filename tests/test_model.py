"""The nouns: what they accept, and what they keep."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import CursorInvalid, SelectionInvalid
from relay.model import (
    Cursor,
    Listing,
    Selection,
    Symbols,
    Ticker,
    base36,
    change_pct,
    decode_ticker,
    is_instrument,
    is_positive,
    next_offset,
    parse_instrument,
)


@pytest.mark.parametrize(
    ("text", "instrument"),
    [
        ("BTC-USD", "BTC-USD"),
        ("btc/usd", "BTC-USD"),
        (" eth-eur ", "ETH-EUR"),
        ("1000SATS-USDT", "1000SATS-USDT"),
        ("币安人生-USDT", "币安人生-USDT"),
    ],
)
def test_every_spelling_is_one_instrument(text: str, instrument: str) -> None:
    """Clients write what their last source wrote."""
    assert parse_instrument(text) == instrument
    assert is_instrument(instrument)


@pytest.mark.parametrize(
    "text",
    ["", "BTC", "BTC-", "-USD", "BTC USD", "BTC-USD-X", "BTC-US\nD", "a,b-c", "B" * 99],
)
def test_what_is_no_instrument_says_how_to_write_one(text: str) -> None:
    """A malformed name is the client's mistake, and cheap to mend."""
    with pytest.raises(SelectionInvalid, match="BTC-USD"):
        parse_instrument(text)
    assert not is_instrument(text)


@pytest.mark.parametrize(
    ("text", "positive"),
    [
        ("1", True),
        ("0.00000001", True),
        ("1e-07", True),
        ("0", False),
        ("0.00000000", False),
        ("-1", False),
        ("", False),
        ("NaN", False),
        ("Infinity", False),
        ("abc", False),
        ("1_000", False),
        ("\u0661", False),
    ],
)
def test_only_a_finite_number_above_zero_is_positive(
    text: str,
    positive: bool,  # noqa: FBT001 - one column of a table
) -> None:
    """Dead symbols answer with zero, and zero is never a price."""
    assert is_positive(text) is positive


@pytest.mark.parametrize(
    ("opened", "last", "change"),
    [
        ("100", "101", "1.000"),
        ("60000.00", "59250", "-1.250"),
        ("3", "1", "-66.667"),
        ("0", "1", ""),
        ("1", "", ""),
    ],
)
def test_the_change_is_in_percent(opened: str, last: str, change: str) -> None:
    """Not a share, whatever the source does."""
    assert change_pct(opened, last) == change


def test_a_ticker_keeps_every_digit_and_leaves_out_what_is_not_there() -> None:
    """A trailing zero is information: it shows the tick size."""
    ticker = Ticker(price="25.35190000", source="binance", received_ms=7, offset=9)
    text = ticker.encode()
    assert text == (
        b'{"price":"25.35190000","source":"binance","received_ms":7,"offset":9}'
    )
    assert decode_ticker(text) == ticker


def test_the_first_row_of_a_symbol_table_wins() -> None:
    """Where symbols are not unique, the table comes by rank."""
    first = Listing(symbol="bitcoin", base="btc", quote="usd")
    clone = Listing(symbol="bitcoin-2", base="btc", quote="usd")
    symbols = Symbols([first, clone])
    assert list(symbols) == [first]
    assert len(symbols) == 1
    assert symbols.listings_of("bitcoin-2") == ()


def test_one_symbol_may_stand_for_two_instruments() -> None:
    """Coinbase answers a USDC product under its USD twin's name."""
    usd = Listing(symbol="BTC-USD", base="BTC", quote="USD")
    usdc = Listing(symbol="BTC-USDC", base="BTC", quote="USDC", answers_as=("BTC-USD",))
    symbols = Symbols([usd, usdc])
    assert symbols.listings_of("BTC-USD") == (usd, usdc)
    assert symbols.by_instrument["BTC-USDC"] is usdc


@pytest.mark.parametrize(
    ("previous", "now_ms", "offset"), [(5, 9, 9), (9, 5, 10), (9, 9, 10)]
)
def test_offsets_only_grow(previous: int, now_ms: int, offset: int) -> None:
    """Even when the clock steps back."""
    assert next_offset(previous, now_ms) == offset


def test_a_selection_is_its_instruments_in_any_order() -> None:
    """Many spellings, one cache entry, one cursor."""
    selection = Selection.of(["ETH-USD", "BTC-USD", "ETH-USD"])
    assert selection == Selection.of(["BTC-USD", "ETH-USD"])
    assert selection.instruments == ("BTC-USD", "ETH-USD")
    assert selection.hash != Selection.of(["BTC-USD"]).hash
    assert "BTC-USD" in selection
    assert "SOL-USD" not in selection
    assert "SOL-USD" in Selection.of(None)


@given(
    st.from_regex(r"[0-9a-z]{1,12}", fullmatch=True),
    st.from_regex(r"[0-9a-z]{1,13}", fullmatch=True),
    st.integers(0, 10**16 - 1),
    st.text(max_size=9),
)
def test_a_cursor_comes_back_as_it_was_given(
    epoch: str, selection: str, offset: int, suffix: str
) -> None:
    """Whatever suffix the way out put behind it."""
    cursor = Cursor(epoch, selection, offset)
    assert Cursor.parse(f"{cursor}~{suffix}") == cursor
    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a.b",
        "a.b.c",
        "A.b.1",
        "a.b.-1",
        "a.b.1.2",
        "a.b.\u0661",
        "a.b.1 ",
        "~a.b.1",
    ],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(CursorInvalid, match="not one of ours"):
        Cursor.parse(text)


@given(st.text())
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    """No other error may reach a client."""
    try:
        cursor = Cursor.parse(text)
    except CursorInvalid:
        return
    assert text.startswith(str(cursor).rpartition(".")[0])


@given(st.integers(0, 10**18))
def test_base_36_is_base_36(number: int) -> None:
    """Epochs are ordered by it."""
    assert int(base36(number), 36) == number
