"""An hour of 2,000 instruments and thousands of updates a second, with flat memory.

``SOAK_MINUTES`` makes it shorter; ``--timeout`` is its own.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Final, cast
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
from msgspec import Struct

from relay.clock import Clock
from tests.faults.crowd import crowd
from tests.faults.fleet import footprint
from tests.faults.observers import WAYS, Body, Observer, sample
from tests.faults.report import ROWS, Row
from tests.faults.sent import Sent
from tests.faults.valkey import OwnValkey
from tests.harness import eventually
from tests.simulation.processes import Process, relay

MINUTES: Final = float(os.environ.get("SOAK_MINUTES", "60"))  # noqa: TID251 - the tests have no settings
INSTRUMENTS: Final = 2_000
RATE: Final = 12_000
"""Changes of symbols at all exchanges; half of them are of those that are read."""
READERS: Final = 200
SEEN_MIN: Final = 500
"""Changed tickers that a client of the whole board is told of in a second, at least.

Fewer than are published: a client that is behind is told of the newest alone.
"""

# What may be added to each between the second quarter and the last: caches that are
# still filling, an allocator's fragments. An hour of a leak of one octet an update is
# as much.
_GROWN_MAX: Final = 16 << 20
_DESCRIPTORS_MAX: Final = 8
_STEP_S: Final = 1.0
_FRESH_S: Final = 8.0
_ASSETS: Final = [f"SIM{number:04d}" for number in range(INSTRUMENTS // 2)]
# An asset that moves is told of by three exchanges at once.
_TETHERS: Final = [f"{name}-USDT" for name in _ASSETS]
_DOLLARS: Final = ["BTC-USD", *(f"{name}-USD" for name in _ASSETS[1:])]
_SETTINGS: Final = f"""
[http]
heartbeat_ms = 2000

[[board.groups]]
instruments = {_TETHERS}
sources = ["binance"]

