"""The ASGI server on ``$PORT``, as the web adapter and containers start it."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from msgspec import Struct

from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.live import EventSource
from tests.delivery.serving import Leader
from tests.functions.listening import free_port
from tests.functions.runtime import ROOT
from tests.harness import until


class Served(Struct):
    """A server in a process of its own, and a client of it."""

    process: asyncio.subprocess.Process
    asker: httpx.AsyncClient


@asynccontextmanager
async def serving(environ: dict[str, str]) -> AsyncIterator[Served]:
    """Run what ``run.sh`` runs, until it answers as the adapter asks it to."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        str(ROOT / "functions" / "run.sh"),
        cwd=ROOT,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PORT": str(port)}
        | environ,
    )
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, timeout=10) as asker:

        async def answers() -> bool:
            with suppress(httpx.TransportError):
                # The adapter takes any status from 100 to 499 for a yes.
                return (await asker.get("/")).status_code < 500
            return False

        try:
            await until(answers)
            yield Served(process, asker)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@pytest.fixture
async def leader(client: Client, keys: Keys) -> Leader:
    """Return the leader of a board with a price."""
    leader = Leader(client, keys)
    await leader.publish({"BTC-USD": "61000.10"})
    await leader.mark(beat_ms=60_000)
    return leader


@pytest.mark.parametrize(
    "platform",
    [
        "lambda",
        *(
            pytest.param(name, marks=pytest.mark.serverless)
            for name in ("cloud-run", "container", "fly", "vercel")
        ),
    ],
)
async def test_it_streams_and_ends_in_order(
    valkey_url: str, keys: Keys, leader: Leader, platform: str
) -> None:
    """Events come as they happen, and SIGTERM ends it within its time."""
    environ = {
        "RELAY_VALKEY_URL": valkey_url,
        "RELAY_BOARD": keys.board,
        "RELAY_PLATFORM": platform,
    }
    async with serving(environ) as served:
        async with served.asker.stream("GET", "/v1/stream?symbols=BTC-USD") as answer:
            events = EventSource(answer)
            first = await events.next()
            await leader.publish({"BTC-USD": "61000.20"})
            second = await events.next()
        assert first["prices"]["BTC-USD"]["price"] == "61000.10"
        assert second["prices"]["BTC-USD"]["price"] == "61000.20"
        # Where the adapter hands over events that are no requests: not from outside.
        handed = await served.asker.post("/events", json={})
        assert handed.status_code == 404
        served.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(served.process.wait(), 10) == 0
