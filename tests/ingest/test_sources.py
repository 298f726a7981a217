"""Silence, failover, return, staleness, removal."""

import pytest
from msgspec import structs

from relay.config import Board, Group, load
from relay.ingest.sources import Earlier, Feed, Held, Sources, as_listed
from relay.model import Listing, Symbols, Ticker

NOW_MS = 1_763_640_000_000
SILENT_MS, STALE_MS, STEADY_MS = 30_000, 60_000, 10_000
RULES = structs.replace(
    load(environ={}).settings.ingest,
    silent_after_ms=SILENT_MS,
    stale_after_ms=STALE_MS,
    steady_ms=STEADY_MS,
)
BOARD = Board(
    name="test",
    sources=("alpha", "beta"),
    demand_max=10,
    groups=(
        Group(instruments=("BTC-USD",), sources=("alpha", "beta:USDT", "off")),
        Group(instruments=("BTC-USD",), sources=("off",)),
        Group(instruments=("BTC-USDT",), sources=("beta",)),
    ),
    lists={},
    names={},
)


def listing(instrument: str, *, active: bool = True) -> Listing:
    """Return a row whose symbol is the instrument without its dash."""
    base, _, quote = instrument.partition("-")
    return Listing(symbol=base + quote, base=base, quote=quote, active=active)


class Desk:
    """Two sources and a clock."""

    def __init__(self, *, listed: bool = True) -> None:
        self.now_ms = NOW_MS
        self.sources = Sources(BOARD, RULES, {"alpha": 0, "beta": 0})
        if listed:
            self.tabulate("alpha", "BTC-USD", "ETH-USD")
            self.tabulate("beta", "BTC-USDT", "ETH-USD")
        self.sources.changed.clear()

    def tabulate(self, source: str, *instruments: str, active: bool = True) -> None:
        """Give a source's table."""
        rows = [listing(name, active=active) for name in instruments]
        self.sources.tabulate(source, Symbols(rows), self.now_ms)

    def say(self, source: str, price: str, symbol: str = "") -> None:
        """Let a source be heard, saying a price."""
        self.sources.feeds[source].hear(self.now_ms)
        symbol = symbol or {"alpha": "BTCUSD", "beta": "BTCUSDT"}[source]
        for held in self.sources.routes[source][symbol].helds:
            held.price, held.touched_ms = price, self.now_ms
            for slot in held.slots:
                self.sources.review(slot, self.now_ms)

    def beat(self, *names: str) -> None:
        """Let sources be heard, saying nothing."""
        for name in names:
            self.sources.feeds[name].hear(self.now_ms)

    def wait(self, ms: int, *beating: str) -> None:
        """Let time pass while these are heard each second."""
        until_ms = self.now_ms + ms
        while self.now_ms < until_ms:
            self.now_ms = min(self.now_ms + 1_000, until_ms)
            self.beat(*beating)
        self.sources.turn(self.now_ms)

    def shown(self, name: str = "BTC-USD") -> str:
        """Return the source, and whether it is stale."""
        ticker = self.sources.slots[name].ticker()
        return ticker.source + (" stale" if ticker.stale else "")

    def changed(self) -> list[str]:
        """Return what may have to be published, and forget it."""
        names = list(self.sources.changed)
        self.sources.changed.clear()
        return names

    def restore(
        self, name: str = "BTC-USD", *, led_ms: int = 0, **fields: str | int | bool
    ) -> None:
        """Take over what an earlier term published; it ended just now, or then."""
        given = {"price": "9", "source": "alpha", "received_ms": NOW_MS, "offset": 7}
        ticker = Ticker(**{**given, **fields})  # type: ignore[arg-type]  # test's own
        earlier = Earlier(led_ms or self.now_ms)
        self.sources.restore({name: ticker}, self.now_ms, earlier)


@pytest.fixture
def desk() -> Desk:
    """Return a desk with every table there."""
    return Desk()


def test_a_first_value_is_shown_at_once_from_whoever_has_one(desk: Desk) -> None:
    """Waiting for the first source would leave the board empty."""
    desk.say("beta", "1")
    assert desk.shown() == "beta"
    assert desk.changed() == ["BTC-USD", "BTC-USDT"]


