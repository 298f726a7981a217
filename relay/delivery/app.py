"""The Litestar application: which routes there are, and what they are made of.

What each route answers stands in its own module, what an error means in ``faults``.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec
from litestar import Litestar, Request, Response
from litestar.types import ControllerRouterHandler, HTTPScope, Receive

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
from relay.delivery.bodies import Told
from relay.delivery.cors import Cors
from relay.delivery.demand import Demand
from relay.delivery.doors import TICKET, Doors
from relay.delivery.entrance import Entrance
from relay.delivery.faults import fault_of, headers_of, status_of
from relay.delivery.gate import Gate
from relay.delivery.newest import Newest
from relay.delivery.query import Names
from relay.delivery.quick import Quick, offer
from relay.delivery.status import Health, Status
from relay.delivery.symbols import SymbolTable
from relay.delivery.ticket import Office
from relay.delivery.value import Value
from relay.hub import Hub
from relay.store.client import Client
from relay.store.keys import Keys
from relay.store.reader import Reader

if TYPE_CHECKING:
    from relay.delivery.metrics import Metrics

log: Final = logging.getLogger(__name__)


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
        self.newest = Newest(self.reader, hub, clock)
        self.demand = Demand(
            self.reader, settings.http, settings.board, clock, self._read_epoch
        )
        self.prices = rest.Prices(self.newest, self.demand, self.names, settings.http)
        self.seen: Seen = Seen()
        self.since_ms = clock.monotonic_ms()
        self.older = compat_scene.Parts.of(settings, clock, hub, self)
        self._metrics: Metrics | None = None
        self.doors = Doors(settings.doors, clock)
        self.cors = Cors(settings.doors.origins, settings.doors.preflight_ms)
        self.gate = self._make_gate()

    def _read_epoch(self) -> str:
        return "" if self.hub is None else self.hub.board.epoch

    def app(self) -> Litestar:
        """Return the application that these parts make."""
        refused = Counter[str]() if self.hub is None else self.hub.counts.refused
        entrance = Entrance(self.doors, self.cors, self.gate, refused)
        app = Litestar(
            self.routes(),
            exception_handlers={Exception: self.answer_error},
            lifespan=[self.lifespan],
            middleware=[entrance.inside],
            # The description is ours, since most handlers are plain ASGI.
            openapi_config=None,
            logging_config=None,
        )
        app.asgi_handler = entrance.outside(app.asgi_handler)
        if self.hub is not None:
            offer(app, Quick(self.prices, self.demand, entrance, self.seen))
        return app

    def routes(self) -> list[ControllerRouterHandler]:
        """Return every handler; each method and path has exactly one."""
        http, seen = self.settings.http, self.seen
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
            *rest.routes(self.prices, recent, seen),
            *(route(path, READ, read, seen=seen) for path, read in reads.items()),
            route("/v1/value", (*READ, "POST"), value.answer, seen=seen),
            route(TICKET, ("POST",), Office(self.doors).answer, seen=seen),
            *compat_rest.routes(self.older, self.hub, seen),
            *page.routes(self.settings, seen),
            *self._held(),
        ]

    def _make_gate(self) -> Gate | None:
        """Return the gate that requests go through; a function's platform has one."""
        http = self.settings.http
        if self.hub is None or not (http.address_open_max or http.address_requests_max):
            return None
        return Gate(http, self.clock, self.hub.counts.refused)

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
