"""Checks one exchange by really using it: name, REST, usage, clock, stream.

It spends from the ledger that the workers use, so that a checkup breaks no limit.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import httpx

from relay.cli.finding import Finding, Verdict, advise, seen
from relay.clock import Clock
from relay.config import Settings
from relay.errors import ExchangeDown, ExchangeError, RateLimited
from relay.exchanges.adapter import Answer, Request
from relay.ingest.budget import Priority
from relay.ingest.causes import plain_cause
from relay.ingest.parts import Intake
from relay.ingest.pull import Pull
from relay.ingest.stream import Stream
from relay.model import Listing, Symbols, Update

# A limit that is free again within this time is waited for.
_PATIENCE_MS: Final = 5_000
# Dates are whole seconds; windows by the clock allow for a second of difference.
_SKEW_MAX_MS: Final = 2_500
# What nearly every exchange lists, in the order of preference.
_WELL_KNOWN: Final = ("BTC-USD", "BTC-USDT", "ETH-USD", "BTC-EUR")


@dataclass
class Tools:
    """What a checkup works with; a stream's first price is waited for ``wait_s``."""

    settings: Settings
    clock: Clock
    http: httpx.AsyncClient
    wait_s: float


@dataclass
class Heard:
    """A stream's sink that keeps the first price, and what went wrong."""

    first: asyncio.Event = field(default_factory=asyncio.Event)
    update: Update | None = None
    frames: int = 0
    wrong: str = ""

    def updates(self, exchange: str, updates: Sequence[Update]) -> None:
        """Keep the first price."""
        del exchange
        priced = (update for update in updates if update.price or update.bid)
        self.update = self.update or next(priced, None)
        if self.update is not None:
            self.first.set()

    def heard(self, exchange: str) -> None:
        """Count."""
        del exchange
        self.frames += 1

    def dropped(self, exchange: str, reason: str) -> None:
        """Keep why."""
        del exchange
        self.wrong = f"a frame could not be read: {reason}"

    def refresh(self, exchange: str, symbols: Sequence[str]) -> None:
        """Do not mind: nothing is kept here."""

    def refused(self, exchange: str, symbols: Sequence[str], reason: str) -> None:
        """Keep why."""
        del exchange
        self.wrong = f"it will not stream {', '.join(symbols)}: {reason}"

    def down(self, exchange: str, reason: str) -> None:
        """Keep why."""
        del exchange
        self.wrong = reason

    def up(self, exchange: str) -> None:
        """Do not mind: only a price counts."""