def test_on_a_new_board_the_first_source_is_shown_as_soon_as_it_speaks(
    desk: Desk,
) -> None:
    """It has not been silent, only not heard yet."""
    desk.say("beta", "1")
    desk.say("alpha", "2")
    assert desk.shown() == "alpha"


def test_the_first_source_is_shown_again_only_after_it_has_been_steady(
    desk: Desk,
) -> None:
    """Back and forth each second would be worse than either."""
    desk.say("alpha", "1")
    desk.wait(SILENT_MS + 1)
    desk.say("beta", "1")
    desk.say("alpha", "2")
    desk.wait(STEADY_MS - 1, "alpha", "beta")
    assert desk.shown() == "beta"
    assert desk.sources.next_ms(desk.now_ms) == desk.now_ms + 1
    desk.wait(1, "alpha", "beta")
    assert desk.shown() == "alpha"


def test_a_silent_source_is_replaced_by_the_next_that_lives(desk: Desk) -> None:
    """Silence is nothing at all for so long, not a quiet market."""
    desk.say("alpha", "1")
    desk.say("beta", "2")
    desk.wait(SILENT_MS, "beta")
    assert desk.shown() == "alpha"
    desk.wait(1, "beta")
    assert desk.shown() == "beta"


def test_a_quiet_market_on_a_living_feed_is_neither_silent_nor_stale(
    desk: Desk,
) -> None:
    """Silence is the feed's, not the instrument's."""
    desk.say("alpha", "1")
    desk.wait(10 * STALE_MS, "alpha")
    assert desk.shown() == "alpha"


def test_what_is_only_read_lives_by_its_own_readings() -> None:
    """An aggregator drops a coin without a word, and goes on about the others."""
    desk = Desk()
    desk.sources = Sources(BOARD, RULES, {"alpha": 5_000, "beta": 0})
    desk.tabulate("alpha", "BTC-USD")
    desk.tabulate("beta", "BTC-USDT")
    desk.say("alpha", "1")
    desk.wait(SILENT_MS, "alpha")
    assert desk.shown() == "alpha"
    desk.say("beta", "2")
    desk.wait(1_000, "alpha", "beta")
    assert desk.shown() == "beta"
    desk.say("alpha", "1")
    assert desk.shown() == "alpha", "it says the same value, and so it is true"


def test_what_is_left_out_of_the_readings_and_is_nowhere_else_becomes_stale() -> None:
    """As old as when it was read last."""
    desk = Desk(listed=False)
    desk.sources = Sources(BOARD, RULES, {"alpha": 5_000})
    desk.tabulate("alpha", "BTC-USD")
    desk.say("alpha", "1")
    desk.wait(STALE_MS - 1, "alpha")
    assert desk.shown() == "alpha"
    desk.wait(1, "alpha")
    assert desk.shown() == "alpha stale"


def test_what_nobody_lists_is_told_once_every_table_is_there() -> None:
    """A misspelt name would else be missing for ever, and nobody knew why."""
    desk = Desk(listed=False)
    desk.tabulate("alpha", "ETH-USD")
    assert list(desk.sources.unlisted()) == []
    desk.tabulate("beta", "ETH-USD")
    assert list(desk.sources.unlisted()) == ["BTC-USD", "BTC-USDT"]
    desk.tabulate("beta", "BTC-USDT", active=False)
    assert list(desk.sources.unlisted()) == ["BTC-USD", "BTC-USDT"]
    desk.tabulate("beta", "BTC-USDT")
    assert list(desk.sources.unlisted()) == []


def test_silence_is_never_less_than_three_refresh_intervals() -> None:
    """A source that is read each four hours is silent after twelve."""
    sources = Sources(BOARD, RULES, {"alpha": 60_000})
    assert sources.feeds["alpha"].silent_ms == 180_000


