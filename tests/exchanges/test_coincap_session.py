"""CoinCap's stream of prices: flat objects, and one text frame that is not JSON."""

import pytest
from hypothesis import given

from relay.errors import FrameError
from relay.exchanges.adapter import Denied
from relay.exchanges.coincap_session import CoinCapSession
from relay.model import Update
from tests.exchanges.answers import mangled

RECEIVED_MS = 1_760_000_000_000
HEADERS = (("authorization", "Bearer k"),)

PRICES = b'{"bitcoin":"61000.12","ethereum":"2500.34"}'
TRADE = (
    b'{"exchange":"binance","base":"nuls","quote":"ethereum","direction":"buy",'
    b'"price":0.00595824,"volume":187,"timestamp":1528743937726,"priceUsd":3.180}'
)


def _session(*symbols: str) -> CoinCapSession:
    return CoinCapSession(HEADERS, symbols)


def test_a_frame_has_only_what_changed_and_no_time() -> None:
    """Each price is an update of its own, stamped on arrival."""
    assert list(_session().receive(PRICES, received_ms=RECEIVED_MS)) == [
        Update(
            exchange="coincap",
            channel="prices",
            symbol=slug,
            received_ms=RECEIVED_MS,
            price=price,
        )
        for slug, price in (("bitcoin", "61000.12"), ("ethereum", "2500.34"))
    ]


@pytest.mark.parametrize(
    ("frame", "prices"),
    [
        (b'{"a":"0.000000000000001234"}', ["0.000000000000001234"]),
        (b'{"a":"1.2e-7"}', ["0.00000012"]),
        (b'{"a":61000.10,"b":7}', ["61000.10", "7"]),
        (b'{"a":null,"b":"","c":"0.0","d":"3"}', ["3"]),
        (b'{"message":"0.5"}', ["0.5"]),
        (b"{}", []),
    ],
)
def test_texts_numbers_and_nulls_are_expected(frame: bytes, prices: list[str]) -> None:
    """Nothing forbids any of them, and one of them must not cost the others."""
    updates = _session().receive(frame, received_ms=RECEIVED_MS)
    assert [update.price for update in updates] == prices


def test_the_url_subscribes() -> None:
    """There is no message for it: another set of assets is another connection."""
    session = _session("ethereum", "bitcoin", "bitcoin")
    assert session.target == "/prices?assets=bitcoin,ethereum"
    assert session.headers == HEADERS
    assert not session.rules.in_place
    assert not [
        *session.opened(),
        *session.subscribe(["xrp"]),
        *session.unsubscribe(["bitcoin"]),
        *session.ping(),
    ]


def test_too_many_names_for_a_url_become_all() -> None:
    """It costs the same; what nobody asked for is left out on arrival."""
    session = _session("bitcoin", *(f"some-asset-{number}" for number in range(300)))
    assert session.target == "/prices?assets=ALL"
    (update,) = session.receive(PRICES, received_ms=RECEIVED_MS)
    assert update.symbol == "bitcoin"


@pytest.mark.parametrize(
    "frame",
    [
        b"Unauthorized: upgrade your plan",
        b"  unauthorized",
        b'{"error":"Unauthorized"}',
        b'{"message":"unauthorized key"}',
    ],
)
def test_an_unauthorized_frame_denies_the_connection(frame: bytes) -> None:
    """Connecting again with the same key would meet the same words for ever."""
    session = _session()
    assert not session.receive(frame, received_ms=RECEIVED_MS)
    (notice,) = session.notices
    assert isinstance(notice, Denied)
    assert "RELAY_COINCAP_KEY" in str(notice.error)


@pytest.mark.parametrize(
    "frame", [b"", b"Hello", b"[]", b"\xff", b'{"error":"Internal"}', PRICES[:-1]]
)
def test_an_unreadable_frame_names_its_channel(frame: bytes) -> None:
    """The message alone must tell an operator which feed went wrong."""
    session = _session()
    with pytest.raises(FrameError, match=r"^coincap prices: "):
        session.receive(frame, received_ms=RECEIVED_MS)
    assert not session.notices


def test_a_trade_of_the_retired_stream_is_a_price_where_it_is_in_dollars() -> None:
    """Its own price is in whatever it was quoted in."""
    (update,) = _session().receive(TRADE, received_ms=RECEIVED_MS)
    assert (update.channel, update.symbol, update.price) == ("trades", "nuls", "3.180")
    assert update.event_ms == 1_528_743_937_726
    without = TRADE.replace(b"priceUsd", b"elsewhere")
    assert not _session().receive(without, received_ms=RECEIVED_MS)


@given(mangled([PRICES, TRADE, b'{"error":"Unauthorized"}']))
def test_any_bytes_are_read_or_named_unreadable(frame: bytes) -> None:
    """One frame must never end a connection."""
    try:
        _session().receive(frame, received_ms=RECEIVED_MS)
    except FrameError:
        return
