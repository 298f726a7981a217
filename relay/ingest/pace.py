"""What one connection sends when: messages kept apart, pings, and the dead man's watch.

No I/O and no clock: times come as arguments, by the steady clock.
"""

from collections import deque
from collections.abc import Iterable

from msgspec import Struct

from relay.exchanges.adapter import Rules


class Gate(Struct):
    """When the next message may go; connections of one address may share one."""

    free_ms: int = 0


class Pace:
    """One connection's messages and times.

    Two messages are never less than ``spacing_ms`` apart, whatever they are, and
    whosever where the exchange counts them by address: ``shared`` is its gate. A ping
    goes before what waits, since the connection depends on it.
    """

    def __init__(
        self, rules: Rules, opened_ms: int, shared: Gate | None = None
    ) -> None:
        self._rules = rules
        self._waiting: deque[bytes] = deque()
        by_address = rules.spacing_by == "address"
        self._gate = shared if by_address and shared else Gate(opened_ms)
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

    def take(self, now_ms: int) -> bytes | None:
        """Return the frame to send now, None when there is none or it is too early."""
        if not self._waiting or now_ms < self._gate.free_ms:
            return None
        if self._rules.spacing_ms:
            # The clock counts whole milliseconds, so this one may be nearly over.
            self._gate.free_ms = now_ms + self._rules.spacing_ms + 1
        return self._waiting.popleft()

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
            dues.append(self._gate.free_ms)
        if self._rules.ping_ms:
            dues.append(self._pinged_ms + self._rules.ping_ms)
        return min(dues)
