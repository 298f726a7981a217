"""A dead stream on a living connection, told from a quiet market by what REST says."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ingest.probe import Probe, Remedy
from relay.model import Listing, Update

APART_MS = 30_000
STEP_MS = 60_000
NOW_MS = 1_763_635_200_000
A = Listing(symbol="A-USD", base="A", quote="USD")
B = Listing(symbol="B-USD", base="B", quote="USD")
C = Listing(symbol="C-USD", base="C", quote="USD")


def said(listing: Listing, price: str, at_ms: int, *, first: bool = False) -> Update:
    """Return what a stream or an answer said."""
    return Update(
        exchange="toy",
        channel="ticker",
        symbol=listing.symbol,
        received_ms=at_ms,
        snapshot=first,
        price=price,
    )


class Course:
    """Readings one after the other; the stream speaks when a test lets it."""

    def __init__(self, *listings: Listing) -> None:
        self.probe = Probe(APART_MS)
        self.listings = listings or (A,)
        self.now_ms = NOW_MS

    def read(
        self,
        *prices: str,
        step_ms: int = STEP_MS,
        granted: Iterable[str] | None = None,
    ) -> Remedy:
        """Let time pass, and read a price of each listing."""
        self.now_ms += step_ms
        names = [listing.symbol for listing in self.listings]
        read = {
            listing.symbol: said(listing, price, self.now_ms)
            for listing, price in zip(self.listings, prices, strict=True)
        }
        held = names if granted is None else list(granted)
        return self.probe.compare(self.listings, read, held)

    def speak(self, price: str, listing: Listing = A, *, first: bool = False) -> None:
        """Have the stream say a price a second after the last reading."""
        self.probe.spoke([said(listing, price, self.now_ms + 1_000, first=first)])


NOTHING = Remedy()
AGAIN = Remedy((A.symbol,))
REPLACE = Remedy((A.symbol,), replace=True)


def test_a_price_that_moves_twice_without_a_word_is_a_dead_stream() -> None:
    """Once may be an answer from an edge's cache."""
    course = Course()
    assert [course.read(price) for price in ("1", "2", "3")] == [
        NOTHING,
        NOTHING,
        AGAIN,
    ]
    assert course.probe.dead == {A.symbol: 1}


def test_a_quiet_market_is_not_dead() -> None:
    """REST says the same, so there was nothing to say; zeros are no news."""
    course = Course()
    assert {course.read(price) for price in ("1.5", "1.50", "1.5", "1.500")} == {
        NOTHING
    }
    assert course.probe.dead == {}


def test_a_move_every_few_readings_is_found_as_well() -> None:
    """A market that is quiet between its moves is as dead when nothing is heard."""
    course = Course()
    prices = ("1", "1", "2", "2", "2")
    assert {course.read(price) for price in prices} == {NOTHING}
    assert course.read("3") == AGAIN


def test_a_stream_that_speaks_lives_whatever_it_says() -> None:
    """It may be ahead of the answer, or behind it."""
    course = Course()
    for price in ("1", "2", "3", "4", "5"):
        assert course.read(price) == NOTHING
        course.speak("99")
    assert course.probe.dead == {}


def test_what_the_stream_has_said_before_need_not_be_said_again() -> None:
    """An answer out of a cache moves later than the stream did."""
    course = Course()
    course.read("1")
    for price in ("2", "3", "4", "5"):
        course.probe.spoke([said(A, price, course.now_ms - 500)])
        assert course.read(price) == NOTHING


def test_the_first_word_of_a_subscription_is_no_sign_of_life() -> None:
    """Each remedy brings one, and the stream may be as dead as before."""
    course = Course()
    course.read("1")
    course.speak("1", first=True)
    assert course.read("2") == NOTHING
    assert course.read("3") == AGAIN


def test_remedies_come_ever_more_rarely_and_go_further() -> None:
    """Subscribing anew first, then another connection, after twice as many moves."""
    course = Course()
    done = [course.read(str(price)) for price in range(1, 16)]
    places = {place: one for place, one in enumerate(done) if one != NOTHING}
    assert places == {2: AGAIN, 6: REPLACE, 14: REPLACE}
    assert course.probe.dead == {A.symbol: 3}


def test_a_stream_has_recovered_when_it_is_heard_twice() -> None:
    """Once could be the last gasp; the count of remedies is kept until then."""
    course = Course()
    for price in ("1", "2", "3"):
        course.read(price)
    course.speak("4")
    course.read("4")
    assert course.probe.dead == {A.symbol: 1}
    course.speak("5")
    course.read("5")
    assert course.probe.dead == {}


def test_when_most_are_dead_the_connection_is_to_blame() -> None:
    """Subscribing anew to everything would be the same with less hope."""
    course = Course(A, B, C)
    for prices in (("1", "1", "1"), ("2", "2", "1")):
        course.read(*prices)
    symbols = (A.symbol, B.symbol)
    assert course.read("3", "3", "1") == Remedy(symbols, replace=True)


