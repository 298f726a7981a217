"""Feeds that are cancelled, interrupted or closed wherever they wait."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest

from relay.client import AsyncClient, Client, Pacing, Refused, Unreachable
from tests.harness import eventually

LONG = Pacing(pause_min_s=60, pause_max_s=60, silent_s=30)


class Mute(httpx.AsyncByteStream):
    """An answer's body that never comes; knows whether somebody hung up."""

    def __init__(self) -> None:
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Wait for ever."""
        await asyncio.Event().wait()
        yield b""

    async def aclose(self) -> None:
        """Note it."""
        self.closed = True


def answering(body: Mute) -> httpx.Response:
    """Return a stream's answer."""
    return httpx.Response(
        200, headers={"content-type": "text/event-stream"}, stream=body
    )


async def test_waits_that_are_cancelled_are_no_reason_to_leave_the_stream() -> None:
    """A loop that looks at other things between must not end up polling."""
    bodies: list[Mute] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/stream"
        bodies.append(Mute())
        return answering(bodies[-1])

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    async with http, AsyncClient(http=http).stream("BTC-USD") as feed:
        for turn in range(4):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(feed), 0.05)
            assert len(bodies) == turn + 1
        assert (feed.way, feed.error) == ("stream", None)
        assert all(one.closed for one in bodies)


async def test_a_feed_that_is_closed_while_it_asks_leaves_nothing_open() -> None:
    """Whoever closes it is another task, as a rule."""
    asked, may, body = asyncio.Event(), asyncio.Event(), Mute()

    async def answer(_: httpx.Request) -> httpx.Response:
        asked.set()
        await may.wait()
        return answering(body)

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    async with http, asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        feed = AsyncClient(http=http).stream("BTC-USD")
        reading = tasks.create_task(_read(feed))
        await asked.wait()
        await feed.aclose()
        may.set()
        assert await reading == 0
        assert body.closed


async def test_a_feed_that_is_closed_while_it_pauses_ends_at_once(
    free_tcp_port: int,
) -> None:
    """Not after the minute that it meant to wait."""
    client = AsyncClient(f"http://127.0.0.1:{free_tcp_port}", pacing=LONG)
    async with client, asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        feed = client.stream("BTC-USD")
        reading = tasks.create_task(_read(feed))
        await eventually(lambda: feed.error is not None)
        await feed.aclose()
        assert await reading == 0


async def _read(feed: AsyncIterator[object]) -> int:
    return len([one async for one in feed])


class Interrupted(httpx.SyncByteStream):
    """An answer's body whose reader is interrupted."""

    def __init__(self) -> None:
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        """Do as Ctrl-C does."""
        raise KeyboardInterrupt

    def close(self) -> None:
        """Note it."""
        self.closed = True


def test_waits_that_are_interrupted_are_no_reason_to_leave_the_stream() -> None:
    """A cell of a notebook is stopped again and again."""
    bodies: list[Interrupted] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/stream"
        bodies.append(Interrupted())
        headers = {"content-type": "text/event-stream"}
        return httpx.Response(200, headers=headers, stream=bodies[-1])

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        feed = Client(http=http).stream("BTC-USD")
        for turn in range(4):
            with pytest.raises(KeyboardInterrupt):
                next(feed)
            assert len(bodies) == turn + 1
        assert (feed.way, feed.error) == ("stream", None)
        assert all(one.closed for one in bodies)


def _sync(url: str) -> None:
    with Client(url, pacing=Pacing(attempts=1)) as client:
        client.get()


def _async(url: str) -> None:
    async def ask() -> None:
        async with AsyncClient(url, pacing=Pacing(attempts=1)) as client:
            await client.get()

    asyncio.run(ask())


@pytest.mark.parametrize("ask", [_sync, _async])
def test_why_nobody_answers_is_said_in_the_machines_words(
    ask: Callable[[str], None], free_tcp_port: int
) -> None:
    """By both clients alike, and without the password of the address."""
    with pytest.raises(Unreachable) as raised:
        ask(f"http://me:secret@127.0.0.1:{free_tcp_port}")
    url = f"http://…@127.0.0.1:{free_tcp_port}"
    assert raised.value.sentence == f"{url} cannot be reached: connection refused."


@pytest.mark.parametrize("ask", [_sync, _async])
def test_an_address_that_is_none_is_refused_before_anything_is_asked(
    ask: Callable[[str], None],
) -> None:
    """In our words, not in those of a library beneath."""
    with pytest.raises(Refused, match="is not a relay's address"):
        ask("http://[::1")
