"""What clients ask for, by the thousand: spread over what the limits allow."""

import pytest
from msgspec.structs import replace

from relay.config import Settings
from relay.model import Listing
from relay.simulator.settings import Settings as SimulatorSettings
from relay.store.tables import Tables
from tests.harness import until
from tests.simulation.rig import Rig, hurried, rigged, working

MANY = SimulatorSettings(instruments=2_300, updates_per_second=300, burst_every_ms=0)


def roomy(settings: Settings) -> Settings:
    """Return settings whose board takes as many instruments as there are."""
    settings = hurried(settings)
    return replace(settings, board=replace(settings.board, demand_max=5_000))


async def _listed(rig: Rig, most: int) -> list[str]:
    """Return what Binance alone lists, once its table is there."""
    names: list[str] = []

    async def listed() -> bool:
        symbols = await rig.reader.symbols()
        names[:] = [name for name, by in symbols.items() if by == ["binance"]]
        return len(names) >= most

    await until(listed)
    return sorted(names)[:most]


async def _burst(most: int, within_s: float) -> None:
    async with rigged(roomy, MANY) as rig, working(rig):
        await rig.shows("coinbase")
        wanted = await _listed(rig, most)
        assert await rig.reader.ask(wanted, most=5_000) == most

        async def shown() -> bool:
            rows = (await rig.reader.read(wanted)).tickers
            return sum(b'"price":' in row for row in rows.values()) == most

        await until(shown, within_s=within_s)
        await rig.moves()
        total = rig.simulator.counts().exchanges["binance"].total
        assert rig.breaches() == {}
        assert (total.connections.cut, total.connections.refused) == (0, 0)


@pytest.mark.faults
@pytest.mark.timeout(60)
async def test_a_burst_of_new_instruments_breaks_no_connection() -> None:
    """Within the limits on messages, on names in one, and on names in all."""
    await _burst(400, within_s=20)


@pytest.mark.faults
@pytest.mark.timeout(120)
async def test_two_thousand_at_once_break_none_either() -> None:
    """Over as many connections as their names need."""
    await _burst(2_000, within_s=60)


@pytest.mark.timeout(60)
async def test_a_name_that_is_refused_is_remembered_and_reported() -> None:
    """A table may be older than the exchange; its other names stream all the same."""
    async with rigged() as rig:
        listings = [
            Listing(symbol="BTC/USD", base="BTC", quote="USD"),
            Listing(symbol="FOO/USD", base="FOO", quote="USD"),
        ]
        now_ms = rig.client.clock.wall_ms()
        await Tables(rig.client).save_listings(
            "kraken", listings, now_ms=now_ms, life_ms=60_000
        )
        async with working(rig):
            await rig.shows("coinbase")
            assert await rig.reader.ask(["FOO-USD"], most=500) == 1
            await rig.says(r'"unsupported":\{"kraken":\{"FOO/USD":"[^"]')
            (line,) = (await rig.health())["streams"]["kraken"]
            assert (line["wanted"], line["subscribed"]) == (1, 1)
        kraken = rig.simulator.counts().exchanges["kraken"].total
        assert kraken.subscriptions.unknown == 1, "it was asked for once"
        assert rig.breaches() == {}