def test_with_nobody_alive_the_last_value_stays_and_becomes_stale(desk: Desk) -> None:
    """It is published once more, and says that it is old."""
    desk.say("alpha", "1")
    desk.wait(STALE_MS - 1)
    assert desk.shown() == "alpha"
    assert desk.sources.next_ms(desk.now_ms) == desk.now_ms + 1
    desk.changed()
    desk.wait(1)
    assert desk.shown() == "alpha stale"
    assert desk.changed() == ["BTC-USD"]
    desk.wait(STALE_MS)
    assert desk.changed() == []


def test_staleness_counts_from_when_the_shown_source_was_last_heard(
    desk: Desk,
) -> None:
    """The first source's silence is over and done with when the second's begins."""
    desk.say("alpha", "1")
    desk.say("beta", "2")
    desk.wait(SILENT_MS + 1_000, "beta")
    desk.wait(STALE_MS - 1)
    assert desk.shown() == "beta"
    desk.wait(1)
    assert desk.shown() == "beta stale"


def test_a_source_that_comes_back_vouches_only_for_what_it_says_now(
    desk: Desk,
) -> None:
    """A heartbeat does not make the price of before the silence true."""
    desk.say("alpha", "1")
    desk.wait(STALE_MS)
    desk.wait(5_000, "alpha")
    assert desk.shown() == "alpha stale"
    desk.say("alpha", "1")
    assert desk.shown() == "alpha"


def test_a_source_without_a_price_of_its_present_life_takes_nothing_over(
    desk: Desk,
) -> None:
    """It lives, but has nothing to show."""
    desk.say("beta", "1")
    desk.wait(2 * STEADY_MS, "alpha", "beta")
    assert desk.shown() == "beta"


def test_a_clock_that_was_set_back_keeps_nobody_alive(desk: Desk) -> None:
    """Nothing was heard in the future."""
    desk.say("alpha", "1")
    desk.now_ms -= 3_600_000
    desk.sources.turn(desk.now_ms)
    desk.wait(STALE_MS)
    assert desk.shown() == "alpha stale"


def test_a_feed_that_was_never_heard_has_no_silence_to_come() -> None:
    """There is nothing to wait for."""
    feed = Feed("alpha", SILENT_MS)
    assert not feed.is_alive(NOW_MS)
    assert Desk().sources.next_ms(NOW_MS) is None


# Tables.


def test_what_a_source_lists_no_more_is_shown_from_the_next(desk: Desk) -> None:
    """A delisted instrument's last price is nobody's price."""
    desk.say("alpha", "1")
    desk.say("beta", "2")
    desk.tabulate("alpha", "ETH-USD")
    assert desk.shown() == "beta"


def test_an_inactive_listing_is_none(desk: Desk) -> None:
    """The exchange names it, and does not trade it."""
    desk.tabulate("alpha", "BTC-USD", active=False)
    assert "BTCUSD" not in desk.sources.routes["alpha"]


def test_what_no_source_lists_is_removed_and_comes_back(desk: Desk) -> None:
    """Clients are told, and told again."""
    desk.say("beta", "1")
    desk.changed()
    desk.tabulate("beta", "ETH-USD")
    assert desk.sources.slots["BTC-USDT"].ticker() == Ticker(removed=True)
    assert desk.changed() == ["BTC-USDT"]
    desk.tabulate("beta", "BTC-USDT")
    assert desk.changed() == []
    desk.say("beta", "2")
    assert desk.shown("BTC-USDT") == "beta"


def test_nothing_is_removed_before_every_table_has_arrived() -> None:
    """The table that is missing may be the one that lists it."""
    desk = Desk(listed=False)
    desk.restore()
    desk.tabulate("alpha", "ETH-USD")
    assert desk.shown() == "alpha"
    assert not desk.sources.slots["BTC-USD"].removed
    desk.tabulate("beta", "ETH-USD")
    assert desk.sources.slots["BTC-USD"].removed


def test_a_value_whose_source_has_left_stays_until_it_is_stale(desk: Desk) -> None:
    """There is a second source; it has said nothing yet."""
    desk.say("alpha", "1")
    desk.tabulate("alpha", "ETH-USD")
    desk.wait(STALE_MS - 1, "alpha")
    assert desk.shown() == "alpha"
    desk.wait(1, "alpha")
    assert desk.shown() == "alpha stale"


