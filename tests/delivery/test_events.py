"""Streams over every kind of connection: alive while quiet, ended, counted out."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import anyio
import pytest
from msgspec.structs import replace

from relay.config import Settings
from relay.delivery.demand import Demand
from relay.delivery.events import Parts
from relay.delivery.query import Names
from relay.delivery.sse import Stream
from relay.rank import Pump
from relay.store.client import Client
from relay.store.keys import Keys
from relay.store.reader import Reader
from tests.delivery.live import Live, live
from tests.delivery.plain import STREAM, Plain, plain
from tests.harness import eventually

HEARTBEAT_MS = 150
OLDER = STREAM.replace(b"/v1/stream?symbols=", b"/api/market-data/stream?pairs=")
Asking = Callable[[bytes], bytes]
PATHS = pytest.mark.parametrize("asked", [STREAM, OLDER], ids=["stream", "older"])


def handed_over(asked: bytes) -> bytes:
    """Ask so that the server hands the connection over: no task writes to it."""
    return asked


def of_http_1_0(asked: bytes) -> bytes:
    """Ask as an nginx does that nobody has configured."""
    return asked.replace(b"HTTP/1.1", b"HTTP/1.0")


def of_one_request(asked: bytes) -> bytes:
    """Ask for the connection to be closed afterwards."""
    return asked.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


def carried(asked: bytes) -> bytes:
    """Ask with a body that does not come: the request's task carries the answer."""
    return asked.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n")


WAYS = pytest.mark.parametrize(
    "way", [handed_over, of_http_1_0, of_one_request, carried]
)


@pytest.fixture
async def relay(client: Client, keys: Keys, settings: Settings) -> AsyncIterator[Live]:
    """Return an instance that looks at idle clients often."""
    http = replace(settings.http, heartbeat_ms=HEARTBEAT_MS)
    async with live(client, keys, replace(settings, http=http)) as relay:
        yield relay


class Listener:
    """One stream as a client reads it, whatever frames its parts."""

    def __init__(self, connection: Plain) -> None:
        self.connection = connection
        self.head = b""
        self._chunked = False
        self._read = b""

    async def ask(self, request: bytes) -> None:
        """Send a request, and read the head of its answer."""
        self.connection.writer.write(request)
        self.head = await self.connection.head()
        assert self.head.startswith(b"HTTP/1.1 200")
        self._chunked = b"transfer-encoding: chunked" in self.head

    async def block(self) -> bytes:
        """Read up to the next empty line; empty at the end."""
        while b"\n\n" not in self._read:
            more = await self._more()
            if not more:
                return self._read
            self._read += more
        block, _, self._read = self._read.partition(b"\n\n")
        return block

    async def price(self) -> str:
        """Read until an event has a price."""
        while True:
            data = (await self.block()).rpartition(b"data: ")[2]
            if data.startswith(b"{"):
                body = json.loads(data)
                price: str = body.get("priceText") or body["prices"]["BTC-USD"]["price"]
                return price

    async def _more(self) -> bytes:
        if self._chunked:
            return await self.connection.chunk()
        with anyio.fail_after(10):
            return await self.connection.reader.read(65536)


def clients(relay: Live) -> int:
    """Return how many streams are counted."""
    return relay.hub.counts.clients["sse"]


@PATHS
@WAYS
async def test_a_quiet_stream_says_again_and_again_that_it_is_there(
    relay: Live, asked: bytes, way: Asking
) -> None:
    """A proxy closes what says nothing; and nothing else is said than that."""
    async with plain(relay) as connection:
        listener = Listener(connection)
        await listener.ask(way(asked))
        assert await listener.price() == "61000.10"
        began_s = asyncio.get_running_loop().time()
        for _ in range(4):
            assert await listener.block() == b":"
        took_s = asyncio.get_running_loop().time() - began_s
        assert took_s >= 3 * HEARTBEAT_MS / 1000, "only while it is quiet"
        await relay.leader.publish({"BTC-USD": "61001"})
        assert await listener.price() == "61001"
        assert await listener.block() == b":"


