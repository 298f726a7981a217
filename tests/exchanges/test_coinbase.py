"""Coinbase Advanced Trade's requests and answers, from the notes on its protocol."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from relay.errors import (
    ExchangeDown,
    FrameError,
    RateLimited,
    Refused,
    UnknownSymbol,
)
from relay.exchanges.adapter import Adapter, Request, Usage
from relay.exchanges.coinbase import Coinbase
from relay.model import Listing, Update
from tests.exchanges.answers import SENT_MS, answer_to, settings_of

ADAPTER = Coinbase(settings_of("coinbase"))
CHECKED: Adapter = ADAPTER
LIST = "/api/v3/brokerage/market/products"

PRODUCT = {
    "product_id": "BTC-USD",
    "price": "68925.98",
    "price_percentage_change_24h": "-0.28225832119521",
    "volume_24h": "11005.02587005",
    "status": "online",
    "is_disabled": False,
    "trading_disabled": False,
    "product_type": "SPOT",
    "quote_currency_id": "USD",
    "base_currency_id": "BTC",
    "mid_market_price": "",
    "alias": "",
    "alias_to": ["BTC-USDC"],
    "approximate_quote_24h_volume": "758532193.02",
    "best_bid_price": "",
    "best_ask_price": "",
}
TWIN = {
    **PRODUCT,
    "product_id": "BTC-USDC",
    "quote_currency_id": "USDC",
    "alias": "BTC-USD",
    "alias_to": [],
}
UPDATE = Update(
    exchange="coinbase",
    channel="rest:products",
    symbol="BTC-USD",
    received_ms=SENT_MS - 1000,
    snapshot=True,
    price="68925.98",
    change_24h_pct="-0.28225832119521",
    volume_24h="11005.02587005",
    volume_24h_quote="758532193.02",
)


def products(*rows: object) -> str:
    """Write the list of products."""
    body = {"products": rows, "num_products": len(rows), "pagination": None}
    return json.dumps(body)


def request_of(path: str) -> Request:
    """Return the request that an address stands for."""
    found = ADAPTER.recognise(path, ())
    assert found is not None
    return found


def listings(count: int) -> list[Listing]:
    """Return listings, in no order."""
    return [
        Listing(symbol=f"C{number:04}-USD", base=f"C{number:04}", quote="USD")
        for number in reversed(range(count))
    ]


def test_one_request_brings_the_symbol_table() -> None:
    """Only spot products split into two halves."""
    assert ADAPTER.symbol_requests() == [
        Request(
            exchange="coinbase",
            purpose="symbols",
            path=LIST,
            query=(("product_type", "SPOT"),),
        )
    ]


@pytest.mark.parametrize(
    "rows",
    [
        (PRODUCT, TWIN),
        (PRODUCT, {**TWIN, "alias": ""}),
        ({**PRODUCT, "alias_to": []}, TWIN),
    ],
)
def test_a_usdc_product_answers_as_its_usd_twin(rows: tuple[object, ...]) -> None:
    """The link stands on either row; without it data seem not to arrive."""
    answer = answer_to(ADAPTER.symbol_requests()[0], products(*rows))
    symbols = ADAPTER.read_symbols([answer])
    usd = Listing(symbol="BTC-USD", base="BTC", quote="USD")
    usdc = Listing(symbol="BTC-USDC", base="BTC", quote="USDC", answers_as=("BTC-USD",))
    assert set(symbols.listings_of("BTC-USD")) == {usd, usdc}
    # The list gives each its own price, so the USD one must not take the other's.
    assert symbols.listings_of("BTC-USDC") == (usdc,)


@pytest.mark.parametrize(
    ("changed", "active"),
    [
        ({}, True),
        ({"status": ""}, True),
        ({"view_only": True}, True),
        ({"status": "delisted"}, False),
        ({"is_disabled": True}, False),
        ({"trading_disabled": True}, False),
    ],
)
def test_a_product_is_active_while_it_trades(
    changed: dict[str, object],
    active: bool,  # noqa: FBT001  a column of the table
) -> None:
    """A disabled product keeps a price that nobody will change."""
    answer = answer_to(ADAPTER.symbol_requests()[0], products({**PRODUCT, **changed}))
    (listing,) = ADAPTER.read_symbols([answer])
    assert listing.active is active


@pytest.mark.parametrize("key", sorted(PRODUCT.keys() - {"product_id"}))
def test_a_null_costs_one_product_at_most(key: str) -> None:
    """Empty text stands for a missing number today, and did not always."""
    odd = {**PRODUCT, "product_id": "ODD-USD", "base_currency_id": "ODD", key: None}
    answer = answer_to(ADAPTER.symbol_requests()[0], products(odd, PRODUCT))
    symbols = ADAPTER.read_symbols([answer])
    assert symbols.by_instrument["BTC-USD"].active
    assert all("" not in name.split("-") for name in symbols.by_instrument)
    assert ADAPTER.read_snapshot(answer)[-1].price == PRODUCT["price"]


def test_what_is_not_spot_has_no_place_in_the_table() -> None:
    """A future's id does not split into two parts."""
    future = {**PRODUCT, "product_id": "BIT-28NOV26-CDE", "product_type": "FUTURE"}
    nameless = {**PRODUCT, "base_currency_id": ""}
    answer = answer_to(ADAPTER.symbol_requests()[0], products(future, nameless))
    assert len(ADAPTER.read_symbols([answer])) == 0


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"products":[{}]}', b"\xff"])
def test_a_symbol_table_nobody_can_read_is_a_frame_error(body: bytes) -> None:
    """An empty table would drop every instrument."""
    with pytest.raises(FrameError, match=r"^coinbase rest:products: "):
        ADAPTER.read_symbols([answer_to(ADAPTER.symbol_requests()[0], body)])


