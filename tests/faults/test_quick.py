"""A little of everything, in every run; all of it stands in the tests beside this."""

from pathlib import Path
from random import Random

import pytest

from tests.faults import strikes
from tests.faults.endure import Fault, endure
from tests.faults.fleet import open_fleet

_PROCESSES = [
    Fault(name="leader killed", strike=strikes.killed(strikes.leader)),
    Fault(name="server killed", strike=strikes.killed(strikes.server)),
]
_STORES = [
    Fault(name="store killed, empty", strike=strikes.store_killed),
    Fault(name="store flushed", strike=strikes.store_flushed),
]
_EXCHANGES = [
    Fault(name="exchanges cut", strike=strikes.exchanges("cut")),
    Fault(name="exchanges repeat", strike=strikes.exchanges("repeat", 2)),
]


def test_an_order_is_the_seeds_and_leaves_nobody_out() -> None:
    """Else a kept seed would repeat nothing."""
    drawn = [strikes.drawn(Random(seed)) for seed in (7, 7, 8)]
    assert drawn[0] == drawn[1] != drawn[2]
    acts = [act for step in drawn[0] for act in step]
    assert len(acts) == len(set(acts)) == 15
    assert all(len({role for role, _ in step}) == len(step) for step in drawn[0])


@pytest.mark.timeout(150)
async def test_a_little_of_everything_is_survived(tmp_path: Path, seed: int) -> None:
    """One of each kind, chosen by the seed, so that no run is without any."""
    print(f"FAULTS_SEED={seed}")  # noqa: T201 - how to have the same run again
    async with open_fleet(tmp_path, seed) as fleet:
        for faults in (_EXCHANGES, _PROCESSES, _STORES):
            await endure(fleet, fleet.random.choice(faults))
