"""What a benchmark found, as a table for people and as JSON for machines. Pure."""

from collections.abc import Sequence
from statistics import median
from typing import Literal

import msgspec
from msgspec import Struct
from rich.console import Group
from rich.table import Table
from rich.text import Text


class Goal(Struct, frozen=True):
    """What one side is to reach, as a multiple of another, or by itself."""

    against: str
    bound: Literal["at least", "at most"]
    value: float

    def is_met(self, reached: float) -> bool:
        """Tell whether it is reached."""
        if self.bound == "at least":
            return reached >= self.value
        return reached <= self.value

    def __str__(self) -> str:
        times = f" times {self.against}" if self.against else ""
        return f"{self.bound} {self.value:.4g}{times}"


class Measure(Struct, kw_only=True):
    """One quantity: every side's values, a value for each turn.

    ``row`` is the number of the goal, ``ours`` the side that is to reach it. A point
    of a curve names it, and where on it the point stands.
    """

    row: int
    what: str
    unit: str
    goals: tuple[Goal, ...] = ()
    sides: dict[str, list[float]] = {}
    ours: str = "relay"
    curve: str = ""
    at: float = 0

    def add(self, side: str, value: float) -> None:
        """Take one turn's value."""
        self.sides.setdefault(side, []).append(value)

    def judged(self) -> list[Goal]:
        """Return the goals whose other side was measured."""
        if not self.sides.get(self.ours):
            return []
        return [
            one for one in self.goals if not one.against or one.against in self.sides
        ]

    def verdicts(self) -> list["Verdict"]:
        """Compare our median with each goal whose other side was measured."""
        return [self._judge(goal) for goal in self.judged()]

    def _judge(self, goal: Goal) -> "Verdict":
        ours = median(self.sides[self.ours])
        if goal.against:
            ours /= median(self.sides[goal.against]) or float("nan")
        return Verdict(str(goal), ours, goal.is_met(ours))


class Verdict(Struct, frozen=True):
    """One goal, what was reached, and whether that is enough."""

    goal: str
    reached: float
    met: bool


class Sheet(Struct, kw_only=True):
    """One benchmark: where it ran, what was measured, and what went wrong.

    ``quick`` is a run too short to conclude from, ``turns`` how often each side ran.
    """

    name: str
    command: str
    machine: str
    commit: str
    quick: bool
    turns: int
    measures: list[Measure]
    notes: list[str] = []


def number(value: float) -> str:
    """Write a number with three digits or all of its whole ones."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _spread(values: Sequence[float]) -> str:
    return f"{number(min(values))} to {number(max(values))}"


def draw(sheet: Sheet) -> Group:
    """Draw a sheet."""
    table = Table(title=f"{sheet.name}{' (quick: no verdict)' * sheet.quick}")
    for name in ("goal", "what", "side", "median", "lowest to highest", "turns"):
        table.add_column(name, justify="right" if name == "median" else "left")
    verdicts = []
    for measure in sheet.measures:
        for side, values in measure.sides.items():
            what = f"{measure.what}, {measure.unit}"
            middle = number(median(values))
            table.add_row(
                str(measure.row), what, side, middle, _spread(values), str(len(values))
            )
        table.add_section()
        verdicts += [_line(measure, verdict) for verdict in measure.verdicts()]
    return Group(
        table,
        *([] if sheet.quick else verdicts),
        *(Text(f"not measured: {note}") for note in sheet.notes),
        Text(f"{sheet.machine}; commit {sheet.commit}; {sheet.command}"),
    )


def _line(measure: Measure, verdict: Verdict) -> Text:
    met = "met" if verdict.met else "NOT MET"
    reached = number(verdict.reached)
    return Text(
        f"goal {measure.row}, {measure.what}: {reached} ({verdict.goal}): {met}"
    )


def encode(sheet: Sheet) -> bytes:
    """Write a sheet as JSON, with its medians and verdicts."""
    measures = [
        {
            **msgspec.to_builtins(measure),
            "medians": {side: median(values) for side, values in measure.sides.items()},
            "verdicts": [] if sheet.quick else measure.verdicts(),
        }
        for measure in sheet.measures
    ]
    return msgspec.json.encode({**msgspec.to_builtins(sheet), "measures": measures})
