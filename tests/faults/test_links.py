"""Partitions: nothing passes between two parts, and nobody is told, or everybody is."""

import pytest

from tests.faults import strikes
from tests.faults.endure import FRESH_S, LEASED_S, Fault, endure
from tests.faults.fleet import Fleet
from tests.faults.observers import PATIENCE_S
from tests.faults.strikes import deaf, parted, refused

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

# An exchange that cannot be reached is shown with its age, and stale only after
# ``ingest.silent_after_ms`` and ``ingest.stale_after_ms``.
SILENT_S = 40.0
# Time-outs towards the exchanges and back-off, on a machine that is busy.
RECONNECTED_S = 25.0

FAULTS = [
    Fault(
        name="leader / store, dark for 8 s",
        strike=parted(strikes.leader, "store"),
        hold_s=8,
    ),
    Fault(
        name="leader / store, refused",
        strike=refused(strikes.leader, "store"),
        hold_s=5,
    ),
    Fault(
        name="leader / store, hears nothing",
        strike=deaf(strikes.leader, "store"),
        hold_s=5,
    ),
    Fault(
        name="follower / store, dark for 8 s",
        strike=parted(strikes.follower, "store"),
        hold_s=8,
    ),
    Fault(
        name="server / store, hears nothing",
        strike=deaf(strikes.server, "store"),
        hold_s=5,
    ),
    Fault(
        name="server / store, dark for 8 s",
        strike=parted(strikes.server, "store"),
        hold_s=8,
    ),
    Fault(
        name="server / store, refused",
        strike=refused(strikes.server, "store"),
        hold_s=5,
    ),
    Fault(
        name="servers / store, dark",
        strike=parted(strikes.servers, "store"),
        hold_s=6,
    ),
    Fault(
        name="everybody / store, dark",
        strike=parted(strikes.everybody, "store"),
        hold_s=6,
    ),
    Fault(
        name="clients / server, dark",
        strike=parted(strikes.server, "front"),
        hold_s=8,
        # What the network held back arrives within a client's patience, or not at all.
        fresh_s=FRESH_S + PATIENCE_S,
    ),
    Fault(
        name="clients / servers, refused",
        strike=refused(strikes.servers, "front"),
        hold_s=4,
    ),
    Fault(
        name="leader / exchanges, dark for 8 s",
        strike=parted(strikes.leader, "exchanges"),
        hold_s=8,
        within_s=RECONNECTED_S,
        fresh_s=SILENT_S,
    ),
    Fault(
        name="leader / exchanges, refused",
        strike=refused(strikes.leader, "exchanges"),
        hold_s=5,
        within_s=RECONNECTED_S,
        fresh_s=SILENT_S,
    ),
    Fault(
        name="workers / exchanges, dark",
        strike=parted(strikes.workers, "exchanges"),
        hold_s=6,
        within_s=RECONNECTED_S,
        fresh_s=SILENT_S,
    ),
    Fault(
        name="leader / exchanges, hears nothing",
        strike=deaf(strikes.leader, "exchanges"),
        hold_s=6,
        within_s=RECONNECTED_S,
        fresh_s=SILENT_S,
    ),
    Fault(
        name="any two / store",
        strike=parted(strikes.pair, "store"),
        hold_s=5,
    ),
    Fault(
        name="leader / store and exchanges",
        strike=parted(strikes.leader, "store", "exchanges"),
        hold_s=8,
        within_s=LEASED_S,
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_nothing_is_lost_when_a_link_goes(sound: Fleet, fault: Fault) -> None:
    """Whoever is cut off says so or is passed over, and comes back by itself."""
    await endure(sound, fault)
