"""What was found, as a picture: each goal and how far it was reached, and the curves.

Plain SVG. Pure.
"""

from collections.abc import Iterator, Sequence
from math import log10
from statistics import median
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from tests.bench.sheet import Goal, Measure, Sheet, number

_WIDTH: Final = 1060
_ROW: Final = 22
_TOP: Final = 76
# Where the lines of goals stand: the scale is a tenth to ten times the goal.
_LEFT, _RIGHT = 430, 790
_MIDDLE: Final = (_LEFT + _RIGHT) / 2
_DECADES: Final = 1.0
_PANEL: Final = 300
_MET, _MISSED, _INK, _PALE = "#2b7a4b", "#c2571a", "#222222", "#d4d4d4"
_OPENING: Final = (
    "<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}'"
    " viewBox='0 0 {width} {height}' font-family='Helvetica, Arial, sans-serif'"
    " font-size='12' fill='#222222'>"
)


class Bar(NamedTuple):
    """One goal: what it is about, what was reached, and by how much (1 is the goal)."""

    label: str
    reached: str
    share: float
    met: bool


def draw(sheets: Sequence[Sheet]) -> str:
    """Draw sheets, whichever there are."""
    bars = [bar for sheet in sheets for bar in _bars(sheet)]
    curves = _curves(sheets)
    below = _TOP + len(bars) * _ROW + 40
    height = below + (_PANEL if curves else 0)
    where = sheets[0].machine + "; commit " + sheets[0].commit if sheets else ""
    parts = [
        _OPENING.format(width=_WIDTH, height=height),
        f"<rect width='{_WIDTH}' height='{height}' fill='white'/>",
        _text(20, 28, "How far each goal is reached", font_size="17"),
        _text(20, 46, where, fill="#666666"),
    ]
    parts += _frame(len(bars))
    parts += [part for row, bar in enumerate(bars) for part in _bar(row, bar)]
    for column, points in enumerate(curves):
        parts += _panel(20 + column * 490, below, points)
    return "\n".join([*parts, "</svg>\n"])


def _text(x: float, y: float, words: str, **more: str) -> str:
    """Write words; what is given besides are attributes, such as ``text_anchor``."""
    given = "".join(f" {name.replace('_', '-')}='{one}'" for name, one in more.items())
    return f"<text x='{x:.0f}' y='{y:.0f}'{given}>{escape(words)}</text>"


def _line(
    start: tuple[float, float], end: tuple[float, float], stroke: str, width: float = 1
) -> str:
    return (
        f"<line x1='{start[0]:.1f}' y1='{start[1]:.1f}' x2='{end[0]:.1f}'"
        f" y2='{end[1]:.1f}' stroke='{stroke}' stroke-width='{width}'/>"
    )


def _bars(sheet: Sheet) -> Iterator[Bar]:
    for measure in sheet.measures:
        for goal, verdict in zip(measure.judged(), measure.verdicts(), strict=True):
            label = f"{measure.row}  {measure.what}, {measure.unit}"
            reached = f"{number(verdict.reached)} ({verdict.goal})"
            share = _share(goal, verdict.reached)
            yield Bar(label, reached, share, verdict.met)


def _share(goal: Goal, reached: float) -> float:
    """Return how far a goal is reached: more than 1 is better than it asks for."""
    above, below = reached, goal.value
    if goal.bound == "at most":
        above, below = below, above
    if below <= 0:
        return 1.0 if above <= 0 else 10**_DECADES
    return above / below


def _x(share: float) -> float:
    """Return where a share of the goal stands."""
    decades = log10(share) if share > 0 else -_DECADES
    decades = min(max(decades, -_DECADES), _DECADES)
    return _MIDDLE + decades / _DECADES * (_RIGHT - _LEFT) / 2


def _frame(rows: int) -> list[str]:
    bottom = _TOP + rows * _ROW
    marks = {0.1: "a tenth", 0.5: "half", 1: "the goal", 2: "twice", 10: "ten times"}
    parts = []
    for share, words in marks.items():
        stroke = _INK if share == 1 else _PALE
        parts.append(_line((_x(share), _TOP - 4), (_x(share), bottom), stroke))
        parts.append(
            _text(_x(share), _TOP - 9, words, font_size="11", text_anchor="middle")
        )
    return parts


def _bar(row: int, bar: Bar) -> list[str]:
    y = _TOP + row * _ROW + _ROW / 2
    colour = _MET if bar.met else _MISSED
    end = _x(bar.share)
    return [
        _text(20, y + 4, bar.label),
        _line((_MIDDLE, y), (end, y), colour, 5),
        f"<circle cx='{end:.1f}' cy='{y:.1f}' r='5' fill='{colour}'/>",
        _text(_RIGHT + 12, y + 4, bar.reached, fill=colour),
    ]


def _curves(sheets: Sequence[Sheet]) -> list[list[Measure]]:
    """Return the points of each curve, in order."""
    found: dict[str, list[Measure]] = {}
    for sheet in sheets:
        for measure in sheet.measures:
            if measure.curve and measure.sides.get(measure.ours):
                found.setdefault(measure.curve, []).append(measure)
    return [sorted(points, key=lambda one: one.at) for points in found.values()]


class Scale(NamedTuple):
    """A logarithmic scale, whose ends are powers of ten."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float) -> "Scale":
        """Make a scale that holds these values."""
        logs = [log10(max(value, 1e-9)) for value in values]
        low, high = int(min(logs) // 1), int(-(-max(logs) // 1))
        return cls(low, max(high, low + 1), start, end)

    def at(self, value: float) -> float:
        """Return where a value stands."""
        share = (log10(max(value, 1e-9)) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return the powers of ten."""
        return [10.0**power for power in range(int(self.low), int(self.high) + 1)]


def _panel(left: float, top: float, points: Sequence[Measure]) -> list[str]:
    """Draw one curve: medians on a line, each with its spread."""
    first = points[0]
    values = [value for one in points for value in one.sides[one.ours]]
    across = Scale.of([one.at for one in points], left + 60, left + 440)
    up = Scale.of(values, top + _PANEL - 50, top + 40)
    title = f"{first.what.split(' ')[0]} {first.what.split(' ')[1]}, by {first.curve}"
    parts = [_text(left, top + 16, f"Cost of {title}, {first.unit}", font_size="14")]
    for tick in across.ticks():
        x = across.at(tick)
        parts.append(_line((x, up.start), (x, up.end), _PALE))
        parts.append(_text(x, up.start + 18, f"{tick:,.0f}", text_anchor="middle"))
    for tick in up.ticks():
        y = up.at(tick)
        parts.append(_line((across.start, y), (across.end, y), _PALE))
        parts.append(_text(across.start - 8, y + 4, f"{tick:,.10g}", text_anchor="end"))
    places = [(across.at(one.at), up.at(median(one.sides[one.ours]))) for one in points]
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts.append(
        f"<polyline points='{joined}' fill='none' stroke='{_MET}' stroke-width='2'/>"
    )
    for one, (x, y) in zip(points, places, strict=True):
        spread = one.sides[one.ours]
        parts.append(_line((x, up.at(min(spread))), (x, up.at(max(spread))), _MET))
        parts.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='4' fill='{_MET}'/>")
        parts.append(_text(x - 8, y - 8, number(median(spread)), **_beside(places)))
    return parts


def _beside(places: Sequence[tuple[float, float]]) -> dict[str, str]:
    """Return where a number stands beside its point, so that no line goes through."""
    rises = places[-1][1] < places[0][1]
    return {"font_size": "11", "text_anchor": "end" if rises else "start"}
