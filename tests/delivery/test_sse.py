"""Server-sent events: resumed, conflated, kept alive, ended in good order."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import anyio
import pytest
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec.structs import replace

from relay.config import Settings
from relay.model import Selection, Ticker
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.live import Live, live, unchanged
from tests.delivery.serving import EPOCH
from tests.harness import eventually

PAIR = "symbols=BTC-USD,ETH-USD"
HASH = Selection.of(["BTC-USD", "ETH-USD"]).hash


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Return settings that look at idle clients often."""
    http = replace(settings.http, heartbeat_ms=100)
    return replace(settings, http=http)


def offering_nothing(app: ASGIApp) -> ASGIApp:
    """Return an application as another server would run it, with no offers of ours."""

    async def plain(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {}
        await app(scope, receive, send)

    return plain


@pytest.fixture(params=[unchanged, offering_nothing])
async def relay(
    request: pytest.FixtureRequest, client: Client, keys: Keys, quick: Settings
) -> AsyncIterator[Live]:
    """Return a running instance, on our server and as on any other."""
    async with live(client, keys, quick, wrap=request.param) as relay:
        yield relay


async def test_a_stream_is_stored_nowhere_and_buffered_nowhere(relay: Live) -> None:
    """What proxies in between must know."""
    async with relay.stream(PAIR) as stream:
        headers = stream.answer.headers
        assert stream.answer.status_code == 200
        assert headers["content-type"] == "text/event-stream"
        assert headers["cache-control"] == "no-store"
        assert headers["x-accel-buffering"] == "no"


async def test_it_starts_with_a_comment_then_everything_selected(relay: Live) -> None:
    """The comment at once, so that whoever buffers lets go; then every change."""
    async with relay.stream(PAIR) as stream:
        assert await stream.block() == [":", "retry: 1000"]
        first = await stream.next()
        assert sorted(first["prices"]) == ["BTC-USD", "ETH-USD"]
        assert stream.id == first["cursor"]
        offset = await relay.leader.publish({"BTC-USD": "61001", "SOL-USD": "1"})
        second = await stream.next()
        assert list(second["prices"]) == ["BTC-USD"]
        assert stream.id == f"{EPOCH}.{HASH}.{offset}"


async def test_the_last_event_id_wins_over_the_cursor(relay: Live) -> None:
    """A browser repeats its URL when it comes back, with the id of what it has."""
    async with relay.stream(PAIR) as stream:
        await stream.next()
        old = stream.id
        await relay.leader.publish({"BTC-USD": "61001"})
        await stream.next()
        newer = stream.id
    await relay.leader.publish({"ETH-USD": "3001"})
    await eventually(lambda: relay.hub.board.offset == relay.leader.offset)
    async with relay.stream(f"{PAIR}&cursor={old}", last=newer) as stream:
        assert list((await stream.next())["prices"]) == ["ETH-USD"]
    async with relay.stream(f"{PAIR}&cursor={old}") as stream:
        assert sorted((await stream.next())["prices"]) == ["BTC-USD", "ETH-USD"]


async def test_a_client_that_has_everything_hears_nothing_until_it_changes(
    relay: Live,
) -> None:
    """Its first event is the next change."""
    async with relay.stream(PAIR) as stream:
        await stream.next()
        cursor = stream.id
    async with relay.stream(f"{PAIR}&cursor={cursor}") as stream:
        assert await stream.block() == [":", "retry: 1000"]
        assert await stream.block() == [":"], "a heartbeat"
        await relay.leader.publish({"ETH-USD": "3001"})
        assert list((await stream.next())["prices"]) == ["ETH-USD"]


async def test_a_pace_conflates(relay: Live) -> None:
    """The newest of what came in between, once in the given time."""
    async with relay.stream(f"{PAIR}&every=500ms") as stream:
        await stream.next()
        await relay.leader.publish({"BTC-USD": "61001"})
        await stream.next()
        for number in range(5):
            await relay.leader.publish({"BTC-USD": f"6200{number}"})
        body = await stream.next()
        assert body["prices"]["BTC-USD"]["price"] == "62004"
        assert body["as_of_ms"] == relay.leader.offset


@pytest.mark.parametrize("every", ["3s", "500", "0ms", ""])
async def test_other_paces_are_refused_by_naming_those_there_are(
    relay: Live, every: str
) -> None:
    """Few paces, so that clients share their groups."""
    answer = await relay.asker.get(f"/v1/stream?{PAIR}&every={every}")
    assert answer.status_code == 400
    assert "500ms" in answer.json()["error"]["hint"]


async def test_a_malformed_id_is_refused(relay: Live) -> None:
    """Text that is no cursor."""
    answer = await relay.asker.get("/v1/stream", headers={"last-event-id": "7"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "cursor_invalid"


async def test_head_answers_without_a_stream(relay: Live) -> None:
    """The headers alone, and at once; other methods are refused."""
    head = await relay.asker.head(f"/v1/stream?{PAIR}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == "text/event-stream"
    assert (await relay.asker.post("/v1/stream")).status_code == 405


async def test_a_stream_ends_after_its_life_and_says_when_to_come_back(
    client: Client, keys: Keys, quick: Settings
) -> None:
    """In good order, so that a client does not take it for an error."""
    http = replace(quick.http, stream_life_ms=200, stream_life_jitter_ms=50)
    async with live(client, keys, replace(quick, http=http)) as relay:
        async with relay.stream(PAIR) as stream:
            await stream.next()
            blocks = []
            while (block := await stream.block()) is not None:
                blocks.append(block)
        assert blocks[-1][0].startswith("retry: ")
        assert 1000 <= int(blocks[-1][0].removeprefix("retry: ")) < 2000
        await eventually(lambda: relay.hub.counts.clients["sse"] == 0)


async def test_a_turn_of_live_reaches_streams(
    client: Client, keys: Keys, quick: Settings
) -> None:
    """Prices nobody renews are said to be old, and then to live again."""
    quick = replace(quick, ingest=replace(quick.ingest, beat_ms=500))
    async with live(client, keys, quick) as relay, relay.stream(PAIR) as stream:
        assert (await stream.next())["live"] is True
        turned = await stream.next()
        assert (turned["live"], turned["prices"]) == (False, {})
        assert stream.id.endswith("~d")
        await relay.leader.mark()
        assert (await stream.next())["live"] is True
        assert not stream.id.endswith("~d")


async def test_a_client_that_hangs_up_is_noticed(relay: Live) -> None:
    """Without a task of its own: when it is next looked at."""
    async with relay.stream(PAIR) as stream:
        await stream.next()
        assert relay.hub.counts.clients["sse"] == 1
    await eventually(lambda: relay.hub.counts.clients["sse"] == 0)
    assert not relay.hub.groups.streams


async def test_a_client_that_reads_nothing_is_cut_off_and_costs_nobody_else(
    client: Client, keys: Keys, quick: Settings
) -> None:
    """Held back, conflated, and after the deadline counted out."""
    http = replace(quick.http, write_deadline_ms=400)
    names = [f"COIN{number}-USD" for number in range(400)]
    async with live(client, keys, replace(quick, http=http)) as relay:
        host, _, port = relay.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.sendall(b"GET /v1/stream HTTP/1.1\r\nhost: relay.test\r\n\r\n")
            async with relay.stream("symbols=COIN0-USD") as brisk:
                await brisk.next()
                with anyio.fail_after(15):
                    round_ = 0
                    while not relay.hub.counts.cut_off:
                        round_ += 1
                        price = f"{round_}.{'1' * 500}"
                        await relay.leader.publish(
                            {name: Ticker(price=price) for name in names}
                        )
                        body = await brisk.next()
                        assert body["prices"]["COIN0-USD"]["price"] == price
        assert relay.hub.counts.cut_off == {"write_deadline": 1}
        await eventually(lambda: relay.hub.counts.clients["sse"] == 0)


async def test_too_many_clients_are_told_when_to_come_back(
    client: Client, keys: Keys, quick: Settings
) -> None:
    """Those who are served stay served well."""
    http = replace(quick.http, clients_max=1)
    async with (
        live(client, keys, replace(quick, http=http)) as relay,
        relay.stream(PAIR) as stream,
    ):
        await stream.next()
        answer = await relay.asker.get("/v1/stream")
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "busy"
        assert int(answer.headers["retry-after"]) > 0


async def test_draining_ends_streams_with_a_time_to_come_back(relay: Live) -> None:
    """Not at once for all, and not as an error."""
    async with relay.stream(PAIR) as stream:
        await stream.next()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(relay.hub.drain(200))
            blocks = []
            while (block := await stream.block()) is not None:
                blocks.append(block)
        assert blocks[-1][0].startswith("retry: ")
    answer = await relay.asker.get("/v1/stream")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "draining"


async def test_every_client_of_one_selection_gets_the_same_bytes(relay: Live) -> None:
    """Encoded once, however many there are."""

    async def read() -> str:
        async with relay.stream(PAIR) as stream:
            await stream.next()
            return json.dumps(await stream.next())

    async with asyncio.TaskGroup() as tasks:
        reading = [tasks.create_task(read()) for _ in range(20)]
        await eventually(lambda: relay.hub.counts.deliveries["sse"] == 20)
        encoded = relay.hub.counts.encoded
        await relay.leader.publish({"BTC-USD": "61001"})
    assert len({one.result() for one in reading}) == 1
    assert relay.hub.counts.encoded == encoded + 1


def health(**alive: bool) -> bytes:
    """Return what a leader says of its sources, and more that streams do not carry."""
    sources = {name: {"alive": one, "age_ms": 1} for name, one in alive.items()}
    return json.dumps({"leader": {}, "sources": sources}).encode()


async def test_a_source_that_turns_is_told_once_by_name(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """By an event that ``onmessage`` does not hear, and that moves no cursor."""
    settings = replace(settings, ingest=replace(settings.ingest, align_ms=100))
    async with live(client, keys, settings) as relay:
        await relay.leader.mark(health=health(kraken=True, coinbase=True))
        await eventually(lambda: b"kraken" in bytes(relay.hub.health))
        async with relay.stream(PAIR) as stream:
            await stream.next()
            for alive in (False, True):
                await relay.leader.mark(health=health(kraken=alive, coinbase=True))
                told = {"sources": {"kraken": alive, "coinbase": True}}
                block = await stream.block()
                assert block is not None
                assert block[0] == "event: status"
                assert json.loads(block[1].removeprefix("data: ")) == told
                assert len(block) == 2
            await relay.leader.mark(health=health(kraken=True, coinbase=True))
            await relay.leader.publish({"BTC-USD": "61001"})
            block = await stream.block()
            assert block is not None
            assert block[0].startswith("id: ")


async def test_a_leader_that_says_something_else_breaks_nothing(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """A newer one, during a deployment."""
    settings = replace(settings, ingest=replace(settings.ingest, align_ms=100))
    async with live(client, keys, settings) as relay, relay.stream(PAIR) as stream:
        await stream.next()
        await relay.leader.mark(health=b'{"sources":["new"]}')
        await eventually(lambda: b"new" in bytes(relay.hub.health))
        await relay.leader.publish({"BTC-USD": "61001"})
        assert list((await stream.next())["prices"]) == ["BTC-USD"]
