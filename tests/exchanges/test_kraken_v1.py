"""Kraken's older frames, as recordings hold them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import FrameError
from relay.exchanges.adapter import Confirmed, Notice, Rejected
from relay.exchanges.kraken_v1 import item, read_array, read_event
from relay.model import Update
from tests.exchanges.answers import mangled

RECEIVED_MS = 1_618_678_132_949

TICKER = (
    b'[340,{"a":["5525.40000",1,"1.000"],"b":["5525.10000",1,"1.000"],'
    b'"c":["5525.10000","0.00398963"],"v":["2634.11501494","3591.17907851"],'
    b'"p":["5631.44067","5653.78939"],"t":[11493,16267],'
    b'"l":["5505.00000","5500.00000"],"h":["5783.00000","5783.10000"],'
    b'"o":["5760.70000","5763.40000"]},"ticker","XBT/USD"]'
)
TRADES = (
    b'[0,[["5541.20000","0.15850568","1534614057.321597","s","l",""],'
    b'["0.00000","1","1534614057.3","s","l",""],'
    b'["6060.00000","0.02455000","1534614057.324998","b","l",""]],"trade","XBT/USD"]'
)
SPREAD = (
    b'[0,["5698.40000","5700.00000","1542057299.545897","1.01","0.98"],'
    b'"spread","XBT/USD"]'
)


def test_a_ticker_shows_the_last_day_not_today() -> None:
    """Of two figures the second covers 24 hours; the first starts at midnight."""
    assert list(read_array(TICKER, received_ms=RECEIVED_MS)) == [
        Update(
            exchange="kraken",
            channel="ticker",
            symbol="XBT/USD",
            received_ms=RECEIVED_MS,
            price="5525.10000",
            bid="5525.10000",
            ask="5525.40000",
            change_24h_pct="-4.135",
            high_24h="5783.10000",
            low_24h="5500.00000",
            volume_24h="3591.17907851",
        )
    ]


def test_trades_and_spreads_are_prices_with_times() -> None:
    """Their seconds have a fraction that orders them."""
    first, second = read_array(TRADES, received_ms=RECEIVED_MS)
    assert (first.price, first.sequence) == ("5541.20000", 1_534_614_057_321_597)
    assert (second.price, second.event_ms) == ("6060.00000", 1_534_614_057_324)
    (spread,) = read_array(SPREAD, received_ms=RECEIVED_MS)
    assert (spread.bid, spread.ask) == ("5698.40000", "5700.00000")
    assert spread.sequence == 1_542_057_299_545_897


@pytest.mark.parametrize(
    "frame",
    [
        b'[1,{"as":[],"bs":[]},"book-1000","XBT/USD"]',
        b'[1,{"a":[]},{"b":[]},"book-10","XBT/USD"]',
        b'[1,["1542057314.7","1542057360.4","1","1","1","1","1","1",1],"ohlc-5","A/B"]',
        b'[1,{"a":["0.0"],"c":[]},"ticker","XBT/USD"]',
        b'[1,["0","0.0"],"spread","XBT/USD"]',
    ],
)
def test_what_has_no_price_gives_no_update(frame: bytes) -> None:
    """Books and candles are documented; a dead pair is quoted at zero."""
    assert list(read_array(frame, received_ms=RECEIVED_MS)) == []


@pytest.mark.parametrize(
    ("frame", "channel"),
    [
        (b"[]", "v1"),
        (b"[1,2,3]", "v1"),
        (b'[1,{},"weather","XBT/USD"]', "v1"),
        (b'[1,{},5,"XBT/USD"]', "v1"),
        (b'[1,5,"ticker","XBT/USD"]', "ticker"),
        (b'[1,{},"trade","XBT/USD"]', "trade"),
        (TICKER[:-1], "v1"),
    ],
)
def test_an_unreadable_array_names_its_channel(frame: bytes, channel: str) -> None:
    """The message alone must tell an operator which feed went wrong."""
    with pytest.raises(FrameError, match=rf"^kraken {channel}: "):
        read_array(frame, received_ms=RECEIVED_MS)


@pytest.mark.parametrize(
    ("event", "notices"),
    [
        ({"event": "heartbeat"}, []),
        ({"event": "pong", "reqid": 42}, []),
        ({"event": "systemStatus", "connectionID": 2**63, "status": "online"}, []),
        (
            {
                "event": "subscriptionStatus",
                "channelName": "ticker",
                "pair": "XBT/USD",
                "status": "subscribed",
            },
            [Confirmed(("XBT/USD",))],
        ),
        ({"event": "subscriptionStatus", "status": "unsubscribed"}, []),
        (
            {
                "event": "subscriptionStatus",
                "status": "error",
                "pair": "XBT/USQ",
                "errorMessage": "Currency pair not supported",
            },
            [Rejected(("XBT/USQ",), "Currency pair not supported")],
        ),
        (
            {
                "event": "subscriptionStatus",
                "status": "error",
                "errorMessage": "Subscription depth not supported",
            },
            [Rejected((), "Subscription depth not supported")],
        ),
    ],
)
def test_events_become_notices(event: object, notices: list[Notice]) -> None:
    """Whatever is not about prices is told apart from them."""
    assert read_event(msgspec.json.encode(event)) == notices


@pytest.mark.parametrize("frame", [b"", b"{}", b'{"event":"earthquake"}'])
def test_an_unreadable_event_says_so(frame: bytes) -> None:
    """It is counted like any other frame that nobody can read."""
    with pytest.raises(FrameError, match=r"^kraken v1: "):
        read_event(frame)


def test_a_figure_that_is_not_there_is_none() -> None:
    """Old answers have two figures where newer ones have three."""
    assert item(("a", "b"), 1) == "b"
    assert item(("a", "b"), 2) is None


@given(st.binary() | mangled([TICKER, TRADES, SPREAD]))
def test_any_bytes_are_read_or_named_unreadable(frame: bytes) -> None:
    """One frame must never end a replay."""
    for read in (lambda: read_array(frame, received_ms=0), lambda: read_event(frame)):
        try:
            read()
        except FrameError:
            continue
