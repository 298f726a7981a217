"""What the older metrics count, seen from one instance.

``/metrics`` has this instance's own numbers, ``/v1/status`` the leader's words.
"""

import asyncio
from collections import deque
from typing import Final

from msgspec import Struct

from relay.clock import Clock
from relay.delivery.compat import Fed, Health, Line, iso_seconds, read_health
from relay.hub import Hub

# How often the leader's word is looked at: it has a new one for each mark.
_LOOK_S: Final = 1
# Errors that are told, of all that are counted.
_RECENT_MAX: Final = 10


class Updates(Struct, frozen=True):
    """Prices that reached this instance; ``per_second`` since counting began."""

    total: int
    per_second: float
    last_timestamp: str | None


class Connections(Struct, frozen=True):
    """Connections to exchanges that were seen to open, again or for the first time."""

    total: int
    reconnect_attempts: int
    last_connected: str | None
    last_duration_seconds: int


class Errors(Struct, frozen=True):
    """What went wrong between the exchanges and the leader: code, words, instant.

    A connection was lost, or could not be had; what was asked over an open one was
    refused; a source is heard no more.
    """

    total: int
    recent: list[tuple[str, str, str]]


class Performance(Struct, frozen=True):
    """The time that one update takes here; the share of asked ids that had a price."""

    avg_processing_time_ms: float
    cache_hit_rate_percent: float


class Counted(Struct, frozen=True):
    """The body of the older metrics. What was not seen yet is 0 or null."""

    updates: Updates
    connections: Connections
    errors: Errors
    performance: Performance


class Uplinks:
    """Counts connections and errors in what the leader says, look by look. Pure.

    What comes and goes between two looks is not seen.
    """

    def __init__(self) -> None:
        self.opened = self.reopened = self.failed = 0
        self.recent: deque[tuple[str, str, str]] = deque(maxlen=_RECENT_MAX)
        self.open_since_ms = self.open_until_ms = 0
        self._lines: dict[tuple[str, int], Line] = {}
        self._fed: dict[str, Fed] = {}

    def reset(self) -> None:
        """Begin to count anew; what stands is remembered, and not counted again."""
        self.opened = self.reopened = self.failed = 0
        self.recent.clear()

    def look(self, health: Health, now_ms: int) -> None:
        """Compare with the last look."""
        for name, lines in health.streams.items():
            for number, line in enumerate(lines):
                self._look_at_line(name, number, line, now_ms)
        for name, fed in health.sources.items():
            before = self._fed.get(name, Fed(alive=True))
            if before.alive and not fed.alive and fed.reason:
                self._fail("SOURCE_DOWN", f"{name}: {fed.reason}", now_ms)
            self._fed[name] = fed

    def _look_at_line(self, name: str, number: int, line: Line, now_ms: int) -> None:
        before = self._lines.get((name, number))
        is_open = line.state == "open"
        if is_open and (before is None or before.since_ms != line.since_ms):
            self.opened += 1
            self.reopened += before is not None and before.state != "connecting"
            self.open_since_ms = max(self.open_since_ms, line.since_ms)
        if is_open and line.since_ms == self.open_since_ms:
            self.open_until_ms = now_ms
        if line.error and (before is None or before.error != line.error):
            self._fail(_code(before, line), f"{name}: {line.error}", now_ms)
        self._lines[name, number] = line

    def _fail(self, code: str, words: str, now_ms: int) -> None:
        self.failed += 1
        self.recent.append((code, words, iso_seconds(now_ms)))


def _code(before: Line | None, line: Line) -> str:
    """Return what kind of error a line tells of, after the last look at it."""
    if before is None or before.state != "open":
        return "REQUEST_REFUSED" if line.state == "open" else "CONNECTION_FAILED"
    # One that stays open was refused something, and has not lost its connection.
    stays = line.state == "open" and line.since_ms == before.since_ms
    return "REQUEST_REFUSED" if stays else "CONNECTION_LOST"


class Meter:
    """Counts for one instance; without a hub, only what was asked for."""

    def __init__(self, hub: Hub | None, clock: Clock) -> None:
        self._hub, self._clock = hub, clock
        self._uplinks = Uplinks()
        self._since_ms = clock.monotonic_ms()
        self._updates_before = self._taking_before_ms = 0
        self._asked = self._found = 0

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(_LOOK_S)
            self.look()

    def look(self) -> None:
        """Take in what the leader says now; what it said before it went is no news."""
        if self._hub is not None and self._hub.live:
            health = read_health(self._hub.health)
            self._uplinks.look(health, self._clock.wall_ms())

    def count(self, *, asked: int, found: int) -> None:
        """Count ids that were asked for, and those that had a price."""
        self._asked += asked
        self._found += found

    def reset(self) -> None:
        """Set every counter back."""
        self.look()  # what has happened belongs to what is forgotten
        self._uplinks.reset()
        self._since_ms = self._clock.monotonic_ms()
        self._asked = self._found = 0
        if self._hub is not None:
            counts = self._hub.counts
            self._updates_before = counts.updates
            self._taking_before_ms = counts.taking_ms

    def read(self) -> Counted:
        """Return every number as it is now."""
        self.look()
        uplinks, hit = self._uplinks, _share(100 * self._found, self._asked)
        since_ms, lasted_ms = uplinks.open_since_ms, 0
        if since_ms:
            lasted_ms = max(uplinks.open_until_ms - since_ms, 0)
        connections = Connections(
            uplinks.opened,
            uplinks.reopened,
            iso_seconds(since_ms) if since_ms else None,
            lasted_ms // 1000,
        )
        updates, taken_ms = self._updates()
        return Counted(
            updates=updates,
            connections=connections,
            errors=Errors(uplinks.failed, list(uplinks.recent)),
            performance=Performance(round(_share(taken_ms, updates.total), 3), hit),
        )

    def _updates(self) -> tuple[Updates, int]:
        """Return the updates, and the milliseconds that they took in all."""
        if self._hub is None:
            return Updates(0, 0, None), 0
        counts, newest_ms = self._hub.counts, self._hub.board.offset
        total = counts.updates - self._updates_before
        lasted_ms = self._clock.monotonic_ms() - self._since_ms
        updates = Updates(
            total,
            round(_share(1000 * total, lasted_ms), 1),
            iso_seconds(newest_ms) if newest_ms else None,
        )
        return updates, counts.taking_ms - self._taking_before_ms


def _share(part: int, whole: int) -> float:
    return round(part / whole, 3) if whole else 0
