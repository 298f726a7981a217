"""An exchange whose clock is wrong, and set right again, in a running worker."""

import pytest
from msgspec.structs import replace

from relay.config import Settings
from tests.simulation.rig import hurried, rigged, working


def streaming(settings: Settings) -> Settings:
    """Return settings under which Coinbase's stream is all that is heard of it."""
    settings = hurried(settings)
    coinbase = replace(settings.exchanges["coinbase"], snapshot_ms=0)
    return replace(settings, exchanges={**settings.exchanges, "coinbase": coinbase})


@pytest.mark.timeout(60)
async def test_a_clock_that_was_ahead_and_is_set_right_freezes_nothing() -> None:
    """For 50 seconds everything would be older than what is shown as live."""
    async with rigged(streaming) as rig, working(rig):
        await rig.shows("coinbase")
        rig.simulator.fault("coinbase", fault="clock", value=50_000)
        await rig.says("event time ahead of its receipt")
        await rig.moves()
        shown = await rig.ticker()
        rig.simulator.clear_faults()
        await rig.moves()
        now = await rig.ticker()
        assert shown is not None
        assert now is not None
        assert (now.source, now.stale) == ("coinbase", False)
        assert shown.event_ms <= now.event_ms <= now.received_ms + 5_000
        assert rig.wrong == []


@pytest.mark.faults
@pytest.mark.timeout(60)
async def test_a_source_an_hour_ahead_gives_way_and_returns() -> None:
    """Its heartbeats come, but nothing of it is believed."""
    async with rigged(streaming) as rig, working(rig):
        await rig.shows("coinbase")
        await rig.says('"kraken":.*"alive":true')
        rig.simulator.fault("coinbase", fault="clock", value=3_600_000)
        await rig.shows("kraken")
        await rig.says("event in the future")
        await rig.moves()
        rig.simulator.clear_faults()
        await rig.shows("coinbase")
        await rig.moves()
        assert rig.wrong == []
