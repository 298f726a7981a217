"""A worker in this process, over a store and a simulator of its own, in a hurry."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from relay.clock import Clock
from relay.config import Settings, load
from relay.ingest.worker import open_worker
from relay.model import Ticker, decode_ticker
from relay.simulator.server import Simulator
from relay.simulator.settings import Settings as SimulatorSettings
from relay.store.client import Client
from relay.store.embedded import embedded
from relay.store.keys import Keys
from relay.store.reader import Reader
from tests.harness import open_client, until

NAME = "BTC-USD"


@dataclass
class Rig:
    """What a test holds."""

    settings: Settings
    simulator: Simulator
    client: Client
    reader: Reader
    seen: dict[str, Ticker] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    async def health(self) -> dict[str, Any]:
        """Return what the leader said last; with its first mark it says something."""
        found: dict[str, Any] = {}

        async def said() -> bool:
            head = (await self.reader.read([])).head
            found.update(msgspec.json.decode(head.health))
            return "sources" in found

        await until(said)
        return found

    async def ticker(self, name: str = NAME) -> Ticker | None:
        """Return what is shown, and note steps backwards."""
        row = (await self.reader.read([name])).tickers.get(name)
        if row is None:
            return None
        ticker, before = decode_ticker(row), self.seen.get(name)
        if before is not None and ticker.offset < before.offset:
            self.wrong.append(f"{name} stepped back: {before} then {ticker}")
        self.seen[name] = ticker
        return ticker

    async def shows(self, source: str, *, within_s: float = 15) -> None:
        """Wait until the instrument is shown, fresh, from this source."""

        async def shown() -> bool:
            ticker = await self.ticker()
            return ticker is not None and (ticker.source, ticker.stale) == (
                source,
                False,
            )

        await until(shown, within_s=within_s)

    async def moves(self, name: str = NAME, *, within_s: float = 15) -> None:
        """Wait until the shown value has changed twice, and is fresh."""
        offsets: set[int] = set()

        async def moved() -> bool:
            ticker = await self.ticker(name)
            if ticker is not None and not ticker.stale:
                offsets.add(ticker.offset)
            return len(offsets) > 2

        await until(moved, within_s=within_s)

    async def says(self, pattern: str, *, within_s: float = 15) -> None:
        """Wait until the status says this somewhere."""
        said = ""

        async def found() -> bool:
            nonlocal said
            said = msgspec.json.encode(await self.health()).decode()
            return re.search(pattern, said) is not None

        try:
            await until(found, within_s=within_s)
        except TimeoutError:
            raise AssertionError(f"{pattern!r} was not said: {said}") from None

    def breaches(self) -> dict[str, dict[str, int]]:
        """Return what the referee held against us, by exchange."""
        exchanges = self.simulator.counts().exchanges
        found = {
            name: {**one.total.breaches, **one.total.refusals.earned}
            for name, one in exchanges.items()
        }
        return {name: held for name, held in found.items() if held}


def hurried(settings: Settings, **ingest: int) -> Settings:
    """Return settings whose patience fits into a test."""
    rules = {
        "silent_after_ms": 2_000,
        "steady_ms": 300,
        "stale_after_ms": 4_000,
        "reconnect_min_ms": 100,
        "reconnect_max_ms": 500,
        "reconnect_steady_ms": 1_000,
        "refused_ms": 2_000,
        "request_timeout_ms": 1_500,
        **ingest,
    }
    exchanges = {
        name: replace(one, snapshot_ms=0) if name == "kraken" else one
        for name, one in settings.exchanges.items()
    }
    return replace(
        settings,
        # Other tests keep this machine busy: a store that is slow is not away.
        store=replace(settings.store, timeout_ms=10_000),
        ingest=replace(settings.ingest, **rules),
        exchanges=exchanges,
    )


@asynccontextmanager
async def rigged(
    change: Callable[[Settings], Settings] = hurried,
    simulated: SimulatorSettings | None = None,
) -> AsyncIterator[Rig]:
    """Hold everything but a worker."""
    async with embedded() as url, Simulator(simulated) as simulator:
        settings = change(
            load(environ={"RELAY_VALKEY_URL": url}, sim_url=simulator.url).settings
        )
        async with open_client(url, settings) as client:
            reader = Reader(client, Keys(settings.board.name))
            yield Rig(settings, simulator, client, reader)


@asynccontextmanager
async def working(rig: Rig, clock: Clock | None = None) -> AsyncIterator[None]:
    """Let a worker run for as long as the context lasts."""
    clock = clock or Clock()
    async with (
        open_client(rig.settings.store.url, rig.settings, clock) as client,
        open_worker(rig.settings, clock, client) as worker,
        asyncio.TaskGroup() as tasks,
    ):
        task = tasks.create_task(worker.run())
        try:
            yield
        finally:
            task.cancel()
