"""Coinbase Exchange: REST with ETags, and a feed with partial success."""

from typing import Any

import msgspec
import pytest

from relay.simulator.faults import Fault
from relay.simulator.settings import CoinbaseSettings, Settings
from tests.simulator.driver import Bench, said

HOUSE = "coinbase_exchange"


def ask(
    channels: object, products: object = None, kind: str = "subscribe"
) -> dict[str, Any]:
    """Write a subscribe."""
    message: dict[str, Any] = {"type": kind, "channels": channels}
    return message if products is None else message | {"product_ids": products}


def test_products_tell_base_quote_and_status(bench: Bench) -> None:
    """Old products stay, delisted."""
    listed = {entry["id"]: entry for entry in bench.body(HOUSE, "/products")}
    assert listed["BTC-USD"]["base_currency"] == "BTC"
    assert listed["BTC-USD"]["status"] == "online"
    assert listed["MATIC-USD"]["status"] == "delisted"
    assert listed["MATIC-USD"]["trading_disabled"]
    assert bench.body(HOUSE, "/products/BTC-USD") == listed["BTC-USD"]


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        (
            "/products/BTC-USD/ticker",
            {"ask", "bid", "volume", "trade_id", "price", "size", "time", "rfq_volume"},
        ),
        (
            "/products/BTC-USD/stats",
            {"open", "high", "low", "last", "volume", "volume_30day"},
        ),
        ("/time", {"iso", "epoch"}),
    ],
)
def test_an_answer_has_its_fields(bench: Bench, path: str, keys: set[str]) -> None:
    """The names differ from Advanced Trade's throughout."""
    body = bench.body(HOUSE, path)
    assert keys <= set(body)


def test_whole_lists_are_served(bench: Bench) -> None:
    """Statistics of all products; no list has all prices."""
    assert "BTC-USD" in bench.body(HOUSE, "/products/stats")
    assert bench.body(HOUSE, "/products/volume-summary")[0]["spot_volume_24hour"]
    assert bench.body(HOUSE, "/products/BTC-USD/book")["bids"]
    assert len(bench.body(HOUSE, "/products/BTC-USD/trades")) == 100


def test_an_etag_that_is_known_gets_304(bench: Bench) -> None:
    """Conditional requests work here."""
    answer = bench.ask(HOUSE, "/products/BTC-USD/ticker")
    etag = answer.headers["etag"]
    assert answer.headers["cache-control"] == "public, max-age=1"
    headers = {"user-agent": "t", "if-none-match": etag}
    again = bench.ask(HOUSE, "/products/BTC-USD/ticker", headers)
    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == etag
    bench.move("BTC")
    assert bench.ask(HOUSE, "/products/BTC-USD/ticker", headers).status == 200


@pytest.mark.parametrize(
    "path", ["/nothing", "/products/NO-USD/ticker", "/products/BTC-USD/nothing"]
)
def test_what_does_not_exist_is_not_found(bench: Bench, path: str) -> None:
    """The body says so in the dialect's own shape."""
    answer = bench.ask(HOUSE, path)
    assert answer.status == 404
    assert msgspec.json.decode(answer.body) == {"message": "NotFound"}


def test_requests_have_a_burst_and_a_rate(bench: Bench) -> None:
    """Fifteen at once, then ten a second."""
    statuses = [bench.ask(HOUSE, "/time").status for _ in range(16)]
    assert statuses == [200] * 15 + [429]
    bench.now_ms += 100
    assert [bench.ask(HOUSE, "/time").status for _ in range(2)] == [200, 429]


def test_a_request_needs_a_user_agent(bench: Bench) -> None:
    """Without one it is reported to be refused."""
    assert bench.ask(HOUSE, "/time", {}).status == 400


def test_refusals_have_the_dialects_shape(bench: Bench) -> None:
    """429 with a message; the rest from the edge."""
    request = bench.request(HOUSE, "/time")
    refused = bench.exchanges[HOUSE].refusal(429, request, 3)
    assert msgspec.json.decode(refused.body)["message"]
    assert refused.headers["retry-after"] == "3"
    assert bench.exchanges[HOUSE].refusal(520, request, 0).status == 520


def test_a_request_can_give_an_error_and_an_ack(bench: Bench) -> None:
    """Valid products of the same request are subscribed all the same."""
    talk = bench.open(HOUSE, "/")
    heartbeat = {"name": "heartbeat", "product_ids": ["BTC-USD", "ETH-USD"]}
    messages = bench.tell(
        talk, ask(["ticker", heartbeat], ["BTC-USD", "FOO-USD", "MATIC-USD"])
    )
    reasons = {message.get("reason") for message in messages}
    assert {"FOO-USD is not a valid product", "MATIC-USD is delisted"} <= reasons
    assert messages[-1] == {
        "type": "subscriptions",
        "channels": [
            {"name": "ticker", "product_ids": ["BTC-USD"], "account_ids": None},
            {
                "name": "heartbeat",
                "product_ids": ["BTC-USD", "ETH-USD"],
                "account_ids": None,
            },
        ],
    }


