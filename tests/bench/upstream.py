"""What the exchanges see of one, ten and fifty instances in a simulated hour. Goal 8.

The parts that spend are the relay's own, the store is a Valkey, the simulator counts;
only the clock is driven. A turn is another hour: restarts, demand and strangers differ.
"""

from functools import partial
from typing import Final

from tests.bench.ground import Scale, Side, take_turns
from tests.bench.sheet import Goal, Measure
from tests.simulation.driven import Footprint, Hour, Script, open_world

_INSTANCES: Final = (1, 10, 50)
_HOUR_S: Final = 3_600
_QUICK_S: Final = 90
# What chance makes of a few requests more or less.
_SAME: Final = 1.05
_COUNTED: Final = {
    "requests": "requests",
    "weight": "weight spent",
    "attempts": "connections opened",
}


def _side(instances: int) -> str:
    return "one instance" if instances == 1 else f"{instances} instances"


class Hours:
    """One run: what was counted, instances by instances."""

    def __init__(self, scale: Scale) -> None:
        self._seconds = _QUICK_S if scale.quick else _HOUR_S
        self._seeds = dict.fromkeys(_INSTANCES, 0)
        ours = _side(max(_INSTANCES))
        same = Goal(_side(1), "at most", _SAME), Goal(_side(10), "at most", _SAME)
        self.found = {
            name: Measure(row=8, what=what, unit="an hour", goals=same, ours=ours)
            for name, what in _COUNTED.items()
        }
        self.refused = Measure(
            row=8,
            what="refusals, breaches and bans",
            unit="an hour",
            goals=(Goal("", "at most", 0),),
            ours=ours,
        )

    async def turn(self, instances: int) -> None:
        """Run an hour."""
        self._seeds[instances] += 1
        seed = self._seeds[instances]
        async with open_world(seed) as world:
            hour = Hour(world, instances, Script.of(seed, self._seconds))
            self._add(instances, await hour.run(self._seconds))

    def _add(self, instances: int, counted: Footprint) -> None:
        side = _side(instances)
        for name, measure in self.found.items():
            measure.add(side, getattr(counted, name))
        refused = counted.breaches + counted.earned + counted.bans
        self.refused.add(side, refused)


async def run(scale: Scale) -> tuple[list[Measure], list[str]]:
    """Run an hour with each number of instances, in turns."""
    hours = Hours(scale)
    sides: dict[str, Side] = {
        _side(count): partial(hours.turn, count) for count in _INSTANCES
    }
    notes = await take_turns(sides, scale.turns)
    return [*hours.found.values(), hours.refused], notes
