"""The benchmarks run, compare with their goals, and say who was not there."""

import shutil
import subprocess
import sys

import msgspec
import pytest

from tests.bench.ground import HERE, ROOT
from tests.bench.sheet import Goal, Measure

NAMES = ("parse", "fanout", "memory")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", NAMES)
def test_a_quick_run_measures_the_relay(name: str) -> None:
    """A benchmark that nobody runs is broken when it is needed."""
    if name != "parse" and shutil.which("cc") is None:
        pytest.skip("the load generator needs a C compiler (Debian: gcc)")
    done = subprocess.run(
        [sys.executable, str(HERE), name, "--quick", "--json"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin:/usr/sbin"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sheet = msgspec.json.decode(done.stdout)
    assert sheet["quick"]
    assert sheet["machine"]
    assert sheet["command"] == f"uv run python tests/bench {name} --quick"
    # A turn that went wrong on a busy machine is said, and never counted.
    told = " ".join(sheet["notes"])
    for measure in sheet["measures"]:
        assert measure["verdicts"] == []
        assert measure["sides"].get("relay", []) or "relay, one turn" in told
        assert all(value >= 0 for value in measure["medians"].values())


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
