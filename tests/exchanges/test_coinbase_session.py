"""Coinbase Advanced Trade's frames and conversation, from the notes on its protocol."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import FrameError
from relay.exchanges.adapter import Confirmed, Gap, Notice, Omitted, Rejected
from relay.exchanges.coinbase_session import CoinbaseSession, Roll
from relay.model import Update

AT = 1_790_848_800_300
SENT = "2026-10-01T10:00:00.223456789Z"
SENT_MS = 1_790_848_800_223

ROW = {
    "type": "ticker",
    "product_id": "BTC-USD",
    "price": "61000.12",
    "volume_24_h": "9000.5",
    "low_24_h": "60000",
    "high_24_h": "62000",
    "low_52_w": "40000",
    "high_52_w": "99000",
    "price_percent_chg_24_h": "-1.25",
    "best_bid": "61000.11",
    "best_bid_quantity": "0.2",
    "best_ask": "61000.12",
    "best_ask_quantity": "0.01",
}
UPDATE = Update(
    exchange="coinbase",
    channel="ticker",
    symbol="BTC-USD",
    received_ms=AT,
    event_ms=SENT_MS,
    sequence=(SENT_MS * 1_000 + 456) * 1_000_000_000,
    price="61000.12",
    bid="61000.11",
    ask="61000.12",
    change_24h_pct="-1.25",
    high_24h="62000",
    low_24h="60000",
    volume_24h="9000.5",
)


def session(
    *symbols: str, channels: Sequence[str] = ("ticker", "heartbeats")
) -> CoinbaseSession:
    """Open a connection to Coinbase."""
    return CoinbaseSession(channels, symbols)


def frame(
    channel: str, *events: object, number: int | None = None, **more: object
) -> bytes:
    """Write a message in its envelope; without a number, none is counted."""
    envelope = {"channel": channel, "timestamp": SENT, "events": events, **more}
    if number is not None:
        envelope["sequence_num"] = number
    return json.dumps(envelope).encode()


def tickers(
    *rows: object,
    channel: str = "ticker",
    kind: str = "update",
    number: int | None = None,
    **more: object,
) -> bytes:
    """Write a message of tickers."""
    return frame(channel, {"type": kind, "tickers": rows}, number=number, **more)


def ack(number: int | None = None, **state: Sequence[str]) -> bytes:
    """Write an acknowledgement, which is the connection's whole state."""
    return frame("subscriptions", {"subscriptions": state}, number=number)


def read(data: bytes) -> list[Update]:
    """Read one frame by a fresh connection."""
    return list(session().receive(data, received_ms=AT))


def told(connection: CoinbaseSession, data: bytes) -> list[Notice]:
    """Let a connection read a frame without prices; return and take its notices."""
    assert connection.receive(data, received_ms=AT) == ()
    notices, connection.notices = connection.notices, []
    return notices


def test_a_ticker_keeps_every_digit_and_takes_the_envelopes_time() -> None:
    """The rows have no time of their own."""
    assert read(tickers(ROW)) == [UPDATE]


@pytest.mark.parametrize("client_id", ["", "7"])
def test_a_client_id_changes_nothing(client_id: str) -> None:
    """It was there until about 2026, and broke strict readers when it went."""
    assert read(tickers(ROW, client_id=client_id)) == [UPDATE]


def test_the_batch_every_five_seconds_has_no_bid_and_ask() -> None:
    """A field that a channel does not give must not erase another channel's."""
    row = {key: value for key, value in ROW.items() if not key.startswith("best")}
    (update,) = read(tickers(row, channel="ticker_batch"))
    assert (update.channel, update.price) == ("ticker_batch", "61000.12")
    assert (update.bid, update.ask) == ("", "")


def test_a_first_ticker_is_not_stamped_as_fresh_trading() -> None:
    """An illiquid product's last trade may be days old, and nothing tells its time."""
    (update,) = read(tickers(ROW, kind="snapshot"))
    assert (update.snapshot, update.event_ms) == (True, 0)
    assert update.sequence == 0  # by a clock that is ahead it would hold up all else


def test_rows_merged_into_one_frame_keep_their_order() -> None:
    """Bursts are merged; the last row is the newest, and must win."""
    rows = [{**ROW, "price": price} for price in ("1.10", "1.20", "1.30")]
    data = frame("ticker", *({"type": "update", "tickers": [row]} for row in rows))
    updates = read(data)
    assert [update.price for update in updates] == ["1.10", "1.20", "1.30"]
    sequences = [update.sequence for update in updates]
    assert sequences == sorted(set(sequences))


