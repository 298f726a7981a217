"""What it costs when there is more of it: clients, instruments, processes. Goal 11.

A delivery's cost with 100 to 10,000 clients; a publication's with 10 to 2,000
instruments, all of which change, in the store and in a server with one client of the
whole board; and two servers on two cores beside one.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from relay.clock import Clock
from relay.config import load as load_settings
from relay.store.client import connect
from tests.bench.ground import (
    Cores,
    Scale,
    Side,
    allow_descriptors,
    aside,
    compiled,
    take_turns,
)
from tests.bench.loading import Heard, stream
from tests.bench.servers import Load, Served, fed, relay, serving
from tests.bench.sheet import Goal, Measure

CLIENTS: Final = (100, 1_000, 10_000)
INSTRUMENTS: Final = (10, 100, 500, 2_000)
_QUICK: Final = (10, 50)
# Half of what one core can do with ten thousand clients; enough to count with few.
_CLIENT_RATE: Final = 5.0
_PUBLISH_RATE: Final = 10.0
_FULL_RATE: Final = 300.0
# What a delivery costs may differ by a fifth before we call it anything but flat.
_FLAT: Final = 1.2
# Of what one server does with a second of a processor, each of two does so much; half
# of the clients run on the core of each.
_SHARE: Final = 0.9
_US: Final = 1_000_000


class Rig(Struct, frozen=True):
    """What everything here is measured with."""

    scale: Scale
    cores: Cores
    streamload: str

    def load(self, rate: float, *, streams: int, count: int = 1) -> Load:
        """Return what a server is to bear for as long as all of them."""
        seconds = self.scale.seconds
        return Load(rate=rate, streams=streams, seconds=seconds, count=count)

    async def hold(
        self, served: Served, load: Load, cores: Cores | None = None
    ) -> Heard:
        """Load a server.

        Raises:
            Unwell: clients were told nothing.
        """
        at = cores or self.cores
        return await stream(self.streamload, served, load, self.scale, at)


class Curve(ABC):
    """What one thing costs with ever more of something."""

    name: str
    what: str
    sizes: Sequence[int]

    def __init__(self, rig: Rig, *, most: float) -> None:
        """Prepare; ``most`` times the first size's cost is allowed with the last."""
        self.rig = rig
        self._points = {
            size: Measure(
                row=11,
                what=self.what.format(size),
                unit="CPU µs",
                curve=self.name,
                at=size,
            )
            for size in self.sizes
        }
        first, last = self.sizes[0], self.sizes[-1]
        self._growth = Measure(
            row=11,
            what=f"{self.what.format(last)}, for {first:,}",
            unit="times",
            goals=(Goal("", "at most", most),),
        )

    @property
    def measures(self) -> list[Measure]:
        """Return every point, and how much the last is above the first."""
        return [*self._points.values(), self._growth]

    async def turn(self) -> None:
        """Take each size once."""
        costs = {size: await self.cost(size) for size in self.sizes}
        for size, cost in costs.items():
            self._points[size].add("relay", cost)
        self._growth.add("relay", costs[self.sizes[-1]] / costs[self.sizes[0]])

    @abstractmethod
    async def cost(self, size: int) -> float:
        """Return the cost in microseconds of the processor."""


class Clients(Curve):
    """Deliveries, at the same messages a second to ever more clients."""

    name = "clients"
    what = "a delivery to {:,} clients"

    def __init__(self, rig: Rig) -> None:
        self.sizes = _QUICK if rig.scale.quick else CLIENTS
        super().__init__(rig, most=_FLAT)

    async def cost(self, size: int) -> float:
        """Return what a delivery costs the server."""
        load = self.rig.load(_CLIENT_RATE, streams=size)
        async with relay(load, self.rig.cores) as served:
            heard = await self.rig.hold(served, load)
        return heard.cpu_s / max(heard.deliveries, 1) * _US


class Instruments(Curve):
    """Publications, of ever more instruments that change."""

    name = "instruments"
    what = "a publication of {:,} instruments"

    def __init__(self, rig: Rig) -> None:
        self.sizes = _QUICK if rig.scale.quick else INSTRUMENTS
        super().__init__(rig, most=self.sizes[-1] / self.sizes[0])

    async def cost(self, size: int) -> float:
        """Return what a publication costs the store and a server together."""
        load = self.rig.load(_PUBLISH_RATE, streams=1, count=size)
        cores = self.rig.cores
        async with (
            fed(load, cores) as environ,
            serving(environ, cores.server, "") as served,
        ):
            store = await _pid_of(environ["RELAY_VALKEY_URL"])
            both = replace(served, pids=(*served.pids, store))
            heard = await self.rig.hold(both, load)
        return heard.cpu_s / max(heard.deliveries / size, 1) * _US


async def _pid_of(url: str) -> int:
    """Ask a store for its process."""
    settings = replace(load_settings(environ={}).settings.store, url=url)
    async with connect(settings, Clock()) as client:
        found = await client.valkey.info("server")
    return int(found["process_id"])


class Two:
    """Two servers on two cores, whose clients are there as well, beside one."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        same = (Goal("one server", "at least", _SHARE),)
        what = "deliveries on two cores"
        ours = "two servers"
        self._wall = Measure(row=11, what=what, unit="a second", ours=ours)
        self._cpu = Measure(
            row=11, what=what, unit="a CPU second", goals=same, ours=ours
        )

    @property
    def measures(self) -> list[Measure]:
        """Return deliveries a second, and for each second of the processor."""
        return [self._wall, self._cpu]

    async def one(self) -> None:
        """Load one server fully."""
        load = self._rig.load(_FULL_RATE, streams=self._rig.scale.streams)
        async with relay(load, self._rig.cores) as served:
            self._add("one server", [await self._rig.hold(served, load)])

    async def two(self) -> None:
        """Load two servers fully, each with half of the clients."""
        load = self._rig.load(_FULL_RATE, streams=self._rig.scale.streams // 2)
        first, second = self._rig.cores.server, self._rig.cores.others
        async with AsyncExitStack() as stack:
            environ = await stack.enter_async_context(fed(load, self._rig.cores))
            pairs = [
                (await stack.enter_async_context(serving(environ, own)), Cores(own, to))
                for own, to in ((first, second), (second, first))
            ]
            async with asyncio.TaskGroup() as tasks:
                both = [
                    tasks.create_task(self._rig.hold(served, load, cores))
                    for served, cores in pairs
                ]
        self._add("two servers", [one.result() for one in both])

    def _add(self, side: str, heard: Sequence[Heard]) -> None:
        deliveries = sum(one.deliveries for one in heard)
        self._wall.add(side, deliveries / self._rig.scale.seconds)
        self._cpu.add(side, deliveries / sum(one.cpu_s for one in heard))


async def run(scale: Scale) -> tuple[list[Measure], list[str]]:
    """Measure everything in turns; return the measures and what went wrong.

    Raises:
        Missing: there is no compiler.
    """
    allow_descriptors()
    with aside() as cores, compiled("streamload") as programs:
        rig = Rig(scale, cores, programs["streamload"])
        clients, instruments, two = Clients(rig), Instruments(rig), Two(rig)
        sides: dict[str, Side] = {
            "clients": clients.turn,
            "instruments": instruments.turn,
            "one server": two.one,
            "two servers": two.two,
        }
        notes = await take_turns(sides, scale.turns)
    return [*clients.measures, *instruments.measures, *two.measures], notes
