"""Other libraries that read the same frames, as their documentation shows it.

Processes of their own: ``python tests/bench peer ccxt PORT COUNT`` and ``… peer
cryptofeed PORT COUNT``. The packages are in the dependency group ``peers``, which
nothing else installs.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module
from typing import Any, Final

import msgspec
import uvloop

from tests.bench.frames import SYMBOLS, frames
from tests.bench.reader import cpu_s

_WATCH_S: Final = 0.01


class Drained:
    """The buffer of aiohttp that ccxt empties behind its back.

    ccxt gives back the sizes of what it took, but not what aiohttp 3.14 adds to each:
    without that it never reads again once 128 KB have passed.
    """

    def __init__(self, buffer: deque[tuple[object, int]], added: int) -> None:
        self._buffer, self._added = buffer, added

    def __len__(self) -> int:
        return len(self._buffer)

    def __getitem__(self, place: int) -> tuple[object, int]:
        return self._buffer[place]

    def __setitem__(self, place: int, message: tuple[object, int]) -> None:
        self._buffer[place] = message

    def popleft(self) -> tuple[object, int]:
        """Take a message, with the size that it counts for."""
        message, size = self._buffer.popleft()
        return message, size + self._added


def mend_ccxt() -> None:
    """Let ccxt read on with the aiohttp of today."""
    client = import_module("ccxt.async_support.base.ws.client").Client
    reader = import_module("aiohttp._websocket.reader_py")
    added = getattr(reader, "MSG_SIZE_OVERHEAD", 0)
    found = client.buffer.fget

    def buffer(self: object) -> Drained | None:
        taken = found(self)
        return None if taken is None else Drained(taken, added)

    client.buffer = property(buffer)


async def read_by_ccxt(port: int, many: int) -> dict[str, object]:
    """Watch best bids and asks until the last frame has arrived."""
    mend_ccxt()
    exchange = import_module("ccxt.pro").binance({"newUpdates": True})
    rows = [
        {"symbol": symbol, "status": "TRADING", "baseAsset": base, "quoteAsset": quote}
        for symbol, (base, quote) in SYMBOLS.items()
    ]
    # What it would have asked by REST.
    exchange.options["crossMarginPairsData"] = []
    exchange.options["isolatedMarginPairsData"] = []
    spot = {"isSpotTradingAllowed": True, "filters": [], "permissions": ["SPOT"]}
    exchange.set_markets([exchange.parse_market(row | spot) for row in rows])
    exchange.urls["api"]["ws"]["spot"] = f"ws://127.0.0.1:{port}/ws"
    names = [f"{base}/{quote}" for base, quote in SYMBOLS.values()]
    *_, last = (
        one
        for one in map(msgspec.json.decode, frames(many, combined=False))
        if "u" in one
    )
    last_name = "/".join(SYMBOLS[last["s"]])

    async def watch() -> None:
        while True:
            await exchange.watch_bids_asks(names)

    def arrived() -> bool:
        return bool(
            exchange.bidsasks.get(last_name, {}).get("info", {}).get("u") == last["u"]
        )

    before_s = cpu_s()
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch())
        while not arrived():  # noqa: ASYNC110 - it must not pay for being watched
            await asyncio.sleep(_WATCH_S)
        spent_s = cpu_s() - before_s
        watching.cancel()
    await exchange.close()
    return {"cpu_s": spent_s, "frames": many, "merged": sorted(exchange.bidsasks)}


async def read_by_cryptofeed(port: int, many: int) -> dict[str, object]:
    """Take tickers and trades by callbacks until all have come."""
    defines = import_module("cryptofeed.defines")
    symbols = import_module("cryptofeed.symbols")
    connection = import_module("cryptofeed.connection")
    binance = import_module("cryptofeed.exchanges").Binance
    names = {f"{base}-{quote}": symbol for symbol, (base, quote) in SYMBOLS.items()}
    symbols.Symbols.set(binance.id, names, {"instrument_type": {}})
    binance.websocket_endpoints = [
        connection.WebsocketEndpoint(f"wss://127.0.0.1:{port}")
    ]
    merged: dict[str, dict[str, object]] = {}
    came, done = 0, asyncio.Event()

    def take() -> None:
        nonlocal came
        came += 1
        if came == many:
            done.set()

    async def ticker(one: Any, _received: float) -> None:  # noqa: ANN401 - no types there
        merged.setdefault(one.symbol, {}).update(bid=one.bid, ask=one.ask)
        take()

    async def trade(one: Any, _received: float) -> None:  # noqa: ANN401 - the same
        merged.setdefault(one.symbol, {}).update(price=one.price)
        take()

    feed = binance(
        symbols=list(names),
        channels=[defines.TICKER, defines.TRADES],
        callbacks={defines.TICKER: ticker, defines.TRADES: trade},
    )
    connections = feed.connect()
    for line, *_ in connections:
        # It takes no other address than an encrypted one; nobody else encrypts here.
        line.address = line.address.replace("wss:", "ws:")
    feed.connect = lambda: connections
    before_s = cpu_s()
    feed.start(asyncio.get_running_loop())
    await done.wait()
    spent_s = cpu_s() - before_s
    return {"cpu_s": spent_s, "frames": came, "merged": sorted(merged)}


_READERS: Final[dict[str, Callable[[int, int], Coroutine[Any, Any, object]]]] = {
    "ccxt": read_by_ccxt,
    "cryptofeed": read_by_cryptofeed,
}


def main(arguments: Sequence[str]) -> None:
    """Read, and write what it cost as a line of JSON."""
    name, port, many = arguments
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(_READERS[name](int(port), int(many)))
        sys.stdout.write(f"{msgspec.json.encode(found).decode()}\n")
        sys.stdout.flush()
        sys.exit(0)
