"""The only reader of the time.

Nothing here sleeps, and nothing else in the relay asks the machine for the time.
"""

import time
from typing import Final

MS: Final = 1_000_000
"""Nanoseconds in a millisecond."""

# Counts through a suspended machine, which CLOCK_MONOTONIC does not: a lease that
# ran out while a laptop slept has run out.
_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
# Set ahead by more, a clock was not corrected: it, or the machine it is of, has leapt.
_LEAP_MS: Final = 1_000


class Clock:
    """A wall clock that is set once in a while and advanced by a steady one.

    The relay sets it from the store (``set_wall``), so that all instances share one
    wall clock and a machine whose own clock is wrong does no harm.
    """

    leaps = 0
    """How often the wall clock was set far ahead: less time has passed than it says."""

    def __init__(self) -> None:
        self._ahead_ms = time.time_ns() // MS - self.monotonic_ms()

    def monotonic_ms(self) -> int:
        """Read the steady clock, in milliseconds since an arbitrary moment."""
        return time.clock_gettime_ns(_STEADY) // MS

    def wall_ms(self) -> int:
        """Read the wall clock, in Unix milliseconds."""
        return self.monotonic_ms() + self._ahead_ms

    def set_wall(self, wall_ms: int, *, at_ms: int) -> None:
        """Make the wall clock say ``wall_ms`` for the steady clock's ``at_ms``."""
        before_ms, self._ahead_ms = self._ahead_ms, wall_ms - at_ms
        self.leaps += self._ahead_ms - before_ms > _LEAP_MS


class ManualClock(Clock):
    """A clock that moves only when told to, for tests and for replaying."""

    def __init__(self, wall_ms: int = 1_763_635_200_000) -> None:
        self._steady_ms = 0
        self._ahead_ms = wall_ms

    def monotonic_ms(self) -> int:
        """Return the milliseconds that were advanced so far."""
        return self._steady_ms

    def advance(self, ms: int) -> None:
        """Let ``ms`` milliseconds pass."""
        self._steady_ms += ms
