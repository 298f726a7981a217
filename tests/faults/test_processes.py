"""Processes that are killed, ended, frozen; alone, in pairs, all at once."""

import pytest

from tests.faults import strikes
from tests.faults.endure import SLOW_S, Fault, endure
from tests.faults.fleet import Fleet
from tests.faults.strikes import ended, killed, stopped

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

# A process of ours needs this to start, on a machine that starts several at once.
START_S = 4 + SLOW_S

FAULTS = [
    Fault(name="leader killed", strike=killed(strikes.leader)),
    Fault(name="follower killed", strike=killed(strikes.follower), within_s=SLOW_S),
    Fault(name="server killed", strike=killed(strikes.server), within_s=START_S),
    Fault(name="both workers killed", strike=killed(strikes.workers)),
    Fault(
        name="both workers killed for 14 s",
        strike=killed(strikes.workers),
        hold_s=14,
        away_s=14,
    ),
    Fault(name="both servers killed", strike=killed(strikes.servers), within_s=START_S),
    Fault(name="any two killed", strike=killed(strikes.pair)),
    Fault(name="all killed", strike=killed(strikes.everybody)),
    Fault(name="leader ended", strike=ended(strikes.leader), within_s=SLOW_S),
    Fault(name="server ended", strike=ended(strikes.server), within_s=START_S),
    Fault(name="leader frozen for 1 s", strike=stopped(strikes.leader), hold_s=1),
    Fault(name="leader frozen for 6 s", strike=stopped(strikes.leader), hold_s=6),
    Fault(name="server frozen for 8 s", strike=stopped(strikes.server), hold_s=8),
    Fault(name="both servers frozen", strike=stopped(strikes.servers), hold_s=5),
    Fault(name="any two frozen", strike=stopped(strikes.pair), hold_s=5),
    Fault(name="all frozen", strike=stopped(strikes.everybody), hold_s=7),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_nothing_is_lost_when_processes_go(sound: Fleet, fault: Fault) -> None:
    """Any instance can answer, and any worker can lead."""
    await endure(sound, fault)
