"""Server-sent events: bytes in, events out. Pure.

What an event holds stands in ``prices``.
"""

from typing import Final

from msgspec import Struct

from relay.client.errors import unreadable

# One event holds a whole board at most: thousands of tickers of some 400 bytes.
_EVENT_MAX: Final = 32 << 20
# Nobody is told to come back later than in an hour.
_RETRY_MAX_MS: Final = 3_600_000
_RETRY_DIGITS: Final = 8


class Event(Struct, frozen=True):
    """One block: its data, and after how many milliseconds to come back (0: unsaid)."""

    data: bytes = b""
    retry_ms: int = 0


class Events:
    r"""Cuts a stream into events, wherever its pieces end.

    Comments are no events. Line ends are ``\n``, ``\r\n`` or ``\r`` as the
    specification of the event stream format says (WHATWG HTML, 9.2.6).
    """

    def __init__(self) -> None:
        self._rest = b""
        self._returned = False
        self._data: list[bytes] = []
        self._retry_ms = 0

    def feed(self, piece: bytes) -> list[Event]:
        """Take a piece of the stream; return the events that end in it.

        Raises:
            Unavailable: an event is larger than any board.
        """
        if self._returned and piece.startswith(b"\n"):
            piece = piece[1:]  # the second half of a line end that was cut in two
        if piece:
            self._returned = piece.endswith(b"\r")
        text = self._rest + piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._rest = text.split(b"\n")
        events = [event for line in lines if (event := self._take(line))]
        if len(self._rest) + sum(map(len, self._data)) > _EVENT_MAX:
            raise unreadable("an event without an end")
        return events

    def _take(self, line: bytes) -> Event | None:
        """Take one line; the empty one ends an event."""
        if not line:
            return self._end()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"retry" and value.isdigit():
            self._retry_ms = min(int(value[:_RETRY_DIGITS]), _RETRY_MAX_MS)
        return None

    def _end(self) -> Event | None:
        if not self._data and not self._retry_ms:
            return None
        event = Event(b"\n".join(self._data), self._retry_ms)
        self._data, self._retry_ms = [], 0
        return event
