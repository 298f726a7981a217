"""What one connection sends when: messages kept apart, pings, and the dead man's watch.

No I/O and no clock: times come as arguments, by the steady clock.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from relay.exchanges.adapter import Rules

LEAVE_MS: Final = 500
"""Leave to send is good for so long."""

# One leave is for so many messages at most: enough to begin with, and not all there is.
_BURST: Final = 3


class Gate(Struct):
    """When the next message may go; connections of one address may share one."""

    free_ms: int = 0


class _Leave(Struct):
    """How many messages may still go, and until when; when to ask for more."""

    count: int = 0
    until_ms: int = 0
    ask_ms: int = 0


class Pace:
    """One connection's messages and times.

    Two messages are never less than ``spacing_ms`` apart, whatever they are, and
    whosever where the exchange counts them by address: ``shared`` is its gate. There,
    whoever sends gets leave first (``granted``), since other processes send as well. A
    ping goes before what waits, since the connection depends on it.
    """

    def __init__(
        self, rules: Rules, opened_ms: int, shared: Gate | None = None
    ) -> None:
        self._rules = rules
        self._waiting: deque[bytes] = deque()
        by_address = rules.spacing_by == "address"
        self._gate = shared if by_address and shared else Gate(opened_ms)
        self._leave: _Leave | None = None
        self._opening = True
        self._pinged_ms = opened_ms
        self.heard_ms = opened_ms
        """When the last frame came; whoever receives one sets it."""

    @property
    def idle(self) -> bool:
        """Whether everything said so far is on its way."""
        return not self._waiting

    def say(self, frames: Iterable[bytes]) -> None:
        """Send these, after what waits."""
        self._waiting.extend(frames)

    def ping(self, frames: Iterable[bytes], now_ms: int) -> None:
        """Send these before what waits; the next ping is due a period from now."""
        self._pinged_ms = now_ms
        self._waiting.extendleft(reversed(list(frames)))

    def ration(self, count: int, now_ms: int) -> None:
        """Let nothing go without leave from now on; there is leave for so many."""
        self._leave = _Leave(count, now_ms + LEAVE_MS)

    @property
    def opening(self) -> bool:
        """Whether what waits is what the connection begins with."""
        return self._opening

    def lacking(self, now_ms: int) -> int:
        """Return for how many messages to ask leave now."""
        leave = self._leave
        if leave is None or not self._waiting or now_ms < leave.ask_ms:
            return 0
        return 0 if self._may_go(now_ms) else min(len(self._waiting), _BURST)

    def granted(self, count: int, since_ms: int) -> None:
        """Note that there is leave for so many, asked for at ``since_ms``."""
        self._leave = _Leave(count, since_ms + LEAVE_MS)

    def put_off(self, until_ms: int) -> None:
        """Ask for no leave before this."""
        self._leave = _Leave(ask_ms=until_ms)

    def _may_go(self, now_ms: int) -> bool:
        leave = self._leave
        return leave is None or (leave.count > 0 and now_ms < leave.until_ms)

    def take(self, now_ms: int) -> bytes | None:
        """Return the frame to send now, None when there is none or it is too early."""
        if not self._waiting or now_ms < self._gate.free_ms or not self._may_go(now_ms):
            return None
        if self._leave is not None:
            self._leave.count -= 1
        if self._rules.spacing_ms:
            # The clock counts whole milliseconds, so this one may be nearly over.
            self._gate.free_ms = now_ms + self._rules.spacing_ms + 1
        message = self._waiting.popleft()
        self._opening = self._opening and bool(self._waiting)
        return message

    def ping_due(self, now_ms: int) -> bool:
        """Tell whether it is time to ping."""
        return 0 < self._rules.ping_ms <= now_ms - self._pinged_ms

    def silent(self, now_ms: int) -> bool:
        """Tell whether the socket must be dead."""
        return now_ms - self.heard_ms >= self._rules.silent_after_ms

    def due_ms(self) -> int:
        """Return when something is to be done next, if nothing happens before."""
        dues = [self.heard_ms + self._rules.silent_after_ms]
        if self._waiting:
            leave = self._leave
            asking = leave is not None and not leave.count
            dues.append(leave.ask_ms if leave and asking else self._gate.free_ms)
        if self._rules.ping_ms:
            dues.append(self._pinged_ms + self._rules.ping_ms)
        return min(dues)
