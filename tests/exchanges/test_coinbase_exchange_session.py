"""Coinbase Exchange's frames and conversation, from the notes on its protocol."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import FrameError
from relay.exchanges.adapter import Closing, Confirmed, Gap, Notice, Omitted, Rejected
from relay.exchanges.coinbase_exchange_session import CoinbaseExchangeSession
from relay.model import Update

AT = 1_790_848_800_300
LEFT_OUT = "left out of the acknowledgement"

TICKER = {
    "type": "ticker",
    "sequence": 333_938_798,
    "product_id": "BAND-GBP",
    "price": "15.0000",
    "open_24h": "14.0000",
    "volume_24h": "94381.28000000",
    "low_24h": "14.3691",
    "high_24h": "16.55",
    "volume_30d": "2295579.57000000",
    "best_bid": "14.7550",
    "best_bid_size": "1.0",
    "best_ask": "14.8060",
    "best_ask_size": "2.0",
    "side": "buy",
    "time": "2026-10-01T10:00:00.244075Z",
    "trade_id": 881_613,
    "last_size": "0.04",
}
UPDATE = Update(
    exchange="coinbase-exchange",
    channel="ticker",
    symbol="BAND-GBP",
    received_ms=AT,
    event_ms=1_790_848_800_244,
    sequence=333_938_798,
    price="15.0000",
    bid="14.7550",
    ask="14.8060",
    change_24h_pct="7.143",
    high_24h="16.55",
    low_24h="14.3691",
    volume_24h="94381.28000000",
)
MATCH = {
    "type": "match",
    "trade_id": 881_614,
    "maker_order_id": "27fff20b",
    "taker_order_id": "1da6ce16",
    "side": "sell",
    "size": "0.04",
    "price": "14.7775",
    "product_id": "BAND-GBP",
    "sequence": 333_938_799,
    "time": "2026-10-01T10:00:00.244075Z",
}
ERROR = {"type": "error", "message": "Failed to subscribe"}


def session(
    *symbols: str, channels: Sequence[str] = ("ticker", "heartbeat")
) -> CoinbaseExchangeSession:
    """Open a connection to Coinbase Exchange."""
    return CoinbaseExchangeSession(channels, symbols)


def frame(message: object) -> bytes:
    """Write a message."""
    return json.dumps(message).encode()


def ack(**state: Sequence[str] | None) -> bytes:
    """Write an acknowledgement, which is the connection's whole state."""
    channels = [
        {"name": name, "product_ids": symbols, "account_ids": None}
        for name, symbols in state.items()
    ]
    return frame({"type": "subscriptions", "channels": channels})


def beat(last_trade_id: int, product_id: str = "BAND-GBP") -> bytes:
    """Write a heartbeat."""
    return frame(
        {
            "type": "heartbeat",
            "sequence": 90,
            "last_trade_id": last_trade_id,
            "product_id": product_id,
            "time": "2026-10-01T10:00:00.244075Z",
        }
    )


def read(data: bytes) -> list[Update]:
    """Read one frame by a fresh connection."""
    return list(session().receive(data, received_ms=AT))


def told(connection: CoinbaseExchangeSession, data: bytes) -> list[Notice]:
    """Let a connection read a frame without prices; return and take its notices."""
    assert connection.receive(data, received_ms=AT) == ()
    notices, connection.notices = connection.notices, []
    return notices


def test_a_ticker_keeps_every_digit_and_the_trades_own_time() -> None:
    """The change in percent comes from the opening price."""
    assert read(frame(TICKER)) == [UPDATE]


def test_a_ticker_of_before_2022_has_no_sizes() -> None:
    """Recordings lack the keys, and nobody reads them."""
    old = {key: value for key, value in TICKER.items() if not key.endswith("_size")}
    assert read(frame(old)) == [UPDATE]


@pytest.mark.parametrize("kind", ["match", "last_match"])
def test_a_trade_is_a_price(kind: str) -> None:
    """``last_match`` comes once, at the start, with the time it really had."""
    assert read(frame({**MATCH, "type": kind})) == [
        Update(
            exchange="coinbase-exchange",
            channel="matches",
            symbol="BAND-GBP",
            received_ms=AT,
            event_ms=1_790_848_800_244,
            sequence=333_938_799,
            price="14.7775",
        )
    ]


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00.000000Z", "", None])
def test_a_time_of_the_year_1_is_none(time: str | None) -> None:
    """Recorded frames exist with it."""
    (update,) = read(frame({**TICKER, "time": time}))
    assert (update.event_ms, update.price) == (0, "15.0000")


