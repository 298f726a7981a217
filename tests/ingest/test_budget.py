"""What may be spent, when it comes back, and who goes first."""

from typing import Literal

import pytest
from msgspec import structs

from relay.config import Limit
from relay.errors import ExchangeDown, ExchangeError, RateLimited, Refused
from relay.exchanges.adapter import Usage
from relay.ingest.book import Book, follow, recover, stock
from relay.ingest.budget import Budget, Gauge, Priority, Reservation, Wait
from relay.ingest.ledger import spare, until_ms
from relay.ingest.offence import Cooldown, Offence, Transport, offence_of

MINUTE_MS = 60_000
DAY_MS = 86_400_000
NOON_MS = 1_763_640_000_000
WEIGHT = Limit(
    name="weight", weight_max=100, window_ms=MINUTE_MS, kind="fixed", scope="address"
)
ROLLING = Limit(
    name="weight", weight_max=10, window_ms=1_000, kind="rolling", scope="address"
)
ONE = Limit(
    name="weight", weight_max=1, window_ms=1_000, kind="rolling", scope="address"
)
CONNECT = Limit(
    name="connect", weight_max=3, window_ms=300_000, kind="rolling", scope="address"
)
CREDITS = Limit(
    name="credits",
    weight_max=3_000,
    window_ms=30 * DAY_MS,
    kind="rolling",
    scope="address",
)


def ask(
    budget: Budget,
    cost: int,
    now_ms: int,
    *,
    limit: str = "weight",
    priority: Priority = Priority.KEEP,
) -> Reservation | Wait:
    """Ask for a cost of one limit."""
    return budget.reserve([(limit, cost)], now_ms=now_ms, priority=priority)


def spend(
    budget: Budget, cost: int, now_ms: int, *, limit: str = "weight"
) -> Reservation:
    """Reserve, and have it settled at once as it was reserved."""
    reservation = ask(budget, cost, now_ms, limit=limit)
    assert isinstance(reservation, Reservation)
    budget.settle(reservation, [], now_ms=now_ms)
    return reservation


def wait(answer: Reservation | Wait) -> Wait:
    """Insist on having to wait."""
    assert isinstance(answer, Wait)
    return answer


def used(budget: Budget, now_ms: int) -> int:
    """Read the first limit's gauge."""
    return budget.gauges(now_ms)[0].used


def test_a_fixed_window_frees_everything_at_its_boundary() -> None:
    """Binance counts by the clock minute; a second allows for clocks that differ."""
    budget = Budget("binance", [WEIGHT])
    spend(budget, 100, NOON_MS + 30_000)
    answer = wait(ask(budget, 1, NOON_MS + 30_001))
    assert answer == Wait(NOON_MS + 61_000, "weight", "100 of 100 used, 1 asked for")
    assert isinstance(ask(budget, 1, NOON_MS + 60_999), Wait)
    assert isinstance(ask(budget, 100, NOON_MS + 61_000), Reservation)


def test_what_lands_near_a_boundary_counts_on_both_sides() -> None:
    """Nobody can tell in which of two windows the exchange's clock put it."""
    budget = Budget("binance", [WEIGHT])
    spend(budget, 100, NOON_MS - 500)
    assert wait(ask(budget, 1, NOON_MS + 2_000)).until_ms == NOON_MS + 61_000


def test_a_reservation_in_flight_counts_in_the_next_window_too() -> None:
    """It may arrive late: sent in one minute, counted in the next."""
    budget = Budget("binance", [WEIGHT])
    late = ask(budget, 60, NOON_MS + 50_000)
    assert isinstance(late, Reservation)
    assert isinstance(ask(budget, 60, NOON_MS + 70_000), Wait)
    budget.settle(late, [], now_ms=NOON_MS + 71_000)
    assert used(budget, NOON_MS + 120_999) == 60
    assert used(budget, NOON_MS + 121_000) == 0


def test_a_rolling_window_is_strict_to_the_millisecond() -> None:
    """Two bursts a window apart must never share one."""
    budget = Budget("coinbase", [ROLLING])
    spend(budget, 10, NOON_MS)
    assert wait(ask(budget, 1, NOON_MS + 1)).until_ms == NOON_MS + 1_001
    assert isinstance(ask(budget, 1, NOON_MS + 1_000), Wait)
    assert isinstance(ask(budget, 10, NOON_MS + 1_001), Reservation)


