"""Advanced Trade's WebSocket: one count over all messages, acks, deadlines."""

import pytest

from relay.simulator.faults import Fault
from relay.simulator.settings import CoinbaseSettings, Settings
from tests.simulator.driver import Bench, said

BTC = ["BTC-USD"]


def ask(channel: object, products: object = None, kind: str = "subscribe") -> object:
    """Write a subscribe."""
    message = {"type": kind, "channel": channel}
    return message if products is None else message | {"product_ids": products}


def test_the_number_counts_every_message(bench: Bench) -> None:
    """Acks and heartbeats included, from 0 on each connection."""
    talk = bench.open("coinbase", "/")
    messages = bench.tell(talk, ask("ticker", ["BTC-USD", "ETH-USD"]))
    messages += bench.tell(talk, ask("heartbeats"))
    bench.move("BTC")
    bench.wait(1_000)
    messages += said(talk)
    assert [message["sequence_num"] for message in messages] == list(range(6))
    assert [message["channel"] for message in messages] == [
        *("ticker", "ticker", "subscriptions", "subscriptions"),
        *("ticker", "heartbeats"),
    ]


def test_the_ack_lists_everything_after_the_first_data(bench: Bench) -> None:
    """Not only the last request; and data do not wait for it."""
    talk = bench.open("coinbase", "/")
    bench.tell(talk, ask("ticker", BTC))
    messages = bench.tell(talk, ask("ticker", ["ETH-USD"]))
    assert messages[0]["events"][0]["type"] == "snapshot"
    held = messages[-1]["events"][0]["subscriptions"]
    assert held == {"ticker": ["BTC-USD", "ETH-USD"]}
    bench.now_ms += 1_000
    (left,) = bench.tell(talk, ask("ticker", BTC, "unsubscribe"))
    assert left["events"] == [{"subscriptions": {"ticker": ["ETH-USD"]}}]
    (none,) = bench.tell(talk, ask("ticker", ["ETH-USD"], "unsubscribe"))
    assert none["events"] == [{"subscriptions": {}}]


def test_heartbeats_are_acknowledged_and_sent_each_second(bench: Bench) -> None:
    """Their time is written as Go writes it, their counter is a number."""
    talk = bench.open("coinbase", "/")
    (ack,) = bench.tell(talk, ask("heartbeats"))
    assert ack["events"] == [{"subscriptions": {"heartbeats": ["heartbeats"]}}]
    for _ in range(2):
        bench.wait(1_000)
    first, second = (message["events"][0] for message in said(talk))
    assert second["heartbeat_counter"] == first["heartbeat_counter"] + 1
    assert " +0000 UTC m=+" in first["current_time"]


def test_unknown_ids_are_dropped_and_aliases_answered_as_their_twins(
    bench: Bench,
) -> None:
    """The ack has to be compared with the request."""
    talk = bench.open("coinbase", "/")
    messages = bench.tell(talk, ask("ticker", ["BTC-USDC", "NO-USD", "USDT-USDC"]))
    held = messages[-1]["events"][0]["subscriptions"]
    assert held == {"ticker": ["BTC-USD", "USDT-USDC"]}
    bench.move("BTC")
    bench.wait(0)
    (ticker,) = said(talk)
    assert ticker["events"][0]["tickers"][0]["product_id"] == "BTC-USD"
    total = bench.world.ledger.picture(bench.now_ms).exchanges["coinbase"].total
    assert total.subscriptions.unknown == 1


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (ask("weather", BTC), "authentication failure"),
        (ask("user", BTC), "authentication failure"),
        (ask(["ticker"], BTC), "Failed to subscribe"),
        ({"type": "subscribe", "channels": ["ticker"]}, "Failed to subscribe"),
        (ask("ticker"), "Failed to subscribe"),
        (ask("ticker", "BTC-USD"), "Failed to subscribe"),
        ("{", "Failed to subscribe"),
        ("[]", "Failed to subscribe"),
        (
            ask("level2", [f"{base}-USD" for base in ("BTC", "ETH", "SOL")]),
            "too many L2 streams requested in a single session",
        ),
    ],
)
def test_an_error_has_neither_channel_nor_number(
    message: object, sentence: str
) -> None:
    """Two dialects, one kind of error; the count does not move."""
    bench = Bench(Settings(coinbase=CoinbaseSettings(level2_products=2)))
    talk = bench.open("coinbase", "/")
    assert bench.tell(talk, message) == [{"type": "error", "message": sentence}]
    (ack,) = bench.tell(talk, ask("heartbeats"))
    assert ack["sequence_num"] == 0


