"""The command: which benchmarks there are, and how a sheet is shown and kept."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import Final

import rich_click as click
import uvloop
from msgspec.structs import replace
from rich.console import Console

from tests.bench import plot
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

BENCHMARKS: Final = {
    "fanout": "deliveries a second and their age, one instrument (goals 1, 3)",
    "age": "the price that clients hold while 5,000 change a second (2)",
    "memory": "memory of idle streams (4)",
    "parse": "an exchange's frames, read and merged (5)",
    "reads": "conditional REST reads (6)",
    "edge": "pollers behind Varnish and nginx (7)",
    "upstream": "a simulated hour of one, ten and fifty instances (8)",
    "through": "an exchange's frame to a client (9)",
    "startup": "a function's first answer (10)",
    "scale": "more clients, more instruments, more servers (11)",
}
"""Each is a module of this name with a ``run``."""


@click.command(epilog="; ".join(f"{name}: {what}" for name, what in BENCHMARKS.items()))
@click.argument(
    "names", nargs=-1, required=True, type=click.Choice([*BENCHMARKS, "all"])
)
@click.option("--quick", is_flag=True, help="One short turn: does it run at all?")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each.")
@click.option("--turns", type=click.IntRange(1), help="So many turns, instead of five.")
@click.option("--out", type=Path, help="Append each line of JSON to this file.")
@click.option("--svg", type=Path, help="Draw everything into this file.")
def main(  # noqa: PLR0913 - each is an option
    *,
    names: tuple[str, ...],
    quick: bool,
    as_json: bool,
    turns: int | None,
    out: Path | None,
    svg: Path | None,
) -> None:
    """Measure the relay beside its peers, in turns, and compare with the goals.

    Example: `uv run python tests/bench fanout`
    """
    scale = QUICK if quick else WHOLE
    scale = scale if turns is None else replace(scale, turns=turns)
    sheets = []
    for one in BENCHMARKS if "all" in names else names:
        sheet = _measure(one, scale)
        sheets.append(sheet)
        _show(sheet, as_json=as_json)
        if out is not None:
            with out.open("ab") as file:
                file.write(encode(sheet) + b"\n")
        if svg is not None:
            svg.write_text(plot.draw(sheets), encoding="utf-8")


def _show(sheet: Sheet, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(f"{encode(sheet).decode()}\n")
    else:
        Console(highlight=False).print(draw(sheet))
    sys.stdout.flush()


def _measure(name: str, scale: Scale) -> Sheet:
    run: Run = import_module(f"tests.bench.{name}").run
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            measures, notes = runner.run(_await(run, scale))
    except Missing as missing:
        measures, notes = [], [f"{name}: needs {missing}"]
    return Sheet(
        name=name,
        command=f"uv run python tests/bench {name}{' --quick' * scale.quick}",
        turns=scale.turns,
        machine=machine(),
        commit=commit(),
        quick=scale.quick,
        measures=measures,
        notes=notes,
    )


async def _await(run: Run, scale: Scale) -> tuple[list[Measure], list[str]]:
    return await run(scale)
