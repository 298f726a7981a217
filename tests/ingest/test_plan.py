"""What is read when, and how soon again after it went wrong."""

from msgspec import structs

from relay.config import Exchange, load
from relay.errors import ExchangeDown, RateLimited, Refused
from relay.ingest.budget import Priority
from relay.ingest.plan import NEVER_MS, Due, Plan

NOW_MS = 1_763_640_000_000
ALPHA = structs.replace(
    load(environ={}).settings.exchanges["kraken"],
    snapshot_ms=60_000,
    symbols_ms=3_600_000,
    charged=False,
)
DOWN = ExchangeDown("alpha", "connection refused")
TABLE = Due("alpha", "symbols", Priority.SEED)
SEED = Due("alpha", "snapshot", Priority.SEED)
REFRESH = Due("alpha", "snapshot", Priority.REFRESH)


def make(random: float = 0.0, exchange: Exchange = ALPHA) -> Plan:
    """Return a plan of one source."""
    return Plan({"alpha": exchange}, random=lambda: random)


def seeded(random: float = 0.0, exchange: Exchange = ALPHA) -> Plan:
    """Return a plan whose table and first snapshot were read just now."""
    plan = make(random, exchange)
    for _ in range(2):
        for due in plan.due(NOW_MS):
            plan.done(due, now_ms=NOW_MS)
    return plan


def test_the_table_comes_first_and_the_first_prices_at_once_after_it() -> None:
    """Without a table nobody knows what to ask for."""
    plan = make()
    assert plan.due(NOW_MS) == [TABLE]
    assert plan.due(NOW_MS) == []
    plan.done(TABLE, now_ms=NOW_MS + 5)
    assert plan.due(NOW_MS + 5) == [SEED]


def test_prices_are_refreshed_at_their_interval_and_never_early() -> None:
    """Some sources charge by the request."""
    plan = seeded()
    assert plan.next_ms(NOW_MS) == NOW_MS + 60_000
    assert plan.due(NOW_MS + 59_999) == []
    assert plan.due(NOW_MS + 60_000) == [REFRESH]


def test_refreshes_drift_apart() -> None:
    """Sources that began together must not go on together for ever."""
    assert seeded(0.5).next_ms(NOW_MS) == NOW_MS + 63_000


def test_tables_are_refreshed_too() -> None:
    """Listings come and go."""
    plan = seeded()
    due = plan.due(NOW_MS + 3_600_000)
    assert due == [Due("alpha", "symbols", Priority.REFRESH), REFRESH]


def test_the_urgent_is_returned_first() -> None:
    """A new source's seed goes before an old one's refresh."""
    plan = Plan({"alpha": ALPHA, "beta": ALPHA}, random=lambda: 0.0)
    plan.known("alpha", symbols_ms=NOW_MS, snapshot_ms=NOW_MS - 60_000)
    assert [due.source for due in plan.due(NOW_MS)] == ["beta", "alpha"]


def test_what_an_earlier_term_has_read_is_not_read_again() -> None:
    """A restart must not spend what the last one has spent already."""
    plan = make()
    plan.known("alpha", symbols_ms=NOW_MS - 10, snapshot_ms=NOW_MS - 50_000)
    assert plan.due(NOW_MS) == []
    assert plan.next_ms(NOW_MS) == NOW_MS + 10_000


def test_what_no_earlier_term_has_read_is_due() -> None:
    """Zero is never."""
    plan = make()
    plan.known("alpha", symbols_ms=NOW_MS, snapshot_ms=0)
    assert plan.due(NOW_MS) == [SEED]


def test_prices_that_are_asked_for_are_due_at_once() -> None:
    """Something new is wanted, or frames were missed."""
    plan = seeded()
    plan.ask("alpha", now_ms=NOW_MS + 30_000)
    assert plan.due(NOW_MS + 30_000) == [SEED]
    plan.done(SEED, now_ms=NOW_MS + 30_100)
    assert plan.next_ms(NOW_MS + 30_100) == NOW_MS + 90_100


def test_asking_again_and_again_is_answered_now_and_then() -> None:
    """A feed that loses frames all the time must not become a flood."""
    plan = seeded()
    plan.ask("alpha", now_ms=NOW_MS + 10)
    plan.ask("alpha", now_ms=NOW_MS + 20)
    assert plan.due(NOW_MS + 1_999) == []
    assert plan.due(NOW_MS + 2_000) == [SEED]


def test_what_is_asked_for_during_a_reading_is_read_once_more() -> None:
    """The answer under way may be older than the question."""
    plan = seeded()
    plan.ask("alpha", now_ms=NOW_MS + 2_000)
    assert plan.due(NOW_MS + 2_000) == [SEED]
    plan.ask("alpha", now_ms=NOW_MS + 2_500)
    assert plan.due(NOW_MS + 2_500) == []
    plan.done(SEED, now_ms=NOW_MS + 3_000)
    assert plan.next_ms(NOW_MS + 3_000) == NOW_MS + 5_000
    assert plan.due(NOW_MS + 5_000) == [SEED]