def test_one_of_many_is_subscribed_anew_alone() -> None:
    """The others are not disturbed."""
    course = Course(A, B, C)
    for prices in (("1", "1", "1"), ("2", "1", "1")):
        course.read(*prices)
    assert course.read("3", "1", "1") == AGAIN


def test_readings_close_together_are_one() -> None:
    """A stream is given time: a silence has a length."""
    course = Course()
    course.read("1")
    for price in range(2, 6):
        assert course.read(str(price), step_ms=APART_MS // 10) == NOTHING
    assert course.probe.dead == {}


def test_what_is_not_granted_is_not_owed() -> None:
    """Refused, not asked for yet, or between two connections."""
    course = Course()
    for price in range(1, 9):
        assert course.read(str(price), granted=()) == NOTHING
    assert course.read("9") == NOTHING


def test_a_twin_speaks_for_its_listing() -> None:
    """Coinbase answers a -USDC product under its -USD name."""
    twin = Listing(symbol="A-USDC", base="A", quote="USDC", answers_as=("A-USD",))
    course = Course(twin)
    for price in ("1", "2", "3", "4"):
        assert course.read(price) == NOTHING
        course.speak(price, A)


@pytest.mark.parametrize("price", ["", "0", "-1", "nan", "x"])
def test_what_is_no_price_is_not_compared(price: str) -> None:
    """Dead rows of an answer say nothing about a stream."""
    course = Course()
    course.read("1")
    for _ in range(4):
        assert course.read(price) == NOTHING
    assert course.read("2") == NOTHING


def test_a_streamed_text_that_is_no_number_is_compared_as_text() -> None:
    """The merge drops it; here it must only not fail."""
    course = Course()
    course.read("1")
    course.probe.spoke([said(A, "x", course.now_ms - 1)])
    assert course.read("2") == NOTHING
    assert course.read("3") == AGAIN


def test_a_symbol_that_is_missing_from_an_answer_is_left_alone() -> None:
    """Its row may be on another page."""
    course = Course()
    course.read("1")
    assert course.probe.compare([A], {}, [A.symbol]) == NOTHING


def test_what_is_not_wanted_any_more_is_forgotten() -> None:
    """And everything is when the connection broke off: it is another stream then."""
    course = Course()
    for price in ("1", "2", "3"):
        course.read(price)
    assert course.probe.compare([], {}, []) == NOTHING
    assert course.probe.dead == {}
    for price in ("4", "5"):
        course.read(price)
    course.probe.forget()
    assert [course.read(price) for price in ("6", "7")] == [NOTHING, NOTHING]
    assert course.read("8") == AGAIN


def test_book_updates_are_no_word_about_the_price() -> None:
    """Where they come over a channel of their own, the other one may be dead."""
    course = Course()
    book = Update(exchange="toy", channel="book", symbol=A.symbol, received_ms=0)
    for price in ("1", "2"):
        course.read(price)
        course.probe.spoke([book])
    assert course.read("3") == AGAIN


@given(
    st.lists(st.tuples(st.sampled_from(("1", "2", "3")), st.booleans()), max_size=60)
)
def test_nothing_is_done_about_a_stream_that_follows(
    steps: list[tuple[str, bool]],
) -> None:
    """Told in time, late by a reading, or not at all because nothing moved."""
    course = Course()
    last = ""
    for price, early in steps:
        if price != last and early:
            course.probe.spoke([said(A, price, course.now_ms + STEP_MS - 10)])
        elif price != last:
            course.speak(price)
        assert course.read(price) == NOTHING
        last = price
    assert course.probe.dead == {}


@given(st.lists(st.sampled_from(("1", "2", "3")), max_size=200))
def test_remedies_are_bounded_by_the_moves_that_were_missed(prices: list[str]) -> None:
    """Two for the first, twice as many for each that follows."""
    course = Course()
    remedies = sum(course.read(price) != NOTHING for price in prices)
    moves = sum(one != other for one, other in pairwise(prices))
    assert remedies == max((n for n in range(9) if 2 * (2**n - 1) <= moves), default=0)


def test_what_the_stream_has_priced_is_heard_until_it_begins_anew() -> None:
    """A symbol that REST disowns is only given up where the stream is silent, too."""
    course = Course(A, B)
    course.speak("1")
    course.probe.spoke([said(B, "", course.now_ms)])
    assert course.probe.has_heard(A.symbol)
    assert not course.probe.has_heard(B.symbol), "a best price is not yet a price"
    course.probe.forget()
    assert not course.probe.has_heard(A.symbol)


# Silence against a habit.


class Watch(Course):
    """Seconds one after the other; REST is read when it is asked for, or is due."""

    def __init__(self, *listings: Listing) -> None:
        super().__init__(*listings)
        self.readings = 0
        self.remedies: list[int] = []
        self.price = 100
        self._due_ms = self.now_ms + STEP_MS

    def pass_time(self, seconds: int, *, pause_s: int = 0, moving: bool = True) -> None:
        """Let seconds pass in which all speak each so often, never with 0."""
        names = [listing.symbol for listing in self.listings]
        for second in range(1, seconds + 1):
            self.now_ms += 1_000
            self.price += moving
            if pause_s and second % pause_s == 0:
                rows = self.listings
                self.probe.spoke(
                    said(row, str(self.price), self.now_ms) for row in rows
                )
            if self.probe.suspects(names, self.now_ms) or self.now_ms >= self._due_ms:
                self._due_ms = self.now_ms + STEP_MS
                self.readings += 1
                if self.read(*[str(self.price)] * len(names), step_ms=0).symbols:
                    self.remedies.append(self.now_ms)


@pytest.mark.parametrize("lived_s", [60, 85, 100, 119, 600])
@pytest.mark.parametrize("pause_s", [1, 3, 5])
def test_a_lively_stream_that_dies_is_found_within_a_minute(
    lived_s: int, pause_s: int
) -> None:
    """By its habit: until the third refresh it would be three minutes."""
    watch = Watch()
    watch.pass_time(lived_s, pause_s=pause_s)
    died_ms, readings = watch.now_ms, watch.readings
    watch.pass_time(60)
    assert watch.remedies[0] - died_ms <= 50_000
    assert watch.readings - readings <= 6


def test_a_lull_costs_a_reading_and_then_ever_fewer() -> None:
    """The market is quiet: REST says what the stream has said."""
    watch = Watch()
    watch.pass_time(600, pause_s=1)
    before = watch.readings
    watch.pass_time(600, moving=False)
    assert not watch.remedies
    assert watch.readings - before <= 12, "ten without a suspicion, and two for it"
    watch.pass_time(5, pause_s=1)
    before = watch.readings
    watch.pass_time(240, moving=False)
    assert watch.readings - before <= 5, "it has paused for longer than that before"


def test_many_lulls_are_asked_for_together() -> None:
    """However many fall silent, and whenever, REST is read once a minute for it."""
    watch = Watch(A, B, C)
    watch.pass_time(300, pause_s=1)
    before, names = watch.readings, [A.symbol, B.symbol, C.symbol]
    for second in range(300):
        at_ms = watch.now_ms + second * 1_000
        # Each is silent for twenty seconds, and another one when it has spoken.
        row = watch.listings[second // 20 % 3]
        others = [one for one in watch.listings if one is not row]
        watch.probe.spoke(said(one, str(watch.price), at_ms) for one in others)
        if watch.probe.suspects(names, at_ms):
            watch.now_ms = at_ms
            watch.readings += 1
            assert watch.read(*[str(watch.price)] * 3, step_ms=0) == NOTHING
    assert 1 <= watch.readings - before <= 6


def test_a_slow_habit_is_not_broken_by_a_pause() -> None:
    """Who speaks twice a minute is only found by the refreshes."""
    watch = Watch()
    watch.pass_time(900, pause_s=30)
    assert watch.readings == 15
    watch.pass_time(60)
    assert watch.readings == 16


def test_what_was_left_has_no_habit_any_more() -> None:
    """Subscribed again later, it begins anew."""
    watch = Watch()
    watch.pass_time(60, pause_s=1)
    assert not watch.probe.suspects([], watch.now_ms + 40_000)
    assert not watch.probe.suspects([A.symbol], watch.now_ms + 41_000)


def test_a_stream_of_endless_symbols_is_forgotten() -> None:
    """An exchange may lie, and memory is bounded."""
    probe = Probe(APART_MS)
    rows = (Listing(symbol=f"X{n}", base="X", quote="USD") for n in range(20_001))
    probe.spoke(said(row, "1", NOW_MS) for row in rows)
    assert probe.has_heard("X7")
    assert not probe.suspects([], NOW_MS)
    assert not probe.has_heard("X7")


def test_a_clock_that_was_set_back_does_not_blind_it() -> None:
    """Else nothing would be compared until it is where it was."""
    course = Course()
    course.read("1")
    assert course.read("2", step_ms=-3_600_000) == NOTHING
    assert [course.read(price) for price in ("3", "4")] == [NOTHING, AGAIN]


@pytest.mark.parametrize("read", ["", "119.5"], ids=["says nothing", "stands still"])
def test_a_silence_about_which_rest_knows_nothing_is_asked_ever_more_rarely(
    read: str,
) -> None:
    """It may be halted, or shown at another price for ever: no reading will tell."""
    probe, now_ms, granted = Probe(APART_MS), NOW_MS, {A.symbol}
    for number in range(20):
        now_ms += 1_000
        probe.spoke([said(A, str(100 + number), now_ms)])
        probe.suspects(granted, now_ms)
    readings = 0
    for _ in range(3_600):
        now_ms += 1_000
        if probe.suspects(granted, now_ms):
            readings += 1
            if read:
                probe.compare([A], {A.symbol: said(A, read, now_ms)}, granted)
    assert readings < 30
