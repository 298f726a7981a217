"""Which symbol tables and snapshots are due, of which source, and how urgent they are.

No I/O and no clock: ``worker`` asks, does what is due, and says how it went.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal

from msgspec import Struct

from relay.config import Exchange
from relay.errors import ExchangeDown, RateLimited, Refused, RelayError
from relay.ingest.budget import Priority

Purpose = Literal["symbols", "snapshot"]

# After a failure: the first wait, doubled with each one more, up to the last.
_RETRY_MIN_MS: Final = 1_000
_RETRY_MAX_MS: Final = 60_000
_DOUBLINGS_MAX: Final = 10
# A request that was wrong by itself is tried again now and then.
_REFUSED_MS: Final = 3_600_000
# It may have been the symbol table's fault, which is older than a delisting: it is read
# anew, but no sooner than this after the last time, and twice as late each time.
_TABLE_MIN_MS: Final = 300_000
# Snapshots that are asked for come no closer than this, however many ask.
_ASKED_MS: Final = 2_000
# A refresh comes up to this share of its interval late, so that sources and instances
# that began together drift apart; never early, since some charge by the request.
_SPREAD: Final = 0.1

NEVER_MS: Final = 1 << 62
"""Later than any instant."""


class Due(Struct, frozen=True):
    """Something to read of a source now; ``done`` or ``failed`` answers it."""

    source: str
    purpose: Purpose
    priority: Priority


class _Chore(Struct):
    """One source's table, or its snapshot.

    ``done_ms`` is when it was read last, None for never; ``asked_ms`` is when somebody
    wants it before it is due. ``rest_ms`` is the earliest moment for the next attempt,
    whoever asks.
    """

    every_ms: int
    due_ms: int = 0
    rest_ms: int = 0
    done_ms: int | None = None
    failures: int = 0
    running: bool = False
    asked_ms: int = NEVER_MS
    refused: str = ""

    def next_ms(self) -> int:
        """Return when it is to be done."""
        if self.running:
            return NEVER_MS
        return max(self.rest_ms, min(self.asked_ms, self.due_ms))

    def advance(self, ms: int) -> None:
        """Have all instants come so much earlier, nothing for less than none."""
        if ms <= 0:
            return
        self.rest_ms -= ms
        # "Never" is as far away as before.
        self.due_ms -= ms if self.due_ms < NEVER_MS else 0
        self.asked_ms -= ms if self.asked_ms < NEVER_MS else 0
        if self.done_ms is not None:
            self.done_ms -= ms


class _Intent(Struct):
    """What is read of one source."""

    symbols: _Chore
    snapshot: _Chore
    charged: bool


class Plan:
    """The reading of every source that is on.

    The table comes first; the first snapshot follows it at once. ``random`` returns a
    number from 0 up to 1.
    """

    def __init__(
        self, exchanges: Mapping[str, Exchange], *, random: Callable[[], float]
    ) -> None:
        self._random = random
        self._now_ms = 0
        self._intents = {
            name: _Intent(
                _Chore(exchange.symbols_ms),
                _Chore(exchange.snapshot_ms),
                exchange.charged,
            )
            for name, exchange in exchanges.items()
        }

    def known(self, source: str, *, symbols_ms: int, snapshot_ms: int) -> None:
        """Go on from what an earlier term has read, and when; 0 for never."""
        intent = self._intents[source]
        for chore, done_ms in (
            (intent.symbols, symbols_ms),
            (intent.snapshot, snapshot_ms),
        ):
            if done_ms:
                self._schedule(chore, done_ms)

    def ask(self, source: str, *, now_ms: int) -> None:
        """Have a source's prices read soon: something new is wanted, or was missed.

        A source that charges is read when it is due, and not for the asking.
        """
        intent = self._intents[source]
        if not intent.charged:
            chore = intent.snapshot
            soonest_ms = 0 if chore.done_ms is None else chore.done_ms + _ASKED_MS
            chore.asked_ms = min(chore.asked_ms, max(now_ms, soonest_ms))

    def ask_every(self, source: str, every_ms: int, *, now_ms: int) -> None:
        """Have a source's prices read this often, while nothing else brings them."""
        done_ms = self._intents[source].snapshot.done_ms
        if done_ms is None or now_ms - done_ms >= every_ms:
            self.ask(source, now_ms=now_ms)

    def due(self, now_ms: int) -> list[Due]:
        """Return what is due, most urgent first; each is returned once."""
        self._turn_back(now_ms)
        found = []
        for source, purpose, chore in self._chores():
            if chore.next_ms() <= now_ms:
                chore.running = True
                found.append(Due(source, purpose, _priority(chore)))
                chore.asked_ms = NEVER_MS
        return sorted(found, key=lambda due: due.priority)

    def _turn_back(self, now_ms: int) -> None:
        """Follow a clock that was set back: nothing was done in the future."""
        back_ms, self._now_ms = self._now_ms - now_ms, now_ms
        for intent in self._intents.values():
            for chore in (intent.symbols, intent.snapshot):
                chore.advance(max(back_ms, (chore.done_ms or 0) - now_ms))

    def next_ms(self, now_ms: int) -> int:
        """Return when something will be due, ``now_ms`` if it is already."""
        due_ms = (chore.next_ms() for _, _, chore in self._chores())
        return max(now_ms, min(due_ms, default=NEVER_MS))

    def _chores(self) -> Iterator[tuple[str, Purpose, _Chore]]:
        """Yield what may be read: prices only once the table is there."""
        for source, intent in self._intents.items():
            yield source, "symbols", intent.symbols
            if intent.symbols.done_ms is not None:
                yield source, "snapshot", intent.snapshot

    def done(self, due: Due, *, now_ms: int) -> None:
        """Note that it was read."""
        chore = self._chore(due)
        chore.running, chore.failures, chore.refused = False, 0, ""
        snapshot = self._intents[due.source].snapshot
        if due.purpose == "symbols" and snapshot.refused:
            # Asked by another table, the answer may be another.
            snapshot.due_ms = snapshot.rest_ms = now_ms
        # Asked for meanwhile: the answer may have been too early for the question.
        chore.asked_ms = max(chore.asked_ms, now_ms + _ASKED_MS)
        self._schedule(chore, now_ms)

    def failed(self, due: Due, error: RelayError, *, now_ms: int) -> int:
        """Note that it was not, and why; return when it is tried again.

        That is ever more rarely.
        """
        chore = self._chore(due)
        chore.running = False
        wait_ms = min(
            _RETRY_MIN_MS << min(chore.failures, _DOUBLINGS_MAX), _RETRY_MAX_MS
        )
        chore.failures += 1
        if isinstance(error, RateLimited | ExchangeDown):
            wait_ms = max(wait_ms, error.retry_after_ms)
        if isinstance(error, Refused):
            chore.refused = f"{error.kind}: {error.advice}"
            if error.kind == "request":
                # The others are a cooldown of the whole exchange.
                wait_ms = _REFUSED_MS
                if due.purpose == "snapshot":
                    self.doubt_table(due.source, now_ms=now_ms)
        chore.due_ms = chore.rest_ms = now_ms + wait_ms
        return chore.due_ms

    def doubt_table(self, source: str, *, now_ms: int) -> None:
        """Have the table read anew by which prices were asked for, and refused.

        A source that charges is not, since this may go on.
        """
        intent = self._intents[source]
        if not intent.charged:
            doublings = min(max(intent.snapshot.failures - 1, 0), _DOUBLINGS_MAX)
            gap_ms = min(_TABLE_MIN_MS << doublings, _REFUSED_MS)
            table = intent.symbols
            table.asked_ms = max(now_ms, (table.done_ms or 0) + gap_ms)

    def refused(self) -> dict[str, str]:
        """Return the sources that say no, and what they say."""
        return {
            source: chore.refused
            for source, _, chore in self._chores()
            if chore.refused
        }

    def _chore(self, due: Due) -> _Chore:
        intent = self._intents[due.source]
        return intent.symbols if due.purpose == "symbols" else intent.snapshot

    def _schedule(self, chore: _Chore, done_ms: int) -> None:
        chore.done_ms = done_ms
        late_ms = int(chore.every_ms * _SPREAD * self._random())
        # An interval of none: only when asked for.
        chore.due_ms = (
            done_ms + chore.every_ms + late_ms if chore.every_ms else NEVER_MS
        )


def _priority(chore: _Chore) -> Priority:
    seeds = chore.asked_ms < NEVER_MS or chore.done_ms is None
    return Priority.SEED if seeds else Priority.REFRESH
