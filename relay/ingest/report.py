"""What ingestion tells the operator: changes at once, repetitions now and then.

Counting is ``conflate``'s; this is for the log.
"""

import logging
from typing import Final

from relay.clock import Clock

logger: Final = logging.getLogger("relay.ingest")

# Different things to say that are remembered; exchanges and reasons are few.
_KINDS_MAX: Final = 1000


class Report:
    """Says things, but not the same thing again and again.

    ``every_ms`` is the least time between two lines about the same thing.
    """

    def __init__(self, clock: Clock, every_ms: int) -> None:
        self._clock, self._every_ms = clock, every_ms
        self._said_ms: dict[tuple[str, str], int] = {}

    def say(self, text: str) -> None:
        """Say something that happens seldom."""
        logger.info("%s", text)

    def warn(self, about: str, kind: str, text: str) -> None:
        """Say something that may go on and on: once, then now and then."""
        now_ms = self._clock.monotonic_ms()
        last_ms = self._said_ms.get((about, kind))
        if last_ms is not None and now_ms - last_ms < self._every_ms:
            return
        if len(self._said_ms) >= _KINDS_MAX:
            self._said_ms.clear()
        self._said_ms[about, kind] = now_ms
        # Many of our errors begin with the exchange's name already.
        line = text if text.startswith(f"{about} ") else f"{about}: {text}"
        logger.warning("%s", line)

    def forget(self, about: str) -> None:
        """Let the next warning about this be said at once: it went well meanwhile."""
        for key in [key for key in self._said_ms if key[0] == about]:
            del self._said_ms[key]
