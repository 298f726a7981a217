"""Binance's streams: both envelopes, control messages, pings and limits."""

from typing import Any

import pytest

from relay.simulator.binance import Binance
from relay.simulator.faults import Fault
from relay.simulator.settings import BinanceSettings, Settings
from relay.simulator.wire import PING, Answer
from tests.simulator.driver import Bench, frames, said

FLAT = {"id": 7}


def ask(method: str, params: object = None, **more: object) -> dict[str, object]:
    """Write a control message."""
    return {"method": method, "params": params, "id": 7} | more


def test_streams_in_the_url_come_in_the_envelope(bench: Bench) -> None:
    """``/stream`` wraps, ``/ws`` does not."""
    combined = bench.open("binance", "/stream?streams=btcusdt@bookTicker/ethusdt@trade")
    bare = bench.open("binance", "/ws/btcusdt@bookTicker")
    bench.move("BTC")
    (wrapped,) = said(combined)
    (plain,) = said(bare)
    assert wrapped == {"stream": "btcusdt@bookTicker", "data": plain}
    assert set(plain) == {"u", "s", "b", "B", "a", "A"}


@pytest.mark.parametrize(
    ("stream", "event", "keys"),
    [
        ("trade", "trade", "eEstpqTmM"),
        ("aggTrade", "aggTrade", "eEsapqflTmM"),
        ("miniTicker", "24hrMiniTicker", "eEscohlvq"),
        ("ticker", "24hrTicker", "eEspPwxcQbBaAohlvqOCFLn"),
        ("ticker_1h", "1hTicker", "eEspPwcohlvqOCFLn"),
        ("ticker_4h", "4hTicker", "eEspPwcohlvqOCFLn"),
        ("ticker_1d", "1dTicker", "eEspPwcohlvqOCFLn"),
        ("avgPrice", "avgPrice", "eEsiwT"),
        ("kline_1m", "kline", "eEsk"),
    ],
)
def test_a_stream_has_its_fields(
    bench: Bench, stream: str, event: str, keys: str
) -> None:
    """One letter a field; a missing one breaks a strict decoder."""
    talk = bench.open("binance", f"/ws/btcusdt@{stream}")
    bench.move("BTC")
    bench.wait(1_000)
    (payload,) = said(talk)
    assert payload["e"] == event
    assert set(payload) == set(keys)
    assert payload["E"] > bench.now_ms - 1_000


def test_a_partial_book_names_no_symbol(bench: Bench) -> None:
    """Only the envelope tells whose it is."""
    talk = bench.open("binance", "/stream?streams=btcusdt@depth5")
    bench.move("BTC")
    bench.wait(1_000)
    (message,) = said(talk)
    assert message["stream"] == "btcusdt@depth5"
    assert set(message["data"]) == {"lastUpdateId", "bids", "asks"}
    assert len(message["data"]["bids"]) == 5


@pytest.mark.parametrize(("symbol", "null"), [("btcusdt", False), ("btceur", True)])
def test_a_reference_price_may_be_null(
    bench: Bench, symbol: str, *, null: bool
) -> None:
    """Not every symbol has one."""
    talk = bench.open("binance", f"/ws/{symbol}@referencePrice")
    bench.move("BTC")
    bench.wait(1_000)
    (message,) = said(talk)
    assert set(message) == {"e", "s", "r", "t"}
    assert (message["r"] is None) is null


def test_all_mini_tickers_hold_only_what_changed(bench: Bench) -> None:
    """A symbol that is missing is unchanged, not gone."""
    talk = bench.open("binance", "/ws/!miniTicker@arr")
    bench.wait(1_000)
    assert said(talk) == []
    bench.move("BTC", times=3)
    bench.wait(1_000)
    (tickers,) = said(talk)
    assert {ticker["s"] for ticker in tickers} == {
        *("BTCUSDT", "BTCUSDC", "BTCEUR"),
    }
    bench.wait(1_000)
    assert said(talk) == []


