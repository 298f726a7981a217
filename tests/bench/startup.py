"""From a process's start to its first answer, beside a bare Litestar. Goal 10.

The packaged ``api``, in an interpreter that sees nothing else; what is counted is the
processor's time. A quick run takes the tree in place of the package.
"""

import asyncio
import platform
import resource
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Final

from functions.package import install
from functions.startup import BARE, RELAY, run_clean
from relay.store.embedded import embedded
from tests.bench.ground import ROOT, Missing, Scale, Side, Unwell, take_turns
from tests.bench.sheet import Goal, Measure

_SIDES: Final = {"relay": RELAY, "bare Litestar": BARE}
# Starts in each turn, of which the least counts: what else runs only adds.
_STARTS: Final = 4
_MOST: Final = 1.15


async def run(scale: Scale) -> tuple[list[Measure], list[str]]:
    """Start both in turns; return the measure and what went wrong.

    Raises:
        Missing: the package cannot be made.
    """
    measure = Measure(
        row=10,
        what="start to first answer" if not scale.quick else "start, from the tree",
        unit="CPU ms",
        goals=(Goal("bare Litestar", "at most", _MOST),),
    )
    folder = ROOT if scale.quick else await asyncio.to_thread(_package)
    async with embedded() as url:
        environ = {"RELAY_VALKEY_URL": url, "RELAY_PLATFORM": "lambda"}

        async def turn(name: str) -> None:
            starts = 1 if scale.quick else _STARTS
            bare = not scale.quick
            least = min(
                [
                    await asyncio.to_thread(
                        _start, folder, _SIDES[name], environ, bare=bare
                    )
                    for _ in range(starts)
                ]
            )
            measure.add(name, least)

        sides: dict[str, Side] = {name: partial(turn, name) for name in _SIDES}
        notes = await take_turns(sides, scale.turns)
    return [measure], notes


def _package() -> Path:
    """Make the package of ``api`` for this machine; return its folder.

    Raises:
        Missing: uv is not here, or cannot fetch what is locked.
    """
    if shutil.which("uv") is None:
        raise Missing("uv (PyPI: uv)")
    arch = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    try:
        return install("api", arch=arch, offline=False)
    except subprocess.CalledProcessError as error:
        raise Missing(f"what config/locked.txt names: {error}") from error


def _start(folder: Path, code: str, environ: dict[str, str], *, bare: bool) -> float:
    """Return the milliseconds of the processor from start to first answer.

    Raises:
        Unwell: there was none.
    """
    before_ms = _spent_ms()
    try:
        run_clean(folder, code, environ, bare=bare)
    except AssertionError as error:
        raise Unwell(str(error)) from error
    return _spent_ms() - before_ms


def _spent_ms() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1000
