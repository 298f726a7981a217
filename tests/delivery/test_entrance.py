"""What every request comes through: other origins, other spellings, closed places."""

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import zstandard
from msgspec.structs import replace
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from relay.config import Settings
from relay.delivery.cors import Cors
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.linting import lint
from tests.delivery.live import Live, live

PAGE = "https://shop.example"
ASKED = {
    "origin": PAGE,
    "access-control-request-method": "GET",
    "access-control-request-headers": "authorization,if-none-match",
}
PATHS = [
    ("/v1/prices", 200),
    ("/v1/poll", 200),
    ("/v1/prices?x=1", 400),
    ("/nothing", 404),
    ("/", 200),
    ("/dashboard/relay.js", 200),
]


@asynccontextmanager
async def serving_to(
    client: Client, keys: Keys, settings: Settings, *origins: str
) -> AsyncIterator[Live]:
    """Run an instance whose prices pages of these origins may read."""
    doors = replace(settings.doors, origins=origins)
    async with live(client, keys, replace(settings, doors=doors)) as relay:
        yield relay


@pytest.fixture
async def relay(client: Client, keys: Keys, settings: Settings) -> AsyncIterator[Live]:
    """Run an instance as it comes."""
    async with live(client, keys, settings) as relay:
        yield relay


def varies(answer: httpx.Response) -> set[str]:
    """Return what an answer depends on."""
    return {one.strip() for one in answer.headers.get("vary", "").split(",")} - {""}


async def test_any_page_may_read_and_caches_keep_one_answer_for_all(
    relay: Live,
) -> None:
    """The same headers whoever asks, so that nothing varies, errors included."""
    for path, status in PATHS:
        for headers in ({}, {"origin": PAGE}):
            answer = await relay.asker.get(path, headers=headers)
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == "*"
            shown = answer.headers["access-control-expose-headers"]
            assert {"etag", "retry-after", "x-grid-ttl"} <= set(shown.split(", "))
            assert "origin" not in varies(answer)
    poll = await relay.asker.get("/v1/poll", headers={"origin": PAGE})
    assert varies(poll) == set()


async def test_a_304_and_a_stream_may_be_read_as_well(relay: Live) -> None:
    """A browser looks at the head of whatever comes."""
    whole = await relay.asker.get("/v1/prices")
    condition = {"if-none-match": whole.headers["etag"], "origin": PAGE}
    again = await relay.asker.get("/v1/prices", headers=condition)
    assert again.status_code == 304
    assert again.headers["access-control-allow-origin"] == "*"
    async with relay.stream() as source:
        assert source.answer.headers["access-control-allow-origin"] == "*"
        assert (await source.next())["prices"]


async def test_a_browser_that_asks_first_is_answered_and_remembers(relay: Live) -> None:
    """Whatever the route is; the answer names what a page may send."""
    for path in ("/v1/prices", "/v1/stream", "/v1/value", "/v1/ticket", "/metrics"):
        answer = await relay.asker.options(path, headers=ASKED)
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "GET" in answer.headers["access-control-allow-methods"]
        allowed = answer.headers["access-control-allow-headers"].split(", ")
        assert {"authorization", "if-none-match", "last-event-id"} <= set(allowed)
        assert answer.headers["access-control-max-age"] == "7200"
        assert answer.headers.get_list("access-control-allow-origin") == ["*"]
        # It says what it sees, which is what is meant.
        assert lint(answer) == {"CORS_ORIGIN_STAR", "CORS_PREFLIGHT_RESPONSE"}
    plain = await relay.asker.options("/v1/prices", headers={"origin": PAGE})
    assert "GET" in plain.headers["allow"]


