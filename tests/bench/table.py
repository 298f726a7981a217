"""``python tests/bench table FILE [SVG]``: the README's table, of what ``--out`` kept.

Of several sheets of one benchmark the last counts. The picture is drawn anew as well.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import msgspec

from tests.bench import plot
from tests.bench.sheet import Measure, Sheet, Verdict, number

_HEAD = (
    "| goal | what | relay | beside | reached | asked | met |",
    "|--:|---|--:|---|--:|---|---|",
)


def read(path: Path) -> list[Sheet]:
    """Read the sheets of a file, in the order of the goals."""
    decode = msgspec.json.Decoder(Sheet).decode
    lines = path.read_bytes().splitlines()
    last = {sheet.name: sheet for sheet in map(decode, lines)}
    return sorted(last.values(), key=_first_row)


def _first_row(sheet: Sheet) -> int:
    return min((one.row for one in sheet.measures), default=0)


def markdown(sheets: Sequence[Sheet]) -> str:
    """Write a line for each goal; what counts by the core leaves out the clock's."""
    lines = [line for sheet in sheets for line in _lines(sheet)]
    machines = {f"{sheet.machine}; commit {sheet.commit}" for sheet in sheets}
    return "\n".join([*_HEAD, *lines, "", *sorted(machines), ""])


def _lines(sheet: Sheet) -> Iterator[str]:
    by_core = {one.what for one in sheet.measures if one.unit == "a CPU second"}
    for measure in sheet.measures:
        if measure.unit == "a second" and measure.what in by_core:
            continue
        for goal, verdict in zip(measure.judged(), measure.verdicts(), strict=True):
            yield _row(measure, verdict, goal.against)


def _row(measure: Measure, verdict: Verdict, against: str) -> str:
    beside = f"{against} {number(median(measure.sides[against]))}" if against else ""
    ours = number(median(measure.sides[measure.ours]))
    cells = (
        *(str(measure.row), f"{measure.what}, {measure.unit}", ours, beside),
        *(number(verdict.reached), verdict.goal, "yes" if verdict.met else "**no**"),
    )
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str]) -> None:
    """Print the table of a file, and draw it where that is asked for."""
    file, *pictures = map(Path, arguments)
    sheets = read(file)
    sys.stdout.write(markdown(sheets))
    for picture in pictures:
        picture.write_text(plot.draw(sheets), encoding="utf-8")
