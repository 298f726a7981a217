"""Two workers, two servers, one store: one footprint upstream, a leader that dies."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from relay.simulator.server import Simulator
from relay.store.keys import Keys
from tests.harness import eventually
from tests.simulation.processes import Process, Watcher, relay

SYMBOLS = "BTC-USD,ETH-USD,BTC-USDT,ETH-USDT,XMR-USD"
STREAMING = ("binance", "coinbase", "kraken")
# The lease, the time that the design allows besides, and a slow machine's share.
HANDOVER_S = 10 + 2 + 8
SOON_S = 30


@dataclass
class Fleet:
    """Everything that runs."""

    simulator: Simulator
    workers: list[Process]
    urls: list[str]

    async def leader(self) -> tuple[Process, Process]:
        """Return the worker that leads, and the one that waits."""
        async with asyncio.timeout(SOON_S):
            while True:
                for leading, waiting in (self.workers, self.workers[::-1]):
                    if any("leading with token" in line for line in leading.said):
                        return leading, waiting
                await asyncio.sleep(0.05)

    def open_connections(self) -> dict[str, int]:
        """Return how many connections each streaming exchange sees."""
        exchanges = self.simulator.counts().exchanges
        return {name: exchanges[name].total.connections.open for name in STREAMING}


@pytest.fixture
async def fleet(valkey_url: str, keys: Keys) -> AsyncIterator[Fleet]:
    """Run two of each over one store and one simulator."""
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(Simulator())
        environ = {
            "RELAY_VALKEY_URL": valkey_url,
            "RELAY_BOARD": keys.board,
            "RELAY_SIM_URL": simulator.url,
        }
        workers = [
            await stack.enter_async_context(relay("worker", **environ))
            for _ in range(2)
        ]
        servers = [
            await stack.enter_async_context(relay("serve", "--port", "0", **environ))
            for _ in range(2)
        ]
        said = [await one.says(r"relay at (\S+)", within_s=SOON_S) for one in servers]
        yield Fleet(simulator, workers, [match[1] for match in said])


@asynccontextmanager
async def watched(fleet: Fleet) -> AsyncIterator[list[Watcher]]:
    """Let a client watch each server for ever."""
    watchers = [Watcher(url, SYMBOLS) for url in fleet.urls]
    async with asyncio.TaskGroup() as tasks:
        watching = [tasks.create_task(one.watch()) for one in watchers]
        yield watchers
        for task in watching:
            task.cancel()


async def _until_everything_is_held(fleet: Fleet) -> None:
    async with httpx.AsyncClient(timeout=30) as client, asyncio.timeout(SOON_S):
        for url in fleet.urls:
            while True:
                answer = await client.get(f"{url}/v1/prices?symbols={SYMBOLS}")
                if answer.status_code == 200 and not answer.json()["missing"]:
                    break
                await asyncio.sleep(0.1)


async def _until_news(watchers: list[Watcher], within_s: float) -> None:
    """Wait until every watcher has been told of three more changes, live."""
    goals = [(watcher, watcher.news + 3) for watcher in watchers]
    await eventually(
        lambda: all(one.live and one.news >= goal for one, goal in goals),
        within_s=within_s,
    )


@pytest.mark.timeout(120)
async def test_a_killed_leader_is_replaced_and_no_client_notices(fleet: Fleet) -> None:
    """One connection set before and after; no error, no step backwards."""
    leading, waiting = await fleet.leader()
    await _until_everything_is_held(fleet)
    async with watched(fleet) as watchers:
        await _until_news(watchers, SOON_S)
        # Kraken's table comes a second later: over an empty ledger, the current second
        # counts as spent.
        await eventually(
            lambda: set(fleet.open_connections().values()) == {1}, within_s=SOON_S
        )
        leading.send(signal.SIGKILL)
        await waiting.says("leading with token", within_s=HANDOVER_S)
        await _until_news(watchers, SOON_S)
        assert set(fleet.open_connections().values()) == {1}
    assert [watcher.wrong for watcher in watchers] == [[], []]
    assert not any(
        one.total.breaches_total for one in fleet.simulator.counts().exchanges.values()
    )


@pytest.mark.timeout(120)
async def test_a_leader_that_ends_in_order_is_replaced_at_once(fleet: Fleet) -> None:
    """It gives the lease back, so nobody waits for it to run out."""
    leading, waiting = await fleet.leader()
    await _until_everything_is_held(fleet)
    leading.send(signal.SIGTERM)
    assert await leading.ended(within_s=10) == 0
    await waiting.says("leading with token", within_s=5)