class Checkup:
    """One exchange's checkup: ``findings`` fill up while ``run`` goes on."""

    def __init__(self, name: str, intake: Intake, tools: Tools) -> None:
        self.name, self._intake, self._tools = name, intake, tools
        self.findings: list[Finding] = []
        self._pull = Pull(
            intake.adapter,
            intake.exchange,
            tools.settings.ingest,
            intake.purse,
            tools.clock,
            tools.http,
        )
        self._began_ms = 0

    async def run(self) -> None:
        """Check one thing after the other; what the next needs must be right.

        Raises:
            StoreDown: the store cannot be reached, so nothing may be spent.
        """
        try:
            await self._resolve()
            listing = await self._choose()
            await self._snapshot(listing)
            self._budgets()
            if self._intake.adapter.streams:
                await self._stream(listing)
            else:
                self._tell("stream", "note", "none configured: it is read by REST")
        except ExchangeError as error:
            said, advice = seen(self.name, error), advise(self.name, error)
            self._tell(self._doing, "wrong", said, advice)

    _doing = "resolve"

    def _begin(self, check: str) -> None:
        self._doing, self._began_ms = check, self._tools.clock.monotonic_ms()

    def _tell(self, check: str, verdict: Verdict, saw: str, advice: str = "") -> None:
        took_ms = self._tools.clock.monotonic_ms() - self._began_ms
        self.findings.append(
            Finding(
                subject=self.name,
                check=check,
                verdict=verdict,
                saw=saw,
                advice=advice,
                took_ms=took_ms,
            )
        )

    async def _resolve(self) -> None:
        self._begin("resolve")
        exchange = self._intake.exchange
        urls = [exchange.rest_url]
        urls += [exchange.ws_url] if self._intake.adapter.streams else []
        hosts = dict.fromkeys(urlsplit(url).hostname or "" for url in urls)
        found = [(host, await self._address(host)) for host in hosts]
        said = [host if host == at else f"{host} is {at}" for host, at in found]
        self._tell("resolve", "ok", ", ".join(said))

    async def _address(self, host: str) -> str:
        loop = asyncio.get_running_loop()
        try:
            (*_, address), *_ = await loop.getaddrinfo(host, None)
        except (OSError, UnicodeError) as error:
            cause = plain_cause(error, timeout_ms=0)
            raise ExchangeDown(self.name, f"{host}: {cause}") from error
        return str(address[0])

    async def _choose(self) -> Listing:
        """Read the symbol table, and choose what to ask for."""
        self._begin("symbols")
        adapter = self._intake.adapter
        requests = adapter.symbol_requests()
        symbols = adapter.read_symbols([await self._fetch(one) for one in requests])
        listing = _well_known(symbols)
        if listing is None:
            raise ExchangeDown(self.name, "its symbol table is empty")
        said = f"{len(symbols)} instruments, {listing.instrument} is {listing.symbol}"
        self._tell("symbols", "ok", said)
        return listing

    async def _fetch(self, request: Request) -> Answer:
        """Fetch one answer; a budget that is free again soon is waited for."""
        while True:
            try:
                return await self._pull.fetch(request, priority=Priority.SEED)
            except RateLimited as limited:
                if limited.retry_after_ms > _PATIENCE_MS:
                    raise
                await asyncio.sleep(limited.retry_after_ms / 1000)

    async def _snapshot(self, listing: Listing) -> None:
        self._begin("snapshot")
        adapter = self._intake.adapter
        (request, *_) = adapter.snapshot_requests([listing])
        answer = await self._fetch(request)
        prices = [one for one in adapter.read_snapshot(answer) if one.price]
        if not prices:
            raise ExchangeDown(self.name, f"no price of {listing.symbol} came back")
        shown = next((o for o in prices if o.symbol == listing.symbol), prices[0])
        self._tell("snapshot", "ok", f"{shown.symbol} at {shown.price}")
        self._usage(answer)
        self._clock(answer)

    def _usage(self, answer: Answer) -> None:
        """Say what the exchange counts of us."""
        self._begin("usage")
        told = [
            f"{usage.limit}: {usage.used} used by its own count"
            for usage in self._intake.adapter.read_usage(answer)
            if usage.used is not None
        ]
        self._tell("usage", "ok", ", ".join(told) or "its answers do not tell")

    def _clock(self, answer: Answer) -> None:
        """Compare the exchange's clock with the store's."""
        self._begin("clock")
        try:
            date = parsedate_to_datetime(answer.headers.get("date", ""))
        except (ValueError, TypeError):
            self._tell("clock", "note", "its answers carry no date")
            return
        # An answer may come from a cache; its date is as old as it is.
        ahead_ms = int(date.timestamp() * 1000) + answer.age_ms - answer.received_ms
        if abs(ahead_ms) <= _SKEW_MAX_MS:
            self._tell("clock", "ok", "agrees with the store's")
            return
        said = f"{ahead_ms / 1000:+.0f} s against the store's clock"
        self._tell("clock", "wrong", said, "set the clock of the store's machine (NTP)")

    def _budgets(self) -> None:
        """Say what the shared ledger holds."""
        self._begin("budget")
        gauges = self._intake.purse.gauges()
        said = [f"{one.limit} {one.used} of {one.most}" for one in gauges]
        self._tell("budget", "ok", ", ".join(said) or "no limits configured")

    async def _stream(self, listing: Listing) -> None:
        self._begin("stream")
        heard = Heard()
        wait_s = self._tools.wait_s
        async with self._streaming(heard, listing):
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await heard.first.wait()
        if heard.update is None:
            said = heard.wrong or f"{heard.frames} frames in {wait_s:g} s, and no price"
            raise ExchangeDown(self.name, said)
        price = heard.update.price or f"bid {heard.update.bid}"
        self._tell("stream", "ok", f"{heard.update.symbol} at {price}")

    @asynccontextmanager
    async def _streaming(self, heard: Heard, listing: Listing) -> AsyncIterator[None]:
        intake, tools = self._intake, self._tools
        stream = Stream(
            intake.adapter,
            intake.exchange,
            tools.settings.ingest,
            intake.purse,
            tools.clock,
            heard,
            lambda: 0.5,
        )
        stream.want([listing.symbol])
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(stream.run())
            try:
                yield
            finally:
                task.cancel()


def _well_known(symbols: Symbols) -> Listing | None:
    found = (symbols.by_instrument.get(name) for name in _WELL_KNOWN)
    known = next((one for one in found if one is not None and one.active), None)
    return known or next((one for one in symbols if one.active), None)
