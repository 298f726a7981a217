"""Runs that have failed once, again: the same seed, the same fault."""

from pathlib import Path

import pytest

from tests.faults.endure import endure
from tests.faults.fleet import open_fleet
from tests.faults.seeds import KEPT, Kept
from tests.faults.test_exchanges import FAULTS as OF_EXCHANGES
from tests.faults.test_links import FAULTS as OF_LINKS
from tests.faults.test_processes import FAULTS as OF_PROCESSES
from tests.faults.test_store import FAULTS as OF_STORES
from tests.faults.test_store import RESTORED

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

FAULTS = {
    fault.name: fault
    for fault in (*OF_EXCHANGES, *OF_LINKS, *OF_PROCESSES, *OF_STORES, *RESTORED)
}


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: f"{kept.fault} {kept.seed}")
async def test_what_has_failed_once_is_survived(tmp_path: Path, kept: Kept) -> None:
    """What was mended stays mended."""
    async with open_fleet(tmp_path, kept.seed) as fleet:
        await endure(fleet, FAULTS[kept.fault])