def test_a_burst_is_merged_into_events_of_several_tickers(bench: Bench) -> None:
    """Each match is not its own message when many come at once."""
    talk = bench.open("coinbase", "/")
    bases = ["BTC", "ETH", "SOL", "XRP", "ADA", "DOT", "LTC"]
    bench.tell(talk, ask("ticker", [f"{base}-USD" for base in bases]))
    for base in bases:
        bench.move(base, times=2)
    bench.wait(0)
    sizes = [len(message["events"][0]["tickers"]) for message in said(talk)]
    assert sizes == [5, 2]


def test_tickers_come_one_by_one_while_a_fault_names_a_product(bench: Bench) -> None:
    """Otherwise silence of one product would silence its neighbours."""
    talk = bench.open("coinbase", "/")
    bench.tell(talk, ask("ticker", ["BTC-USD", "ETH-USD"]))
    fault = Fault(exchange="coinbase", fault="gap", symbol="BTC-USD")
    bench.world.faults.add(fault, bench.now_ms)
    bench.move("BTC")
    bench.move("ETH")
    bench.wait(0)
    assert [len(message["events"][0]["tickers"]) for message in said(talk)] == [1, 1]


def test_a_ticker_has_its_fields_and_a_batch_has_no_book(bench: Bench) -> None:
    """``ticker_batch`` comes each 5 s, if changed, without the best prices."""
    talk = bench.open("coinbase", "/")
    (full, _) = bench.tell(talk, ask("ticker", BTC))
    (batch, _) = bench.tell(talk, ask("ticker_batch", BTC))
    ticker = full["events"][0]["tickers"][0]
    assert set(ticker) - set(batch["events"][0]["tickers"][0]) == {
        *("best_bid", "best_bid_quantity", "best_ask", "best_ask_quantity"),
    }
    assert all(isinstance(value, str) for value in ticker.values())
    bench.tell(talk, ask("ticker", BTC, "unsubscribe"))
    bench.wait(5_000)
    said(talk)
    bench.move("BTC")
    bench.wait(4_999)
    assert said(talk) == []
    bench.wait(1)
    (update,) = said(talk)
    assert update["channel"] == "ticker_batch"
    assert update["events"][0]["type"] == "update"
    bench.wait(5_000)
    assert said(talk) == []


@pytest.mark.parametrize(
    ("channel", "spoken", "inner"),
    [
        ("market_trades", "market_trades", "trades"),
        ("candles", "candles", "candles"),
        ("status", "status", "products"),
        ("level2", "l2_data", "updates"),
    ],
)
def test_other_channels_answer(
    bench: Bench, channel: str, spoken: str, inner: str
) -> None:
    """``level2`` is asked for, ``l2_data`` comes back."""
    talk = bench.open("coinbase", "/")
    snapshot = bench.tell(talk, ask(channel, BTC))[0]
    assert snapshot["channel"] == spoken
    assert snapshot["events"][0]["type"] == "snapshot"
    assert snapshot["events"][0][inner]
    bench.wait(1_000)
    said(talk)
    bench.move("BTC")
    bench.wait(1_000)
    updates = [message["channel"] for message in said(talk)]
    assert updates == ([] if channel == "status" else [spoken])


