"""Coinbase Exchange's requests and answers, from the notes on its protocol."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from relay.errors import ExchangeDown, FrameError, RateLimited, Refused, UnknownSymbol
from relay.exchanges.adapter import Adapter, Request
from relay.exchanges.coinbase_exchange import CoinbaseExchange
from relay.model import Listing, Update
from tests.exchanges.answers import SENT_MS, answer_to, settings_of

SETTINGS = settings_of("coinbase-exchange")
ADAPTER = CoinbaseExchange(SETTINGS)
CHECKED: Adapter = ADAPTER
BTC = Listing(symbol="BTC-USD", base="BTC", quote="USD")
ETH = Listing(symbol="ETH-EUR", base="ETH", quote="EUR")
AGENT = (("user-agent", "price-relay"),)


def request_of(path: str) -> Request:
    """Return the request that an address stands for."""
    found = ADAPTER.recognise(path, ())
    assert found is not None
    return found


def test_the_symbol_table_is_one_request_with_a_user_agent() -> None:
    """Requests without one are said to be refused."""
    assert ADAPTER.symbol_requests() == [
        Request(
            exchange="coinbase-exchange",
            purpose="symbols",
            path="/products",
            headers=AGENT,
        )
    ]


@pytest.mark.parametrize(
    ("changed", "active"),
    [
        ({}, True),
        ({"status": "online", "trading_disabled": False}, True),
        ({"status": "online", "cancel_only": True}, True),
        ({"status": "delisted"}, False),
        ({"status": "online", "trading_disabled": True}, False),
    ],
)
def test_old_products_stay_in_the_list_with_their_status(
    changed: dict[str, object],
    active: bool,  # noqa: FBT001  a column of the table
) -> None:
    """Rows of 2017 have no status at all."""
    row = {"id": "BTC-USD", "base_currency": "BTC", "quote_currency": "USD", **changed}
    answer = answer_to(ADAPTER.symbol_requests()[0], json.dumps([row]))
    assert list(ADAPTER.read_symbols([answer])) == [replace(BTC, active=active)]


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b"[{}]", b"\xff"])
def test_a_symbol_table_nobody_can_read_is_a_frame_error(body: bytes) -> None:
    """An empty table would drop every instrument."""
    with pytest.raises(FrameError, match=r"^coinbase-exchange rest:products: "):
        ADAPTER.read_symbols([answer_to(ADAPTER.symbol_requests()[0], body)])


def test_a_product_id_is_our_own_spelling() -> None:
    """Base and quote, in upper case."""
    assert ADAPTER.listing_of("BTC-USD") == BTC
    assert ADAPTER.listing_of("BTCUSD") is None


def test_each_product_is_one_request() -> None:
    """No request covers several, and the day's figures come with the stream."""
    requests = ADAPTER.snapshot_requests([ETH, BTC, BTC])
    assert requests == [
        Request(
            exchange="coinbase-exchange",
            purpose="snapshot",
            path=f"/products/{symbol}/ticker",
            headers=AGENT,
            symbols=(symbol,),
        )
        for symbol in ("BTC-USD", "ETH-EUR")
    ]


@pytest.mark.parametrize(
    ("changed", "bodies"),
    [
        ({"channels": ("ticker_batch",)}, ["ticker"]),
        ({"channels": ("matches",)}, ["ticker", "stats"]),
        ({"channels": ()}, ["ticker", "stats"]),
        ({"ws_url": ""}, ["ticker", "stats"]),
    ],
)
def test_the_days_figures_are_asked_for_only_where_no_stream_brings_them(
    changed: dict[str, object], bodies: list[str]
) -> None:
    """They double the number of requests."""
    adapter = CoinbaseExchange(replace(SETTINGS, **changed))
    paths = [request.path for request in adapter.snapshot_requests([BTC])]
    assert paths == [f"/products/BTC-USD/{body}" for body in bodies]


def test_a_product_ticker_has_the_last_trades_time() -> None:
    """Its body names no product: the request does."""
    body = (
        '{"ask":"4417.01","bid":"4417","volume":"7878.23402368","trade_id":21554152,'
        '"price":"4417.01000000","size":"0.00000225",'
        '"time":"2017-10-03T04:00:31.887000Z","rfq_volume":"1.0"}'
    )
    answer = answer_to(request_of("/products/btc-usd/ticker"), body, age_ms=500)
    assert ADAPTER.read_snapshot(answer) == [
        Update(
            exchange="coinbase-exchange",
            channel="rest:products/{id}/ticker",
            symbol="BTC-USD",
            received_ms=SENT_MS - 500,
            event_ms=1_507_003_231_887,
            sequence=21_554_152,
            snapshot=True,
            price="4417.01000000",
            bid="4417",
            ask="4417.01",
            volume_24h="7878.23402368",
        )
    ]


