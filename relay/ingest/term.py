"""One term of leadership: every exchange read, its updates merged, the board led.

REST is read by ``reading``; what is merged and published is decided in ``conflate``
and ``publish``. Here it is only brought together.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from relay.errors import StoreDown, one_line
from relay.exchanges.adapter import Told
from relay.ingest.breaker import Circuit
from relay.ingest.conflate import Merge
from relay.ingest.events import Events, drop_reason
from relay.ingest.lead import Leader
from relay.ingest.parts import Parts
from relay.ingest.probe import Remedy
from relay.ingest.reading import Reading
from relay.ingest.stream import Stream
from relay.ingest.timetable import Bells, Chore, Intervals, bells
from relay.model import Symbols, Update
from relay.store.writer import Lease

Ringing = Callable[[Bells, Intervals], AbstractAsyncContextManager[None]]
"""Who rings the bells: ``timetable.scheduled`` or ``timetable.looped``."""

# How often the plan is asked what is due; it answers at once when nothing is.
_SNAPSHOTS_MS: Final = 1_000
_MARKERS_MS: Final = 60_000
# What was asked for and is in the store no more is still wanted for so many of the
# servers' renewals: a store that was emptied has lost it, while clients hold it.
_RENEWALS: Final = 2
# Of each exchange, so many names that it will not stream are shown in the status.
_UNSUPPORTED_MAX: Final = 50


class Term:
    """One term: made anew each time the lease is taken.

    It is the sink of the streams: what they receive goes into the merge in their own
    callback, with no queue between.
    """

    def __init__(self, parts: Parts, lease: Lease, *, beat_ms: int) -> None:
        self._parts, self._lease, self._beat_ms = parts, lease, beat_ms
        self._clock, self._report = parts.clock, parts.report
        rules, self._began_ms = parts.settings.ingest, parts.clock.wall_ms()
        # What streams is silent by the streams' measure; its snapshots only back it.
        refresh_ms = {
            name: 0 if intake.adapter.streams else intake.exchange.snapshot_ms
            for name, intake in parts.intakes.items()
        }
        self._merge = Merge(parts.settings.board, rules, refresh_ms)
        self._events = Events()
        self._reading = Reading(parts, self._merge, self._events, self)
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
        self._intervals: Intervals = {
            "snapshots": _SNAPSHOTS_MS,
            "demand": rules.demand_every_ms,
            "recent": rules.recent_step_ms,
            "markers": _MARKERS_MS,
            "clock": parts.settings.store.clock_ms,
        }
        self._bells = bells(self._intervals)
        self._symbols: dict[str, Symbols] = {}
        # What is always on, and was in nobody's table when it was looked for last.
        self._unlisted: set[str] = set()
        # What is asked for; None until it is known: till then all that was restored.
        self._demanded: set[str] | None = None
        self._short = False
        # Exchanges whose stream is down: their REST is read often enough meanwhile that
        # the source does not fall silent, where its budget bears that.
        self._unstreamed: set[str] = set()

    async def run(self, ringing: Ringing) -> None:
        """Ingest until cancelled, or until the lease is lost.

        Raises:
            LeaseLost: in an exception group; somebody else leads, or may by now.
            StoreDown: the store could not be reached at the beginning.
        """
        self._events.restore(await self._leader.begin())
        # First of all, so that what is published is live from its first batch on.
        await self._leader.announce(self._lease)
        await self._reading.restore()
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
        """Merge what a frame said, all of it received at one moment."""
        self._reading.probes[exchange].spoke(updates)
        self._take(updates, updates[0].received_ms)

    def _take(self, updates: Sequence[Update], now_ms: int) -> None:
        self._merge.take(updates, now_ms=now_ms)
        if self._merge.dirty:
            self._leader.publisher.wake()

    def heard(self, exchange: str) -> None:
        """Note that a feed lives."""
        self._merge.heard(exchange, now_ms=self._clock.wall_ms())

    def dropped(self, exchange: str, reason: str) -> None:
        """Count a frame that nobody can read."""
        drops = self._merge.drops
        drops[exchange, drop_reason(drops, exchange, reason)] += 1
        self._report.warn(exchange, "frame", f"a frame was dropped: {reason}")

    def refresh(self, exchange: str, symbols: Sequence[str]) -> None:
        """Read prices anew: frames may have been missed."""
        del symbols  # one snapshot covers what is wanted, whatever was missed
        self._reading.plan.ask(exchange, now_ms=self._clock.wall_ms())
        self._bells["snapshots"].set()

    def refused(self, exchange: str, symbols: Sequence[str], reason: str) -> None:
        """Note symbols that the exchange will not stream."""
        names = ", ".join(symbols[:10]) or "everything"
        said = f"will not stream {names}: {reason}"
        self._report.warn(exchange, "refused", said)
        self._events.note(exchange, said, now_ms=self._clock.wall_ms())

    def told(self, exchange: str, told: Told) -> None:
        """Note how an exchange says that it is, when that is new."""
        now_ms, told = self._clock.wall_ms(), replace(told, words=one_line(told.words))
        self._merge.halt(exchange, told.words if told.halts else "")
        if self._events.tell(exchange, told, now_ms=now_ms):
            self._report.say(f"{exchange}: {told.words or 'online again'}")

    def down(self, exchange: str, reason: str) -> None:
        """Note that a connection is gone, or could not be made."""
        self._unstreamed.add(exchange)
        self._reading.probes[exchange].forget()
        now_ms = self._clock.wall_ms()
        self._merge.lost(exchange, reason, now_ms=now_ms)
        said = f"not streaming: {reason.removeprefix(f'{exchange} ')}"
        self._report.warn(exchange, "stream", said)
        self._events.note(exchange, said, now_ms=now_ms)

    def replaced(self, exchange: str, reason: str) -> None:
        """Note why a connection is replaced that goes on meanwhile."""
        said = f"replacing its connection: {reason}"
        self._events.note(exchange, said, now_ms=self._clock.wall_ms())

    def up(self, exchange: str) -> None:
        """Note that a connection stands."""
        self._unstreamed.discard(exchange)
        self._report.forget(exchange)
        self._report.say(f"{exchange}: streaming")
        now_ms = self._clock.wall_ms()
        self._events.note(exchange, "streaming", now_ms=now_ms)
        # What moved while nobody led, and is quiet now, no stream will say: Binance
        # begins with nothing. What an earlier term has read is older than that.
        plan, term_ms = self._reading.plan, now_ms - self._began_ms
        plan.ask_every(exchange, term_ms, now_ms=now_ms)
        self._bells["snapshots"].set()

    # What the reading calls.

    def read(self, exchange: str, updates: Sequence[Update]) -> None:
        """Merge what an answer said; without a price it is a sign of life as well."""
        self._take(updates, self._clock.wall_ms())
        self.heard(exchange)

    def granted(self, exchange: str) -> set[str]:
        """Return the symbols that the exchange streams to us."""
        return self._streams[exchange].granted

    def mute(self, exchange: str, remedy: Remedy) -> None:
        """Subscribe anew to what moves by REST and is silent by its stream."""
        names = ", ".join(remedy.symbols[:10])
        done = "replacing the connection" if remedy.replace else "subscribing anew"
        reason = f"moves by REST, but its stream is silent: {names}"
        self._report.warn(exchange, "mute", f"{reason}; {done}")
        said = f"{reason}; {done}"
        self._events.note(exchange, said, now_ms=self._clock.wall_ms())
        stream = self._streams[exchange]
        stream.renew(remedy.symbols, reason, replace=remedy.replace)
        self._bells["snapshots"].set()

    def disowned(self, exchange: str, symbols: Sequence[str], reason: str) -> None:
        """Note symbols that an exchange's REST does not know.

        Binance acknowledges their streams all the same, and never says a word: what
        has not been heard of is given up.
        """
        said = f"does not know {', '.join(symbols[:10])}: {reason}"
        self._report.warn(exchange, "unknown", said)
        self._events.note(exchange, said, now_ms=self._clock.wall_ms())
        stream, probe = self._streams.get(exchange), self._reading.probes.get(exchange)
        if stream is not None and probe is not None:
            silent = [symbol for symbol in symbols if not probe.has_heard(symbol)]
            if silent:
                stream.refuse(silent, reason)

    # What is done again and again.

    def _chores(
        self, tasks: asyncio.TaskGroup
    ) -> dict[Chore, Callable[[], Awaitable[None]]]:
        async def snapshots() -> None:
            self._reading.begin_due(tasks, self._unstreamed)

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
        names = self._lingering(await self._parts.writer.demand(since_ms))
        if names == self._demanded:
            return
        new, self._demanded = names - (self._demanded or set()), names
        self._merge.want(names)
        self._steer()
        for name in self._parts.intakes if new else ():
            if self._merge.unpriced(name):
                self._reading.plan.ask(name, now_ms=self._clock.wall_ms())
        self._bells["snapshots"].set()

    def _lingering(self, found: Iterable[str]) -> set[str]:
        """Return what is asked for: what is found, and was found a while ago."""
        now_ms, rules = self._clock.monotonic_ms(), self._parts.settings
        found_ms = self._parts.found_ms | dict.fromkeys(found, now_ms)
        renewed_ms = _RENEWALS * rules.http.demand_renew_ms
        since_ms = now_ms - min(renewed_ms, rules.ingest.demand_ms)
        self._parts.found_ms = {
            name: at_ms for name, at_ms in found_ms.items() if at_ms >= since_ms
        }
        return set(self._parts.found_ms)

    async def _repair(self) -> None:
        """Write again what the store has lost, whole or in part, under our hands."""
        kept = await self._parts.writer.kept()
        if not kept.listed:
            await self.say_what_exists()
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

    # Symbol tables, and who streams what.

    def tabulated(self, exchange: str, symbols: Symbols) -> None:
        """Take a symbol table: what is wanted of an exchange may be another now."""
        self._symbols[exchange] = symbols
        self._merge.list(exchange, symbols)
        self._tell_unlisted()
        self._steer()
        self._bells["snapshots"].set()

    def _tell_unlisted(self) -> None:
        """Tell once what is always on and in nobody's table: it may be misspelt."""
        unlisted = set(self._merge.unlisted())
        news, self._unlisted = sorted(unlisted - self._unlisted), unlisted
        if news:
            said = f"no source lists {', '.join(news[:10])}"
            self._report.warn("board", said, said)
            self._events.note("board", said, now_ms=self._clock.wall_ms())

    def _steer(self) -> None:
        """Tell each stream what is wanted of it."""
        for name, stream in self._streams.items():
            stream.want(listing.symbol for listing in self._merge.wanted(name))

    async def say_what_exists(self) -> None:
        """Write down what clients may ask for: demand goes to the board's sources.

        Raises:
            StoreDown: the store cannot be reached.
        """
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
        for source, what in self._merge.moved():
            self._events.moved(source, what, now_ms=now_ms)
        health = {
            "leader": {
                "holder": self._lease.holder,
                "token": self._lease.token,
                "since_ms": self._began_ms,
                "as_of_ms": now_ms,
                "batches": self._leader.publisher.batches,
                "beat_ms": self._beat_ms,
                "tasks": len(asyncio.all_tasks()),
            },
            **self._merge_health(now_ms),
            "streams": {name: one.states for name, one in self._streams.items()},
            "budgets": {
                name: intake.purse.gauges()
                for name, intake in self._parts.intakes.items()
            },
            "circuits": self._circuits(),
            "refused": self._reading.plan.refused(),
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

    def _merge_health(self, now_ms: int) -> dict[str, Any]:
        """Tell how the sources are, and whose stream is dead in part."""
        health = self._merge.health(now_ms=now_ms)
        for name, probe in self._reading.probes.items():
            health["sources"][name]["mute"] = probe.dead
        return health

    def _circuits(self) -> dict[str, dict[str, Circuit]]:
        """Tell how the breakers stand, by exchange and transport."""
        now_ms = self._clock.monotonic_ms()
        found = {
            name: {"rest": circuit}
            for name, circuit in self._reading.circuits(now_ms).items()
        }
        for name, stream in self._streams.items():
            found[name]["ws"] = stream.breaker.circuit(now_ms)
        return found
