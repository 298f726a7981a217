"""How old the price is that a client holds, when more happens than can be sent. Goal 2.

A thousand clients of ten instruments each, a hundred different selections; 5,000
updates a second upstream. nchan is fed the same updates by the same kind of reader.
"""

from functools import partial
from typing import Final

from tests.bench.chain import Flow, through_relay, updates_to_nchan
from tests.bench.ground import Scale, Side, aside, compiled, take_turns
from tests.bench.loading import stream
from tests.bench.servers import Load
from tests.bench.sheet import Goal, Measure

_MB: Final = 1_000_000
# More than the garbage of some seconds: whoever queues grows by much more.
_GROWN_MB: Final = 8.0
# A board at 25 ms a batch, a pass over all clients, and the network.
_HELD_MS: Final = 250.0


def measures() -> dict[str, Measure]:
    """Return what is measured, without values."""
    tenth = (Goal("nchan", "at most", 0.1), Goal("", "at most", _HELD_MS))
    flat, nobody = (Goal("", "at most", _GROWN_MB),), (Goal("", "at most", 0),)
    return {
        "p50": Measure(row=2, what="age of a held price, p50", unit="ms"),
        "p99": Measure(row=2, what="age of a held price, p99", unit="ms", goals=tenth),
        "grown": Measure(row=2, what="memory grown meanwhile", unit="MB", goals=flat),
        "closed": Measure(row=2, what="clients cut off", unit="of all", goals=nobody),
    }


_SIDES: Final = {"relay": through_relay, "nchan": updates_to_nchan}


async def run(scale: Scale) -> tuple[list[Measure], list[str]]:
    """Measure both in turns; return the measures and what went wrong.

    Raises:
        Missing: there is no compiler.
    """
    found = measures()
    flow = Flow(
        count=100,
        rate=500 if scale.quick else 5_000,
        selections=10 if scale.quick else 100,
        streams=scale.streams,
    )
    load = Load(rate=flow.rate, streams=flow.streams, seconds=scale.seconds)
    with aside() as cores, compiled("streamload") as programs:

        async def turn(name: str) -> None:
            async with _SIDES[name](flow, cores) as served:
                heard = await stream(programs["streamload"], served, load, scale, cores)
            found["p50"].add(name, heard.held_ms["p50"])
            found["p99"].add(name, heard.held_ms["p99"])
            found["grown"].add(name, heard.grown / _MB)
            found["closed"].add(name, heard.closed)

        sides: dict[str, Side] = {name: partial(turn, name) for name in _SIDES}
        notes = await take_turns(sides, scale.turns)
    return list(found.values()), notes
