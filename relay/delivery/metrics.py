"""``/metrics``: this instance's numbers for Prometheus.

The same for people stands in ``status``. Nothing is counted here: what others count is
read when somebody asks.
"""

import asyncio
from collections.abc import Iterator

from litestar.types import HTTPScope, Receive
from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from relay import __version__
from relay.clock import Clock
from relay.delivery.answer import NO_STORE, NOSNIFF, Answer, Seen
from relay.delivery.query import read_query
from relay.delivery.status import BoardCount, is_ready, mark_age_ms
from relay.hub import Hub


class Metrics(Collector):
    """Answers ``/metrics`` from a registry of its own."""

    def __init__(
        self, hub: Hub | None, seen: Seen, clock: Clock, since_ms: int
    ) -> None:
        self._hub, self._seen = hub, seen
        self._clock, self._since_ms = clock, since_ms
        self._registry = CollectorRegistry()
        self._registry.register(self)

    async def answer(self, scope: HTTPScope, _receive: Receive) -> Answer:
        """Answer one scrape.

        Raises:
            RequestError: there are parameters.
        """
        read_query(scope["query_string"], ())
        kind = CONTENT_TYPE_PLAIN_0_0_4.encode()
        body = generate_latest(self._registry)
        return Answer(200, [(b"content-type", kind), NOSNIFF, NO_STORE], body)

    def collect(self) -> Iterator[Metric]:
        """Yield every number as it is now."""
        uptime_s = (self._clock.monotonic_ms() - self._since_ms) / 1000
        yield _gauge("uptime_seconds", "Since the application was made.", uptime_s)
        tasks = len(asyncio.all_tasks())
        yield _gauge("tasks", "Tasks of the event loop; a stream needs none.", tasks)
        build = GaugeMetricFamily("relay_build", "The version.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        answers = CounterMetricFamily(
            "relay_answers", "Answers by route and status.", labels=["route", "status"]
        )
        for (route, status), count in sorted(self._seen.items()):
            answers.add_metric([route, str(status)], count)
        yield answers
        if self._hub is not None:
            yield from _board(self._hub)
            yield from _clients(self._hub)


def _board(hub: Hub) -> Iterator[Metric]:
    count = BoardCount.of(hub.board)
    yield _gauge("ready", "1 while the instance can serve.", is_ready(hub))
    yield _gauge("live", "1 while marks are heard.", hub.live)
    yield _gauge("board_offset", "The newest offset held.", hub.board.offset)
    yield _gauge("board_instruments", "Instruments held.", count.instruments)
    if hub.mark:
        age_s = mark_age_ms(hub) / 1000
        yield _gauge("mark_age_seconds", "Since the newest mark.", age_s)
    yield _gauge("board_stale", "Instruments without a living source.", count.stale)


def _clients(hub: Hub) -> Iterator[Metric]:
    counts = hub.counts
    clients = GaugeMetricFamily("relay_clients", "Clients held.", labels=["way"])
    for way, count in sorted(counts.clients.items()):
        clients.add_metric([way], count)
    yield clients
    yield _gauge("stalled", "Clients that take nothing at the moment.", counts.stalled)
    yield _counter("encoded", "Frames encoded.", counts.encoded)
    yield _counter("conflated", "Changes that a newer one replaced.", counts.conflated)
    labelled = (
        ("deliveries", "Frames handed to clients.", "way", counts.deliveries),
        ("cut_off", "Clients cut off.", "reason", counts.cut_off),
        ("refused", "Requests refused by a limit.", "reason", counts.refused),
        ("refreshes", "Times the board was read anew.", "reason", counts.refreshes),
    )
    for name, means, label, by_label in labelled:
        counter = CounterMetricFamily(f"relay_{name}", means, labels=[label])
        for value, count in sorted(by_label.items()):
            counter.add_metric([value], count)
        yield counter


def _counter(name: str, means: str, value: float) -> Metric:
    return CounterMetricFamily(f"relay_{name}", means, value=value)


def _gauge(name: str, means: str, value: float) -> Metric:
    return GaugeMetricFamily(f"relay_{name}", means, value=value)
