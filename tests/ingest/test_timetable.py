"""Who rings the bells: a scheduler in a worker, a plain loop in a tick."""

import asyncio

import pytest

from relay.ingest.term import Ringing
from relay.ingest.timetable import Intervals, bells, looped, scheduled

INTERVALS: Intervals = {"demand": 20, "clock": 60_000}


def test_every_bell_is_rung_to_begin_with() -> None:
    """A leader that has just begun does everything once."""
    assert all(bell.is_set() for bell in bells(INTERVALS).values())


@pytest.mark.parametrize("ringing", [scheduled, looped])
async def test_each_bell_is_rung_at_its_interval(ringing: Ringing) -> None:
    """Again and again, and only its own."""
    made = bells(INTERVALS)
    made["clock"].clear()
    async with ringing(made, INTERVALS), asyncio.timeout(10):
        for _ in range(3):
            made["demand"].clear()
            await made["demand"].wait()
    assert not made["clock"].is_set()


@pytest.mark.parametrize("ringing", [scheduled, looped])
async def test_nothing_rings_after_the_end(ringing: Ringing) -> None:
    """A term that has ended leaves no timer behind."""
    made = bells(INTERVALS)
    before = asyncio.all_tasks()
    async with ringing(made, INTERVALS):
        pass
    assert asyncio.all_tasks() == before
