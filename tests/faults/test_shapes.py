"""Other fleets: with clocks that jump, a cluster for a store, an edge before all."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import httpx
import pytest

from relay.clock import Clock
from relay.simulator.server import Simulator
from tests.edge.edges import program
from tests.faults import clocks, strikes
from tests.faults.endure import (
    FORGIVEN_S,
    FRESH_S,
    LEASED_S,
    Fault,
    Strike,
    endure,
)
from tests.faults.fleet import Fleet, Shape, open_fleet
from tests.faults.observers import PATIENCE_S
from tests.faults.strikes import jumped, store_jumped
from tests.faults.valkey import OwnValkey, free_port
from tests.harness import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

HOUR_S = 3600


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
        name="servers' clocks an hour behind, and back",
        strike=jumped(strikes.servers, -HOUR_S),
        hold_s=4,
    ),
    Fault(
        name="each clock up to two hours off, and back",
        strike=strikes.clocks_scattered,
        hold_s=4,
    ),
    Fault(
        name="store's clock a minute ahead, and back",
        strike=store_jumped(60),
        hold_s=6,
        # What was spent counts although its windows are over by that clock.
        within_s=FORGIVEN_S,
        fresh_s=FORGIVEN_S,
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


@pytest.mark.parametrize(
    ("name", "strike"),
    [
        ("lost", strikes.cluster_primary_lost),
        ("frozen, and back", strikes.cluster_primary_frozen),
    ],
)
async def test_nothing_is_lost_with_a_clusters_primary(
    tmp_path_factory: pytest.TempPathFactory, seed: int, name: str, strike: Strike
) -> None:
    """The replica lacks what was on its way: the leader has it."""
    folder = tmp_path_factory.mktemp("cluster")
    async with open_fleet(folder, seed, Shape(cluster=True)) as fleet:
        await endure(
            fleet,
            Fault(
                name=f"cluster's primary {name}",
                strike=strike,
                within_s=LEASED_S + 10,
                fresh_s=FRESH_S + 10,
            ),
        )


@pytest.fixture
def no_room() -> Iterator[int]:
    """Hold a descriptor that takes nothing, as a file on a disk that is full."""
    with Path("/dev/full").open("wb") as file:
        yield file.fileno()


async def test_a_disk_without_room_for_the_log_stops_nobody(
    tmp_path: Path, no_room: int
) -> None:
    """What cannot be written is lost; prices go on, over a store that goes as well."""
    valkey, port = OwnValkey(tmp_path / "valkey"), free_port()
    async with AsyncExitStack() as stack:
        await valkey.start()
        stack.push_async_callback(valkey.close)
        simulator = await stack.enter_async_context(Simulator())
        environ = {
            "RELAY_VALKEY_URL": f"valkey://127.0.0.1:{valkey.port}",
            "RELAY_SIM_URL": simulator.url,
        }
        for arguments in (("worker",), ("serve", "--port", f"{port}")):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "relay", *arguments),
                env=environ,
                stdout=no_room,
                stderr=no_room,
            )
            stack.push_async_callback(process.wait)
            stack.callback(process.kill)
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10)
        await stack.enter_async_context(client)
        shown: set[str] = set()

        async def moves() -> bool:
            with suppress(httpx.HTTPError):
                told = (await client.get("/v1/prices?symbols=BTC-USD")).json()
                if told.get("live") and "BTC-USD" in told["prices"]:
                    shown.add(told["prices"]["BTC-USD"]["price"])
            return len(shown) > 2

        await until(moves)
        await valkey.kill()
        await valkey.start()
        shown.clear()
        await until(moves, within_s=LEASED_S + FORGIVEN_S)


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
            Fault(
                name=f"{edge} / one server, dark",
                strike=strikes.parted(strikes.server, "front"),
                hold_s=4,
                # What the network held back is shown with its age.
                fresh_s=FRESH_S + PATIENCE_S,
            ),
            Fault(
                name=f"{edge} / servers, refused",
                strike=strikes.refused(strikes.servers, "front"),
                hold_s=4,
                fresh_s=FRESH_S + PATIENCE_S,
            ),
        ):
            await fleet.mend()
            await endure(fleet, fault)
