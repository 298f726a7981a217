"""Who loads the servers: a C program that holds streams and reads each price's age.

What it is pointed at stands in ``servers``.
"""

import asyncio
from typing import Any

from msgspec import Struct

from tests.bench.ground import (
    Cores,
    Scale,
    Unwell,
    cpu_s,
    opened,
    read_json,
    resident,
    running,
)
from tests.bench.servers import Load, Served


class Heard(Struct, frozen=True, kw_only=True):
    """What streams were told while they were measured, and what that cost the server.

    Ages are milliseconds at which half of the deliveries and 99 of 100 arrived;
    ``held_ms`` are those of the prices that clients held, looked at now and then.
    """

    deliveries: int
    closed: int
    cpu_s: float
    grown: int
    age_ms: dict[str, float]
    held_ms: dict[str, float]


async def stream(
    streamload: str, served: Served, load: Load, scale: Scale, cores: Cores
) -> Heard:
    """Hold streams for so long.

    Raises:
        Unwell: not all of them were opened and heard something.
    """
    words = [
        *(streamload, "127.0.0.1", str(served.port), served.path),
        *(str(load.streams), str(load.seconds), served.marker, served.unit),
        *(str(scale.warm_s), "", served.name_mark),
    ]
    async with running(*words, cores=cores.others) as loading:
        await opened(loading)
        served.go()
        await asyncio.sleep(scale.warm_s)
        before_s, before = cpu_s(*served.pids), resident(*served.pids)
        said = await read_json(loading)
        spent_s = cpu_s(*served.pids) - before_s
        grown = resident(*served.pids) - before
    silent = said["silent"] if served.everybody else not said["deliveries"]
    if said["ok"] < load.streams or silent:
        raise Unwell(f"{said['silent']} streams of {load.streams} heard nothing")
    return Heard(
        deliveries=said["deliveries"],
        closed=said["closed"],
        cpu_s=spent_s,
        grown=grown,
        age_ms=_in_ms(said["age_us"]),
        held_ms=_in_ms(said["held_us"]),
    )


def _in_ms(ages_us: dict[str, Any]) -> dict[str, float]:
    return {share: age_us / 1000 for share, age_us in ages_us.items()}