def test_a_rolling_window_counts_from_the_answer() -> None:
    """The request may have landed as late as its answer came back."""
    budget = Budget("kraken", [ONE])
    slow = ask(budget, 1, NOON_MS)
    assert isinstance(slow, Reservation)
    budget.settle(slow, [], now_ms=NOON_MS + 800)
    assert wait(ask(budget, 1, NOON_MS + 1_001)).until_ms == NOON_MS + 1_801


def test_a_wait_names_the_soonest_moment_if_what_flies_were_settled_now() -> None:
    """A second request in flight must not put the third off by a minute."""
    budget = Budget("kraken", [ONE])
    assert isinstance(ask(budget, 1, NOON_MS), Reservation)
    assert wait(ask(budget, 1, NOON_MS + 50)).until_ms == NOON_MS + 1_051


def test_whoever_knows_how_long_it_may_take_is_spent_for_no_longer() -> None:
    """A request that is given up in time has landed by then, or never will."""
    budget = Budget("kraken", [ONE], flight_ms=60_000)
    costs = [("weight", 1)]
    leave = budget.reserve(
        costs, now_ms=NOON_MS, priority=Priority.KEEP, flight_ms=2_000
    )
    assert isinstance(leave, Reservation)
    assert used(budget, NOON_MS + 3_000) == 1
    assert used(budget, NOON_MS + 3_001) == 0


def test_what_goes_with_an_answer_may_land_after_it() -> None:
    """The first message follows the upgrade that it was reserved with."""
    budget = Budget("kraken", [ONE])
    leave = ask(budget, 1, NOON_MS)
    assert isinstance(leave, Reservation)
    budget.settle(leave, [], now_ms=NOON_MS + 100, late_ms=1_500)
    assert used(budget, NOON_MS + 2_600) == 1
    assert used(budget, NOON_MS + 2_601) == 0


def test_what_is_never_settled_stays_spent_for_its_flight_and_its_window() -> None:
    """A crash between sending and settling must not give the weight back."""
    budget = Budget("kraken", [ONE], flight_ms=5_000)
    assert isinstance(ask(budget, 1, NOON_MS), Reservation)
    assert isinstance(ask(budget, 1, NOON_MS + 6_000), Wait)
    assert isinstance(ask(budget, 1, NOON_MS + 6_001), Reservation)


def test_only_what_was_certainly_not_sent_comes_back_at_once() -> None:
    """A refused connection costs nothing."""
    budget = Budget("kraken", [ONE])
    unsent = ask(budget, 1, NOON_MS)
    assert isinstance(unsent, Reservation)
    budget.cancel(unsent)
    assert isinstance(ask(budget, 1, NOON_MS), Reservation)


def test_all_limits_are_reserved_or_none() -> None:
    """A request that must wait for one limit takes nothing of the other."""
    budget = Budget("binance", [WEIGHT, CONNECT])
    costs = [("weight", 1), ("connect", 3)]
    first = budget.reserve(costs, now_ms=NOON_MS, priority=Priority.KEEP)
    assert isinstance(first, Reservation)
    budget.settle(first, [], now_ms=NOON_MS)
    answer = wait(budget.reserve(costs, now_ms=NOON_MS + 1, priority=Priority.KEEP))
    assert answer.limit == "connect"
    assert used(budget, NOON_MS + 1) == 1


def test_of_two_limits_the_later_one_is_waited_for() -> None:
    """Coming back for the sooner one would be in vain."""
    budget = Budget("binance", [WEIGHT, CONNECT])
    spend(budget, 100, NOON_MS)
    spend(budget, 3, NOON_MS, limit="connect")
    answer = budget.reserve(
        [("weight", 1), ("connect", 1)], now_ms=NOON_MS + 1, priority=Priority.KEEP
    )
    assert wait(answer).until_ms == NOON_MS + 300_001


def test_a_cost_that_names_a_limit_twice_is_summed() -> None:
    """Two halves of one request must not each see the whole limit."""
    budget = Budget("kraken", [ONE])
    costs = [("weight", 1), ("weight", 1)]
    answer = budget.reserve(costs, now_ms=NOON_MS, priority=Priority.KEEP)
    assert "costs 2, more than the 1" in wait(answer).reason