@pytest.mark.parametrize(
    ("symbol", "halves"),
    [
        ("BTC-USD", ("BTC", "USD")),
        ("1INCH-USDC", ("1INCH", "USDC")),
        ("BTC-PERP-INTX", None),
        ("BIT-28NOV26-CDE", None),
        ("BTCUSD", None),
        ("btc-usd", None),
        ("", None),
    ],
)
def test_a_product_id_of_two_parts_tells_its_halves(
    symbol: str, halves: tuple[str, str] | None
) -> None:
    """The canonical form is the product id; futures have a third part."""
    found = ADAPTER.listing_of(symbol)
    assert (found and (found.base, found.quote)) == halves


def test_a_few_products_are_asked_for_by_name() -> None:
    """The whole list is most of a megabyte."""
    (request,) = ADAPTER.snapshot_requests([*listings(2), *listings(2)])
    assert request.path == LIST
    assert request.query == (("product_ids", "C0000-USD"), ("product_ids", "C0001-USD"))
    assert request.symbols == ("C0000-USD", "C0001-USD")
    assert request.costs == (("weight", 1),)


def test_many_products_are_asked_for_as_the_whole_list() -> None:
    """One request of weight 1 covers any number of them."""
    (request,) = ADAPTER.snapshot_requests(listings(101))
    assert request.query == (("product_type", "SPOT"),)
    assert request.symbols == ()
    assert len(ADAPTER.snapshot_requests(listings(100))[0].query) == 100
    assert ADAPTER.snapshot_requests([]) == []


def test_the_list_gives_every_price_and_is_as_old_as_its_question() -> None:
    """The rows have no time, and answers are cached for about a second."""
    (request,) = ADAPTER.symbol_requests()
    body = products(PRODUCT, {**TWIN, "price": ""}, {**TWIN, "price": "0.00"})
    assert ADAPTER.read_snapshot(answer_to(request, body, age_ms=1000)) == [UPDATE]


def test_one_product_is_read_like_a_row_of_the_list() -> None:
    """The best prices are often empty, and shown where they are not."""
    row = {**PRODUCT, "best_bid_price": "68925.97", "best_ask_price": "68925.98"}
    answer = answer_to(request_of(f"{LIST}/BTC-USD"), json.dumps(row), age_ms=1000)
    assert ADAPTER.read_snapshot(answer) == [
        replace(UPDATE, channel="rest:products/{id}", bid="68925.97", ask="68925.98")
    ]


