"""Keep the newest, believe what can be true, publish what changed."""

from typing import Any

import msgspec
import pytest
from msgspec import structs

from relay.config import Board, Group, load
from relay.ingest.conflate import Merge
from relay.ingest.doubts import (
    AHEAD,
    CROSSED,
    FUTURE,
    JUMPED,
    LATE,
    REPEATED,
    REVOKED,
    UNKNOWN,
    UNREADABLE,
    UNTRUE_BOOK,
    UNTRUE_DAY,
    UNTRUE_PRICE,
)
from relay.model import Batch, Listing, Symbols, Ticker, Update, decode_ticker

NOW_MS = 1_763_640_000_000
RULES = structs.replace(
    load(environ={}).settings.ingest,
    silent_after_ms=30_000,
    stale_after_ms=60_000,
    steady_ms=10_000,
    future_max_ms=60_000,
    crossed_max_pct=1.0,
    jump_pct=20.0,
    jump_wait_ms=3_000,
)
BOARD = Board(
    name="test",
    sources=("alpha", "beta"),
    demand_max=10,
    groups=(
        Group(instruments=("BTC-USD",), sources=("alpha", "beta", "gamma:USDT", "off")),
        Group(instruments=("BTC-USDT",), sources=("gamma",)),
    ),
    lists={},
    names={},
)


def listing(instrument: str, *, active: bool = True, also: str = "") -> Listing:
    """Return a row whose symbol is the instrument without its dash."""
    base, _, quote = instrument.partition("-")
    return Listing(
        symbol=base + quote,
        base=base,
        quote=quote,
        active=active,
        answers_as=(also,) if also else (),
    )


def update(source: str = "alpha", **fields: Any) -> Update:  # noqa: ANN401 - an update's own fields
    """Return an update about BTC, received now if nothing else is said."""
    symbol = "BTCUSDT" if source == "gamma" else "BTCUSD"
    given = {
        "exchange": source,
        "channel": "ticker",
        "symbol": symbol,
        "received_ms": NOW_MS,
    }
    return Update(**{**given, **fields})


class Desk:
    """A merge with everything listed, and a clock beside it."""

    def __init__(self, *, listed: bool = True) -> None:
        self.now_ms = NOW_MS
        self.offset = 0
        refresh_ms = dict.fromkeys(("alpha", "beta", "gamma"), 0)
        self.merge = Merge(BOARD, RULES, refresh_ms)
        if listed:
            self.list("alpha", "BTC-USD", "ETH-USD")
            self.list("beta", "BTC-USD")
            self.list("gamma", "BTC-USDT")

    def list(self, source: str, *instruments: str) -> None:
        """Give a source's table."""
        self.merge.list(source, Symbols(listing(name) for name in instruments))

    def take(self, *updates: Update) -> None:
        """Merge."""
        self.merge.take(updates, now_ms=self.now_ms)

    def wait(self, ms: int) -> int:
        """Let time pass, and the timers run."""
        self.now_ms += ms
        return self.merge.turn(now_ms=self.now_ms)

    def cut(self, most: int = 100) -> Batch | None:
        """Cut what changed."""
        batch = self.merge.cut(
            epoch="e", previous=self.offset, now_ms=self.now_ms, most=most
        )
        self.offset = batch.offset if batch else self.offset
        return batch

    def tickers(self) -> dict[str, Ticker]:
        """Cut, and read what was cut."""
        batch = self.cut()
        tickers = batch.tickers if batch else {}
        return {name: decode_ticker(ticker) for name, ticker in tickers.items()}

    def drops(self, source: str = "alpha") -> dict[str, int]:
        """Return what was dropped of a source."""
        return {
            reason: times
            for (name, reason), times in self.merge.drops.items()
            if name == source
        }


@pytest.fixture
def desk() -> Desk:
    """Return a desk with every table there."""
    return Desk()


def test_a_ticker_is_what_one_source_said_field_by_field(desk: Desk) -> None:
    """Partial frames complete each other; every digit stays."""
    desk.take(
        update(price="61000.10", event_ms=NOW_MS - 50),
        update(channel="book", bid="61000.00", ask="61000.20", event_ms=NOW_MS - 40),
        update(
            channel="day",
            change_24h_pct="-1.250",
            high_24h="62000",
            low_24h="60000.0",
            volume_24h="9000.50",
            volume_24h_quote="0",
            received_ms=NOW_MS + 5,
        ),
    )
    assert desk.tickers() == {
        "BTC-USD": Ticker(
            price="61000.10",
            bid="61000.00",
            ask="61000.20",
            change_24h_pct="-1.250",
            high_24h="62000",
            low_24h="60000.0",
            volume_24h="9000.50",
            volume_24h_quote="0",
            source="alpha",
            event_ms=NOW_MS - 40,
            received_ms=NOW_MS + 5,
            offset=NOW_MS,
        )
    }


