"""SSE fan-out: deliveries a second, and the age of what a client is told.

Goals 1 and 3. A thousand streams of one instrument; the same messages to every server.
At 300 a second all fall behind or are near it, at 50 none does.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final

from tests.bench.ground import (
    Cores,
    Missing,
    Scale,
    Unwell,
    compiled,
    cpu_s,
    opened,
    read_json,
    running,
)
from tests.bench.servers import Load, Served, c_loop, nchan, relay
from tests.bench.sheet import Goal, Measure

Open = Callable[[Load, Cores], AbstractAsyncContextManager[Served]]

_FULL_RATE: Final = 300.0
_COMFORTABLE_RATE: Final = 50.0


def measures() -> dict[str, Measure]:
    """Return what is measured, without values."""
    whole = (Goal("nchan", "at least", 1.6), Goal("C loop", "at least", 0.85))
    fresh = (Goal("nchan", "at most", 1.2),)
    return {
        "wall": Measure(
            row=1, what="deliveries", unit="a second", goals=whole, sides={}
        ),
        "cpu": Measure(
            row=1, what="deliveries", unit="a CPU second", goals=whole, sides={}
        ),
        "p50": Measure(row=3, what="age p50 at 50/s", unit="ms", goals=fresh, sides={}),
        "p99": Measure(row=3, what="age p99 at 50/s", unit="ms", goals=fresh, sides={}),
    }


class Fanout:
    """One run of the benchmark: what was found, and what went wrong."""

    def __init__(self, scale: Scale, programs: dict[str, str]) -> None:
        self.found, self.notes = measures(), list[str]()
        self._scale, self._cores = scale, Cores.here()
        self._streamload = programs["streamload"]
        self._sides: dict[str, Open] = {
            "relay": relay,
            "nchan": nchan,
            "C loop": partial(c_loop, program=programs["rawlimit"]),
        }

    async def turn(self) -> None:
        """Let every server have its turn; one that is missing gets no other."""
        for name, side in list(self._sides.items()):
            try:
                await self._load_fully(name, side)
                await self._load_comfortably(name, side)
            except Missing as missing:
                self.notes.append(f"{name}: needs {missing}")
                del self._sides[name]
            except Unwell as unwell:
                self.notes.append(f"{name}, one turn: {unwell}")

    async def _load_fully(self, name: str, side: Open) -> None:
        said, spent_s = await self._measure(side, _FULL_RATE)
        deliveries = said["deliveries"]
        self.found["wall"].add(name, deliveries / self._scale.seconds)
        self.found["cpu"].add(name, deliveries / max(spent_s, 0.01))

    async def _load_comfortably(self, name: str, side: Open) -> None:
        said, _ = await self._measure(side, _COMFORTABLE_RATE)
        for share in ("p50", "p99"):
            self.found[share].add(name, said["age_us"][share] / 1000)

    async def _measure(self, side: Open, rate: float) -> tuple[dict[str, Any], float]:
        """Return what the load generator says, and the server's processor time."""
        scale = self._scale
        load = Load(rate=rate, streams=scale.streams, seconds=scale.seconds)
        async with side(load, self._cores) as served:
            words = [
                *(self._streamload, "127.0.0.1", str(served.port), served.path),
                *(str(load.streams), str(load.seconds), served.marker, "us"),
                str(scale.warm_s),
            ]
            async with running(*words, cores=self._cores.others) as loading:
                await opened(loading)
                await asyncio.sleep(scale.warm_s)
                before_s = cpu_s(served.pid)
                said = await read_json(loading)
                spent_s = cpu_s(served.pid) - before_s
        if said["ok"] < load.streams or said["closed"] or said["silent"]:
            raise Unwell(f"{said['silent']} streams of {load.streams} heard nothing")
        return said, spent_s


async def run(scale: Scale) -> tuple[list[Measure], list[str]]:
    """Measure every server in turns; return the measures and what went wrong.

    Raises:
        Missing: there is no compiler.
    """
    with compiled("streamload", "rawlimit") as programs:
        fanout = Fanout(scale, programs)
        for _ in range(scale.turns):
            await fanout.turn()
    return list(fanout.found.values()), fanout.notes
