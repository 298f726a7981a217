"""Checks one exchange by really using it: name, REST, usage, clock, stream.

It spends from the ledger that the workers use, so that a checkup breaks no limit, and
only what they can spare. What they have read meanwhile is ``lately``'s.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar
from urllib.parse import urlsplit

import httpx

from relay.cli.finding import Finding, Verdict, advise, seen
from relay.cli.lately import Lately, read_lately
from relay.cli.modest import Modest
from relay.clock import Clock
from relay.config import Settings
from relay.errors import (
    ExchangeDown,
    ExchangeError,
    LeftAlone,
    RateLimited,
    Refused,
    left_alone,
)
from relay.exchanges.adapter import Answer, Request, Told
from relay.ingest.budget import Priority
from relay.ingest.causes import plain_cause
from relay.ingest.parts import Intake
from relay.ingest.pull import Pull
from relay.ingest.stream import Stream
from relay.model import Listing, Symbols, Update
from relay.store.client import Client

T = TypeVar("T")

# A limit that is free again within this time is waited for.
_PATIENCE_MS: Final = 5_000
# Dates are whole seconds; windows by the clock allow for a second of difference.
_SKEW_MAX_MS: Final = 2_500
_DAY_MS: Final = 86_400_000
# What nearly every exchange lists, in the order of preference.
_WELL_KNOWN: Final = ("BTC-USD", "BTC-USDT", "ETH-USD", "BTC-EUR")


@dataclass
class Tools:
    """What a checkup works with; a stream's first price is waited for ``wait_s``."""

    settings: Settings
    client: Client
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

    def told(self, exchange: str, told: Told) -> None:
        """Keep why, where it serves nobody."""
        del exchange
        if told.halts:
            self.wrong = told.words

    def down(self, exchange: str, reason: str) -> None:
        """Keep why."""
        del exchange
        self.wrong = reason

    def replaced(self, exchange: str, reason: str) -> None:
        """Do not mind: it goes on."""

    def up(self, exchange: str) -> None:
        """Do not mind: only a price counts."""


