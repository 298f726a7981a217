"""An hour of spending, with one instance and with fifty; the exchanges are the referee.

The relay's own counting code runs over a real Valkey; the clock is driven.
"""

import pytest

from relay.ingest.budget import Wait
from tests.simulation.driven import (
    Footprint,
    Hour,
    Instance,
    Script,
    World,
    open_world,
    print_table,
)

# Seeds that once failed are kept here: with 1, fifty opened 48 connections and one 45.
SEEDS = (1, *(pytest.param(seed, marks=pytest.mark.faults) for seed in range(2, 7)))


async def _hour(seed: int, instances: int, seconds: int) -> Footprint:
    async with open_world(seed) as world:
        return await Hour(world, instances, Script.of(seed, seconds)).run(seconds)


def _judge(rows: list[Footprint]) -> None:
    print_table(rows)
    for row in rows:
        assert (row.breaches, row.earned, row.bans) == (0, 0, 0)
        # Fifty cost what one costs.
        for name in ("requests", "weight", "attempts"):
            alone, together = getattr(rows[0], name), getattr(row, name)
            assert abs(together - alone) <= alone * 0.05, name


@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", SEEDS)
async def test_an_hour_costs_the_same_however_many_instances(seed: int) -> None:
    """Restarts, demand and counts that disagree: no breach, one footprint."""
    _judge([await _hour(seed, instances, 3_600) for instances in (1, 10, 50)])


@pytest.mark.timeout(60)
async def test_boards_that_compete_share_one_limit() -> None:
    """Each has a leader of its own; the exchanges see one address."""
    async with open_world(7) as world:
        boards = [Instance(world, f"board-{number}") for number in range(8)]
        await boards[0].ask_to_lead()
        await boards[0].work()
        await _closed(boards[:1])
        # What an empty store counts as spent is over by then.
        world.clock.advance(66_000)
        boards[0] = Instance(world, "board-0")
        for second in range(30):
            for board in boards:
                if second % 3 == 0:
                    assert await board.ask_to_lead()
                for name in ("binance", "coinbase", "kraken"):
                    board.demand(name, 40)
                await board.work()
            world.clock.advance(1_000)
        await _closed(boards)
        row = Footprint.of(world.simulator, len(boards), others=0)
        print_table([row])
        assert (row.breaches, row.earned, row.bans) == (0, 0, 0)
        weight = world.simulator.counts().exchanges["binance"].limits["weight_1m"]
        assert max(one.peak for one in weight.values()) > 300, "they did compete"


async def _closed(instances: list[Instance]) -> None:
    for instance in instances:
        await instance.close()


@pytest.mark.timeout(60)
async def test_who_lived_through_a_wipe_connects_again_at_once_within_the_spare() -> (
    None
):
    """Kraken's window is ten minutes: nobody waits that long for a price."""
    async with open_world(5) as world:
        leader, other = Instance(world, "spot"), Instance(world, "other")
        kraken, its = leader.open_source("kraken"), other.open_source("kraken")
        assert await leader.connect(kraken) is None
        world.clock.advance(661_000)
        for _ in range(40):
            assert await other.connect(its) is None
            world.clock.advance(10)
        spent = world.simulator.counts().exchanges["kraken"].total.connections.attempts
        await leader.client.valkey.flushall()
        for source, instance in ((kraken, leader), (its, other)):
            while await instance.connect(source) is None:
                world.clock.advance(10)
        total = world.simulator.counts().exchanges["kraken"].total
        assert total.connections.attempts - spent == 5
        assert (total.breaches_total, total.bans) == (0, 0)
        await _closed([leader, other])


@pytest.mark.timeout(60)
async def test_workers_that_restart_in_a_loop_get_nobody_banned() -> None:
    """Attempts are counted together and through restarts: Kraken allows 150."""
    async with open_world(3) as world:
        # The first find no ledger, and use the spare; ten minutes later all is there.
        attempts = await _restart_ten(world)
        world.clock.advance(660_000)
        for _ in range(45):
            attempts += await _restart_ten(world)
            world.clock.advance(10_000)
        kraken = world.simulator.counts().exchanges["kraken"]
        (limit,) = kraken.limits["attempts"].values()
        assert attempts == kraken.total.connections.attempts
        assert (kraken.total.breaches_total, kraken.total.bans) == (0, 0)
        assert 100 <= limit.peak <= 120, "as many as are allowed, and no more"


async def _restart_ten(world: World) -> int:
    """Start ten workers that connect and die; return how many got leave."""
    granted = 0
    for number in range(10):
        worker = Instance(world, f"loop-{number}")
        source = worker.open_source("kraken")
        granted += not isinstance(await worker.connect(source), Wait)
        await worker.close()
    return granted
