"""Reads that the connection answers itself: the same bytes, and the same counts."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from litestar import Litestar
from msgspec import Struct
from msgspec.structs import replace

from relay.config import Settings
from relay.delivery.quick import Asked, Quick, Ready, offer, quick_of
from relay.delivery.server import Addresses, Server
from relay.hub import Hub
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.serving import Leader, make_app, make_hub
from tests.harness import eventually

_DATE = re.compile(rb"date: [^\r]*\r\n")
_LENGTH = re.compile(rb"content-length: ([0-9]+)\r\n")


class Watched(Quick):
    """Takes note of what it answers."""

    answered = 0

    @classmethod
    def over(cls, app: Litestar) -> "Watched":
        """Take the place of an application's own."""
        quick = quick_of(app)
        assert quick is not None
        watched = cls.__new__(cls)
        watched.__dict__.update(quick.__dict__)
        offer(app, watched)
        return watched

    def answer(self, asked: Asked, client: tuple[str, int] | None) -> Ready | None:
        """Answer, and count it."""
        ready = super().answer(asked, client)
        self.answered += ready is not None
        return ready


class Pair(Struct):
    """One application behind two servers: one that answers reads, one that does not."""

    hub: Hub
    leader: Leader
    quick: Watched
    ports: tuple[int, int]

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """Return both answers."""
        first, second = [await ask(port, request) for port in self.ports]
        return first, second