def test_an_unknown_limit_costs_nothing() -> None:
    """An adapter may name limits that a deployment does not have."""
    budget = Budget("kraken", [ONE])
    free = ask(budget, 5, NOON_MS, limit="credits")
    assert isinstance(free, Reservation)
    budget.settle(free, [Usage(limit="credits", used=9)], now_ms=NOON_MS)
    assert used(budget, NOON_MS) == 0


def test_what_costs_more_than_the_limit_waits_with_the_reason() -> None:
    """The message alone must tell that the configuration cannot work."""
    answer = wait(ask(Budget("coinbase", [ROLLING]), 11, NOON_MS))
    assert answer.reason == "costs 11, more than the 10 that ever are there"
    assert answer.until_ms == NOON_MS + 1_000


@pytest.mark.parametrize(
    ("priority", "most"),
    [
        (Priority.KEEP, 100),
        (Priority.SEED, 95),
        (Priority.REFRESH, 85),
        (Priority.WARM, 50),
    ],
)
def test_a_lower_priority_leaves_a_reserve(priority: Priority, most: int) -> None:
    """Warming must not keep the live stream from reconnecting."""
    budget = Budget("binance", [WEIGHT])
    spend(budget, most - 1, NOON_MS)
    assert isinstance(ask(budget, 2, NOON_MS, priority=priority), Wait)
    assert isinstance(ask(budget, 1, NOON_MS, priority=priority), Reservation)


def test_every_priority_gets_through_a_limit_of_one() -> None:
    """Half of one is none: an idle limit serves anybody."""
    for priority in Priority:
        budget = Budget("kraken", [ONE])
        assert isinstance(ask(budget, 1, NOON_MS, priority=priority), Reservation)


def test_the_exchanges_count_wins_when_it_is_higher() -> None:
    """Somebody else may share the address."""
    budget = Budget("binance", [WEIGHT])
    first = ask(budget, 10, NOON_MS)
    other = ask(budget, 20, NOON_MS)
    assert isinstance(first, Reservation)
    assert isinstance(other, Reservation)
    budget.settle(first, [Usage(limit="weight", used=70)], now_ms=NOON_MS + 100)
    assert used(budget, NOON_MS + 100) == 90
    budget.settle(other, [Usage(limit="weight", used=15)], now_ms=NOON_MS + 200)
    assert used(budget, NOON_MS + 200) == 70


def test_the_exchanges_count_does_not_win_when_it_is_lower() -> None:
    """A server of theirs that knows less must not make us spend more."""
    budget = Budget("binance", [WEIGHT])
    first = ask(budget, 10, NOON_MS)
    assert isinstance(first, Reservation)
    budget.settle(first, [Usage(limit="weight", used=1)], now_ms=NOON_MS)
    assert used(budget, NOON_MS) == 10


def test_an_answer_without_a_count_adds_to_the_count_before_it() -> None:
    """The larger of the two alone would forget what a timed-out request cost."""
    budget = Budget("binance", [WEIGHT])
    first = ask(budget, 10, NOON_MS)
    assert isinstance(first, Reservation)
    budget.settle(first, [Usage(limit="weight", used=70)], now_ms=NOON_MS)
    spend(budget, 10, NOON_MS + 1)
    assert used(budget, NOON_MS + 1) == 80


def test_a_count_may_miss_what_was_settled_while_it_was_under_way() -> None:
    """The exchange counted first, the other request landed afterwards."""
    budget = Budget("binance", [WEIGHT])
    counted = ask(budget, 10, NOON_MS)
    assert isinstance(counted, Reservation)
    spend(budget, 10, NOON_MS + 1)
    budget.settle(counted, [Usage(limit="weight", used=70)], now_ms=NOON_MS + 2)
    assert used(budget, NOON_MS + 2) == 80


def test_in_a_rolling_window_a_later_count_replaces_an_earlier_one() -> None:
    """A month's credits are topped up: yesterday's high count is history."""
    budget = Budget("coincap", [CREDITS])
    for now_ms, count in ((NOON_MS, 50), (NOON_MS + 10, 20)):
        reservation = ask(budget, 1, now_ms, limit="credits")
        assert isinstance(reservation, Reservation)
        usage = Usage(limit="credits", used=count)
        budget.settle(reservation, [usage], now_ms=now_ms + 5)
    assert used(budget, NOON_MS + 15) == 20