def test_a_value_read_in_another_currency_says_so(desk: Desk) -> None:
    """USDT is not USD, whatever a fallback makes of it."""
    desk.take(update("gamma", price="61000"))
    tickers = desk.tickers()
    assert tickers["BTC-USD"].via == "USDT"
    assert tickers["BTC-USDT"].via == ""
    assert {ticker.source for ticker in tickers.values()} == {"gamma"}


def test_one_symbol_may_stand_for_two_listings() -> None:
    """Coinbase reports a USDC product under its USD twin's name."""
    desk = Desk(listed=False)
    desk.merge.want(["BTC-USDC"])
    twins = [listing("BTC-USD"), listing("BTC-USDC", also="BTCUSD")]
    desk.merge.list("alpha", Symbols(twins))
    desk.take(update(price="61000"))
    assert desk.tickers().keys() == {"BTC-USD", "BTC-USDC"}


def test_the_same_content_is_not_published_again(desk: Desk) -> None:
    """A repeated frame changes nothing but when it was received."""
    desk.take(update(price="1", bid="0.9", ask="1.1", high_24h="2"))
    assert desk.tickers()
    desk.take(
        update(price="1", bid="0.9", ask="1.1", high_24h="2", received_ms=NOW_MS + 9)
    )
    assert not desk.merge.dirty
    assert desk.cut() is None


def test_a_change_and_back_again_is_not_published(desk: Desk) -> None:
    """Between two cuts only the newest counts, and it is what clients have."""
    desk.take(update(price="1.00"))
    desk.tickers()
    desk.take(update(price="1.01"), update(price="1.00"))
    assert desk.merge.dirty
    assert desk.cut() is None
    assert not desk.merge.dirty


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        # The channel's own sequence.
        ({"sequence": 5}, {"sequence": 6}, "2"),
        ({"sequence": 5}, {"sequence": 5}, "1"),
        ({"sequence": 5}, {"sequence": 4}, "1"),
        ({"sequence": 5}, {"sequence": 6, "received_ms": NOW_MS - 9}, "2"),
        ({"sequence": 5}, {"sequence": 4, "channel": "other"}, "2"),
        # The exchange's time, where both have it.
        ({"event_ms": 50}, {"event_ms": 51, "received_ms": NOW_MS - 9}, "2"),
        ({"event_ms": 50}, {"event_ms": 49, "received_ms": NOW_MS + 9}, "1"),
        ({"event_ms": 50}, {"event_ms": 50}, "2"),
        ({"event_ms": 50}, {"event_ms": 50, "received_ms": NOW_MS - 9}, "1"),
        (
            {"event_ms": 50, "sequence": 5},
            {"event_ms": 49, "sequence": 6, "channel": "other"},
            "1",
        ),
        # Receipt, where one of them has no time.
        ({"event_ms": 50}, {"received_ms": NOW_MS - 1}, "1"),
        ({"event_ms": 50}, {"received_ms": NOW_MS + 1}, "2"),
        ({}, {"event_ms": 50, "received_ms": NOW_MS - 1}, "1"),
        ({}, {"snapshot": True, "received_ms": NOW_MS - 1}, "1"),
        ({}, {"snapshot": True}, "2"),
    ],
)
def test_the_newest_is_kept(
    desk: Desk, first: dict[str, Any], second: dict[str, Any], shown: str
) -> None:
    """Late and repeated frames change nothing; how newer is judged is the design's."""
    desk.take(update(price="1", **first))
    desk.tickers()
    desk.take(update(price="2", **second))
    desk.wait(3_000)
    assert desk.merge.points()["BTC-USD"] == shown
    assert (LATE in desk.drops() or REPEATED in desk.drops()) == (shown == "1")