async def ask(port: int, request: bytes, *, answers: int = 1) -> bytes:
    """Return so many answers to what is sent, without their dates."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    came = b""
    try:
        writer.write(request)
        with anyio.fail_after(10):
            for _ in range(answers):
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                came += _DATE.sub(b"", head)
                if length and not request.startswith(b"HEAD"):
                    came += await reader.readexactly(int(length[1]))
    finally:
        writer.close()
    return came


def beside(app: Any) -> Any:  # noqa: ANN401 - an ASGI application, whoever types it
    """Return an application for a second server, which does not run its lifespan."""

    async def plain(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})

    return plain


def _have_started(told: list[Addresses], number: int) -> bool:
    return len(told) == number


@asynccontextmanager
async def both(client: Client, keys: Keys, settings: Settings) -> AsyncIterator[Pair]:
    """Run both servers over a board of some instruments."""
    http = replace(settings.http, port=0, drain_ms=1000)
    leader = Leader(client, keys)
    await leader.publish({"BTC-USD": "61000.10", "ETH-USD": "3000"})
    await leader.publish({f"A{number}-USD": "1.5" for number in range(20)})
    hub = make_hub(client, keys, settings)
    app = make_app(client, keys, settings, hub)
    watched = Watched.over(app)
    told: list[Addresses] = []
    servers = [Server(one, http, started=told.append) for one in (app, beside(app))]
    async with asyncio.TaskGroup() as tasks:
        for number, server in enumerate(servers, 1):
            tasks.create_task(server.run())
            await eventually(partial(_have_started, told, number))
        await leader.mark_until(lambda: hub.ready and bool(hub.mark))
        ports = told[0][0][1], told[1][0][1]
        try:
            yield Pair(hub, leader, watched, ports)
        finally:
            for server in servers:
                server.stop()


@pytest.fixture
async def pair(client: Client, keys: Keys, settings: Settings) -> AsyncIterator[Pair]:
    """Return both servers."""
    async with both(client, keys, settings) as pair:
        yield pair


def get(target: str, *lines: str) -> bytes:
    """Write a GET."""
    head = "".join(f"{line}\r\n" for line in lines)
    return f"GET {target} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode()


PLAIN = [
    get("/v1/prices"),
    get("/v1/prices?symbols=BTC-USD"),
    get("/v1/prices?symbols=btc,eth"),
    get("/v1/prices?symbols=BTC%2DUSD"),
    get("/v1/prices?symbols=bitcoin&fields=price"),
    get("/v1/prices?"),
    get("/v1/prices/BTC-USD"),
    get("/v1/prices/btc?fields=price,bid"),
    get("/v1/prices/ZZZ-USD"),
    get("/v1/prices", "Accept-Encoding: gzip"),
    get("/v1/prices", "Accept-Encoding: br, zstd;q=0.5, gzip;q=0.1"),
    get("/v1/prices", "Origin: https://example.org", "X-Anything: 1"),
    get("/v1/prices", "If-None-Match: *"),
    get("/v1/prices", 'If-None-Match: "nothing", W/"other"'),
    get("/v1/prices", "If-None-Match: ", "if-none-match: *"),
    get("/v1/prices", "Connection: Keep-Alive"),
]
UNUSUAL = [
    get("/v1/prices?symbols="),
    get("/v1/prices?cursor=k3f9.7qx.1"),
    get("/v1/prices?cursor=nonsense"),
    get("/v1/prices?nonsense=1"),
    get("/v1/prices?symbols=a&symbols=b"),
    get("/v1/prices?symbols=\x7f"),
    get("/v1/prices#part"),
    get("/v1/prices/"),
    get("//v1/prices"),
    get("/v1/prices/BTC/USD"),
    get("/v1/prices/BTC-USD/recent"),
    get("/v1/prices/%42TC-USD"),
    get("/v1/prices/not_one"),
    get("http://x/v1/prices"),
    get("/v1/prices", "Connection: close"),
    get("/v1/prices", "Connection: upgrade", "Upgrade: h2c"),
    get("/v1/prices", "Content-Length: 2") + b"{}",
    get("/v1/prices", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    get("/v1/prices", "Expect: something"),
    get("/v1/prices").replace(b"HTTP/1.1", b"HTTP/1.0"),
    get("/v1/prices").replace(b"GET", b"HEAD"),
    get("/v1/prices").replace(b"GET", b"POST"),
    get("/v1/prices").replace(b"GET", b"OPTIONS"),
    get("/healthz"),
]


@pytest.mark.parametrize("request_", PLAIN)
async def test_what_is_answered_at_once_is_what_the_application_answers(
    pair: Pair, request_: bytes
) -> None:
    """Byte for byte, the first time and when it was kept."""
    for time in (1, 2):
        quick, slow = await pair.ask(request_)
        assert quick == slow
        assert pair.quick.answered == time


@pytest.mark.parametrize("request_", UNUSUAL)
async def test_what_is_out_of_the_ordinary_goes_the_long_way(
    pair: Pair, request_: bytes
) -> None:
    """Whatever it is answered with there."""
    quick, slow = await pair.ask(request_)
    assert quick == slow
    assert pair.quick.answered == 0


async def test_a_tag_that_is_known_is_a_304_of_the_same_bytes(pair: Pair) -> None:
    """With the headers that caches keep; and each coding has its own."""
    whole, _ = await pair.ask(get("/v1/prices", "Accept-Encoding: gzip"))
    found = re.search(rb"etag: ([^\r]*)", whole)
    assert found is not None
    tag = f"If-None-Match: {found[1].decode()}"
    for coding in ("gzip", "zstd", "identity"):
        request = get("/v1/prices", tag, f"Accept-Encoding: {coding}")
        quick, slow = await pair.ask(request)
        assert quick == slow
        assert quick.startswith(b"HTTP/1.1 304")
    assert pair.quick.answered == 4


async def test_a_cursor_ahead_of_the_board_goes_the_long_way(pair: Pair) -> None:
    """There the hub is told to look at the store."""
    body = (await pair.ask(get("/v1/prices")))[0].partition(b"\r\n\r\n")[2]
    epoch, selection, offset = json.loads(body)["cursor"].split(".")
    ahead = f'"{epoch}.{selection}.{int(offset) + 5}"'
    quick, slow = await pair.ask(get("/v1/prices", f"If-None-Match: {ahead}"))
    assert quick == slow
    assert quick.startswith(b"HTTP/1.1 304")
    assert pair.quick.answered == 1


async def test_a_change_is_answered_from_then_on(pair: Pair) -> None:
    """Nothing that was kept outlives what it was made of."""
    await pair.ask(get("/v1/prices/BTC-USD"))
    offset = await pair.leader.publish({"BTC-USD": "61001"})
    await eventually(lambda: pair.hub.board.offset == offset)
    quick, slow = await pair.ask(get("/v1/prices/BTC-USD"))
    assert quick == slow
    assert b'"61001"' in quick
    assert pair.quick.answered == 2


async def test_requests_behind_each_other_are_answered_in_turn(pair: Pair) -> None:
    """Whichever way each of them goes."""
    requests = [
        get("/v1/prices/BTC-USD"),
        get("/v1/prices/ETH-USD"),
        get("/healthz"),
        get("/v1/prices/BTC-USD"),
        get("/v1/prices?nonsense=1"),
        get("/v1/prices/ETH-USD"),
    ]
    answers = [
        await ask(port, b"".join(requests), answers=len(requests))
        for port in pair.ports
    ]
    assert answers[0] == answers[1]
    assert pair.quick.answered >= 2


async def test_requests_that_come_in_pieces_are_answered_all_the_same(
    pair: Pair,
) -> None:
    """Whatever was known of their bytes before; what comes next is read as it comes."""
    whole = get("/v1/prices/BTC-USD")
    expected = await ask(pair.ports[1], whole)
    assert await ask(pair.ports[0], whole) == expected
    reader, writer = await asyncio.open_connection("127.0.0.1", pair.ports[0])
    for pieces in ((whole,), (whole[:9], whole[9:]), (whole + whole[:9], whole[9:])):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        for _ in range(len(b"".join(pieces)) // len(whole)):
            with anyio.fail_after(10):
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                assert length is not None
                body = await reader.readexactly(int(length[1]))
            assert _DATE.sub(b"", head) + body == expected
    writer.close()
    assert pair.quick.answered == 5


async def test_it_is_counted_as_the_application_counts_it(pair: Pair) -> None:
    """By route and status."""
    requests = get("/v1/prices"), get("/v1/prices/BTC-USD")
    for request in (*requests, get("/v1/prices", "If-None-Match: *")):
        await pair.ask(request)
    metrics = await ask(pair.ports[0], get("/metrics"))
    for labels in (
        b'route="/v1/prices",status="200"',
        b'route="/v1/prices/{symbol}",status="200"',
        b'route="/v1/prices",status="304"',
    ):
        assert b"relay_answers_total{%b} 2.0" % labels in metrics
    assert pair.quick.answered == 3


async def test_an_address_may_send_no_more_than_otherwise(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """What is answered at once counts; what is refused is refused the long way."""
    http = replace(settings.http, address_requests_max=3, address_window_ms=3_600_000)
    async with both(client, keys, replace(settings, http=http)) as pair:
        port = pair.ports[0]
        answers = [await ask(port, get("/v1/prices")) for _ in range(5)]
        assert [one[9:12] for one in answers] == [b"200"] * 3 + [b"429"] * 2
        assert pair.quick.answered == 3
        assert pair.hub.counts.refused["rate"] == 2


async def test_a_locked_relay_lets_nobody_in_this_way(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Who has a key goes through the door."""
    doors = replace(settings.doors, reading="keys")
    async with both(client, keys, replace(settings, doors=doors)) as pair:
        quick, slow = await pair.ask(get("/v1/prices"))
        assert quick == slow
        assert b" 200 " not in quick.partition(b"\r\n")[0]
        assert pair.quick.answered == 0


async def test_without_a_board_the_application_looks_for_one(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """An instance that has just started reads the store for each."""
    app = make_app(client, keys, settings, make_hub(client, keys, settings))
    quick = quick_of(app)
    assert quick is not None
    assert quick.answer(Asked.read(b"/v1/prices", []), None) is None


async def test_a_function_has_no_connections_to_answer_on(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Nor does an application of somebody else's."""
    assert quick_of(make_app(client, keys, settings, None)) is None
    assert quick_of(beside(None)) is None