def test_a_cost_that_the_answer_tells_replaces_the_reserved_one() -> None:
    """CoinCap charges by the bytes of the answer, known only afterwards."""
    budget = Budget("binance", [WEIGHT])
    for told, total in ((40, 40), (2, 42)):
        reservation = ask(budget, 10, NOON_MS)
        assert isinstance(reservation, Reservation)
        usage = Usage(limit="weight", cost=told)
        budget.settle(reservation, [usage], now_ms=NOON_MS)
        assert used(budget, NOON_MS) == total


def test_a_usage_of_a_limit_that_was_not_reserved_is_taken_in() -> None:
    """An answer may tell of more limits than its request named."""
    budget = Budget("binance", [WEIGHT, CONNECT])
    reservation = ask(budget, 1, NOON_MS)
    assert isinstance(reservation, Reservation)
    told = [Usage(limit="connect", used=3)]
    budget.settle(reservation, told, now_ms=NOON_MS)
    assert isinstance(ask(budget, 1, NOON_MS, limit="connect"), Wait)


def test_settling_twice_counts_once() -> None:
    """A late answer after a time-out corrects what the time-out settled."""
    budget = Budget("coinbase", [ROLLING])
    reservation = spend(budget, 4, NOON_MS)
    budget.settle(reservation, [], now_ms=NOON_MS + 100)
    assert used(budget, NOON_MS + 100) == 4


def test_credits_are_paced_by_the_day() -> None:
    """A loop that goes wrong must not burn the month in an hour."""
    budget = Budget("coincap", [CREDITS])
    spend(budget, 100, NOON_MS, limit="credits")
    answer = wait(ask(budget, 1, NOON_MS + 1, limit="credits"))
    assert answer.until_ms == NOON_MS + DAY_MS
    assert isinstance(ask(budget, 101, NOON_MS + DAY_MS, limit="credits"), Wait)
    assert isinstance(ask(budget, 100, NOON_MS + DAY_MS, limit="credits"), Reservation)


def test_what_earlier_days_left_may_be_spent_later() -> None:
    """Pacing spreads credits, it does not take them away."""
    budget = Budget("coincap", [CREDITS])
    spend(budget, 10, NOON_MS, limit="credits")
    later_ms = NOON_MS + 2 * DAY_MS
    assert isinstance(ask(budget, 291, later_ms, limit="credits"), Wait)
    assert isinstance(ask(budget, 290, later_ms, limit="credits"), Reservation)


def test_a_request_dearer_than_a_day_waits_until_enough_days_have_passed() -> None:
    """It is affordable, only not today."""
    answer = wait(ask(Budget("coincap", [CREDITS]), 450, NOON_MS, limit="credits"))
    assert answer.until_ms == NOON_MS + 4 * DAY_MS


def test_a_month_is_a_limit_for_all_its_days_together() -> None:
    """Pacing by the day must not let a thirty-first share through."""
    budget = Budget("coincap", [CREDITS])
    for day in range(30):
        spend(budget, 100, NOON_MS + day * DAY_MS, limit="credits")
    last_ms = NOON_MS + 29 * DAY_MS + 1
    answer = wait(ask(budget, 1, last_ms, limit="credits"))
    assert answer.until_ms == NOON_MS + 30 * DAY_MS + 1


def test_what_others_spent_of_the_credits_is_not_shared_out() -> None:
    """A key that came half used lasts to the end of the window all the same."""
    budget = Budget("coincap", [CREDITS])
    first = ask(budget, 10, NOON_MS, limit="credits")
    assert isinstance(first, Reservation)
    told = [Usage(limit="credits", used=1_510)]
    budget.settle(first, told, now_ms=NOON_MS)
    assert isinstance(ask(budget, 41, NOON_MS, limit="credits"), Wait)
    assert isinstance(ask(budget, 40, NOON_MS, limit="credits"), Reservation)


