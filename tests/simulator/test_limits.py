"""Windows and buckets: what they count, and when they forget it."""

from datetime import UTC, datetime

import pytest

from relay.simulator.limits import (
    Ban,
    ClockWindow,
    LeakyBucket,
    Limit,
    MonthWindow,
    RollingWindow,
)


def test_a_clock_window_forgets_at_the_full_minute() -> None:
    """Binance's weight falls to zero at :00, however late it was spent."""
    window = ClockWindow(10, 60_000)
    assert window.spend(10, 59_999)
    assert not window.spend(1, 59_999)
    assert window.used(59_999) == 11
    assert window.wait_ms(59_999) == 1
    assert window.used(60_000) == 0
    assert window.spend(10, 60_000)
    assert window.peak == 11


def test_a_rolling_window_counts_the_last_period_whenever_it_is_asked() -> None:
    """Five messages at the end of one second and five more just after are ten."""
    window = RollingWindow(5, 1_000)
    assert all(window.spend(1, 990) for _ in range(5))
    assert window.wait_ms(991) == 999
    assert not window.spend(1, 1_500)
    assert window.used(1_989) == 6
    assert window.used(1_990) == 1
    assert window.used(2_500) == 0
    assert window.wait_ms(2_500) == 0


def test_a_bucket_leaks_and_waits_longer_for_whoever_goes_on() -> None:
    """Kraken extends the restriction of a client that does not stop."""
    bucket = LeakyBucket(5, 1_000)
    assert all(bucket.spend(1, 0) for _ in range(5))
    assert not bucket.spend(1, 0)
    assert bucket.wait_ms(0) == 2_000
    for _ in range(20):
        bucket.spend(1, 0)
    assert bucket.used(0) == 10
    assert not bucket.spend(1, 5_000)
    assert bucket.spend(1, 8_000)


def test_a_mild_bucket_counts_only_what_it_let_through() -> None:
    """A token bucket refills whether or not somebody knocks."""
    bucket = LeakyBucket(2, 100, punish=False)
    assert bucket.spend(1, 0)
    assert bucket.spend(1, 0)
    assert not bucket.spend(1, 0)
    assert bucket.wait_ms(0) == 100
    assert bucket.spend(1, 100)


def test_a_month_window_forgets_when_the_month_turns() -> None:
    """Credits are sold by the calendar month; the last request may pass the limit."""
    last = int(datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp() * 1_000)
    window = MonthWindow(10)
    assert window.spend(12, last)
    assert not window.spend(1, last)
    assert window.wait_ms(last) == 1_000
    assert window.used(last + 1_000) == 0
    june = int(datetime(2026, 6, 30, tzinfo=UTC).timestamp() * 1_000)
    assert window.wait_ms(june) == 86_400_000


def test_each_ban_is_twice_as_long_up_to_the_longest() -> None:
    """Binance bans for two minutes at first, then longer, up to three days."""
    ban = Ban(120_000, 300_000)
    lengths = []
    for _ in range(3):
        ban.strike(0)
        lengths.append(ban.until_ms)
    assert lengths == [120_000, 240_000, 300_000]
    assert ban.holds(299_999)
    assert not ban.holds(300_000)


@pytest.mark.parametrize(
    "limit",
    [ClockWindow(3, 1_000), RollingWindow(3, 1_000), LeakyBucket(3, 1_000)],
)
def test_every_limit_lets_exactly_its_limit_through(limit: Limit) -> None:
    """One more or one less would make the referee unjust."""
    assert [limit.spend(1, 5_000) for _ in range(4)] == [True, True, True, False]
    assert limit.most == 3
    assert limit.peak == 4
