"""What a client may write, and what it means."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from relay.config import Settings, load
from relay.delivery.query import FIELDS, Names, QueryInvalid, read_ask, trim
from relay.errors import RequestError, SelectionInvalid
from relay.model import Selection, is_instrument

SETTINGS = load(environ={}).settings
NAMES = Names(SETTINGS.board)


@pytest.mark.parametrize(
    ("text", "instrument"),
    [
        ("BTC-USD", "BTC-USD"),
        ("btc-usd", "BTC-USD"),
        ("BTC/USD", "BTC-USD"),
        ("btc/eur", "BTC-EUR"),
        ("BTC", "BTC-USD"),
        (" eth ", "ETH-USD"),
        ("bitcoin", "BTC-USD"),
        ("Bitcoin", "BTC-USD"),
        ("bitcoin-cash", "BCH-USD"),
        ("avalanche-2", "AVAX-USD"),
        ("bitcoin/eur", "BTC-EUR"),
        ("NOPE", "NOPE-USD"),
        ("1INCH-USDT", "1INCH-USDT"),
    ],
)
def test_an_instrument_answers_to_all_of_its_names(text: str, instrument: str) -> None:
    """Front ends bring their own ids; nobody should have to translate them."""
    assert NAMES.resolve(text) == instrument


@pytest.mark.parametrize("text", ["USD", "usd", "USD-USD", "btc/btc", "bitcoin-BTC"])
def test_nothing_is_priced_in_itself(text: str) -> None:
    """It would be one, for ever missing, and nobody would know why."""
    with pytest.raises(SelectionInvalid, match="priced in itself"):
        NAMES.resolve(text)


@pytest.mark.parametrize("text", ["", " ", "-", "a b", "BTC-USD-X", "-USD", "<b>", "/"])
def test_what_cannot_be_a_name_is_refused(text: str) -> None:
    """A mistake is told, and not kept as an instrument that is missing."""
    with pytest.raises(SelectionInvalid):
        NAMES.resolve(text)


@given(st.text())
def test_any_text_is_an_instrument_or_refused(text: str) -> None:
    """Whatever arrives, nothing else than our own error comes out, and it is stable."""
    try:
        instrument = NAMES.resolve(text)
    except SelectionInvalid:
        return
    assert is_instrument(instrument)
    assert NAMES.resolve(instrument) == instrument


@pytest.mark.parametrize(
    ("query", "canonical"),
    [
        (b"", ""),
        (b"symbols=ETH-USD,BTC-USD", "symbols=BTC-USD,ETH-USD"),
        (b"symbols=btc%2Cbitcoin,BTC%2FUSD", "symbols=BTC-USD"),
        (b"symbols=BTC,,ETH,", "symbols=BTC-USD,ETH-USD"),
        (b"list=majors", "list=majors"),
        (b"fields=bid,price&symbols=BTC", "symbols=BTC-USD&fields=price,bid"),
        (b"fields=price,price,offset", "fields=price"),
        (b"fields=offset", "fields=offset"),
        (b"fields=" + ",".join(FIELDS).encode(), ""),
        (b"cursor=k3.a.1&list=majors", "list=majors"),
    ],
)
def test_one_selection_has_one_spelling(query: bytes, canonical: str) -> None:
    """Caches know URLs only, so every spelling is told where it belongs."""
    ask = read_ask(query, NAMES, SETTINGS.http, also=("cursor",))
    assert ask.canonical == canonical


def test_a_list_is_the_selection_of_its_instruments() -> None:
    """Whoever names the same instruments holds the same cursor."""
    listed = read_ask(b"list=majors", NAMES, SETTINGS.http)
    assert listed.selection == Selection.of(SETTINGS.board.lists["majors"])


def test_other_parameters_are_handed_on_as_they_came() -> None:
    """What a route's own parameters mean is the route's to say."""
    ask = read_ask(
        b"cursor=a.b.1~x&wait=5", NAMES, SETTINGS.http, also=("cursor", "wait")
    )
    assert ask.more == {"cursor": "a.b.1~x", "wait": "5"}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (b"symbol=BTC", "query_invalid"),
        (b"symbols=BTC&symbols=ETH", "query_invalid"),
        (b"cursor=a.b.1", "query_invalid"),
        (b"fields=prize", "query_invalid"),
        (b"fields=", "query_invalid"),
        (b"symbols=%ff", "query_invalid"),
        (b"symbols=\xff", "query_invalid"),
        (b"&".join([b"symbols=A"] * 50), "query_invalid"),
        (b"symbols=", "selection_invalid"),
        (b"symbols=,", "selection_invalid"),
        (b"symbols=a b", "selection_invalid"),
        (b"list=nope", "selection_invalid"),
        (b"list=", "selection_invalid"),
        (b"list=majors&symbols=BTC", "selection_invalid"),
    ],
)
def test_a_malformed_query_is_told_what_is_wrong(query: bytes, code: str) -> None:
    """A code for programs, a sentence and a hint for people."""
    with pytest.raises(RequestError) as caught:
        read_ask(query, NAMES, SETTINGS.http)
    assert caught.value.code == code
    assert caught.value.reason
    assert caught.value.hint


def test_an_unknown_parameter_is_told_the_known_ones() -> None:
    """It would make a URL of its own in every cache, and be a mistake as well."""
    with pytest.raises(QueryInvalid, match="symbols, list, fields, wait"):
        read_ask(b"wiat=5", NAMES, SETTINGS.http, also=("wait",))


def test_a_selection_has_a_limit(settings: Settings) -> None:
    """Spellings of one instrument count once, but not without end."""
    http = replace(settings.http, selection_max=2)
    same = read_ask(b"symbols=BTC,bitcoin,btc-usd,ETH", NAMES, http)
    assert same.selection == Selection.of(["BTC-USD", "ETH-USD"])
    with pytest.raises(SelectionInvalid, match="at most 2"):
        read_ask(b"symbols=BTC,ETH,SOL", NAMES, http)
    with pytest.raises(SelectionInvalid, match="at most 2"):
        read_ask(b"symbols=" + b",".join([b"BTC"] * 9), NAMES, http)


def test_trimming_keeps_every_digit_and_what_a_value_is_worth() -> None:
    """Nobody can leave out that a price is old, or in another currency."""
    ticker = (
        b'{"price":"61000.1200","bid":"61000.11","source":"kraken","via":"USDT",'
        b'"received_ms":5,"stale":true,"offset":9}'
    )
    rows = trim({"BTC-USD": ticker}, ("price",))
    assert rows["BTC-USD"] == (
        b'{"price":"61000.1200","via":"USDT","stale":true,"offset":9}'
    )
    assert trim({"BTC-USD": ticker}, ()) == {"BTC-USD": ticker}


def test_a_field_that_a_source_does_not_give_is_absent() -> None:
    """Asking for it does not invent it."""
    trimmed = trim({"A-USD": b'{"price":"1","offset":9}'}, ("price", "volume_24h"))
    assert json.loads(trimmed["A-USD"]) == {"price": "1", "offset": 9}