def test_a_book_frame_does_not_block_a_day_frame(desk: Desk) -> None:
    """Groups of fields come by different channels, each with a pace of its own."""
    desk.take(update(channel="book", bid="1", ask="2", event_ms=90))
    desk.take(update(channel="trade", price="1.5", event_ms=80))
    desk.take(update(channel="day", high_24h="3", event_ms=70))
    desk.take(update(channel="day", high_24h="4", event_ms=60))
    desk.take(update(channel="book", bid="9", ask="10", event_ms=60))
    ticker = desk.tickers()["BTC-USD"]
    assert (ticker.bid, ticker.price, ticker.high_24h) == ("1", "1.5", "3")
    assert ticker.event_ms == 90
    assert desk.drops() == {LATE: 2}


def test_half_of_a_book_keeps_the_other_half(desk: Desk) -> None:
    """An empty text means that the frame did not say."""
    desk.take(update(price="1.5", bid="1", ask="2"), update(bid="1.1"))
    desk.take(update(ask="1.9"))
    ticker = desk.tickers()["BTC-USD"]
    assert (ticker.bid, ticker.ask) == ("1.1", "1.9")


@pytest.mark.parametrize(
    "text", ["0", "-1", "NaN", "Infinity", "1_0", "x", " 1", "1e9999"]
)
def test_a_price_that_cannot_be_true_is_dropped(desk: Desk, text: str) -> None:
    """The rest of its frame may be true all the same."""
    desk.take(update(price="1", bid="1", ask="2", low_24h="1"))
    desk.take(update(price=text, bid="1.5"), update(bid=text, low_24h=text))
    ticker = desk.tickers()["BTC-USD"]
    assert (ticker.price, ticker.bid, ticker.low_24h) == ("1", "1.5", "1")
    assert desk.drops() == {UNTRUE_PRICE: 1, UNTRUE_BOOK: 1, UNTRUE_DAY: 1}


def test_an_ask_that_cannot_be_true_is_dropped(desk: Desk) -> None:
    """Both halves of a book are looked at."""
    desk.take(update(bid="1", ask="0"))
    assert desk.drops() == {UNTRUE_BOOK: 1}


def test_a_volume_may_be_nothing_but_not_less(desk: Desk) -> None:
    """A day without a trade is true."""
    desk.take(update(price="1", volume_24h="0", volume_24h_quote="-1"))
    ticker = desk.tickers()["BTC-USD"]
    assert (ticker.volume_24h, ticker.volume_24h_quote) == ("0", "")
    assert desk.drops() == {UNTRUE_DAY: 1}


def test_a_bid_far_above_the_ask_is_dropped(desk: Desk) -> None:
    """A little crossed is a market in motion, much is an error."""
    desk.take(update(price="100", bid="101.00", ask="100.00"))
    desk.take(update(bid="101.01"))
    assert desk.tickers()["BTC-USD"].bid == "101.00"
    assert desk.drops() == {CROSSED: 1}


def test_an_event_in_the_future_is_not_believed(desk: Desk) -> None:
    """It would stand above everything that comes after."""
    desk.take(update(price="1", event_ms=NOW_MS + 60_001))
    assert desk.drops() == {FUTURE: 1}
    desk.take(update(price="1", event_ms=NOW_MS + 60_000))
    ticker = desk.tickers()["BTC-USD"]
    assert (ticker.price, ticker.event_ms) == ("1", NOW_MS), "its time is not"


def test_a_clock_that_was_ahead_and_is_set_right_holds_nothing_up(desk: Desk) -> None:
    """Else the value of its last wrong moment would stand as live until then."""
    for price, ahead_ms in (("1", 50_000), ("2", 50_100), ("3", -100), ("4", 0)):
        desk.wait(1_000)
        received_ms = desk.now_ms
        event_ms = received_ms + ahead_ms
        desk.take(update(price=price, event_ms=event_ms, received_ms=received_ms))
        assert desk.tickers()["BTC-USD"].price == price
    assert desk.drops() == {AHEAD: 2}


def test_what_is_published_never_steps_back_when_a_clock_is_set_right(
    desk: Desk,
) -> None:
    """A time that cannot be true is replaced by that of its receipt."""
    shown: list[int] = []
    for ahead_ms in (0, 50_000, 50_000, -100, 0):
        desk.wait(1_000)
        at_ms = desk.now_ms
        price = str(len(shown) + 1)
        desk.take(update(price=price, event_ms=at_ms + ahead_ms, received_ms=at_ms))
        shown.append(desk.tickers()["BTC-USD"].event_ms)
    begun_ms = NOW_MS + 1_000
    assert shown == [
        begun_ms,
        begun_ms + 1_000,
        begun_ms + 2_000,
        begun_ms + 2_900,
        begun_ms + 4_000,
    ]


