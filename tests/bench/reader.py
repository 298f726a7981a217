"""Reads frames as the worker does: socket, session, merge; and says what it cost.

A process of its own: ``python tests/bench read PORT COUNT``.
"""

import asyncio
import resource
import sys
from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec
import uvloop
from msgspec.structs import replace

from relay.clock import Clock
from relay.config import load
from relay.exchanges import open_adapter
from relay.ingest.conflate import Merge
from relay.ingest.connection import Connection, Ears
from relay.ingest.dial import Dial
from relay.ingest.probe import Probe
from relay.ingest.roll import Roll
from relay.model import Listing, Symbols, Update
from tests.bench.frames import SYMBOLS, prices

_NAME: Final = "binance"


def cpu_s() -> float:
    """Return the processor time that this process has used, in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _take(
    merge: Merge, probe: Probe, wake: asyncio.Event, updates: Sequence[Update]
) -> None:
    """Do as a term does: watch, merge, and tell the publisher."""
    probe.spoke(updates)
    merge.take(updates, now_ms=updates[0].received_ms)
    if merge.dirty:
        wake.set()


async def read(port: int, count: int) -> dict[str, object]:
    """Read so many frames; return the processor seconds and the merged tickers."""
    settings = load(environ={}).settings
    clock = Clock()
    # One ticker of one source for each frame, as other libraries have it.
    names = tuple("-".join(pair) for pair in SYMBOLS.values())
    group = replace(settings.board.groups[0], instruments=names, sources=(_NAME,))
    board = replace(settings.board, groups=(group,))
    merge = Merge(board, settings.ingest, {_NAME: 60_000})
    listings = [
        Listing(symbol=symbol, base=base, quote=quote)
        for symbol, (base, quote) in SYMBOLS.items()
    ]
    merge.list(_NAME, Symbols(listings))
    # A worker has read a snapshot before: what has no price is not published.
    seeds = [
        Update(
            exchange=_NAME,
            channel="rest:ticker/24hr",
            symbol=symbol,
            received_ms=clock.wall_ms(),
            snapshot=True,
            price=price,
        )
        for symbol, price in prices().items()
    ]
    merge.take(seeds, now_ms=clock.wall_ms())

    probe = Probe(settings.ingest.silent_after_ms)
    ears = Ears(
        updates=partial(_take, merge, probe, asyncio.Event()),
        heard=lambda: merge.heard(_NAME, now_ms=clock.wall_ms()),
        dropped=lambda reason: sys.exit(f"a frame was dropped: {reason}"),
        noticed=lambda _connection, _notice: None,
        changed=lambda: None,
    )
    adapter = open_adapter(_NAME, settings.exchanges[_NAME])
    dial = Dial(
        adapter=adapter,
        url=f"ws://127.0.0.1:{port}",
        ingest=settings.ingest,
        clock=clock,
        tls=None,
    )
    connection = Connection(
        dial, adapter.session(list(SYMBOLS)), Roll(list(SYMBOLS)), ears
    )
    before_s = cpu_s()
    await connection.open()
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(connection.keep())
        while connection.frames < count:  # noqa: ASYNC110 - it must not pay for being watched
            await asyncio.sleep(0.01)
        spent_s = cpu_s() - before_s
        keeping.cancel()
    batch = merge.cut(epoch="b", previous=0, now_ms=clock.wall_ms(), most=100)
    merged = sorted(batch.tickers) if batch is not None else []
    return {"cpu_s": spent_s, "frames": connection.frames, "merged": merged}


def main(arguments: Sequence[str]) -> None:
    """Read, and write what it cost as a line of JSON."""
    port, count = map(int, arguments)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(read(port, count))
    sys.stdout.write(f"{msgspec.json.encode(found).decode()}\n")
