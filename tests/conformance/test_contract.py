"""The description and the live application agree, as schemathesis sees both."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.delivery.doors import make_key
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.serving import Leader
from tests.simulation.processes import relay

HERE = Path(__file__).parent
CHECKER = Path(sys.executable).with_name("schemathesis")
ALIGN_MS = 100
_LEASE_MS = 60_000
KEY, LINE = make_key("checker", "read+admin")
# Held answers are short, so that many can be asked for.
SETTINGS = f"""
[http]
waits_ms = [0]
wait_ms = {ALIGN_MS}
stream_life_ms = 50
stream_life_jitter_ms = 0

[ingest]
align_ms = {ALIGN_MS}

[doors]
keys = ["{LINE}"]
"""


async def lead(leader: Leader) -> None:
    """Publish and mark for ever."""
    while True:
        await leader.publish({"BTC-USD": f"{leader.offset}.10", "ETH-USD": "3000"})
        await leader.mark()
        await leader.writer.keep(await leader.lease(), _LEASE_MS)
        await asyncio.sleep(ALIGN_MS / 1000)


@pytest.fixture
async def url(
    client: Client, keys: Keys, valkey_url: str, tmp_path: Path
) -> AsyncIterator[str]:
    """Run an instance over a board that moves."""
    settings = tmp_path / "settings.toml"
    settings.write_text(SETTINGS)
    leader = Leader(client, keys)
    await leader.publish({"BTC-USD": "1"})
    environ = {"RELAY_VALKEY_URL": valkey_url, "RELAY_BOARD": keys.board}
    command = ("serve", "--port", "0", "--config", str(settings))
    async with asyncio.TaskGroup() as tasks, relay(*command, **environ) as process:
        leading = tasks.create_task(lead(leader))
        match = await process.says(r"relay at (http://\S+)")
        yield match[1]
        leading.cancel()


async def check(url: str, home: Path, *more: str) -> tuple[int | None, str]:
    """Let schemathesis ask all it likes; returns its status and what it said."""
    checking = await asyncio.create_subprocess_exec(
        *(str(CHECKER), "--config-file", str(HERE / "rules.toml")),
        *("run", f"{url}/docs/openapi.json", *more),
        *("--header", f"Authorization: Bearer {KEY}"),
        env={
            "PATH": "/usr/bin:/bin",
            "NO_COLOR": "1",
            "PYTHONPATH": str(HERE),
            "SCHEMATHESIS_HOOKS": "rules",
        },
        cwd=home,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await checking.communicate()
    finally:
        if checking.returncode is None:
            checking.kill()
    return checking.returncode, said.decode()


@pytest.mark.timeout(150)
async def test_the_live_application_is_as_described(url: str, tmp_path: Path) -> None:
    """Its examples, each border of its schemas, and the same random texts each time."""
    status, said = await check(
        url, tmp_path, "--generation-deterministic", "--max-examples", "5"
    )
    assert status == 0, said


@pytest.mark.edge
@pytest.mark.timeout(400)
async def test_the_live_application_is_as_described_for_long(
    url: str, tmp_path: Path
) -> None:
    """Other texts each time; the seed stands in what is said."""
    status, said = await check(url, tmp_path, "--max-examples", "60", "--no-shrink")
    print(said[-1000:])  # noqa: T201 - with -s
    assert status == 0, said
