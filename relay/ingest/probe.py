"""Whose stream is dead although its connection lives: what REST says meanwhile tells.

No I/O and no clock. A connection that is silent as a whole is ``pace``'s to notice;
what to do about a dead instrument is only said here, and done by ``stream``.
"""

from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import Final

from msgspec import Struct

from relay.model import Listing, Update, is_positive

# A price that REST has moved so often, while the stream said nothing, is no chance:
# once may be an edge's cache.
_MOVES: Final = 2
# Twice as many after each remedy that did not help, up to 2 << 6.
_DOUBLINGS_MAX: Final = 6
# Whoever has spoken so often has a habit …
_HABIT: Final = 8
# … and is silent against it after so many times its longest pause of late.
_PAUSES: Final = 3
# Where REST has not moved either, it is asked again after this part of that time: it
# may know nothing of the symbol, or say another price than the stream for ever.
_STILL: Final = 4
# Symbols that a stream speaks of, beyond reason; then all is forgotten.
_SPOKEN_MAX: Final = 20_000
# Heard in so many comparisons in a row, a stream has recovered for good: one frame
# is what each subscription begins with.
_STEADY: Final = 2


class Remedy(Struct, frozen=True):
    """Symbols to subscribe to anew; ``replace`` where that is not enough.

    Then their connections are to be replaced.
    """

    symbols: tuple[str, ...] = ()
    replace: bool = False


class _Watch(Struct):
    """One symbol: what REST said when it was last compared, and what that has shown.

    ``moves`` are those of REST that the stream missed, ``remedies`` those that were
    tried, ``heard`` the comparisons in a row in which the stream had spoken.
    """

    price: str
    as_of_ms: int
    moves: int = 0
    remedies: int = 0
    heard: int = 0


