"""Publishes one price again and again: into a store as a leader does, or to nchan.

A process of its own: ``python tests/bench publish store URL BOARD RATE`` or
``… publish nchan PORT RATE``. ``volume_24h`` is when it was published, in microseconds.
"""

import asyncio
import re
import sys
import time  # noqa: TID251 - ages are compared in microseconds, with a C program's clock
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final

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
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: ([0-9]+)")
_MARK_S: Final = 1.0
_BEAT_MS: Final = 5000


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


async def into_store(url: str, board: str, rate: float) -> None:
    """Lead a board: one price at this rate, and marks; 0 is marks alone."""
    settings = load(environ={}).settings
    async with (
        connect(replace(settings.store, url=url), Clock()) as client,
        asyncio.TaskGroup() as tasks,
    ):
        leader = Leader(client, Keys(board))
        await leader.publish({NAME: ticker(0, now_us())})

        async def mark(_count: int) -> None:
            await leader.mark(beat_ms=_BEAT_MS)

        async def publish(count: int) -> None:
            await leader.publish({NAME: ticker(count, now_us())})

        await mark(0)
        say_ready()
        tasks.create_task(at_rate(1 / _MARK_S, mark))
        if rate:
            tasks.create_task(at_rate(rate, publish))


async def into_nchan(port: int, rate: float) -> None:
    """Post the same bodies to nchan over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def publish(count: int) -> None:
        message = body(ticker(count, now_us()))
        head = b"POST /pub HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        writer.write(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(message), message))
        answer = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(answer)
        await reader.readexactly(int(length[1]) if length else 0)

    async with AsyncExitStack() as stack:
        stack.callback(writer.close)
        await publish(0)
        say_ready()
        await at_rate(rate, publish)


def main(arguments: Sequence[str]) -> None:
    """Publish until killed."""
    kind, *words = arguments
    if kind == "store":
        url, board, rate = words
        work = into_store(url, board, float(rate))
    else:
        port, rate = words
        work = into_nchan(int(port), float(rate))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)
