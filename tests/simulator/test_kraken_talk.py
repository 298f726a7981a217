"""Kraken's WebSocket v2: one ack a symbol, heartbeats into silence, bare numbers."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from relay.simulator.faults import Fault
from relay.simulator.kraken import Kraken
from relay.simulator.settings import KrakenSettings, Settings
from relay.simulator.wire import Conversation
from tests.simulator.driver import Bench, frames, said


def ask(pairs: object, method: str = "subscribe", **more: object) -> dict[str, Any]:
    """Write a request for tickers."""
    params = {"channel": "ticker", "symbol": pairs} | more
    return {"method": method, "params": params, "req_id": 1}


def opened(bench: Bench) -> Conversation:
    """Open a connection that has heard its status."""
    talk = bench.open("kraken", "/v2")
    said(talk)
    return talk


def test_the_status_comes_without_being_asked_for(bench: Bench) -> None:
    """Its connection id lies above 2⁵³: a double would round it."""
    (message,) = said(bench.open("kraken", "/v2"))
    assert (message["channel"], message["type"]) == ("status", "update")
    (state,) = message["data"]
    assert state["system"] == "online"
    assert state["connection_id"] > 2**53


def test_each_symbol_has_its_own_answer(bench: Bench) -> None:
    """Some are acknowledged and others fail, in one request."""
    talk = opened(bench)
    answers = bench.tell(talk, ask(["BTC/USD", "XBT/USD", "DOGE/USD"]))
    acks = [answer for answer in answers if answer.get("success")]
    assert [ack["result"]["symbol"] for ack in acks] == ["BTC/USD", "DOGE/USD"]
    assert all(ack["req_id"] == 1 and ack["time_in"] for ack in acks)
    (error,) = [answer for answer in answers if answer.get("success") is False]
    assert error["error"] == "Currency pair not supported XBT/USD"
    assert error["symbol"] == "XBT/USD"
    snapshots = [answer for answer in answers if answer.get("type") == "snapshot"]
    assert len(snapshots) == 2


def test_a_ticker_is_complete_and_its_numbers_are_bare(bench: Bench) -> None:
    """Snapshot and update have one schema, exactly one element each."""
    talk = opened(bench)
    bench.tell(talk, ask(["BTC/USD"], snapshot=False))
    assert said(talk) == []
    bench.move("BTC")
    (frame,) = frames(talk)
    body = msgspec.json.decode(frame.payload)
    (ticker,) = body["data"]
    assert (body["channel"], body["type"]) == ("ticker", "update")
    assert set(ticker) == {
        *("symbol", "bid", "bid_qty", "ask", "ask_qty", "last", "volume", "vwap"),
        *("low", "high", "change", "change_pct", "timestamp"),
    }
    assert b'"bid":"' not in frame.payload


def test_tiny_prices_come_in_scientific_notation(bench: Bench) -> None:
    """Digits are lost by whoever reads them as binary floats."""
    talk = opened(bench)
    bench.tell(talk, ask(["PEPE/USD"]))
    bench.move("PEPE")
    (frame,) = frames(talk)
    text = frame.payload.partition(b'"last":')[2].partition(b",")[0].decode()
    assert "e-" in text
    quote = bench.exchanges["kraken"].listing.symbols["PEPE/USD"].look()
    assert Decimal(text) == Decimal(quote.price(quote.last))


def test_a_trigger_decides_what_is_sent(bench: Bench) -> None:
    """``bbo`` on each change of the best prices, ``trades`` on each trade."""
    both, few = opened(bench), opened(bench)
    bench.tell(both, ask(["BTC/USD"], event_trigger="bbo"))
    bench.tell(few, ask(["BTC/USD"]))
    bench.move("BTC", times=4)
    assert (len(said(both)), len(said(few))) == (4, 3)


def test_unsubscribing_wants_the_same_trigger(bench: Bench) -> None:
    """Otherwise there is nothing to unsubscribe."""
    talk = opened(bench)
    bench.tell(talk, ask(["BTC/USD"], event_trigger="bbo"))
    (error,) = bench.tell(talk, ask(["BTC/USD"], "unsubscribe"))
    assert error["success"] is False
    (ack,) = bench.tell(talk, ask(["BTC/USD"], "unsubscribe", event_trigger="bbo"))
    assert ack["result"]["symbol"] == "BTC/USD"
    bench.move("BTC")
    assert said(talk) == []


@pytest.mark.parametrize(
    "message",
    [
        "{",
        "[]",
        {"method": "dance"},
        {"method": "subscribe"},
        {"method": "subscribe", "params": {"channel": "weather"}},
        ask("BTC/USD"),
        ask(["BTC/USD"], event_trigger="never"),
    ],
)
def test_a_malformed_request_is_told_so(bench: Bench, message: object) -> None:
    """And the socket stays open."""
    talk = opened(bench)
    (answer,) = bench.tell(talk, message)
    assert answer["error"] == "Malformed request"
    assert answer["method"] == "error"
    assert talk.ending is None


def test_a_ping_is_answered(bench: Bench) -> None:
    """In JSON, with the request's number."""
    talk = opened(bench)
    (pong,) = bench.tell(talk, {"method": "ping", "req_id": 101})
    assert (pong["method"], pong["req_id"]) == ("pong", 101)


