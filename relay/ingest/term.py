"""One term of leadership: every exchange read, its updates merged, the board led.

What is merged, fetched and published is decided in ``conflate``, ``plan`` and
``publish``; here it is only brought together.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final

import httpx
import msgspec

from relay.clock import Clock
from relay.config import Exchange, Settings
from relay.errors import ExchangeDown, ExchangeError, RateLimited, StoreDown
from relay.exchanges import open_adapter
from relay.exchanges.adapter import Adapter, Answer, Request
from relay.ingest.breaker import Circuit
from relay.ingest.budget import Priority
from relay.ingest.conflate import Merge
from relay.ingest.events import Events
from relay.ingest.lead import Leader
from relay.ingest.plan import Due, Plan
from relay.ingest.publish import Published
from relay.ingest.pull import Pull
from relay.ingest.purse import Purse, terms_of
from relay.ingest.report import Report
from relay.ingest.stream import Stream
from relay.ingest.timetable import Bells, Chore, Intervals, bells
from relay.model import Symbols, Update
from relay.store.client import Client
from relay.store.tables import Tables
from relay.store.writer import Lease, Writer

Ringing = Callable[[Bells, Intervals], AbstractAsyncContextManager[None]]
"""Who rings the bells: ``timetable.scheduled`` or ``timetable.looped``."""

# A limit that is free again within this time is waited for in the middle of a read.
_SHORT_WAIT_MS: Final = 5_000
# How often the plan is asked what is due; it answers at once when nothing is.
_SNAPSHOTS_MS: Final = 1_000
_MARKERS_MS: Final = 60_000
# Of each exchange, so many names that it will not stream are shown in the status.
_UNSUPPORTED_MAX: Final = 50
# Of an exchange whose stream is down, so many snapshots within the time of a silence.
_READS_PER_SILENCE: Final = 3


@dataclass(frozen=True)
class Intake:
    """One exchange: how it is read, and what may be spent on it."""

    adapter: Adapter
    exchange: Exchange
    purse: Purse


@dataclass
class Parts:
    """What a process ingests with, for as long as it lives."""

    settings: Settings
    clock: Clock
    client: Client
    writer: Writer
    tables: Tables
    http: httpx.AsyncClient
    intakes: Mapping[str, Intake]
    report: Report
    random: Callable[[], float]
    published: Published = field(default_factory=Published)


def open_intakes(settings: Settings, client: Client, clock: Clock) -> dict[str, Intake]:
    """Return what is read of each exchange that is on and has the key it needs.

    Raises:
        ConfigError: the settings name an exchange that the relay has no adapter of.
    """

    def purse(name: str, exchange: Exchange) -> Purse:
        terms = terms_of(
            exchange,
            egress=settings.store.egress,
            refused_ms=settings.ingest.refused_ms,
        )
        return Purse(name, terms, client, clock)

    return {
        name: Intake(open_adapter(name, exchange), exchange, purse(name, exchange))
        for name, exchange in settings.exchanges.items()
        if exchange.enabled and not exchange.lacks_key
    }


class Term:
    """One term: made anew each time the lease is taken.

    It is the sink of the streams: what they receive goes into the merge in their own
    callback, with no queue between.
    """

    def __init__(self, parts: Parts, lease: Lease, *, beat_ms: int) -> None:
        self._parts, self._lease = parts, lease
        self._clock, self._report = parts.clock, parts.report
        rules, self._began_ms = parts.settings.ingest, parts.clock.wall_ms()
        # What streams is silent by the streams' measure; its snapshots only back it.
        refresh_ms = {
            name: 0 if intake.adapter.streams else intake.exchange.snapshot_ms
            for name, intake in parts.intakes.items()
        }
        self._merge = Merge(parts.settings.board, rules, refresh_ms)
        self._plan = Plan(
            {name: intake.exchange for name, intake in parts.intakes.items()},
            random=parts.random,
        )
        self._leader = Leader(
            parts.writer,
            self._merge,
            parts.clock,
            rules,
            published=parts.published,
            beat_ms=beat_ms,
            health=self._health,
        )
        self._streams = {
            name: Stream(
                intake.adapter,
                intake.exchange,
                rules,
                intake.purse,
                parts.clock,
                self,
                parts.random,
            )
            for name, intake in parts.intakes.items()
            if intake.adapter.streams
        }
        self._pulls = {
            name: Pull(
                intake.adapter,
                intake.exchange,
                rules,
                intake.purse,
                parts.clock,
                parts.http,
            )
            for name, intake in parts.intakes.items()
        }
        self._intervals: Intervals = {
            "snapshots": _SNAPSHOTS_MS,
            "demand": rules.demand_every_ms,
            "recent": rules.recent_step_ms,
            "markers": _MARKERS_MS,
            "clock": parts.settings.store.clock_ms,
        }
        self._bells = bells(self._intervals)
        self._symbols: dict[str, Symbols] = {}
        self._demanded: set[str] = set()
        self._short = False
        self._events = Events()
        # Exchanges whose stream is down: their REST is read often enough meanwhile that
        # the source does not fall silent, where its budget bears that.
        self._unstreamed: set[str] = set()
        self._fallback_ms = rules.silent_after_ms // _READS_PER_SILENCE

    async def run(self, ringing: Ringing) -> None:
        """Ingest until cancelled, or until the lease is lost.

        Raises:
            LeaseLost: in an exception group; somebody else leads, or may by now.
            StoreDown: the store could not be reached at the beginning.
        """
        await self._leader.begin()
        await self._restore_tables()
        async with ringing(self._bells, self._intervals), asyncio.TaskGroup() as tasks:
            tasks.create_task(self._leader.run(self._lease))
            for stream in self._streams.values():
                tasks.create_task(stream.run())
            for chore, work in self._chores(tasks).items():
                tasks.create_task(self._heed(chore, work))

    async def end(self) -> None:
        """Publish what is left and give the lease back.

        Raises:
            LeaseLost: somebody else leads.
            StoreDown: the store cannot be reached; the lease ends by itself.
        """
        await self._leader.end(self._lease)

    # What the streams call, in the callback of their sockets.

    def updates(self, exchange: str, updates: Sequence[Update]) -> None:
        """Merge what a frame or an answer said."""
        del exchange  # each update names it
        self._merge.take(updates, now_ms=self._clock.wall_ms())
        if self._merge.dirty:
            self._leader.publisher.wake()

    def heard(self, exchange: str) -> None:
        """Note that a feed lives."""
        self._merge.heard(exchange, now_ms=self._clock.wall_ms())

    def dropped(self, exchange: str, reason: str) -> None:
        """Count a frame that nobody can read."""
        self._merge.drops[exchange, reason] += 1
        self._report.warn(exchange, "frame", f"a frame was dropped: {reason}")

    def refresh(self, exchange: str, symbols: Sequence[str]) -> None:
        """Read prices anew: frames may have been missed."""
        del symbols  # one snapshot covers what is wanted, whatever was missed
        self._plan.ask(exchange, now_ms=self._clock.wall_ms())
        self._bells["snapshots"].set()

    def refused(self, exchange: str, symbols: Sequence[str], reason: str) -> None:
        """Note symbols that the exchange will not stream."""
        names = ", ".join(symbols[:10]) or "everything"
        said = f"will not stream {names}: {reason}"
        self._report.warn(exchange, "refused", said)
        self._events.note(exchange, said, now_ms=self._clock.wall_ms())

    def down(self, exchange: str, reason: str) -> None:
        """Note that a connection is gone, or could not be made."""
        self._unstreamed.add(exchange)
        now_ms = self._clock.wall_ms()
        self._merge.lost(exchange, reason, now_ms=now_ms)
        self._report.warn(exchange, "stream", f"{reason}; trying again")
        self._events.note(exchange, f"not streaming: {reason}", now_ms=now_ms)

    def up(self, exchange: str) -> None:
        """Note that a connection stands."""
        self._unstreamed.discard(exchange)
        self._report.forget(exchange)
        self._report.say(f"{exchange}: streaming")
        self._events.note(exchange, "streaming", now_ms=self._clock.wall_ms())

    # What is done again and again.

    def _chores(
        self, tasks: asyncio.TaskGroup
    ) -> dict[Chore, Callable[[], Awaitable[None]]]:
        async def snapshots() -> None:
            now_ms = self._clock.wall_ms()
            for name in self._unstreamed:
                self._plan.ask_every(name, self._fallback_ms, now_ms=now_ms)
            for due in self._plan.due(now_ms):
                tasks.create_task(self._read(due))

        return {
            "snapshots": snapshots,
            "demand": self._demand,
            "recent": self._recent,
            "markers": self._forget_markers,
            "clock": self._parts.client.read_clock,
        }

    async def _heed(self, chore: Chore, work: Callable[[], Awaitable[None]]) -> None:
        """Work each time the bell rings; a store that is away costs one turn."""
        bell = self._bells[chore]
        while True:
            await bell.wait()
            bell.clear()
            try:
                await work()
            except StoreDown as down:
                self._report.warn("store", chore, str(down))

    async def _demand(self) -> None:
        rules = self._parts.settings
        since_ms = self._clock.wall_ms() - rules.ingest.demand_ms
        await self._repair()
        names = set(await self._parts.writer.demand(since_ms))
        if names == self._demanded:
            return
        self._demanded = names
        self._merge.want(names)
        self._steer()
        for name in self._parts.intakes:
            if self._merge.unpriced(name):
                self._plan.ask(name, now_ms=self._clock.wall_ms())
        self._bells["snapshots"].set()

    async def _repair(self) -> None:
        """Write again what the store has lost, whole or in part, under our hands."""
        kept = await self._parts.writer.kept()
        if not kept.listed:
            await self._say_what_exists()
        published = self._merge.published()
        short = kept.tickers < len(published)
        # Seen once, it may be the batch that is on its way.
        if short and self._short:
            self._merge.touch(published)
            self._leader.publisher.wake()
        self._short = short and not self._short

    async def _recent(self) -> None:
        rules, now_ms = self._parts.settings.ingest, self._clock.wall_ms()
        points = {
            name: b'[%d,"%b"]' % (now_ms, price.encode())
            for name, price in self._merge.points().items()
        }
        life_ms = rules.recent_step_ms * rules.recent_points
        await self._parts.writer.remember(
            self._lease, points, most=rules.recent_points, life_ms=life_ms
        )

    async def _forget_markers(self) -> None:
        rules = self._parts.settings.ingest
        names, floor = self._merge.markers(self._clock.wall_ms() - rules.marker_ms)
        if names:
            await self._parts.writer.forget(self._lease, names, floor=floor)
            self._merge.forget(names)
            self._leader.publisher.wake()

    # Reading an exchange's REST.

    async def _read(self, due: Due) -> None:
        """Do what is due; what goes wrong is the plan's to heed and ours to tell."""
        name = due.source
        try:
            if due.purpose == "symbols":
                await self._read_symbols(name, due.priority)
            else:
                await self._read_snapshot(name, due.priority)
        except ExchangeError as error:
            now_ms = self._clock.wall_ms()
            self._plan.failed(due, error, now_ms=now_ms)
            self._merge.lost(name, str(error), now_ms=now_ms)
            self._events.note(f"{name} rest", str(error), now_ms=now_ms)
            self._report.warn(name, due.purpose, f"{error}; trying again")
        except StoreDown as down:
            self._plan.failed(due, down, now_ms=self._clock.wall_ms())
            self._report.warn("store", due.purpose, str(down))
        except Exception as bug:  # noqa: BLE001 - one reader's slip must not end the term
            failure = ExchangeDown(name, f"its reader failed: {bug!r}")
            self._plan.failed(due, failure, now_ms=self._clock.wall_ms())
            self._report.warn(name, "reader", str(failure))
        else:
            now_ms = self._clock.wall_ms()
            self._plan.done(due, now_ms=now_ms)
            self._events.note(f"{name} rest", "read", now_ms=now_ms)

    async def _read_symbols(self, name: str, priority: Priority) -> None:
        intake = self._parts.intakes[name]
        requests = intake.adapter.symbol_requests()
        answers = [await self._fetch(name, request, priority) for request in requests]
        symbols = intake.adapter.read_symbols(answers)
        self._take_table(name, symbols)
        now_ms, life_ms = self._clock.wall_ms(), intake.exchange.symbols_ms * 2
        await self._parts.tables.save_listings(
            name, list(symbols), now_ms=now_ms, life_ms=life_ms
        )
        await self._say_what_exists()

    async def _read_snapshot(self, name: str, priority: Priority) -> None:
        intake = self._parts.intakes[name]
        requests = intake.adapter.snapshot_requests(self._merge.wanted(name))
        for request in requests:
            answer = await self._fetch(name, request, priority)
            self.updates(name, intake.adapter.read_snapshot(answer))
            self.heard(name)
        now_ms, life_ms = self._clock.wall_ms(), intake.exchange.snapshot_ms * 2
        await self._parts.tables.save_snapshot(name, now_ms=now_ms, life_ms=life_ms)

    async def _fetch(self, name: str, request: Request, priority: Priority) -> Answer:
        """Fetch one answer; a budget that is free again soon is waited for."""
        while True:
            try:
                return await self._pulls[name].fetch(request, priority=priority)
            except RateLimited as limited:
                if limited.retry_after_ms > _SHORT_WAIT_MS:
                    raise
                await asyncio.sleep(limited.retry_after_ms / 1000)

    # Symbol tables, and who streams what.

    async def _restore_tables(self) -> None:
        """Begin with the tables that an earlier term has read."""
        for name in self._parts.intakes:
            table = await self._parts.tables.load(name)
            self._plan.known(
                name, symbols_ms=table.symbols_ms, snapshot_ms=table.snapshot_ms
            )
            if table.listings:
                self._take_table(name, Symbols(table.listings))
        await self._say_what_exists()

    def _take_table(self, name: str, symbols: Symbols) -> None:
        self._symbols[name] = symbols
        self._merge.list(name, symbols)
        self._steer()
        self._bells["snapshots"].set()

    def _steer(self) -> None:
        """Tell each stream what is wanted of it."""
        for name, stream in self._streams.items():
            stream.want(listing.symbol for listing in self._merge.wanted(name))

    async def _say_what_exists(self) -> None:
        """Write down what clients may ask for: demand goes to the board's sources."""
        exists: dict[str, list[str]] = {}
        for source in self._parts.settings.board.sources:
            for listing in self._symbols.get(source, Symbols()):
                if listing.active:
                    exists.setdefault(listing.instrument, []).append(source)
        for group in self._parts.settings.board.groups:
            for instrument in group.instruments:
                exists.setdefault(instrument, list(group.sources))
        await self._parts.writer.list_symbols(self._lease, exists)

    def _health(self) -> bytes:
        """Write what the status shows of the leader, its sources and its budgets."""
        now_ms = self._clock.wall_ms()
        health = {
            "leader": {
                "holder": self._lease.holder,
                "token": self._lease.token,
                "since_ms": self._began_ms,
                "as_of_ms": now_ms,
                "batches": self._leader.publisher.batches,
            },
            **self._merge.health(now_ms=now_ms),
            "streams": {name: one.states for name, one in self._streams.items()},
            "budgets": {
                name: intake.purse.gauges()
                for name, intake in self._parts.intakes.items()
            },
            "circuits": self._circuits(),
            "refused": self._plan.refused(),
            "unsupported": {
                name: dict(list(one.unsupported.items())[:_UNSUPPORTED_MAX])
                for name, one in self._streams.items()
                if one.unsupported
            },
            "events": list(self._events.last),
            "off": {
                name: "needs a key" if exchange.lacks_key else "not enabled"
                for name, exchange in self._parts.settings.exchanges.items()
                if name not in self._parts.intakes
            },
        }
        return msgspec.json.encode(health)

    def _circuits(self) -> dict[str, dict[str, Circuit]]:
        """Tell how the breakers stand, by exchange and transport."""
        now_ms = self._clock.monotonic_ms()
        found = {
            name: {"rest": pull.breaker.circuit(now_ms)}
            for name, pull in self._pulls.items()
        }
        for name, stream in self._streams.items():
            found[name]["ws"] = stream.breaker.circuit(now_ms)
        return found