def test_streams_are_lower_case_or_silent(bench: Bench) -> None:
    """Upper case connects, but never sends; so does what does not exist."""
    talk = bench.open("binance", "/stream?streams=BTCUSDT@trade/nopeusdt@trade")
    answer = bench.tell(talk, ask("SUBSCRIBE", ["!ticker@arr", "!bookTicker"]))
    assert answer == [{"result": None, "id": 7}]
    bench.move("BTC")
    bench.wait(1_000)
    assert said(talk) == []


def test_a_symbol_outside_ascii_streams(bench: Bench) -> None:
    """There are such symbols; nobody may assume letters and digits of ASCII."""
    talk = bench.open("binance", "/stream?streams=币安人生usdt@bookTicker")
    bench.move("币安人生")
    (message,) = said(talk)
    assert message["data"]["s"] == "币安人生USDT"


def test_microseconds_are_sent_on_request(bench: Bench) -> None:
    """The unit is chosen in the URL and holds for every time field."""
    talk = bench.open("binance", "/ws/btcusdt@trade?timeUnit=MICROSECOND")
    bench.move("BTC")
    (trade,) = said(talk)
    assert trade["E"] == (bench.now_ms + 40) * 1_000


def test_a_book_change_without_a_trade_is_no_trade(bench: Bench) -> None:
    """Only ``bookTicker`` speaks of it."""
    talk = bench.open("binance", "/stream?streams=btcusdt@bookTicker/btcusdt@trade")
    bench.move("BTC", times=4)
    streams = [message["stream"].partition("@")[2] for message in said(talk)]
    assert streams.count("bookTicker") == 4
    assert streams.count("trade") == 3


def test_control_messages_are_answered_bare(bench: Bench) -> None:
    """Acknowledgements never have the envelope, and their id comes back."""
    talk = bench.open("binance", "/stream")
    assert bench.tell(talk, ask("SUBSCRIBE", ["btcusdt@trade"])) == [
        {"result": None, "id": 7}
    ]
    assert bench.tell(talk, ask("LIST_SUBSCRIPTIONS", id="a1")) == [
        {"result": ["btcusdt@trade"], "id": "a1"}
    ]
    bench.wait(1_000)
    assert bench.tell(talk, ask("GET_PROPERTY", ["combined"])) == [
        {"result": True, "id": 7}
    ]
    assert bench.tell(talk, ask("SET_PROPERTY", ["combined", False], id=None)) == [
        {"result": None, "id": None}
    ]
    bench.move("BTC")
    assert said(talk)[0]["e"] == "trade"
    bench.wait(1_000)
    bench.tell(talk, ask("UNSUBSCRIBE", ["btcusdt@trade", "never@trade"]))
    bench.move("BTC")
    assert said(talk) == []


