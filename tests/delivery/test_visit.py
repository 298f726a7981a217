"""Polls without a hub: what a function answers, as an instance with one would."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from msgspec.structs import replace

from relay.config import Settings
from relay.model import Cursor
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.live import live
from tests.delivery.serving import EPOCH, Leader, serving

PAIR = "symbols=BTC-USD,ETH-USD"


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Return settings with short waits, and a grid to match."""
    http = replace(settings.http, waits_ms=(0, 300, 5000))
    ingest = replace(settings.ingest, align_ms=200)
    return replace(settings, http=http, ingest=ingest)


@pytest.fixture
async def leader(client: Client, keys: Keys) -> Leader:
    """Return the leader of a board with two prices."""
    leader = Leader(client, keys)
    await leader.publish({"BTC-USD": "61000.10", "ETH-USD": "3000"})
    await leader.mark(beat_ms=60_000)
    return leader


@pytest.fixture
async def asker(
    client: Client, keys: Keys, quick: Settings, leader: Leader
) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of an instance without a hub."""
    assert leader.offset
    async with serving(client, keys, quick) as asker:
        yield asker


async def _cursor(asker: httpx.AsyncClient, query: str = PAIR) -> str:
    return str((await asker.get(f"/v1/poll?{query}")).json()["cursor"])


async def test_an_answer_is_the_same_bytes_with_and_without_a_hub(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """An edge may ask either, and mixes what they say."""
    async with (
        live(client, keys, settings, leader=leader) as relay,
        serving(client, keys, settings) as asker,
    ):
        with_hub = await relay.poll(PAIR)
        without = await asker.get(f"/v1/poll?{PAIR}")
    assert without.content == with_hub.content
    same = ("etag", "cache-control", "content-type")
    assert [without.headers[name] for name in same] == [
        with_hub.headers[name] for name in same
    ]
    assert set(without.headers) <= set(with_hub.headers) | {"content-length"}


async def test_it_is_held_for_a_change_and_gets_only_that(
    asker: httpx.AsyncClient, leader: Leader
) -> None:
    """The same contract as everywhere."""
    cursor = await _cursor(asker)
    async with asyncio.TaskGroup() as tasks:
        url = f"/v1/poll?{PAIR}&wait=5s&cursor={cursor}"
        held = tasks.create_task(asker.get(url))
        await asyncio.wait({held}, timeout=0.1)
        assert not held.done()
        await leader.publish({"ETH-USD": "3001"})
    assert list(held.result().json()["prices"]) == ["ETH-USD"]


async def test_out_of_time_it_hands_back_the_clients_own_place(
    asker: httpx.AsyncClient,
) -> None:
    """With a suffix that differs, so that nobody spins on one cached answer."""
    cursor = await _cursor(asker)
    told = (await asker.get(f"/v1/poll?{PAIR}&wait=300ms&cursor={cursor}")).json()
    assert told["cursor"].startswith(f"{cursor}~")
    assert told["prices"] == {}


async def test_a_cursor_ahead_of_the_store_is_never_answered_with_less(
    asker: httpx.AsyncClient,
) -> None:
    """The store came back from an older copy; the client keeps what it has."""
    cursor = Cursor.parse(await _cursor(asker))
    ahead = Cursor(EPOCH, cursor.selection, cursor.offset + 5000)
    told = (await asker.get(f"/v1/poll?{PAIR}&wait=300ms&cursor={ahead}")).json()
    assert told["cursor"].startswith(f"{ahead}~")
    assert told["prices"] == {}


async def test_a_cursor_that_nobody_can_have_handed_out_is_answered_anew(
    asker: httpx.AsyncClient, leader: Leader
) -> None:
    """By a function as by an instance."""
    parts = (await _cursor(asker)).split(".")
    forged = f"{parts[0]}.{parts[1]}.{leader.offset + 2 * 3_600_000}"
    body = (await asker.get(f"/v1/poll?{PAIR}&cursor={forged}&wait=0")).json()
    assert body["reset"] is True
    assert body["as_of_ms"] == leader.offset


async def test_a_leader_that_has_gone_releases_a_held_poll(
    asker: httpx.AsyncClient, leader: Leader, client: Client, keys: Keys
) -> None:
    """``live`` has turned, and that is news of its own."""
    assert leader.offset
    cursor = await _cursor(asker)
    async with asyncio.TaskGroup() as tasks:
        url = f"/v1/poll?{PAIR}&wait=5s&cursor={cursor}"
        held = tasks.create_task(asker.get(url))
        await asyncio.wait({held}, timeout=0.1)
        await client.valkey.delete(keys.beat)
    told = held.result().json()
    assert (told["live"], told["prices"]) == (False, {})
    assert told["cursor"] == f"{cursor}~d"
    # Told once, it is held again like any other.
    again = await asker.get(f"/v1/poll?{PAIR}&wait=300ms&cursor={told['cursor']}")
    assert again.json()["cursor"].startswith(f"{cursor}~d")


async def test_without_the_grid_it_looks_for_itself(
    asker: httpx.AsyncClient, leader: Leader
) -> None:
    """For clients with no cache in between; such an answer is not stored."""
    cursor = await _cursor(asker)
    async with asyncio.TaskGroup() as tasks:
        url = f"/v1/poll?{PAIR}&wait=5s&align=0&cursor={cursor}"
        held = tasks.create_task(asker.get(url))
        await asyncio.wait({held}, timeout=0.1)
        await leader.publish({"BTC-USD": "61001"})
    answer = held.result()
    assert answer.headers["cache-control"] == "no-store"
    assert list(answer.json()["prices"]) == ["BTC-USD"]


async def test_before_anything_was_published_it_says_so_soon(
    client: Client, keys: Keys, quick: Settings
) -> None:
    """Two marks are waited for, not the whole wait."""
    async with serving(client, keys, quick) as asker:
        async with asyncio.timeout(3):
            answer = await asker.get(f"/v1/poll?{PAIR}&wait=5s")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "behind")
    assert answer.headers["retry-after"] == "1"


async def test_a_malformed_question_is_refused_as_everywhere(
    asker: httpx.AsyncClient,
) -> None:
    """Before the store is asked anything."""
    for query in ("cursor=nonsense", "wait=soon", "align=7s", "what=ever"):
        assert (await asker.get(f"/v1/poll?{query}")).status_code == 400
