"""Every find of the fuzzers, again; and, when asked for, a search for more."""

import asyncio
import importlib.util
import os
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.fuzz.targets import CORPUS, TARGETS

# For each target; longer finds more.
SECONDS: Final = int(os.environ.get("FUZZ_SECONDS", "10"))  # noqa: TID251 - the tests have no settings
GUIDED: Final = Path(__file__).parent / "guided.py"
FINDS: Final = sorted(file for file in CORPUS.glob("*/*") if file.is_file())


@pytest.mark.parametrize(
    "find", FINDS, ids=lambda file: f"{file.parent.name}/{file.name}"
)
def test_a_find_is_read_or_refused(find: Path) -> None:
    """What has broken a parser once, or led into its depths, does so no more."""
    TARGETS[find.parent.name](find.read_bytes())


def test_every_target_has_a_place_to_begin() -> None:
    """From nothing a search does not get past the first bracket."""
    assert {file.parent.name for file in FINDS} == set(TARGETS)


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("name", sorted(TARGETS))
async def test_a_search_guided_by_coverage_finds_nothing(
    name: str, tmp_path: Path
) -> None:
    """Bytes that reach new lines are kept, and changed further."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed")
    found = tmp_path / "found"
    found.mkdir()
    limits = ("-max_len=4096", f"-max_total_time={SECONDS}", "-timeout=20")
    kept = (f"-artifact_prefix={tmp_path}/", str(found))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(GUIDED), name, *limits, *kept),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode(errors="replace")[-4000:]
