"""REST towards the exchanges: one request at a time, paid for before it is sent.

What to fetch and what an answer means is decided elsewhere (``plan``, the adapters).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import httpx
from msgspec.structs import replace

from relay import __version__
from relay.clock import Clock
from relay.config import Exchange, Ingest
from relay.errors import (
    ExchangeDown,
    ExchangeError,
    LeftAlone,
    RateLimited,
    Refused,
    Spent,
)
from relay.exchanges.adapter import Adapter, Answer, Request, Usage
from relay.ingest.breaker import Breaker
from relay.ingest.budget import Priority, Reservation, Wait
from relay.ingest.causes import plain_cause
from relay.ingest.purse import Purse
from relay.model import read_count

USER_AGENT: Final = f"price-relay/{__version__}"
"""Who we say we are: some exchanges refuse whoever does not."""

# Requests of all exchanges at once; budgets keep the true number far below.
_CONNECTIONS_MAX: Final = 32
# Idle connections are closed before the exchanges' edges do so (60 s and more), since
# one that is closed while a request is on its way costs the request.
_IDLE_S: Final = 30

# A request that we have given up may still arrive for so long: what had left by then.
_HUNG_UP_MS: Final = 5_000

# Errors before a connection stood: nothing can have been sent over it. The others
# here are ours, and mean so as long as the request has not begun to leave.
_UNSENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    TimeoutError,
    asyncio.CancelledError,
)


def open_client(ingest: Ingest) -> httpx.AsyncClient:
    """Return the client for all exchanges of one worker; whoever opens it closes it.

    It heeds nobody's environment but for the certificates' place (``SSL_CERT_FILE``):
    limits count by egress address, so no proxy may come between unseen.
    """
    return httpx.AsyncClient(
        headers={
            "user-agent": USER_AGENT,
            "accept": "application/json",
            "accept-encoding": "gzip",
        },
        timeout=ingest.request_timeout_ms / 1000,
        limits=httpx.Limits(max_connections=_CONNECTIONS_MAX, keepalive_expiry=_IDLE_S),
        verify=httpx.create_ssl_context(),
        trust_env=False,
        follow_redirects=False,
        http2=False,
    )


@dataclass
class _Flight:
    """One request under way, and how far it got."""

    request: Request
    sent_ms: int
    clock: Clock
    # Nothing leaves after this; whatever has is given up then.
    deadline_ms: int
    left: bool = False
    response: httpx.Response | None = None
    body: bytearray = field(default_factory=bytearray)

    async def trace(self, event: str, _: Mapping[str, object]) -> None:
        """Note the moment at which the first byte may have left.

        Raises:
            TimeoutError: it is too late for that, as after this process was stopped.
        """
        if event.endswith(".send_request_headers.started"):
            if self.clock.wall_ms() >= self.deadline_ms:
                raise TimeoutError
            self.left = True

    def answer(self, received_ms: int) -> Answer | None:
        """Return what has come back so far, None when nothing has."""
        if self.response is None:
            return None
        headers = {name.lower(): text for name, text in self.response.headers.items()}
        return Answer(
            request=self.request,
            status=self.response.status_code,
            headers=headers,
            body=bytes(self.body),
            sent_ms=self.sent_ms,
            received_ms=received_ms,
            age_ms=_age_ms(headers.get("age", "")),
        )


@dataclass(frozen=True)
class Pull:
    """One exchange's REST."""

    adapter: Adapter
    exchange: Exchange
    ingest: Ingest
    purse: Purse
    clock: Clock
    client: httpx.AsyncClient
    breaker: Breaker = field(default_factory=Breaker)

    async def fetch(self, request: Request, *, priority: Priority) -> Answer:
        """Fetch an answer that has nothing wrong with it.

        Cancelled before the request left, nothing is spent; after that it stays spent.

        Raises:
            RateLimited: the budget does not bear it, and nothing was sent; or the
                exchange wants to be left alone.
            ExchangeDown: the exchange cannot be reached, or its answer not be read; or
                it could not be for so often that it is left alone for a while.
            Refused: the exchange says no.
            StoreDown: the store cannot be reached, so nothing may be spent.
        """
        self._pass_breaker()
        try:
            answer = await self._fetch(request, priority)
        except ExchangeDown as error:
            self.breaker.failed(error.cause, self.clock.monotonic_ms())
            raise
        except BaseException as error:
            # Whoever says no has answered; without a status it was we who held back.
            if isinstance(error, ExchangeError) and error.status:
                self.breaker.passed()
            else:
                self.breaker.undone()
            raise
        self.breaker.passed()
        return answer

    def _pass_breaker(self) -> None:
        now_ms = self.clock.monotonic_ms()
        wait_ms = self.breaker.wait_ms(now_ms)
        if wait_ms:
            circuit = self.breaker.circuit(now_ms)
            cause = f"{circuit.cause} ({circuit.failures} times in a row)"
            raise ExchangeDown(self.adapter.name, cause)

    async def _fetch(self, request: Request, priority: Priority) -> Answer:
        """Reserve, send and settle."""
        reservation = await self._reserve(request, priority)
        timeout_ms = self.ingest.request_timeout_ms
        deadline_ms = reservation.sent_ms + timeout_ms
        flight = _Flight(request, self.clock.wall_ms(), self.clock, deadline_ms)
        try:
            answer = await self._send(flight)
        except BaseException as error:
            refusal = self._account(reservation, flight, error)
            if refusal is not None and isinstance(error, Exception):
                # Others are to know it before they ask; who was cancelled cannot wait.
                await self.purse.pay()
                raise refusal from error
            if not isinstance(error, httpx.HTTPError | OSError):
                raise
            cause = plain_cause(error, timeout_ms=timeout_ms)
            raise ExchangeDown(self.adapter.name, cause) from error
        failure = self._failure(answer)
        if failure is not None:
            # Before anything is waited for: who is cancelled meanwhile has heard it.
            self.purse.mind(failure, "rest")
        usages = self.adapter.read_usage(answer)
        now_ms = self.clock.wall_ms()
        await self.purse.settle(reservation, usages, now_ms=now_ms)
        if failure is not None:
            raise failure
        return answer

    async def _reserve(self, request: Request, priority: Priority) -> Reservation:
        flight_ms = self.ingest.request_timeout_ms + _HUNG_UP_MS
        outcome = await self.purse.reserve(
            request.costs, priority=priority, flight_ms=flight_ms
        )
        if isinstance(outcome, Wait):
            raise self._put_off(outcome)
        return outcome

    def _put_off(self, wait: Wait) -> RateLimited:
        name, until_ms = self.adapter.name, wait.until_ms
        wait_ms = max(until_ms - self.clock.wall_ms(), 1)
        if wait.limit:
            return Spent(name, wait.limit, wait_ms)
        return LeftAlone(name, wait.reason, until_ms=until_ms, retry_after_ms=wait_ms)

    async def _send(self, flight: _Flight) -> Answer:
        request = flight.request
        left_ms = flight.deadline_ms - self.clock.wall_ms()
        async with (
            asyncio.timeout(left_ms / 1000),
            self.client.stream(
                "GET",
                join(self.exchange.rest_url, request.path),
                params=request.query or None,
                headers=request.headers,
                extensions={"trace": flight.trace},
            ) as response,
        ):
            flight.response = response
            await self._read(response, flight.body)
        answer = flight.answer(self.clock.wall_ms())
        assert answer is not None, "there is a response"
        return answer

    async def _read(self, response: httpx.Response, body: bytearray) -> None:
        body_max = self.ingest.body_max
        async for part in response.aiter_bytes():
            body += part
            if len(body) > body_max:
                cause = f"the answer was larger than {body_max} bytes"
                raise ExchangeDown(self.adapter.name, cause)

    def _account(
        self, reservation: Reservation, flight: _Flight, error: BaseException
    ) -> ExchangeError | None:
        """Give back what was certainly not sent, settle what was answered in part.

        The rest stays as it was reserved: it may still arrive. Nothing here waits,
        since whoever was cancelled may not: it is written down with the next change.
        Returns what half an answer says already, where that is to stop.
        """
        answer = flight.answer(self.clock.wall_ms())
        if answer is None:
            if not flight.left and isinstance(error, _UNSENT):
                self.purse.owe(lambda one: one.cancel(reservation))
            return None
        usages = at_least(self.adapter.read_usage(answer), reservation.costs)
        now_ms = answer.received_ms
        self.purse.owe(lambda one: one.settle(reservation, usages, now_ms=now_ms))
        return self._heard_no(answer)

    def _heard_no(self, half: Answer) -> ExchangeError | None:
        """Heed half an answer whose status tells us to stop; None for any other."""
        refusal = self._failure(half) if httpx.codes.is_error(half.status) else None
        wrong = isinstance(refusal, Refused) and refusal.kind == "request"
        if wrong or not isinstance(refusal, RateLimited | Refused):
            return None
        self.purse.mind(refusal, "rest")
        return refusal

    def _failure(self, answer: Answer) -> ExchangeError | None:
        """Say what is wrong with an answer, None when nothing is."""
        if httpx.codes.is_redirect(answer.status):
            target = httpx.URL(answer.headers.get("location", "")).host or "itself"
            cause = f"HTTP {answer.status} sends us to {target}, which is not followed"
            return ExchangeDown(self.adapter.name, cause)
        failure = self.adapter.read_failure(answer)
        if failure is not None:
            failure.status = answer.status
        return failure


def join(url: str, path: str) -> str:
    """Put an exchange's path behind its configured address, which may have a path."""
    return url.rstrip("/") + path


def at_least(usages: Sequence[Usage], costs: Sequence[tuple[str, int]]) -> list[Usage]:
    """Raise what half an answer says it cost to what was reserved for a whole one."""
    reserved = dict(costs)
    return [
        usage
        if usage.cost is None
        else replace(usage, cost=max(usage.cost, reserved.get(usage.limit, 0)))
        for usage in usages
    ]


def _age_ms(text: str) -> int:
    """Read an ``Age`` header, seconds; what is none counts as fresh (RFC 9111, 5.1)."""
    return (read_count(text) or 0) * 1000
