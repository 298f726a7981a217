"""``relay up`` as a newcomer runs it: a process of its own, read by every way out."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import websockets

from relay.simulator.server import Simulator
from relay.store.keys import Keys
from tests.harness import eventually, until
from tests.simulation.processes import Process, children, decode, relay

EXCHANGES = {"binance", "coinbase", "kraken", "coingecko", "coincap"}
STREAMING = ("binance", "coinbase", "kraken")
# What everything must have happened in, with both cores busy besides.
SOON_S = 30


class Up:
    """A running ``relay up`` and where it listens."""

    def __init__(self, process: Process, url: str) -> None:
        self.process, self.url = process, url


@pytest.fixture
async def up() -> AsyncIterator[Up]:
    """Run ``relay up --sim`` on a free port."""
    async with relay("up", "--sim", "--port", "0") as process:
        match = await process.says(r"relay at (http://\S+)", within_s=SOON_S)
        yield Up(process, match[1])


async def _prices(client: httpx.AsyncClient, url: str) -> dict[str, dict[str, object]]:
    answer = await client.get(f"{url}/v1/prices")
    return decode(answer.content).prices if answer.status_code == 200 else {}


@pytest.mark.timeout(90)
async def test_every_exchange_shows_prices_and_the_streaming_ones_move(up: Up) -> None:
    """The main job, by the three ways that curl can read, and the WebSocket."""
    async with httpx.AsyncClient(timeout=30) as client, asyncio.timeout(SOON_S):
        await _wait_for_sources(client, up.url)
        before = await _prices(client, up.url)
        for source in STREAMING:
            await _wait_for_a_move(client, up.url, source, before)
        await _poll(client, up.url)
        await _stream(client, up.url)
    await _websocket(up.url)


async def _wait_for_sources(client: httpx.AsyncClient, url: str) -> None:
    while True:
        prices = await _prices(client, url)
        if {ticker["source"] for ticker in prices.values()} >= EXCHANGES:
            return
        await asyncio.sleep(0.1)


async def _wait_for_a_move(
    client: httpx.AsyncClient,
    url: str,
    source: str,
    before: dict[str, dict[str, object]],
) -> None:
    while True:
        prices = await _prices(client, url)
        for name, ticker in prices.items():
            held = before.get(name, {})
            if ticker["source"] == source and ticker["price"] != held.get("price"):
                return
        await asyncio.sleep(0.1)


async def _poll(client: httpx.AsyncClient, url: str) -> None:
    first = await client.get(f"{url}/v1/poll?symbols=BTC-USD")
    cursor = decode(first.content).cursor
    second = await client.get(f"{url}/v1/poll?symbols=BTC-USD&cursor={cursor}&wait=20s")
    assert decode(second.content).prices["BTC-USD"]["price"]


async def _stream(client: httpx.AsyncClient, url: str) -> None:
    seen = 0
    async with client.stream("GET", f"{url}/v1/stream?symbols=BTC-USD") as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                assert json.loads(line.removeprefix("data: "))["prices"]["BTC-USD"]
                seen += 1
            if seen == 3:
                return


async def _websocket(url: str) -> None:
    address = url.replace("http", "ws", 1) + "/v1/ws"
    async with websockets.connect(address) as socket, asyncio.timeout(SOON_S):
        await socket.send('{"type":"subscribe","symbols":["BTC-USD"]}')
        updates = 0
        while updates < 3:
            message = json.loads(await socket.recv())
            updates += message["type"] == "update"


async def test_the_page_shows_itself(up: Up) -> None:
    """A person opens it first of all."""
    async with httpx.AsyncClient() as client:
        page = await client.get(f"{up.url}/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")


async def test_ctrl_c_ends_everything(up: Up) -> None:
    """Within five seconds, with no process left, and with status 0."""
    family = children(up.process.pid)
    assert family, "the store is a process of its own"
    up.process.send(signal.SIGINT)
    assert await up.process.ended(within_s=5) == 0
    await eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))


@pytest.mark.timeout(90)
async def test_without_exchanges_it_says_so_and_fills_when_one_appears(
    free_tcp_port: int,
) -> None:
    """A laptop in a train: it serves what it has, and goes on trying."""
    nowhere = f"http://127.0.0.1:{free_tcp_port}"
    async with relay("up", "--port", "0", "--sim-url", nowhere) as process:
        url = (await process.says(r"relay at (http://\S+)", within_s=SOON_S))[1]
        for exchange in EXCHANGES:
            await process.says(rf"{exchange}.*(refused|reach).*trying again")
        async with httpx.AsyncClient(timeout=30) as client:
            assert await _prices(client, url) == {}
            async with Simulator(port=free_tcp_port), asyncio.timeout(60):
                await _wait_for_sources(client, url)


QUICK = """
[ingest]
silent_after_ms = 1000
stale_after_ms = 1500
"""


@pytest.mark.timeout(90)
async def test_what_an_earlier_run_left_is_served_and_marked_stale(
    free_tcp_port: int, tmp_path: Path, valkey_url: str, keys: Keys
) -> None:
    """No exchange can be reached, but the store still has the last prices."""
    settings = tmp_path / "quick.toml"
    settings.write_text(QUICK)
    store = {"RELAY_VALKEY_URL": valkey_url, "RELAY_BOARD": keys.board}
    async with Simulator() as simulator:
        run = ("tick", "--seconds", "3", "--sim-url", simulator.url)
        async with relay(*run, **store) as tick:
            assert await tick.ended(within_s=SOON_S) == 0
    nowhere = f"http://127.0.0.1:{free_tcp_port}"
    options = ("--port", "0", "--sim-url", nowhere, "--config", str(settings))
    async with relay("up", *options, **store) as process:
        url = (await process.says(r"relay at (http://\S+)", within_s=SOON_S))[1]
        async with httpx.AsyncClient(timeout=30) as client:

            async def stale() -> bool:
                ticker = (await _prices(client, url)).get("BTC-USD", {})
                return bool(ticker.get("price")) and ticker.get("stale") is True

            await until(stale)


async def test_an_exchange_that_needs_a_key_says_so(tmp_path: Path) -> None:
    """A feed that never connects must not look like one that works."""
    everything_off = "".join(
        f"[exchanges.{name}]\nenabled = false\n" for name in EXCHANGES - {"coincap"}
    )
    settings = tmp_path / "off.toml"
    settings.write_text(everything_off)
    async with relay("up", "--port", "0", "--config", str(settings)) as process:
        await process.says("coincap: off, since RELAY_COINCAP_KEY gives it no key")