async def test_listed_origins_may_read_and_others_may_not(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Then answers depend on who asks, and say so to everybody."""
    async with serving_to(
        client, keys, settings, PAGE, "http://localhost:3000"
    ) as relay:
        for path, _ in PATHS:
            for origin in (PAGE, "http://localhost:3000"):
                mine = await relay.asker.get(path, headers={"origin": origin})
                assert mine.headers["access-control-allow-origin"] == origin
                assert "origin" in varies(mine)
            for headers in ({}, {"origin": "https://other.example"}):
                other = await relay.asker.get(path, headers=headers)
                assert "access-control-allow-origin" not in other.headers
                assert "origin" in varies(other)
        mine = await relay.asker.options("/v1/prices", headers=ASKED)
        assert mine.headers["access-control-allow-origin"] == PAGE
        asked = {**ASKED, "origin": "https://other.example"}
        other = await relay.asker.options("/v1/prices", headers=asked)
        assert other.status_code == 204
        assert not [name for name in other.headers if name.startswith("access-control")]


async def test_no_origin_listed_is_nobody_let_in(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Nothing is said, and nothing varies."""
    async with serving_to(client, keys, settings) as relay:
        for path, _ in PATHS:
            answer = await relay.asker.get(path, headers={"origin": PAGE})
            assert not [one for one in answer.headers if one.startswith("access-")]
            assert "origin" not in varies(answer)
        asked = await relay.asker.options("/v1/prices", headers=ASKED)
        assert asked.status_code == 204
        assert not [one for one in asked.headers if one.startswith("access-")]


def test_everybody_beside_a_list_is_everybody() -> None:
    """The wider one counts, and varies nothing."""
    cors = Cors(["*", PAGE], 0)
    assert cors.headers(b"") == cors.headers(PAGE.encode())
    assert cors.headers(b"")[0] == (b"access-control-allow-origin", b"*")


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/v1/prices/", "/v1/prices"),
        ("//v1//prices?symbols=BTC-USD", "/v1/prices?symbols=BTC-USD"),
        ("/docs/", "/docs"),
        ("//", "/"),
        ("//evil.example/v1/prices", "/evil.example/v1/prices"),
        ("/v1/prices/%E2%82%BF-USD/", "/v1/prices/%E2%82%BF-USD"),
        ("/v1/prices/a%0d%0aSet-Cookie:b/", "/v1/prices/a%0D%0ASet-Cookie%3Ab"),
    ],
)
async def test_slashes_that_are_none_of_the_address_lead_to_it(
    relay: Live, path: str, place: str
) -> None:
    """One canonical address, so that an edge keeps one answer; and never elsewhere."""
    async with httpx.AsyncClient() as asker:
        answer = await asker.get(f"{relay.url}{path}")
        assert answer.status_code == 308
        assert answer.headers["location"] == place
        # A path alone is a whole reference (RFC 9110), wherever an edge has us.
        assert lint(answer) == {"LOCATION_NOT_ABSOLUTE", "STALE_SERVABLE"}
        assert (await asker.post(f"{relay.url}{path}")).status_code == 308


@pytest.mark.parametrize("path", ["/", "/nothing", "/v1/prices", "/v1/prices/BTC-USD"])
async def test_a_websocket_where_there_is_none_is_told_so(
    relay: Live, path: str
) -> None:
    """As any other request: in JSON, with what to do."""
    with pytest.raises(InvalidStatus) as refused:
        async with connect(relay.url.replace("http", "ws", 1) + path):
            pass
    response = refused.value.response
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert json.loads(response.body or b"")["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/docs/openapi.json", "/dashboard/relay.js"]
)
async def test_pages_are_compressed_and_each_coding_has_its_tag(
    relay: Live, path: str
) -> None:
    """Compressed once, for everybody; a browser that has any of them gets a 304."""
    plain = await relay.asker.get(path, headers={"accept-encoding": "identity"})
    tags = {plain.headers["etag"]}
    for coding, unpack in (
        ("gzip", gzip.decompress),
        ("zstd", lambda body: zstandard.ZstdDecompressor().decompress(body)),
    ):
        asked = relay.asker.build_request(
            "GET", path, headers={"accept-encoding": coding}
        )
        answer = await relay.asker.send(asked, stream=True)
        raw = b"".join([chunk async for chunk in answer.aiter_raw()])
        assert answer.headers["content-encoding"] == coding
        assert unpack(raw) == plain.content
        assert len(raw) < len(plain.content) / 2
        assert "accept-encoding" in varies(answer)
        tags.add(answer.headers["etag"])
        condition = {"if-none-match": answer.headers["etag"]}
        assert (await relay.asker.get(path, headers=condition)).status_code == 304
    assert len(tags) == 3


async def test_a_page_is_guarded_and_everything_keeps_its_type(relay: Live) -> None:
    """No inline script or style, no frame around it, nothing guessed from a body."""
    for path in ("/", "/docs"):
        page = await relay.asker.get(path)
        policy = page.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert page.headers["referrer-policy"] == "no-referrer"
    for path, _ in PATHS:
        answer = await relay.asker.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
