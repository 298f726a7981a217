"""A Valkey that dies, forgets, remembers too much, is slow, full or read-only."""

import pytest

from tests.faults import strikes
from tests.faults.endure import FORGIVEN_S, Fault, endure
from tests.faults.fleet import Fleet

pytestmark = pytest.mark.timeout(240)

FAULTS = [
    Fault(name="store frozen for 1 s", strike=strikes.store_frozen, hold_s=1),
    Fault(name="store frozen for 7 s", strike=strikes.store_frozen, hold_s=7),
    Fault(
        name="store frozen for 14 s",
        strike=strikes.store_frozen,
        hold_s=14,
        away_s=14,
    ),
    Fault(name="store slow (150 ms each way)", strike=strikes.store_slow, hold_s=6),
    Fault(name="store full, noeviction", strike=strikes.store_full, hold_s=5),
    Fault(name="store read-only", strike=strikes.store_read_only, hold_s=5),
    Fault(name="store's disk gone", strike=strikes.store_without_disk, hold_s=5),
    Fault(name="store's disk full", strike=strikes.store_on_a_full_disk, hold_s=5),
    Fault(name="store's connections cut", strike=strikes.store_connections_cut),
    *(
        Fault(name=f"store lost its {key}", strike=strikes.key_lost(key))
        for key in ("lease", "head", "tickers", "log", "beat", "symbols")
    ),
    Fault(name="store flushed", strike=strikes.store_flushed),
    Fault(name="store killed, empty", strike=strikes.store_killed),
]

RESTORED = [
    Fault(
        name="store restored from its file",
        strike=strikes.store_restored,
        within_s=FORGIVEN_S,
        fresh_s=FORGIVEN_S,
    ),
    Fault(
        name="store restored, leader dead",
        strike=strikes.store_restored_without_leader,
        within_s=FORGIVEN_S,
        fresh_s=FORGIVEN_S,
    ),
]
FORGETTING = [
    Fault(
        name="store away for 6 s, empty",
        strike=strikes.store_killed,
        hold_s=6,
        within_s=FORGIVEN_S,
        fresh_s=FORGIVEN_S,
    ),
    Fault(
        name="store full, evicting",
        strike=strikes.store_evicting,
        hold_s=5,
        within_s=FORGIVEN_S,
        fresh_s=FORGIVEN_S,
    ),
]


@pytest.mark.faults
@pytest.mark.parametrize("fault", [*FAULTS, *RESTORED], ids=lambda fault: fault.name)
async def test_nothing_is_lost_when_the_store_goes(sound: Fleet, fault: Fault) -> None:
    """The leader holds what the store has lost; no number is given out again."""
    await endure(sound, fault)


@pytest.mark.soak
@pytest.mark.parametrize("fault", FORGETTING, ids=lambda fault: fault.name)
async def test_limits_hold_when_the_ledger_is_lost(sound: Fleet, fault: Fault) -> None:
    """Nobody remembers what was spent, so nothing is, until it no longer counts."""
    await endure(sound, fault)
