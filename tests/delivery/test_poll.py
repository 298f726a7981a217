"""Long-polls: answered by cuts, held till a mark, each by its own cursor."""

import asyncio
import re
from collections.abc import AsyncIterator

import anyio
import httpx
import pytest
from msgspec.structs import replace

from relay.config import Settings
from relay.delivery.poll import hold_ms, read_duration
from relay.delivery.query import QueryInvalid
from relay.group import Place
from relay.model import Cursor, Selection, base36
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.live import Live, live
from tests.delivery.serving import EPOCH, Leader, make_hub, serving
from tests.harness import eventually

PAIR = "symbols=BTC-USD,ETH-USD"
HASH = Selection.of(["BTC-USD", "ETH-USD"]).hash
# Short enough for a test, long enough for what it does meanwhile.
SHORT = "wait=300ms"


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Return settings with a short wait among the fixed ones."""
    http = replace(settings.http, waits_ms=(0, 300, 5000))
    return replace(settings, http=http)


@pytest.fixture
async def relay(client: Client, keys: Keys, quick: Settings) -> AsyncIterator[Live]:
    """Return a running instance."""
    async with live(client, keys, quick) as relay:
        yield relay


async def cursor_of(relay: Live, query: str = PAIR) -> str:
    """Return the cursor of the newest cut."""
    return str((await relay.poll(query)).json()["cursor"])


async def test_without_a_cursor_the_newest_cut_is_answered_at_once(relay: Live) -> None:
    """A client that has nothing waits for nothing."""
    answer = await relay.poll(PAIR)
    body = answer.json()
    assert answer.status_code == 200
    assert body["prices"]["BTC-USD"]["price"] == "61000.10"
    assert (body["live"], body["missing"], body["gone"]) == (True, [], [])
    assert body["cursor"] == f"{EPOCH}.{HASH}.{body['as_of_ms']}"


async def test_what_is_published_first_is_polled_with_its_first_mark(
    relay: Live,
) -> None:
    """Nothing is called missing that a read has, as when everything begins."""
    await relay.leader.publish({"NEW-USD": "7"})
    await eventually(lambda: "NEW-USD" in relay.hub.board.rows)
    query = "symbols=BTC-USD,NEW-USD"
    at_once = (await relay.poll(f"{query}&wait=0")).json()
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(relay.poll(query))
        await relay.held()
        read = (await relay.asker.get(f"/v1/prices?{query}")).json()
        await relay.mark()
    answer = asking.result().json()
    assert answer["missing"] == read["missing"] == []
    assert answer["prices"] == read["prices"]
    # Who does not want to wait is told of the cut as it is.
    assert at_once["missing"] == ["NEW-USD"]


async def test_its_headers_let_a_shared_cache_collapse_it(relay: Live) -> None:
    """A second for everybody, nothing stale, nothing that splits the cache."""
    answer = await relay.poll(PAIR)
    assert answer.headers["cache-control"] == "public, max-age=0, s-maxage=1"
    assert answer.headers["etag"] == f'"{answer.json()["cursor"]}"'
    assert "vary" not in answer.headers
    ttl = re.fullmatch(r"([01]\.\d{3})s", answer.headers["x-grid-ttl"])
    assert ttl is not None
    assert 0 < float(ttl[1]) <= 1


async def test_a_cursor_behind_the_cut_is_answered_at_once(relay: Live) -> None:
    """With what has changed since, and nothing else."""
    cursor = await cursor_of(relay)
    await relay.leader.publish({"ETH-USD": "3001"})
    await relay.mark()
    body = (await relay.poll(f"{PAIR}&cursor={cursor}")).json()
    assert list(body["prices"]) == ["ETH-USD"]


async def test_a_poll_is_held_until_the_mark_that_brings_it_a_change(
    relay: Live,
) -> None:
    """Not by what is published in between, nor by a mark that brings nothing."""
    cursor = await cursor_of(relay)
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(relay.poll(f"{PAIR}&cursor={cursor}"))
        await relay.held()
        await relay.leader.publish({"SOL-USD": "150"})
        await relay.mark()
        offset = await relay.leader.publish({"BTC-USD": "61001"})
        await eventually(lambda: relay.hub.board.offset == offset)
        assert relay.hub.counts.clients["poll"] == 1
        await relay.mark()
        body = (await asked).json()
    assert list(body["prices"]) == ["BTC-USD"]
    assert body["cursor"] == f"{EPOCH}.{HASH}.{offset}"


async def test_all_who_wait_for_the_same_share_one_body(relay: Live) -> None:
    """Encoded once, and the same cursor for everybody."""
    cursor = await cursor_of(relay)
    query = f"{PAIR}&cursor={cursor}"
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(relay.poll(query)) for _ in range(20)]
        await relay.held(20)
        encoded = relay.hub.counts.encoded
        await relay.leader.publish({"BTC-USD": "61001"})
        await relay.mark()
    assert len({one.result().content for one in asked}) == 1
    assert relay.hub.counts.encoded == encoded + 1


async def test_out_of_time_it_hands_back_the_clients_own_place(relay: Live) -> None:
    """Ended by a mark; its number makes the cursor differ, the same for everybody."""
    cursor = await cursor_of(relay)
    before = relay.hub.mark
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(relay.poll(f"{PAIR}&cursor={cursor}&{SHORT}"))
        await relay.leader.mark_until(asked.done)
    answer = asked.result()
    body = answer.json()
    # One has come since, where the answer was long on its way.
    marks = range(before, relay.hub.mark + 1)
    assert body["cursor"] in {f"{cursor}~{base36(mark)}" for mark in marks}
    assert (body["prices"], body["live"]) == ({}, True)
    assert answer.headers["etag"] == f'"{body["cursor"]}"'
    again = await relay.poll(f"{PAIR}&cursor={body['cursor']}&wait=0")
    assert again.json()["cursor"].startswith(f"{cursor}~")


async def test_a_hold_without_marks_ends_all_the_same(
    client: Client, keys: Keys, quick: Settings
) -> None:
    """A leader that died must not keep clients waiting."""
    leader = Leader(client, keys)
    await leader.publish({"BTC-USD": "1"})
    hub = make_hub(client, keys, quick)
    async with serving(client, keys, quick, hub=hub) as asker:
        await eventually(lambda: hub.ready)
        first = (await asker.get("/v1/poll?symbols=BTC-USD")).json()
        assert first["live"] is False
        assert first["cursor"].endswith("~d")
        query = f"symbols=BTC-USD&cursor={first['cursor']}&{SHORT}"
        body = (await asker.get(f"/v1/poll?{query}")).json()
        assert re.fullmatch(r".*~d[0-9a-z]+", body["cursor"])
        assert body["prices"] == {}


async def test_a_cursor_ahead_of_the_cut_is_held_until_the_cut_has_passed_it(
    relay: Live,
) -> None:
    """A read shows the board, which is newer than the cut; nothing older answers."""
    await relay.leader.publish({"BTC-USD": "61001"})
    await eventually(lambda: relay.hub.board.offset == relay.leader.offset)
    read = await relay.asker.get(f"/v1/prices?{PAIR}")
    cursor = read.headers["etag"].strip('"')
    assert Cursor.parse(cursor).offset > relay.hub.cut.offset
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(relay.poll(f"{PAIR}&cursor={cursor}"))
        await relay.held()
        await relay.mark()
        offset = await relay.leader.publish({"ETH-USD": "3001"})
        await relay.mark()
        body = (await asked).json()
    assert list(body["prices"]) == ["ETH-USD"]
    assert body["as_of_ms"] == offset


async def test_a_cursor_that_stays_ahead_comes_back_as_it_was(relay: Live) -> None:
    """The client's own text, so that another instance can answer it."""
    cursor = f"{EPOCH}.{HASH}.{relay.leader.offset + 1_000_000}"
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(relay.poll(f"{PAIR}&cursor={cursor}&{SHORT}"))
        await relay.leader.mark_until(asked.done)
    assert asked.result().json()["cursor"].partition("~")[0] == cursor


