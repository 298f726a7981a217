"""The lock and the ranges it was made from do not part."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "config/locked.txt").read_text()
LOCKED = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", TEXT, re.MULTILINE))


def _requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    # Peers are whatever is newest: a benchmark names the versions that it met.
    locked = [line for name in groups if name != "peers" for line in groups[name]]
    return [*project["project"]["dependencies"], *locked]


@pytest.mark.parametrize("line", _requirements())
def test_every_range_holds_what_is_locked(line: str) -> None:
    """After a change of a range: ``uv export``, as the README says."""
    requirement = Requirement(line)
    locked = LOCKED.get(canonicalize_name(requirement.name))
    assert locked is not None, f"{requirement.name} is not in config/locked.txt"
    assert requirement.specifier.contains(locked), f"{line} does not hold {locked}"


def test_the_lock_has_hashes_and_no_addresses() -> None:
    """Whoever installs from it chooses where to download from."""
    assert "://" not in TEXT
    for entry in re.split(r"^(?=\S)", TEXT, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in entry, entry


def test_uv_lock_is_not_committed() -> None:
    """It names download hosts."""
    assert "uv.lock" in (ROOT / ".gitignore").read_text().splitlines()
