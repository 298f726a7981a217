"""All WebSocket connections of one exchange, for whatever symbols are wanted.

One connection after the other is ``line``'s; what becomes of the updates, the sink's.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

import httpx
from msgspec import Struct

from relay.clock import Clock
from relay.config import Exchange, Ingest
from relay.exchanges.adapter import Adapter
from relay.ingest.breaker import Breaker
from relay.ingest.connection import rest
from relay.ingest.dial import Dial
from relay.ingest.line import House, Line, Sink, State
from relay.ingest.purse import Purse
from relay.ingest.roll import NEVER_MS

__all__ = ["Sink", "State", "Stream", "spread"]

# Changes of what is wanted are gathered for so long before anything is said.
_GATHER_MS: Final = 100
# A symbol that was refused is asked for again after so long: it may be listed by then,
# or it was the exchange that was in trouble, and refused whatever it was asked …
_REFUSED_MS: Final = 60_000
# … and twice as long after each refusal that follows, up to here.
_REFUSED_MAX_MS: Final = 3_600_000
_DOUBLINGS_MAX: Final = 6
# Asked for again, and not refused for so long, it was granted: then it begins anew. Not
# with the grant itself, since some acknowledge whatever they are asked for.
_FORGIVEN_MS: Final = 3_600_000


class _Refusal(Struct, frozen=True):
    """Why a symbol is not asked for, and until when, by the steady clock.

    ``times`` counts the refusals one after the other; those that are over are kept for
    that, as long as the symbol is wanted.
    """

    until_ms: int
    reason: str
    times: int


@dataclass(eq=False)
class Stream:
    """One exchange's connections: as many as its rules ask for, none without need."""

    adapter: Adapter
    exchange: Exchange
    ingest: Ingest
    purse: Purse
    clock: Clock
    sink: Sink
    random: Callable[[], float]
    breaker: Breaker = field(default_factory=Breaker, init=False)
    _wanted: frozenset[str] = field(default=frozenset(), init=False)
    _lines: list[Line] = field(default_factory=list, init=False)
    # What the exchange will not stream, by symbol.
    _refused: dict[str, _Refusal] = field(default_factory=dict, init=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    @property
    def states(self) -> list[State]:
        """How each connection stands."""
        return [line.state() for line in self._lines]

    @property
    def unsupported(self) -> dict[str, str]:
        """Symbols that the exchange will not stream, and what it said."""
        return {symbol: one.reason for symbol, one in self._barred().items()}

    def _barred(self) -> dict[str, _Refusal]:
        """Return the refusals that hold now."""
        now_ms = self.clock.monotonic_ms()
        return {
            symbol: one
            for symbol, one in self._refused.items()
            if now_ms < one.until_ms
        }

    @property
    def granted(self) -> set[str]:
        """Symbols that the exchange has granted, over all connections."""
        return set().union(*(line.granted for line in self._lines))

    def renew(self, symbols: Iterable[str], reason: str, *, replace: bool) -> None:
        """Subscribe anew to what is granted and silent, or replace its connections."""
        silent = frozenset(symbols)
        for line in self._lines:
            line.renew(silent, reason, replace=replace)

    def want(self, symbols: Iterable[str]) -> None:
        """Want these symbols of the exchange from now on, and no others."""
        wanted = frozenset(symbols)
        if wanted == self._wanted:
            return
        self._wanted = wanted
        # Whoever comes back after it has left is asked for anew.
        for symbol in self._refused.keys() - wanted:
            del self._refused[symbol]
        self._changed.set()

    async def run(self) -> None:
        """Receive for ever.

        Cancelled, it leaves no task and no socket behind, within a second or so.
        """
        house = self._open_house()
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    now_ms = self.clock.monotonic_ms()
                    untils_ms = (one.until_ms for one in self._barred().values())
                    again_ms = min(untils_ms, default=NEVER_MS)
                    await rest(self._changed, again_ms - now_ms)
                    await asyncio.sleep(_GATHER_MS / 1000)
                    self._changed.clear()
                    self._place(tasks, house)
        finally:
            self._lines = []

    def _open_house(self) -> House:
        url = self.exchange.ws_url
        return House(
            dial=Dial(
                adapter=self.adapter,
                url=url,
                ingest=self.ingest,
                clock=self.clock,
                tls=httpx.create_ssl_context() if url.startswith("wss:") else None,
                purse=self.purse,
            ),
            purse=self.purse,
            breaker=self.breaker,
            sink=self.sink,
            random=self.random,
            refuse=self.refuse,
            turned=self._turned,
        )

    def _place(self, tasks: asyncio.TaskGroup, house: House) -> None:
        """Give every wanted symbol to a line, and let the lines go about it."""
        wanted = self._wanted - self._barred().keys()
        lines = [line for line in self._lines if not line.over]
        shares = spread([line.wanted for line in lines], wanted, self._most(wanted))
        for line, share in zip(lines, shares, strict=False):
            line.want(share)
        for share in shares[len(lines) :]:
            line = Line(house, share)
            tasks.create_task(line.run())
            lines.append(line)
        self._lines = [line for line in lines if line.wanted]
        if self._lines and any(not (line.wanted or line.is_open) for line in lines):
            # What was down may be what nobody wants any more.
            self._turned()

    def _most(self, wanted: AbstractSet[str]) -> int:
        """Return how many symbols one connection takes."""
        if not wanted:
            return 1
        return self.adapter.session([min(wanted)]).rules.symbols_max

    def refuse(self, symbols: Sequence[str], reason: str) -> None:
        """Ask no more for these, for a while: the exchange does not stream them."""
        now_ms = self.clock.monotonic_ms()
        for symbol in symbols:
            before = self._refused.get(symbol)
            if before is None or now_ms - before.until_ms >= _FORGIVEN_MS:
                times = 1
            else:
                times = before.times + 1
            doubled_ms = _REFUSED_MS << min(times - 1, _DOUBLINGS_MAX)
            until_ms = now_ms + min(doubled_ms, _REFUSED_MAX_MS)
            self._refused[symbol] = _Refusal(until_ms, reason, times)
        self.sink.refused(self.adapter.name, symbols, reason)
        self._changed.set()

    def _turned(self) -> None:
        if all(line.is_open for line in self._lines):
            self.sink.up(self.adapter.name)


def spread(
    held: Sequence[frozenset[str]], wanted: AbstractSet[str], most: int
) -> list[frozenset[str]]:
    """Share symbols out among connections, ``most`` to each.

    What a connection holds stays there; what is new fills the room that is left, and
    then new connections, which come after those there were. A connection whose share
    is empty has had its time.
    """
    shares = [set(symbols & wanted) for symbols in held]
    new = sorted(wanted - set().union(*shares))
    for share in sorted(shares, key=len, reverse=True):
        room = max(most - len(share), 0)
        share.update(new[:room])
        del new[:room]
    shares += [set(new[start : start + most]) for start in range(0, len(new), most)]
    return [frozenset(share) for share in shares]
