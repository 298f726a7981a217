"""Kraken's WebSocket v2; frames are composed from the protocol's own examples."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import FrameError
from relay.exchanges.adapter import Closing, Confirmed, Notice, Rejected, Told
from relay.exchanges.kraken_session import KrakenSession
from relay.model import Update
from tests.exchanges.answers import mangled

RECEIVED_MS = 1_790_327_071_760

TICKER = (
    b'{"channel":"ticker","type":"snapshot","data":[{"symbol":"ALGO/USD",'
    b'"bid":0.10025,"bid_qty":740.0,"ask":0.10035,"ask_qty":740.0,"last":0.10035,'
    b'"volume":997038.98383185,"vwap":0.10148,"low":0.09979,"high":0.10285,'
    b'"change":-0.00017,"change_pct":-0.17,"timestamp":"2026-09-25T09:04:31.742648Z"}]}'
)
STATUS = (
    b'{"channel":"status","type":"update","data":[{"system":"%s","api_version":"v2",'
    b'"connection_id":12393906104898154338,"version":"2.0.9"%s}]}'
)
TRADES = (
    b'{"channel":"trade","type":"update","data":['
    b'{"symbol":"MATIC/USD","side":"sell","price":0.5117,"qty":40.0,"ord_type":"market",'
    b'"trade_id":4665906,"timestamp":"2026-09-25T07:49:37.708706Z"},'
    b'{"symbol":"MATIC/USD","side":"sell","price":0.5110,"qty":1.0,"ord_type":"market",'
    b'"trade_id":4665907,"timestamp":"2026-09-25T07:49:37.708706Z"},'
    b'{"symbol":"MATIC/USD","side":"buy","price":0,"qty":1.0,"trade_id":4665908}]}'
)


def _session(*symbols: str, channels: tuple[str, ...] = ("ticker",)) -> KrakenSession:
    session = KrakenSession(channels, symbols)
    session.opened()
    return session


def _receive(session: KrakenSession, *frames: bytes) -> list[Update]:
    return [
        update
        for frame in frames
        for update in session.receive(frame, received_ms=RECEIVED_MS)
    ]


def _asked(frames: list[bytes]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(frame) for frame in frames]


def _ack(symbol: str, channel: str = "ticker", method: str = "subscribe") -> bytes:
    return msgspec.json.encode(
        {
            "method": method,
            "result": {"channel": channel, "symbol": symbol, "warnings": ["old"]},
            "success": True,
            "req_id": 1,
        }
    )


def test_a_ticker_keeps_every_digit() -> None:
    """Prices are JSON numbers here: read as floats they would lose their digits."""
    assert _receive(_session(), TICKER) == [
        Update(
            exchange="kraken",
            channel="ticker",
            symbol="ALGO/USD",
            received_ms=RECEIVED_MS,
            event_ms=1_790_327_071_742,
            sequence=1_790_327_071_742_648_000,
            price="0.10035",
            bid="0.10025",
            ask="0.10035",
            change_24h_pct="-0.17",
            high_24h="0.10285",
            low_24h="0.09979",
            volume_24h="997038.98383185",
        )
    ]


@pytest.mark.parametrize(
    ("row", "price", "bid"),
    [
        (b'{"symbol":"A/B","last":1e-07,"bid":740.0}', "0.0000001", "740.0"),
        (b'{"symbol":"A/B","last":61000,"bid":null}', "61000", ""),
        (b'{"symbol":"A/B","bid":1.234e-05}', "", "0.00001234"),
        (b'{"symbol":"A/B","last":0.0,"bid":5,"timestamp":null}', "", "5"),
    ],
)
def test_a_ticker_may_lack_its_last_price_and_its_time(
    row: bytes, price: str, bid: str
) -> None:
    """A pair without trades for a day has quotes only; older frames have no time."""
    (update,) = _receive(_session(), b'{"channel":"ticker","data":[%s]}' % row)
    assert (update.price, update.bid, update.sequence) == (price, bid, 0)


def test_of_tickers_of_one_instant_the_later_is_the_newer() -> None:
    """A burst may be stamped once; what is said again is no news."""
    session = _session()

    def number(last: bytes, timestamp: bytes) -> int:
        row = b'{"symbol":"A/B","last":%s,"timestamp":"%s"}' % (last, timestamp)
        (update,) = _receive(session, b'{"channel":"ticker","data":[%s]}' % row)
        return update.sequence

    at, before, after = (b"2026-09-25T09:04:%d.5Z" % second for second in (31, 30, 32))
    first = number(b"1.1", at)
    assert number(b"1.1", at) == first
    second = number(b"1.2", at)
    assert first < second == number(b"1.2", at) < number(b"1.1", at)
    assert number(b"9", before) < first
    assert number(b"1.1", after) > number(b"1.3", at)
    session.unsubscribe(["A/B"])
    assert number(b"1.1", at) == first


def test_a_ticker_without_any_price_says_nothing() -> None:
    """Publishing it would show an empty instrument."""
    row = b'{"symbol":"A/B","last":0,"bid":0.0,"volume":0}'
    assert _receive(_session(), b'{"channel":"ticker","data":[%s]}' % row) == []


def test_every_trade_of_a_frame_is_a_price() -> None:
    """Trade ids order them, since several share one instant."""
    updates = _receive(_session(), TRADES)
    assert [(update.price, update.sequence) for update in updates] == [
        ("0.5117", 4665906),
        ("0.5110", 4665907),
    ]
    assert {update.event_ms for update in updates} == {1_790_322_577_708}


@pytest.mark.parametrize(
    "frame",
    [
        b'{"channel":"heartbeat"}',
        b'{"channel":"book","type":"update","data":[{"symbol":"BTC/USD"}]}',
        b'{"channel":"ohlc","type":"update","data":[]}',
        b'{"channel":"instrument","type":"snapshot","data":{"assets":[],"pairs":[]}}',
        b'{"method":"pong","req_id":101,"time_in":"x","time_out":"y"}',
        b'{"method":"unsubscribe","result":{"channel":"ticker"},"success":true}',
        b'{"event":"heartbeat"}',
        b'[0,{"as":[]},"book-1000","XBT/USD"]',
    ],
)
def test_frames_without_prices_pass_in_silence(frame: bytes) -> None:
    """They are documented, and neither updates nor errors."""
    session = _session()
    assert _receive(session, frame, frame) == []
    assert session.notices == []


def test_frames_of_the_older_dialect_are_read_too() -> None:
    """Recordings hold them; nothing else tells which dialect a connection speaks."""
    (update,) = _receive(
        _session(), b'[1,{"c":["56218.30000","0.1"]},"ticker","XBT/USD"]'
    )
    assert (update.symbol, update.price) == ("XBT/USD", "56218.30000")


def test_subscriptions_are_few_and_large() -> None:
    """Requests beyond an unpublished rate are dropped, so there must be few."""
    frames = _asked(_session().subscribe([f"S{number}/USD" for number in range(450)]))
    assert [len(frame["params"]["symbol"]) for frame in frames] == [200, 200, 50]
    assert frames[0]["params"]["snapshot"] is True
    assert frames[0]["params"]["event_trigger"] == "bbo"
    assert len({frame["req_id"] for frame in frames}) == 3


def test_the_first_frames_subscribe_to_what_the_session_was_made_for() -> None:
    """Each channel takes a request of its own."""
    session = KrakenSession(("ticker", "trade", "unheard-of"), ["BTC/USD"])
    assert [frame["params"] for frame in _asked(session.opened())] == [
        {
            "channel": "ticker",
            "symbol": ["BTC/USD"],
            "event_trigger": "bbo",
            "snapshot": True,
        },
        {"channel": "trade", "symbol": ["BTC/USD"], "snapshot": True},
    ]


def test_leaving_names_the_trigger_that_joining_named() -> None:
    """Another one would name another subscription."""
    (frame,) = _asked(_session("BTC/USD").unsubscribe(["BTC/USD"]))
    assert frame["method"] == "unsubscribe"
    assert frame["params"] == {
        "channel": "ticker",
        "symbol": ["BTC/USD"],
        "event_trigger": "bbo",
    }


def test_the_ping_is_a_message() -> None:
    """The server closes connections that say nothing for a minute."""
    assert _asked(_session().ping()) == [{"method": "ping"}]


def test_a_symbol_is_confirmed_once_all_its_channels_are() -> None:
    """Acknowledgements come one a symbol and channel, in any order."""
    session = _session("BTC/USD", "ETH/USD", channels=("ticker", "trade"))
    _receive(session, _ack("BTC/USD"), _ack("ETH/USD", "trade"))
    assert session.notices == []
    _receive(session, _ack("BTC/USD", "trade"))
    assert session.notices == [Confirmed(("BTC/USD",))]


def test_an_acknowledgement_of_what_was_not_asked_confirms_nothing() -> None:
    """It may be late, for a symbol that we have left, or wrong."""
    session = _session("BTC/USD")
    session.unsubscribe(["BTC/USD"])
    without = b'{"method":"subscribe","success":true}'
    _receive(session, _ack("BTC/USD"), _ack("ETH/USD"), without)
    assert session.notices == []


UNSUPPORTED = (
    b'{"error":"Currency pair not supported XBT/USD","method":"subscribe","req_id":1,'
    b'"success":false,"symbol":"XBT/USD","time_in":"x","time_out":"y"}'
)


@pytest.mark.parametrize(
    ("frame", "notice"),
    [
        (
            UNSUPPORTED,
            Rejected(("XBT/USD",), "Currency pair not supported XBT/USD"),
        ),
        (
            b'{"error":"Malformed request","method":"error","success":false}',
            Rejected((), "Malformed request"),
        ),
        (
            b'{"Error":"Exceeded msg rate","success":false}',
            Rejected((), "Exceeded msg rate", retry=True),
        ),
        (
            b'{"error":"Exceeded msg rate","method":"subscribe","req_id":1}',
            Rejected(("ETH/USD", "XBT/USD"), "Exceeded msg rate", retry=True),
        ),
        (
            b'{"error":"Exceeded msg rate","method":"subscribe","req_id":77}',
            Rejected((), "Exceeded msg rate", retry=True),
        ),
        (
            b'{"method":"subscribe","success":false,"symbol":"ETH/USD","error":null}',
            Rejected(("ETH/USD",), "no reason given"),
        ),
        (
            b'{"error":"Already subscribed","success":false,"symbol":"ETH/USD"}',
            Confirmed(("ETH/USD",)),
        ),
    ],
)
def test_a_refusal_names_whom_it_concerns(frame: bytes, notice: Notice) -> None:
    """Some name a symbol, some only the request, some nothing at all."""
    session = _session("BTC/USD", "ETH/USD", "XBT/USD")
    _receive(session, _ack("BTC/USD"))
    session.notices.clear()
    _receive(session, frame)
    assert session.notices == [notice]


@pytest.mark.parametrize("method", [b"unsubscribe", b"ping", b"pong"])
def test_only_subscriptions_can_be_refused(method: bytes) -> None:
    """What was not left goes on being streamed, which harms nobody."""
    session = _session("BTC/USD")
    _receive(session, b'{"method":"%s","error":"Exceeded msg rate"}' % method)
    assert session.notices == []


def test_answered_requests_are_forgotten() -> None:
    """A connection may live for weeks; its memory must not grow with it."""
    session = _session("BTC/USD")
    _receive(session, _ack("BTC/USD"))
    session.subscribe(["ETH/USD"])
    error = b'{"error":"Exceeded msg rate","method":"subscribe","req_id":1}'
    _receive(session, error)
    assert session.notices[1:] == [Rejected((), "Exceeded msg rate", retry=True)]


IMMINENT = (
    b',"upcoming_maintenance":[{"stage":"imminent_5m","action":"disconnect_and_wait"}]'
)


@pytest.mark.parametrize(
    ("status", "notices"),
    [
        (STATUS % (b"maintenance", b""), [Closing("maintenance")]),
        (STATUS % (b"cancel_only", b""), []),
        (STATUS % (b"online", IMMINENT), [Closing("disconnect_and_wait imminent_5m")]),
        (
            STATUS % (b"online", b',"emergency":[{"action":"disconnect"}]'),
            [Closing("disconnect")],
        ),
        (STATUS % (b"online", IMMINENT.replace(b"imminent_5m", b"announced")), []),
        (STATUS % (b"online", IMMINENT.replace(b"disconnect", b"sit")), []),
        (STATUS % (b"online", b',"emergency":["words"],"upcoming_maintenance":{}'), []),
    ],
)
def test_an_announced_end_is_passed_on(status: bytes, notices: list[Notice]) -> None:
    """A replacement can be open before the exchange closes."""
    session = _session()
    _receive(session, STATUS % (b"online", b""), status)
    assert [one for one in session.notices if not isinstance(one, Told)] == notices


def test_what_the_exchange_says_of_itself_is_passed_on() -> None:
    """Maintenance is its word for why nothing comes; in its other states prices go on.

    A new connection's first word may be that it is over.
    """
    session = _session()
    words = (b"online", b"maintenance", b"cancel_only", b"online")
    _receive(session, *(STATUS % (word, b"") for word in words))
    assert [one for one in session.notices if isinstance(one, Told)] == [
        Told(),
        Told("maintenance, as its status says", halts=True),
        Told("cancel_only, as its status says"),
        Told(),
    ]


def test_the_greeting_is_no_reason_to_leave() -> None:
    """The replacement would be greeted alike, and attempts to connect are counted."""
    session = _session()
    _receive(session, STATUS % (b"maintenance", b""))
    assert session.notices == [Told("maintenance, as its status says", halts=True)]


@pytest.mark.parametrize(
    ("frame", "channel"),
    [
        (b"", "frame"),
        (b"null", "frame"),
        (b"{}", "frame"),
        (b'{"method":"elsewhere"}', "frame"),
        (b'{"channel":"weather","data":[]}', "frame"),
        (b"<html>", "frame"),
        (TICKER[:-1], "frame"),
        (b'{"channel":"ticker","data":{}}', "ticker"),
        (b'{"channel":"ticker","data":[{"bid":1}]}', "ticker"),
        (b'{"channel":"trade","data":[{"symbol":5}]}', "trade"),
        (b'{"channel":"status","data":5}', "status"),
        (b'{"channel":"ticker","data":[{"symbol":"\xff"}]}', "ticker"),
        (b"[" * 100_000, "v1"),
    ],
)
def test_an_unreadable_frame_names_its_exchange_and_channel(
    frame: bytes, channel: str
) -> None:
    """The message alone must tell an operator which feed went wrong."""
    with pytest.raises(FrameError, match=rf"^kraken {channel}: "):
        _receive(_session(), frame)


@given(
    st.binary() | mangled([TICKER, TRADES, UNSUPPORTED, STATUS % (b"online", IMMINENT)])
)
def test_any_bytes_are_read_or_named_unreadable(frame: bytes) -> None:
    """One frame must never end a connection."""
    try:
        _receive(_session(), frame)
    except FrameError:
        return
