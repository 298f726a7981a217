"""What is deployed: the zips, what is in them, and the description around them."""

import asyncio
import importlib.util
import json
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from functions.package import BUILD, PACKAGES, ROOT, pack
from functions.startup import measure, run_clean
from relay.delivery.contract import OPERATIONS
from relay.simulator.server import Simulator
from tests.functions.listening import free_port

pytestmark = [pytest.mark.serverless, pytest.mark.timeout(180)]

FORBIDDEN = {
    *("apscheduler", "fastapi", "granian", "httpx", "opentelemetry", "picows"),
    *("pydantic", "pydantic_settings", "rich", "starlette", "structlog", "uvicorn"),
}
# Where Node is, and nothing that knows a cloud.
PATH = f"{Path(shutil.which('node') or '/usr/bin/node').parent}:/usr/bin:/bin"
ARCH = {"x86_64": "x86_64", "aarch64": "arm64"}.get(platform.machine(), "")

# What a clean interpreter says after it has used a function: its modules' files.
SAY = """
import json, sys
files = {getattr(one, "__file__", None) for one in list(sys.modules.values())}
print(json.dumps(sorted(file for file in files if file)))
"""
# A request of each kind that imports something when it is first asked for.
USE_API = """
from functions.api import handler
def ask(path, headers={}):
    http = {"method": "GET", "path": path, "sourceIp": "192.0.2.1"}
    return handler({"version": "2.0", "rawPath": path, "rawQueryString": "",
        "headers": {"host": "relay.test"} | headers, "requestContext": {"http": http},
        "isBase64Encoded": False}, None)
for path in ("/v1/prices", "/metrics", "/docs", "/docs/openapi.json", "/"):
    answer = ask(path, {"accept-encoding": "zstd"})
    assert answer["statusCode"] == 200, (path, answer)
from relay.delivery.answer import compress
assert compress(b"prices", "zstd")
"""
USE_STREAM = """
import asyncio, os, signal, urllib.request
from functions import stream
settings = stream.read()
async def use():
    serving = asyncio.ensure_future(stream.serve(settings))
    url = f"http://127.0.0.1:{settings.http.port}"
    headers = {"accept-encoding": "zstd"}
    def ask(path):
        request = urllib.request.Request(url + path, headers=headers)
        return urllib.request.urlopen(request).status
    while True:
        try:
            assert await asyncio.to_thread(ask, "/") == 200
            break
        except OSError:
            await asyncio.sleep(0.05)
    for path in ("/metrics", "/docs", "/docs/openapi.json"):
        assert await asyncio.to_thread(ask, path) == 200
    os.kill(os.getpid(), signal.SIGTERM)
    await serving
asyncio.run(use())
from relay.delivery.answer import compress
assert compress(b"prices", "zstd")
"""
USE_INGEST = """
from functions.ingest import handler
class Context:
    def get_remaining_time_in_millis(self):
        return 5000
assert handler({}, Context()) == {"tick": "led"}
"""
USE_WARM = """
from functions.warm import handler
fetched = handler({}, None)["fetched"]
assert fetched and all(one["status"] for one in fetched), fetched
"""
USES = {
    "api": USE_API,
    "stream": USE_STREAM,
    "ingest": USE_INGEST,
    "warm": USE_WARM,
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Make every zip without a network, and open each as the platform does."""
    if shutil.which("uv") is None:
        pytest.skip("uv is not here")
    assert ARCH, f"no platform is called {platform.machine()}"
    made = subprocess.run(
        [sys.executable, "-m", "functions.package", "--arch", ARCH, "--offline"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    folders = {}
    for name in PACKAGES:
        folders[name] = tmp_path_factory.mktemp(name)
        with zipfile.ZipFile(BUILD / f"{name}.zip") as opened:
            opened.extractall(folders[name])
    return folders


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Run the exchanges that a packaged tick reads."""
    async with Simulator() as running:
        yield running


async def _used(folder: Path, name: str, environ: dict[str, str]) -> set[str]:
    """Use a function in a clean interpreter; returns the files it has imported."""
    said = await asyncio.to_thread(run_clean, folder, USES[name] + SAY, environ)
    files = json.loads(said.splitlines()[-1])
    inside = [file for file in files if file.startswith(str(folder))]
    return {str(Path(file).relative_to(folder)) for file in inside}


@pytest.mark.parametrize("name", list(PACKAGES))
async def test_a_zip_holds_what_its_function_needs_and_nothing_else(
    built: dict[str, Path], name: str, valkey_url: str, simulator: Simulator
) -> None:
    """A clean interpreter runs it; each package and each module in it is imported."""
    environ = {
        "RELAY_VALKEY_URL": valkey_url,
        "RELAY_BOARD": f"package-{name}",
        "RELAY_PLATFORM": "lambda",
        "RELAY_SIM_URL": simulator.url,
        "RELAY_WARM_URL": simulator.url,
        "PORT": str(free_port()),
    }
    used = await _used(built[name], name, environ)
    there = {str(path.relative_to(built[name])) for path in built[name].rglob("*.py")}
    ours = {path for path in there if path.startswith("relay/")}
    assert ours == {path for path in used if path.startswith("relay/")}
    tops = {path.partition("/")[0] for path in there}
    assert tops == {path.partition("/")[0] for path in used if path.endswith(".py")}


@pytest.mark.parametrize("name", list(PACKAGES))
def test_the_bytecode_survives_the_zip(built: dict[str, Path], name: str) -> None:
    """A zip loses the files' times; bytecode that is not checked needs none."""
    for source in built[name].rglob("*.py"):
        compiled = Path(importlib.util.cache_from_source(str(source)))
        assert compiled.read_bytes()[4:8] == b"\x01\x00\x00\x00", source


def test_nothing_forbidden_is_in_it(built: dict[str, Path]) -> None:
    """Litestar imports some of them wherever it finds them."""
    assert not FORBIDDEN & {path.name for path in built["api"].iterdir()}


def test_the_same_files_make_the_same_zip(built: dict[str, Path]) -> None:
    """Nothing is deployed anew that has not changed."""
    before = (BUILD / "warm.zip").read_bytes()
    assert pack(BUILD / "warm").read_bytes() == before
    assert built


def test_it_starts_as_fast_as_a_bare_litestar(
    built: dict[str, Path], valkey_url: str
) -> None:
    """At most 1.15 times of it, up to the first answer with prices."""
    took = measure(built["api"], valkey_url, rounds=6)
    assert took.ratio <= 1.15, took


@pytest.fixture(scope="module")
def osls() -> Path:
    """Return the program that reads ``serverless.yml``, fetched once."""
    if shutil.which("npm") is None:
        pytest.skip("Node is not here")
    folder = BUILD / "osls"
    program = folder / "node_modules" / ".bin" / "osls"
    if not program.exists():
        fetched = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--prefix", folder, "osls@4"],
            check=False,
            capture_output=True,
            text=True,
        )
        if fetched.returncode:
            pytest.skip(f"npm could not fetch osls: {fetched.stderr[-300:]}")
    return program


