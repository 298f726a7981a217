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


class Probe:
    """One exchange's. ``apart_ms`` is how far apart two readings are at least."""

    def __init__(self, apart_ms: int) -> None:
        self._apart_ms = apart_ms
        self._watches: dict[str, _Watch] = {}
        self._spoken: dict[str, Update] = {}

    @property
    def dead(self) -> dict[str, int]:
        """Symbols whose stream is dead, and how many remedies were tried."""
        return {
            symbol: watch.remedies
            for symbol, watch in self._watches.items()
            if watch.remedies
        }

    def spoke(self, updates: Iterable[Update]) -> None:
        """Note what the stream says. The hot path: nanoseconds each."""
        spoken = self._spoken
        for update in updates:
            if update.price:
                spoken[update.symbol] = update

    def forget(self) -> None:
        """Begin anew: the connections are not those that were watched."""
        self._watches.clear()
        self._spoken.clear()

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
        known = sum(symbol in granted for symbol in named)
        return Remedy(tuple(dead), self._needs_more(dead, known))

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
        if said.received_ms - watch.as_of_ms < self._apart_ms:
            return False
        if symbol in granted:
            _weigh(watch, said, spoken)
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