@pytest.mark.parametrize("price", ["", "0", "0.00", None])
def test_a_message_without_a_price_says_nothing(price: str | None) -> None:
    """A product that was never traded has a ticker too."""
    assert read(frame({**TICKER, "price": price})) == []


def test_numbers_are_read_digit_for_digit_even_when_they_are_no_text() -> None:
    """A trailing zero is information; an exponent is not for readers."""
    data = frame(TICKER).replace(b'"15.0000"', b"740.0").replace(b'"16.55"', b"1e-07")
    (update,) = read(data)
    assert (update.price, update.high_24h) == ("740.0", "0.0000001")


WITHOUT_PRICE = "l2update snapshot status received open done change activate auction"


@pytest.mark.parametrize("kind", [*WITHOUT_PRICE.split(), "rfq_match", "heartbeat"])
def test_what_holds_no_last_price_is_passed_over(kind: str) -> None:
    """Books and orders are not ours; a price asked for by quote is no book's."""
    message = {
        "type": kind,
        "product_id": "BTC-USD",
        "price": "1",
        "bids": [["1", "2"]],
    }
    connection = session()
    assert told(connection, frame(message)) == []


@pytest.mark.parametrize(
    ("data", "channel"),
    [
        (b"", "stream"),
        (b"[]", "stream"),
        (b"{}", "stream"),
        (b'{"type":""}', "stream"),
        (b'{"type":"\xff"}', "stream"),
        (b'{"channel":"ticker","events":[]}', "stream"),
        (frame(TICKER)[:-1], "stream"),
        (frame({**TICKER, "product_id": ""}), "ticker"),
        (frame({**TICKER, "type": "price"}), "price"),
    ],
)
def test_an_unreadable_frame_names_its_exchange_and_channel(
    data: bytes, channel: str
) -> None:
    """The other dialect's frames are among what cannot be read here."""
    with pytest.raises(FrameError, match=rf"^coinbase-exchange {channel}: "):
        read(data)


_VALUES = ["ticker", "match", "subscriptions", "error", "heartbeat", "BTC-USD", "1e999"]