@pytest.fixture(scope="module")
def described(
    osls: Path, built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the CloudFormation that comes out, without network or credentials."""
    assert built
    return describe(osls, tmp_path_factory.mktemp("described"))


def describe(osls: Path, target: Path, *params: str) -> Path:
    """Make the description with these parameters; returns its file."""
    # Where the machine allows it, in a network of its own, which has no way out.
    alone = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        alone = []
    made = subprocess.run(
        [*alone, str(osls), "package", "--package", str(target), *params],
        cwd=ROOT,
        env={"PATH": PATH, "HOME": str(target)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return target / "cloudformation-template-update-stack.json"


@pytest.fixture(scope="module")
def resources(described: Path) -> dict[str, Any]:
    """Return what is to be created, by name."""
    made: dict[str, Any] = json.loads(described.read_text())["Resources"]
    return made


def test_cloudformation_finds_no_error(described: Path) -> None:
    """Warnings are not gated on: one is known to be false."""
    program = Path(sys.executable).with_name("cfn-lint")
    linted = subprocess.run(
        [str(program), "--ignore-checks", "W", "--", str(described)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("name", list(PACKAGES))
def test_each_function_is_in_its_zip_and_runs_where_it_was_made_for(
    resources: dict[str, Any], built: dict[str, Path], name: str
) -> None:
    """The framework does not look."""
    function = resources[f"{name.capitalize()}LambdaFunction"]["Properties"]
    path, _, attribute = function["Handler"].rpartition(".")
    if name == "stream":
        script = built[name] / function["Handler"]
        with zipfile.ZipFile(BUILD / "stream.zip") as opened:
            mode = opened.getinfo(function["Handler"]).external_attr >> 16
        assert mode & 0o111
        assert "functions.stream" in script.read_text()
    else:
        source = (built[name] / f"{path}.py").read_text()
        assert f"def {attribute}(" in source or f"{attribute}: Final" in source
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert function["Runtime"] == f"python{version}"
    assert function["Architectures"] == [ARCH]
    assert function["ReservedConcurrentExecutions"] >= 1


@pytest.mark.parametrize("name", ["Ingest", "Warm"])
def test_a_minute_that_was_missed_is_past(resources: dict[str, Any], name: str) -> None:
    """Neither the schedule nor the function's queue tries again."""
    asked = resources[f"{name}LambdaEvConf"]["Properties"]
    schedule = resources[f"{name}SchedulerSchedule1"]["Properties"]
    policy = {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}
    assert {key: asked[key] for key in policy} == policy
    assert schedule["Target"]["RetryPolicy"] == policy
    assert "<aws.scheduler.scheduled-time>" in schedule["Target"]["Input"]


def test_the_edge_keys_on_what_varies_an_answer(resources: dict[str, Any]) -> None:
    """A parameter that it did not know would be answered with another's body."""
    taken: dict[str, set[str]] = {"Reads": set(), "Polls": set()}
    for one in OPERATIONS:
        if one.path.startswith("/v1/prices") or one.path == "/v1/symbols":
            group = "Reads"
        elif one.path == "/v1/poll":
            group = "Polls"
        else:
            continue
        taken[group] |= {each.name for each in one.parameters if each.place == "query"}
    for group, names in taken.items():
        policy = resources[group]["Properties"]["CachePolicyConfig"]
        keyed = policy["ParametersInCacheKeyAndForwardedToOrigin"]
        assert set(keyed["QueryStringsConfig"]["QueryStrings"]) == names
        assert keyed["HeadersConfig"]["HeaderBehavior"] == "none"


def test_where_reading_needs_a_key_the_edge_passes_it_on(
    osls: Path, built: dict[str, Path], tmp_path: Path
) -> None:
    """And keeps copies apart by it; otherwise nobody, or everybody, would get in."""
    assert built
    digest = "0" * 64
    given = {"reading": "keys", "keys": f"shop:read:{digest}", "warm_key": "rk_x"}
    params = [f"--param={name}={value}" for name, value in given.items()]
    made = json.loads(describe(osls, tmp_path, *params).read_text())["Resources"]
    for group in ("Reads", "Polls"):
        policy = made[group]["Properties"]["CachePolicyConfig"]
        headers = policy["ParametersInCacheKeyAndForwardedToOrigin"]["HeadersConfig"]
        assert set(headers["Headers"]) == {"Authorization", "X-API-Key"}
    for name in ("Api", "Stream"):
        said = made[f"{name}LambdaFunction"]["Properties"]["Environment"]["Variables"]
        assert (said["RELAY_READING"], said["RELAY_KEYS"]) == ("keys", given["keys"])
    said = made["WarmLambdaFunction"]["Properties"]["Environment"]["Variables"]
    assert said["RELAY_API_KEY"] == "rk_x"


def test_the_stream_is_reached_through_the_edge_alone(
    resources: dict[str, Any],
) -> None:
    """Whoever could call the function itself could hand it events."""
    url = resources["StreamLambdaFunctionUrl"]["Properties"]
    assert (url["AuthType"], url["InvokeMode"]) == ("AWS_IAM", "RESPONSE_STREAM")
    allowed = [
        one["Properties"]["Principal"]
        for one in resources.values()
        if one["Type"] == "AWS::Lambda::Permission"
        and "Stream" in json.dumps(one["Properties"]["FunctionName"])
    ]
    assert set(allowed) == {"cloudfront.amazonaws.com"}