TRADE = {
    "trade_id": "995098663",
    "product_id": "BTC-USD",
    "price": "68923.67",
    "time": "2026-04-07T00:28:58.544778Z",
    "bid": "",
    "ask": "",
}
OLDER = {**TRADE, "price": "1.0", "time": "2026-04-07T00:28:58.25Z"}


def test_the_newest_of_the_last_trades_is_the_price() -> None:
    """It has a time of its own, which the best bid and ask have not."""
    body = {"trades": [OLDER, TRADE], "best_bid": "68923.66", "best_ask": "68923.67"}
    answer = answer_to(request_of(f"{LIST}/BTC-USD/ticker"), json.dumps(body))
    assert ADAPTER.read_snapshot(answer) == [
        Update(
            exchange="coinbase",
            channel="rest:products/{id}/ticker",
            symbol="BTC-USD",
            received_ms=SENT_MS,
            event_ms=1_775_521_738_544,
            sequence=995_098_663,
            snapshot=True,
            price="68923.67",
            bid="68923.66",
            ask="68923.67",
        )
    ]


def test_a_product_nobody_has_traded_has_no_price() -> None:
    """A book alone is no ticker."""
    body = '{"trades":[],"best_bid":"","best_ask":""}'
    answer = answer_to(request_of(f"{LIST}/BTC-USD/ticker"), body)
    assert ADAPTER.read_snapshot(answer) == []


def test_an_old_retail_price_is_a_price() -> None:
    """It is cached for a minute, and a fallback only."""
    body = '{"data":{"amount":"61000.1","base":"BTC","currency":"USD"}}'
    answer = answer_to(request_of("/v2/prices/BTC-USD/spot"), body)
    (update,) = ADAPTER.read_snapshot(answer)
    assert (update.symbol, update.price) == ("BTC-USD", "61000.1")


PATHS = (LIST, f"{LIST}/A-B", f"{LIST}/A-B/ticker", "/v2/prices/A-B/spot")


@given(st.binary())
def test_any_body_is_read_or_raises_a_frame_error(body: bytes) -> None:
    """A proxy in maintenance answers anything."""
    for path in PATHS:
        with suppress(FrameError):
            ADAPTER.read_snapshot(answer_to(request_of(path), body))


@pytest.mark.parametrize("body", [b"", b"[]", b'{"message":"x"}', b"<html>", b"\xff"])
@pytest.mark.parametrize("path", PATHS)
def test_a_body_nobody_can_read_is_a_frame_error(path: str, body: bytes) -> None:
    """An object without a price is not a product without one."""
    with pytest.raises(FrameError, match=rf"^coinbase rest:{path}: "):
        ADAPTER.read_snapshot(answer_to(request_of(path), body))


def test_an_answer_of_another_address_is_not_guessed() -> None:
    """Candles have prices too, but of other times."""
    request = Request(exchange="coinbase", purpose="snapshot", path="/time")
    with pytest.raises(FrameError, match=r"^coinbase rest:/time: "):
        ADAPTER.read_snapshot(answer_to(request, "{}"))


LIMITED = '{"errors":[{"id":"rate_limit_exceeded","message":"Too many requests"}]}'


@pytest.mark.parametrize(
    ("status", "body", "headers", "wait_ms"),
    [
        (429, LIMITED, {}, 5_000),
        (429, "slow down", {"retry-after": "2"}, 2_000),
        (
            429,
            "",
            {
                "retry-after": "Thu, 01 Oct 2026 10:00:30 GMT",
                "date": "Thu, 01 Oct 2026 10:00:00 GMT",
            },
            30_000,
        ),
    ],
)
def test_any_429_is_a_limit_whatever_its_body(
    status: int, body: str, headers: dict[str, str], wait_ms: int
) -> None:
    """Retry-After is obeyed where there is one."""
    answer = answer_to(request_of(LIST), body, status=status, headers=headers)
    found = ADAPTER.read_failure(answer)
    assert isinstance(found, RateLimited)
    assert (found.scope, found.retry_after_ms) == ("address", wait_ms)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, "key"), (403, "blocked"), (410, "retired"), (404, "request")],
)
def test_a_refusal_says_of_which_kind_it_is(status: int, kind: str) -> None:
    """A missing ``/market`` in the path is the usual 401."""
    body = '{"error":"NOT_FOUND","error_details":"x","message":"y"}'
    found = ADAPTER.read_failure(answer_to(request_of(LIST), body, status=status))
    assert isinstance(found, Refused)
    assert found.kind == kind


