"""How long to stay away after something failed: full jitter below a growing bound.

No I/O and no clock; chance comes as an argument.
"""

from collections.abc import Callable
from typing import Final

# 2**30 milliseconds are twelve days: more doublings mean nothing.
_DOUBLINGS_MAX: Final = 30


class Backoff:
    """The waits between attempts that fail one after the other.

    Each wait is anything from 0 to a bound, which doubles from ``min_ms`` to
    ``max_ms``; spread out like this, those who lost a peer together do not come back
    together. ``random`` returns a number from 0 up to 1.
    """

    def __init__(self, min_ms: int, max_ms: int, random: Callable[[], float]) -> None:
        self._min_ms, self._max_ms, self._random = min_ms, max_ms, random
        self._failures = 0

    def failed(self) -> int:
        """Count a failure; return how long to wait, in milliseconds."""
        doublings = min(self._failures, _DOUBLINGS_MAX)
        self._failures += 1
        return int(self._random() * min(self._max_ms, self._min_ms << doublings))

    def steady(self) -> None:
        """Begin again at the first bound: what was reached has held."""
        self._failures = 0
