"""Binance's frames and conversation, from the notes on its protocol."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import FrameError
from relay.exchanges.adapter import Closing, Confirmed, Notice, Rejected
from relay.exchanges.binance_session import BinanceSession, rules_of
from relay.model import Update

CHANNELS = ("ticker", "bookTicker", "aggTrade")
AT = 1_760_000_000_200

MINI = (
    b'{"e":"24hrMiniTicker","E":1760000000123,"s":"BTCUSDT","c":"61000.10000000",'
    b'"o":"60000.00000000","h":"61500.00000000","l":"59800.00000000",'
    b'"v":"1234.50000000","q":"74500000.00000000"}'
)
DAY = (
    b'{"e":"24hrTicker","E":1760000000123,"s":"BTCUSDT","p":"1000.10","P":"1.667",'
    b'"w":"60500.0","x":"60000.0","c":"61000.10000000","Q":"0.1","b":"61000.09000000",'
    b'"B":"2.0","a":"61000.11000000","A":"3.0","o":"60000.00000000",'
    b'"h":"61500.00000000","l":"59800.00000000","v":"1234.50000000",'
    b'"q":"74500000.00000000","O":1,"C":2,"F":3,"L":4,"n":2}'
)
HOUR = (
    b'{"e":"1hTicker","E":1760000000123,"s":"BTCUSDT","p":"1","P":"0.1","w":"60500",'
    b'"c":"61000.1","o":"60999.1","h":"61001","l":"60998","v":"3","q":"180000",'
    b'"O":1,"C":2,"F":3,"L":4,"n":2}'
)
BOOK = b'{"u":400900217,"s":"BNBUSDT","b":"25.3519","B":"1","a":"25.3652","A":"2"}'
FUTURES_BOOK = (
    b'{"e":"bookTicker","u":600859600576,"s":"SUSHIUSDT","b":"7.6110","B":"2",'
    b'"a":"7.6120","A":"297","T":1626992741012,"E":1626992741017}'
)
AGGREGATE = (
    b'{"e":"aggTrade","E":1760000000123,"s":"BTCUSDT","a":12345,"p":"0.00100000",'
    b'"q":"100","f":100,"l":105,"T":1760000000120,"m":true,"M":true}'
)
TRADE = (
    b'{"e":"trade","E":1760000000123,"s":"BTCUSDT","t":77,"p":"61000.2","q":"1",'
    b'"b":88,"a":50,"T":1760000000120,"m":true,"M":true}'
)
DEPTH = (
    b'{"e":"depthUpdate","E":1760000000123,"T":1760000000120,"s":"BTCUSDT","U":1,"u":2,'
    b'"pu":0,"b":[["1.0","2"]],"a":[]}'
)


def session(*symbols: str, channels: tuple[str, ...] = CHANNELS) -> BinanceSession:
    """Open a connection to Binance."""
    return BinanceSession(channels, symbols, rules_of(channels, us=False))


def read(frame: bytes) -> list[Update]:
    """Read one frame by a fresh connection."""
    return list(session().receive(frame, received_ms=AT))


@pytest.mark.parametrize(
    "payload",
    [
        BOOK,
        FUTURES_BOOK,
        b'{"u":7,"s":"BTCUSDT","b":"0.00000000","a":"5.10"}',
        b'{"u":7,"s":"BTCUSDT","b":"5.00","a":"0"}',
        b'{"u":7,"s":"BTCUSDT","b":"0","a":"0"}',
        b'{"u":7,"s":"BTCUSDT","b":"1e-07","a":"2E-7"}',
        b'{"u":7,"s":"BTCUSDT","b":5.10,"a":6}',
        b'{"u":7,"s":"BTCUSDT","b":null,"a":"6.0"}',
        b'{"u":7,"s":"BTCUSDT","b":"5.0"}',
        DAY,
        TRADE,
        DEPTH,
    ],
)
def test_a_best_price_reads_the_same_in_its_envelope_as_raw(payload: bytes) -> None:
    """In its envelope it is read in one go, and only what is as usual."""
    enveloped = b'{"stream":"btcusdt@bookTicker","data":%b}' % payload
    assert read(enveloped) == read(payload)


def test_a_best_price_that_names_no_symbol_is_refused_in_its_envelope() -> None:
    """The quick way must not let through what the other one refuses."""
    with pytest.raises(FrameError, match="names no symbol"):
        read(b'{"stream":"@bookTicker","data":{"u":7,"s":"","b":"5.0","a":"6.0"}}')


def wrapped(data: bytes, stream: str = "btcusdt@any") -> bytes:
    """Put a payload into the combined envelope."""
    return b'{"stream":"%s","data":%s}' % (stream.encode(), data)


BY_PAYLOAD = [
    (
        MINI,
        Update(
            exchange="binance",
            channel="miniTicker",
            symbol="BTCUSDT",
            received_ms=AT,
            event_ms=1_760_000_000_123,
            price="61000.10000000",
            change_24h_pct="1.667",
            high_24h="61500.00000000",
            low_24h="59800.00000000",
            volume_24h="1234.50000000",
            volume_24h_quote="74500000.00000000",
        ),
    ),
    (
        DAY,
        Update(
            exchange="binance",
            channel="ticker",
            symbol="BTCUSDT",
            received_ms=AT,
            event_ms=1_760_000_000_123,
            price="61000.10000000",
            bid="61000.09000000",
            ask="61000.11000000",
            change_24h_pct="1.667",
            high_24h="61500.00000000",
            low_24h="59800.00000000",
            volume_24h="1234.50000000",
            volume_24h_quote="74500000.00000000",
        ),
    ),
    (
        HOUR,
        Update(
            exchange="binance",
            channel="ticker_1h",
            symbol="BTCUSDT",
            received_ms=AT,
            event_ms=1_760_000_000_123,
            price="61000.1",
        ),
    ),
    (
        BOOK,
        Update(
            exchange="binance",
            channel="bookTicker",
            symbol="BNBUSDT",
            received_ms=AT,
            sequence=400_900_217,
            bid="25.3519",
            ask="25.3652",
        ),
    ),
    (
        FUTURES_BOOK,
        Update(
            exchange="binance",
            channel="bookTicker",
            symbol="SUSHIUSDT",
            received_ms=AT,
            event_ms=1_626_992_741_017,
            sequence=600_859_600_576,
            bid="7.6110",
            ask="7.6120",
        ),
    ),
    (
        AGGREGATE,
        Update(
            exchange="binance",
            channel="aggTrade",
            symbol="BTCUSDT",
            received_ms=AT,
            event_ms=1_760_000_000_120,
            sequence=12_345,
            price="0.00100000",
        ),
    ),
    (
        TRADE,
        Update(
            exchange="binance",
            channel="trade",
            symbol="BTCUSDT",
            received_ms=AT,
            event_ms=1_760_000_000_120,
            sequence=77,
            price="61000.2",
        ),
    ),
]


@pytest.mark.parametrize(("payload", "update"), BY_PAYLOAD)
def test_a_payload_reads_alike_raw_in_its_envelope_and_in_a_list(
    payload: bytes, update: Update
) -> None:
    """The form depends on the URL, and recordings hold all of them."""
    assert read(payload) == [update]
    assert read(wrapped(payload)) == [update]
    assert read(b"[%s,%s]" % (payload, payload)) == [update, update]
    assert read(wrapped(b"[%s]" % payload, "!any@arr")) == [update]


@pytest.mark.parametrize("window", ["1h", "4h", "1d"])
def test_another_windows_figures_are_not_those_of_24_hours(window: str) -> None:
    """An hour's low shown as the day's would be a wrong number, not a missing one."""
    (update,) = read(HOUR.replace(b"1hTicker", window.encode() + b"Ticker"))
    assert update.channel == f"ticker_{window}"
    assert (update.price, update.low_24h, update.volume_24h) == ("61000.1", "", "")
    assert update.change_24h_pct == ""


def test_numbers_are_read_digit_for_digit_even_when_they_are_no_text() -> None:
    """A trailing zero is information; an exponent is not for readers."""
    frame = AGGREGATE.replace(b'"0.00100000"', b"1.2340e-05")
    assert read(frame)[0].price == "0.000012340"
    assert read(AGGREGATE.replace(b'"0.00100000"', b"740.0"))[0].price == "740.0"


def test_microseconds_become_milliseconds() -> None:
    """A connection with ``timeUnit=MICROSECOND`` has the same instants."""
    (update,) = read(MINI.replace(b"1760000000123", b"1760000000123456"))
    assert update.event_ms == 1_760_000_000_123


@pytest.mark.parametrize(
    "payload",
    [
        MINI.replace(b'"61000.10000000"', b'"0.00000000"'),
        DAY.replace(b'"61000.10000000"', b'"0.00000000"'),
        DAY.replace(b'"61000.10000000"', b"null"),
        BOOK.replace(b"25.3519", b"0.0").replace(b"25.3652", b""),
        AGGREGATE.replace(b"0.00100000", b"0"),
    ],
)
def test_a_dead_symbol_says_nothing(payload: bytes) -> None:
    """Zero is how Binance writes that there is no price."""
    assert read(payload) == []


def test_half_a_book_is_an_update_without_the_missing_half() -> None:
    """Somebody bids and nobody asks: that is known, and true."""
    (update,) = read(BOOK.replace(b"25.3652", b"0.00000000"))
    assert (update.bid, update.ask) == ("25.3519", "")


@pytest.mark.parametrize(
    "payload",
    [
        DEPTH,
        b'{"lastUpdateId":160,"bids":[["0.0024","10"]],"asks":[]}',
        b'{"e":"kline","E":1,"s":"BTCUSDT","k":{"t":1,"s":"BTCUSDT","c":"1.0"}}',
        b'{"e":"avgPrice","E":1,"s":"BTCUSDT","i":"5m","w":"25776.8","T":1}',
        b'{"e":"referencePrice","s":"BTCUSDT","r":null,"t":1}',
        b'{"e":"markPriceUpdate","E":1,"s":"BTCUSDT","p":"1.0","i":"1.0","T":1}',
        b'{"e":"blockTrade","E":1,"s":"BTCUSDT","t":1,"p":"9","q":"1","T":1,"m":true}',
    ],
)
def test_documented_events_without_a_price_are_passed_over(payload: bytes) -> None:
    """Books and candles are not ours; an average or an agreed price is none of ours."""
    assert read(payload) == []
    assert read(wrapped(payload)) == []


@pytest.mark.parametrize(
    ("frame", "channel"),
    [
        (b"", "stream"),
        (b"null", "stream"),
        (b'"hello"', "stream"),
        (b"<html>502</html>", "stream"),
        (b"{}", "stream"),
        (b'{"stream":"btcusdt@ticker","data":null}', "stream"),
        (b'{"s":"\xff"}', "stream"),
        (b'{"c":' + b"[" * 100_000, "stream"),
        (BOOK[:-1], "stream"),
        (MINI.replace(b"24hrMiniTicker", b"newTicker"), "newTicker"),
        (MINI.replace(b'"s":"BTCUSDT",', b""), "miniTicker"),
    ],
)
def test_an_unreadable_frame_names_its_exchange_and_channel(
    frame: bytes, channel: str
) -> None:
    """The message alone must tell an operator which feed went wrong."""
    with pytest.raises(FrameError, match=rf"^binance {channel}: "):
        read(frame)


@given(
    st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "e",
                        "E",
                        "s",
                        "c",
                        "p",
                        "b",
                        "a",
                        "u",
                        "t",
                        "T",
                        "o",
                        "P",
                        "stream",
                        "data",
                        "id",
                        "code",
                        "msg",
                        "error",
                        "result",
                        "lastUpdateId",
                    ]
                ),
                inner
                | st.sampled_from(["24hrTicker", "aggTrade", "bookTicker", "BTCUSDT"]),
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_read_or_raise_a_frame_error(frame: bytes) -> None:
    """One bad frame must never end the connection's task."""
    try:
        updates = read(frame)
    except FrameError:
        return
    assert all(update.symbol for update in updates)


