"""The server on real sockets: it starts, it says where, it ends in time."""

import asyncio
import contextlib
import json
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

from relay.clock import ManualClock
from relay.config import Http, Settings
from relay.delivery.server import Addresses, Server, listen_at, serve
from relay.errors import ConfigError
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.live import Live, live
from tests.delivery.serving import Leader, make_app, make_hub
from tests.harness import eventually, until

# The first byte of what the kernel says of a connection (tcp_states.h of Linux).
ESTABLISHED = 1
STREAM = b"GET /v1/stream HTTP/1.1\r\nHost: x\r\n\r\n"
HANDSHAKE = (
    b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
# A client's frame is masked; with zeros it reads as it was.
_SUBSCRIBE = b'{"type":"subscribe"}'
EVERYTHING = bytes((0x81, 0x80 | len(_SUBSCRIBE), 0, 0, 0, 0)) + _SUBSCRIBE


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
        with pytest.raises(InvalidStatus) as refused:
            async with connect(place):
                pass
        response = refused.value.response
        assert response.status_code == 404
        assert b"There is nothing at this address." in (response.body or b"")
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


def socket_to(url: str, *, buffer: int | None = None) -> socket.socket:
    """Return a plain connection, that may hold little of what it is sent."""
    host, port = url.removeprefix("http://").split(":")
    plain = socket.socket()
    if buffer is not None:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    plain.connect((host, int(port)))
    plain.settimeout(0)
    return plain


def state_of(plain: socket.socket) -> int:
    """Return the state of a connection, as the kernel numbers it."""
    return plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


async def read_all(plain: socket.socket) -> bytes:
    """Read until the other side closes; empty when it cut the connection."""
    loop, came = asyncio.get_running_loop(), b""
    with plain, anyio.fail_after(10), contextlib.suppress(ConnectionResetError):
        while chunk := await loop.sock_recv(plain, 65536):
            came += chunk
    return came


async def test_more_connections_than_it_may_hold_are_refused_with_a_reason(
    client: Client, keys: Keys, settings: Settings, http: Http
) -> None:
    """Those that ask for nothing count as well; who leaves makes room."""
    few = replace(http, connections_max=3)
    async with running(client, keys, settings, few) as (_, url):
        idle = [socket_to(url) for _ in range(3)]
        # They are taken in one after the other, so that these were before.
        refused = await read_all(socket_to(url))
        for one in idle:
            one.close()

        async def answers() -> bool:
            async with httpx.AsyncClient(base_url=url) as asker:
                return (await asker.get("/healthz")).status_code == 200

        await until(answers)
    head, _, body = refused.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503")
    assert b"retry-after: 5" in head
    assert json.loads(body)["error"]["code"] == "busy"


@pytest.mark.parametrize("said", [b"", b"GET /v1/prices HTTP/1.1\r\nHost: x\r\n"])
async def test_a_client_that_does_not_ask_in_time_is_cut_off(
    client: Client, keys: Keys, settings: Settings, http: Http, said: bytes
) -> None:
    """Half a request holds a connection as well as a whole one would."""
    hasty = replace(http, head_deadline_ms=200)
    async with running(client, keys, settings, hasty) as (_, url):
        silent = socket_to(url)
        if said:
            silent.send(said)
        assert await read_all(silent) == b""
        async with httpx.AsyncClient(base_url=url) as asker:
            assert (await asker.get("/healthz")).status_code == 200


async def test_answers_are_dated_by_the_clock_that_the_server_goes_by(
    client: Client, keys: Keys, settings: Settings, http: Http
) -> None:
    """A cache reckons by it how old they are, and the machine's own may be wrong."""
    async with running(client, keys, settings, http) as (server, url):
        server.go_by(ManualClock(1_000_000_000_000))
        async with httpx.AsyncClient(base_url=url) as asker:

            async def dated() -> bool:
                answer = await asker.get("/healthz")
                return answer.headers["date"] == "Sun, 09 Sep 2001 01:46:40 GMT"

            await until(dated)


CHUNKED = b"POST /v1/value HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70_000,
        CHUNKED + b"0\r\n" + b"X: a\r\n" * 20_000,
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 2_000,
    ],
    ids=["head", "trailers", "requests"],
)
async def test_a_request_without_an_end_is_cut_off(
    client: Client, keys: Keys, settings: Settings, http: Http, octets: bytes
) -> None:
    """Before its time is over: it would hold whatever the network brings."""
    patient = replace(http, head_deadline_ms=60_000)
    async with running(client, keys, settings, patient) as (_, url):
        plain = socket_to(url)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            await asyncio.get_running_loop().sock_sendall(plain, octets)
        await read_all(plain)


