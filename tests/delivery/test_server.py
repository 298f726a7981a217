"""The server on real sockets: it starts, it says where, it ends in time."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest
from litestar.types import Receive, Scope, Send
from msgspec.structs import replace
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from relay.config import Http, Settings
from relay.delivery.server import Addresses, Server, listen_at, serve
from relay.errors import ConfigError
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.serving import Leader, make_app, make_hub
from tests.harness import eventually


@pytest.fixture
def http(settings: Settings) -> Http:
    """Return settings of a server on a port of its own."""
    return replace(settings.http, port=0, drain_ms=2000)


@asynccontextmanager
async def running(
    client: Client, keys: Keys, settings: Settings, http: Http
) -> AsyncIterator[tuple[Server, str]]:
    """Run a server with a hub that holds a board; yields it and its URL."""
    leader, hub = Leader(client, keys), make_hub(client, keys, settings)
    await leader.publish({"BTC-USD": "61000"})
    told: list[Addresses] = []
    app = make_app(client, keys, settings, hub)
    server = Server(app, http, started=told.append, drain=hub.drain)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.run())
        await eventually(lambda: bool(told))
        await leader.mark_until(lambda: hub.ready and bool(hub.mark))
        host, port = told[0][0]
        try:
            yield server, f"http://{host}:{port}"
        finally:
            server.stop()


async def test_it_says_where_it_listens_and_answers_there(
    client: Client, keys: Keys, settings: Settings, http: Http
) -> None:
    """Port 0 is any free one, so whoever starts it must be told."""
    async with (
        running(client, keys, settings, http) as (_, url),
        httpx.AsyncClient(base_url=url) as asker,
    ):
        answer = await asker.get("/v1/prices")
        head = await asker.head("/v1/prices")
        condition = {"if-none-match": answer.headers["etag"]}
        again = await asker.get("/v1/prices", headers=condition)
    assert answer.status_code == 200
    assert "date" in answer.headers
    assert "server" not in answer.headers
    assert head.headers["content-length"] == str(len(answer.content))
    assert (again.status_code, again.content) == (304, b"")


async def test_a_port_in_use_is_one_clear_sentence() -> None:
    """It names the address, and what is the matter with it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}.*in use"):
            await listen_at("127.0.0.1", port)


async def test_a_host_that_is_not_ours_is_one_clear_sentence() -> None:
    """A typing error in an address."""
    with pytest.raises(ConfigError, match=r"no\.such\.host\.invalid"):
        await listen_at("no.such.host.invalid", 0)


async def test_stopping_ends_open_streams_within_the_time(
    client: Client, keys: Keys, settings: Settings, http: Http
) -> None:
    """The stream is ended in order, and not cut off at the end."""
    async with running(client, keys, settings, http) as (server, url):
        asker = httpx.AsyncClient(base_url=url, timeout=10)
        async with asker, asker.stream("GET", "/v1/stream") as stream:
            lines = stream.aiter_lines()
            while not (await anext(lines)).startswith("data:"):
                pass
            with anyio.fail_after(http.drain_ms / 1000 + 1):
                server.stop()
                async for _ in lines:
                    pass


async def test_a_held_poll_is_answered_before_the_end(
    client: Client, keys: Keys, settings: Settings, http: Http
) -> None:
    """Draining answers with what there is, and with no error."""
    async with (
        running(client, keys, settings, http) as (server, url),
        httpx.AsyncClient(base_url=url, timeout=10) as asker,
        asyncio.TaskGroup() as tasks,
    ):
        cursor = (await asker.get("/v1/prices")).json()["cursor"]
        place = f"/v1/poll?wait=25s&cursor={cursor}"
        poll = tasks.create_task(asker.get(place))
        counts = httpx.AsyncClient(base_url=url)
        async with counts:
            held = 0
            while not held:
                told = (await counts.get("/v1/status")).json()
                held = told["instance"]["clients"].get("poll", 0)
        with anyio.fail_after(http.drain_ms / 1000 + 1):
            server.stop()
            answer = await poll
    assert answer.status_code == 200


async def test_a_client_that_says_nothing_does_not_hold_up_the_end(
    client: Client, keys: Keys, settings: Settings, http: Http
) -> None:
    """Half a request, and then silence."""
    async with running(client, keys, settings, http) as (server, url):
        host, port = url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /v1/prices HTTP/1.1\r\nHost: x\r\n")
        await writer.drain()
        with anyio.fail_after(http.drain_ms / 1000 + 1):
            server.stop()
            await eventually(lambda: server.ended)
        writer.close()


async def test_cancelled_it_ends_in_order(
    client: Client, keys: Keys, settings: Settings, http: Http
) -> None:
    """A task group that ends takes its server with it, and the port is free again."""
    told: list[Addresses] = []
    app = make_app(client, keys, settings, make_hub(client, keys, settings))
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(serve(app, http, started=told.append))
        await eventually(lambda: bool(told))
        with anyio.fail_after(http.drain_ms / 1000 + 1):
            task.cancel()
            await asyncio.wait([task])
    assert task.cancelled()
    with await listen_at(*told[0][0]):
        pass


async def test_a_websocket_to_a_route_for_reading_is_refused(
    client: Client, keys: Keys, settings: Settings, http: Http
) -> None:
    """The handshake fails; the server stays as it was."""
    async with running(client, keys, settings, http) as (_, url):
        place = f"{url.replace('http', 'ws', 1)}/v1/prices"
        with pytest.raises(InvalidStatus, match="403"):
            async with connect(place):
                pass
        async with httpx.AsyncClient(base_url=url) as asker:
            assert (await asker.get("/v1/prices")).status_code == 200


async def test_an_application_that_does_not_start_is_an_error(http: Http) -> None:
    """And does not end the process from within a task."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] not in ("http", "websocket")
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})  # type: ignore[arg-type]

    with pytest.raises(RuntimeError, match="did not start"):
        await serve(broken, http)
