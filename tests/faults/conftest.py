"""Which of the faults run when and in which order, their one seed, and their table.

``FAULTS_SEED`` sets the seed, ``FAULTS_TABLE`` names a file for the table.
"""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from functools import cache
from itertools import groupby
from pathlib import Path
from random import Random

import pytest

from tests.faults.fleet import Fleet, open_fleet
from tests.faults.report import KINDS, ROWS, written

_FOLDER = Path(__file__).parent
_MARKED = ("faults", "soak")
# Whose file's name alone does not say what its faults are of.
_KINDS = {
    "orders": "processes, in any order",
    "quick": "a little of everything",
    "seeds": "what has failed once",
    "shapes": "clocks, clusters, edges",
}


@cache
def _seed() -> int:
    """Return the run's one seed, in each process of a run that has several."""
    given = os.environ.get("FAULTS_SEED")  # noqa: TID251 - the tests have no settings
    shared = os.environ.get("PYTEST_XDIST_TESTRUNUID")  # noqa: TID251 - xdist's own
    if given:
        return int(given)
    drawn = Random(shared).randrange(10**6) if shared else secrets.randbelow(10**6)
    # For the processes that this one starts, where a run has several.
    os.environ["FAULTS_SEED"] = f"{drawn}"  # noqa: TID251 - the tests have no settings
    return drawn


def pytest_configure(config: pytest.Config) -> None:
    """Name the marks that are only asked for by name."""
    config.addinivalue_line("markers", "faults: real processes are hurt (minutes)")
    config.addinivalue_line("markers", "soak: long and large (an hour)")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out what is long, unless a mark is asked for.

    Who asks for the faults gets those as well that run without being asked for, and
    each file's in an order of the seed's: what one fault leaves behind meets another.
    """
    asked = config.getoption("markexpr")
    for item in items if asked == "faults" else ():
        if _FOLDER in item.path.parents and not item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.faults)
    if asked:
        items[:] = _shuffled(items)
        return
    left = [item for item in items if any(item.get_closest_marker(m) for m in _MARKED)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def _shuffled(items: list[pytest.Item]) -> list[pytest.Item]:
    """Let the faults of a file come in any order; files stay where they are."""
    order: list[pytest.Item] = []
    for path, group in groupby(items, lambda item: item.path):
        of_file = list(group)
        if path.parent == _FOLDER:
            Random(f"{_seed()} {path.name}").shuffle(of_file)
        order += of_file
    return order


def pytest_report_header() -> str:
    """Say how to have the same run again."""
    return f"FAULTS_SEED={_seed()}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was promised and what was measured, and what was left out."""
    if not ROWS:
        return
    lines = written(_left_out(terminalreporter))
    terminalreporter.section("faults")
    for line in lines:
        terminalreporter.write_line(line)
    file = os.environ.get("FAULTS_TABLE")  # noqa: TID251 - the tests have no settings
    if file:
        Path(file).write_text("\n".join(lines), encoding="utf-8")


def _left_out(terminalreporter: pytest.TerminalReporter) -> list[str]:
    """Name each fault that could not be tried on this machine, and why."""
    lines = []
    for report in terminalreporter.getreports("skipped"):
        if "tests/faults/" in report.nodeid and isinstance(report.longrepr, tuple):
            name, why = report.nodeid.rpartition("::")[2], report.longrepr[2]
            lines.append(f"left out: {name}: {why.removeprefix('Skipped: ')}")
    return lines


@pytest.fixture(scope="session")
def seed() -> int:
    """Return the run's one seed: FAULTS_SEED, or a new one."""
    return _seed()


@pytest.fixture(scope="module", autouse=True)
def kind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Note which rows are of this file."""
    before = len(ROWS)
    yield
    if len(ROWS) > before:
        name = request.module.__name__.rpartition(".")[2].removeprefix("test_")
        KINDS[_KINDS.get(name, name)] = ROWS[before:]


@pytest.fixture(scope="module")
async def fleet(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> AsyncIterator[Fleet]:
    """Run one fleet for all the faults of a file: it has to survive each of them."""
    folder = tmp_path_factory.mktemp("fleet")
    async with open_fleet(folder, seed) as fleet:
        yield fleet


@pytest.fixture
async def sound(fleet: Fleet) -> Fleet:
    """Return the fleet when nothing is wrong with it any more."""
    await fleet.mend()
    return fleet
