"""What happened to the sources lately, for the status; the log is ``report``'s.

No I/O and no clock.
"""

from collections import deque
from collections.abc import Collection
from contextlib import suppress
from typing import Final

import msgspec
from msgspec import Struct

from relay.exchanges.adapter import Told

# Enough to see what led to what; it goes into the store with every mark.
_KEPT: Final = 20


# Reasons for dropping frames are told apart up to here, in length and in number: they
# quote what strangers write, and go into the store with every mark, too.
_REASON_CHARS: Final = 120
_REASONS_MAX: Final = 50
_OTHERS: Final = "other frames nobody can read"


def drop_reason(known: Collection[tuple[str, str]], exchange: str, reason: str) -> str:
    """Return what a dropped frame is counted as, among the known of all exchanges."""
    reason = reason[:_REASON_CHARS]
    if (exchange, reason) in known:
        return reason
    kinds = sum(name == exchange for name, _ in known)
    return reason if kinds < _REASONS_MAX else _OTHERS


class Event(Struct, frozen=True):
    """One change of one source, by the store's clock."""

    at_ms: int
    source: str
    what: str


class _Leader(Struct, frozen=True):
    as_of_ms: int = 0
    beat_ms: int = 0


class _Source(Struct, frozen=True):
    heard_ms: int | None = None


class Past(Struct, frozen=True):
    """What an earlier leader has said, as far as it is gone on from."""

    leader: _Leader = _Leader()
    sources: dict[str, _Source] = {}
    events: list[Event] = []

    @classmethod
    def read(cls, health: bytes) -> "Past":
        """Read a leader's health; nothing, where it cannot be read."""
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _past.decode(health)
        return cls()


_past: Final = msgspec.json.Decoder(Past)


class Events:
    """The last changes, newest last; saying the same again changes nothing."""

    def __init__(self) -> None:
        self.last: deque[Event] = deque(maxlen=_KEPT)
        self._now: dict[str, str] = {}
        # What sources say of themselves, where that is not that all is well.
        self._told: dict[str, Told] = {}

    def restore(self, health: bytes) -> None:
        """Begin with what an earlier leader has noted, if it can be read."""
        self.last.extend(Past.read(health).events)

    def moved(self, source: str, what: str, *, now_ms: int) -> None:
        """Note that instruments are shown from another source than before."""
        self.last.append(Event(now_ms, source, what))

    def tell(self, source: str, told: Told, *, now_ms: int) -> bool:
        """Note what a source says of itself; tell whether that is new."""
        if told == self._told.get(source, Told()):
            return False
        self._told.pop(source, None)
        self.note(source, told.words or "online again", now_ms=now_ms)
        if told.words:
            self._told[source] = told
        return True

    def note(self, source: str, what: str, *, now_ms: int) -> None:
        """Note what a source has come to.

        Of one that says itself that it serves nobody that is not news.
        """
        told = self._told.get(source.partition(" ")[0])
        if told is not None and told.halts:
            return
        if self._now.get(source) != what:
            self._now[source] = what
            self.last.append(Event(now_ms, source, what))
