"""Windows and buckets: how the exchanges count what a client spends.

Pure; what a breach gets is decided by each exchange. Nothing is shared with the
relay's own budget.
"""

from collections import deque
from datetime import UTC, datetime
from typing import Protocol


class Limit(Protocol):
    """One limit of one scope."""

    most: int
    peak: int

    def spend(self, amount: int, now_ms: int) -> bool:
        """Count ``amount`` and tell whether all of it was within the limit."""
        ...

    def used(self, now_ms: int) -> int:
        """Give what counts at this moment."""
        ...

    def wait_ms(self, now_ms: int) -> int:
        """Give the milliseconds until something may be spent again."""
        ...


class ClockWindow:
    """A count that falls to zero at each full period of the wall clock."""

    def __init__(self, most: int, period_ms: int) -> None:
        self.most = most
        self.peak = 0
        self._period_ms = period_ms
        self._period = -1
        self._used = 0

    def used(self, now_ms: int) -> int:
        """Give what was spent in the running period."""
        period = now_ms // self._period_ms
        if period != self._period:
            self._period, self._used = period, 0
        return self._used

    def spend(self, amount: int, now_ms: int) -> bool:
        """Count ``amount``, refused or not, as Binance does."""
        self._used = self.used(now_ms) + amount
        self.peak = max(self.peak, self._used)
        return self._used <= self.most

    def wait_ms(self, now_ms: int) -> int:
        """Give the milliseconds until the period ends."""
        return self._period_ms - now_ms % self._period_ms


class RollingWindow:
    """A count over the last ``period_ms``, whenever they are looked at."""

    def __init__(self, most: int, period_ms: int) -> None:
        self.most = most
        self.peak = 0
        self._period_ms = period_ms
        self._spent: deque[tuple[int, int]] = deque()
        self._used = 0

    def used(self, now_ms: int) -> int:
        """Give what was spent in the period that ends now."""
        while self._spent and self._spent[0][0] <= now_ms - self._period_ms:
            self._used -= self._spent.popleft()[1]
        return self._used

    def spend(self, amount: int, now_ms: int) -> bool:
        """Count ``amount``, refused or not."""
        self._used = self.used(now_ms) + amount
        self._spent.append((now_ms, amount))
        self.peak = max(self.peak, self._used)
        return self._used <= self.most

    def wait_ms(self, now_ms: int) -> int:
        """Give the milliseconds until the oldest spending no longer counts."""
        if not self._spent:
            return 0
        return max(0, self._spent[0][0] + self._period_ms - now_ms)


class LeakyBucket:
    """A level that rises with each spending and leaks one each ``leak_ms``.

    What is refused raises the level as well, up to twice the capacity: whoever goes
    on asking waits longer.
    """

    def __init__(self, most: int, leak_ms: int, *, punish: bool = True) -> None:
        self.most = most
        self.peak = 0
        self._leak_ms = leak_ms
        self._punish = punish
        self._level_ms = 0  # the level times leak_ms, so that it stays whole
        self._seen_ms = 0

    def _leak(self, now_ms: int) -> None:
        self._level_ms = max(0, self._level_ms - max(0, now_ms - self._seen_ms))
        self._seen_ms = now_ms

    def used(self, now_ms: int) -> int:
        """Give the level, rounded up."""
        self._leak(now_ms)
        return -(-self._level_ms // self._leak_ms)

    def spend(self, amount: int, now_ms: int) -> bool:
        """Raise the level; refused when it would run over."""
        self._leak(now_ms)
        raised = self._level_ms + amount * self._leak_ms
        within = raised <= self.most * self._leak_ms
        if within or self._punish:
            self._level_ms = min(raised, 2 * self.most * self._leak_ms)
        self.peak = max(self.peak, -(-raised // self._leak_ms))
        return within

    def wait_ms(self, now_ms: int) -> int:
        """Give the milliseconds until one more fits."""
        self._leak(now_ms)
        return max(0, self._level_ms - (self.most - 1) * self._leak_ms)


class Ban:
    """Who was banned, until when; each ban twice as long as the one before."""

    def __init__(self, first_ms: int, most_ms: int) -> None:
        self._next_ms = first_ms
        self._most_ms = most_ms
        self.until_ms = 0

    def strike(self, now_ms: int) -> None:
        """Ban from now on."""
        self.until_ms = now_ms + self._next_ms
        self._next_ms = min(self._most_ms, self._next_ms * 2)

    def holds(self, now_ms: int) -> bool:
        """Tell whether the ban is still on."""
        return now_ms < self.until_ms


class MonthWindow:
    """A count that falls to zero when the calendar month (UTC) turns."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.peak = 0
        self._month = (0, 0)
        self._used = 0

    def used(self, now_ms: int) -> int:
        """Give what was spent in the running month."""
        day = datetime.fromtimestamp(now_ms // 1_000, UTC)
        month = (day.year, day.month)
        if month != self._month:
            self._month, self._used = month, 0
        return self._used

    def spend(self, amount: int, now_ms: int) -> bool:
        """Count ``amount``; the one that passes the limit is still served."""
        within = self.used(now_ms) < self.most
        self._used += amount
        self.peak = max(self.peak, self._used)
        return within

    def wait_ms(self, now_ms: int) -> int:
        """Give the milliseconds until the month turns."""
        day = datetime.fromtimestamp(now_ms // 1_000, UTC)
        year, month = (day.year, day.month + 1) if day.month < 12 else (day.year + 1, 1)  # noqa: PLR2004  # December
        return int(datetime(year, month, 1, tzinfo=UTC).timestamp() * 1_000) - now_ms
