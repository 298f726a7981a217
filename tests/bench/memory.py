"""Memory for each idle SSE connection. Goal 4.

Resident memory of the server's process with all connections open, less what it held
before, divided by their number.
"""

import asyncio
from typing import Final

from tests.bench.fanout import Open
from tests.bench.ground import (
    Cores,
    Missing,
    Scale,
    Unwell,
    allow_descriptors,
    compiled,
    opened,
    resident,
    running,
)
from tests.bench.servers import Load, nchan, relay
from tests.bench.sheet import Goal, Measure

_SIDES: Final[dict[str, Open]] = {"relay": relay, "nchan": nchan}
_WARM_STREAMS: Final = 20


async def run(scale: Scale) -> tuple[list[Measure], list[str]]:
    """Measure both servers in turns; return the measures and what went wrong.

    Raises:
        Missing: there is no compiler.
    """
    allow_descriptors()
    measure = Measure(
        row=4,
        what=f"memory of each of {scale.idle} idle streams",
        unit="KB",
        goals=(Goal("", "at most", 14), Goal("nchan", "at most", 1)),
        sides={},
    )
    sides, notes = dict(_SIDES), list[str]()
    with compiled("streamload") as programs:
        for _ in range(scale.turns):
            for name, side in list(sides.items()):
                try:
                    held = await _hold(side, scale, programs["streamload"])
                except Missing as missing:
                    notes.append(f"{name}: needs {missing}")
                    del sides[name]
                except Unwell as unwell:
                    notes.append(f"{name}, one turn: {unwell}")
                else:
                    measure.add(name, held / 1000)
    return [measure], notes


async def _hold(side: Open, scale: Scale, streamload: str) -> float:
    """Return how many bytes a server holds for each stream."""
    cores = Cores.here()
    load = Load(rate=0, streams=scale.idle, seconds=scale.seconds)
    async with side(load, cores) as served:

        async def hold(streams: int) -> int:
            words = [
                *(streamload, "127.0.0.1", str(served.port), served.path),
                *(str(streams), "3600", served.marker, "us"),
            ]
            async with running(*words, cores=cores.others) as loading:
                await opened(loading)
                await asyncio.sleep(scale.warm_s)
                return resident(served.pid)

        # What the first connection of all costs is no connection's.
        before = await hold(_WARM_STREAMS)
        after = await hold(scale.idle)
    return (after - before) / (scale.idle - _WARM_STREAMS)