def test_frames_of_one_instant_are_ordered_by_their_numbers() -> None:
    """Times have 0 to 9 decimals: the last of a second's frames must win, too."""
    connection = session()
    data = [
        tickers({**ROW, "price": price}, number=number, timestamp=SENT[:19] + "Z")
        for number, price in ((0, "1.10"), (1, "1.20"), (3, "1.40"), (2, "1.30"))
    ]
    updates = [
        update for one in data for update in connection.receive(one, received_ms=AT)
    ]
    updates.sort(key=lambda update: update.sequence)
    assert [update.price for update in updates] == ["1.10", "1.20", "1.30", "1.40"]
    (again,) = connection.receive(data[2], received_ms=AT)
    assert again.sequence == updates[3].sequence, "a repeated frame is no news"


@pytest.mark.parametrize(
    ("text", "event_ms"),
    [
        ("2026-10-01T10:00:00Z", 1_790_848_800_000),
        ("2026-10-01T10:00:00.5Z", 1_790_848_800_500),
        ("2026-10-01T10:00:00.223456Z", SENT_MS),
        ("2026-10-01T10:00:00.223456789Z", SENT_MS),
        ("0001-01-01T00:00:00.000000Z", 0),
        ("soon", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_times_have_up_to_nine_decimals_or_are_none(
    text: str | None, event_ms: int
) -> None:
    """A price with a damaged time is still a price."""
    (update,) = read(tickers(ROW, timestamp=text))
    assert update.event_ms == event_ms
    assert bool(update.sequence) == bool(event_ms)


@pytest.mark.parametrize("price", ["", "0", "0.00", None])
def test_a_row_without_a_price_is_left_out(price: str | None) -> None:
    """Empty text stands for a missing number."""
    assert read(tickers({**ROW, "price": price}, ROW)) == [UPDATE]


def test_numbers_are_read_digit_for_digit_even_when_they_are_no_text() -> None:
    """A trailing zero is information; an exponent is not for readers."""
    data = tickers(ROW).replace(b'"61000.12"', b"740.0").replace(b'"60000"', b"1.5e-07")
    (update,) = read(data)
    assert (update.price, update.low_24h) == ("740.0", "0.00000015")


def test_trades_come_newest_first_and_leave_oldest_first() -> None:
    """The last update of a frame must be the newest price."""
    trade = {
        "trade_id": "12",
        "product_id": "ETH-USD",
        "price": "2000.10",
        "size": "1",
        "side": "BUY",
        "time": "2026-10-01T09:59:59.100000Z",
    }
    older = {**trade, "trade_id": "x11", "price": "2000.00", "time": ""}
    void = {**trade, "price": "0"}
    data = frame("market_trades", {"type": "snapshot", "trades": [trade, void, older]})
    base = Update(
        exchange="coinbase",
        channel="market_trades",
        symbol="ETH-USD",
        received_ms=AT,
        snapshot=True,
        price="2000.00",
    )
    newest = Update(
        exchange="coinbase",
        channel="market_trades",
        symbol="ETH-USD",
        received_ms=AT,
        event_ms=1_790_848_799_100,
        sequence=12,
        snapshot=True,
        price="2000.10",
    )
    assert read(data) == [base, newest]


@pytest.mark.parametrize(
    "data",
    [
        frame("heartbeats", {"current_time": "x", "heartbeat_counter": 66987}),
        frame("heartbeats", {"current_time": "x", "heartbeat_counter": "66987"}),
        frame("candles", {"type": "snapshot", "candles": [{"close": "1"}]}),
        frame("status", {"type": "snapshot", "products": [{"id": "BTC-USD"}]}),
        frame("l2_data", {"type": "update", "updates": [{"price_level": "1"}]}),
        ack(),
    ],
)
def test_what_holds_no_price_is_passed_over(data: bytes) -> None:
    """Books and candles are not ours; a heartbeat's counter is a number or text."""
    assert read(data) == []


@pytest.mark.parametrize(
    ("data", "channel"),
    [
        (b"", "stream"),
        (b"[]", "stream"),
        (b"{}", "stream"),
        (b"<html>", "stream"),
        (b'{"channel":"\xff"}', "stream"),
        (tickers(ROW)[:-1], "stream"),
        (tickers({"price": "1"}), "stream"),
        (b'{"type":"ticker","product_id":"BTC-USD","price":"1"}', "stream"),
        (tickers(ROW, channel="prices"), "prices"),
    ],
)
def test_an_unreadable_frame_names_its_exchange_and_channel(
    data: bytes, channel: str
) -> None:
    """The other dialect's frames are among what cannot be read here."""
    with pytest.raises(FrameError, match=rf"^coinbase {channel}: "):
        read(data)


_KEYS = ["channel", "timestamp", "sequence_num", "events", "type", "message", "tickers"]
_KEYS += ["product_id", "price", "trades", "trade_id", "subscriptions", "ticker"]
_VALUES = ["ticker", "market_trades", "subscriptions", "error", "BTC-USD", "1e99999"]


@given(
    st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(_KEYS), inner | st.sampled_from(_VALUES))
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_read_or_raise_a_frame_error(data: bytes) -> None:
    """One bad frame must never end the connection's task."""
    try:
        updates = read(data)
    except FrameError:
        return
    assert all(update.price for update in updates)


def test_the_first_messages_are_heartbeats_and_then_one_channel_each() -> None:
    """Without heartbeats quiet products are cut after 60 to 90 s."""
    connection = session("BTC-USD", channels=("ticker", "heartbeats", "market_trades"))
    assert [json.loads(message) for message in connection.opened()] == [
        {"type": "subscribe", "channel": "heartbeats"},
        {"type": "subscribe", "channel": "ticker", "product_ids": ["BTC-USD"]},
        {"type": "subscribe", "channel": "market_trades", "product_ids": ["BTC-USD"]},
    ]
    assert (connection.target, connection.headers) == ("/", ())
    assert connection.ping() == []


def test_many_products_are_asked_for_by_the_hundred() -> None:
    """No cap is documented, so one refusal must cost little."""
    symbols = [f"C{number}-USD" for number in range(250)]
    messages = [json.loads(one) for one in session(*symbols).opened()]
    named = [message.get("product_ids", []) for message in messages]
    assert [len(names) for names in named] == [0, 100, 100, 50]
    assert [name for names in named for name in names] == symbols


def test_silence_means_more_where_heartbeats_come_each_second() -> None:
    """Without them a quiet connection lives for up to 90 s."""
    assert session().rules.silent_after_ms < 60_000
    assert session(channels=("ticker",)).rules.silent_after_ms >= 90_000
    assert len(session("A-USD", channels=("ticker",)).opened()) == 1
    assert session().rules.spacing_ms >= 125


def test_an_acknowledgement_is_compared_with_what_was_asked() -> None:
    """Unknown ids are dropped without a word."""
    connection = session("BTC-USD", "FOO-USD")
    connection.opened()
    assert told(connection, ack(0, heartbeats=["heartbeats"])) == []
    notices = told(connection, ack(1, heartbeats=["heartbeats"], ticker=["BTC-USD"]))
    assert notices == [
        Confirmed(("BTC-USD",)),
        Omitted(("FOO-USD",), "left out of the acknowledgement"),
    ]


def test_an_answer_to_the_first_request_says_nothing_about_the_second() -> None:
    """Each request is acknowledged by itself, with the state of that moment."""
    connection = session("BTC-USD")
    connection.opened()
    connection.subscribe(["ETH-USD"])
    connection.subscribe(["LTC-USD"])
    assert told(connection, ack(0, heartbeats=["heartbeats"])) == []
    assert told(connection, ack(1, ticker=["BTC-USD"])) == [Confirmed(("BTC-USD",))]
    # One answer that shows both carried out judges both.
    both = ack(2, ticker=["LTC-USD", "ETH-USD", "BTC-USD"])
    assert told(connection, both) == [Confirmed(("ETH-USD", "LTC-USD"))]
    assert told(connection, ack(3, ticker=["BTC-USD", "ETH-USD", "LTC-USD"])) == []


def test_a_product_that_vanishes_from_the_state_is_asked_for_again() -> None:
    """The state is whole: what it does not list is not sent any more."""
    connection = session("BTC-USD", channels=("ticker",))
    connection.opened()
    told(connection, ack(0, ticker=["BTC-USD"]))
    reason = "left out of the acknowledgement"
    assert told(connection, ack(1)) == [Omitted(("BTC-USD",), reason)]
    assert told(connection, ack(2, ticker=["BTC-USD"])) == [Confirmed(("BTC-USD",))]


def test_a_repeated_acknowledgement_is_not_taken_for_the_next() -> None:
    """Its number is old, so the request behind it is still open."""
    connection = session("BTC-USD", channels=("ticker",))
    connection.opened()
    connection.subscribe(["ETH-USD"])
    told(connection, ack(0, ticker=["BTC-USD"]))
    assert told(connection, ack(0, ticker=["BTC-USD"])) == []
    state = ack(1, ticker=["BTC-USD", "ETH-USD"])
    assert told(connection, state) == [Confirmed(("ETH-USD",))]


def test_a_usdc_product_is_acknowledged_as_its_usd_twin() -> None:
    """They share one book, but for USDT and EURC."""
    connection = session("BTC-USDC", "EURC-USDC", channels=("ticker",))
    connection.opened()
    assert told(connection, ack(0, ticker=["BTC-USD", "EURC-USD"])) == [
        Confirmed(("BTC-USDC",)),
        Omitted(("EURC-USDC",), "left out of the acknowledgement"),
    ]


def test_dropping_one_twin_does_not_silence_the_other() -> None:
    """To Coinbase both are one subscription."""
    connection = session("BTC-USD", "BTC-USDC", "ETH-EUR", channels=("ticker",))
    connection.opened()
    (message,) = connection.unsubscribe(["BTC-USDC", "ETH-EUR"])
    assert json.loads(message) == {
        "type": "unsubscribe",
        "channel": "ticker",
        "product_ids": ["ETH-EUR"],
    }
    state = ack(0, ticker=["BTC-USD"])
    assert told(connection, state) == [Confirmed(("BTC-USD",))]
    assert told(connection, ack(1, ticker=["BTC-USD"])) == []
    (message,) = connection.unsubscribe(["BTC-USD"])
    assert json.loads(message)["product_ids"] == ["BTC-USD"]
    assert told(connection, ack(2)) == []
    assert connection.unsubscribe([]) == []


def test_an_error_refuses_the_oldest_open_request() -> None:
    """Errors name neither channel nor product, and come in place of an answer."""
    connection = session("BTC-USD")
    connection.opened()
    error = b'{"type":"error","message":"authentication failure"}'
    # The heartbeats' own refusal costs nothing but an earlier cut.
    assert told(connection, error) == []
    expected: list[Notice] = [Rejected(("BTC-USD",), "authentication failure")]
    assert told(connection, error) == expected
    assert told(connection, error) == [Rejected((), "authentication failure")]


def test_an_error_over_several_products_does_not_say_whose_fault_it_was() -> None:
    """One malformed name fails a request for a hundred good ones."""
    connection = session("BTC-USD", "FOO USD", channels=("ticker",))
    connection.opened()
    error = b'{"type":"error","message":"Failed to subscribe"}'
    expected: list[Notice] = [
        Rejected(("BTC-USD", "FOO USD"), "Failed to subscribe", whole=True)
    ]
    assert told(connection, error) == expected


def test_a_jump_of_the_connections_numbers_is_a_gap() -> None:
    """Lost frames may have been anybody's: everything must be read anew."""
    connection = session()
    beats = [frame("heartbeats", number=number) for number in (0, 1, 3, 2, 4)]
    assert [told(connection, beat) for beat in beats] == [[], [], [Gap(())], [], []]


def test_a_late_frame_is_no_gap_and_its_price_is_judged_by_its_time() -> None:
    """A lower number is late; the row says by its sequence how late."""
    connection = session()
    for number in (0, 1):
        told(connection, frame("heartbeats", number=number))
    assert connection.receive(tickers(ROW, number=0), received_ms=AT) == [UPDATE]
    assert connection.notices == []


def test_a_roll_can_lose_one_product_of_a_request_to_an_error() -> None:
    """The Exchange dialect names the product, and acknowledges the others."""
    roll = Roll()
    roll.ask([("ticker", "BTC-USD"), ("ticker", "FOO-USD")])
    assert roll.oldest() == ("BTC-USD", "FOO-USD")
    assert roll.knows("FOO-USD")
    assert not roll.knows("BAR-USD")
    assert roll.refuse_symbols(["FOO-USD"], "no") == [Rejected(("FOO-USD",), "no")]
    assert roll.acknowledge({("ticker", "BTC-USD")}) == [Confirmed(("BTC-USD",))]
    assert roll.oldest() == ()
