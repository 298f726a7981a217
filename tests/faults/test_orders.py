"""Each process killed, ended and frozen, alone and in pairs, in any order."""

from random import Random

import pytest
from msgspec.structs import replace

from tests.faults.endure import FORGIVEN_S, Fault, endure
from tests.faults.fleet import open_fleet
from tests.faults.seeds import ORDERS
from tests.faults.strikes import drawn, together

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("kept", [None, *ORDERS])
async def test_nothing_is_lost_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, seed: int, kept: int | None
) -> None:
    """What one fault leaves behind meets the next, and two meet each other."""
    order = seed if kept is None else kept
    chance = Random(order)
    async with open_fleet(tmp_path_factory.mktemp("order"), order) as fleet:
        for number, acts in enumerate(drawn(chance), 1):
            words = ", ".join(" ".join(act) for act in acts)
            fault = Fault(
                name=f"{number}: {words}",
                strike=together(acts),
                hold_s=chance.uniform(1, 5),
            )
            if {("store", "killed"), ("store", "flushed")} & set(acts):
                # The store forgot what was spent, and a leader may have to connect.
                fault = replace(fault, within_s=FORGIVEN_S, fresh_s=FORGIVEN_S)
            await endure(fleet, fault)
