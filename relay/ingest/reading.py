"""Reading the exchanges' REST: symbol tables and snapshots, when the plan says so.

When that is stands in ``plan``, the request itself in ``pull``; what becomes of what
was read is the term's.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from msgspec import Struct

from relay.errors import (
    ExchangeDown,
    ExchangeError,
    RateLimited,
    Refused,
    StoreDown,
    UnknownSymbol,
)
from relay.exchanges.adapter import Answer, Request
from relay.ingest.breaker import Circuit
from relay.ingest.budget import Priority
from relay.ingest.conflate import Merge
from relay.ingest.events import Events
from relay.ingest.parts import Parts
from relay.ingest.plan import Due, Plan
from relay.ingest.probe import Probe, Remedy
from relay.ingest.pull import Pull
from relay.model import Listing, Symbols, Update

# A limit that is free again within this time is waited for in the middle of a read.
_SHORT_WAIT_MS: Final = 5_000
# Of an exchange whose stream is down, so many snapshots within the time of a silence.
_READS_PER_SILENCE: Final = 3
# A symbol that an exchange does not know is asked for again after so long: it may be
# listed by then. Twice as long after each time, up to the second.
_UNKNOWN_MS: Final = 60_000
_UNKNOWN_MAX_MS: Final = 3_600_000
_DOUBLINGS_MAX: Final = 6
# With so many unknown and none known, no symbol is to blame.
_UNKNOWN_MAX: Final = 8


class Taker(Protocol):
    """Where what was read goes."""

    def read(self, exchange: str, updates: Sequence[Update]) -> None:
        """Take what an answer said about prices."""
        ...

    def granted(self, exchange: str) -> set[str]:
        """Return the symbols that the exchange streams to us."""
        ...

    def mute(self, exchange: str, remedy: Remedy) -> None:
        """Heed that some streams are dead, although their connection lives."""
        ...

    def disowned(self, exchange: str, symbols: Sequence[str], reason: str) -> None:
        """Heed that the exchange does not know some symbols of its own table."""
        ...

    def tabulated(self, exchange: str, symbols: Symbols) -> None:
        """Take a symbol table."""
        ...

    async def say_what_exists(self) -> None:
        """Write down what clients may ask for.

        Raises:
            StoreDown: the store cannot be reached.
        """
        ...


class _Unknown(Struct, frozen=True):
    """Until when a symbol is not asked for, and how often it was unknown in a row."""

    until_ms: int
    times: int


class _Harvest(Struct):
    """What one reading has brought, and the symbols that turned out to be unknown."""

    updates: list[Update] = []
    unknown: dict[str, UnknownSymbol] = {}


class Reading:
    """The REST half of a term."""

    def __init__(
        self, parts: Parts, merge: Merge, events: Events, taker: Taker
    ) -> None:
        self._parts, self._merge = parts, merge
        self._events, self._taker = events, taker
        self._clock, self._report = parts.clock, parts.report
        self.plan = Plan(
            {name: intake.exchange for name, intake in parts.intakes.items()},
            random=parts.random,
        )
        self._pulls = {
            name: Pull(
                intake.adapter,
                intake.exchange,
                parts.settings.ingest,
                intake.purse,
                parts.clock,
                parts.http,
            )
            for name, intake in parts.intakes.items()
        }
        silent_ms = parts.settings.ingest.silent_after_ms
        self._fallback_ms = silent_ms // _READS_PER_SILENCE
        # Of each exchange, the symbols that it does not know, or did not.
        self._unknown: dict[str, dict[str, _Unknown]] = {
            name: {} for name in parts.intakes
        }
        self.probes = {
            name: Probe(silent_ms)
            for name, intake in parts.intakes.items()
            if intake.adapter.streams
        }

    async def restore(self) -> None:
        """Begin with the tables that an earlier term has read.

        Raises:
            StoreDown: the store cannot be reached.
        """
        for name in self._parts.intakes:
            table = await self._parts.tables.load(name)
            self.plan.known(
                name, symbols_ms=table.symbols_ms, snapshot_ms=table.snapshot_ms
            )
            if table.listings:
                self._taker.tabulated(name, Symbols(table.listings))
        await self._taker.say_what_exists()

    def begin_due(self, tasks: asyncio.TaskGroup, unstreamed: Iterable[str]) -> None:
        """Read what is due, each in a task of its own.

        The ``unstreamed``, those whose streams are dead in part, and those that have
        said nothing yet, are read often enough meanwhile that they do not fall silent.
        """
        now_ms = self._clock.wall_ms()
        for name, probe in self.probes.items():
            if probe.suspects(self._taker.granted(name), now_ms):
                self.plan.ask(name, now_ms=now_ms)
        mute = {name for name, probe in self.probes.items() if probe.is_mute}
        for name in mute.union(unstreamed):
            self.plan.ask_every(name, self._fallback_ms, now_ms=now_ms)
        for due in self.plan.due(now_ms):
            tasks.create_task(self._read(due))

    def circuits(self, now_ms: int) -> dict[str, Circuit]:
        """Tell how each exchange's breaker stands, by the steady clock."""
        return {
            name: pull.breaker.circuit(now_ms) for name, pull in self._pulls.items()
        }

    async def _read(self, due: Due) -> None:
        """Do what is due; what goes wrong is the plan's to heed and ours to tell."""
        name = due.source
        try:
            if due.purpose == "symbols":
                await self._read_symbols(name, due.priority)
            else:
                await self._read_snapshot(name, due.priority)
        except ExchangeError as error:
            self._heed(due, error)
        except StoreDown as down:
            self.plan.failed(due, down, now_ms=self._clock.wall_ms())
            self._report.warn("store", due.purpose, str(down))
        except Exception as bug:  # noqa: BLE001 - one reader's slip must not end the term
            failure = ExchangeDown(name, f"its reader failed: {bug!r}")
            self.plan.failed(due, failure, now_ms=self._clock.wall_ms())
            self._report.warn(name, "reader", str(failure))
        else:
            now_ms = self._clock.wall_ms()
            self.plan.done(due, now_ms=now_ms)
            self._events.note(f"{name} rest", "read", now_ms=now_ms)

    def _heed(self, due: Due, error: ExchangeError) -> None:
        name, now_ms = due.source, self._clock.wall_ms()
        again_ms = self.plan.failed(due, error, now_ms=now_ms)
        self._merge.lost(name, str(error), now_ms=now_ms)
        self._events.note(f"{name} rest", str(error), now_ms=now_ms)
        cooldown = self._parts.intakes[name].purse.cooling("rest")
        if cooldown is not None:
            again_ms = max(again_ms, cooldown.until_ms)
        said = f"{error}; {_next_try(error, again_ms - now_ms)}"
        self._report.warn(name, due.purpose, said.removesuffix("; "))

    async def _read_symbols(self, name: str, priority: Priority) -> None:
        intake = self._parts.intakes[name]
        requests = intake.adapter.symbol_requests()
        answers = [await self._fetch(name, request, priority) for request in requests]
        symbols = intake.adapter.read_symbols(answers)
        if not symbols:
            # Believed, it would take everything of this exchange off the board.
            raise ExchangeDown(name, "its symbol table was empty")
        self._taker.tabulated(name, symbols)
        now_ms, life_ms = self._clock.wall_ms(), intake.exchange.symbols_ms * 2
        await self._parts.tables.save_listings(
            name, list(symbols), now_ms=now_ms, life_ms=life_ms
        )
        await self._taker.say_what_exists()

    async def _read_snapshot(self, name: str, priority: Priority) -> None:
        intake = self._parts.intakes[name]
        listings, harvest = self._known(name), _Harvest()
        await self._reap(name, listings, priority, harvest)
        self._own(name, listings, harvest)
        if harvest.unknown:
            self._disown(name, listings, harvest)
        self._compare(name, listings, harvest.updates)
        now_ms, life_ms = self._clock.wall_ms(), intake.exchange.snapshot_ms * 2
        await self._parts.tables.save_snapshot(name, now_ms=now_ms, life_ms=life_ms)

    def _known(self, name: str) -> list[Listing]:
        """Return what is wanted of an exchange, but for what it does not know."""
        now_ms, wanted = self._clock.wall_ms(), self._merge.wanted(name)
        before = self._unknown[name]
        kept = (one.symbol for one in wanted if one.symbol in before)
        self._unknown[name] = unknown = {symbol: before[symbol] for symbol in kept}
        return [
            listing
            for listing in wanted
            if listing.symbol not in unknown
            or now_ms >= unknown[listing.symbol].until_ms
        ]

    async def _reap(
        self,
        name: str,
        listings: Sequence[Listing],
        priority: Priority,
        harvest: _Harvest,
    ) -> None:
        """Read these; a request that is refused for one of them is halved.

        So the others are read, and it stands alone in the end.

        Raises:
            UnknownSymbol: so many are unknown that it is not for their sake.
        """
        adapter = self._parts.intakes[name].adapter
        for request in adapter.snapshot_requests(listings):
            try:
                answer = await self._fetch(name, request, priority)
            except UnknownSymbol as error:
                asked = [one for one in listings if one.symbol in request.symbols]
                middle = len(asked) // 2
                if not middle:
                    _note_unknown(harvest, request.symbols, error)
                    continue
                for half in (asked[:middle], asked[middle:]):
                    await self._reap(name, half, priority, harvest)
            else:
                updates = adapter.read_snapshot(answer)
                self._taker.read(name, updates)
                harvest.updates += updates

    def _own(self, name: str, listings: Sequence[Listing], harvest: _Harvest) -> None:
        """Forget of what was read now that it ever was unknown."""
        read = {update.symbol for update in harvest.updates}
        for listing in listings:
            names = (listing.symbol, *listing.answers_as)
            if listing.symbol not in harvest.unknown and not read.isdisjoint(names):
                self._unknown[name].pop(listing.symbol, None)

    def _disown(
        self, name: str, listings: Sequence[Listing], harvest: _Harvest
    ) -> None:
        """Ask no more for what is unknown, for a while; the table may be to blame.

        Raises:
            UnknownSymbol: not one of several is known, so it is not for their sake.
        """
        error = next(iter(harvest.unknown.values()))
        if len(listings) > 1 and not harvest.updates:
            raise error
        now_ms = self._clock.wall_ms()
        for symbol in harvest.unknown:
            before = self._unknown[name].get(symbol)
            times = before.times + 1 if before else 1
            doubled_ms = _UNKNOWN_MS << min(times - 1, _DOUBLINGS_MAX)
            until_ms = now_ms + min(doubled_ms, _UNKNOWN_MAX_MS)
            self._unknown[name][symbol] = _Unknown(until_ms, times)
        self.plan.doubt_table(name, now_ms=now_ms)
        self._taker.disowned(name, sorted(harvest.unknown), error.advice)

    def _compare(
        self, name: str, listings: Sequence[Listing], found: Sequence[Update]
    ) -> None:
        """See whether the stream has missed what was read."""
        probe = self.probes.get(name)
        if probe is None:
            return
        read = {update.symbol: update for update in found}
        remedy = probe.compare(listings, read, self._taker.granted(name))
        if remedy.symbols:
            self._taker.mute(name, remedy)

    async def _fetch(self, name: str, request: Request, priority: Priority) -> Answer:
        """Fetch one answer; a budget that is free again soon is waited for."""
        while True:
            try:
                return await self._pulls[name].fetch(request, priority=priority)
            except RateLimited as limited:
                if limited.retry_after_ms > _SHORT_WAIT_MS:
                    raise
                await asyncio.sleep(limited.retry_after_ms / 1000)


def _note_unknown(
    harvest: _Harvest, symbols: Sequence[str], error: UnknownSymbol
) -> None:
    """Note what stands alone and is unknown.

    Raises:
        UnknownSymbol: nothing is known, or it is not said what is not.
    """
    harvest.unknown |= dict.fromkeys(symbols, error)
    several = len(harvest.unknown) >= _UNKNOWN_MAX
    if not symbols or (several and not harvest.updates):
        raise error


def _next_try(error: ExchangeError, wait_ms: int) -> str:
    """Say when it is tried again, where the error does not."""
    if isinstance(error, RateLimited):
        return ""
    if isinstance(error, Refused):
        return f"next try in {-(-wait_ms // 1000)} s"
    return "trying again"
