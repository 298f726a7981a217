"""Whatever a client writes is read, or refused by name. No sockets here."""

from decimal import Decimal
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.config import load
from relay.delivery.poll import read_question
from relay.delivery.query import FIELDS, Names, read_ask
from relay.delivery.sse import read_request
from relay.delivery.value import add_up, one_quote, read_holdings, read_portfolio
from relay.delivery.ws import error_message, read_message
from relay.errors import RequestError
from relay.model import is_instrument

SETTINGS = load(environ={}).settings
NAMES, HTTP = Names(SETTINGS.board), SETTINGS.http

# Letters of many scripts, look-alikes, signs that turn the direction of writing, and
# what separates our own parts.
_TEXTS = st.text(
    st.one_of(
        st.sampled_from(
            "BTC-USDbtc/$.,:;=&%?#+ ~*\"'<>\\\x00\r\n\t"
            "\u0392\u0422\u202e\u200b\uff0d\ufeff\u00df\ufb00"
        ),
        st.characters(),
    ),
    max_size=60,
)
_PARAMETERS = st.sampled_from(
    ["symbols", "list", "fields", "cursor", "wait", "align", "every", "holdings", "x"]
)
_QUERIES = st.one_of(
    st.binary(max_size=200),
    st.lists(st.tuples(_PARAMETERS, _TEXTS), max_size=6).map(
        lambda pairs: "&".join(
            f"{name}={quote(text, errors='replace')}" for name, text in pairs
        ).encode()
    ),
)


@given(_QUERIES)
@example(b"symbols=" + b"BTC-USD," * 3000)
@example(b"symbols=%ff%fe")
@example(b"symbols=" + quote("B\u0422C-USD").encode())
@example(b"list=\xff")
@example(b"&" * 3000)
def test_any_query_is_a_selection_or_refused(query: bytes) -> None:
    """What is accepted has one spelling, and that spelling means the same."""
    try:
        ask = read_ask(query, NAMES, HTTP, also=("cursor", "wait", "every"))
    except RequestError:
        return
    assert all(is_instrument(name) for name in ask.selection.instruments or ())
    assert set(ask.fields) <= {*FIELDS, "offset", "stale", "via"}
    again = read_ask(ask.canonical.encode(), NAMES, HTTP)
    assert (again.selection, again.fields) == (ask.selection, ask.fields)
    assert again.canonical == ask.canonical
    assert ask.canonical.isascii(), "it is sent in a header"
    assert ask.canonical.isprintable()


@given(_QUERIES)
@example(b"wait=999999999s")
@example(b"wait=" + "٣".encode())
def test_any_query_is_a_poll_or_refused(query: bytes) -> None:
    """A hold is never longer than the platform allows."""
    try:
        question = read_question(query, NAMES, HTTP, align_ms=1000)
    except RequestError:
        return
    assert 0 <= question.wait_ms <= HTTP.wait_max_ms


@given(_QUERIES, st.binary(max_size=80))
@example(b"", b"k3f9.7qx.1763635200123\r\nx: y")
@example(b"", b"k3f9.7qx." + b"9" * 5000)
@example(b"", b"\x00")
def test_any_last_event_id_is_a_place_or_refused(query: bytes, last: bytes) -> None:
    """Proxies pass on whatever bytes they were given."""
    try:
        wish, _ = read_request(query, last, NAMES, HTTP)
    except RequestError:
        return
    assert wish.pace_ms == 0 or wish.pace_ms in HTTP.paces_ms


@given(_TEXTS)
@example("BTC-USD:" + "9" * 5000)
@example("BTC-USD:٣")
@example(":1")
@example(",".join(["BTC-USD:" + "9" * 20] * 500))
def test_any_holdings_are_added_up_or_refused(text: str) -> None:
    """Amounts stay exact and are never below zero."""
    try:
        amounts = add_up(read_holdings(text), NAMES, HTTP)
        one_quote(amounts)
    except RequestError:
        return
    assert amounts
    assert all(
        amount >= Decimal(0) and amount.is_finite() for amount in amounts.values()
    )


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(_TEXTS, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.binary(max_size=200))
@example(b'{"holdings":{"BTC-USD":' + b"[" * 60_000)
@example(b'{"holdings":{"BTC-USD":"\\ud800"}}')
@example(b'{"holdings":{"\\ud800":"1"}}')
@example(b'{"holdings":{"BTC-USD":1e400}}')
@example(b'{"holdings":{"BTC-USD":-0}}')
@example(b'{"holdings":{"BTC-USD":' + b"9" * 5000 + b"}}")
def test_any_body_is_a_portfolio_or_refused(body: bytes) -> None:
    """A body nested beyond reason is the client's mistake, not ours."""
    try:
        amounts = add_up(read_portfolio(body), NAMES, HTTP)
    except RequestError:
        return
    assert all(amount.is_finite() for amount in amounts.values())


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200)))
@example('{"x":' * 30_000)
@example(b'{"type":"subscribe","symbols":["\xed\xa0\x80"]}')
@example('{"type":"subscribe","symbols":["\\ud800"]}')
@example("[" * 60_000)
@example(b"\xff\xfe")
def test_any_message_is_understood_or_refused(message: str | bytes) -> None:
    """What was wrong can always be told, as JSON."""
    try:
        read_message(message)
    except RequestError as error:
        told = error_message(error)
    else:
        return
    assert told.startswith('{"type":"error"')


@pytest.mark.parametrize("sign", ["\r\n", "\x00", "\u2028", "\x1b[31m"])
def test_no_control_character_reaches_an_answer_as_it_came(sign: str) -> None:
    """A log or a terminal that shows it would be talked to by a stranger."""
    with pytest.raises(RequestError) as caught:
        NAMES.resolve(f"BTC{sign}USD")
    assert sign not in str(caught.value)