async def test_a_cursor_of_another_selection_gets_the_whole_of_this_one(
    relay: Live,
) -> None:
    """A client that adds an instrument misses nothing."""
    cursor = await cursor_of(relay, "symbols=BTC-USD")
    body = (await relay.poll(f"{PAIR}&cursor={cursor}")).json()
    assert sorted(body["prices"]) == ["BTC-USD", "ETH-USD"]
    assert "reset" not in body


async def test_a_turn_of_live_releases_what_is_held(
    client: Client, keys: Keys, quick: Settings
) -> None:
    """Old prices must not look fresh for as long as a hold lasts."""
    quick = replace(quick, ingest=replace(quick.ingest, beat_ms=500))
    async with live(client, keys, quick) as relay:
        cursor = await cursor_of(relay)
        body = (await relay.poll(f"{PAIR}&cursor={cursor}")).json()
        assert (body["live"], body["cursor"]) == (False, f"{cursor}~d")


async def test_a_poll_from_before_a_turn_is_told_at_the_next_step(
    client: Client, keys: Keys, quick: Settings
) -> None:
    """Soon, and not at once: two instances that disagree must not play ball with it."""
    quick = replace(quick, ingest=replace(quick.ingest, align_ms=200))
    leader = Leader(client, keys)
    await leader.publish({"BTC-USD": "1"})
    hub = make_hub(client, keys, quick)
    async with serving(client, keys, quick, hub=hub) as asker:
        await eventually(lambda: hub.ready)
        first = (await asker.get("/v1/poll?symbols=BTC-USD")).json()
        cursor = first["cursor"].removesuffix("~d")
        query = f"symbols=BTC-USD&cursor={cursor}"
        instant = (await asker.get(f"/v1/poll?{query}&wait=0")).json()
        assert re.fullmatch(r".*~d[0-9a-z]+", instant["cursor"])
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        told = (await asker.get(f"/v1/poll?{query}&wait=5")).json()
        assert (told["cursor"], told["live"]) == (f"{cursor}~d", False)
        assert loop.time() - began_s < 3


