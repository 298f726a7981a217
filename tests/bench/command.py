"""The command: which benchmarks there are, and how a sheet is shown."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import rich_click as click
import uvloop
from msgspec.structs import replace
from rich.console import Console

from tests.bench import fanout, memory, parse
from tests.bench.ground import (
    QUICK,
    WHOLE,
    Missing,
    Scale,
    commit,
    machine,
)
from tests.bench.sheet import Measure, Sheet, draw, encode

Run = Callable[[Scale], Awaitable[tuple[list[Measure], list[str]]]]

BENCHMARKS: Final[dict[str, Run]] = {
    "parse": parse.run,
    "fanout": fanout.run,
    "memory": memory.run,
}


@click.command()
@click.argument("name", type=click.Choice([*BENCHMARKS, "all"]))
@click.option("--quick", is_flag=True, help="One short turn: does it run at all?")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each.")
@click.option("--turns", type=click.IntRange(1), help="So many turns, instead of five.")
def main(
    name: str,
    quick: bool,  # noqa: FBT001 - the library hands flags over like this
    as_json: bool,  # noqa: FBT001 - the same
    turns: int | None,
) -> None:
    """Measure the relay beside its peers, in turns, and compare with the goals.

    Example: `uv run python tests/bench fanout`
    """
    names = list(BENCHMARKS) if name == "all" else [name]
    scale = QUICK if quick else WHOLE
    if turns is not None:
        scale = replace(scale, turns=turns)
    for one in names:
        sheet = _measure(one, scale, quick=quick)
        if as_json:
            sys.stdout.write(f"{encode(sheet).decode()}\n")
        else:
            Console(highlight=False).print(draw(sheet))


def _measure(name: str, scale: Scale, *, quick: bool) -> Sheet:
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            measures, notes = runner.run(_await(BENCHMARKS[name], scale))
    except Missing as missing:
        measures, notes = [], [f"{name}: needs {missing}"]
    return Sheet(
        name=name,
        command=f"uv run python tests/bench {name}{' --quick' * quick}",
        turns=scale.turns,
        machine=machine(),
        commit=commit(),
        quick=quick,
        measures=measures,
        notes=notes,
    )


async def _await(run: Run, scale: Scale) -> tuple[list[Measure], list[str]]:
    return await run(scale)