def test_what_is_asked_for_before_the_first_reading_waits_for_the_table() -> None:
    """It is on its way."""
    plan = make()
    plan.ask("alpha", now_ms=NOW_MS)
    assert plan.due(NOW_MS) == [TABLE]
    plan.done(TABLE, now_ms=NOW_MS)
    assert plan.due(NOW_MS) == [SEED]


def test_a_source_that_charges_is_not_read_for_the_asking() -> None:
    """Demand never spends credits."""
    plan = seeded(exchange=structs.replace(ALPHA, charged=True))
    plan.ask("alpha", now_ms=NOW_MS + 10_000)
    assert plan.due(NOW_MS + 59_999) == []


def test_without_an_interval_prices_are_read_only_when_asked_for() -> None:
    """A source may stream everything there is."""
    plan = seeded(exchange=structs.replace(ALPHA, snapshot_ms=0))
    assert plan.next_ms(NOW_MS) == NOW_MS + 3_600_000
    plan.ask("alpha", now_ms=NOW_MS + 5_000)
    assert plan.due(NOW_MS + 5_000) == [SEED]


def test_failures_are_tried_again_ever_more_rarely() -> None:
    """For ever, but at most once a minute."""
    plan, now_ms, waits = make(), NOW_MS, []
    for _ in range(9):
        assert plan.due(now_ms) == [TABLE]
        plan.failed(TABLE, DOWN, now_ms=now_ms)
        waits.append(plan.next_ms(now_ms) - now_ms)
        now_ms = plan.next_ms(now_ms)
    assert waits == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, *[60_000] * 3]


def test_a_success_begins_the_waits_anew() -> None:
    """One bad minute last week says nothing about now."""
    plan = seeded()
    for _ in range(2):
        plan.failed(REFRESH, DOWN, now_ms=NOW_MS)
    plan.done(REFRESH, now_ms=NOW_MS)
    plan.failed(REFRESH, DOWN, now_ms=NOW_MS)
    assert plan.next_ms(NOW_MS) == NOW_MS + 1_000


def test_nobody_can_ask_a_failure_away() -> None:
    """An exchange that is down is not asked sooner because somebody wants it."""
    plan = seeded()
    plan.failed(REFRESH, DOWN, now_ms=NOW_MS + 60_000)
    plan.ask("alpha", now_ms=NOW_MS + 60_000)
    assert plan.due(NOW_MS + 60_999) == []
    assert plan.due(NOW_MS + 61_000) == [SEED]


def test_a_rate_limit_is_obeyed() -> None:
    """The exchange says how long."""
    plan = make()
    plan.failed(TABLE, RateLimited("alpha", "address", 90_000), now_ms=NOW_MS)
    assert plan.next_ms(NOW_MS) == NOW_MS + 90_000
    plan.failed(TABLE, RateLimited("alpha", "address", 1), now_ms=NOW_MS)
    assert plan.next_ms(NOW_MS) == NOW_MS + 2_000


def test_a_refusal_is_reported_and_tried_again_each_hour() -> None:
    """Asking again does not help, until somebody has changed something."""
    plan = make()
    error = Refused("alpha", "request", "the request was wrong")
    plan.failed(TABLE, error, now_ms=NOW_MS)
    assert plan.refused() == {"alpha": f"{error.kind}: {error.advice}"}
    assert plan.next_ms(NOW_MS) == NOW_MS + 3_600_000
    plan.done(TABLE, now_ms=NOW_MS + 3_600_000)
    assert plan.refused() == {}


def test_a_block_is_reported_and_waited_out_with_the_whole_exchange() -> None:
    """Its cooldown says how long, for the stream and other instances as well."""
    plan = make()
    error = Refused("alpha", "blocked", "read it from another country")
    plan.failed(TABLE, error, now_ms=NOW_MS)
    plan.failed(TABLE, RateLimited("alpha", "cooldown", 600_000), now_ms=NOW_MS)
    assert plan.refused() == {"alpha": f"{error.kind}: {error.advice}"}
    assert plan.next_ms(NOW_MS) == NOW_MS + 600_000


def test_a_plan_of_nothing_is_never_due() -> None:
    """Every exchange may be off."""
    plan = Plan({}, random=lambda: 0.0)
    assert plan.due(NOW_MS) == []
    assert plan.next_ms(NOW_MS) == NEVER_MS


def test_what_runs_is_not_due() -> None:
    """Its answer comes by ``done`` or ``failed``, which always is called."""
    plan = make()
    plan.due(NOW_MS)
    assert plan.next_ms(NOW_MS) == NEVER_MS


