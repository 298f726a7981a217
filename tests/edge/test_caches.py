"""What http-cache-tests asks of caches, asked of the edges as they are shipped."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct

from tests.edge.edges import NAMES as EDGES
from tests.edge.edges import SHIPPED, free_port, program, running
from tests.harness import until

HERE = Path(__file__).parent
_NPM_S = 120
# Answers of all these tests at once, each after some seconds of waiting.
_ASKING_S = 90

# What fails, by the names of the tests, and why that is as it should be. A reason that
# explains nothing any more fails the test too.
BOTH = {
    r"age-parse-|freshness-expires-": "the relay sends neither Age nor Expires",
    r"invalidate-": "nothing that is posted to the relay changes what is read",
}
EXPLAINED = {
    "varnish": BOTH
    | {
        r"status-\d+-stale|heuristic-\d+-not_cached": "what is not 200 is kept for one "
        "second, so that a crowd with one mistake costs one request a second",
    },
    "nginx": BOTH
    | {
        r"freshness-max-age-age": "the relay sends no Age",
        r"vary-": "all that the relay varies by is the coding: it stands in the key",
        r"cc-resp-must-revalidate-stale": "the origin is asked anew, not for a 304",
        r"status-599-must-understand": "the relay sends no such rule",
        r"conditional-etag-precedence": "the relay sends no Last-Modified",
        r"headers-(omit-headers-listed|store-Transfer)": "the relay names no headers "
        "in Connection, and frames its answers once",
        r"other-age-": "nginx tells no Age; the origin's Date passes through instead",
    },
}


class Tried(Struct, frozen=True):
    """One test: ``after`` names those without which it says nothing."""

    id: str
    kind: str
    after: list[str]
    passed: bool
    found: list[str]


@pytest.fixture(scope="session")
def packages(pytestconfig: pytest.Config) -> Path:
    """Install what only these tests need, once; returns the folder of packages."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm here, which brings http-cache-tests")
    assert pytestconfig.cache is not None
    folder = Path(pytestconfig.cache.mkdir("npm-edge"))
    wanted, done = (HERE / "package.json").read_bytes(), folder / "package.json"
    modules = folder / "node_modules"
    if not (done.exists() and done.read_bytes() == wanted and modules.is_dir()):
        done.write_bytes(wanted)
        options = ("--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts")
        installed = subprocess.run(
            [npm, "install", *options, "--prefix", str(folder)],
            capture_output=True,
            text=True,
            timeout=_NPM_S,
            check=False,
        )
        if installed.returncode:
            done.unlink()
            pytest.skip(f"npm cannot install here: {installed.stderr[-200:]}")
    return modules


@asynccontextmanager
async def origin(packages: Path, home: Path) -> AsyncIterator[str]:
    """Run the suite's own origin, which answers as each test wants; yields its URL."""
    port = free_port()
    environ = {
        "PATH": "/usr/bin:/bin:/usr/local/bin",
        "npm_config_port": str(port),
        "npm_config_protocol": "http",
        "npm_config_pidfile": str(home / "origin.pid"),
    }
    process = await asyncio.create_subprocess_exec(
        *("node", "--no-warnings", "server/server.mjs"),
        cwd=packages / "http-cache-tests",
        env=environ,
        stdout=asyncio.subprocess.DEVNULL,
    )

    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await until(listens)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


def settings_for_tests(name: str, folder: Path) -> Path:
    """Return a folder with the shipped settings, where the suite's paths are reads."""
    replaced = {
        "varnish.vcl": ('.url = "/healthz"', '.url = "/index.html"'),
        "nginx.conf": ("location /v1/ {", "location /test/ {"),
    }
    file = next(one for one in replaced if one.startswith(name))
    text, (shipped, ours) = (SHIPPED / file).read_text(), replaced[file]
    assert text.count(shipped) == 1
    (folder / file).write_text(text.replace(shipped, ours))
    return folder


async def ask(packages: Path, edge: str) -> list[Tried]:
    """Run every test of the suite through an edge."""
    asking = await asyncio.create_subprocess_exec(
        *("node", "--no-warnings", str(HERE / "cachetests.mjs"), str(packages), edge),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_ASKING_S):
            said, _ = await asking.communicate()
    finally:
        if asking.returncode is None:
            asking.kill()
    return msgspec.json.decode(said, type=list[Tried])


def failures(tried: list[Tried]) -> set[str]:
    """Return the rules of HTTP that were broken, where the test could tell."""
    passed = {one.id for one in tried if one.passed}
    return {
        one.id
        for one in tried
        if one.kind == "required"
        and not one.passed
        and one.found[0] != "Setup"
        and passed.issuperset(one.after)
    }


@pytest.mark.edge
@pytest.mark.timeout(150)
@pytest.mark.parametrize("edge", EDGES)
async def test_an_edge_is_a_good_cache_but_for_what_never_comes(
    packages: Path, tmp_path: Path, edge: str
) -> None:
    """By those who wrote the rules down; and each exception has its reason."""
    program("varnishd" if edge == "varnish" else edge)
    shipped = settings_for_tests(edge, tmp_path)
    async with (
        origin(packages, tmp_path) as url,
        running(edge, [url, url], tmp_path, shipped=shipped) as asked,
    ):
        tried = await ask(packages, asked)
    broken, explained = failures(tried), EXPLAINED[edge]
    print(edge, len(tried), sum(one.passed for one in tried), sorted(broken))  # noqa: T201 - with -s
    assert len(tried) > 200
    known = {one for one in broken if any(re.match(why, one) for why in explained)}
    assert broken == known
    idle = [why for why in explained if not any(re.match(why, one) for one in broken)]
    assert idle == []