@pytest.mark.parametrize(
    "frame",
    [
        b'{"e":"serverShutdown","E":1770000000000}',
        wrapped(b'{"e":"serverShutdown","E":1770000000000}', "!serverShutdown"),
    ],
)
def test_an_announced_restart_is_noticed(frame: bytes) -> None:
    """The replacement must be open before the old connection is closed."""
    connection = session()
    assert not connection.receive(frame, received_ms=AT)
    assert [type(notice) for notice in connection.notices] == [Closing]


def test_streams_named_in_the_url_cost_no_message() -> None:
    """Only 5 messages a second are allowed; the URL is free."""
    connection = session("BTCUSDT", "1INCHUSDT")
    assert connection.target == (
        "/stream?streams=btcusdt@ticker/btcusdt@bookTicker/btcusdt@aggTrade/"
        "1inchusdt@ticker/1inchusdt@bookTicker/1inchusdt@aggTrade"
    )
    assert connection.opened() == []
    assert connection.notices == [Confirmed(("BTCUSDT", "1INCHUSDT"))]
    assert connection.ping() == []


def test_names_outside_ascii_are_encoded_in_the_url_and_not_in_a_message() -> None:
    """Binance lists symbols such as 币安人生USDT."""
    connection = session("币安人生USDT", channels=("ticker",))
    expected = "%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9Fusdt@ticker"
    assert connection.target == f"/stream?streams={expected}"
    (message,) = connection.subscribe(["币安人生USDT"])
    assert "币安人生usdt@ticker".encode() in message