def test_a_fixed_month_is_paced_from_its_own_beginning() -> None:
    """Its boundary brings new credits, to be spread over the new window."""
    month = Limit(
        name="credits",
        weight_max=30,
        window_ms=30 * DAY_MS,
        kind="fixed",
        scope="address",
    )
    start_ms = NOON_MS - NOON_MS % month.window_ms
    budget = Budget("coincap", [month])
    spend(budget, 1, start_ms + 29 * DAY_MS, limit="credits")
    assert isinstance(ask(budget, 1, start_ms + 29 * DAY_MS, limit="credits"), Wait)
    next_ms = start_ms + 30 * DAY_MS + 2_000
    spend(budget, 1, next_ms, limit="credits")
    assert isinstance(ask(budget, 1, next_ms, limit="credits"), Wait)


def test_an_hour_is_paced_by_its_parts() -> None:
    """A day is no step for a window that is shorter than one."""
    hour = Limit(
        name="weight",
        weight_max=240,
        window_ms=3_600_000,
        kind="rolling",
        scope="address",
    )
    budget = Budget("binance", [hour])
    spend(budget, 10, NOON_MS)
    assert wait(ask(budget, 1, NOON_MS)).until_ms == NOON_MS + 150_000


def offence(
    reason: str,
    wait_ms: int,
    wait_max_ms: int = 900_000,
    transport: Transport | None = None,
) -> Offence:
    """Return an answer that says stop."""
    return Offence(
        reason=reason, wait_ms=wait_ms, wait_max_ms=wait_max_ms, transport=transport
    )


@pytest.mark.parametrize(
    ("transport", "rest", "ws"),
    [("rest", False, True), ("ws", True, False), (None, False, False)],
)
def test_a_cooldown_belongs_to_what_was_refused(
    transport: Transport | None, *, rest: bool, ws: bool
) -> None:
    """A limit of REST must not keep a stream from coming back, nor the reverse."""
    budget = Budget("binance", [WEIGHT, CONNECT])
    budget.offend(offence("429", 40_000, transport=transport), now_ms=NOON_MS)
    for costs, may in (([("weight", 2)], rest), ([("connect", 1)], ws)):
        answer = budget.reserve(costs, now_ms=NOON_MS, priority=Priority.KEEP)
        assert isinstance(answer, Reservation) is may
    cooling = {one.limit: bool(one.cooling_until_ms) for one in budget.gauges(NOON_MS)}
    assert cooling == {"weight": not rest, "connect": not ws}


def test_a_ban_during_a_cooldown_stops_the_other_transport_as_well() -> None:
    """The 418 that follows a 429 is about the address."""
    budget = Budget("binance", [WEIGHT, CONNECT])
    budget.offend(offence("429", 40_000, transport="rest"), now_ms=NOON_MS)
    budget.offend(offence("418", 5_000), now_ms=NOON_MS)
    assert budget.cooling(NOON_MS, "ws") == Cooldown(NOON_MS + 5_000, "418")
    assert budget.cooling(NOON_MS, "rest") == Cooldown(NOON_MS + 40_000, "429")


def test_a_cooldown_stops_everything_and_is_never_shortened() -> None:
    """A second, milder answer must not end the first one's ban."""
    budget = Budget("binance", [WEIGHT])
    budget.offend(offence("418: banned", 5_000), now_ms=NOON_MS)
    budget.offend(offence("429: slow down", 1_000), now_ms=NOON_MS + 1)
    assert budget.cooling(NOON_MS) == Cooldown(NOON_MS + 5_000, "418: banned")
    answer = budget.reserve([], now_ms=NOON_MS, priority=Priority.KEEP)
    assert answer == Wait(NOON_MS + 5_000, "", "418: banned")
    assert budget.cooling(NOON_MS + 5_000) is None
    assert isinstance(ask(budget, 1, NOON_MS + 5_000), Reservation)


def test_a_later_cooldown_replaces_the_earlier_one() -> None:
    """Ten answers to one burst are one offence, and the longest wait counts."""
    budget = Budget("binance", [WEIGHT])
    budget.offend(offence("429: slow down", 1_000), now_ms=NOON_MS)
    budget.offend(offence("418: banned", 5_000), now_ms=NOON_MS)
    assert budget.cooling(NOON_MS + 4_999) == Cooldown(NOON_MS + 5_000, "418: banned")