def test_times_that_serve_as_numbers_begin_anew_with_the_clock(desk: Desk) -> None:
    """Coinbase's and Kraken's tickers have no others; what is late then is late."""
    for price, ahead_ms in (("1", 50_000), ("2", 50_000), ("3", 0), ("4", 0)):
        desk.wait(1_000)
        at_ms = desk.now_ms
        event_ms = at_ms + ahead_ms
        desk.take(
            update(price=price, event_ms=event_ms, received_ms=at_ms, sequence=event_ms)
        )
        assert desk.tickers()["BTC-USD"].price == price
    late_ms = desk.now_ms
    desk.take(update(price="5", event_ms=NOW_MS, received_ms=late_ms, sequence=NOW_MS))
    assert desk.cut() is None
    assert desk.drops() == {AHEAD: 2, LATE: 1}


def test_two_frames_of_one_moment_under_a_clock_that_is_ahead(desk: Desk) -> None:
    """The second has nothing new to say, and its time is the first one's."""
    desk.take(update(price="2", event_ms=NOW_MS + 50_000))
    assert desk.tickers()["BTC-USD"].event_ms == NOW_MS
    desk.take(update(price="2", event_ms=NOW_MS + 50_001))
    assert desk.cut() is None


def test_a_late_frame_stays_late_under_a_clock_that_is_ahead(desk: Desk) -> None:
    """Its own time says so, and is as wrong as the other's."""
    desk.take(update(price="2", event_ms=NOW_MS + 50_000))
    desk.take(update(price="1", event_ms=NOW_MS + 49_000, received_ms=NOW_MS + 5))
    assert desk.tickers()["BTC-USD"].price == "2"
    assert desk.drops() == {AHEAD: 1, LATE: 1}


def test_a_clock_a_little_ahead_is_believed(desk: Desk) -> None:
    """Exchanges are milliseconds ahead all the time, and what is older is late."""
    desk.take(update(price="2", event_ms=NOW_MS + 5_000))
    desk.take(update(price="1", event_ms=NOW_MS + 4_999, received_ms=NOW_MS + 1))
    ticker = desk.tickers()["BTC-USD"]
    assert (ticker.price, ticker.event_ms) == ("2", NOW_MS + 5_000)
    assert desk.drops() == {LATE: 1}


def test_a_source_that_says_nothing_but_the_future_is_as_good_as_silent(
    desk: Desk,
) -> None:
    """Its heartbeats come, and its last value would be shown as live for ever."""
    two(desk)
    for _ in range(32):
        desk.wait(1_000)
        desk.take(update(price="102", event_ms=desk.now_ms + 60_001))
        desk.take(update("beta", price="103", received_ms=desk.now_ms))
    ticker = desk.tickers()["BTC-USD"]
    assert (ticker.source, ticker.price) == ("beta", "103")
    assert desk.drops() == {FUTURE: 32}
    # Set right, it returns when it has been steady.
    for _ in range(12):
        desk.wait(1_000)
        desk.take(update(price="104", received_ms=desk.now_ms))
        desk.take(update("beta", price="103", received_ms=desk.now_ms))
    assert desk.tickers()["BTC-USD"].source == "alpha"


def test_a_clock_that_was_set_back_believes_the_future_no_longer(desk: Desk) -> None:
    """Else it would have to come there once more before the source gives way."""
    two(desk)
    desk.take(update(price="102", event_ms=NOW_MS + 60_001))
    desk.wait(-3_600_000)
    for _ in range(32):
        desk.wait(1_000)
        desk.take(update(price="102", event_ms=desk.now_ms + 60_001))
        desk.take(update("beta", price="103", received_ms=NOW_MS + 1))
    assert desk.tickers()["BTC-USD"].source == "beta"


def test_one_event_of_the_future_silences_nobody(desk: Desk) -> None:
    """What is true meanwhile outweighs it."""
    two(desk)
    desk.take(update(price="102", event_ms=NOW_MS + 60_001))
    desk.take(update(price="102"))
    desk.wait(31_000)
    desk.merge.heard("alpha", now_ms=desk.now_ms)
    assert desk.merge.health(now_ms=desk.now_ms)["sources"]["alpha"]["alive"]


