"""What is written down is there and true: settings, errors, the README's examples."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from relay import errors
from relay.cli import main
from tests.simulation.processes import relay

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TOML = sorted([ROOT / "config/default.toml", *ROOT.glob("config/exchanges/*.toml")])

# Which test runs a command of the README; ``curl`` is run right here.
RUN_BY = {
    "pip install uv && uv run relay up --sim": "tests/simulation/test_up.py",
    "pip install uv && uv run pytest": ".ci/run",
    "RELAY_VALKEY_URL=valkey://127.0.0.1:6379 relay worker": (
        "tests/simulation/test_handover.py"
    ),
    "RELAY_VALKEY_URL=valkey://127.0.0.1:6379 relay serve --port 8001": (
        "tests/simulation/test_handover.py"
    ),
    (
        "uv export --quiet --no-emit-project --no-annotate --no-header --all-groups"
        " --no-group peers -o config/locked.txt"
    ): "tests/test_lock.py",
    (
        "uv run --group peers python tests/bench all --out results.jsonl"
        " --svg results.svg"
    ): "tests/bench/test_bench.py",
}


def _shell_lines() -> list[str]:
    fences = re.findall(r"^```\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    lines = [line for fence in fences for line in fence.splitlines()]
    return [line for line in lines if re.match(r"(pip|uv|curl|relay|RELAY_)", line)]


CURLS = [line for line in _shell_lines() if line.startswith("curl")]


@pytest.mark.parametrize("path", TOML, ids=lambda path: path.name)
def test_every_setting_has_its_reason_above_it(path: Path) -> None:
    """A number without one is a guess that nobody dares to change."""
    explained = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("#") or "  # " in line:
            explained = True
        elif not line.strip():
            explained = path.name != "default.toml"  # one comment heads an exchange
        elif re.match(r"[a-z0-9_-]+ = ", line):
            assert explained, f"{path.name}:{number}: {line}"


def test_every_error_stands_in_the_tree() -> None:
    """The tree is what people read first."""
    tree = errors.__doc__ or ""
    module = ast.parse(Path(errors.__file__).read_text())
    names = [node.name for node in module.body if isinstance(node, ast.ClassDef)]
    assert [name for name in names if not re.search(rf"\b{name}\b", tree)] == []


def test_every_command_stands_in_the_readme_and_the_other_way_round() -> None:
    """A command that nobody is told of is not there."""
    told = set(re.findall(r"^\| .*`relay ([a-z-]+)", README, re.MULTILINE))
    told |= set(re.findall(r"`relay ([a-z-]+)[ `]", README))
    known = set(main.list_commands(None))  # type: ignore[arg-type]
    assert known <= told
    assert told <= known


def test_every_command_of_the_readme_is_run_by_a_test() -> None:
    """What nobody runs does not work."""
    for line in _shell_lines():
        assert line in RUN_BY or line in CURLS, line
    for path in RUN_BY.values():
        assert (ROOT / path).exists()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here")
@pytest.mark.timeout(60)
async def test_the_readme_s_requests_are_answered() -> None:
    """As they stand there, but for the port."""
    async with relay("up", "--sim", "--port", "0") as process:
        url = (await process.says(r"relay at (http://\S+)", within_s=30))[1]
        await process.says("kraken: streaming", within_s=30)
        for line in CURLS:
            command = line.replace("http://127.0.0.1:8000", url)
            answer = subprocess.run(  # noqa: ASYNC221 - one after the other
                f"{command} --silent --max-time 8",
                shell=True,
                capture_output=True,
                text=True,
                check=False,
            )
            assert '"prices":{"' in answer.stdout, line


def test_the_readme_fits_a_reader() -> None:
    """One screen to begin with, and no more than can be read in one go."""
    assert len(README.splitlines()) <= 400