class Checkup:
    """One exchange's checkup: ``findings`` fill up while ``run`` goes on."""

    def __init__(self, name: str, intake: Intake, purse: Modest, tools: Tools) -> None:
        self.name, self._intake, self._tools = name, intake, tools
        self._purse, self._lately = purse, Lately()
        self.findings: list[Finding] = []
        self._pull = Pull(
            intake.adapter,
            intake.exchange,
            tools.settings.ingest,
            purse,
            tools.clock,
            tools.http,
        )
        self._began_ms = 0
        self._answer: Answer | None = None
        # Whether something of this checkup was refused, and said so.
        self._refused = False

    async def run(self) -> None:
        """Check one thing after the other; what does not need the last one goes on.

        Raises:
            StoreDown: the store cannot be reached, so nothing may be spent.
        """
        tools = self._tools
        board = tools.settings.board.name
        self._lately = await read_lately(tools.client, board, self.name)
        self._purse.shy = self._lately.led
        ways = await self._resolve()
        guess = self._guess()
        # First, while nothing has been refused: a refusal by REST holds the rest back.
        if "stream" in ways and guess is not None:
            await self._attempt("stream", self._stream(guess))
        listing = await self._ask(guess) if "rest" in ways else guess
        self._budgets()
        if not self._intake.adapter.streams:
            self._tell("stream", "note", "none configured: it is read by REST")
        elif "stream" in ways and self._is_due(guess, listing):
            await self._stream_late(listing)

    def _is_due(self, guess: Listing | None, listing: Listing | None) -> bool:
        """Tell whether the stream is still to be checked, or once more.

        Where it was checked by a guess that the table does not bear out, the failure
        may have been the guess.
        """
        if guess is None:
            return True
        if listing is None or listing.symbol == guess.symbol:
            return False
        tried = next(one for one in self.findings if one.check == "stream")
        if tried.verdict == "wrong":
            self.findings.remove(tried)
        return tried.verdict == "wrong"

    async def _stream_late(self, listing: Listing | None) -> None:
        if listing is None:
            said = "not tried: without its symbol table there is nothing to ask for"
            self._tell("stream", "held", said)
            return
        await self._attempt("stream", self._stream(listing))

    async def _ask(self, guess: Listing | None) -> Listing | None:
        """Check what goes by REST; return what there is to ask for."""
        listing = await self._attempt("symbols", self._choose()) or guess
        if listing is None:
            said = "not asked: without its symbol table there is nothing to ask for"
            self._tell("snapshot", "held", said)
        else:
            await self._attempt("snapshot", self._snapshot(listing))
        if self._answer is not None:
            self._usage(self._answer)
            self._clock(self._answer)
        return listing

    async def _attempt(self, check: str, work: Awaitable[T]) -> T | None:
        """Do one check; None when it failed, or was not to be done now."""
        self._begin()
        try:
            return await work
        except LeftAlone as error:
            # It is one fault, however many checks it holds back.
            if self._refused:
                self._hold(check, f"it is left alone until {self._at(error.until_ms)}")
            else:
                self._wrong(check, error)
        except RateLimited as error:
            if error.status:
                self._wrong(check, error)
            else:
                now_ms = self._tools.clock.wall_ms()
                until_ms = now_ms + error.retry_after_ms
                self._hold(check, self._spent(error.scope, until_ms))
        except ExchangeError as error:
            self._wrong(check, error)
        return None

    def _wrong(self, check: str, error: ExchangeError) -> None:
        self._refused |= isinstance(error, RateLimited | Refused)
        advice = advise(self.name, error, streams=self._intake.adapter.streams)
        self._tell(check, "wrong", seen(self.name, error), advice)

    def _hold(self, check: str, reason: str) -> None:
        """Say why a check is not done now, and who does its work meanwhile."""
        said = self._lately.said(check, self._tools.clock.wall_ms())
        self._tell(check, "held", f"not asked: {reason}; {said}")

    def _at(self, at_ms: int) -> str:
        return written(at_ms, now_ms=self._tools.clock.wall_ms())

    def _spent(self, limit: str, until_ms: int) -> str:
        until = self._at(until_ms)
        return f"this deployment's budget ({limit}) spares nothing until {until}"

    def _begin(self) -> None:
        self._began_ms = self._tools.clock.monotonic_ms()

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

    async def _resolve(self) -> set[str]:
        """Find the addresses; return the ways that have one."""
        self._begin()
        urls = {"rest": self._intake.exchange.rest_url}
        if self._intake.adapter.streams:
            urls["stream"] = self._intake.exchange.ws_url
        found: dict[str, str] = {}
        failed: dict[str, ExchangeDown] = {}
        for way, url in urls.items():
            host = urlsplit(url).hostname or ""
            try:
                at = await self._address(host)
            except ExchangeDown as error:
                failed[way] = error
            else:
                found[way] = host if host == at else f"{host} is {at}"
        for cause in [*failed.values()][:1]:
            self._wrong("resolve", cause)
        if not failed:
            self._tell("resolve", "ok", ", ".join(dict.fromkeys(found.values())))
        return {*found}

    async def _address(self, host: str) -> str:
        loop = asyncio.get_running_loop()
        try:
            (*_, address), *_ = await loop.getaddrinfo(host, None)
        except (OSError, UnicodeError) as error:
            cause = plain_cause(error, timeout_ms=0)
            raise ExchangeDown(self.name, f"{host}: {cause}") from error
        return str(address[0])

    def _guess(self) -> Listing | None:
        """Return what may be asked for before the symbol table is read, if anything.

        What the store's copy of it has, or what a spelling alone tells.
        """
        known = _well_known(self._lately.symbols)
        if known is not None:
            return known
        spelled = (name.replace("-", mark) for name in _WELL_KNOWN for mark in "-/")
        read = (self._intake.adapter.listing_of(symbol) for symbol in spelled)
        return next((one for one in read if one is not None), None)

    async def _choose(self) -> Listing:
        """Read the symbol table, and choose what to ask for."""
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
        clock = self._tools.clock
        until_ms = clock.monotonic_ms() + _PATIENCE_MS
        while True:
            try:
                self._answer = await self._pull.fetch(request, priority=Priority.WARM)
            except RateLimited as limited:
                if clock.monotonic_ms() + limited.retry_after_ms > until_ms:
                    raise
                await asyncio.sleep(limited.retry_after_ms / 1000)
            else:
                return self._answer

    async def _snapshot(self, listing: Listing) -> None:
        adapter = self._intake.adapter
        (request, *_) = adapter.snapshot_requests([listing])
        answer = await self._fetch(request)
        prices = [one for one in adapter.read_snapshot(answer) if one.price]
        if not prices:
            raise ExchangeDown(self.name, f"no price of {listing.symbol} came back")
        shown = next((o for o in prices if o.symbol == listing.symbol), prices[0])
        self._tell("snapshot", "ok", f"{shown.symbol} at {shown.price}")

    def _usage(self, answer: Answer) -> None:
        """Say what the exchange counts of us."""
        self._begin()
        told = [
            f"{usage.limit}: {usage.used} used by its own count"
            for usage in self._intake.adapter.read_usage(answer)
            if usage.used is not None
        ]
        self._tell("usage", "ok", ", ".join(told) or "its answers do not tell")

    def _clock(self, answer: Answer) -> None:
        """Compare the exchange's clock with the store's."""
        self._begin()
        ahead_ms = clock_ahead_ms(answer)
        if ahead_ms is None:
            self._tell("clock", "note", "its answers carry no date")
        elif abs(ahead_ms) <= _SKEW_MAX_MS:
            self._tell("clock", "ok", "agrees with the store's")
        else:
            said = f"{ahead_ms / 1000:+.0f} s against the store's clock"
            advice = "set the clock of the store's machine (NTP)"
            self._tell("clock", "wrong", said, advice)

    def _budgets(self) -> None:
        """Say what the shared ledger holds."""
        self._begin()
        gauges = self._purse.gauges()
        said = [f"{one.limit} {one.used} of {one.most}" for one in gauges]
        self._tell("budget", "ok", ", ".join(said) or "nothing was asked")

    async def _stream(self, listing: Listing) -> None:
        heard, purse = Heard(), self._purse
        purse.held = purse.refusal = None
        wait_s = self._tools.wait_s
        async with self._streaming(heard, listing):
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await heard.first.wait()
        if heard.update is not None:
            price = heard.update.price or f"bid {heard.update.bid}"
            self._tell("stream", "ok", f"{heard.update.symbol} at {price}")
        elif purse.refusal is not None:
            self._wrong("stream", purse.refusal)
        elif purse.held is not None:
            held = purse.held
            reason = left_alone(held.reason, held.until_ms)
            spent = held.limit and self._spent(held.limit, held.until_ms)
            self._hold("stream", spent or f"it {reason}")
        else:
            said = heard.wrong or f"{heard.frames} frames in {wait_s:g} s, and no price"
            raise ExchangeDown(self.name, said)

    @asynccontextmanager
    async def _streaming(self, heard: Heard, listing: Listing) -> AsyncIterator[None]:
        intake, tools = self._intake, self._tools
        stream = Stream(
            intake.adapter,
            intake.exchange,
            tools.settings.ingest,
            self._purse,
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


def written(at_ms: int, *, now_ms: int) -> str:
    """Write an instant, rounded up to the second; its day, where that is not near."""
    at = datetime.fromtimestamp(-(-at_ms // 1000), UTC)
    day = "" if at_ms - now_ms < _DAY_MS else f"{at:%Y-%m-%d} "
    return f"{day}{at:%H:%M:%S} UTC"


def clock_ahead_ms(answer: Answer) -> int | None:
    """Return how far an exchange's clock is ahead of ours; None where it tells none.

    What comes from a cache is dated by the exchange when it made it, or by the cache
    when it sent it on: between the two nothing is wrong.
    """
    try:
        date = parsedate_to_datetime(answer.headers.get("date", ""))
    except (ValueError, TypeError):
        return None
    least_ms = int(date.timestamp() * 1000) - answer.received_ms
    most_ms = least_ms + answer.age_ms
    return least_ms if least_ms > 0 else min(most_ms, 0)


def _well_known(symbols: Symbols) -> Listing | None:
    found = (symbols.by_instrument.get(name) for name in _WELL_KNOWN)
    known = next((one for one in found if one is not None and one.active), None)
    return known or next((one for one in symbols if one.active), None)