def test_what_no_table_knows_is_counted_what_nobody_wants_is_not(desk: Desk) -> None:
    """A snapshot of everything has mostly rows that nobody wants."""
    desk.take(update(symbol="ETHUSD", price="1"), update(symbol="FOO", price="1"))
    desk.take(update("off", price="1"))
    assert desk.drops() == {UNKNOWN: 1}
    assert desk.drops("off") == {UNKNOWN: 1}
    assert not desk.merge.dirty


# Jumps.


def two(desk: Desk) -> None:
    """Show 100 of alpha, with beta alive beside it."""
    desk.take(update(price="100"), update("beta", price="101"))
    assert desk.tickers()["BTC-USD"].price == "100"


def test_a_jump_that_a_second_source_bears_out_is_shown_at_once(desk: Desk) -> None:
    """Markets do crash."""
    two(desk)
    desk.take(update(price="70"))
    assert desk.merge.points()["BTC-USD"] == "100"
    desk.take(update("beta", price="71"))
    assert desk.tickers()["BTC-USD"].price == "70"


def test_a_jump_that_was_borne_out_before_is_shown_at_once(desk: Desk) -> None:
    """The second source may be the faster one."""
    two(desk)
    desk.take(update("beta", price="71"), update(price="70"))
    assert desk.tickers()["BTC-USD"].price == "70"


def test_a_jump_that_a_second_source_contradicts_is_dropped(desk: Desk) -> None:
    """One exchange's slip must not reach everybody's portfolio."""
    two(desk)
    desk.take(update(price="200", bid="199", ask="201"))
    due_ms = desk.wait(2_999)
    assert due_ms == NOW_MS + 3_000
    assert desk.drops() == {}
    desk.wait(1)
    assert desk.drops() == {JUMPED: 1}
    ticker = desk.tickers()["BTC-USD"]
    assert (ticker.price, ticker.bid) == ("100", "199")


def test_a_jump_without_a_fresh_second_source_is_shown_after_the_wait(
    desk: Desk,
) -> None:
    """Nobody contradicts: a quiet second source says nothing about now."""
    two(desk)
    desk.wait(4_000)
    desk.take(update(price="200"))
    desk.wait(2_999)
    assert desk.merge.points()["BTC-USD"] == "100"
    desk.wait(1)
    assert desk.tickers()["BTC-USD"].price == "200"


def test_a_jump_without_another_living_source_is_shown_at_once(desk: Desk) -> None:
    """There is nobody to wait for."""
    desk.take(update(price="100"))
    desk.take(update(price="200"))
    assert desk.tickers()["BTC-USD"].price == "200"


def test_a_jump_that_goes_on_does_not_wait_anew(desk: Desk) -> None:
    """Otherwise a fast feed would hold itself back for ever."""
    two(desk)
    desk.wait(4_000)
    desk.take(update(price="200"))
    desk.wait(2_000)
    desk.take(update(price="210"))
    desk.wait(1_000)
    assert desk.merge.points()["BTC-USD"] == "210"


def test_a_jump_that_its_own_source_takes_back_is_dropped(desk: Desk) -> None:
    """The next frame is the best contradiction."""
    two(desk)
    desk.take(update(price="200"), update(price="100"))
    desk.wait(3_000)
    assert desk.merge.points()["BTC-USD"] == "100"
    assert desk.drops() == {REVOKED: 1}


def test_a_clock_that_was_set_back_ends_the_wait(desk: Desk) -> None:
    """A price must not wait for the clock to catch up."""
    two(desk)
    desk.wait(4_000)
    desk.take(update(price="200"))
    desk.wait(-3_600_000)
    assert desk.merge.points()["BTC-USD"] == "200"


def test_two_jumps_bear_each_other_out(desk: Desk) -> None:
    """Each waits for the other's word, though neither is shown yet."""
    desk.take(update(price="100"), update("gamma", price="100"))
    desk.take(update(price="200"))
    assert desk.merge.points()["BTC-USD"] == "100"
    desk.take(update("gamma", price="201"))
    assert desk.merge.points()["BTC-USD"] == "200"


def test_a_jump_beside_a_source_in_the_middle_is_shown_after_the_wait(
    desk: Desk,
) -> None:
    """It neither agrees nor contradicts."""
    two(desk)
    desk.take(update(price="200"), update("beta", price="155"))
    desk.wait(3_000)
    assert desk.merge.points()["BTC-USD"] == "200"


