"""What is done again and again, and who rings for it.

APScheduler rings in a worker, a plain loop in a tick, which lives too briefly for a
scheduler. The bell is all they do: the work waits in tasks of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Literal

Chore = Literal["snapshots", "demand", "recent", "markers", "clock"]
Bells = Mapping[Chore, asyncio.Event]
Intervals = Mapping[Chore, int]


def bells(intervals: Intervals) -> dict[Chore, asyncio.Event]:
    """Make a bell for each chore, all of them rung once to begin with."""
    made = {chore: asyncio.Event() for chore in intervals}
    for bell in made.values():
        bell.set()
    return made


@asynccontextmanager
async def scheduled(bells: Bells, intervals: Intervals) -> AsyncIterator[None]:
    """Ring each bell at its interval, in milliseconds, while the context lasts."""
    # Workers alone have one: a function would pay for it at each cold start.
    from apscheduler.schedulers.asyncio import (  # noqa: PLC0415 - see above
        AsyncIOScheduler,
    )

    scheduler = AsyncIOScheduler(timezone="UTC")
    for chore, bell in bells.items():
        scheduler.add_job(
            _ring,
            "interval",
            args=[bell],
            seconds=intervals[chore] / 1000,
            # A bell that could not be rung in time is rung once when it can be.
            coalesce=True,
            misfire_grace_time=None,
        )
    scheduler.start()
    try:
        yield
    finally:
        scheduler.shutdown(wait=False)


async def _ring(bell: asyncio.Event) -> None:
    """Ring; a coroutine, since the scheduler calls plain functions in a thread."""
    bell.set()


@asynccontextmanager
async def looped(bells: Bells, intervals: Intervals) -> AsyncIterator[None]:
    """Do the same without a scheduler."""
    async with asyncio.TaskGroup() as tasks:
        ringing = [
            tasks.create_task(_ring_every(bell, intervals[chore] / 1000))
            for chore, bell in bells.items()
        ]
        try:
            yield
        finally:
            for task in ringing:
                task.cancel()


async def _ring_every(bell: asyncio.Event, interval_s: float) -> None:
    while True:
        await asyncio.sleep(interval_s)
        bell.set()
