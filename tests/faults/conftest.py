"""Which of the faults run when, their one seed, and the table they end with."""

import os
import secrets
from collections.abc import AsyncIterator

import pytest

from tests.faults.fleet import Fleet, open_fleet
from tests.faults.report import ROWS, table

_MARKED = ("faults", "soak")


def pytest_configure(config: pytest.Config) -> None:
    """Name the marks that are only asked for by name."""
    config.addinivalue_line("markers", "faults: real processes are hurt (minutes)")
    config.addinivalue_line("markers", "soak: long and large (an hour)")


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out what is long, unless a mark is asked for."""
    if config.getoption("markexpr"):
        return
    left = [item for item in items if any(item.get_closest_marker(m) for m in _MARKED)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was promised and what was measured."""
    if ROWS:
        terminalreporter.section("faults")
        for line in table():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def seed() -> int:
    """Return the run's one seed: FAULTS_SEED, or a new one."""
    given = os.environ.get("FAULTS_SEED")  # noqa: TID251 - the tests have no settings
    return int(given) if given else secrets.randbelow(1_000_000)


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
