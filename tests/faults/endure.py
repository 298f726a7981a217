"""One fault, and the five promises that hold while it lasts and after it.

1. After it every observer holds the newest of everything, within the stated time.
2. No offset and no event time of a source steps back; nothing is shown that no exchange
   has sent.
3. Whatever is shown as live is as young as was promised.
4. No exchange counts a broken limit, and none has more than one connection.
5. Memory and descriptors come back.

Which faults there are stands in the tests.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from msgspec import Struct

from tests.faults.fleet import BEAT_S, LEASE_S, QUIET_S, Fleet, Part, Pins
from tests.faults.report import ROWS, Row

# A machine whose two cores are busy with other tests is late by as much.
SLOW_S: Final = 8
LEASED_S: Final = LEASE_S + 2 + SLOW_S
"""Until another worker leads: the lease, and two seconds besides."""
FRESH_S: Final = BEAT_S + QUIET_S + 5
"""The oldest that is shown as live while no exchange is at fault."""

_GROWN_MAX: Final = 96 << 20
_DESCRIPTORS_MAX: Final = 24
_STORE_MAX: Final = 64 << 20

Strike = Callable[[Fleet], AbstractAsyncContextManager[None]]


class Fault(Struct, frozen=True, kw_only=True):
    """What is done, for how long, and what is promised.

    ``strike`` hurts on entering and heals on leaving. ``within_s`` is counted from the
    healing on; ``fresh_s`` is how old a price may be that is shown as live.
    """

    name: str
    strike: Strike
    hold_s: float = 1.0
    within_s: float = LEASED_S
    fresh_s: float = FRESH_S


async def endure(fleet: Fleet, fault: Fault) -> None:
    """Hurt the fleet once, look on, and note what was seen."""
    before = _begin(fleet)
    feet = {part: part.footprint() for part in fleet.parts}
    pids = {part: part.pid for part in fleet.parts}
    try:
        async with fault.strike(fleet):
            # How long the fault lasts; what it brings is waited for below.
            await asyncio.sleep(fault.hold_s)
            pins = fleet.pin()
        recovery_s = await _recover(fleet, fault, pins)
        lost = sum(len(one.lacks(pins)) for one in fleet.observers)
    finally:
        fleet.unpin()
    same = {part: foot for part, foot in feet.items() if pids[part] == part.pid}
    await _check(fleet, fault, same)
    ROWS.append(
        Row(
            fault=fault.name,
            promised_s=fault.within_s,
            recovery_s=recovery_s,
            fresh_s=fault.fresh_s,
            worst_age_ms=max(one.worst_ms for one in fleet.observers),
            lost=lost,
            errors=sum((_errors(fleet) - before).values()),
            seed=fleet.seed,
        )
    )


def _begin(fleet: Fleet) -> Counter[str]:
    for observer in fleet.observers:
        observer.worst_ms = 0
        observer.wrong.clear()
    return _errors(fleet)


def _errors(fleet: Fleet) -> Counter[str]:
    return sum((one.errors for one in fleet.observers), Counter[str]())


async def _recover(fleet: Fleet, fault: Fault, pins: Pins) -> float:
    """Wait until everybody holds the newest; returns the seconds it took."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    while not all(one.holds(pins) for one in fleet.observers):
        assert all(part.running for part in fleet.parts), fleet.story(pins)
        waited_s = loop.time() - began_s
        assert waited_s < fault.within_s, f"{fault.name}: {fleet.story(pins)}"
        await asyncio.sleep(0.02)
    return loop.time() - began_s


async def _check(fleet: Fleet, fault: Fault, feet: dict[Part, tuple[int, int]]) -> None:
    wrong = [line for one in fleet.observers for line in one.wrong]
    assert not wrong, f"{fault.name}, seed {fleet.seed}: {wrong[:5]}"
    worst_s = max(one.worst_ms for one in fleet.observers) / 1000
    assert worst_s <= fault.fresh_s, f"{fault.name}: {worst_s} s old and called live"
    assert not fleet.breaches(), f"{fault.name}, seed {fleet.seed}"
    assert all(part.running for part in fleet.parts), fleet.story({})
    await _check_footprints(fleet, fault, feet)


async def _check_footprints(
    fleet: Fleet, fault: Fault, feet: dict[Part, tuple[int, int]]
) -> None:
    """Wait until descriptors and connections have come back; look at the memory."""

    def lean() -> bool:
        return all(
            part.footprint()[1] <= files + _DESCRIPTORS_MAX
            for part, (_, files) in feet.items()
        ) and all(one <= 1 for one in fleet.open_connections().values())

    async with asyncio.timeout(fault.within_s):
        while not lean():  # noqa: ASYNC110 - the condition is another process's
            await asyncio.sleep(0.05)
    for part, (octets, _) in feet.items():
        grown = part.footprint()[0] - octets
        assert grown < _GROWN_MAX, f"{fault.name}: grew by {grown} bytes"
    assert await fleet.valkey.used_bytes() < _STORE_MAX