def test_a_new_table_changes_nothing_that_it_still_lists(desk: Desk) -> None:
    """It is read each hour; sequences and values go on."""
    desk.say("alpha", "1")
    desk.sources.routes["alpha"]["BTCUSD"].sequences["ticker"] = 5
    desk.changed()
    desk.tabulate("alpha", "BTC-USD")
    assert desk.sources.routes["alpha"]["BTCUSD"].sequences == {"ticker": 5}
    assert desk.shown() == "alpha"
    assert desk.changed() == []


def test_a_listing_that_two_instruments_read_is_one(desk: Desk) -> None:
    """BTC-USDT is shown as itself and stands in for BTC-USD."""
    helds = desk.sources.routes["beta"]["BTCUSDT"].helds
    assert len(helds) == 1
    assert [slot.name for slot in helds[0].slots] == ["BTC-USD", "BTC-USDT"]
    assert len(list(desk.sources.wanted("beta"))) == 2
    assert desk.sources.knows("beta", "BTCUSDT")
    assert not desk.sources.knows("gamma", "BTCUSDT")


def test_via_replaces_the_quote_alone() -> None:
    """Everything before the last dash is the base."""
    assert as_listed("BTC-USD", "USDT") == "BTC-USDT"
    assert as_listed("BTC-USD", "") == "BTC-USD"


# Demand.


def test_what_is_demanded_is_read_from_the_boards_sources(desk: Desk) -> None:
    """Core instruments keep the order of their group."""
    desk.sources.want(["ETH-USD", "BTC-USD"], desk.now_ms)
    desk.say("beta", "1", "ETHUSD")
    assert desk.shown("ETH-USD") == "beta"
    sources = [one.source for one in desk.sources.slots["BTC-USD"].candidates]
    assert sources == ["alpha", "beta"]


def test_what_is_demanded_no_more_leaves_a_marker_and_the_core_stays(
    desk: Desk,
) -> None:
    """Clients that hold it are told; nobody can turn the core off."""
    desk.sources.want(["ETH-USD", "FOO-USD"], desk.now_ms)
    desk.say("alpha", "1", "ETHUSD")
    desk.say("alpha", "1")
    desk.sources.want([], desk.now_ms)
    assert desk.sources.slots["ETH-USD"].ticker() == Ticker(removed=True)
    assert "FOO-USD" not in desk.sources.slots
    assert desk.shown() == "alpha"
    assert "ETHUSD" not in desk.sources.routes["alpha"]


def test_the_same_demand_changes_nothing(desk: Desk) -> None:
    """It is asked for each second."""
    desk.sources.want(["ETH-USD"], desk.now_ms)
    routes = desk.sources.routes
    desk.sources.want(["ETH-USD"], desk.now_ms)
    assert desk.sources.routes is routes


def test_a_marker_is_forgotten_unless_it_has_come_back(desk: Desk) -> None:
    """What was shown again meanwhile is published again, for the store has lost it."""
    names = ["ETH-USD", "SOL-USD", "BTC-USD", "BTC-USDT", "NONE-USD"]
    desk.sources.want(names, desk.now_ms)
    desk.say("alpha", "1", "ETHUSD")
    desk.say("alpha", "1")
    desk.say("beta", "1")
    desk.sources.want([], desk.now_ms)
    desk.tabulate("beta", "ETH-USD")
    desk.changed()
    desk.sources.forget(names)
    assert "ETH-USD" not in desk.sources.slots
    assert desk.sources.slots["BTC-USDT"].ticker() == Ticker()
    assert desk.changed() == ["BTC-USD"]


