"""One tick for each event of the schedule, ended before the platform ends it.

What a tick does stands in ``relay.ingest``. An event too many, too late or out of order
finds the lease taken or its own time long past, and does nothing.
"""

import asyncio
import gc
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from functions.settings import read
from relay.clock import Clock
from relay.config import Settings, require_store
from relay.ingest.worker import open_worker
from relay.store.client import connect

_settings: Final = read()
require_store(_settings)
gc.enable()

# The next event comes a minute after this one.
_TICK_MS: Final = 55_000
# What the platform is to have left when we stop: last words take 2 s at most.
_MARGIN_MS: Final = 3_000
# Queued, retried or delayed for longer than this, an event is none any more.
_EVENT_AGE_MAX_MS: Final = 60_000


class Event(Struct):
    """What the schedule sends; ``time`` is when it meant to."""

    time: datetime | None = None


class Context(Protocol):
    """What the platform says of one invocation."""

    def get_remaining_time_in_millis(self) -> int:
        """Return how long until it is ended by force."""


def handler(event: dict[str, Any], context: Context) -> dict[str, object]:
    """Tick once; returns what became of it: ``led``, ``busy``, ``stale`` or ``late``.

    Raises:
        StoreDown: the store cannot be reached.
        ValidationError: the event's time is none.
    """
    meant = msgspec.convert(event, Event).time
    return {"tick": asyncio.run(_tick(_settings, meant, context))}


async def _tick(settings: Settings, meant: datetime | None, context: Context) -> str:
    clock = Clock()
    async with connect(settings.store, clock) as client:
        if meant is not None and _age_ms(meant, clock) > _EVENT_AGE_MAX_MS:
            return "stale"
        async with open_worker(settings, clock, client) as worker:
            left_ms = context.get_remaining_time_in_millis() - _MARGIN_MS
            if left_ms <= 0:
                return "late"
            led = await worker.tick(min(left_ms, _TICK_MS) / 1000)
    return "led" if led else "busy"


def _age_ms(meant: datetime, clock: Clock) -> int:
    return clock.wall_ms() - int(meant.timestamp() * 1000)
