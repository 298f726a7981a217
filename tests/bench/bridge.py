"""Feeds nchan with what the relay works with, update by update or batch by batch.

Processes of their own: ``python tests/bench bridge updates EXCHANGE PORT COUNT`` reads
an exchange's frames as the worker does, and posts each update to its instrument's
channel; ``… bridge batches URL BOARD PORT`` follows a board, and posts each batch to
one channel.
"""

import asyncio
import sys
from collections.abc import Sequence
from itertools import count
from typing import Final

import uvloop
from msgspec.structs import replace

from relay.board import Board, encode
from relay.clock import Clock
from relay.config import load
from relay.exchanges import open_adapter
from relay.ingest.connection import Connection, Ears
from relay.ingest.dial import Dial
from relay.ingest.roll import Roll
from relay.model import Batch, Selection, Ticker, Update
from relay.store.client import connect
from relay.store.keys import Keys
from relay.store.reader import Reader
from tests.bench.exchange import instruments, symbol
from tests.bench.publisher import request, say_ready
from tests.delivery.serving import EPOCH

_WAIT_MS: Final = 1000
# Once so many batches were posted, prices flow.
_FLOWING: Final = 5


class Nchan:
    """One connection to nchan, on which nobody waits for an answer to ask again."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def post(self, message: bytes, channel: str = "") -> None:
        """Post a message."""
        place = f"/pub?id={channel}" if channel else "/pub"
        self._writer.write(request("nchan", message, place.encode()))

    async def drain(self) -> None:
        """Wait until it takes more."""
        await self._writer.drain()


def body(batch: Batch) -> bytes:
    """Return what the relay's clients get of a batch."""
    board = Board.read(batch.epoch, batch.offset, 0, batch.tickers)
    return encode(board.changes(Selection.of(batch.tickers)), live=True)


def body_of(update: Update, name: str) -> bytes:
    """Return the same of one update."""
    ticker = Ticker(
        price=update.price,
        bid=update.bid,
        ask=update.ask,
        source=update.exchange,
        received_ms=update.received_ms,
        offset=update.received_ms,
    )
    offset = update.received_ms
    tickers = {name: ticker.encode()}
    return body(Batch(epoch=EPOCH, previous=0, offset=offset, tickers=tickers))


async def post_updates(exchange: int, many: int, nchan: Nchan) -> None:
    """Read an exchange, and post whatever it says."""
    settings = load(environ={}).settings
    clock = Clock()
    names = {symbol(name): name for name in instruments(many)}

    def take(updates: Sequence[Update]) -> None:
        for update in updates:
            name = names[update.symbol]
            nchan.post(body_of(update, name), name)

    ears = Ears(
        updates=take,
        heard=lambda: None,
        dropped=lambda reason: sys.exit(f"a frame was dropped: {reason}"),
        noticed=lambda _connection, _notice: None,
        changed=lambda: None,
    )
    adapter = open_adapter("binance", settings.exchanges["binance"])
    dial = Dial(
        adapter=adapter,
        url=f"ws://127.0.0.1:{exchange}",
        ingest=settings.ingest,
        clock=clock,
        tls=None,
    )
    roll = Roll(list(names))
    connection = Connection(dial, adapter.session(list(names)), roll, ears)
    await connection.open()
    say_ready()
    await connection.keep()


async def post_batches(url: str, board: str, nchan: Nchan) -> None:
    """Follow a board, and post whatever is published."""
    settings = load(environ={}).settings
    async with connect(replace(settings.store, url=url), Clock()) as client:
        reader = Reader(client, Keys(board))
        place, numbers = await reader.place(), count(1)
        async with reader.follow(wait_ms=_WAIT_MS) as follower:
            while True:
                for entry in await follower.after(place):
                    place = entry.place
                    if isinstance(entry.item, Batch):
                        nchan.post(body(entry.item))
                        if next(numbers) == _FLOWING:
                            say_ready()
                await nchan.drain()


async def _forget(reader: asyncio.StreamReader) -> None:
    """Read what nchan answers, so that it can answer on."""
    while await reader.read(1 << 16):
        pass


async def _run(kind: str, words: Sequence[str]) -> None:
    port = int(words[1] if kind == "updates" else words[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    nchan = Nchan(writer)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_forget(reader))
        if kind == "updates":
            await post_updates(int(words[0]), int(words[2]), nchan)
        else:
            await post_batches(words[0], words[1], nchan)


def main(arguments: Sequence[str]) -> None:
    """Post until killed."""
    kind, *words = arguments
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(kind, words))
