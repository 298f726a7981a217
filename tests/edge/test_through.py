"""Every way out works through the real edges, and what they show old says so."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from msgspec import Struct
from msgspec.structs import replace
from websockets.asyncio.client import connect

from relay.config import Warm
from relay.delivery.warming import warm
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.live import EventSource
from tests.delivery.serving import Leader
from tests.edge.edges import NAMES as EDGES
from tests.edge.edges import SHIPPED, program, running
from tests.edge.stage import ALIGN_MS, NAMES, Stage, all_ready, instance, stage

PLACE = f"/v1/prices?symbols={','.join(NAMES)}"


class Through(Struct):
    """An edge, and a client that asks through it."""

    name: str
    url: str
    behind: Stage
    asker: httpx.AsyncClient


@pytest.fixture(params=EDGES)
async def through(
    request: pytest.FixtureRequest,
    client: Client,
    keys: Keys,
    valkey_url: str,
    tmp_path: Path,
) -> AsyncIterator[Through]:
    """Run an edge before two instances."""
    name = str(request.param)
    program("varnishd" if name == "varnish" else name)
    async with (
        stage(client, keys, valkey_url, every_ms=100) as behind,
        running(name, behind.urls, tmp_path) as url,
        httpx.AsyncClient(base_url=url, timeout=10) as asker,
    ):
        yield Through(name, url, behind, asker)


@pytest.mark.timeout(40)
async def test_every_way_out_works(through: Through) -> None:
    """One edge is enough for all of them; started once, since that takes longest."""
    await _events_come_as_they_are_made(through)
    await _a_websocket_talks(through)
    await _older_clients_are_served_as_well(through)
    await _reads_are_shared_and_coded(through)
    await _parameters_may_stand_in_any_order(through)
    await _refusals_are_the_relays_own(through)
    await _warming_says_what_the_edge_had(through)
    await _head_is_answered_from_what_is_held(through)
    await _what_is_private_is_kept_by_nobody(through)


async def _events_come_as_they_are_made(through: Through) -> None:
    """Nothing is held back until a buffer is full."""
    path = f"/v1/stream?symbols={NAMES[0]}"
    async with through.asker.stream("GET", path) as answer:
        source = EventSource(answer)
        first = await source.next()
        second = await source.next()
    assert answer.headers["content-type"] == "text/event-stream"
    assert "content-encoding" not in answer.headers
    assert second["as_of_ms"] > first["as_of_ms"]
    async with through.asker.stream(
        "GET", path, headers={"last-event-id": source.id}
    ) as answer:
        third = await EventSource(answer).next()
    assert third["as_of_ms"] > second["as_of_ms"]


async def _a_websocket_talks(through: Through) -> None:
    async with connect(through.url.replace("http", "ws", 1) + "/v1/ws") as socket:
        await socket.send(json.dumps({"type": "subscribe", "symbols": [NAMES[0]]}))
        async with asyncio.timeout(10):
            told = [json.loads(await socket.recv()) for _ in range(3)]
    assert [one["type"] for one in told] == ["update"] * 3


async def _older_clients_are_served_as_well(through: Through) -> None:
    path = f"/api/market-data/stream?pairs={NAMES[0]}"
    offsets = []
    async with asyncio.timeout(10), through.asker.stream("GET", path) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                offsets.append(json.loads(line.removeprefix("data:"))["timestamp"])
            if len(offsets) == 3:
                break
    assert offsets == sorted(set(offsets))
    async with connect(through.url.replace("http", "ws", 1) + "/ws/prices") as socket:
        async with asyncio.timeout(10):
            told = [json.loads(await socket.recv())["type"] for _ in range(2)]
        await socket.send("ping")
    assert told == ["connection", "price_update"]


async def _reads_are_shared_and_coded(through: Through) -> None:
    """Each coding under its own tag, and each tag good for a 304 from the edge."""
    asker = through.asker
    for coding in ("identity", "gzip"):
        headers = {"accept-encoding": coding}
        answer = await asker.get(PLACE, headers=headers)
        again = await asker.get(PLACE, headers=headers)
        assert answer.status_code == again.status_code == 200
        assert sorted(again.json()["prices"]) == NAMES
        assert answer.headers.get("content-encoding", "identity") == coding
        assert "hit" in again.headers["cache-status"]
        headers["if-none-match"] = again.headers["etag"]
        known = await asker.get(PLACE, headers=headers)
        # A second may be over, and prices have moved on.
        assert (
            known.status_code == 304 or known.headers["etag"] != again.headers["etag"]
        )


async def _parameters_may_stand_in_any_order(through: Through) -> None:
    asked = "/v1/poll"
    cursor = (await through.asker.get(f"{asked}?symbols={NAMES[1]}")).json()["cursor"]
    one = f"{asked}?symbols={NAMES[1]}&wait=5s&cursor={cursor}"
    other = f"{asked}?cursor={cursor}&wait=5s&symbols={NAMES[1]}"
    async with asyncio.TaskGroup() as tasks:
        asks = [tasks.create_task(through.asker.get(place)) for place in (one, other)]
    answers = [ask.result() for ask in asks]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1


async def _refusals_are_the_relays_own(through: Through) -> None:
    """With the code and the sentence that say what was wrong."""
    answer = await through.asker.get("/v1/poll?cursor=nonsense")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "cursor_invalid"
    post = await through.asker.post("/v1/value", json={"holdings": {NAMES[0]: "2"}})
    assert post.status_code == 200
    assert post.headers["cache-control"] == "private, no-store"


async def _warming_says_what_the_edge_had(through: Through) -> None:
    """Where it had to ask, and that it has it now."""
    place = f"/v1/prices?symbols={NAMES[2]}"
    settings = Warm(url=through.url, paths=(place,), key="", timeout_ms=5000)
    (first,), (again,) = await warm(settings), await warm(settings)
    assert first.ok
    assert again.ok
    assert "fwd=miss" in first.layers[0]
    assert f'"{through.name}"; hit' in again.layers[0]
    # nginx tells no Age.
    assert (again.age_s is None) == (through.name == "nginx")


@pytest.mark.timeout(40)
async def test_each_layer_of_two_says_what_it_had(
    client: Client, keys: Keys, valkey_url: str, tmp_path: Path
) -> None:
    """The one nearest to the relay first, as RFC 9211 has it."""
    program("varnishd")
    program("nginx")
    settings = Warm(url="", paths=("/v1/prices",), key="", timeout_ms=5000)
    near, far = tmp_path / "near", tmp_path / "far"
    near.mkdir()
    far.mkdir()
    async with (
        stage(client, keys, valkey_url) as behind,
        running("nginx", behind.urls, near) as inner,
        running("varnish", [inner, inner], far) as outer,
    ):
        (one,) = await warm(replace(settings, url=outer))
    assert [layer.partition(";")[0] for layer in one.layers] == ['"nginx"', '"varnish"']


@asynccontextmanager
async def beating(leader: Leader) -> AsyncIterator[None]:
    """Mark the grid while nothing changes."""

    async def beat() -> None:
        while True:
            await leader.mark()
            await asyncio.sleep(ALIGN_MS / 1000)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(beat())
        yield
        task.cancel()


@pytest.mark.timeout(40)
async def test_a_tag_that_an_edge_weakens_is_the_same_cursor(
    client: Client, keys: Keys, valkey_url: str, tmp_path: Path
) -> None:
    """One that compresses by itself: its W/ still makes a 304, and a cursor."""
    program("nginx")
    text = (SHIPPED / "nginx.conf").read_text()
    ours = "gzip on; gzip_min_length 20; gzip_types application/json; gzip_proxied any;"
    bypass = "proxy_cache_bypass $http_authorization $http_x_api_key;"
    for shipped in (bypass, "map $http_upgrade"):
        assert text.count(shipped) == 1
    # It takes every answer plain, asks again each time, and codes it anew.
    text = text.replace("~*gzip  gzip;", "").replace("~*zstd  zstd;", "")
    text = text.replace(bypass, ours, 1)
    (tmp_path / "nginx.conf").write_text(text)
    leader = Leader(client, keys)
    await leader.publish(dict.fromkeys(NAMES, "1"))
    async with (
        beating(leader),
        instance(valkey_url, keys.board) as one,
        running("nginx", [one.url, one.url], tmp_path, shipped=tmp_path) as url,
        httpx.AsyncClient(base_url=url, timeout=10) as asker,
    ):
        await all_ready([one.url])
        first = await asker.get(PLACE, headers={"accept-encoding": "gzip"})
        tag = first.headers["etag"]
        assert (first.headers["content-encoding"], tag[:2]) == ("gzip", "W/")
        for tags in (tag, f'"other", {tag}', "*"):
            sent = {"accept-encoding": "gzip", "if-none-match": tags}
            # nginx answers from its cache, the instance where that is too old.
            again = await asker.get(PLACE, headers=sent)
            direct = await asker.get(one.url + PLACE, headers=sent)
            assert (again.status_code, direct.status_code) == (304, 304)
        cursor = tag.removeprefix("W/").strip('"')
        since = (await asker.get(f"{PLACE}&cursor={cursor}")).json()
        assert (since["prices"], since["missing"]) == ({}, [])


async def _head_is_answered_from_what_is_held(through: Through) -> None:
    """As GET is, without the body."""
    place = f"/v1/prices?symbols={NAMES[3]}"
    whole = await through.asker.get(place)
    head = await through.asker.head(place)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == f"{len(whole.content)}"
    assert "hit" in head.headers["cache-status"]


async def _what_is_private_is_kept_by_nobody(through: Through) -> None:
    """A portfolio, the state of things, and whatever was asked for with a key."""
    value = f"/v1/value?holdings={NAMES[0]}:1"
    keyed = ({"authorization": "Bearer rk_nobody"}, {"x-api-key": "rk_nobody"})
    await through.asker.get(PLACE)
    asked = [(value, {}), ("/v1/status", {}), *((PLACE, key) for key in keyed)]
    for place, headers in asked:
        for _ in range(2):
            answer = await through.asker.get(place, headers=headers)
            assert answer.status_code == 200
            assert "hit" not in answer.headers["cache-status"], place


@pytest.mark.timeout(40)
@pytest.mark.parametrize("name", EDGES)
async def test_pages_of_listed_origins_are_told_apart(
    client: Client, keys: Keys, valkey_url: str, tmp_path: Path, name: str
) -> None:
    """What one page may read is not said to another, nor kept for it."""
    program("varnishd" if name == "varnish" else name)
    for file in SHIPPED.glob("*.[cv]*"):
        # As its comment says.
        pattern = r'(map \$host \$relay_origin \{\s+default )""'
        text = re.sub(pattern, r"\g<1>$http_origin", file.read_text())
        (tmp_path / file.name).write_text(text)
    settings = tmp_path / "settings.toml"
    pages = ["https://one.example", "https://two.example"]
    settings.write_text(f"[doors]\norigins = {json.dumps(pages)}\n")
    leader = Leader(client, keys)
    await leader.publish(dict.fromkeys(NAMES, "1"))
    async with (
        beating(leader),
        instance(valkey_url, keys.board, "--config", str(settings)) as one,
        running(name, [one.url, one.url], tmp_path, shipped=tmp_path) as url,
        httpx.AsyncClient(base_url=url, timeout=10) as asker,
    ):
        await all_ready([one.url])
        for place in (PLACE, f"/v1/poll?symbols={NAMES[0]}"):
            for origin in (*pages, "https://three.example", *pages):
                answer = await asker.get(place, headers={"origin": origin})
                said = answer.headers.get("access-control-allow-origin")
                assert (place, said) == (place, origin if origin in pages else None)