@pytest.mark.parametrize(
    ("message", "code", "begins"),
    [
        ("{", 3, "Invalid JSON: expected value at line"),
        ("[]", 3, "Invalid JSON"),
        (ask("DANCE"), 2, "Invalid request: unknown variant"),
        ({"id": 7}, 2, "Invalid request: missing field"),
        (ask("SUBSCRIBE", "btcusdt@trade"), 2, "Invalid request: invalid stream"),
        (ask("SUBSCRIBE", []), 2, "Invalid request: invalid stream"),
        (ask("UNSUBSCRIBE", [1]), 2, "Invalid request: invalid stream"),
        (ask("SUBSCRIBE", ["btc usdt"]), 2, "Invalid request: invalid stream"),
        (ask("LIST_SUBSCRIPTIONS", [1]), 2, "Invalid request: too many parameters"),
        (ask("SUBSCRIBE", ["btcusdt@trade"], id=1.5), 2, "Invalid request"),
        (ask("SUBSCRIBE", ["btcusdt@trade"], id=True), 2, "Invalid request"),
        (ask("SUBSCRIBE", ["btcusdt@trade"], id="x" * 37), 2, "Invalid request"),
        (ask("SUBSCRIBE", ["btcusdt@trade"], id=2**63), 2, "Invalid request"),
        (ask("SET_PROPERTY", ["combined", "yes"]), 1, "Invalid value type"),
        (ask("SET_PROPERTY", ["colour", True]), 0, "Unknown property"),
        (ask("GET_PROPERTY", ["colour"]), 0, "Unknown property"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_bad_control_message_gets_its_code(
    message: object, code: int, begins: str, *, wrapped: bool
) -> None:
    """Documented flat, seen wrapped: a client has to read both."""
    settings = Settings(binance=BinanceSettings(wrapped_errors=wrapped))
    bench = Bench(settings)
    talk = bench.open("binance", "/ws")
    (answer,) = bench.tell(talk, message)
    error = answer["error"] if wrapped else answer
    assert error["code"] == code
    assert error["msg"].startswith(begins)
    assert talk.ending is None


def test_too_many_streams_get_code_4() -> None:
    """1,024 is the cap of a connection; nothing of the request is taken."""
    bench = Bench(Settings(binance=BinanceSettings(streams=3)))
    talk = bench.open("binance", "/stream?streams=a@trade/b@trade")
    (answer,) = bench.tell(talk, ask("SUBSCRIBE", ["c@trade", "d@trade"]))
    assert answer == {"error": {"code": 4, "msg": "Too many subscriptions"}, "id": 7}
    assert bench.tell(talk, ask("SUBSCRIBE", ["c@trade"])) == [FLAT | {"result": None}]
    refused = bench.exchanges["binance"].greet(
        bench.request("binance", "/stream?streams=a@t/b@t/c@t/d@t")
    )
    assert isinstance(refused, Answer)
    assert refused.status == 400


def test_a_huge_subscribe_is_dropped_silently(bench: Bench) -> None:
    """437 names in one message were; so a client has to split them."""
    talk = bench.open("binance", "/ws")
    names = [f"s{number}@trade" for number in range(201)]
    assert bench.tell(talk, ask("SUBSCRIBE", names)) == []


def test_the_sixth_message_within_a_second_closes(bench: Bench) -> None:
    """A rolling second: five at its end and one just after are six."""
    talk = bench.open("binance", "/ws")
    for _ in range(5):
        bench.tell(talk, ask("LIST_SUBSCRIPTIONS"))
        bench.now_ms += 200
    assert talk.ending is None
    talk.ping(b"x", bench.now_ms - 1)
    assert talk.ending is not None
    assert talk.ending.code == 1008
    assert talk.ending.reason == "Too many requests"
    assert bench.tell(talk, ask("LIST_SUBSCRIPTIONS")) == []


def test_five_messages_a_second_for_ever_are_allowed(bench: Bench) -> None:
    """The referee may not be stricter than the exchange."""
    talk = bench.open("binance", "/ws")
    for _ in range(50):
        assert bench.tell(talk, ask("LIST_SUBSCRIPTIONS"))
        bench.now_ms += 200
    assert talk.ending is None


def test_repeated_1008_closes_get_the_address_banned(bench: Bench) -> None:
    """Users saw bans after repeated disconnects; reconnecting is refused."""
    for _ in range(3):
        talk = bench.open("binance", "/ws")
        for _ in range(6):
            bench.tell(talk, ask("LIST_SUBSCRIPTIONS"))
    refused = bench.exchanges["binance"].greet(bench.request("binance", "/ws"))
    assert isinstance(refused, Answer)
    assert refused.status == 418


def test_the_301st_attempt_in_five_minutes_is_refused(bench: Bench) -> None:
    """A reconnect storm meets this; the count is the address's."""
    house = bench.exchanges["binance"]
    opened = [house.greet(bench.request("binance", "/ws")) for _ in range(301)]
    refused = opened.pop()
    assert isinstance(refused, Answer)
    assert refused.status == 429
    other = house.greet(bench.request("binance", "/ws", by="10.0.0.2"))
    assert not isinstance(other, Answer)
    bench.now_ms += 300_000
    assert not isinstance(house.greet(bench.request("binance", "/ws")), Answer)


def pings(talk: Any) -> list[bytes]:  # noqa: ANN401  # a talk
    """Take the payloads of waiting pings."""
    return [frame.payload for frame in frames(talk) if frame.opcode == PING]


def test_a_ping_comes_every_twenty_seconds_and_wants_its_own_pong(
    bench: Bench,
) -> None:
    """An unsolicited pong does not count; the connection is cut after a minute."""
    answering = bench.open("binance", "/ws")
    careless = bench.open("binance", "/ws")
    for _ in range(4):
        bench.wait(20_000)
        for payload in pings(answering):
            answering.pong(payload, bench.now_ms)
        careless.pong(b"hello", bench.now_ms)
    assert answering.ending is None
    assert careless.ending is not None
    assert careless.ending.code is None
    total = bench.world.ledger.picture(bench.now_ms).exchanges["binance"].total
    assert total.missed_pongs == 1


def test_a_connection_lives_a_day(bench: Bench) -> None:
    """It is closed after 24 hours, however well it behaves."""
    talk = bench.open("binance", "/ws")
    bench.now_ms += 86_400_000 - 1
    talk.opened_ms += 0
    bench.exchanges["binance"].beat(bench.now_ms)
    for payload in pings(talk):
        talk.pong(payload, bench.now_ms)
    assert talk.ending is None
    bench.wait(1)
    assert talk.ending is not None
    assert talk.ending.code == 1001


@pytest.mark.parametrize("path", ["/ws", "/stream"])
def test_a_shutdown_is_announced_and_then_done(bench: Bench, path: str) -> None:
    """The client has until then to open another connection."""
    talk = bench.open("binance", path)
    house = bench.exchanges["binance"]
    assert isinstance(house, Binance)
    house.shut_down(bench.now_ms, 2_000)
    (message,) = said(talk)
    event = {"e": "serverShutdown", "E": bench.now_ms + 40}
    envelope = {"stream": "!serverShutdown", "data": event}
    assert message == (envelope if path == "/stream" else event)
    bench.wait(1_999)
    assert talk.ending is None
    bench.wait(1)
    assert talk.ending is not None


def test_a_halted_symbol_is_silent(bench: Bench) -> None:
    """The rest of the connection goes on."""
    talk = bench.open("binance", "/ws/ethusdt@bookTicker/btcusdt@bookTicker")
    bench.world.faults.add(
        Fault(exchange="binance", fault="break", symbol="ETHUSDT"), bench.now_ms
    )
    bench.wait(0)
    bench.move("ETH")
    bench.move("BTC")
    assert [message["s"] for message in said(talk)] == ["BTCUSDT"]


def test_subscriptions_are_counted(bench: Bench) -> None:
    """Benches ask how many streams were open, and whether any was asked for twice."""
    talk = bench.open("binance", "/stream?streams=a@trade/b@trade")
    bench.tell(talk, ask("SUBSCRIBE", ["b@trade", "c@trade"]))
    total = bench.world.ledger.picture(bench.now_ms).exchanges["binance"].total
    subscriptions = total.subscriptions
    assert (subscriptions.asked, subscriptions.open) == (4, 3)
    assert subscriptions.duplicate == 1
    bench.exchanges["binance"].part(talk)
    assert total.subscriptions.open == 0
    assert total.subscriptions.open_peak == 3
    bench.move("BTC")
    assert said(talk) == []


def test_streams_have_two_paths(bench: Bench) -> None:
    """Anything else is a wrong address."""
    answer = bench.exchanges["binance"].greet(bench.request("binance", "/v2"))
    assert isinstance(answer, Answer)
    assert answer.status == 404


def test_a_url_that_is_too_long_is_refused(bench: Bench) -> None:
    """Client libraries stop at about 8,000 characters; the rest goes by SUBSCRIBE."""
    names = "/".join(f"s{number:03}usdt@bookTicker" for number in range(500))
    request = bench.request("binance", f"/stream?streams={names}")
    answer = bench.exchanges["binance"].greet(request)
    assert isinstance(answer, Answer)
    assert answer.status == 414
    picture = bench.world.ledger.picture(bench.now_ms)
    assert picture.exchanges["binance"].total.breaches == {"url": 1}
