"""From an exchange's frame to a client, through everything. Goal 9.

A thousand clients of ten instruments, which change fifty times a second in all. nchan
is fed with the batches of the same worker.
"""

from functools import partial
from typing import Final

from tests.bench.chain import Flow, batches_to_nchan, through_relay
from tests.bench.ground import Scale, Side, aside, compiled, take_turns
from tests.bench.loading import stream
from tests.bench.servers import Load
from tests.bench.sheet import Goal, Measure

_SIDES: Final = {"relay": through_relay, "nchan": batches_to_nchan}
_RATE: Final = 50.0


async def run(scale: Scale) -> tuple[list[Measure], list[str]]:
    """Measure both in turns; return the measures and what went wrong.

    Raises:
        Missing: there is no compiler.
    """
    worse = (Goal("nchan", "at most", 1),)
    found = {
        share: Measure(row=9, what=f"frame to client, {share}", unit="ms", goals=worse)
        for share in ("p50", "p99")
    }
    flow = Flow(count=10, rate=_RATE, selections=1, streams=scale.streams)
    load = Load(rate=_RATE, streams=flow.streams, seconds=scale.seconds)
    with aside() as cores, compiled("streamload") as programs:

        async def turn(name: str) -> None:
            async with _SIDES[name](flow, cores) as served:
                heard = await stream(programs["streamload"], served, load, scale, cores)
            for share, measure in found.items():
                measure.add(name, heard.age_ms[share])

        sides: dict[str, Side] = {name: partial(turn, name) for name in _SIDES}
        notes = await take_turns(sides, scale.turns)
    return list(found.values()), notes
