"""Which of the faults run when, their one seed, and the table they end with.

``FAULTS_SEED`` sets the seed, ``FAULTS_TABLE`` names a file for the table.
"""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.faults.fleet import Fleet, open_fleet
from tests.faults.report import KINDS, ROWS, save, summary, table

_FOLDER = Path(__file__).parent
_MARKED = ("faults", "soak")


def pytest_configure(config: pytest.Config) -> None:
    """Name the marks that are only asked for by name."""
    config.addinivalue_line("markers", "faults: real processes are hurt (minutes)")
    config.addinivalue_line("markers", "soak: long and large (an hour)")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out what is long, unless a mark is asked for.

    Who asks for the faults gets those as well that run without being asked for.
    """
    asked = config.getoption("markexpr")
    for item in items if asked == "faults" else ():
        if _FOLDER in item.path.parents and not item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.faults)
    if asked:
        return
    left = [item for item in items if any(item.get_closest_marker(m) for m in _MARKED)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was promised and what was measured."""
    if ROWS:
        terminalreporter.section("faults")
        for line in (*table(), "", *summary()):
            terminalreporter.write_line(line)
        file = os.environ.get("FAULTS_TABLE")  # noqa: TID251 - the tests have no settings
        if file:
            save(Path(file))


@pytest.fixture(scope="session")
def seed() -> int:
    """Return the run's one seed: FAULTS_SEED, or a new one."""
    given = os.environ.get("FAULTS_SEED")  # noqa: TID251 - the tests have no settings
    return int(given) if given else secrets.randbelow(1_000_000)


@pytest.fixture(scope="module", autouse=True)
def kind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Note which rows are of this file."""
    before = len(ROWS)
    yield
    if len(ROWS) > before:
        name = request.module.__name__.rpartition(".")[2]
        KINDS[name.removeprefix("test_")] = ROWS[before:]


@pytest.fixture(scope="module")
async def fleet(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> AsyncIterator[Fleet]:
    """Run one fleet for all the faults of a file: it has to survive each of them."""
    folder = tmp_path_factory.mktemp("fleet")
    async with open_fleet(folder, seed) as fleet:
        yield fleet


@pytest.fixture
async def sound(fleet: Fleet, seed: int) -> Fleet:
    """Return the fleet when nothing is wrong with it any more."""
    print(f"FAULTS_SEED={seed}")  # noqa: T201 - how to have the same run again
    await fleet.mend()
    return fleet