@given(
    st.binary()
    | st.dictionaries(
        st.sampled_from([*TICKER, "channels", "message", "reason", "last_trade_id"]),
        st.none() | st.integers() | st.text() | st.sampled_from(_VALUES) | st.just([]),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_read_or_raise_a_frame_error(data: bytes) -> None:
    """One bad frame must never end the connection's task."""
    try:
        updates = read(data)
    except FrameError:
        return
    assert all(update.price and update.symbol for update in updates)


def test_one_message_asks_for_all_channels() -> None:
    """Each message counts; the channels are a list here, unlike Advanced Trade's."""
    connection = session("BTC-USD", "ETH-USD")
    assert [json.loads(message) for message in connection.opened()] == [
        {
            "type": "subscribe",
            "product_ids": ["BTC-USD", "ETH-USD"],
            "channels": ["ticker", "heartbeat"],
        }
    ]
    (message,) = connection.unsubscribe(["ETH-USD"])
    assert json.loads(message) == {
        "type": "unsubscribe",
        "product_ids": ["ETH-USD"],
        "channels": ["ticker", "heartbeat"],
    }
    assert (connection.target, connection.headers) == ("/", ())
    assert connection.ping() == []


def test_many_products_are_asked_for_by_the_hundred() -> None:
    """One refusal must cost little."""
    symbols = [f"C{number}-USD" for number in range(250)]
    named = [json.loads(one)["product_ids"] for one in session(*symbols).opened()]
    assert [len(names) for names in named] == [100, 100, 50]
    assert [name for names in named for name in names] == symbols


def test_silence_means_more_where_heartbeats_come_each_second() -> None:
    """A quiet product may trade once in a long while."""
    assert session().rules.silent_after_ms < 60_000
    assert session(channels=("ticker",)).rules.silent_after_ms >= 90_000
    assert session().rules.spacing_ms >= 125


def test_an_acknowledgement_is_compared_with_what_was_asked() -> None:
    """Order is arbitrary, and channels nobody asked for say nothing."""
    connection = session("BTC-USD", "ETH-USD", "FOO-USD")
    connection.opened()
    state = ack(
        heartbeat=["FOO-USD"], level2=["FOO-USD"], ticker=["ETH-USD", "BTC-USD"]
    )
    assert told(connection, state) == [
        Confirmed(("BTC-USD", "ETH-USD")),
        Omitted(("FOO-USD",), LEFT_OUT),
    ]
    connection.unsubscribe(["ETH-USD", "FOO-USD"])
    assert told(connection, ack(ticker=["BTC-USD"], status=None)) == []


def test_an_empty_state_loses_everything() -> None:
    """Recorded: ``channels`` can be empty."""
    connection = session("BTC-USD")
    connection.opened()
    assert told(connection, ack()) == [Omitted(("BTC-USD",), LEFT_OUT)]


def test_ticker_batch_is_acknowledged_under_another_name() -> None:
    """Its data have the type of the plain ticker."""
    connection = session("BTC-USD", channels=("ticker_batch", "heartbeat"))
    connection.opened()
    state = ack(ticker_1000=["BTC-USD"], heartbeat=["BTC-USD"])
    assert told(connection, state) == [Confirmed(("BTC-USD",))]


FOO = {**ERROR, "reason": "FOO-USD is not a valid product"}
WHY = "Failed to subscribe: FOO-USD is not a valid product"


def test_a_request_can_be_refused_and_acknowledged() -> None:
    """Its valid products are subscribed all the same, whichever frame comes first."""
    connection = session("BTC-USD", "FOO-USD")
    connection.opened()
    assert told(connection, frame(FOO)) == [Rejected(("FOO-USD",), WHY)]
    assert told(connection, ack(ticker=["BTC-USD"])) == [Confirmed(("BTC-USD",))]
    connection = session("BTC-USD", "FOO-USD")
    connection.opened()
    connection.subscribe(["ETH-USD"])
    assert told(connection, ack(ticker=["BTC-USD"])) == [
        Confirmed(("BTC-USD",)),
        Omitted(("FOO-USD",), LEFT_OUT),
    ]
    assert told(connection, frame(FOO)) == [Rejected(("FOO-USD",), WHY)]
    state = ack(ticker=["ETH-USD", "BTC-USD"])
    assert told(connection, state) == [Confirmed(("ETH-USD",))]


def test_an_error_without_a_product_refuses_the_oldest_open_request() -> None:
    """It may be the channel that is wrong, or a key that is missing."""
    connection = session("BTC-USD")
    connection.opened()
    connection.subscribe(["ETH-USD"])
    error = frame({**ERROR, "reason": "full is not a valid channel"})
    reason = "Failed to subscribe: full is not a valid channel"
    assert told(connection, error) == [Rejected(("BTC-USD",), reason)]
    assert told(connection, frame(ERROR)) == [
        Rejected(("ETH-USD",), "Failed to subscribe")
    ]
    assert told(connection, error) == [Rejected((), reason)]
    connection.subscribe(["LTC-USD", "XRP-USD"])
    assert told(connection, error) == [
        Rejected(("LTC-USD", "XRP-USD"), reason, whole=True)
    ]


def test_a_refused_unsubscription_loses_nothing() -> None:
    """What was to go goes on coming, which the reader can bear."""
    connection = session("BTC-USD")
    connection.opened()
    reason = "No channels provided"
    error = {"type": "error", "message": "Failed to unsubscribe", "reason": reason}
    assert told(connection, frame(error)) == []


def test_a_slow_reader_is_told_that_it_will_be_cut() -> None:
    """A replacement must be open before the cut."""
    error = frame({"type": "error", "message": "ErrSlowConsume"})
    assert told(session(), error) == [Closing("ErrSlowConsume")]


def test_a_heartbeat_that_knows_a_newer_trade_is_a_gap() -> None:
    """``sequence`` counts all events of the book, so only trade numbers tell."""
    connection = session("BAND-GBP")
    assert told(connection, beat(881_700)) == []
    connection.receive(frame(TICKER), received_ms=AT)
    assert told(connection, beat(881_613)) == []
    assert told(connection, beat(881_614)) == [Gap(("BAND-GBP",))]
    assert told(connection, beat(881_614)) == []
    assert told(connection, beat(881_999, "OTHER-USD")) == []


def test_a_late_frame_does_not_turn_the_newest_trade_back() -> None:
    """The next heartbeat would cry loss where there is none."""
    connection = session("BAND-GBP")
    connection.receive(frame(MATCH), received_ms=AT)
    connection.receive(frame(TICKER), received_ms=AT)
    assert told(connection, beat(881_614)) == []


def test_a_forgotten_product_is_not_compared_any_more() -> None:
    """Its heartbeats end a moment later than its tickers."""
    connection = session("BAND-GBP")
    connection.receive(frame(TICKER), received_ms=AT)
    connection.unsubscribe(["BAND-GBP"])
    assert told(connection, beat(881_700)) == []


def test_a_batch_every_five_seconds_may_be_behind_the_heartbeat() -> None:
    """Then a newer trade is no loss."""
    connection = session("BAND-GBP", channels=("ticker_batch", "heartbeat"))
    connection.receive(frame(TICKER), received_ms=AT)
    assert told(connection, beat(881_700)) == []
