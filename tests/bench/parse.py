"""Upstream frames for each processor second, from the socket to the merged ticker.

Goal 5. The frames stand in ``frames``, the relay's side in ``reader``.
"""

import sys
from typing import Final

from tests.bench.frames import SYMBOLS, sending
from tests.bench.ground import HERE, Cores, Scale, Unwell, read_json, running
from tests.bench.sheet import Measure

_PEERS: Final = (
    "ccxt pro (PyPI: ccxt), of which 8 times are the goal: no reader of it is here",
    "cryptofeed (PyPI), of which 2.5 times are the goal: no reader of it is here",
)


async def run(scale: Scale) -> tuple[list[Measure], list[str]]:
    """Measure the relay; return the measure and who was not there."""
    measure = Measure(
        row=5, what="frames, socket to merged ticker", unit="a CPU second", sides={}
    )
    notes = list(_PEERS)
    for _ in range(scale.turns):
        try:
            measure.add("relay", await _read(scale.frames))
        except Unwell as unwell:
            notes.append(f"relay, one turn: {unwell}")
    return [measure], notes


async def _read(count: int) -> float:
    """Return the frames a second that the relay's reader takes.

    Raises:
        Unwell: it did not merge what was sent.
    """
    words = (sys.executable, str(HERE), "read")
    async with sending(count) as port:
        reading = running(*words, str(port), str(count), cores=Cores.here().server)
        async with reading as reader:
            said = await read_json(reader)
    if said["frames"] != count or len(said["merged"]) != len(SYMBOLS):
        raise Unwell(f"{said} of {count} frames")
    frames_a_second: float = count / said["cpu_s"]
    return frames_a_second