@pytest.mark.parametrize("line", [b"POST /v1/value", b"GET /healthz"])
async def test_a_body_that_does_not_come_holds_no_connection(
    client: Client, keys: Keys, settings: Settings, http: Http, line: bytes
) -> None:
    """Neither where it is asked for, nor where it is not."""
    hasty = replace(http, head_deadline_ms=200)
    async with running(client, keys, settings, hasty) as (_, url):
        plain = socket_to(url)
        plain.send(line + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        await read_all(plain)


async def test_a_reader_that_takes_no_answer_holds_no_connection(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Any answer has to be taken in time, and not a stream's alone."""
    limits = replace(settings.http, write_deadline_ms=300)
    async with live(client, keys, replace(settings, http=limits)) as relay:
        long = "1" + 300 * "0"
        wide = {f"A{number}-USD": long for number in range(400)}
        await relay.leader.publish(wide)
        await eventually(lambda: len(relay.hub.board.rows) >= len(wide))
        with socket_to(relay.url, buffer=4096) as plain:
            plain.send(b"GET /v1/prices HTTP/1.1\r\nHost: x\r\n\r\n" * 30)
            await eventually(lambda: state_of(plain) != ESTABLISHED)


@pytest.mark.parametrize("way", ["sse", "ws"])
async def test_a_client_that_takes_nothing_is_cut_off_and_its_socket_closed(
    client: Client, keys: Keys, settings: Settings, way: str
) -> None:
    """What lies in our buffers for it is thrown away with it."""
    limits = replace(settings.http, write_deadline_ms=300)
    async with live(client, keys, replace(settings, http=limits)) as relay:
        long = "1" + 300 * "0"
        wide = {f"A{number}-USD": long for number in range(400)}
        with socket_to(relay.url, buffer=4096) as plain:
            plain.send(STREAM if way == "sse" else HANDSHAKE)
            await eventually(lambda: relay.hub.counts.clients[way] == 1)
            if way == "ws":
                plain.send(EVERYTHING)
            async with asyncio.TaskGroup() as tasks:
                cut_off = relay.hub.counts.cut_off
                publishing = tasks.create_task(_publish(relay, wide))
                await eventually(lambda: cut_off["write_deadline"] == 1)
                publishing.cancel()
            await eventually(lambda: relay.hub.counts.clients[way] == 0)
            # Long before it could have taken what lay there: nobody waits for that.
            await eventually(lambda: state_of(plain) != ESTABLISHED, within_s=2)


async def _publish(relay: Live, rows: dict[str, str]) -> None:
    while True:
        await relay.leader.publish(rows)
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "place", ["/v1/poll?wait=25s&cursor={}", "/v1/stream?cursor={}"]
)
async def test_a_client_that_hangs_up_is_forgotten_at_once(
    client: Client, keys: Keys, settings: Settings, place: str
) -> None:
    """And not only when there is something to write to it."""
    async with live(client, keys, settings) as relay:
        cursor = (await relay.poll("")).json()["cursor"]
        clients = relay.hub.counts.clients
        with socket_to(relay.url) as plain:
            request = f"GET {place.format(cursor)} HTTP/1.1\r\nHost: x\r\n\r\n"
            plain.send(request.encode())
            await eventually(lambda: clients.total() == 1)
        await eventually(lambda: clients.total() == 0, within_s=2)


async def test_few_clients_are_not_waited_for_longer_than_they_need(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """The time for draining is for a crowd; somebody's own machine ends at once."""
    http = replace(settings.http, port=0)
    async with running(client, keys, settings, http) as (server, url):
        asker = httpx.AsyncClient(base_url=url, timeout=10)
        async with (
            asker,
            asker.stream("GET", "/v1/stream") as one,
            asker.stream("GET", "/v1/stream") as other,
        ):
            lines = one.aiter_lines(), other.aiter_lines()
            for stream in lines:
                await anext(stream)
            with anyio.fail_after(http.drain_ms / 1000 / 4):
                server.stop()
                for stream in lines:
                    async for _ in stream:
                        pass
                await eventually(lambda: server.ended)
