"""What a crowd of pollers costs the instances behind a real edge. Goal 7.

Two instances, one selection, and the settings that we ship for Varnish and nginx;
counted in requests of the instances for each step of the grid.
"""

import shutil
import sys
import tempfile
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Final

from relay.config import load
from relay.store.embedded import embedded
from relay.store.keys import Keys
from tests.bench.ground import Missing, Scale, Side, Unwell, first_of, take_turns
from tests.bench.sheet import Goal, Measure
from tests.edge.stage import stage
from tests.edge.test_collapse import NGINX_LEAK, Cost, Run, cost
from tests.harness import open_client

# Each: its program, and how many of those who wait for one answer it lets through as
# well; the Debian package has the edge's own name.
_EDGES: Final = {"varnish": ("varnishd", 0.0), "nginx": ("nginx", 1 / NGINX_LEAK)}
_WHOLE: Final = Run(count=2000, steps=8, settle=3)
_QUICK: Final = Run(count=100, steps=2, settle=1)
_SHARE: Final = 1.05
_PLACES: Final = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"


async def _crowd(edge: str, run: Run) -> Cost:
    """Let a crowd poll, and say what it cost.

    Raises:
        Missing: the edge is not installed.
        Unwell: a client was answered with an error, or none came.
    """
    program, _ = _EDGES[edge]
    if shutil.which(program, path=_PLACES) is None:
        raise Missing(f"{program} (Debian: {edge})")
    try:
        with tempfile.TemporaryDirectory() as folder:
            return await _behind(edge, run, Path(folder))
    except* (AssertionError, TimeoutError) as wrong:
        raise Unwell(str(first_of(wrong))) from wrong


async def _behind(edge: str, run: Run, folder: Path) -> Cost:
    async with (
        embedded() as url,
        open_client(url, load(environ={}).settings) as client,
        stage(client, Keys("bench"), url) as behind,
    ):
        # What it says on the way is for people.
        with redirect_stdout(sys.stderr):
            return await cost(behind, edge, folder, run)


async def run(scale: Scale) -> tuple[list[Measure], list[str]]:
    """Measure both edges in turns; return the measures and what went wrong."""
    size = _QUICK if scale.quick else _WHOLE
    costs, behind = {}, {}
    for edge, (_, leak) in _EDGES.items():
        most = Goal("", "at most", _SHARE + size.count * leak)
        costs[edge] = Measure(
            row=7, what=f"{size.count:,} pollers, {edge}", unit="a step", goals=(most,)
        )
        behind[edge] = Measure(
            row=7,
            what=f"furthest behind, {edge}",
            unit="steps",
            goals=(Goal("", "at most", 1),),
        )

    async def turn(edge: str) -> None:
        found = await _crowd(edge, size)
        costs[edge].add("relay", found.requests)
        behind[edge].add("relay", found.seen.behind)

    sides: dict[str, Side] = {edge: partial(turn, edge) for edge in _EDGES}
    if scale.quick:
        # The tests of the edges take a short look at both.
        del sides["nginx"]
    notes = await take_turns(sides, scale.turns)
    return [*costs.values(), *behind.values()], notes