class _Habit(Struct):
    """How one symbol's stream speaks.

    ``words`` were told apart, the last at ``at_ms``; ``pause_ms`` is the longest
    between two, of late. It is not suspected before ``doubt_ms``. REST has moved
    without it at ``moved_ms``.
    """

    at_ms: int
    words: int = 0
    pause_ms: int = 0
    doubt_ms: int = 0
    moved_ms: int = 0

    def hear(self, at_ms: int) -> None:
        """Note when it spoke last; long pauses are forgotten little by little."""
        if at_ms != self.at_ms:
            self.pause_ms = max(at_ms - self.at_ms, self.pause_ms * 255 // 256)
            self.at_ms, self.words = at_ms, self.words + 1

    def is_broken(self, now_ms: int, least_ms: int) -> bool:
        """Tell whether it is silent as it never is."""
        silent_ms = max(least_ms, self.pause_ms * _PAUSES)
        return self.words >= _HABIT and now_ms - self.at_ms >= silent_ms

    def doubt(self, now_ms: int, least_ms: int) -> None:
        """Suspect it again in a while: ever later as long as REST stands still."""
        still_ms = now_ms - max(self.at_ms, self.moved_ms)
        self.doubt_ms = now_ms + max(least_ms, still_ms // _STILL)


class Probe:
    """One exchange's. ``apart_ms`` is how far apart two readings are at least.

    Of a symbol that is silent against its habit they may be closer, since REST is then
    asked for its sake: in half that time it is suspected, and read each third of it as
    long as REST moves on without the stream; ever more rarely while it does not.
    """

    def __init__(self, apart_ms: int) -> None:
        self._apart_ms = apart_ms
        self._watches: dict[str, _Watch] = {}
        self._spoken: dict[str, Update] = {}
        self._habits: dict[str, _Habit] = {}
        # Silent against their habit, and when somebody may be suspected anew.
        self._suspects: set[str] = set()
        self._alarm_ms = 0

    @property
    def dead(self) -> dict[str, int]:
        """Symbols whose stream is dead, and how many remedies were tried."""
        return {
            symbol: watch.remedies
            for symbol, watch in self._watches.items()
            if watch.remedies
        }

    @property
    def is_mute(self) -> bool:
        """Whether the stream is dead in part, or has not said a price yet.

        An exchange in trouble takes connections, and says nothing over them.
        """
        return bool(self.dead) or not self._spoken

    def spoke(self, updates: Iterable[Update]) -> None:
        """Note what the stream says. The hot path: nanoseconds each."""
        spoken = self._spoken
        for update in updates:
            if update.price:
                spoken[update.symbol] = update

    def has_heard(self, symbol: str) -> bool:
        """Tell whether the stream has said a price of it."""
        return symbol in self._spoken

    def forget(self) -> None:
        """Begin anew: the connections are not those that were watched."""
        self._watches.clear()
        self._spoken.clear()
        self._habits.clear()
        self._suspects.clear()

    def suspects(self, granted: Collection[str], now_ms: int) -> bool:
        """Tell whether REST is to be asked now, since somebody is silent.

        To be called each second or so. Where the market is only quiet that costs one
        reading, and no more than one in twice the time that two are apart.
        """
        if len(self._spoken) > _SPOKEN_MAX:
            self.forget()
        for gone in self._habits.keys() - granted:
            del self._habits[gone]
        self._suspects &= self._habits.keys()
        silent = [one for one in granted if self._is_silent(one, now_ms)]
        fresh = [one for one in silent if one not in self._suspects]
        if fresh and 0 <= now_ms - self._alarm_ms < 2 * self._apart_ms:
            silent = [one for one in silent if one in self._suspects]
        elif fresh:
            self._alarm_ms = now_ms
        for symbol in silent:
            self._habits[symbol].doubt(now_ms, self._apart_ms // 3)
        self._suspects.update(silent)
        return bool(silent)

    def _is_silent(self, symbol: str, now_ms: int) -> bool:
        spoken = self._spoken.get(symbol)
        if spoken is None:
            return False
        habit = self._habits.setdefault(symbol, _Habit(spoken.received_ms))
        habit.hear(spoken.received_ms)
        if not habit.is_broken(now_ms, self._apart_ms // 2):
            self._suspects.discard(symbol)
            return False
        return now_ms >= habit.doubt_ms

    def compare(
        self,
        listings: Iterable[Listing],
        read: Mapping[str, Update],
        granted: Collection[str],
    ) -> Remedy:
        """Compare what REST says now with what the stream said; say what to do.

        ``read`` has REST's updates by symbol, ``granted`` the symbols that the stream
        is subscribed to: of the others it owes nothing.
        """
        named = {one.symbol: (one.symbol, *one.answers_as) for one in listings}
        for gone in self._watches.keys() - named.keys():
            del self._watches[gone]
        dead = []
        for symbol, names in named.items():
            said = _newest(names, read)
            if said is None or not is_positive(said.price):
                continue
            if self._is_dead(symbol, said, _newest(names, self._spoken), granted):
                dead.append(symbol)
        self._clear(named, read)
        known = sum(symbol in granted for symbol in named)
        return Remedy(tuple(dead), self._needs_more(dead, known))

    def _clear(
        self, named: Mapping[str, Iterable[str]], read: Mapping[str, Update]
    ) -> None:
        """Suspect those no more of whom REST says what their stream has said.

        Their market is quiet: until the silence has doubled there is nothing to ask.
        """
        for symbol in self._suspects & named.keys():
            said, spoken = _newest(named[symbol], read), self._spoken.get(symbol)
            if said and spoken and not _differ(said.price, spoken.price):
                silent_ms = said.received_ms - spoken.received_ms
                self._habits[symbol].doubt_ms = said.received_ms + silent_ms
                self._suspects.discard(symbol)

    def _needs_more(self, dead: Collection[str], known: int) -> bool:
        """Tell whether subscribing anew is of no use.

        It was done already, or most are dead, and so it is the connection.
        """
        again = any(self._watches[symbol].remedies > 1 for symbol in dead)
        return again or (len(dead) > 1 and len(dead) * 2 > known)

    def _is_dead(
        self,
        symbol: str,
        said: Update,
        spoken: Update | None,
        granted: Collection[str],
    ) -> bool:
        watch = self._watches.get(symbol)
        if watch is None:
            self._watches[symbol] = _Watch(said.price, said.received_ms)
            return False
        # A little less than what they are asked for at: requests take their time.
        apart_ms = self._apart_ms // (4 if symbol in self._suspects else 1)
        if said.received_ms - watch.as_of_ms < apart_ms:
            # Before its last reading there is only a clock that was set back.
            watch.as_of_ms = min(watch.as_of_ms, said.received_ms)
            return False
        if symbol in granted:
            _weigh(watch, said, spoken)
        if symbol in self._suspects and _differ(said.price, watch.price):
            habit = self._habits[symbol]
            habit.moved_ms = said.received_ms
            habit.doubt(said.received_ms, self._apart_ms // 3)
        watch.price, watch.as_of_ms = said.price, said.received_ms
        return _condemn(watch)


def _newest(names: Iterable[str], updates: Mapping[str, Update]) -> Update | None:
    found = (updates[name] for name in names if name in updates)
    return max(found, key=lambda update: update.received_ms, default=None)


def _weigh(watch: _Watch, said: Update, spoken: Update | None) -> None:
    """Take one comparison into account.

    What the stream has said already it need not say again, and where REST says the
    same as before the market is quiet: neither is a sign of life, or of death.
    """
    if _has_spoken(spoken, watch.as_of_ms):
        _note_life(watch)
    elif _differ(said.price, watch.price) and (
        spoken is None or _differ(said.price, spoken.price)
    ):
        watch.moves, watch.heard = watch.moves + 1, 0


def _has_spoken(spoken: Update | None, since_ms: int) -> bool:
    """Tell whether the stream has said more than what a subscription begins with."""
    if spoken is None or spoken.snapshot:
        return False
    return spoken.received_ms >= since_ms


def _note_life(watch: _Watch) -> None:
    watch.moves, watch.heard = 0, watch.heard + 1
    if watch.heard >= _STEADY:
        watch.remedies = 0


def _condemn(watch: _Watch) -> bool:
    """Tell whether enough was missed, and count what is then done about it."""
    if watch.moves < _MOVES << min(watch.remedies, _DOUBLINGS_MAX):
        return False
    watch.moves, watch.remedies = 0, watch.remedies + 1
    return True


def _differ(one: str, other: str) -> bool:
    """Tell two prices apart by their values: zeros at the end mean nothing here."""
    if not (is_positive(one) and is_positive(other)):
        return one != other
    return Decimal(one) != Decimal(other)
