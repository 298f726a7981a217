"""What is done again and again, and who rings for it.

APScheduler rings in a worker, a plain loop in a tick, which lives too briefly for a
scheduler. The bell is all they do: the work waits in tasks of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final, Literal

Chore = Literal["snapshots", "demand", "recent", "markers", "clock"]
Bells = Mapping[Chore, asyncio.Event]
Intervals = Mapping[Chore, int]

# A bell that was not rung for so many intervals is rung all the same.
_MISSED: Final = 3


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
    ropes = {chore: _Rope(bell) for chore, bell in bells.items()}
    for chore, rope in ropes.items():
        scheduler.add_job(
            rope.pull,
            _every(intervals[chore]),
            id=chore,
            # A bell that could not be rung in time is rung once when it can be.
            misfire_grace_time=None,
        )
    scheduler.start()
    try:
        async with _in_background(
            _guard(rope, intervals[chore] / 1000, scheduler.get_job(chore))
            for chore, rope in ropes.items()
        ):
            yield
    finally:
        scheduler.shutdown(wait=False)


def _every(interval_ms: int) -> Any:  # noqa: ANN401 - the library ships no types
    """Return a trigger that counts from now on, whatever was missed.

    The library's own would count through all that a clock which jumps has left out.
    """
    from apscheduler.triggers.base import (  # noqa: PLC0415 - as above
        BaseTrigger,
    )

    class Every(BaseTrigger):  # type: ignore[misc] # the library ships no types
        def get_next_fire_time(self, _: datetime | None, now: datetime) -> datetime:
            return now + timedelta(milliseconds=interval_ms)

    return Every()


class _Rope:
    """What the scheduler pulls to ring a bell; ``pulls`` counts."""

    def __init__(self, bell: asyncio.Event) -> None:
        self._bell, self.pulls = bell, 0

    async def pull(self) -> None:
        """Ring; a coroutine, since the scheduler calls plain functions in a thread."""
        self.pulls += 1
        self._bell.set()


async def _guard(rope: _Rope, interval_s: float, job: Any) -> None:  # noqa: ANN401 - as above
    """Have a bell rung on when nothing is: the scheduler goes by the machine's clock.

    When that is set back, the next ring is as far away as that.
    """
    while True:
        before = rope.pulls
        await asyncio.sleep(interval_s * _MISSED)
        if rope.pulls == before:
            job.reschedule(job.trigger)
            await rope.pull()


@asynccontextmanager
async def looped(bells: Bells, intervals: Intervals) -> AsyncIterator[None]:
    """Do the same without a scheduler."""
    async with _in_background(
        _ring_every(bell, intervals[chore] / 1000) for chore, bell in bells.items()
    ):
        yield


@asynccontextmanager
async def _in_background(
    works: Iterable[Coroutine[Any, Any, None]],
) -> AsyncIterator[None]:
    """Work on these while the context lasts."""
    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(work) for work in works]
        try:
            yield
        finally:
            for task in working:
                task.cancel()


async def _ring_every(bell: asyncio.Event, interval_s: float) -> None:
    while True:
        await asyncio.sleep(interval_s)
        bell.set()
