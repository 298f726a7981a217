"""The store wiped or rolled back in mid-run, and machines whose clocks are wrong."""

import asyncio

import pytest

from relay.clock import Clock
from relay.ingest.doubts import AHEAD, FUTURE
from tests.harness import eventually, until
from tests.simulation.rig import Rig, rigged, working

HOUR_MS = 3_600_000
LATE_MS = 20_000
STREAMING = ("binance", "coinbase", "kraken")
# One that each of them is first for, and that moves all the time.
BITCOINS = ("BTC-USDT", "BTC-USD", "BTC-EUR")


class WrongClock(Clock):
    """The clock of a machine that nobody has set."""

    def __init__(self, ahead_ms: int) -> None:
        super().__init__()
        self._ahead_ms += ahead_ms


async def _epoch(rig: Rig) -> int:
    return int((await rig.reader.read([])).head.epoch or "0", 36)


async def _all_stream(rig: Rig, terms: int = 1) -> None:
    """Wait until every connection stands: with a ledger lost, none can be made soon."""

    def opened(name: str) -> int:
        return rig.simulator.counts().exchanges[name].total.connections.opened

    await eventually(lambda: all(opened(name) >= terms for name in STREAMING))


async def _is_of_now(rig: Rig, name: str) -> None:
    """Insist that a value bears the store's time, whoever's clock is wrong."""
    ticker = await rig.ticker(name)
    assert ticker is not None
    for at_ms in (ticker.received_ms, ticker.event_ms, ticker.offset):
        assert abs(at_ms - rig.client.clock.wall_ms()) < LATE_MS


async def _goes_on(rig: Rig, epoch: int) -> None:
    """Insist on a new epoch, prices that move, one connection each and no breach."""

    async def begun() -> bool:
        return await _epoch(rig) > epoch

    await until(begun)
    await rig.shows("coinbase")
    rig.seen.clear()  # another epoch counts anew
    await rig.moves()
    assert rig.breaches() == {}
    exchanges = rig.simulator.counts().exchanges
    for name in STREAMING:
        assert exchanges[name].total.connections.opened == 1
    assert rig.wrong == []


@pytest.mark.timeout(60)
async def test_a_wiped_store_is_filled_again_and_nothing_is_overspent() -> None:
    """A new epoch, so that every cursor is reset; the ledger counts as spent."""
    async with rigged() as rig, working(rig):
        await rig.shows("coinbase")
        await _all_stream(rig)
        await rig.moves()
        epoch = await _epoch(rig)
        await rig.client.valkey.flushall()
        await _goes_on(rig, epoch)


@pytest.mark.faults
@pytest.mark.timeout(60)
async def test_an_older_copy_of_the_store_is_overtaken() -> None:
    """What clients have passed is never numbered again."""
    async with rigged() as rig, working(rig):
        await rig.shows("coinbase")
        await _all_stream(rig)
        epoch, copy = await _epoch(rig), await copied(rig)
        await rig.moves()
        await restored(rig, copy)
        await _goes_on(rig, epoch)


async def copied(rig: Rig) -> dict[bytes, bytes]:
    """Return everything of ours that the store holds."""
    valkey = rig.client.valkey
    names = await valkey.keys("relay:*")
    dumps = [await valkey.dump(name) for name in names]
    return {
        name: dump for name, dump in zip(names, dumps, strict=True) if dump is not None
    }


async def restored(rig: Rig, copy: dict[bytes, bytes]) -> None:
    """Have the store hold this, and nothing else."""
    async with rig.client.valkey.pipeline(transaction=True) as pipe:
        pipe.flushall()
        for name, dump in copy.items():
            pipe.restore(name, 0, dump)
        await pipe.execute()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "ahead_ms", [HOUR_MS, pytest.param(-HOUR_MS, marks=pytest.mark.faults)]
)
async def test_a_machine_an_hour_off_leads_as_well_as_any(ahead_ms: int) -> None:
    """And hands over to one that is right: nothing is stuck, nothing untimely."""
    async with rigged() as rig:
        for term, clock in enumerate((WrongClock(ahead_ms), Clock()), 1):
            async with working(rig, clock):
                await rig.shows("coinbase")
                await _all_stream(rig, term)
                for name in BITCOINS:
                    await rig.moves(name)
                    await _is_of_now(rig, name)
                sources = (await rig.health())["sources"]
                for name in STREAMING:
                    assert not {FUTURE, AHEAD} & sources[name]["drops"].keys()
        assert rig.breaches() == {}
        assert rig.wrong == []


@pytest.mark.faults
@pytest.mark.timeout(60)
async def test_a_restart_connects_and_reads_no_more_than_the_ledger_allows() -> None:
    """Five workers, one after the other: what they spent is remembered."""
    async with rigged() as rig:
        for _ in range(5):
            async with working(rig):
                await rig.shows("coinbase")
                await asyncio.sleep(0)
        assert rig.breaches() == {}
        total = rig.simulator.counts().exchanges["binance"].total
        assert total.requests.by_path.get("/api/v3/exchangeInfo", 0) <= 1