def test_a_jump_of_a_source_that_is_shown_no_more_waits_for_nobody(
    desk: Desk,
) -> None:
    """It is no news to anybody, only what that source says."""
    two(desk)
    desk.take(update(price="200"))
    desk.list("alpha", "ETH-USD")
    desk.wait(1)
    assert desk.tickers()["BTC-USD"].source == "beta"
    assert desk.drops() == {}


# Cutting.


def test_a_batch_builds_on_the_previous_one_and_is_never_numbered_less() -> None:
    """Offsets grow although the clock stands still, or is behind."""
    desk = Desk()
    desk.offset = NOW_MS + 5
    desk.take(update(price="1"))
    batch = desk.cut()
    assert batch is not None
    assert (batch.epoch, batch.previous, batch.offset) == ("e", NOW_MS + 5, NOW_MS + 6)
    assert decode_ticker(batch.tickers["BTC-USD"]).offset == NOW_MS + 6


def test_what_does_not_fit_stays_for_the_next_batch(desk: Desk) -> None:
    """One script takes only so many; the longest waiting go first."""
    desk.take(update("gamma", price="1"), update("gamma", price="2"))
    first = desk.cut(most=1)
    assert first is not None
    assert desk.merge.dirty
    second = desk.cut(most=1)
    assert second is not None
    assert {*first.tickers, *second.tickers} == {"BTC-USD", "BTC-USDT"}
    assert not desk.merge.dirty


def test_a_batch_that_failed_is_cut_again(desk: Desk) -> None:
    """Nothing that was not acknowledged may be forgotten."""
    desk.take(update(price="1"))
    batch = desk.cut()
    assert batch is not None
    desk.merge.failed(batch)
    assert desk.merge.dirty
    assert desk.tickers()["BTC-USD"].price == "1"
    desk.merge.touch(["FOO-USD", "BTC-USDT"])
    assert not desk.merge.dirty


def test_an_instrument_that_left_before_it_was_cut_is_not_in_the_batch() -> None:
    """Its marker is; one that showed nothing leaves none."""
    desk = Desk()
    desk.merge.want(["ETH-USD"])
    desk.take(update(symbol="ETHUSD", price="1"))
    desk.merge.want([])
    ticker = desk.tickers()["ETH-USD"]
    assert ticker == Ticker(removed=True, offset=NOW_MS)
    assert desk.merge.markers(NOW_MS + 1) == (["ETH-USD"], NOW_MS)
    desk.merge.touch(["ETH-USD"])
    assert desk.merge.markers(NOW_MS + 1) == ([], 0)
    desk.merge.forget(["ETH-USD"])
    assert desk.cut() is None


def test_sparklines_get_no_stale_price(desk: Desk) -> None:
    """A flat line would say that the market stood still."""
    desk.take(update(price="1"))
    assert desk.merge.points() == {"BTC-USD": "1"}
    desk.wait(60_001)
    assert desk.merge.points() == {}


# What is wanted.


def test_each_source_is_asked_for_what_anybody_reads_from_it(desk: Desk) -> None:
    """Every source in the order is read, so that failover is instant."""
    desk.merge.want(["ETH-USD", "FOO-USD"])
    assert [one.symbol for one in desk.merge.wanted("alpha")] == ["BTCUSD", "ETHUSD"]
    assert [one.symbol for one in desk.merge.wanted("gamma")] == ["BTCUSDT"]
    assert desk.merge.wanted("off") == []


def test_what_has_no_value_yet_is_known(desk: Desk) -> None:
    """It is to be seeded by a snapshot."""
    desk.merge.want(["ETH-USD"])
    desk.take(update(price="1"))
    assert [one.symbol for one in desk.merge.unpriced("alpha")] == ["ETHUSD"]


def test_a_repeated_frame_says_that_a_value_is_still_true(desk: Desk) -> None:
    """After a silence the exchange sends the same trade again: nothing traded."""
    desk.take(update(price="1", sequence=7))
    desk.wait(60_001)
    assert desk.tickers()["BTC-USD"].stale
    desk.take(update(price="1", sequence=7))
    assert not desk.tickers()["BTC-USD"].stale


