"""A circuit breaker: an exchange that fails again and again is tried less often.

No I/O and no clock: times come as arguments, by the steady clock. Cooldowns that an
exchange asks for are ``budget``'s.
"""

from typing import Final, Literal

from msgspec import Struct

Position = Literal["closed", "open", "half-open"]

# So many failures in a row are no accident.
_FAILURES_MAX: Final = 5
# It stays open for so long at first, twice as long after each probe that fails.
_OPEN_MIN_MS: Final = 2_000
_OPEN_MAX_MS: Final = 30_000
_DOUBLINGS_MAX: Final = 10


class Circuit(Struct, frozen=True, kw_only=True):
    """How a breaker stands, for the status.

    ``failures`` are those in a row, ``cause`` the last one's; ``probe_in_ms`` is how
    long nothing is sent.
    """

    state: Position
    failures: int
    cause: str
    probe_in_ms: int


class Breaker:
    """One exchange's, for one transport.

    Closed, everything passes. Open, nothing does until its time is over; then one
    probe passes, and what becomes of it decides.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._cause = ""
        self._probe_ms = 0
        self._probing = False

    def wait_ms(self, now_ms: int) -> int:
        """Return how long to wait before trying; 0 lets the caller try now.

        Whoever is let through says how it went: ``passed``, ``failed`` or ``undone``.
        """
        if self._failures < _FAILURES_MAX:
            return 0
        if self._probing:
            return _OPEN_MIN_MS
        if now_ms < self._probe_ms:
            return self._probe_ms - now_ms
        self._probing = True
        return 0

    def passed(self) -> None:
        """Note that the exchange answered, whatever it said."""
        self._failures, self._cause, self._probing = 0, "", False

    def failed(self, cause: str, now_ms: int) -> None:
        """Note that it could not be reached, or broke off."""
        self._failures += 1
        self._cause, self._probing = cause, False
        doublings = min(max(self._failures - _FAILURES_MAX, 0), _DOUBLINGS_MAX)
        self._probe_ms = now_ms + min(_OPEN_MIN_MS << doublings, _OPEN_MAX_MS)

    def undone(self) -> None:
        """Note that nothing was tried after all."""
        self._probing = False

    def circuit(self, now_ms: int) -> Circuit:
        """Tell how it stands."""
        if self._failures < _FAILURES_MAX:
            state: Position = "closed"
        else:
            due = self._probing or now_ms >= self._probe_ms
            state = "half-open" if due else "open"
        wait_ms = max(self._probe_ms - now_ms, 0) if state == "open" else 0
        return Circuit(
            state=state, failures=self._failures, cause=self._cause, probe_in_ms=wait_ms
        )