def test_a_silent_client_is_closed_after_five_seconds(bench: Bench) -> None:
    """The first message has to be a subscribe."""
    talk = bench.open("coinbase", "/")
    late = bench.open("coinbase", "/")
    bench.wait(4_999)
    bench.tell(late, ask("heartbeats"))
    bench.wait(1)
    assert talk.ending is not None
    assert late.ending is None


def test_an_idle_connection_is_cut_unless_it_has_heartbeats(bench: Bench) -> None:
    """60 to 90 s without an update end a connection of quiet products."""
    idle = bench.open("coinbase", "/")
    beating = bench.open("coinbase", "/")
    bench.tell(idle, ask("ticker", BTC))
    bench.tell(beating, ask("ticker", BTC))
    bench.tell(beating, ask("heartbeats"))
    bench.wait(74_999)
    assert idle.ending is None
    bench.wait(1)
    assert idle.ending is not None
    assert beating.ending is None


def test_the_ninth_message_of_an_address_within_a_second_closes(bench: Bench) -> None:
    """All its connections count together."""
    talks = [bench.open("coinbase", "/") for _ in range(3)]
    for number in range(8):
        bench.tell(talks[number % 3], ask("heartbeats"))
    assert all(talk.ending is None for talk in talks)
    bench.tell(talks[0], ask("heartbeats"))
    assert talks[0].ending is not None
    total = bench.world.ledger.picture(bench.now_ms).exchanges["coinbase"].total
    assert total.breaches == {"messages": 1}


def test_the_ninth_connection_within_a_second_is_cut(bench: Bench) -> None:
    """What exactly happens is not documented: the socket ends without an answer."""
    house = bench.exchanges["coinbase"]
    opened = [house.greet(bench.request("coinbase", "/")) for _ in range(9)]
    assert opened.pop() is None
    assert all(opened)
    bench.now_ms += 1_000
    assert house.greet(bench.request("coinbase", "/")) is not None


@pytest.mark.parametrize("present", [False, True])
def test_client_id_comes_and_goes(*, present: bool) -> None:
    """Present until about 2025: nobody may rely on it."""
    bench = Bench(Settings(coinbase=CoinbaseSettings(client_id=present)))
    talk = bench.open("coinbase", "/")
    (ack,) = bench.tell(talk, ask("heartbeats"))
    assert ("client_id" in ack) is present


def test_a_delisted_product_is_silent_and_a_new_one_appears(bench: Bench) -> None:
    """Products come and go while a connection stays."""
    add = bench.world.faults.add
    value = {"base": "NEWBORN", "quote": "USD", "price": "1.5"}
    add(Fault(exchange="coinbase", fault="break", symbol="BTC-USD"), bench.now_ms)
    add(
        Fault(exchange="coinbase", fault="listing", symbol="NEWBORN-USD", value=value),
        bench.now_ms,
    )
    talk = bench.open("coinbase", "/")
    bench.wait(0)
    messages = bench.tell(talk, ask("ticker", ["BTC-USD", "NEWBORN-USD"]))
    assert messages[-1]["events"] == [{"subscriptions": {"ticker": ["NEWBORN-USD"]}}]


def test_a_channel_without_products_is_of_all(bench: Bench) -> None:
    """``status`` and ``market_trades`` take no list; the counts stay right."""
    talk = bench.open("coinbase", "/")
    messages = bench.tell(talk, ask("status"))
    held = messages[-1]["events"][0]["subscriptions"]["status"]
    total = bench.world.ledger.picture(bench.now_ms).exchanges["coinbase"].total
    assert total.subscriptions.open == total.subscriptions.asked == len(held)
    assert total.subscriptions.duplicate == total.subscriptions.unknown == 0


def test_instants_grow_with_the_number(bench: Bench) -> None:
    """The ticker has no other time; a step back would lose the newest value."""
    talk = bench.open("coinbase", "/")
    bench.tell(talk, ask("ticker", BTC))
    for _ in range(300):
        bench.move("BTC")
        bench.wait(0)
    instants = [
        message["timestamp"].rstrip("Z").ljust(29, "0") for message in said(talk)
    ]
    assert instants == sorted(set(instants))
