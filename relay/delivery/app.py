"""The Litestar application: which routes there are, and what an error means.

What each route answers stands in its own module. Two tables are here: the routes, and
the status of every error; nobody else makes an error into an answer.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec
from litestar import Litestar, Request, Response
from litestar.exceptions import (
    ClientException,
    MethodNotAllowedException,
    NotFoundException,
)
from litestar.types import ASGIApp, ControllerRouterHandler, HTTPScope, Receive
from msgspec import Struct

from relay.clock import Clock
from relay.config import Settings
from relay.delivery import (
    compat_rest,
    compat_scene,
    compat_sse,
    compat_ws,
    page,
    poll,
    rest,
    sse,
    visit,
    ws,
)
from relay.delivery.answer import READ, Answer, Seen, route
from relay.delivery.contract import Fault, Told
from relay.delivery.demand import Demand
from relay.delivery.gate import Gate, TooMany
from relay.delivery.newest import Newest
from relay.delivery.query import Names
from relay.delivery.status import Health, Status
from relay.delivery.symbols import SymbolTable
from relay.delivery.value import Value
from relay.errors import RequestError, StoreDown
from relay.hub import Hub, Unready
from relay.store.client import Client
from relay.store.keys import Keys
from relay.store.reader import Reader

if TYPE_CHECKING:
    from relay.delivery.metrics import Metrics

log: Final = logging.getLogger(__name__)


class Rule(Struct, frozen=True):
    """How an error is answered. Without a sentence the error brings its own words."""

    status: int
    code: str = ""
    sentence: str = ""
    hint: str = ""


# Errors of ours and of the router. The class nearest to the error's own counts.
RULES: Final[dict[type[Exception], Rule]] = {
    RequestError: Rule(400),
    Unready: Rule(
        503, hint="Ask another instance, or this one again after Retry-After seconds."
    ),
    TooMany: Rule(429, hint="Ask less often, or again after Retry-After seconds."),
    StoreDown: Rule(
        503,
        "store_down",
        "The store cannot be reached, and nothing is held here.",
        "Ask again after Retry-After seconds.",
    ),
    NotFoundException: Rule(
        404, "not_found", "There is nothing at this address.", "See /docs."
    ),
    MethodNotAllowedException: Rule(
        405,
        "method_not_allowed",
        "This address does not take this method.",
        "The Allow header says which it takes.",
    ),
    ClientException: Rule(
        400, "request_invalid", "The request cannot be read.", "See /docs."
    ),
    Exception: Rule(
        500, "internal", "Something went wrong here.", "Ask again in a moment."
    ),
}
# The codes of a RequestError that have a status of their own.
STATUS_OF_CODE: Final = {
    "body_too_large": 413,
    "forbidden": 403,
    "price_unknown": 404,
    "media_type": 415,
    "upgrade_required": 426,
}
# When a client may ask again after the store could not be reached.
_RETRY_AFTER_S: Final = 1
_OURS: Final = 500
_CANCEL_AGAIN_S: Final = 0.05


def create_app(
    *, settings: Settings, clock: Clock, client: Client, hub: Hub | None
) -> Litestar:
    """Return the application.

    Without a hub it answers reads and polls only, each from the store: what a function
    needs.
    """
    return Parts(settings=settings, clock=clock, client=client, hub=hub).app()


class Parts:
    """What one application is made of."""

    def __init__(
        self, *, settings: Settings, clock: Clock, client: Client, hub: Hub | None
    ) -> None:
        self.settings, self.clock, self.hub = settings, clock, hub
        self.reader = Reader(client, Keys(settings.board.name))
        self.names = Names(settings.board)
        self.newest = Newest(self.reader, hub)
        self.demand = Demand(self.reader, settings.http, settings.board, clock)
        self.seen: Seen = Seen()
        self.since_ms = clock.monotonic_ms()
        self.older = compat_scene.Parts.of(settings, clock, hub, self)
        self._metrics: Metrics | None = None

    def app(self) -> Litestar:
        """Return the application that these parts make."""
        return Litestar(
            self.routes(),
            exception_handlers={Exception: self.answer_error},
            lifespan=[self.lifespan],
            middleware=self._gates(),
            # The description is ours, since most handlers are plain ASGI.
            openapi_config=None,
            logging_config=None,
        )

    def routes(self) -> list[ControllerRouterHandler]:
        """Return every handler; each method and path has exactly one."""
        http, seen = self.settings.http, self.seen
        prices = rest.Prices(self.newest, self.demand, self.names, http)
        recent = rest.Recent(self.reader, self.names)
        symbols = SymbolTable(self.reader, self.names, self.settings.board, self.clock)
        value = Value(self.newest, self.demand, self.names, http)
        health = Health(self.reader, self.hub)
        status = Status(self.reader, self.hub, self.settings.board.name, self.clock)
        reads = {
            "/v1/symbols": symbols.answer,
            "/healthz": health.alive,
            "/readyz": health.ready,
            "/v1/status": status.answer,
            "/metrics": self.answer_metrics,
        }
        return [
            *rest.routes(prices, recent, seen),
            *(route(path, READ, read, seen=seen) for path, read in reads.items()),
            route("/v1/value", (*READ, "POST"), value.answer, seen=seen),
            *compat_rest.routes(self.older, self.hub, seen),
            *page.routes(seen),
            *self._held(),
        ]

    def _gates(self) -> list[Callable[[ASGIApp], ASGIApp]]:
        """Return what requests go through; a function's platform has a gate before."""
        http = self.settings.http
        if self.hub is None or not (http.address_open_max or http.address_requests_max):
            return []
        gate = Gate(http, self.clock, self.hub.counts.refused)
        return [gate.wrap]

    def _held(self) -> list[ControllerRouterHandler]:
        """Return the ways out that hold a client; all but polls need a hub."""
        if self.hub is None:
            looks = self.newest, self.names, self.demand, self.clock, self.settings
            return [visit.route(visit.Visit(*looks), seen=self.seen)]
        parts = self.hub, self.names, self.settings.http
        demand, seen = self.demand, self.seen
        return [
            poll.route(*parts, demand=demand, seen=seen),
            sse.route(*parts, demand=demand, seen=seen),
            ws.route(*parts, demand=demand, seen=seen),
            compat_sse.route(self.hub, self.older, seen),
            *compat_ws.routes(self.hub, self.older, seen),
        ]

    async def answer_metrics(self, scope: HTTPScope, receive: Receive) -> Answer:
        """Answer ``/metrics``.

        Raises:
            RequestError: there are parameters.
        """
        if self._metrics is None:
            # A function is not scraped, and would pay for this at each cold start.
            from relay.delivery.metrics import Metrics  # noqa: PLC0415 - see above

            self._metrics = Metrics(self.hub, self.seen, self.clock, self.since_ms)
        return await self._metrics.answer(scope, receive)

    @asynccontextmanager
    async def lifespan(self, _app: Litestar) -> AsyncIterator[None]:
        """Run what runs beside the requests: the hub, and the notes of demand."""
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self.demand.run())]
            if self.hub is not None:
                running.append(tasks.create_task(self.hub.run()))
                running.append(tasks.create_task(self.older.meter.run()))
            try:
                yield
            finally:
                await _end(running)

    def answer_error(
        self, request: Request[Any, Any, Any], error: Exception
    ) -> Response[bytes]:
        """Make an error into an answer: the only place that does."""
        status = status_of(error)
        if status == _OURS:
            log.error("%s %s", request.method, request.url.path, exc_info=error)
        place = request.scope.get("path_template", "")
        self.seen[(place, status)] += 1
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
        headers |= headers_of(error)
        body = msgspec.json.encode(Told(fault_of(error)))
        return Response(
            body, status_code=status, headers=headers, media_type="application/json"
        )