def test_an_older_answer_says_that_a_listing_is_still_there() -> None:
    """What is only read lives by its readings, and an edge may keep one for minutes."""
    desk = Desk(listed=False)
    desk.merge = Merge(BOARD, RULES, {"alpha": 5_000})
    desk.list("alpha", "BTC-USD")
    row = update(price="1", event_ms=50, snapshot=True)
    desk.take(row)
    for age_ms in (400, 200, 900):
        desk.wait(29_000)
        desk.take(structs.replace(row, received_ms=row.received_ms - age_ms))
    assert desk.merge.points() == {"BTC-USD": "1"}
    for _ in range(3):
        desk.wait(29_000)
        desk.take(structs.replace(row, price="0", received_ms=desk.now_ms))
    assert desk.merge.points() == {}, "nobody says that it has a price"


# Takeover.


def stored(**fields: Any) -> dict[str, bytes]:  # noqa: ANN401 - a ticker's own fields
    """Return what a store holds of BTC-USD."""
    given = {
        "price": "100",
        "source": "alpha",
        "event_ms": 50,
        "received_ms": NOW_MS,
        "offset": 9,
    }
    return {"BTC-USD": Ticker(**{**given, **fields}).encode()}


def test_a_takeover_shows_what_the_store_holds_without_publishing_it(
    desk: Desk,
) -> None:
    """Clients have it already."""
    desk.merge.restore(stored(), now_ms=desk.now_ms)
    assert not desk.merge.dirty
    assert desk.merge.points() == {"BTC-USD": "100"}


def test_what_was_restored_is_never_stepped_back(desk: Desk) -> None:
    """The new leader's first frames may be older than the old leader's last."""
    desk.merge.restore(stored(), now_ms=desk.now_ms)
    desk.take(update(price="99", event_ms=49))
    assert not desk.merge.dirty
    desk.take(update(price="101", event_ms=51))
    assert desk.tickers()["BTC-USD"].price == "101"


def test_what_was_received_in_another_terms_future_blocks_nothing(desk: Desk) -> None:
    """Times of receipt are compared within one leader's term only."""
    kept = stored(event_ms=0, received_ms=NOW_MS + 3_600_000)
    desk.merge.restore(kept, now_ms=desk.now_ms)
    desk.take(update(price="101"))
    assert desk.tickers()["BTC-USD"].price == "101"


@pytest.mark.parametrize("field", ["price", "ask"])
def test_the_first_change_after_a_takeover_is_never_before_what_was_told(
    desk: Desk, field: str
) -> None:
    """A store of an older copy has lost events that clients have seen."""
    desk.merge.restore(stored(event_ms=NOW_MS - 4_000), now_ms=desk.now_ms)
    desk.take(update(**{field: "101"}, received_ms=NOW_MS + 5))
    assert desk.tickers()["BTC-USD"].event_ms == NOW_MS + 5
    desk.take(update(price="102", event_ms=NOW_MS + 6, received_ms=NOW_MS + 8))
    desk.take(update(price="103", received_ms=NOW_MS + 9))
    assert desk.tickers()["BTC-USD"].event_ms == NOW_MS + 6


def test_a_source_without_times_is_given_none_by_a_takeover(desk: Desk) -> None:
    """Clients judge it by when it was received."""
    desk.merge.restore(stored(event_ms=0), now_ms=desk.now_ms)
    desk.take(update(price="101"))
    assert desk.tickers()["BTC-USD"].event_ms == 0


def test_an_unreadable_ticker_in_the_store_is_left_out(desk: Desk) -> None:
    """Another version may have written it."""
    desk.merge.restore({"BTC-USD": b"[]"}, now_ms=desk.now_ms)
    assert desk.drops("store") == {UNREADABLE: 1}
    assert desk.merge.points() == {}


# Health.


def test_health_says_how_every_source_is(desk: Desk) -> None:
    """The status shows it as it is, so it must become JSON."""
    desk.take(update(price="1"), update(price="0"))
    desk.merge.lost("beta", "connection refused", now_ms=desk.now_ms)
    desk.merge.heard("nobody", now_ms=desk.now_ms)
    desk.merge.lost("nobody", "of no account", now_ms=desk.now_ms)
    health = msgspec.json.decode(
        msgspec.json.encode(desk.merge.health(now_ms=desk.now_ms + 7))
    )
    assert health["sources"]["alpha"] == {
        "alive": True,
        "age_ms": 7,
        "heard_ms": desk.now_ms,
        "reason": "",
        "shown": 1,
        "listed": 1,
        "drops": {UNTRUE_PRICE: 1},
    }
    assert health["sources"]["beta"] == {
        "alive": False,
        "age_ms": None,
        "heard_ms": None,
        "reason": "connection refused",
        "shown": 0,
        "listed": 1,
        "drops": {},
    }
    counts = {"shown": 1, "stale": 0, "missing": 1, "removed": 0}
    assert health["instruments"] == counts


