"""What happened to the sources lately, for the status; the log is ``report``'s.

No I/O and no clock.
"""

from collections import deque
from typing import Final

from msgspec import Struct

# Enough to see what led to what; it goes into the store with every mark.
_KEPT: Final = 20


class Event(Struct, frozen=True):
    """One change of one source, by the store's clock."""

    at_ms: int
    source: str
    what: str


class Events:
    """The last changes, newest last; saying the same again changes nothing."""

    def __init__(self) -> None:
        self.last: deque[Event] = deque(maxlen=_KEPT)
        self._now: dict[str, str] = {}

    def note(self, source: str, what: str, *, now_ms: int) -> None:
        """Note what a source has come to."""
        if self._now.get(source) != what:
            self._now[source] = what
            self.last.append(Event(now_ms, source, what))
