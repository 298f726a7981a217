"""SSE fan-out: deliveries a second, and the age of what a client is told.

Goals 1 and 3. A thousand streams of one instrument; the same messages to every server.
At 300 a second all fall behind or are near it, at 50 none does.
"""

from functools import partial
from typing import Final

from tests.bench.ground import (
    Cores,
    Scale,
    Side,
    Unwell,
    aside,
    compiled,
    take_turns,
)
from tests.bench.loading import Heard, stream
from tests.bench.pushpin import pushpin
from tests.bench.servers import Load, Open, c_loop, nchan, relay
from tests.bench.sheet import Goal, Measure

_FULL_RATE: Final = 300.0
_COMFORTABLE_RATE: Final = 50.0


def measures() -> dict[str, Measure]:
    """Return what is measured, without values."""
    whole = (Goal("nchan", "at least", 1.6), Goal("C loop", "at least", 0.85))
    fresh = (Goal("nchan", "at most", 1.2),)
    return {
        "wall": Measure(row=1, what="deliveries", unit="a second", goals=whole),
        "cpu": Measure(row=1, what="deliveries", unit="a CPU second", goals=whole),
        "p50": Measure(row=3, what="age p50 at 50/s", unit="ms", goals=fresh),
        "p99": Measure(row=3, what="age p99 at 50/s", unit="ms", goals=fresh),
    }


class Fanout:
    """One run of the benchmark: what is found, server by server."""

    def __init__(self, scale: Scale, cores: Cores, streamload: str) -> None:
        self.found = measures()
        self._scale, self._cores, self._streamload = scale, cores, streamload

    async def turn(self, name: str, side: Open) -> None:
        """Load one server fully, then comfortably; for a quick look only the latter."""
        rate = _COMFORTABLE_RATE if self._scale.quick else _FULL_RATE
        heard = await self._measure(side, rate)
        self.found["wall"].add(name, heard.deliveries / self._scale.seconds)
        self.found["cpu"].add(name, heard.deliveries / heard.cpu_s)
        if not self._scale.quick:
            heard = await self._measure(side, _COMFORTABLE_RATE)
        for share in ("p50", "p99"):
            self.found[share].add(name, heard.age_ms[share])

    async def _measure(self, side: Open, rate: float) -> Heard:
        scale = self._scale
        load = Load(rate=rate, streams=scale.streams, seconds=scale.seconds)
        async with side(load, self._cores) as served:
            heard = await stream(self._streamload, served, load, scale, self._cores)
        if heard.closed:
            raise Unwell(f"{heard.closed} streams were cut off")
        return heard


async def run(scale: Scale) -> tuple[list[Measure], list[str]]:
    """Measure every server in turns; return the measures and what went wrong.

    Raises:
        Missing: there is no compiler.
    """
    with aside() as cores, compiled("streamload", "rawlimit") as programs:
        fanout = Fanout(scale, cores, programs["streamload"])
        opens: dict[str, Open] = {
            "relay": relay,
            "nchan": nchan,
            "Pushpin": pushpin,
            "C loop": partial(c_loop, program=programs["rawlimit"]),
        }
        sides: dict[str, Side] = {
            name: partial(fanout.turn, name, side) for name, side in opens.items()
        }
        notes = await take_turns(sides, scale.turns)
    return list(fanout.found.values()), notes