def test_a_forgotten_marker_of_something_wanted_is_missing_again(desk: Desk) -> None:
    """It is asked for, and nobody has it."""
    desk.sources.want(["ETH-USD"], desk.now_ms)
    desk.say("alpha", "1", "ETHUSD")
    desk.sources.want([], desk.now_ms)
    desk.sources.want(["ETH-USD"], desk.now_ms)
    assert desk.sources.tally().removed == 1
    desk.sources.forget(["ETH-USD"])
    assert desk.sources.tally() == structs.replace(
        desk.sources.tally(), shown=0, stale=0, missing=3, removed=0
    )


def test_touching_what_shows_nothing_publishes_nothing(desk: Desk) -> None:
    """There is no ticker to publish."""
    desk.sources.touch(desk.sources.slots["BTC-USD"])
    assert desk.changed() == []


def test_instruments_are_counted_by_how_they_are(desk: Desk) -> None:
    """The status shows the counts."""
    desk.sources.want(["ETH-USD"], desk.now_ms)
    desk.say("alpha", "1", "ETHUSD")
    desk.wait(STALE_MS)
    desk.say("beta", "1")
    desk.sources.want(["FOO-USD"], desk.now_ms)
    assert structs.asdict(desk.sources.tally()) == {
        "shown": 2,
        "stale": 0,
        "missing": 1,
        "removed": 1,
    }
    desk.wait(STALE_MS)
    assert desk.sources.tally().stale == 2


# Takeover.


def test_a_restored_value_is_shown_before_any_table_has_arrived() -> None:
    """A takeover begins from the store's values, not from nothing."""
    desk = Desk(listed=False)
    desk.restore()
    desk.restore("BTC-USDT", source="beta", removed=True)
    assert desk.shown() == "alpha"
    assert desk.sources.slots["BTC-USDT"].offset == 7
    assert desk.changed() == []
    assert list(desk.sources.wanted("alpha")) == []


def test_a_restored_source_keeps_its_place_while_it_reconnects() -> None:
    """Its silence counts from now; another that is quicker must wait for that."""
    desk = Desk()
    desk.restore()
    desk.say("beta", "2")
    desk.wait(SILENT_MS, "beta")
    assert desk.shown() == "alpha"
    desk.wait(1, "beta")
    assert desk.shown() == "beta"


def test_a_restored_source_must_be_heard_before_it_counts_as_steady() -> None:
    """What was assumed at the takeover is no proof of life."""
    desk = Desk()
    desk.restore(source="beta", via="USDT")
    desk.wait(5_000, "beta")
    desk.say("alpha", "1")
    desk.wait(STEADY_MS - 1, "alpha", "beta")
    assert desk.shown() == "beta"
    desk.wait(1, "alpha", "beta")
    assert desk.shown() == "alpha"


def test_after_a_takeover_nobody_is_said_to_be_heard_who_was_not() -> None:
    """It counts as alive meanwhile, and may have been heard by the last leader."""
    desk = Desk()
    desk.restore()
    desk.wait(1_000, "beta")
    alpha, beta = desk.sources.feeds["alpha"], desk.sources.feeds["beta"]
    assert alpha.is_alive(desk.now_ms)
    assert alpha.why(desk.now_ms) == "not heard yet by this leader"
    assert alpha.age_ms(desk.now_ms) is None
    assert (beta.why(desk.now_ms), beta.age_ms(desk.now_ms + 5)) == ("", 5)
    desk.wait(SILENT_MS, "beta")
    assert alpha.why(desk.now_ms) == "not heard yet by this leader"
    desk.say("alpha", "1")
    assert (alpha.why(desk.now_ms), alpha.age_ms(desk.now_ms)) == ("", 0)


def test_what_nobody_has_vouched_for_too_long_is_stale_at_a_takeover() -> None:
    """Nobody led for all that time; its source has to say it anew, not only to live."""
    desk = Desk()
    desk.restore(led_ms=desk.now_ms - STALE_MS)
    desk.wait(0)
    assert desk.shown() == "alpha stale"
    desk.wait(1, "alpha")
    assert desk.shown() == "alpha stale"
    desk.say("alpha", "1")
    assert desk.shown() == "alpha"


