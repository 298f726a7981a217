"""A stream that is dead in part on a connection that lives: REST tells."""

from typing import Any

import pytest
from msgspec.structs import replace

from relay.config import Settings
from relay.simulator.settings import Settings as SimulatorSettings
from tests.harness import until
from tests.simulation.rig import NAME, Rig, hurried, rigged, working

STILL = SimulatorSettings(updates_per_second=0, burst_every_ms=0, lead_ms=3_600_000)


def probing(settings: Settings) -> Settings:
    """Return settings that compare Coinbase's stream with its REST every 1.5 s."""
    settings = hurried(settings, silent_after_ms=1_500)
    coinbase = replace(settings.exchanges["coinbase"], snapshot_ms=700)
    return replace(settings, exchanges={**settings.exchanges, "coinbase": coinbase})


async def _mute(rig: Rig) -> dict[str, Any]:
    found: dict[str, Any] = (await rig.health())["sources"]["coinbase"]["mute"]
    return found


async def _recovers(rig: Rig) -> None:
    async def recovered() -> bool:
        return not await _mute(rig)

    await until(recovered, within_s=30)
    await rig.shows("coinbase")
    await rig.moves()
    assert rig.breaches() == {}
    assert rig.wrong == []


def _opened(rig: Rig) -> int:
    return rig.simulator.counts().exchanges["coinbase"].total.connections.opened


@pytest.mark.timeout(90)
async def test_one_dead_instrument_is_found_and_subscribed_anew() -> None:
    """The others flow, and so do heartbeats: nothing else would ever notice."""
    async with rigged(probing) as rig, working(rig):
        await rig.shows("coinbase")
        rig.simulator.fault("coinbase", fault="silence", symbol=NAME, transport="ws")
        await rig.says(f'"mute":{{"{NAME}":1', within_s=30)
        await rig.says(f"its stream is silent: {NAME}; subscribing anew")
        # By REST, meanwhile.
        await rig.shows("coinbase")
        await rig.moves()
        assert list(await _mute(rig)) == [NAME]
        rig.simulator.clear_faults()
        await _recovers(rig)
        total = rig.simulator.counts().exchanges["coinbase"].total
        assert total.subscriptions.asked > total.subscriptions.open
        assert total.subscriptions.duplicate == 0, "it was left before"


@pytest.mark.faults
@pytest.mark.timeout(90)
async def test_where_only_heartbeats_flow_the_connection_is_replaced() -> None:
    """The new one is opened before the old one is left."""
    async with rigged(probing) as rig, working(rig):
        await rig.shows("coinbase")
        for listing in rig.simulator.exchanges["coinbase"].listing.symbols:
            rig.simulator.fault(
                "coinbase", fault="silence", symbol=listing, transport="ws"
            )
        await rig.says("replacing the connection", within_s=30)
        await rig.says('"shown":')

        async def replaced() -> bool:
            return _opened(rig) > 1

        await until(replaced, within_s=30)
        rig.simulator.clear_faults()
        await _recovers(rig)


@pytest.mark.faults
@pytest.mark.timeout(90)
async def test_a_quiet_market_is_left_alone() -> None:
    """REST says what it said before: there was nothing for the stream to say."""
    async with rigged(probing, STILL) as rig, working(rig):
        await rig.shows("coinbase")
        counted = rig.simulator.counts

        async def read_often() -> bool:
            paths = counted().exchanges["coinbase"].total.requests.by_path
            return max(paths.values(), default=0) >= 15

        await until(read_often, within_s=60)
        assert await _mute(rig) == {}
        assert _opened(rig) == 1
