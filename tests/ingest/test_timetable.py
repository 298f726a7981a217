"""Who rings the bells: a scheduler in a worker, a plain loop in a tick."""

import asyncio
from datetime import datetime, timedelta, tzinfo
from typing import ClassVar, Self

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


class Wrong(datetime):
    """The machine's clock, which somebody sets."""

    ahead: ClassVar[timedelta] = timedelta(0)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        """Say a time that is ahead of the right one, or behind it."""
        return super().now(tz) + cls.ahead


@pytest.mark.parametrize("days", [-1 / 24, 1 / 24, 50 * 365, -50 * 365])
async def test_bells_are_rung_though_the_machines_clock_jumps(
    days: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A board without a clock begins in 1970; others are set right in mid-run.

    Back, nothing would be rung until then; ahead, all that was missed be counted first.
    """
    monkeypatch.setattr("apscheduler.schedulers.base.datetime", Wrong)
    monkeypatch.setattr(Wrong, "ahead", timedelta(0))
    made = bells(INTERVALS)
    async with scheduled(made, INTERVALS), asyncio.timeout(10):
        for ahead in (timedelta(0), timedelta(days), timedelta(0)):
            Wrong.ahead = ahead
            for _ in range(3):
                made["demand"].clear()
                await made["demand"].wait()