def test_a_products_day_has_figures_and_no_time() -> None:
    """It is as old as the question."""
    body = (
        '{"open":"60000","high":"62000","low":"59000.5","last":"61000.10",'
        '"volume":"9000.5","volume_30day":"300000"}'
    )
    answer = answer_to(request_of("/products/BTC-USD/stats"), body)
    assert ADAPTER.read_snapshot(answer) == [
        Update(
            exchange="coinbase-exchange",
            channel="rest:products/{id}/stats",
            symbol="BTC-USD",
            received_ms=SENT_MS,
            snapshot=True,
            price="61000.10",
            change_24h_pct="1.667",
            high_24h="62000",
            low_24h="59000.5",
            volume_24h="9000.5",
        )
    ]


@pytest.mark.parametrize("body", ['{"price":""}', '{"price":"0.00"}', '{"price":null}'])
def test_a_product_without_a_price_is_left_out(body: str) -> None:
    """It may have been listed this minute."""
    answer = answer_to(request_of("/products/BTC-USD/ticker"), body)
    assert ADAPTER.read_snapshot(answer) == []


@given(st.binary())
def test_any_body_is_read_or_raises_a_frame_error(body: bytes) -> None:
    """A proxy in maintenance answers anything."""
    for path in ("/products/A-B/ticker", "/products/A-B/stats"):
        with suppress(FrameError):
            ADAPTER.read_snapshot(answer_to(request_of(path), body))


@pytest.mark.parametrize("body", [b"", b"[]", b'{"message":"x"}', b"<html>", b"\xff"])
@pytest.mark.parametrize("path", ["/products/A-B/ticker", "/products/A-B/stats"])
def test_a_body_nobody_can_read_is_a_frame_error(path: str, body: bytes) -> None:
    """An object without a price is not a product without one."""
    with pytest.raises(FrameError, match=rf"^coinbase-exchange rest:{path}: "):
        ADAPTER.read_snapshot(answer_to(request_of(path), body))


def test_an_answer_of_another_address_is_not_guessed() -> None:
    """Candles have prices too, but of other times."""
    request = Request(exchange=ADAPTER.name, purpose="snapshot", path="/time")
    with pytest.raises(FrameError, match=r"^coinbase-exchange rest:/time: "):
        ADAPTER.read_snapshot(answer_to(request, "{}"))


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, "{}", type(None)),
        (200, "<html>", ExchangeDown),
        (429, '{"message":"Public rate limit exceeded"}', RateLimited),
        (404, '{"message":"NotFound"}', Refused),
        (403, "<html>1020", Refused),
        (503, "", ExchangeDown),
    ],
)
def test_every_answer_that_is_no_list_is_named(
    status: int, body: str, kind: type[object]
) -> None:
    """The status decides; the body holds only words."""
    answer = answer_to(request_of("/products"), body, status=status)
    found = ADAPTER.read_failure(answer)
    assert type(found) is kind
    assert found is None or found.exchange == "coinbase-exchange"
    assert ADAPTER.read_usage(answer) == []


@pytest.mark.parametrize("body", ["ticker", "stats"])
def test_a_product_that_is_not_there_is_the_only_one_to_blame(body: str) -> None:
    """Each has a request of its own, so the others are asked for all the same."""
    request = request_of(f"/products/FOO-USD/{body}")
    found = ADAPTER.read_failure(
        answer_to(request, '{"message":"NotFound"}', status=404)
    )
    assert isinstance(found, UnknownSymbol)
    assert f"/products/FOO-USD/{body} was answered with HTTP 404" in str(found)
    page = answer_to(request, "<html>", status=404)
    assert type(ADAPTER.read_failure(page)) is Refused, "an edge knows no products"


@pytest.mark.parametrize(
    ("path", "purpose", "symbols"),
    [
        ("/products", "symbols", ()),
        ("/products/btc-usd/ticker", "snapshot", ("BTC-USD",)),
        ("/products/BTC-USD/stats", "snapshot", ("BTC-USD",)),
        ("/products/BTC-USD/book", None, None),
        ("/products/stats", None, None),
        ("/time", None, None),
    ],
)
def test_recorded_addresses_are_recognised(
    path: str, purpose: str | None, symbols: tuple[str, ...] | None
) -> None:
    """Old clients wrote product ids in lower case."""
    found = ADAPTER.recognise(path, [("level", "1")])
    assert (found and found.purpose) == purpose
    assert (found and found.symbols) == symbols
    assert found is None or found.query == (("level", "1"),)


def test_a_session_carries_the_configured_channels() -> None:
    """The configuration decides what is streamed."""
    assert ADAPTER.streams
    (message,) = ADAPTER.session(["BTC-USD"]).opened()
    assert json.loads(message)["channels"] == ["ticker", "heartbeat"]
