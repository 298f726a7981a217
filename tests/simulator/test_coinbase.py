"""Coinbase Advanced Trade's REST: products with their oddities, and ten a second."""

from typing import Any

import msgspec
import pytest

from tests.simulator.driver import Bench

ROOT = "/api/v3/brokerage/"


def products(bench: Bench, query: str = "") -> dict[str, Any]:
    """Give the products of the list by id."""
    body = bench.body("coinbase", f"{ROOT}market/products{query}")
    assert body["num_products"] == len(body["products"])
    return {product["product_id"]: product for product in body["products"]}


def test_a_usdc_product_is_the_alias_of_its_usd_twin(bench: Bench) -> None:
    """They share one book; USDT and EURC are the exceptions."""
    listed = products(bench)
    assert listed["BTC-USD"]["alias_to"] == ["BTC-USDC"]
    assert listed["BTC-USDC"]["alias"] == "BTC-USD"
    assert listed["BTC-USDC"]["quote_currency_id"] == "USDC"
    assert listed["BTC-USDC"]["price"] == listed["BTC-USD"]["price"]
    assert listed["USDT-USDC"]["alias"] == ""
    assert listed["EURC-USDC"]["alias"] == ""
    assert listed["BTC-EUR"]["alias_to"] == []


def test_missing_numbers_are_empty_strings(bench: Bench) -> None:
    """A strict number parser fails on them."""
    listed = products(bench)
    assert listed["BTC-USD"]["mid_market_price"] == ""
    disabled = listed["MATIC-USD"]
    assert disabled["price"] == ""
    assert disabled["is_disabled"]
    assert disabled["trading_disabled"]


def test_futures_are_listed_beside_spot_products(bench: Bench) -> None:
    """Their ids do not split into two parts; ``product_type`` tells them apart."""
    future = products(bench, "?product_type=FUTURE")
    assert set(future) == {"BIT-28NOV26-CDE"}
    assert future["BIT-28NOV26-CDE"]["status"] == ""
    assert "BIT-28NOV26-CDE" not in products(bench, "?product_type=SPOT")


def test_the_list_is_cut_by_its_parameters(bench: Bench) -> None:
    """Ids are repeated, pages have limit and offset."""
    chosen = products(bench, "?product_ids=BTC-USD&product_ids=ETH-EUR")
    assert set(chosen) == {"BTC-USD", "ETH-EUR"}
    first, rest = products(bench, "?limit=3"), products(bench, "?offset=3")
    assert len(first) == 3
    assert not set(first) & set(rest)


def test_one_product_is_answered_under_the_name_asked_for(bench: Bench) -> None:
    """An alias has its own id and the twin's price."""
    one = bench.body("coinbase", ROOT + "market/products/BTC-USDC")
    assert one["product_id"] == "BTC-USDC"
    assert bench.ask("coinbase", ROOT + "market/products/NO-USD").status == 404


def test_a_ticker_has_trades_and_the_best_prices(bench: Bench) -> None:
    """The trades' own bid and ask are empty."""
    ticker = bench.body("coinbase", ROOT + "market/products/BTC-USD/ticker?limit=2")
    assert [trade["bid"] for trade in ticker["trades"]] == ["", ""]
    assert isinstance(ticker["trades"][0]["trade_id"], str)
    assert float(ticker["best_bid"]) < float(ticker["best_ask"])
    assert bench.ask("coinbase", ROOT + "market/products/NO-USD/ticker").status == 404


def test_other_answers_have_their_shapes(bench: Bench) -> None:
    """Rarely read, but what is served must be served right."""
    time = bench.body("coinbase", ROOT + "time")
    assert time["epochMillis"] == str(bench.now_ms)
    assert time["epochSeconds"] == str(bench.now_ms // 1_000)
    candles = bench.body(
        "coinbase", ROOT + "market/products/BTC-USD/candles?start=300&end=900"
    )
    assert [candle["start"] for candle in candles["candles"]] == ["900", "600"]
    book = bench.body("coinbase", ROOT + "market/product_book?product_id=BTC-USD")
    assert book["pricebook"]["bids"][0]["price"]
    spot = bench.body("coinbase", "/v2/prices/BTC-USD/spot")["data"]
    assert (spot["base"], spot["currency"]) == ("BTC", "USD")
    rates = bench.body("coinbase", "/v2/exchange-rates?currency=USD")["data"]
    assert rates["rates"]["BTC"].startswith("0.0000")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("products", 401),
        ("products/BTC-USD", 401),
        ("best_bid_ask", 401),
        ("nothing", 404),
        ("market/product_book?product_id=NO-USD", 404),
        ("market/products/NO-USD/candles", 404),
        ("market/products/BTC-USD/candles?start=0&end=999999", 400),
    ],
)
def test_a_wrong_path_is_refused(bench: Bench, path: str, status: int) -> None:
    """Without ``market`` a token is needed: the usual mistake."""
    assert bench.ask("coinbase", ROOT + path).status == status


def test_the_eleventh_request_within_a_second_gets_429(bench: Bench) -> None:
    """Ten a second and address; the headers count down."""
    left = [
        bench.ask("coinbase", ROOT + "time").headers["x-ratelimit-remaining"]
        for _ in range(10)
    ]
    assert left == [str(number) for number in range(9, -1, -1)]
    refused = bench.ask("coinbase", ROOT + "time")
    assert refused.status == 429
    error = msgspec.json.decode(refused.body)["errors"][0]
    assert error["id"] == "rate_limit_exceeded"
    assert bench.ask("coinbase", ROOT + "time", by="10.0.0.2").status == 200
    bench.now_ms += 1_000
    assert bench.ask("coinbase", ROOT + "time").status == 200


def test_an_injected_429_may_say_when_to_come_back(bench: Bench) -> None:
    """Coinbase's own did not in what was seen; a client honours it if it does."""
    request = bench.request("coinbase", ROOT + "time")
    answer = bench.exchanges["coinbase"].refusal(429, request, 4)
    assert answer.headers["retry-after"] == "4"
    page = bench.exchanges["coinbase"].refusal(503, request, 0)
    assert page.content_type.startswith("text/html")