@pytest.mark.parametrize("status", [400, 404])
def test_a_product_that_is_not_found_is_told_from_a_wrong_request(status: int) -> None:
    """One bad name of many: whoever asked can ask for the others."""
    (named,) = ADAPTER.snapshot_requests(listings(3))
    body = '{"error":"NOT_FOUND","error_details":"x","message":"y"}'
    found = ADAPTER.read_failure(answer_to(named, body, status=status))
    assert isinstance(found, UnknownSymbol)
    for other in ('{"error":"INVALID_ARGUMENT"}', "not found", "[]", "\xff"):
        found = ADAPTER.read_failure(answer_to(named, other, status=status))
        assert type(found) is Refused


@pytest.mark.parametrize(("status", "body"), [(200, "<html>1020"), (503, "{}")])
def test_an_incident_is_the_exchanges_fault(status: int, body: str) -> None:
    """Cloudflare stands in front, and answers in HTML."""
    found = ADAPTER.read_failure(answer_to(request_of(LIST), body, status=status))
    assert isinstance(found, ExchangeDown)


def test_a_good_answer_is_no_failure() -> None:
    """Only the status and the first byte are looked at."""
    assert ADAPTER.read_failure(answer_to(request_of(LIST), products())) is None


@pytest.mark.parametrize(
    ("headers", "used"),
    [
        ({"x-ratelimit-limit": "10", "x-ratelimit-remaining": "7"}, 3),
        ({"x-ratelimit-limit": "10", "x-ratelimit-remaining": "12"}, 0),
        ({"x-ratelimit-limit": "10000", "x-ratelimit-remaining": "7"}, None),
        ({"x-ratelimit-limit": "10", "x-ratelimit-remaining": "few"}, None),
        ({"x-ratelimit-limit": "10"}, None),
        ({}, None),
    ],
)
def test_headers_count_only_where_they_count_what_we_count(
    headers: dict[str, str], used: int | None
) -> None:
    """Their window is not documented: an hour's count would stop us for good."""
    answer = answer_to(request_of(LIST), "{}", headers=headers)
    expected = [] if used is None else [Usage(limit="weight", used=used)]
    assert ADAPTER.read_usage(answer) == expected


@pytest.mark.parametrize(
    ("path", "symbols"),
    [
        (LIST, ()),
        ("/api/v3/brokerage/products", ()),
        (f"{LIST}/btc-usd", ("BTC-USD",)),
        (f"{LIST}/BTC-USD/ticker", ("BTC-USD",)),
        ("/api/v3/brokerage/products/BTC-USD/ticker", ("BTC-USD",)),
        ("/v2/prices/BTC-USD/spot", ("BTC-USD",)),
        (f"{LIST}/BTC-USD/candles", None),
        ("/api/v3/brokerage/market/product_book", None),
        ("/v2/exchange-rates", None),
        ("/api/v3/brokerage/time", None),
    ],
)
def test_recorded_addresses_are_recognised_with_and_without_a_token(
    path: str, symbols: tuple[str, ...] | None
) -> None:
    """The private paths answer what the public ones do."""
    found = ADAPTER.recognise(path, [("limit", "3")])
    assert (found and found.symbols) == symbols
    assert found is None or (found.purpose, found.query) == (
        "snapshot",
        (("limit", "3"),),
    )


def test_a_session_carries_the_configured_channels() -> None:
    """The configuration decides what is streamed."""
    assert ADAPTER.streams
    assert [
        json.loads(one)["channel"] for one in ADAPTER.session(["A-B"]).opened()
    ] == [
        "heartbeats",
        "ticker",
    ]


@pytest.mark.parametrize("changed", [{"ws_url": ""}, {"channels": ()}])
def test_without_address_or_channels_nothing_is_streamed(
    changed: dict[str, object],
) -> None:
    """REST alone is a valid way to run."""
    assert not Coinbase(replace(settings_of("coinbase"), **changed)).streams
