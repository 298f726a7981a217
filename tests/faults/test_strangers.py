"""Strangers at the doors: an instance itself, and the edges that we ship."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from msgspec import Struct

from relay.config import Settings
from relay.store.keys import Keys
from tests.edge.edges import program, running
from tests.edge.stage import Stage, stage
from tests.faults.strangers import (
    ANSWER_S,
    TRICKS,
    UNKEYED,
    Door,
    Trick,
    say,
    statuses,
)
from tests.harness import open_client
from tests.simulation.processes import relay

pytestmark = pytest.mark.timeout(120)

_EDGES = [pytest.param(name, marks=pytest.mark.faults) for name in ("varnish", "nginx")]


class Place(Struct):
    """A door, and what stands behind it."""

    name: str
    door: Door
    behind: Stage


@pytest.fixture(scope="module")
async def behind(valkey_url: str, settings: Settings) -> AsyncIterator[Stage]:
    """Run two instances for all tricks: they have to survive each.

    Nothing that a stranger writes is worth a trace in the log, or stands in it.
    """
    async with (
        open_client(valkey_url, settings) as client,
        stage(client, Keys("strangers"), valkey_url) as behind,
    ):
        yield behind
        said = [line for one in behind.instances for line in one.process.said]
        assert not [line for line in said if re.search("Traceback|evil|\x1b", line)]


@pytest.fixture(scope="module", params=["relay", *_EDGES])
async def place(
    request: pytest.FixtureRequest,
    behind: Stage,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Place]:
    """Open a door: an instance's own, or an edge's before both."""
    name = str(request.param)
    if name == "relay":
        yield Place(name, _door(behind.urls[0]), behind)
        return
    program("varnishd" if name == "varnish" else name)
    async with running(name, behind.urls, tmp_path_factory.mktemp(name)) as url:
        yield Place(name, _door(url), behind)


def _door(url: str) -> Door:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.name)
async def test_nobody_has_a_hidden_request_answered(place: Place, trick: Trick) -> None:
    """What two may read in two ways is refused, and what was hidden is no request."""
    before = await place.behind.answered("/v1/symbols")
    heard = await say(place.door, trick.octets)
    good = [one for one in statuses(heard) if one < 300]
    assert len(good) <= trick.good, heard[:300]
    assert not any(one == 500 for one in statuses(heard)), heard[:300]
    assert not re.search(rb"\nset-cookie:|\nlocation: (?!/[a-z%])", heard.lower())
    # Whoever comes next has an answer of his own.
    answer = await say(place.door, b"GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n")
    assert statuses(answer) == [200]
    assert await place.behind.answered("/v1/symbols") == before


@pytest.mark.parametrize(("name", "value"), UNKEYED)
async def test_no_header_of_one_client_is_felt_by_the_next(
    place: Place, name: bytes, value: bytes
) -> None:
    """A cache keeps what the first has asked for: it must be what anybody would get."""
    number = UNKEYED.index((name, value))
    asked = b"GET /v1/prices?symbols=A%03d-USD HTTP/1.1\r\nHost: relay\r\n%b\r\n"
    evil = name + b": " + value + b"\r\n"
    poisoned = await say(place.door, asked % (number, evil))
    clean = await say(place.door, asked % (number, b""))
    assert b"evil" not in poisoned + clean
    assert statuses(clean) == [200]
    head, _, body = clean.partition(b"\r\n\r\n")
    assert f'"A{number:03}-USD":'.encode() in body
    assert body.endswith(b"}")
    assert b"content-encoding" not in head.lower()


HOSTS = [
    *(b"evil.example", b"relay:99999", b"re lay", b"", b"relay\xff", b"[::1"),
    *(b"relay/..", b"relay, evil", b"evil@relay", b"a" * 9000),
]


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: repr(host[:20]))
async def test_no_host_is_shown_or_felt_by_the_next(place: Place, host: bytes) -> None:
    """It is a key of the edge at most, and nobody is sent there."""
    asked = b"GET /v1/prices?symbols=A039-USD HTTP/1.1\r\nHost: %b\r\n\r\n"
    heard = await say(place.door, asked % host)
    assert not any(one >= 500 for one in statuses(heard)), heard
    assert b"evil" not in heard
    assert statuses(await say(place.door, asked % b"relay")) == [200]


@pytest.mark.parametrize(
    "octets",
    [
        b"X: " + b"a" * 65_536,
        b"GET /healthz?" + b"a" * 65_536,
        b"GET /healthz HTTP/1.1\r\nHost: relay\r\n" + b"X: a\r\n" * 10_000,
        b"GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n" * 2_000,
        b"POST /v1/value HTTP/1.1\r\nHost: relay\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1\r\na\r\n" * 20_000,
        b"POST /v1/value HTTP/1.1\r\nHost: relay\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n" + b"X: a\r\n" * 20_000,
    ],
    ids=["header", "address", "headers", "requests", "chunks", "trailers"],
)
async def test_whoever_writes_without_an_end_is_cut_off(
    behind: Stage, octets: bytes
) -> None:
    """Before it has cost more memory than a request may."""
    _, writer = await asyncio.open_connection(*_door(behind.urls[0]))
    with pytest.raises(OSError, match=r"reset|lost|Broken"):
        await _write_on(writer, octets)
    writer.transport.abort()


async def _write_on(writer: asyncio.StreamWriter, octets: bytes) -> None:
    """Write much more than any buffer takes.

    Raises:
        OSError: the other side has hung up.
    """
    async with asyncio.timeout(ANSWER_S):
        for _ in range(1_000):
            writer.write(octets)
            await writer.drain()


def _asking(place: str, *lines: str) -> bytes:
    head = (f"GET {place} HTTP/1.1", "Host: relay", *lines)
    return "\r\n".join((*head, "", "")).encode()


@pytest.fixture(scope="module")
async def strict(
    valkey_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[str]]:
    """Run two instances that know an address by one proxy, and give it few requests."""
    file = tmp_path_factory.mktemp("strict") / "settings.toml"
    file.write_text(
        "[http]\ntrusted_proxies = 1\naddress_requests_max = 5\n"
        "address_window_ms = 3600000\n"
    )
    environ = {"RELAY_VALKEY_URL": valkey_url, "RELAY_BOARD": "strict"}
    command = ("serve", "--port", "0", "--config", str(file))
    async with AsyncExitStack() as stack:
        urls = []
        for _ in range(2):
            process = await stack.enter_async_context(relay(*command, **environ))
            urls.append((await process.says(r"relay at (http://\S+)"))[1])
        yield urls


@pytest.mark.faults
@pytest.mark.parametrize("name", ["varnish", "nginx"])
async def test_nobody_gets_around_an_edge_or_has_another_address(
    strict: list[str], name: str, tmp_path: Path
) -> None:
    """Not by the header, and not through a WebSocket that is none."""
    program("varnishd" if name == "varnish" else name)
    async with running(name, strict, tmp_path) as url:
        door, refused = _door(url), 0
        for number in range(40):
            said = f"X-Forwarded-For: 192.0.2.{number}"
            heard = await say(door, _asking(f"/v1/symbols?{number}", said))
            refused += statuses(heard)[-1] == 429
        assert refused >= 20
        upgrade = ("Upgrade: websocket", "Connection: keep-alive")
        for lines in (upgrade, ("Upgrade: websocket", "Connection: Upgrade")):
            heard = await say(
                door,
                _asking("/v1/symbols", *lines),
                more=_asking("/v1/symbols", "X-Forwarded-For: 192.0.2.200"),
            )
            assert 200 not in statuses(heard), heard