@PATHS
@WAYS
async def test_a_stream_ends_in_good_order_over_any_connection(
    relay: Live, asked: bytes, way: Asking
) -> None:
    """It says when to come back, and nobody is left behind."""
    async with plain(relay) as connection:
        listener = Listener(connection)
        await listener.ask(way(asked))
        await listener.price()
        for mailbox in list(relay.hub.groups.streams):
            mailbox.end()
        blocks = []
        while block := await listener.block():
            blocks.append(block)
        assert blocks[-1].startswith(b"retry: ")
        await eventually(lambda: clients(relay) == 0)


@WAYS
async def test_a_stream_that_is_to_end_while_it_writes_ends_afterwards(
    client: Client, keys: Keys, settings: Settings, way: Asking
) -> None:
    """With everything that was on its way, and in good order."""
    async with live(client, keys, settings) as relay:
        async with plain(relay, buffer=4096) as connection:
            listener = Listener(connection)
            await listener.ask(way(STREAM))
            await listener.price()
            await stall(relay)
            for mailbox in list(relay.hub.groups.streams):
                mailbox.end()
            assert clients(relay) == 1
            blocks = []
            while block := await listener.block():
                blocks.append(block)
            assert blocks[-1].startswith(b"retry: ")
        await eventually(lambda: clients(relay) == 0)


@PATHS
async def test_a_client_of_http_1_0_gets_no_chunks(relay: Live, asked: bytes) -> None:
    """It knows none, and would take them for prices (RFC 9112, section 6.1)."""
    async with plain(relay) as connection:
        listener = Listener(connection)
        await listener.ask(of_http_1_0(asked))
        assert b"transfer-encoding" not in listener.head
        assert b"connection: close" in listener.head
        assert (await listener.block()).startswith(b":\nretry: ")
        for mailbox in list(relay.hub.groups.streams):
            mailbox.end()
        with anyio.fail_after(10):
            assert (await connection.reader.read()).endswith(b"\n\n")


@PATHS
@WAYS
async def test_a_client_that_is_gone_is_noticed_at_once(
    client: Client, keys: Keys, settings: Settings, asked: bytes, way: Asking
) -> None:
    """Also while a write is on its way: heartbeats are far apart."""
    http = replace(settings.http, heartbeat_ms=60_000, write_deadline_ms=60_000)
    async with live(client, keys, replace(settings, http=http)) as relay:
        for stalled in (False, True):
            async with plain(relay, buffer=4096) as connection:
                listener = Listener(connection)
                await listener.ask(way(asked))
                await listener.price()
                if stalled:
                    await stall(relay)
                assert clients(relay) == 1
                connection.writer.transport.abort()
            await eventually(lambda: clients(relay) == 0, within_s=5)
        assert not relay.hub.groups.streams


async def stall(relay: Live) -> None:
    """Publish until a client takes no more."""
    with anyio.fail_after(15):
        while not any(one.writing for one in relay.hub.groups.streams):
            await relay.leader.publish({"BTC-USD": f"1.{'1' * 9000}"})
            await eventually(lambda: relay.hub.board.offset == relay.leader.offset)


