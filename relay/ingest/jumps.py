"""Prices too far from the last one, until a second source has borne them out or not.

No I/O and no clock. A price that can never be true is one of ``doubts``.
"""

from collections.abc import Iterable, Iterator
from decimal import Decimal

from relay.config import Ingest
from relay.ingest.doubts import is_far
from relay.ingest.sources import Held, Jump


class Jumps:
    """All that wait, each for ``jump_wait_ms`` at most."""

    def __init__(self, rules: Ingest) -> None:
        self._wait_ms = rules.jump_wait_ms
        self._pct = Decimal(str(rules.jump_pct))
        self._waiting: dict[Held, Jump] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def due_ms(self) -> int | None:
        """Return when the first wait is over; None while nothing waits."""
        return min((jump.until_ms for jump in self._waiting.values()), default=None)

    def is_one(self, held: Held, number: Decimal) -> bool:
        """Tell whether a price is too far from one that is shown."""
        if held.number is None or not held.showing:
            return False
        return is_far(number, held.number, self._pct)

    def hold(self, held: Held, text: str, number: Decimal, now_ms: int) -> None:
        """Let a price wait, in place of one that waits already, no longer than that."""
        if held.jump is None:
            held.jump = Jump(now_ms, now_ms + self._wait_ms)
            self._waiting[held] = held.jump
        held.jump.text, held.jump.number = text, number

    def end(self, held: Held) -> None:
        """Let a price wait no longer."""
        held.jump = None
        del self._waiting[held]

    def weigh(self, now_ms: int) -> Iterator[tuple[Held, bool]]:
        """Decide what can be decided; yield each, and whether the price was taken.

        One that is taken counts as evidence for those after it.
        """
        for held, jump in tuple(self._waiting.items()):
            taken = self._judge(held, jump, now_ms)
            if taken is None:
                continue
            self.end(held)
            if taken:
                held.price, held.number, held.priced_ms = jump.text, jump.number, now_ms
            yield held, taken

    def _judge(self, held: Held, jump: Jump, now_ms: int) -> bool | None:
        """Say whether a jump is shown, by the other living sources; None: not yet.

        One that agrees decides at once. One that contradicts decides when the wait is
        over, since it may only be slower.
        """
        peers = list(_others(held, now_ms))
        since_ms = jump.at_ms - self._wait_ms
        fresh = [_evidence(peer) for peer in peers if peer.priced_ms >= since_ms]
        if not peers or any(not is_far(one, jump.number, self._pct) for one in fresh):
            return True
        # Before its beginning there is only a clock that was set back.
        if jump.at_ms <= now_ms < jump.until_ms:
            return None
        shown = held.number or jump.number
        return not any(abs(one - shown) < abs(one - jump.number) for one in fresh)


def _evidence(held: Held) -> Decimal:
    """Return the price a source says now, shown or not."""
    return held.jump.number if held.jump is not None else held.number or Decimal(0)


def _others(held: Held, now_ms: int) -> Iterable[Held]:
    """Yield the living values that an instrument might be shown from instead."""
    for slot in held.showing:
        for candidate in slot.candidates:
            if candidate.held is not held and candidate.lives(now_ms):
                yield candidate.held