def test_repeated_offences_back_off_further_up_to_a_bound() -> None:
    """An exchange that is angry must not be asked at the same pace for ever."""
    budget, now_ms, waits = Budget("binance", [WEIGHT]), NOON_MS, []
    for _ in range(6):
        until_ms = budget.offend(offence("429", 60_000), now_ms=now_ms).until_ms
        waits.append((until_ms - now_ms) // 60_000)
        now_ms = until_ms
    assert waits == [1, 2, 4, 8, 15, 15]


def test_what_an_exchange_asks_for_is_never_cut_short() -> None:
    """``Retry-After`` may be longer than any bound of ours."""
    day = offence("418", DAY_MS)
    budget = Budget("binance", [WEIGHT])
    assert budget.offend(day, now_ms=NOON_MS).until_ms == NOON_MS + DAY_MS


def test_an_hour_of_good_conduct_is_forgiven() -> None:
    """Last week's offence must not make today's dear."""
    budget = Budget("binance", [WEIGHT])
    budget.offend(offence("429", 60_000), now_ms=NOON_MS)
    later_ms = NOON_MS + 60_000 + 3_600_000
    assert budget.offend(offence("429", 60_000), now_ms=later_ms).offences == 1


@pytest.mark.parametrize(
    ("error", "wait_ms"),
    [
        (RateLimited("toy", "address", 7_000), 7_000),
        (Refused("toy", "blocked", "go elsewhere"), 600_000),
        (Refused("toy", "retired", "update"), 600_000),
        (Refused("toy", "key", "set a key"), 600_000),
        (Refused("toy", "request", "no such symbol"), None),
        (ExchangeDown("toy", "HTTP 503"), None),
    ],
)
def test_only_some_answers_concern_the_whole_exchange(
    error: ExchangeError, wait_ms: int | None
) -> None:
    """A mistake in one request must not silence the others."""
    found = offence_of(error, refused_ms=600_000, transport="rest")
    assert (found.wait_ms if found else None) == wait_ms


# What the books of several instances come to.


@pytest.mark.parametrize(
    ("limit", "left"),
    [
        (WEIGHT, 5),
        (CONNECT, 0),
        (ROLLING, 2),
        (ONE, 0),
        (CREDITS, 100),
    ],
)
def test_over_an_empty_store_only_the_spare_may_be_spent(
    limit: Limit, left: int
) -> None:
    """Everything else may have been spent just before the store was emptied."""
    book = Book(born_ms=NOON_MS)
    stock(book, [limit], NOON_MS)
    budget = Budget("binance", [limit], books={"address": book})
    if left:
        assert isinstance(ask(budget, left, NOON_MS, limit=limit.name), Reservation)
    again = wait(ask(budget, 1, NOON_MS, limit=limit.name))
    assert again.until_ms <= NOON_MS + max(limit.window_ms + 1_001, DAY_MS)


def test_the_spare_is_kept_for_whoever_finds_nothing() -> None:
    """Spent to the brim, wiped and begun anew: together never above the limit."""
    book = Book(born_ms=0)
    stock(book, [WEIGHT], 0)
    budget = Budget("binance", [WEIGHT], books={"address": book})
    assert isinstance(ask(budget, 95, NOON_MS), Reservation)
    assert isinstance(ask(budget, 1, NOON_MS), Wait)
    assert spare(WEIGHT) == 5


def test_a_lost_book_counts_as_spent_until_all_that_flew_has_landed() -> None:
    """Others may have spent, and sent, what nobody remembers."""
    book = Book(born_ms=0)
    stock(book, [ONE], 0)
    recover(book, book, NOON_MS, 60_000)
    budget = Budget("kraken", [ONE], books={"address": book})
    assert isinstance(ask(budget, 1, NOON_MS + 61_000), Wait)
    assert isinstance(ask(budget, 1, NOON_MS + 61_001), Reservation)


def quiet(limit: Limit, now_ms: int) -> Book:
    """Return a book of which nothing is spent any more."""
    book = Book(born_ms=0)
    stock(book, [limit], now_ms - DAY_MS)
    return book


def left(book: Book, limit: Limit, now_ms: int) -> int:
    """Return how much a book bears."""
    budget = Budget("binance", [limit], books={"address": book})
    most = 0
    while isinstance(ask(budget, 1, now_ms, limit=limit.name), Reservation):
        most += 1
    return most


def test_who_remembers_a_lost_book_has_the_spare_once() -> None:
    """Spent to the brim before, spare after: together never above the limit."""
    known = quiet(WEIGHT, NOON_MS)
    recover(known, known, NOON_MS, 60_000)
    assert left(known, WEIGHT, NOON_MS) == 4
    # Others may have had it: lost again, nothing is left.
    recover(known, known, NOON_MS + 1, 60_000)
    assert left(known, WEIGHT, NOON_MS + 1) == 0


def test_what_is_remembered_is_part_of_what_was_spent() -> None:
    """It is not counted twice, and comes back when it ends."""
    known = quiet(WEIGHT, NOON_MS)
    budget = Budget("binance", [WEIGHT], books={"address": known})
    assert isinstance(ask(budget, 60, NOON_MS), Reservation)
    recover(known, known, NOON_MS, 60_000)
    assert left(known, WEIGHT, NOON_MS) == 4
    brim = quiet(WEIGHT, NOON_MS)
    budget = Budget("binance", [WEIGHT], books={"address": brim})
    assert isinstance(ask(budget, 95, NOON_MS), Reservation)
    recover(brim, brim, NOON_MS, 60_000)
    assert left(brim, WEIGHT, NOON_MS) == 0


def test_the_spare_is_one_for_all_who_find_a_book_begun_anew() -> None:
    """A newcomer has used some of it; whoever remembers has the rest."""
    known, fresh = quiet(WEIGHT, NOON_MS), Book(born_ms=NOON_MS)
    stock(fresh, [WEIGHT, CONNECT], NOON_MS)
    budget = Budget("binance", [WEIGHT], books={"address": fresh})
    assert isinstance(ask(budget, 3, NOON_MS), Reservation)
    recover(fresh, known, NOON_MS, 60_000)
    assert left(fresh, WEIGHT, NOON_MS) == 1
    # Of what is not remembered nobody knows anything.
    assert left(fresh, CONNECT, NOON_MS) == 0


def flown(now_ms: int, *, settled: bool) -> tuple[Book, int]:
    """Return a book with one entry, and its id."""
    book = Book(born_ms=1)
    budget = Budget("binance", [WEIGHT], books={"address": book})
    leave = ask(budget, 10, now_ms)
    assert isinstance(leave, Reservation)
    if settled:
        budget.settle(leave, [], now_ms=now_ms)
    return book, leave.id


@pytest.mark.parametrize(
    ("settled", "own", "at_ms", "lost"),
    [
        (True, False, NOON_MS, True),
        (False, True, NOON_MS, True),
        # Its owner may have given it back.
        (False, False, NOON_MS, False),
        # Somebody whose clock is ahead may have tidied it away.
        (True, True, NOON_MS + MINUTE_MS, False),
    ],
)
def test_a_book_that_lacks_what_counts_is_an_older_copy(
    *, settled: bool, own: bool, at_ms: int, lost: bool
) -> None:
    """Somebody went on with it, so that its number is the newest there is."""
    known, number = flown(NOON_MS, settled=settled)
    stored = Book(born_ms=1, revision=known.revision + 5)
    stock(stored, [WEIGHT], NOON_MS)
    mine = {number} if own else set[int]()
    assert follow(stored, known, at_ms, mine) == (stored, lost)
    kept = structs.replace(known, revision=known.revision + 5)
    assert follow(kept, known, at_ms, mine) == (kept, False)
    assert follow(Book(born_ms=1, revision=1 << 60), known, at_ms, mine)[1] is False


def test_a_store_that_forgot_is_told_from_one_that_moved_on() -> None:
    """Only what is older than what we saw, or another life's, has lost something."""
    seen = Book(born_ms=1, revision=10)
    older, newer = Book(born_ms=1, revision=9), Book(born_ms=1, revision=11)
    reborn = Book(born_ms=5, revision=12)
    assert follow(newer, seen, 20) == (newer, False)
    assert follow(older, seen, 20) == (seen, True)
    assert follow(reborn, seen, 20) == (reborn, True)
    assert follow(None, seen, 20) == (seen, True)
    assert follow(older, None, 20) == (older, False)
    assert follow(None, None, 20) == (Book(born_ms=20), False)


def test_answers_that_overtake_each_other_within_a_millisecond_both_count() -> None:
    """The lower count came last, and was taken first: once it let one more pass."""
    budget = Budget("binance", [ROLLING])
    first, second = ask(budget, 1, NOON_MS), ask(budget, 1, NOON_MS)
    assert isinstance(first, Reservation)
    assert isinstance(second, Reservation)
    for leave, used in ((second, 10), (first, 9)):
        budget.settle(leave, [Usage(limit="weight", used=used)], now_ms=NOON_MS)
    assert isinstance(ask(budget, 1, NOON_MS), Wait)


def test_a_published_limit_wins_when_it_is_lower() -> None:
    """Binance changes its tables without asking us; ours may be stricter."""
    book = Book(born_ms=0)
    stock(book, [WEIGHT], 0)
    budget = Budget("binance", [WEIGHT], books={"address": book})
    table = ask(budget, 1, NOON_MS)
    assert isinstance(table, Reservation)
    told = [Usage(limit="weight", most=40)]
    budget.settle(table, told, now_ms=NOON_MS)
    stock(book, [WEIGHT], NOON_MS)
    assert budget.gauges(NOON_MS)[0].most == 38
    stock(book, [structs.replace(WEIGHT, weight_max=20)], NOON_MS)
    assert budget.gauges(NOON_MS)[0].most == 18


def test_a_limit_that_is_configured_no_more_is_forgotten() -> None:
    """The book holds what the configuration names, and nothing else."""
    book = Book(born_ms=0)
    stock(book, [WEIGHT, CONNECT], 0)
    stock(book, [CONNECT], 0)
    assert list(book.ledgers) == ["connect"]


def test_gauges_tell_how_every_limit_stands() -> None:
    """The status page shows them as they are."""
    budget = Budget("binance", [WEIGHT, CONNECT])
    spend(budget, 7, NOON_MS)
    budget.offend(offence("429", 9_000), now_ms=NOON_MS)
    idle = Gauge(
        limit="connect",
        used=0,
        most=3,
        window_ms=300_000,
        frees_ms=0,
        cooling_until_ms=NOON_MS + 9_000,
        cooling_reason="429",
    )
    busy = Gauge(
        limit="weight",
        used=7,
        most=100,
        window_ms=MINUTE_MS,
        frees_ms=NOON_MS + 61_000,
        cooling_until_ms=NOON_MS + 9_000,
        cooling_reason="429",
    )
    assert budget.gauges(NOON_MS) == [busy, idle]
    assert budget.gauges(NOON_MS + 9_000)[0].cooling_until_ms == 0


@pytest.mark.parametrize("window_ms", [100, 1_000, 60_000])
def test_a_short_fixed_window_allows_for_clocks_by_a_tenth(window_ms: int) -> None:
    """A whole second around windows of a second would forbid everything."""
    limit = Limit(
        name="weight", weight_max=1, window_ms=window_ms, kind="fixed", scope="address"
    )
    skew_ms = min(1_000, window_ms // 10)
    assert until_ms(limit, 0) == window_ms + skew_ms
    assert until_ms(limit, window_ms - skew_ms) == 2 * window_ms + skew_ms


@pytest.mark.parametrize("kind", ["rolling", "fixed"])
@pytest.mark.parametrize("settled", [True, False])
def test_a_clock_that_was_set_back_is_not_waited_for(
    kind: Literal["rolling", "fixed"], *, settled: bool
) -> None:
    """What was sent in the future counts from now, with all the time it may take."""
    limit = structs.replace(WEIGHT, kind=kind)
    budget, back_ms = Budget("toy", [limit]), NOON_MS - DAY_MS
    leave = ask(budget, limit.weight_max, NOON_MS)
    assert isinstance(leave, Reservation)
    if settled:
        used = Usage(limit="weight", used=limit.weight_max)
        budget.settle(leave, [used], now_ms=NOON_MS)
    until_ms = wait(ask(budget, 1, back_ms)).until_ms
    assert MINUTE_MS <= until_ms - back_ms <= 4 * MINUTE_MS
    for later_ms in (600_000, 900_000):
        free = isinstance(ask(budget, 1, back_ms + later_ms), Reservation)
        assert free is (settled or later_ms > 700_000)


def test_a_pace_that_began_in_the_future_begins_now() -> None:
    """Else a month's credits would be blocked until then."""
    budget = Budget("toy", [CREDITS])
    spend(budget, 1, NOON_MS, limit="credits")
    assert isinstance(ask(budget, 1, NOON_MS - DAY_MS, limit="credits"), Reservation)
