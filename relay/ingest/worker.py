"""The worker: takes the lease, leads a term, and again; a tick is one bounded term.

What is done while leading stands in ``term``.
"""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from relay.clock import Clock
from relay.config import Settings
from relay.errors import LeaseLost, OutOfStep, StoreDown
from relay.ingest.parts import Parts, open_intakes
from relay.ingest.pull import open_client
from relay.ingest.report import Report
from relay.ingest.term import Ringing, Term
from relay.ingest.timetable import looped, scheduled
from relay.store.client import Client
from relay.store.keys import Keys
from relay.store.tables import Tables
from relay.store.writer import Lease, Writer

# How long the last words may take: publishing what is left, giving the lease back …
_END_S: Final = 1.5
# … and writing down what is still owed to the books, above all who wants to be left.
_PAY_S: Final = 0.5
# How many turns of asking for the lease are left to whoever led last, when the store
# comes back.
_COURTESY: Final = 2


@asynccontextmanager
async def open_worker(
    settings: Settings, clock: Clock, client: Client
) -> AsyncIterator["Worker"]:
    """Hold a worker, and the connections it needs.

    Raises:
        ConfigError: the settings name an exchange that the relay has no adapter of.
    """
    keys = Keys(settings.board.name)
    log_max = settings.store.log_entries_max
    async with open_client(settings.ingest) as http:
        parts = Parts(
            settings=settings,
            clock=clock,
            client=client,
            writer=Writer(client, keys, log_entries_max=log_max),
            tables=Tables(client),
            http=http,
            intakes=open_intakes(settings, client, clock),
            report=Report(clock, settings.ingest.log_every_ms),
            random=random.Random().random,  # noqa: S311 - it spreads reconnects
        )
        for name, exchange in settings.exchanges.items():
            if exchange.enabled and exchange.lacks_key:
                variable = f"RELAY_{name.upper().replace('-', '_')}_KEY"
                parts.report.say(f"{name}: off, since {variable} gives it no key")
        yield Worker(parts)


class Worker:
    """One process that ingests when it holds the lease."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._rules, self._report = parts.settings.ingest, parts.report
        # Random, so that two workers never believe they are one.
        self.holder = secrets.token_hex(8)
        self._away = self._led_last = False

    async def run(self) -> None:
        """Lead whenever nobody else does, for ever.

        Cancelled while leading, it publishes what is left and gives the lease back.
        """
        while True:
            lease = await self._take()
            if lease is not None:
                await self._lead(lease, scheduled, beat_ms=self._rules.beat_ms)
            await asyncio.sleep(self._rules.lease_ask_ms / 1000)

    async def tick(self, seconds: float) -> bool:
        """Lead for so long at most; False when somebody else leads.

        Raises:
            StoreDown: the store cannot be reached.
        """
        lease = await self._parts.writer.take(self.holder, self._rules.lease_ms)
        if lease is None:
            return False
        try:
            async with asyncio.timeout(seconds):
                await self._lead(lease, looped, beat_ms=self._rules.tick_beat_ms)
        except TimeoutError:
            pass
        return True

    async def _take(self) -> Lease | None:
        parts = self._parts
        try:
            if self._away and not self._led_last:
                # Whoever led when the store went away knows more, and goes first.
                await parts.client.read_clock()
                await asyncio.sleep(_COURTESY * self._rules.lease_ask_ms / 1000)
            lease = await parts.writer.take(self.holder, self._rules.lease_ms)
        except StoreDown as down:
            self._report.warn("store", "lease", str(down))
            self._away = True
            return None
        self._away, self._led_last = False, lease is not None
        if lease is None:
            # Somebody else publishes: what we did is older than what clients have seen.
            parts.published.tickers.clear()
        return lease

    async def _lead(self, lease: Lease, ringing: Ringing, *, beat_ms: int) -> None:
        """Lead one term, until it is cancelled or the lease or the store is gone."""
        term = Term(self._parts, lease, beat_ms=beat_ms)
        self._report.say(f"leading with token {lease.token}")
        try:
            await self._run(term, ringing)
        except asyncio.CancelledError:
            await self._end(term)
            raise

    async def _run(self, term: Term, ringing: Ringing) -> None:
        # In a task of its own: in Python 3.11 a task that waits in a task group which
        # fails counts as cancelled ever after, and the worker has more terms to lead.
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._outlast(term, ringing))

    async def _outlast(self, term: Term, ringing: Ringing) -> None:
        try:
            await term.run(ringing)
        except* (LeaseLost, OutOfStep, StoreDown) as group:
            self._report.say(f"not leading any more: {_reason(group)}")

    async def _end(self, term: Term) -> None:
        """Say the last words, unless that takes too long or nobody listens."""
        with suppress(LeaseLost, OutOfStep, StoreDown, TimeoutError):
            async with asyncio.timeout(_END_S):
                await term.end()
        with suppress(TimeoutError):
            async with asyncio.timeout(_PAY_S):
                await self._pay()

    async def _pay(self) -> None:
        """Write down what was spent and heard while nobody could wait for the store."""
        async with asyncio.TaskGroup() as tasks:
            for intake in self._parts.intakes.values():
                tasks.create_task(intake.purse.pay())


def _reason(group: BaseExceptionGroup[BaseException]) -> str:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return str(first)
