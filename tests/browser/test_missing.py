"""Where Chromium or npm is missing, browser tests say so and are skipped."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_REACT = "test_react.py::test_the_types_say_what_the_modules_do"
_PAGE = "test_page.py::test_colours_are_chosen_and_remembered"

pytestmark = pytest.mark.browser


def run_without(test: str, **environment: str) -> str:
    """Run one test in another environment; returns what is said of it."""
    options = ["-n0", "-m", "", "-p", "no:cacheprovider", "-q", "--no-header"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(_HERE / test)],
        capture_output=True,
        check=False,
        cwd=_HERE.parents[1],
        env={**os.environ, **environment},  # noqa: TID251 - another process's
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    return " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("test", "missing"), [(_PAGE, "no Chromium"), (_REACT, "no npm")]
)
def test_what_is_missing_is_named(test: str, missing: str, tmp_path: Path) -> None:
    """Who reads a run must see what was not looked at, and what to install."""
    told = run_without(test, PATH=str(tmp_path))
    assert "1 skipped" in told
    assert f"there is {missing} here" in told


def test_a_registry_that_is_out_of_reach_is_named(
    tmp_path: Path, free_tcp_port: int
) -> None:
    """A machine without a network is no fault of the relay."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm here")
    told = run_without(
        _REACT,
        npm_config_registry=f"http://127.0.0.1:{free_tcp_port}",
        npm_config_cache=str(tmp_path),
        npm_config_fetch_retries="0",
        npm_config_replace_registry_host="always",
    )
    assert "1 skipped" in told
    assert "npm cannot install here" in told
