"""Publishes prices again and again: into a store as a leader does, or to a peer.

A process of its own: ``python tests/bench publish store URL BOARD RATE COUNT``, or
``… publish nchan PORT RATE``, or ``… publish pushpin PORT RATE``. ``volume_24h`` is
when it was published, in microseconds.
"""

import asyncio
import re
import sys
import time  # noqa: TID251 - ages are compared in microseconds, with a C program's clock
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
import uvloop
from msgspec.structs import replace

from relay.board import Board, Row, encode
from relay.clock import Clock
from relay.config import load
from relay.model import Selection, Ticker
from relay.store.client import connect
from relay.store.keys import Keys
from tests.delivery.serving import EPOCH, Leader

MARKER: Final = '"volume_24h":"'
"""What stands before the moment of publishing."""

NAME: Final = "BTC-USD"
_PUSHPIN: Final = "pushpin"
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: ([0-9]+)")
_MARK_S: Final = 1.0
_BEAT_MS: Final = 5000


def names(count: int) -> list[str]:
    """Return so many instruments."""
    return [NAME, *(f"A{number:04}-USD" for number in range(1, count))]


def ticker(count: int, now_us: int) -> Ticker:
    """Return the price of one publication."""
    return Ticker(
        price=f"61000.{count % 100:02}",
        bid="61000.11",
        ask="61000.12",
        change_24h_pct="-1.25",
        volume_24h=str(now_us),
        source="coinbase",
        event_ms=now_us // 1000,
        received_ms=now_us // 1000,
        offset=now_us // 1000,
    )


def body(one: Ticker) -> bytes:
    """Return what the relay's clients get of a price, for another server."""
    board = Board(EPOCH, one.offset)
    board.rows[NAME] = Row.read(one.encode())
    return encode(board.changes(Selection.of([NAME])), live=True)


def now_us() -> int:
    """Read the machine's clock, which the load generator reads as well."""
    return time.time_ns() // 1000


def say_ready() -> None:
    """Tell who started us that the first price is out."""
    sys.stdout.write("publishing\n")
    sys.stdout.flush()


async def at_rate(rate: float, publish: Callable[[int], Awaitable[None]]) -> None:
    """Publish so often a second, for ever; what is late is made up for."""
    loop = asyncio.get_running_loop()
    start_s, count = loop.time(), 0
    while True:
        count += 1
        await asyncio.sleep(start_s + count / rate - loop.time())
        await publish(count)


async def into_store(url: str, board: str, rate: float, count: int) -> None:
    """Lead a board: so many prices at this rate, and marks; 0 is marks alone."""
    settings = load(environ={}).settings
    async with (
        connect(replace(settings.store, url=url), Clock()) as client,
        asyncio.TaskGroup() as tasks,
    ):
        leader = Leader(client, Keys(board))

        async def mark(_count: int) -> None:
            await leader.mark(beat_ms=_BEAT_MS)

        async def publish(number: int) -> None:
            await leader.publish(dict.fromkeys(names(count), ticker(number, now_us())))

        await publish(0)
        await mark(0)
        say_ready()
        tasks.create_task(at_rate(1 / _MARK_S, mark))
        if rate:
            tasks.create_task(at_rate(rate, publish))


def request(kind: str, message: bytes, path: bytes = b"/pub") -> bytes:
    """Write the request that publishes a body at a peer."""
    if kind == _PUSHPIN:
        # It frames nothing itself: what a stream is to get stands in the item.
        formats = {"http-stream": {"content": f"data: {message.decode()}\n\n"}}
        item = {"channel": "test", "formats": formats}
        path, message = b"/publish/", msgspec.json.encode({"items": [item]})
    return (
        b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (path, len(message), message)
    )


async def into_peer(kind: str, port: int, rate: float) -> None:
    """Post the same bodies: over one connection, where the peer keeps it open."""
    lines = Lines(port, kept=kind != _PUSHPIN)

    async def publish(count: int) -> None:
        await lines.post(request(kind, body(ticker(count, now_us()))))

    try:
        await publish(0)
        say_ready()
        await at_rate(rate, publish)
    finally:
        lines.close()


class Lines:
    """One connection after the other, or one that is kept."""

    def __init__(self, port: int, *, kept: bool) -> None:
        self._port, self._kept = port, kept
        self._line: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, message: bytes) -> None:
        """Post a request, and read the answer."""
        if self._line is None:
            self._line = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._line
        writer.write(message)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer[9:10] == b"2", answer
        length = _LENGTH.search(answer)
        await reader.readexactly(int(length[1]) if length else 0)
        if not self._kept:
            self.close()

    def close(self) -> None:
        """Hang up."""
        if self._line is not None:
            self._line[1].close()
            self._line = None


def main(arguments: Sequence[str]) -> None:
    """Publish until killed."""
    kind, *words = arguments
    if kind == "store":
        url, board, rate, count = words
        work = into_store(url, board, float(rate), int(count))
    else:
        port, rate = words
        work = into_peer(kind, int(port), float(rate))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)