async def test_without_a_grid_every_change_is_answered(relay: Live) -> None:
    """For clients with no cache between; and no cache may keep it."""
    cursor = await cursor_of(relay)
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(relay.poll(f"{PAIR}&cursor={cursor}&align=0"))
        await relay.held()
        await relay.leader.publish({"BTC-USD": "61001"})
        answer = await asked
    assert list(answer.json()["prices"]) == ["BTC-USD"]
    assert answer.headers["cache-control"] == "no-store"
    assert "x-grid-ttl" not in answer.headers


async def test_fields_are_trimmed(relay: Live) -> None:
    """For small screens."""
    body = (await relay.poll(f"{PAIR}&fields=price")).json()
    assert set(body["prices"]["BTC-USD"]) == {"price", "offset"}


async def test_an_instance_without_a_cut_says_so(
    client: Client, keys: Keys, quick: Settings
) -> None:
    """It has just begun; the next mark is a step away, and somebody else is there."""
    quick = replace(quick, ingest=replace(quick.ingest, align_ms=50))
    leader = Leader(client, keys)
    await leader.publish({"BTC-USD": "1"})
    await leader.mark(beat_ms=60_000)
    hub = make_hub(client, keys, quick)
    async with serving(client, keys, quick, hub=hub) as asker:
        await eventually(lambda: hub.live)
        answer = await asker.get("/v1/poll?symbols=BTC-USD")
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "behind"
        assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("cursor=nonsense", "cursor_invalid"),
        ("cursor=", "cursor_invalid"),
        ("wait=soon", "query_invalid"),
        ("wait=-1", "query_invalid"),
        ("align=7", "query_invalid"),
        ("symbols=,", "selection_invalid"),
        ("list=nope", "selection_invalid"),
        ("every=1s", "query_invalid"),
    ],
)
async def test_a_malformed_poll_is_refused(relay: Live, query: str, code: str) -> None:
    """With what was wrong and what to do, and never a stack."""
    answer = await relay.poll(query)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == code
    assert error["sentence"]
    assert error["hint"]


async def test_a_poll_that_changes_nothing_only_takes_reads(relay: Live) -> None:
    """GET and HEAD."""
    assert (await relay.asker.post("/v1/poll")).status_code == 405
    head = await relay.asker.head(f"/v1/poll?{PAIR}")
    assert (head.status_code, head.content) == (200, b"")


async def test_draining_answers_held_polls_at_once(relay: Live) -> None:
    """With what they have, and no error among them."""
    cursor = await cursor_of(relay)
    async with asyncio.TaskGroup() as tasks:
        asked = [
            tasks.create_task(relay.poll(f"{PAIR}&cursor={cursor}")) for _ in range(5)
        ]
        await relay.held(5)
        tasks.create_task(relay.hub.drain(100))
    answers: list[httpx.Response] = [one.result() for one in asked]
    assert {answer.status_code for answer in answers} == {200}
    assert (await relay.poll(f"{PAIR}&cursor={cursor}")).status_code == 503


@pytest.mark.parametrize(
    ("asked_ms", "held_ms"),
    [(0, 0), (4_999, 0), (5_000, 5_000), (19_000, 10_000), (99_000_000, 25_000)],
)
def test_a_wait_is_rounded_down_to_a_few_fixed_ones(
    settings: Settings, asked_ms: int, held_ms: int
) -> None:
    """So that a cache sees few different questions."""
    http = replace(
        settings.http,
        waits_ms=(0, 5_000, 10_000, 20_000, 25_000),
        wait_ms=5_000,
        wait_max_ms=25_000,
    )
    assert hold_ms(asked_ms, http) == held_ms


@pytest.mark.parametrize(
    ("text", "expected_ms"), [("20", 20_000), ("20s", 20_000), ("500ms", 500)]
)
def test_a_wait_is_read_in_seconds_or_milliseconds(text: str, expected_ms: int) -> None:
    """Bare numbers are seconds, as in ``Prefer: wait`` of RFC 7240."""
    assert read_duration("wait", text) == expected_ms


@pytest.mark.parametrize("text", ["", "s", "1m", "1.5s", "\u0661s", "1" * 10])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(QueryInvalid):
        read_duration("wait", text)


async def test_the_grid_goes_on_however_many_claim_to_know_more(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """While nobody marks it, it is kept here; whoever makes us look stops nothing."""
    ingest = replace(settings.ingest, beat_ms=300, align_ms=100)
    async with live(client, keys, replace(settings, ingest=ingest)) as relay:
        await eventually(lambda: not relay.hub.live)
        cursor = Cursor(EPOCH, HASH, relay.leader.offset + 1_000_000)
        done = asyncio.Event()

        async def claim() -> None:
            while not done.is_set():
                relay.hub.heed(Place(cursor))
                await asyncio.sleep(0.001)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(claim())
            try:
                with anyio.fail_after(5):
                    for _ in range(10):
                        await relay.leader.publish({"BTC-USD": "61001"})
                        await relay.cut()
            finally:
                done.set()
