"""Other fleets: with clocks that jump, a cluster for a store, an edge before all."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.clock import Clock
from tests.edge.edges import program
from tests.faults import clocks, strikes
from tests.faults.endure import FRESH_S, LEASED_S, Fault, endure
from tests.faults.fleet import Fleet, Shape, open_fleet
from tests.faults.observers import PATIENCE_S
from tests.faults.strikes import jumped, store_jumped

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

HOUR_S = 3600
# The store's clock is read each two seconds here; by then every lease is new.
CLOCK_S = 25.0


@pytest.fixture(scope="module")
async def wrong(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> AsyncIterator[Fleet]:
    """Run a fleet whose machines' clocks can be set."""
    clocks.faketime()
    folder = tmp_path_factory.mktemp("clocks")
    async with open_fleet(folder, seed, Shape(clocks=True)) as fleet:
        yield fleet


CLOCKS = [
    Fault(
        name="leader's clock an hour ahead, and back",
        strike=jumped(strikes.leader, HOUR_S),
        hold_s=4,
    ),
    Fault(
        name="leader's clock an hour behind, and back",
        strike=jumped(strikes.leader, -HOUR_S),
        hold_s=4,
    ),
    Fault(
        name="servers' clocks an hour ahead, and back",
        strike=jumped(strikes.servers, HOUR_S),
        hold_s=4,
    ),
    Fault(
        name="store's clock a minute ahead, and back",
        strike=store_jumped(60),
        hold_s=6,
        within_s=CLOCK_S,
        fresh_s=FRESH_S + CLOCK_S,
    ),
]


async def test_a_process_believes_the_clock_that_it_was_given(tmp_path: Path) -> None:
    """Else nothing would jump, and all would be well."""
    clock = clocks.WrongClock(tmp_path / "clock")
    clock.set(HOUR_S)
    read = "import time; print(time.time(), time.monotonic())"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", read), env=clock.environ, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()
    wall_s, steady_s = (float(one) for one in told.split())
    right = Clock()
    assert wall_s - right.wall_ms() / 1000 == pytest.approx(HOUR_S, abs=100)
    assert steady_s - right.monotonic_ms() / 1000 == pytest.approx(0, abs=100)


@pytest.mark.parametrize("fault", CLOCKS, ids=lambda fault: fault.name)
async def test_nothing_is_lost_when_a_clock_jumps(wrong: Fleet, fault: Fault) -> None:
    """Whose clock counts is the store's, and between two looks at it a steady one."""
    await wrong.mend()
    await endure(wrong, fault)


async def test_nothing_is_lost_with_a_clusters_primary(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """The replica lacks what was on its way: the leader has it."""
    folder = tmp_path_factory.mktemp("cluster")
    async with open_fleet(folder, seed, Shape(cluster=True)) as fleet:
        await endure(
            fleet,
            Fault(
                name="cluster's primary lost",
                strike=strikes.cluster_primary_lost,
                within_s=LEASED_S + 10,
                fresh_s=FRESH_S + 10,
            ),
        )


@pytest.mark.parametrize("edge", ["varnish", "nginx"])
async def test_nothing_is_lost_behind_an_edge(
    tmp_path_factory: pytest.TempPathFactory, seed: int, edge: str
) -> None:
    """What an edge still shows is never older than it says, and never newer again."""
    program("varnishd" if edge == "varnish" else edge)
    folder = tmp_path_factory.mktemp(edge)
    async with open_fleet(folder, seed, Shape(edge=edge)) as fleet:
        for fault in (
            Fault(
                name=f"server killed behind {edge}",
                strike=strikes.killed(strikes.server),
            ),
            Fault(
                name=f"both servers killed behind {edge}",
                strike=strikes.killed(strikes.servers),
                hold_s=5,
                # A client that is told nothing says so after its own patience.
                fresh_s=FRESH_S + PATIENCE_S,
            ),
            Fault(
                name=f"leader killed behind {edge}",
                strike=strikes.killed(strikes.leader),
            ),
        ):
            await fleet.mend()
            await endure(fleet, fault)