def test_heartbeats_fill_the_silence_of_a_subscription(bench: Bench) -> None:
    """Only after one exists, and only when nothing else is said."""
    talk = opened(bench)
    bench.wait(5_000)
    assert said(talk) == []
    bench.tell(talk, ask(["BTC/USD"]))
    talk.said_ms = bench.now_ms
    bench.wait(999)
    assert said(talk) == []
    bench.wait(1)
    assert said(talk) == [{"channel": "heartbeat"}]


def test_an_idle_connection_is_closed_after_a_minute(bench: Bench) -> None:
    """A ping or a subscription keeps it."""
    idle, pinging, reading = opened(bench), opened(bench), opened(bench)
    bench.tell(reading, ask(["BTC/USD"]))
    bench.now_ms += 30_000
    bench.tell(pinging, {"method": "ping"})
    bench.wait(30_000)
    assert idle.ending is not None
    assert pinging.ending is None
    assert reading.ending is None


def test_too_many_messages_are_dropped_and_told_so() -> None:
    """The subscriptions concerned are simply not made."""
    bench = Bench(Settings(kraken=KrakenSettings(messages=2)))
    talk = opened(bench)
    for _ in range(2):
        bench.tell(talk, {"method": "ping"})
    (answer,) = bench.tell(talk, ask(["BTC/USD"]))
    assert answer["error"] == "Exceeded msg rate"
    bench.move("BTC")
    assert said(talk) == []
    assert talk.ending is None


def test_instruments_tell_pairs_and_their_changes(bench: Bench) -> None:
    """Modern names without a table; a warning may come with the ack."""
    talk = opened(bench)
    request = {"method": "subscribe", "params": {"channel": "instrument"}}
    ack, snapshot = bench.tell(talk, request)
    assert ack["result"]["warnings"]
    pairs = {pair["symbol"]: pair for pair in snapshot["data"]["pairs"]}
    assert pairs["BTC/USD"]["status"] == "online"
    fault = Fault(exchange="kraken", fault="break", symbol="ETH/USD")
    bench.world.faults.add(fault, bench.now_ms)
    bench.wait(0)
    (update,) = [message for message in said(talk) if message.get("type") == "update"]
    assert update["data"]["pairs"][0]["status"] == "delisted"
    (error,) = bench.tell(talk, ask(["ETH/USD"]))
    assert error["success"] is False


def test_maintenance_may_be_announced_ahead(bench: Bench) -> None:
    """Whoever heeds it has left when the connection is closed."""
    talk = opened(bench)
    house = bench.exchanges["kraken"]
    assert isinstance(house, Kraken)
    house.warn(bench.now_ms, 3_000)
    (message,) = said(talk)
    (stage,) = message["data"][0]["upcoming_maintenance"]
    assert stage["action"] == "disconnect_and_wait"
    talk.beat(bench.now_ms + 2_999)
    assert talk.ending is None
    talk.beat(bench.now_ms + 3_000)
    assert talk.ending is not None


def test_maintenance_is_announced_and_closes(bench: Bench) -> None:
    """Whoever comes back meanwhile meets the same."""
    talk = opened(bench)
    house = bench.exchanges["kraken"]
    assert isinstance(house, Kraken)
    house.announce("maintenance", bench.now_ms)
    (message,) = said(talk)
    assert message["data"][0]["system"] == "maintenance"
    assert talk.ending is not None
    fault = Fault(exchange="kraken", fault="maintenance", for_ms=5_000)
    bench.world.faults.add(fault, bench.now_ms)
    again = bench.open("kraken", "/v2")
    assert said(again)[0]["data"][0]["system"] == "maintenance"
    assert again.ending is not None


def test_instants_grow_within_a_burst(bench: Bench) -> None:
    """Readers order by them; a step back would make the newest value the older."""
    talk = opened(bench)
    bench.tell(talk, ask(["BTC/USD"], event_trigger="bbo"))
    bench.move("BTC", times=50)
    instants = [message["data"][0]["timestamp"] for message in said(talk)]
    assert instants == sorted(set(instants))
