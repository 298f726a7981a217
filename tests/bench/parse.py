"""Upstream frames for each processor second, from the socket to the merged ticker.

Goal 5. The frames stand in ``frames``, the relay's side in ``reader``, other libraries'
in ``peers``.
"""

import sys
from functools import partial
from importlib.util import find_spec
from typing import Final

from tests.bench.frames import RECORDED, SYMBOLS, sending
from tests.bench.ground import (
    HERE,
    Cores,
    Missing,
    Scale,
    Side,
    Unwell,
    aside,
    read_json,
    running,
    take_turns,
)
from tests.bench.sheet import Goal, Measure

# Each: what starts its reader, and how many frames it gets for one of ours; it is
# slower, and takes about as long with them.
_SIDES: Final = {
    "relay": (("read",), 1.0),
    "ccxt pro": (("peer", "ccxt"), 0.05),
    "cryptofeed": (("peer", "cryptofeed"), 0.25),
}


async def run(scale: Scale) -> tuple[list[Measure], list[str]]:
    """Measure everybody in turns; return the measure and who was not there."""
    kind = "recorded" if RECORDED.exists() else "documented"
    measure = Measure(
        row=5,
        what=f"{kind} frames, socket to merged ticker",
        unit="a CPU second",
        goals=(Goal("ccxt pro", "at least", 8), Goal("cryptofeed", "at least", 2.5)),
    )

    async def turn(name: str) -> None:
        words, share = _SIDES[name]
        measure.add(name, await _read(words, int(scale.frames * share)))

    with aside():
        sides: dict[str, Side] = {name: partial(turn, name) for name in _SIDES}
        notes = await take_turns(sides, scale.turns)
    return [measure], notes


async def _read(words: tuple[str, ...], many: int) -> float:
    """Return the frames a second of the processor that a reader takes.

    Raises:
        Missing: its package is not installed.
        Unwell: it did not merge what was sent.
    """
    if words[0] == "peer" and find_spec(words[1]) is None:
        group = "uv run --group peers python tests/bench parse"
        raise Missing(f"{words[1]} (PyPI: {words[1]}; {group})")
    # Raw streams are what ccxt asks for; the others ask for combined ones.
    async with sending(many, combined="ccxt" not in words) as port:
        program = (sys.executable, str(HERE), *words, str(port), str(many))
        async with running(*program, cores=Cores.here().server) as reader:
            said = await read_json(reader)
    if said["frames"] != many or len(said["merged"]) != len(SYMBOLS):
        raise Unwell(f"{said} of {many} frames")
    frames_a_second: float = many / said["cpu_s"]
    return frames_a_second