def test_without_a_stream_prices_are_read_as_often_as_is_said() -> None:
    """The source must not fall silent while its REST answers."""
    plan = seeded()
    plan.ask_every("alpha", 10_000, now_ms=NOW_MS + 9_999)
    assert plan.due(NOW_MS + 9_999) == []
    plan.ask_every("alpha", 10_000, now_ms=NOW_MS + 10_000)
    assert plan.due(NOW_MS + 10_000) == [SEED]
    fresh = make()
    fresh.ask_every("alpha", 10_000, now_ms=NOW_MS)
    assert fresh.due(NOW_MS) == [TABLE]


def test_who_says_how_long_it_is_down_is_left_alone_for_so_long() -> None:
    """But no shorter than our own patience."""
    plan, down = seeded(), ExchangeDown("alpha", "HTTP 503")
    plan.due(NOW_MS + 600_000)
    down.retry_after_ms = 120_000
    assert plan.failed(REFRESH, down, now_ms=NOW_MS) == NOW_MS + 120_000
    down.retry_after_ms = 1
    assert plan.failed(REFRESH, down, now_ms=NOW_MS) == NOW_MS + 2_000


WRONG = Refused("alpha", "request", "Invalid symbol. (code -1121)")


def test_prices_refused_for_a_name_have_the_table_read_anew() -> None:
    """A delisting between two readings must not cost the others an hour."""
    plan = seeded()
    later_ms = NOW_MS + 600_000
    plan.due(later_ms)
    plan.failed(REFRESH, WRONG, now_ms=later_ms)
    assert plan.due(later_ms) == [TABLE]
    plan.done(TABLE, now_ms=later_ms + 200)
    assert plan.due(later_ms + 200) == [REFRESH]
    plan.done(REFRESH, now_ms=later_ms + 300)
    assert plan.refused() == {}


def test_a_table_with_a_name_that_is_none_is_read_anew() -> None:
    """The prices of all others were read, so nothing has failed."""
    plan = seeded()
    later_ms = NOW_MS + 600_000
    plan.due(later_ms)
    plan.doubt_table("alpha", now_ms=later_ms)
    plan.done(REFRESH, now_ms=later_ms)
    assert plan.due(later_ms) == [TABLE]
    assert plan.refused() == {}
    plan.done(TABLE, now_ms=later_ms)
    plan.doubt_table("alpha", now_ms=later_ms + 1)
    assert [due.purpose for due in plan.due(later_ms + 299_999)] == ["snapshot"]
    assert plan.due(later_ms + 300_000) == [TABLE]


def test_a_table_that_does_not_help_is_read_more_and_more_rarely() -> None:
    """It may have been something else that was wrong."""
    plan, now_ms, gaps = seeded(), NOW_MS, []
    for _ in range(6):
        plan.failed(REFRESH, WRONG, now_ms=now_ms)
        gaps.append((plan.next_ms(now_ms) - now_ms) // 60_000)
        now_ms = plan.next_ms(now_ms)
        assert [due.purpose for due in plan.due(now_ms)][:1] == ["symbols"]
        plan.done(TABLE, now_ms=now_ms)
        plan.due(now_ms)
    assert gaps == [5, 10, 20, 40, 60, 60]


def test_a_source_that_charges_reads_no_table_for_a_refusal() -> None:
    """Its credits are gone sooner than the mistake."""
    plan = seeded(exchange=structs.replace(ALPHA, charged=True))
    plan.failed(REFRESH, WRONG, now_ms=NOW_MS + 600_000)
    assert plan.due(NOW_MS + 600_000) == []


def test_a_clock_that_was_set_back_keeps_nothing_waiting() -> None:
    """Else nothing would be read by REST until it is where it was."""
    plan, back_ms = seeded(), NOW_MS - 3_600_000
    assert plan.due(NOW_MS + 10_000) == []
    assert plan.due(back_ms) == []
    assert plan.next_ms(back_ms) == back_ms + 50_000
    assert plan.due(back_ms + 50_000) == [REFRESH]
    plan.failed(
        REFRESH, RateLimited("alpha", "address", 5_000), now_ms=back_ms + 50_000
    )
    assert plan.due(back_ms - 600_000) == []
    again_ms = back_ms - 600_000 + 5_000
    assert plan.next_ms(back_ms - 600_000) == again_ms


def test_what_an_earlier_term_has_read_in_the_future_was_read_now() -> None:
    """The store's clock was ahead, and has been set right."""
    plan = make()
    ahead_ms = NOW_MS + 3_600_000
    plan.known("alpha", symbols_ms=ahead_ms, snapshot_ms=ahead_ms)
    assert plan.due(NOW_MS) == []
    assert plan.next_ms(NOW_MS) == NOW_MS + 60_000
    plan.ask("alpha", now_ms=NOW_MS + 2_000)
    assert plan.due(NOW_MS + 2_000) == [SEED]
