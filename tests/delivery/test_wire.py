"""Connections that were handed over to lines, on real sockets, and given back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import anyio
import pytest
from msgspec.structs import replace

from relay.config import Settings
from relay.group import Mailbox
from relay.model import Ticker
from relay.rank import Line
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.live import Live, live
from tests.delivery.plain import STREAM, plain
from tests.harness import eventually, until

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
async def relay(client: Client, keys: Keys, settings: Settings) -> AsyncIterator[Live]:
    """Return a running instance."""
    async with live(client, keys, settings) as relay:
        yield relay


def streams(relay: Live) -> set[Mailbox]:
    """Return who listens."""
    return relay.hub.groups.streams


async def test_a_stream_costs_no_task(relay: Live) -> None:
    """What is kept of a client is its connection and its place."""
    async with AsyncExitStack() as held:
        first = await held.enter_async_context(plain(relay))
        await first.listen()
        before = len(asyncio.all_tasks())
        for _ in range(20):
            client = await held.enter_async_context(plain(relay))
            await client.listen()
        assert len(streams(relay)) == 21
        assert all(isinstance(one, Line) for one in streams(relay))
        await eventually(lambda: len(asyncio.all_tasks()) <= before)
    await eventually(lambda: not streams(relay))


@pytest.mark.parametrize(
    "request_",
    [
        STREAM.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n{}"),
        STREAM + HEALTH,
    ],
    ids=["a request with a body", "another request behind it"],
)
async def test_what_is_out_of_the_ordinary_is_served_by_a_task(
    relay: Live, request_: bytes
) -> None:
    """The same stream; only what it costs is another matter."""
    async with plain(relay) as client:
        client.writer.write(request_)
        assert (await client.head()).startswith(b"HTTP/1.1 200")
        assert await client.price() == "61000.10"
        await relay.leader.publish({"BTC-USD": "61001"})
        assert await client.price() == "61001"


async def test_a_reader_that_lags_gets_the_newest_and_goes_on(relay: Live) -> None:
    """Its connection holds what the kernel did not take; nothing else is queued."""
    padding = "1" * 3000
    async with plain(relay, buffer=4096) as slow, plain(relay) as brisk:
        for client in (slow, brisk):
            assert await client.listen() == "61000.10"
        with anyio.fail_after(15):
            number = 0
            while not any(one.writing for one in streams(relay)):
                number += 1
                price = f"{number}.{padding}"
                await relay.leader.publish({"BTC-USD": Ticker(price=price)})
                while await brisk.price() != price:
                    pass
        for last in ("71001", "71002"):
            await relay.leader.publish({"BTC-USD": last})
            assert await brisk.price() == last
        seen = []
        while "71002" not in seen:
            seen.append(await slow.price())
        assert seen[-2:] != ["71001", "71002"], "what was replaced is not sent"
        await relay.leader.publish({"BTC-USD": "71003"})
        assert await slow.price() == "71003"
        assert relay.hub.counts.conflated > 0
        assert relay.hub.counts.cut_off == {}


async def test_clients_that_vanish_while_a_group_writes_cost_nobody_else(
    relay: Live,
) -> None:
    """Their connections are lost in the middle of it, some by a reset."""
    async with plain(relay) as stays:
        await stays.listen()
        for number in range(20):
            async with plain(relay) as leaves:
                await leaves.listen()
                await relay.leader.publish({"BTC-USD": str(number + 1)})
                if number % 2:
                    leaves.writer.transport.abort()
            assert await stays.price() == str(number + 1)
        await eventually(lambda: len(streams(relay)) == 1)
        await relay.leader.publish({"BTC-USD": "99"})
        assert await stays.price() == "99"


async def test_a_client_that_takes_nothing_does_not_hold_up_the_end(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """When the time to leave is over its connection is cut off."""
    async with AsyncExitStack() as held:
        async with live(client, keys, settings) as relay:
            slow = await held.enter_async_context(plain(relay, buffer=4096))
            await slow.listen()
            await _stall(relay)
        await eventually(lambda: not streams(relay))


async def _stall(relay: Live) -> None:
    """Publish until a client takes no more."""
    price = f"1.{'1' * 3000}"
    with anyio.fail_after(15):
        while not any(one.writing for one in streams(relay)):
            await relay.leader.publish({"BTC-USD": Ticker(price=price)})
            await eventually(lambda: relay.hub.board.offset == relay.leader.offset)


async def test_a_connection_is_good_for_more_after_its_stream(relay: Live) -> None:
    """A browser comes back over it; what it asked too early is answered then."""
    async with plain(relay) as client:
        for _ in range(2):
            await client.listen()
            client.writer.write(HEALTH)
            await relay.leader.publish({"BTC-USD": "61001"})
            await client.price()
            for mailbox in list(streams(relay)):
                mailbox.end()
            assert (await client.rest())[-1].startswith(b"retry: ")
            answer = await client.head()
            assert answer.startswith(b"HTTP/1.1 200")
            length = int(answer.partition(b"content-length: ")[2].split()[0])
            assert len(await client.reader.readexactly(length)) == length
        assert not streams(relay)


async def test_a_client_that_wants_it_closed_has_it_closed(relay: Live) -> None:
    """After the last chunk."""
    async with plain(relay) as client:
        client.writer.write(
            STREAM.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        )
        await client.head()
        await client.price()
        for mailbox in list(streams(relay)):
            mailbox.end()
        await client.rest()
        with anyio.fail_after(10):
            assert await client.reader.read() == b""


async def test_a_stream_counts_as_open_until_it_ends(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Although the application has returned long before."""
    http = replace(settings.http, address_open_max=1)
    async with live(client, keys, replace(settings, http=http)) as relay:
        async with plain(relay) as one:
            await one.listen()
            assert (await relay.asker.get("/v1/prices")).status_code == 429
            for mailbox in list(streams(relay)):
                mailbox.end()
            await one.rest()
            assert (await relay.asker.get("/v1/prices")).status_code == 200
            await one.listen()
            assert (await relay.asker.get("/v1/prices")).status_code == 429

        async def let_in() -> bool:
            return (await relay.asker.get("/v1/prices")).status_code == 200

        await until(let_in)
