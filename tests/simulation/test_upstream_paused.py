"""A leader that is stopped for twice its lease, and wakes up as nobody."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay.model import Batch
from relay.simulator.server import Simulator
from relay.store.client import Client
from relay.store.keys import Keys
from relay.store.reader import Reader
from tests.harness import eventually
from tests.simulation.processes import Process, relay

LEASE_MS = 2_000
STREAMING = ("binance", "coinbase", "kraken")
CONFIG = f"[ingest]\nlease_ms = {LEASE_MS}\nlease_renew_ms = {LEASE_MS // 4}\n"


@dataclass
class Pair:
    """Two workers over one store, and whoever follows what they publish."""

    simulator: Simulator
    workers: list[Process]
    reader: Reader

    async def leader(self) -> tuple[Process, Process]:
        """Return the worker that leads, and the one that waits."""
        async with asyncio.timeout(20):
            while True:
                for leading, waiting in (self.workers, self.workers[::-1]):
                    if any("leading with token" in line for line in leading.said):
                        return leading, waiting
                await asyncio.sleep(0.05)

    def open_connections(self) -> set[int]:
        """Return how many connections the streaming exchanges see."""
        exchanges = self.simulator.counts().exchanges
        return {exchanges[name].total.connections.open for name in STREAMING}

    def attempts(self) -> dict[str, int]:
        """Return how often each of them was connected to, or tried."""
        exchanges = self.simulator.counts().exchanges
        return {name: exchanges[name].total.connections.attempts for name in STREAMING}


@pytest.fixture
async def pair(
    valkey_url: str, keys: Keys, client: Client, tmp_path: Path
) -> AsyncIterator[Pair]:
    """Run two workers whose lease is short."""
    config = tmp_path / "short.toml"
    config.write_text(CONFIG)
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(Simulator())
        environ = {
            "RELAY_VALKEY_URL": valkey_url,
            "RELAY_BOARD": keys.board,
            "RELAY_SIM_URL": simulator.url,
        }
        workers = [
            await stack.enter_async_context(
                relay("worker", "--config", str(config), **environ)
            )
            for _ in range(2)
        ]
        yield Pair(simulator, workers, Reader(client, keys))


class Scribe:
    """Follows the log, and notes whose token stands in the head after each entry."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.tokens: list[int] = []
        self.offsets: list[int] = []

    async def follow(self) -> None:
        """Follow for ever."""
        async with self._reader.follow(wait_ms=500) as follower:
            place = await self._reader.place()
            while True:
                for entry in await follower.after(place):
                    place = entry.place
                    if isinstance(entry.item, Batch):
                        self.offsets.append(entry.item.offset)
                self.tokens.append((await self._reader.read([])).head.token)


@pytest.mark.faults
@pytest.mark.timeout(90)
async def test_a_leader_stopped_for_twice_its_lease_wakes_up_as_a_follower(
    pair: Pair,
) -> None:
    """None of its late writes is seen, and it connects to nothing it does not own."""
    leading, waiting = await pair.leader()
    await eventually(lambda: pair.open_connections() == {1}, within_s=20)
    scribe = Scribe(pair.reader)
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(scribe.follow())
        await eventually(lambda: len(scribe.offsets) > 3)
        leading.send(signal.SIGSTOP)
        said = await waiting.says(r"leading with token (\d+)", within_s=15)
        await asyncio.sleep(2 * LEASE_MS / 1000)
        twice = dict.fromkeys(STREAMING, 2)
        await eventually(lambda: pair.attempts() == twice, within_s=20)
        leading.send(signal.SIGCONT)
        await leading.says("not leading any more", within_s=10)
        # What it held is let go, and only the successor's connections are left.
        await eventually(lambda: pair.open_connections() == {1}, within_s=20)
        goal = len(scribe.offsets) + 5
        await eventually(lambda: len(scribe.offsets) >= goal)
        # As long again as it slept: it asks for the lease, and does nothing else.
        await asyncio.sleep(2 * LEASE_MS / 1000)
        assert pair.attempts() == twice, "it connected to what it does not own"
        following.cancel()
    assert scribe.offsets == sorted(set(scribe.offsets))
    assert scribe.tokens == sorted(scribe.tokens)
    assert scribe.tokens[-1] == int(said[1]) > scribe.tokens[0]
    assert sum("leading with token" in line for line in leading.said) == 1
    counts = pair.simulator.counts().exchanges.values()
    assert sum(one.total.breaches_total for one in counts) == 0


@pytest.mark.faults
@pytest.mark.timeout(90)
async def test_it_leads_again_when_its_turn_comes(pair: Pair) -> None:
    """Waking up as a follower is no disgrace for ever."""
    leading, waiting = await pair.leader()
    leading.send(signal.SIGSTOP)
    await waiting.says("leading with token", within_s=15)
    leading.send(signal.SIGCONT)
    await leading.says("not leading any more", within_s=10)
    waiting.send(signal.SIGTERM)
    assert await waiting.ended(within_s=10) == 0
    await eventually(
        lambda: sum("leading with token" in line for line in leading.said) == 2
    )
