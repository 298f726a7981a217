"""The benchmarks run, compare with their goals, and say who was not there."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from msgspec.structs import replace

from tests.bench import plot, table
from tests.bench.command import BENCHMARKS
from tests.bench.ground import HERE, ROOT, Missing, Unwell, take_turns
from tests.bench.sheet import Goal, Measure, Sheet, encode

_LOADED_BY = {
    "fanout": ("cc", "gcc"),
    "age": ("cc", "gcc"),
    "memory": ("cc", "gcc"),
    "reads": ("wrk", "wrk"),
    "through": ("cc", "gcc"),
    "scale": ("cc", "gcc"),
}


# Two at once, of which each waits for processes to start most of the time.
_HALVES = (
    ("fanout", "reads", "parse", "upstream", "edge"),
    ("scale", "age", "through", "memory", "startup"),
)


def run_quickly(names: tuple[str, ...], folder: Path) -> None:
    """Run some of them; what they find is kept in the folder."""
    kept = folder / names[0]
    files = ("--out", f"{kept}.jsonl", "--svg", f"{kept}.svg")
    done = subprocess.run(
        [sys.executable, str(HERE), *names, "--quick", "--json", *files],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin:/usr/sbin"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == Path(f"{kept}.jsonl").read_text()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run everything quickly, once; return the folder of what was kept."""
    folder = tmp_path_factory.mktemp("bench")
    with ThreadPoolExecutor() as pool:
        halves = [pool.submit(run_quickly, names, folder) for names in _HALVES]
    for half in halves:
        half.result()
    return folder


@pytest.fixture(scope="module")
def sheets(kept: Path) -> dict[str, Sheet]:
    """Return every sheet by its name."""
    read = (table.read(path) for path in kept.glob("*.jsonl"))
    return {sheet.name: sheet for some in read for sheet in some}


@pytest.mark.timeout(160)
@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_a_quick_run_measures_the_relay(sheets: dict[str, Sheet], name: str) -> None:
    """A benchmark that nobody runs is broken when it is needed."""
    program, package = _LOADED_BY.get(name, ("", ""))
    if program and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (Debian: {package})")
    sheet = sheets[name]
    assert sheet.quick
    assert sheet.machine
    assert sheet.command == f"uv run python tests/bench {name} --quick"
    # A turn that went wrong on a busy machine is said, and never counted.
    assert sheet.measures
    for measure in sheet.measures:
        if name == "edge" and "nginx" in measure.what:
            continue  # a quick run leaves it to the tests of the edges
        assert measure.sides.get(measure.ours) or ", one turn: " in "".join(sheet.notes)
        assert all(value >= 0 for side in measure.sides.values() for value in side)


@pytest.mark.timeout(160)
def test_every_goal_is_measured(sheets: dict[str, Sheet]) -> None:
    """Eleven were set; none may be forgotten."""
    for program in ("cc", "wrk"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    rows = {one.row for sheet in sheets.values() for one in sheet.measures}
    assert rows == set(range(1, 12))


@pytest.mark.timeout(160)
def test_the_picture_is_one_that_programs_can_read(kept: Path) -> None:
    """What stands in a label may be anything."""
    pictures = [ET.parse(path).getroot() for path in kept.glob("*.svg")]
    assert len(pictures) == len(_HALVES)
    assert all(root.tag.endswith("svg") and len(root) > 20 for root in pictures)


def sheet_of(*measures: Measure) -> Sheet:
    """Return a sheet of these measures."""
    return Sheet(
        name="x",
        command="y",
        machine="a machine <&>",
        commit="abc",
        quick=False,
        turns=3,
        measures=list(measures),
    )


def measured(*goals: Goal, **sides: list[float]) -> Measure:
    """Return a measure with these values."""
    return Measure(row=1, what="x", unit="y", goals=goals, sides=sides)


def test_a_goal_is_judged_by_the_ratio_of_the_medians() -> None:
    """One turn that somebody disturbed decides nothing."""
    goals = Goal("nchan", "at least", 1.6), Goal("nchan", "at most", 1.2)
    found = measured(*goals, relay=[1, 200, 160], nchan=[100, 100, 900]).verdicts()
    assert [(one.reached, one.met) for one in found] == [(1.6, True), (1.6, False)]


def test_a_goal_without_another_side_is_judged_by_itself() -> None:
    """Memory has a bound of its own."""
    (found,) = measured(Goal("", "at most", 14), relay=[15.7]).verdicts()
    assert (found.reached, found.met) == (15.7, False)


def test_who_was_not_measured_is_not_judged() -> None:
    """Neither as met nor as missed."""
    goal = Goal("nchan", "at least", 1.6)
    assert measured(goal, relay=[1]).verdicts() == []
    assert measured(goal, nchan=[1]).verdicts() == []


async def test_who_is_missing_gets_no_other_turn_and_the_rest_goes_on() -> None:
    """A peer that is not installed costs its own column only."""
    turns: list[str] = []

    async def here() -> None:
        turns.append("here")

    async def missing() -> None:
        turns.append("missing")
        raise Missing("nchan (Debian: libnginx-mod-nchan)")

    async def unwell() -> None:
        turns.append("unwell")
        raise Unwell("nobody heard anything")

    notes = await take_turns({"a": missing, "b": here, "c": unwell}, 2)
    assert turns == ["missing", "here", "unwell", "here", "unwell"]
    assert notes[0] == "a: needs nchan (Debian: libnginx-mod-nchan)"
    assert notes[1:] == 2 * ["c, one turn: nobody heard anything"]


def test_the_table_has_the_newest_sheet_and_a_line_for_each_goal(
    tmp_path: Path,
) -> None:
    """A run that was repeated replaces the one before."""
    goal = Goal("nchan", "at least", 1.6)
    file = tmp_path / "out.jsonl"
    older, newer = (
        sheet_of(measured(goal, relay=[value], nchan=[100])) for value in (100, 170)
    )
    file.write_bytes(encode(older) + b"\n" + encode(newer) + b"\n")
    lines = table.markdown(table.read(file)).splitlines()
    assert lines[2:] == [
        "| 1 | x, y | 170 | nchan 100 | 1.7 | at least 1.6 times nchan | yes |",
        "",
        "a machine <&>; commit abc",
    ]


def test_a_quick_run_is_not_judged() -> None:
    """It is too short to conclude from."""
    sheet = replace(sheet_of(measured(Goal("", "at most", 14), relay=[1])), quick=True)
    (measure,) = msgspec.json.decode(encode(sheet))["measures"]
    assert measure["verdicts"] == []


def test_a_sheet_can_be_read_again() -> None:
    """The table is made of what was kept, on another day."""
    sheet = sheet_of(measured(Goal("", "at most", 14), relay=[15.7]))
    assert msgspec.json.decode(encode(sheet), type=Sheet) == sheet


def test_a_picture_shows_each_goal_and_each_curve() -> None:
    """A missed goal has another colour than one that was met."""
    points = [
        Measure(
            row=11,
            what="a thing & others",
            unit="µs",
            sides={"relay": [size * 2.0, size * 3.0]},
            curve="clients",
            at=size,
        )
        for size in (10, 100)
    ]
    goals = Goal("", "at most", 14), Goal("", "at least", 14)
    drawn = plot.draw([sheet_of(measured(*goals, relay=[15.7]), *points)])
    root = ET.fromstring(drawn)
    colours = {one.get("fill") for one in root.iter() if one.tag.endswith("circle")}
    assert colours == {"#2b7a4b", "#c2571a"}
    assert len([one for one in root.iter() if one.tag.endswith("polyline")]) == 1