@pytest.mark.parametrize(
    ("message", "sentence", "reason"),
    [
        (ask([], ["BTC-USD"]), "Failed to subscribe", "No channels provided"),
        (
            ask([], kind="unsubscribe"),
            "Failed to unsubscribe",
            "No channels provided",
        ),
        (
            ask(["level2"], ["BTC-USD"]),
            "Failed to subscribe",
            "level2 channel requires authentication",
        ),
        (
            ask(["weather"], ["BTC-USD"]),
            "Failed to subscribe",
            "weather is not a valid channel",
        ),
        ("{", "Malformed JSON", "Type is invalid"),
    ],
)
def test_an_error_names_its_reason(
    bench: Bench, message: object, sentence: str, reason: str
) -> None:
    """Explicit here, silent in the other dialect."""
    talk = bench.open(HOUSE, "/")
    assert bench.tell(talk, message) == [
        {"type": "error", "message": sentence, "reason": reason}
    ]


def test_the_batch_is_acknowledged_under_another_name(bench: Bench) -> None:
    """``ticker_1000`` in the ack, ``ticker`` in its data."""
    talk = bench.open(HOUSE, "/")
    snapshot, ack = bench.tell(talk, ask(["ticker_batch"], ["BTC-USD"]))
    assert snapshot["type"] == "ticker"
    assert ack["channels"][0]["name"] == "ticker_1000"
    bench.wait(5_000)
    said(talk)
    bench.move("BTC", times=3)
    bench.wait(5_000)
    assert [message["type"] for message in said(talk)] == ["ticker"]


def test_sequence_jumps_and_trade_ids_do_not(bench: Bench) -> None:
    """``sequence`` counts all book events of a product; gaps show in ``trade_id``."""
    talk = bench.open(HOUSE, "/")
    bench.tell(talk, ask(["ticker", "matches", "level2_batch"], ["BTC-USD"]))
    bench.move("BTC", times=4)
    messages = said(talk)
    kinds = [message["type"] for message in messages]
    assert kinds.count("l2update") == 4
    assert kinds.count("match") == kinds.count("ticker") == 3
    tickers = [message for message in messages if message["type"] == "ticker"]
    ids = [ticker["trade_id"] for ticker in tickers]
    assert ids == list(range(ids[0], ids[0] + 3))
    assert tickers[1]["sequence"] > tickers[0]["sequence"] + 1


def test_heartbeats_come_each_second_for_each_product(bench: Bench) -> None:
    """They tell the last trade, so that gaps show."""
    talk = bench.open(HOUSE, "/")
    bench.tell(talk, ask(["heartbeat"], ["BTC-USD", "ETH-USD"]))
    bench.wait(1_000)
    assert [message["product_id"] for message in said(talk)] == ["BTC-USD", "ETH-USD"]


def test_unsubscribing_gives_what_is_left(bench: Bench) -> None:
    """The ack is the whole state again."""
    talk = bench.open(HOUSE, "/")
    bench.tell(talk, ask(["ticker", "status"], ["BTC-USD", "ETH-USD"]))
    (ack,) = bench.tell(talk, ask(["ticker"], ["BTC-USD"], "unsubscribe"))
    assert ack["channels"][0]["product_ids"] == ["ETH-USD"]
    (ack,) = bench.tell(talk, ask(["ticker"], [], "unsubscribe"))
    assert [channel["name"] for channel in ack["channels"]] == ["status"]


def test_a_silent_client_is_closed_after_five_seconds(bench: Bench) -> None:
    """The first message has to be a subscribe."""
    talk = bench.open(HOUSE, "/")
    bench.wait(5_000)
    assert talk.ending is not None


def test_connections_and_messages_have_limits() -> None:
    """A burst of connections is allowed, then so many a second."""
    settings = CoinbaseSettings(exchange_attempts_burst=2, exchange_messages=3)
    bench = Bench(Settings(coinbase=settings))
    talk = bench.open(HOUSE, "/")
    house = bench.exchanges[HOUSE]
    assert house.greet(bench.request(HOUSE, "/")) is not None
    assert house.greet(bench.request(HOUSE, "/")) is None
    for _ in range(4):
        bench.tell(talk, ask(["status"]))
    assert talk.ending is not None


def test_a_new_product_is_listed(bench: Bench) -> None:
    """Discovery has to find what was not there at the start."""
    value = {"base": "NEWBORN", "quote": "USD", "price": "1.5"}
    fault = Fault(exchange=HOUSE, fault="listing", symbol="NEWBORN-USD", value=value)
    bench.world.faults.add(fault, bench.now_ms)
    bench.wait(0)
    assert bench.body(HOUSE, "/products/NEWBORN-USD/ticker")["price"]