def test_the_timers_are_looked_at_often_enough(desk: Desk) -> None:
    """A jump may begin between two turns."""
    assert desk.merge.turn(now_ms=NOW_MS) == NOW_MS + 500
    desk.take(update(price="1"))
    assert desk.wait(29_900) == desk.now_ms + 101


# What a REST reading says of an instrument whose stream is dead.


def streamed(desk: Desk) -> None:
    """Show what a stream has said of alpha, and let its silence go on."""
    desk.take(update(price="100", bid="99", ask="101", event_ms=NOW_MS - 50))
    assert desk.tickers()["BTC-USD"].bid == "99"


def rest(desk: Desk, price: str, **more: Any) -> Ticker:  # noqa: ANN401 - an update's own fields
    """Read a price by REST now, and return what is published."""
    given = {"channel": "rest", "received_ms": desk.now_ms, "snapshot": True}
    desk.take(update(price=price, **{**given, **more}))
    return desk.tickers()["BTC-USD"]


def test_a_price_of_now_takes_no_best_prices_of_long_ago_with_it(desk: Desk) -> None:
    """A ticker must not be put together of what was never true together."""
    streamed(desk)
    desk.wait(240_000)
    shown = rest(desk, "100.5")
    assert (shown.price, shown.bid, shown.ask) == ("100.5", "", "")
    assert shown.event_ms == shown.received_ms == desk.now_ms


def test_best_prices_that_a_newer_price_contradicts_are_let_go(desk: Desk) -> None:
    """However young: they are of another moment."""
    streamed(desk)
    desk.wait(2_000)
    shown = rest(desk, "115")
    assert (shown.price, shown.bid, shown.ask) == ("115", "", "")


def test_best_prices_that_agree_and_are_young_stay(desk: Desk) -> None:
    """A trade between two readings of a living stream is nothing special."""
    streamed(desk)
    desk.wait(2_000)
    shown = rest(desk, "100.5")
    assert (shown.price, shown.bid, shown.ask) == ("100.5", "99", "101")
    assert shown.event_ms == NOW_MS - 50


def test_a_reading_with_best_prices_of_its_own_shows_those(desk: Desk) -> None:
    """Nothing is missing then."""
    streamed(desk)
    desk.wait(240_000)
    shown = rest(desk, "103", bid="102", ask="104", event_ms=desk.now_ms - 9)
    assert (shown.price, shown.bid, shown.ask) == ("103", "102", "104")
    assert shown.event_ms == desk.now_ms - 9


def test_who_takes_over_from_whom_is_told_with_the_reason(desk: Desk) -> None:
    """The status says which source is shown, and since what it is."""
    desk.take(update(price="100"), update("beta", price="101"))
    assert desk.merge.moved() == []
    for _ in range(4):
        desk.wait(10_001)
        desk.take(update("beta", price="101"))
    ((source, words),) = desk.merge.moved()
    assert source == "alpha"
    assert words.endswith(": 1 instrument from beta")
    assert words.startswith("nothing was heard for ")
    for _ in range(20):
        desk.take(update(price="100"), update("beta", price="101"))
        desk.wait(5_000)
    again = "is there: 1 instrument from it, no more from beta"
    assert desk.merge.moved() == [("alpha", again)]


def test_a_source_that_says_why_is_quoted(desk: Desk) -> None:
    """Later errors are only what comes of it."""
    desk.take(update(price="100"))
    desk.merge.halt("alpha", "maintenance, as its status says")
    desk.merge.lost("alpha", "HTTP 503", now_ms=desk.now_ms)
    sources = desk.merge.health(now_ms=desk.now_ms)["sources"]
    assert sources["alpha"]["reason"] == "maintenance, as its status says"
    desk.merge.halt("alpha", "")
    sources = desk.merge.health(now_ms=desk.now_ms)["sources"]
    assert sources["alpha"]["reason"] == "HTTP 503"