def test_what_the_url_has_no_room_for_is_subscribed_in_small_messages() -> None:
    """URLs end at about 8,000 characters, and SUBSCRIBE fails above some 200 names."""
    symbols = [f"COIN{number:04}USDT" for number in range(300)]
    connection = session(*symbols)
    assert len(connection.target) <= 7_000
    messages = [json.loads(message) for message in connection.opened()]
    (confirmed,) = connection.notices
    assert isinstance(confirmed, Confirmed)
    named = [name for message in messages for name in message["params"]]
    in_url = connection.target.partition("=")[2].split("/")
    wanted = [f"{one.lower()}@{channel}" for one in symbols for channel in CHANNELS]
    assert in_url + named == wanted
    assert len(in_url) == 3 * len(confirmed.symbols)
    assert all(len(message["params"]) <= 200 for message in messages)
    assert [message["method"] for message in messages] == ["SUBSCRIBE"] * len(messages)
    assert len({message["id"] for message in messages}) == len(messages) > 1


def test_a_connection_without_symbols_names_no_stream() -> None:
    """``/stream?streams=`` with nothing behind it is not a documented URL."""
    assert session().target == "/stream"
    assert session().opened() == []


def test_a_stream_of_all_symbols_is_named_once() -> None:
    """``!miniTicker@arr`` brings every symbol, whatever is subscribed later."""
    connection = session("BTCUSDT", channels=("!miniTicker@arr",))
    assert connection.target == "/stream?streams=!miniTicker@arr"
    assert connection.opened() == []
    assert connection.subscribe(["ETHUSDT"]) == []
    assert connection.notices == [Confirmed(("BTCUSDT",)), Confirmed(("ETHUSDT",))]