async def test_a_carried_stream_that_takes_nothing_is_cut_off(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Like any other, with its reason counted."""
    http = replace(settings.http, write_deadline_ms=300)
    async with live(client, keys, replace(settings, http=http)) as relay:
        async with plain(relay, buffer=4096) as connection:
            listener = Listener(connection)
            await listener.ask(carried(STREAM))
            await listener.price()
            while not relay.hub.counts.cut_off:
                await stall(relay)
                await eventually(
                    lambda: (
                        bool(relay.hub.counts.cut_off)
                        or not any(one.writing for one in relay.hub.groups.streams)
                    )
                )
            with anyio.fail_after(10), pytest.raises(ConnectionResetError):
                await connection.reader.read()
        assert relay.hub.counts.cut_off == {"write_deadline": 1}
        assert clients(relay) == 0


@WAYS
async def test_streams_leave_nothing_behind_when_the_instance_ends(
    client: Client, keys: Keys, settings: Settings, way: Asking
) -> None:
    """Whether they took their last bytes or not."""
    async with live(client, keys, settings) as relay, plain(relay) as connection:
        listener = Listener(connection)
        await listener.ask(way(STREAM))
        await listener.price()
        hub = relay.hub
        relay.stop()
        while await listener.block():
            pass
    assert hub.counts.clients["sse"] == 0
    assert not hub.groups.streams


async def test_what_was_asked_behind_a_stream_is_answered_after_it(
    relay: Live,
) -> None:
    """In the order of the requests."""
    health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    async with plain(relay) as connection:
        listener = Listener(connection)
        await listener.ask(STREAM + health)
        await listener.price()
        for mailbox in list(relay.hub.groups.streams):
            mailbox.end()
        while await listener.block():
            pass
        assert (await connection.head()).startswith(b"HTTP/1.1 200")


async def test_older_streams_that_ask_alike_hear_one_voice_and_leave_none(
    relay: Live,
) -> None:
    """However many spellings there are: what nobody hears is forgotten."""
    async with plain(relay) as stays:
        await Listener(stays).ask(OLDER)
        (box,) = relay.hub.groups.streams
        assert box.group is not None
        for number in range(8):
            name = "".join(
                letter.lower() if number >> place & 1 else letter
                for place, letter in enumerate("BTC")
            )
            async with plain(relay) as passes:
                await Listener(passes).ask(OLDER.replace(b"BTC", name.encode()))
                await eventually(lambda: clients(relay) == 2)
            await eventually(lambda: clients(relay) == 1)
        assert len(box.group.ranks) == 1


@pytest.mark.parametrize("query", ["symbols=!!", "every=3ms", "cursor=7"])
async def test_a_stream_that_is_refused_is_not_counted_as_answered(
    relay: Live, query: str
) -> None:
    """The metrics say what clients were answered."""
    assert (await relay.asker.get(f"/v1/stream?{query}")).status_code == 400
    said = (await relay.asker.get("/metrics")).text
    assert 'relay_answers_total{route="/v1/stream",status="400"} 1.0' in said
    assert 'route="/v1/stream",status="200"' not in said


class Slow:
    """A server of another make, whose client takes the head of its answer slowly."""

    def __init__(self, relay: Live, client: Client, settings: Settings) -> None:
        reader = Reader(client, Keys("unused"))
        demand = Demand(reader, settings.http, settings.board, client.clock)
        parts = Parts(relay.hub, settings.http, demand, Pump())
        self._stream = Stream(parts, Names(settings.board), Counter())
        self.begun, self.taken = asyncio.Event(), asyncio.Event()
        self.sent: list[bytes] = []

    async def serve(self) -> None:
        """Serve a client that never hangs up."""
        scope = {
            "type": "http",
            "method": "GET",
            "query_string": b"symbols=BTC-USD",
            "headers": [],
            "path_template": "/v1/stream",
        }
        await self._stream.answer(cast("Any", scope), cast("Any", self._hear), self)

    async def __call__(self, message: Any) -> None:  # noqa: ANN401 - as ASGI has it
        """Send, when the client takes it."""
        self.begun.set()
        await self.taken.wait()
        self.sent.append(message.get("body", b""))

    async def _hear(self) -> object:
        return await asyncio.get_running_loop().create_future()


async def test_a_client_that_has_no_head_yet_is_looked_after_like_any_other(
    relay: Live, client: Client, settings: Settings
) -> None:
    """Whatever is told or looked at meanwhile; one that is to end then ends at once."""
    slow, groups = Slow(relay, client, settings), relay.hub.groups
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(slow.serve())
        await slow.begun.wait()
        (line,) = groups.streams
        groups.announce(b"event: status\n\n")
        groups.sweep(line.wrote_ms + 10**6, quiet_ms=1, deadline_ms=10**9)
        line.end()
        assert clients(relay) == 1
        slow.taken.set()
        with anyio.fail_after(10):
            await serving
    assert b"".join(slow.sent).startswith(b":\nretry: 1000\n\nretry: ")
    assert clients(relay) == 0


@pytest.mark.parametrize("head_taken", [False, True])
async def test_a_cancelled_stream_is_counted_out(
    relay: Live,
    client: Client,
    settings: Settings,
    head_taken: bool,  # noqa: FBT001 - one column of a table
) -> None:
    """Whether it waits for the client to take its head, or for news."""
    slow = Slow(relay, client, settings)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(slow.serve())
        await slow.begun.wait()
        if head_taken:
            slow.taken.set()
            await eventually(lambda: b"61000.10" in b"".join(slow.sent))
        assert clients(relay) == 1
        serving.cancel()
    assert clients(relay) == 0
    assert not relay.hub.groups.streams