[[board.groups]]
instruments = {_DOLLARS}
sources = ["coinbase", "kraken"]
"""

_body: Final = msgspec.json.Decoder(Body).decode


class Anything(Sent):
    """Whatever is shown was sent: 4,000 numbers a second are not kept for an hour."""

    def __contains__(self, text: str) -> bool:
        return bool(text)


class Whole(Struct):
    """A client of the whole board, which counts what it is told."""

    tickers: int = 0
    names: set[str] = msgspec.field(default_factory=set)

    async def read(self, url: str) -> None:
        """Read streams for ever."""
        async with httpx.AsyncClient(timeout=30) as client:
            while True:
                async with client.stream("GET", f"{url}/v1/stream") as answer:
                    async for line in answer.aiter_lines():
                        self._take(line)

    def _take(self, line: str) -> None:
        if not line.startswith('data: {"cursor"'):
            return
        body = _body(line.removeprefix("data: "))
        self.tickers += len(body.prices)
        self.names.update(body.prices)


class Stand(Struct):
    """What runs for the whole time."""

    worker: Process
    server: Process
    url: str
    valkey: OwnValkey

    async def sizes(self) -> dict[str, tuple[int, int]]:
        """Return memory and descriptors of each."""
        return {
            "worker": footprint(self.worker.pid),
            "server": footprint(self.server.pid),
            "valkey": (await self.valkey.used_bytes(), 0),
        }


@pytest.fixture
async def stand(tmp_path: Path, seed: int) -> AsyncIterator[Stand]:
    """Run a simulator, a Valkey, a worker and a server."""
    file = tmp_path / "settings.toml"
    file.write_text(_SETTINGS)
    valkey = OwnValkey(tmp_path / "valkey")
    async with AsyncExitStack() as stack:
        await valkey.start()
        stack.push_async_callback(valkey.close)
        market = ("--instruments", f"{len(_ASSETS) + 200}", "--rate", f"{RATE}")
        arguments = ("sim", "--port", "0", "--seed", f"{seed}", *market)
        sim = await stack.enter_async_context(relay(*arguments))
        at = await sim.says(r"simulator at (http://\S+)", within_s=60)
        environ = {
            "RELAY_VALKEY_URL": f"valkey://127.0.0.1:{valkey.port}",
            "RELAY_SIM_URL": at[1],
        }
        config = ("--config", str(file))
        worker = relay("worker", *config, **environ)
        server = relay("serve", "--port", "0", *config, **environ)
        working = await stack.enter_async_context(worker)
        serving = await stack.enter_async_context(server)
        url = (await serving.says(r"relay at (http://\S+)", within_s=60))[1]
        yield Stand(working, serving, url, valkey)


@pytest.mark.soak
@pytest.mark.timeout(int(MINUTES * 60) + 600)
async def test_an_hour_of_bursts_leaves_memory_flat(stand: Stand, seed: int) -> None:
    """Whatever is kept for each update would be seen after millions of them."""
    print(f"FAULTS_SEED={seed}")  # noqa: T201 - how to have the same run again
    clock, whole = Clock(), Whole()
    parts = urlsplit(stand.url)
    door = cast("str", parts.hostname), cast("int", parts.port)
    observers = [
        Observer(name, [stand.url], _DOLLARS[:3], sent=Anything(), now=clock.wall_ms)
        for name in WAYS
    ]
    async with crowd(*door, seed) as many, asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(whole.read(stand.url)),
            tasks.create_task(sample(observers)),
            *(tasks.create_task(one.watch(WAYS[one.name])) for one in observers),
        ]
        await many.join(READERS)
        await eventually(lambda: len(whole.names) >= INSTRUMENTS, within_s=180)
        sizes, told = await _look_on(stand, whole)
        await eventually(lambda: all(one.holds({}) for one in observers), within_s=60)
        for task in running:
            task.cancel()
    _judge(sizes, observers)
    assert told >= SEEN_MIN, f"{told} tickers a second"
    _note(sizes, observers, told, seed)


Sizes = list[dict[str, tuple[int, int]]]


async def _look_on(stand: Stand, whole: Whole) -> tuple[Sizes, int]:
    """Let time pass, and measure; returns sizes, and tickers told in a second."""
    sizes, before = [], whole.tickers
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    while loop.time() - began_s < MINUTES * 60:
        await asyncio.sleep(_STEP_S)
        sizes.append(await stand.sizes())
    return sizes, int((whole.tickers - before) / (loop.time() - began_s))


def _quarters(sizes: Sizes, name: str, place: int) -> tuple[int, int]:
    """Return the median of the second quarter and of the last."""
    row = [one[name][place] for one in sizes]
    quarter = len(row) // 4
    return int(median(row[quarter : 2 * quarter])), int(median(row[-quarter:]))


def _judge(sizes: Sizes, observers: list[Observer]) -> None:
    for name in sizes[0]:
        early, late = _quarters(sizes, name, 0)
        assert late - early < _GROWN_MAX, f"{name} grew from {early} to {late} bytes"
        early, late = _quarters(sizes, name, 1)
        assert late - early <= _DESCRIPTORS_MAX, f"{name}: {early} to {late} open"
    assert not [line for one in observers for line in one.wrong]


def _note(sizes: Sizes, observers: list[Observer], told: int, seed: int) -> None:
    grown = {
        name: (late - early) / (1 << 20)
        for name in sizes[0]
        for early, late in [_quarters(sizes, name, 0)]
    }
    memory = ", ".join(f"{name} {octets:+.1f} MB" for name, octets in grown.items())
    ROWS.append(
        Row(
            fault=f"{MINUTES:g} min of {told} changed tickers a second: {memory}",
            promised_s=0,
            fresh_s=_FRESH_S,
            recovery_s=0,
            worst_age_ms=max(one.worst_ms for one in observers),
            lost=sum(len(one.lacks({})) for one in observers),
            errors=sum(one.errors.total() for one in observers),
            seed=seed,
        )
    )