@pytest.mark.parametrize(
    ("channels", "symbols_max"),
    [
        (("ticker",), 1024),
        (("ticker", "bookTicker", "aggTrade"), 341),
        (("!miniTicker@arr", "bookTicker"), 1023),
        (("!miniTicker@arr",), 1023),
    ],
)
def test_a_connection_never_takes_more_than_1024_streams(
    channels: tuple[str, ...], symbols_max: int
) -> None:
    """The 1,025th is refused with code 4."""
    rules = rules_of(channels, us=False)
    assert rules.symbols_max == symbols_max
    assert rules.spacing_ms >= 300
    assert rules.ping_ms == 0


def test_binance_us_pings_so_seldom_that_silence_means_less() -> None:
    """Three minutes between pings there, 20 seconds elsewhere."""
    assert rules_of(CHANNELS, us=True).silent_after_ms > 3 * 180_000 > 60_000
    assert rules_of(CHANNELS, us=False).silent_after_ms == 60_000


def test_subscriptions_change_in_place() -> None:
    """A reconnect for each new instrument would break the limit on connections."""
    connection = session()
    (message,) = connection.subscribe(["ETHUSDT"])
    assert json.loads(message) == {
        "method": "SUBSCRIBE",
        "params": ["ethusdt@ticker", "ethusdt@bookTicker", "ethusdt@aggTrade"],
        "id": 1,
    }
    (message,) = connection.unsubscribe(["ETHUSDT"])
    assert json.loads(message)["method"] == "UNSUBSCRIBE"
    assert json.loads(message)["id"] == 2


