"""Every way out works through the real edges, and what they show old says so."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from msgspec import Struct
from websockets.asyncio.client import connect

from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.live import EventSource
from tests.edge.edges import NAMES as EDGES
from tests.edge.edges import program, running
from tests.edge.stage import NAMES, Stage, stage

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
    await _reads_are_shared_and_coded(through)
    await _parameters_may_stand_in_any_order(through)
    await _refusals_are_the_relays_own(through)


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