async def _end(running: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended.

    Once is not enough: the store's client library may swallow a cancellation while it
    connects.
    """
    pending = set(running)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)


def rule_of(error: Exception) -> Rule:
    """Return how an error is answered."""
    return next(RULES[kind] for kind in type(error).__mro__ if kind in RULES)


def status_of(error: Exception) -> int:
    """Return the status that an error is answered with."""
    status = rule_of(error).status
    if isinstance(error, RequestError):
        return STATUS_OF_CODE.get(error.code, status)
    return status


def fault_of(error: Exception) -> Fault:
    """Return what the client is told; of our own failures only that they are ours."""
    rule = rule_of(error)
    match error:
        case RequestError():
            return Fault(error.code, error.reason, error.hint)
        case Unready() | TooMany():
            return Fault(error.code, error.reason, rule.hint)
    return Fault(rule.code, rule.sentence, rule.hint)


def headers_of(error: Exception) -> dict[str, str]:
    """Return the headers that go with an error."""
    match error:
        case StoreDown():
            return {"retry-after": str(_RETRY_AFTER_S)}
        case Unready() | TooMany():
            return {"retry-after": str(error.retry_after_s)}
        case RequestError(code="upgrade_required"):
            return {"upgrade": "websocket", "connection": "upgrade"}
        case MethodNotAllowedException():
            allow = (error.headers or {}).get("allow", "").split(", ")
            # The router counts the opening of a WebSocket among the methods.
            return {"allow": ", ".join(one for one in allow if one.isupper())}
    return {}
