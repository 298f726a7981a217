"""One fault, and the five promises that hold while it lasts and after it.

1. After it every observer holds the newest of everything, within the stated time.
2. No offset and no event time of a source steps back; nothing is shown that no exchange
   has sent.
3. Whatever is shown as live is as young as was promised.
4. No exchange counts a broken limit, refuses us for one, or has two connections.
5. Memory, descriptors and tasks come back to what they were before the first fault.

Which faults there are stands in the tests.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tests.faults.fleet import BEAT_S, FORGIVEN_MS, LEASE_S, QUIET_S, Fleet, Pins
from tests.faults.report import GROWN, ROWS, Row, Size
from tests.harness import until

# A machine whose two cores are busy with other tests is late by as much.
SLOW_S: Final = 8
LEASED_S: Final = LEASE_S + 2 + SLOW_S
"""Until another worker leads: the lease, and two seconds besides."""
FRESH_S: Final = BEAT_S + QUIET_S + 5
"""The oldest that is shown as live while no exchange is at fault."""
FORGIVEN_S: Final = FORGIVEN_MS / 1000
"""Both, while a store does not remember what was spent and a leader has to connect."""

_GROWN_MAX: Final = 96 << 20
_DESCRIPTORS_MAX: Final = 24
_TASKS_MAX: Final = 24
_STORE_MAX: Final = 16 << 20

Strike = Callable[[Fleet], AbstractAsyncContextManager[None]]


class Fault(Struct, frozen=True, kw_only=True):
    """What is done, for how long, and what is promised.

    ``strike`` hurts on entering and heals on leaving. ``within_s`` is counted from the
    healing on; ``fresh_s`` is how old a price may be that is shown as live. When
    somebody ingests again who was away for ``away_s``, the last values are shown with
    their age until the first ones come.
    """

    name: str
    strike: Strike
    hold_s: float = 1.0
    within_s: float = LEASED_S
    fresh_s: float = FRESH_S
    away_s: float = 0.0


async def endure(fleet: Fleet, fault: Fault) -> None:
    """Hurt the fleet once, look on, and note what was seen."""
    # Of its own for each fault: one that is repeated alone chooses the same.
    fleet.random = Random(f"{fleet.seed} {fault.name}")
    if fleet.forgetful:
        fault = _forgiven(fault)
    before = _begin(fleet)
    try:
        async with fault.strike(fleet):
            # How long the fault lasts; what it brings is waited for below.
            await asyncio.sleep(fault.hold_s)
            meanwhile_s = _oldest_s(fleet)
            pins = fleet.pin()
        recovery_s, lost = await _recover(fleet, fault, pins)
        # Noted before it is judged: what was not kept stands in the table as well.
        ROWS.append(_row(fleet, fault, before, recovery_s=recovery_s, lost=lost))
        assert not lost, f"{fault.name}: {fleet.story(pins)}"
        assert meanwhile_s <= fault.fresh_s, f"{fault.name}: {meanwhile_s} s, as live"
    finally:
        fleet.unpin()
    await _check(fleet, fault)


def _forgiven(fault: Fault) -> Fault:
    """Promise as much as an earlier fault leaves to promise."""
    within_s, fresh_s = max(fault.within_s, FORGIVEN_S), max(fault.fresh_s, FORGIVEN_S)
    return replace(fault, within_s=within_s, fresh_s=fresh_s)


def _row(
    fleet: Fleet, fault: Fault, before: Counter[str], *, recovery_s: float, lost: int
) -> Row:
    return Row(
        fault=fault.name,
        promised_s=fault.within_s,
        recovery_s=recovery_s,
        fresh_s=fault.fresh_s + fault.away_s,
        worst_age_ms=max(one.worst_ms for one in fleet.observers),
        lost=lost,
        errors=sum((_errors(fleet) - before).values()),
        seed=fleet.seed,
    )


def _begin(fleet: Fleet) -> Counter[str]:
    for observer in fleet.observers:
        observer.worst_ms = 0
        observer.wrong.clear()
    return _errors(fleet)


def _oldest_s(fleet: Fleet) -> float:
    """Return how old a price has been that was shown as live."""
    return max(one.worst_ms for one in fleet.observers) / 1000


def _errors(fleet: Fleet) -> Counter[str]:
    return sum((one.errors for one in fleet.observers), Counter[str]())


async def _recover(fleet: Fleet, fault: Fault, pins: Pins) -> tuple[float, int]:
    """Wait until everybody holds the newest; returns seconds, and values they lack."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    while not all(one.holds(pins) for one in fleet.observers):
        assert all(part.running for part in fleet.parts), fleet.story(pins)
        if loop.time() - began_s >= fault.within_s:
            lacking = sum(len(one.lacks(pins)) for one in fleet.observers)
            return fault.within_s, max(lacking, 1)
        await asyncio.sleep(0.02)
    return loop.time() - began_s, 0


async def _check(fleet: Fleet, fault: Fault) -> None:
    wrong = [line for one in fleet.observers for line in one.wrong]
    assert not wrong, f"{fault.name}, seed {fleet.seed}: {wrong[:5]}"
    worst_s = _oldest_s(fleet)
    bound_s = fault.fresh_s + fault.away_s
    assert worst_s <= bound_s, f"{fault.name}: {worst_s} s old and called live"
    assert not fleet.breaches(), f"{fault.name}, seed {fleet.seed}"
    assert all(part.running for part in fleet.parts), fleet.story({})
    await check_size(fleet, fault.name, within_s=fault.within_s)


async def check_size(
    fleet: Fleet, name: str, *, within_s: float, grown_max: int = _GROWN_MAX
) -> None:
    """Wait until all have come back to what they were before the first fault."""
    grown: dict[str, Size] = {}

    async def lean() -> bool:
        grown.update(await fleet.grown())
        return all(
            one.files <= _DESCRIPTORS_MAX and one.tasks <= _TASKS_MAX
            for one in grown.values()
        ) and all(one <= 1 for one in fleet.open_connections().values())

    try:
        await until(lean, within_s=within_s)
    except TimeoutError:
        raise AssertionError(f"{name}, seed {fleet.seed}: {grown}") from None
    for part, one in grown.items():
        most = _STORE_MAX if part == "valkey" else grown_max
        assert one.octets < most, f"{name}: {part} grew by {one.octets} bytes"
        GROWN[part] = one.largest(GROWN.get(part, one))