@pytest.mark.parametrize("refresh_ms", [0, 60_000], ids=["streamed", "polled"])
def test_a_silence_goes_on_over_terms_that_are_shorter_than_it(refresh_ms: int) -> None:
    """Ten ticks of 55 s, one each minute; the source is dead in all of them."""
    now_ms = NOW_MS
    heard = {"alpha": now_ms}
    ticker = Ticker(price="9", source="alpha", received_ms=now_ms, offset=7)
    for _ in range(10):
        sources = Sources(BOARD, RULES, {"alpha": refresh_ms, "beta": refresh_ms})
        sources.restore({"BTC-USD": ticker}, now_ms + 5_000, Earlier(now_ms, 0, heard))
        now_ms += 60_000
        sources.turn(now_ms)
        heard = {
            name: feed.heard_ms
            for name, feed in sources.feeds.items()
            if feed.heard_ms is not None
        }
        shown = sources.slots["BTC-USD"].ticker()
        ticker = structs.replace(shown, received_ms=NOW_MS, offset=7)
    assert ticker.stale


def test_what_a_beat_covers_is_no_silence() -> None:
    """Between two ticks nobody listens, however far apart they are meant to be."""
    desk = Desk()
    led_ms = desk.now_ms - 2 * SILENT_MS
    ticker = Ticker(price="9", source="alpha", received_ms=led_ms, offset=7)
    earlier = Earlier(led_ms, beat_ms=2 * SILENT_MS)
    desk.sources.restore({"BTC-USD": ticker}, desk.now_ms, earlier)
    desk.wait(SILENT_MS)
    desk.say("beta", "2")
    assert desk.shown() == "alpha"


def test_a_source_that_nobody_heard_for_long_loses_its_place_at_a_takeover() -> None:
    """To whoever speaks first; so long its last value is no older than it may be."""
    desk = Desk()
    desk.restore(led_ms=desk.now_ms - SILENT_MS - 1)
    desk.wait(0)
    assert desk.shown() == "alpha"
    desk.say("beta", "2")
    assert desk.shown() == "beta"


def test_what_was_stale_stays_stale_until_its_source_speaks() -> None:
    """A new leader knows no better than the old one did."""
    desk = Desk()
    desk.restore(stale=True)
    desk.wait(1_000, "alpha")
    assert desk.shown() == "alpha stale"
    desk.say("alpha", "1")
    assert desk.shown() == "alpha"


def test_a_restored_value_of_a_source_that_is_off_goes_stale() -> None:
    """Nobody will ever confirm it."""
    desk = Desk()
    desk.restore(source="off")
    desk.wait(STALE_MS - 1)
    assert desk.shown() == "off"
    desk.wait(1)
    assert desk.shown() == "off stale"


def test_what_was_demanded_before_a_takeover_stays_until_demand_is_known() -> None:
    """Dropping it in between would make every client lose it for a moment."""
    desk = Desk()
    desk.restore("ETH-USD")
    assert desk.shown("ETH-USD") == "alpha"
    desk.say("alpha", "2", "ETHUSD")
    desk.sources.want([], desk.now_ms)
    assert desk.sources.slots["ETH-USD"].removed


def test_of_one_listing_shown_twice_the_newer_value_is_kept() -> None:
    """Two instruments of the store were published at different times."""
    desk = Desk()
    newer = Ticker(price="2", source="beta", via="USDT", received_ms=NOW_MS)
    older = Ticker(price="1", source="beta", received_ms=NOW_MS - 1)
    desk.sources.restore(
        {"BTC-USD": newer, "BTC-USDT": older}, desk.now_ms, Earlier(desk.now_ms)
    )
    assert desk.sources.slots["BTC-USDT"].ticker().price == "2"


def test_a_seeded_value_keeps_what_was_published() -> None:
    """Its own order goes on; what is no number is no measure for a jump."""
    held = Held(Feed("alpha", SILENT_MS))
    ticker = Ticker(price="x", bid="1", received_ms=NOW_MS + 9, event_ms=3)
    held.seed(ticker, NOW_MS)
    assert held.number is None
    assert held.by_price is not None
    assert (held.by_price.received_ms, held.by_price.event_ms) == (NOW_MS, 3)
