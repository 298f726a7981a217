"""Memory for each idle SSE connection. Goal 4.

Resident memory of the server's process with all connections open, less what it held
before, divided by their number.
"""

import asyncio
from functools import partial
from typing import Final

from tests.bench.ground import (
    Cores,
    Scale,
    Side,
    allow_descriptors,
    aside,
    compiled,
    opened,
    resident,
    running,
    take_turns,
)
from tests.bench.servers import Load, Open, nchan, relay
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
    )
    with aside() as cores, compiled("streamload") as programs:
        holding = Holding(scale, cores, programs["streamload"])

        async def turn(name: str) -> None:
            measure.add(name, await holding.hold(_SIDES[name]) / 1000)

        sides: dict[str, Side] = {name: partial(turn, name) for name in _SIDES}
        notes = await take_turns(sides, scale.turns)
    return [measure], notes


class Holding:
    """Holds idle streams at a server, few and many."""

    def __init__(self, scale: Scale, cores: Cores, streamload: str) -> None:
        self._scale, self._cores, self._streamload = scale, cores, streamload

    async def hold(self, side: Open) -> float:
        """Return how many bytes a server holds for each stream."""
        scale = self._scale
        load = Load(rate=0, streams=scale.idle, seconds=scale.seconds)
        async with side(load, self._cores) as served:

            async def hold(streams: int) -> int:
                words = [
                    *(self._streamload, "127.0.0.1", str(served.port), served.path),
                    *(str(streams), "3600", served.marker, served.unit),
                ]
                async with running(*words, cores=self._cores.others) as loading:
                    await opened(loading)
                    await asyncio.sleep(scale.warm_s)
                    return resident(*served.pids)

            # What the first connection of all costs is no connection's.
            before = await hold(_WARM_STREAMS)
            after = await hold(scale.idle)
        return (after - before) / (scale.idle - _WARM_STREAMS)