ANSWERS: list[tuple[bytes, list[Notice]]] = [
    (b'{"result":null,"id":1}', [Confirmed(("ETHUSDT",))]),
    (b'{"result":null,"id":2}', []),
    (b'{"result":["btcusdt@aggTrade"],"id":9}', []),
    (b'{"result":null,"id":null}', []),
    (
        b'{"code":2,"msg":"Invalid request: invalid stream","id":1}',
        [Rejected(("ETHUSDT",), "Invalid request: invalid stream (code 2)")],
    ),
    (
        b'{"error":{"code":4,"msg":"Too many subscriptions"},"id":1}',
        [Rejected(("ETHUSDT",), "Too many subscriptions (code 4)")],
    ),
    (
        b'{"error":{"code":3,"msg":"Invalid JSON: expected value at line 1 column 1"}}',
        [Rejected((), "Invalid JSON: expected value at line 1 column 1 (code 3)")],
    ),
    (
        b'{"code":0,"msg":"Unknown property","id":"x"}',
        [Rejected((), "Unknown property (code 0)")],
    ),
    (b'{"code":2,"msg":"Invalid request","id":2}', []),
    (
        b'{"code":2,"msg":"Invalid request: invalid stream","id":3}',
        [
            Rejected(
                ("BTCUSDT", "E-USDT"),
                "Invalid request: invalid stream (code 2)",
                whole=True,
            )
        ],
    ),
]


@pytest.mark.parametrize(("frame", "notices"), ANSWERS)
def test_answers_say_what_became_of_a_request(
    frame: bytes, notices: list[Notice]
) -> None:
    """Errors are documented flat, seen wrapped; a refused UNSUBSCRIBE loses nothing."""
    connection = session()
    connection.subscribe(["ETHUSDT"])
    connection.unsubscribe(["LTCUSDT"])
    connection.subscribe(["BTCUSDT", "E-USDT"])
    assert connection.receive(frame, received_ms=AT) == ()
    assert connection.notices == notices


def test_an_answer_counts_once() -> None:
    """A repeated frame says nothing new."""
    connection = session()
    connection.subscribe(["ETHUSDT"])
    frame = msgspec.json.encode({"result": None, "id": 1})
    connection.receive(frame, received_ms=AT)
    connection.receive(frame, received_ms=AT)
    assert connection.notices == [Confirmed(("ETHUSDT",))]
