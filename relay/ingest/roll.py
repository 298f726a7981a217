"""Which symbols one connection wants, has asked for, and was granted.

No I/O and no clock: times come as arguments, by the steady clock.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

# An acknowledgement takes milliseconds; Kraken's notes say "a few seconds".
ANSWER_MS: Final = 5_000
# So often in a row an acknowledgement leaves out what the exchange will not stream: the
# first time it may have been a passing state, and an answer that came too early.
_OMITTED_MAX: Final = 2
# Asking again costs messages, so each time it is put off for twice as long.
_ANSWER_MAX_MS: Final = 600_000
_DOUBLINGS_MAX: Final = 10

NEVER_MS: Final = 1 << 62
"""Later than any instant."""


class Step(Struct, frozen=True):
    """Symbols to leave and symbols to ask for."""

    drop: tuple[str, ...] = ()
    add: tuple[str, ...] = ()


class _Asked(Struct):
    """One symbol's request: how often it was made, and when the last one left.

    None while it has not. ``omitted`` counts the acknowledgements without it, of one
    request at most one. ``alone`` tells that the last one was for no other.
    """

    times: int = 1
    at_ms: int | None = None
    omitted: int = 0
    alone: bool = False

    def due_ms(self) -> int:
        """Return when to ask again."""
        if self.at_ms is None:
            return NEVER_MS
        doublings = min(self.times - 1, _DOUBLINGS_MAX)
        return self.at_ms + min(ANSWER_MS << doublings, _ANSWER_MAX_MS)


class Roll:
    """One connection's symbols.

    ``symbols`` are those the connection begins with: they count as asked for.
    What is neither granted nor refused in time is asked for again, ever more rarely.
    After a refusal that does not say which symbol is to blame, those that wait are
    asked for in halves, one half at a time, until the culprit stands alone.
    """

    def __init__(self, symbols: Iterable[str]) -> None:
        self.wanted = frozenset(symbols)
        self.granted: set[str] = set()
        alone = len(self.wanted) == 1
        self._asked = {symbol: _Asked(alone=alone) for symbol in self.wanted}
        self._suspects: deque[tuple[str, ...]] = deque()
        # The half that was asked for last.
        self._trial: tuple[str, ...] = ()
        # Granted, but to be left and asked for anew.
        self._renewed: set[str] = set()

    @property
    def waiting(self) -> bool:
        """Whether something wanted is not granted."""
        return len(self.granted) < len(self.wanted)

    @property
    def changed(self) -> bool:
        """Whether the wanted symbols are not those that were asked for."""
        return self._held() != self.wanted

    def _held(self) -> set[str]:
        return self.granted.union(self._asked, *self._suspects)

    def want(self, symbols: Iterable[str]) -> None:
        """Want these from now on, and no others."""
        self.wanted = frozenset(symbols)

    def renew(self, symbols: Iterable[str]) -> None:
        """Leave these and ask for them anew: nothing comes of what was granted."""
        self._renewed |= self.granted.intersection(symbols)

    def grant(self, symbols: Iterable[str]) -> None:
        """Note that these are subscribed: acknowledged, or heard of."""
        for symbol in symbols:
            if symbol in self.wanted:
                self._asked.pop(symbol, None)
                self.granted.add(symbol)

    def grant_all(self) -> None:
        """Note that nothing is waited for: the exchange does not acknowledge."""
        self.grant(tuple(self._asked))

    def sent(self, now_ms: int) -> None:
        """Note that everything asked for has left by now."""
        for asked in self._asked.values():
            if asked.at_ms is None:
                asked.at_ms = now_ms

    def refuse(self, symbols: Iterable[str]) -> tuple[str, ...]:
        """Give these up; return those of them that were wanted."""
        lost = tuple(symbol for symbol in symbols if symbol in self.wanted)
        self.wanted -= frozenset(lost)
        for symbol in lost:
            self._forget(symbol)
        return lost

    def omit(self, symbols: Iterable[str]) -> tuple[str, ...]:
        """Note that an acknowledgement leaves these out; return those given up.

        What has been heard of is subscribed, whatever an acknowledgement says.
        """
        asked = [symbol for symbol in symbols if symbol in self._asked]
        for symbol in asked:
            one = self._asked[symbol]
            one.omitted = min(one.omitted + 1, one.times)
        return self.refuse(
            symbol for symbol in asked if self._asked[symbol].omitted >= _OMITTED_MAX
        )

    def _forget(self, symbol: str) -> None:
        self._asked.pop(symbol, None)
        self.granted.discard(symbol)

    def refuse_request(self, named: Iterable[str] = ()) -> tuple[str, ...]:
        """Note that a request was refused as a whole; return whom it was for.

        Nobody as long as the culprit is not found. ``named`` are those it was for;
        empty where that is not known.
        """
        waiting = [symbol for symbol in self._trial if symbol in self._asked]
        among = set(named) or set(waiting) or set(self._asked)
        suspects = sorted(self._asked.keys() & among)
        self._trial = tuple(one for one in self._trial if one not in suspects)
        # Others of the request may have been left since, and be to blame.
        if len(suspects) == 1 and (
            self._asked[suspects[0]].alone or set(named) == set(suspects)
        ):
            return self.refuse(suspects)
        for symbol in suspects:
            del self._asked[symbol]
        middle = len(suspects) // 2
        halves = (tuple(suspects[:middle]), tuple(suspects[middle:]))
        self._suspects.extendleft(half for half in reversed(halves) if half)
        return ()

    def due_ms(self) -> int:
        """Return when ``step`` will have something to say, if nothing changes."""
        return min((asked.due_ms() for asked in self._asked.values()), default=NEVER_MS)

    def step(self, now_ms: int) -> Step:
        """Return what to leave and what to ask for now; both count as done."""
        drop = tuple(sorted((self._held() - self.wanted) | self._renewed))
        self._renewed.clear()
        for symbol in drop:
            self._forget(symbol)
        self._trial = tuple(self._untried(self._trial, now_ms))
        add = () if self._trial else self._next_trial()
        if not add and not self._trial:
            add = tuple(sorted({*self._missing(), *self._overdue(now_ms)}))
        for symbol in add:
            before = self._asked.get(symbol)
            times, omitted = (before.times, before.omitted) if before else (0, 0)
            alone = len(add) == 1
            self._asked[symbol] = _Asked(times + 1, omitted=omitted, alone=alone)
        return Step(drop, add)

    def _untried(self, trial: tuple[str, ...], now_ms: int) -> Iterator[str]:
        """Yield those of a half whose answer can still come."""
        for symbol in trial:
            if symbol in self._asked and now_ms < self._asked[symbol].due_ms():
                yield symbol

    def _next_trial(self) -> tuple[str, ...]:
        """Take the next half of which something is still wanted and not granted."""
        while self._suspects and not self._trial:
            half = self._suspects.popleft()
            self._trial = tuple(sorted(self.wanted.intersection(half) - self.granted))
        return self._trial

    def _missing(self) -> Iterable[str]:
        return self.wanted - self._held()

    def _overdue(self, now_ms: int) -> Iterator[str]:
        for symbol, asked in self._asked.items():
            if now_ms >= asked.due_ms():
                yield symbol
