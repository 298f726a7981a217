"""An exchange that says in each price when it was sent: Binance's REST and streams.

A process of its own: ``python tests/bench exchange COUNT RATE``. The simulator has a
pace of its own and clocks that differ on purpose; here the bid of every book ticker is
the moment it was sent, in microseconds, which reaches clients digit for digit. It
begins slowly, and keeps its rate from SIGUSR1 on.
"""

import asyncio
import signal
import sys
from collections.abc import Sequence
from typing import Final

import msgspec
import uvloop
from aiohttp import web

from tests.bench.publisher import now_us

MARKER: Final = '"bid":"'
"""What stands before the moment of sending, once it has reached a client."""

NAME_MARK: Final = '"A'
"""What stands before the number in an instrument's name."""

_QUOTE: Final = "USDT"
# Until everybody is there.
_SLOW_RATE: Final = 20.0
# Frames that are due are written so often; the first ones wait for that long.
_STEP_S: Final = 0.001
_LONG: Final = 126  # RFC 6455, 5.2: the length that says that it stands in the next two


def instruments(count: int) -> list[str]:
    """Return so many instruments in our spelling."""
    return [f"A{number:04}-{_QUOTE}" for number in range(count)]


def symbol(instrument: str) -> str:
    """Return the exchange's spelling."""
    return instrument.replace("-", "")


def book_ticker(name: str, number: int, sent_us: int) -> bytes:
    """Write one frame of the stream of best prices, as it goes over the socket."""
    payload = (
        f'{{"stream":"{name.lower()}@bookTicker","data":{{"u":{number},"s":"{name}",'
        f'"b":"{sent_us}","B":"1.50000000","a":"{sent_us + 1}","A":"0.25000000"}}}}'
    ).encode()
    return bytes((0x81, _LONG)) + len(payload).to_bytes(2) + payload


class Exchange:
    """Lists instruments, and tells everybody who listens about one after the other."""

    def __init__(self, count: int, rate: float) -> None:
        self._symbols = [symbol(name) for name in instruments(count)]
        self._rate, self._full_rate = min(rate, _SLOW_RATE), rate
        # Who listens, and to what.
        self._listeners: dict[asyncio.Transport, set[str]] = {}

    def routes(self) -> list[web.RouteDef]:
        """Return what is answered; everything else is 404."""
        return [
            web.get("/api/v3/exchangeInfo", self._info),
            web.get("/api/v3/ticker/24hr", self._day),
            web.get("/stream", self._stream),
        ]

    async def _info(self, _request: web.Request) -> web.Response:
        rows = [
            {
                "symbol": name,
                "status": "TRADING",
                "baseAsset": name.removesuffix(_QUOTE),
                "quoteAsset": _QUOTE,
            }
            for name in self._symbols
        ]
        return _answer({"symbols": rows})

    async def _day(self, request: web.Request) -> web.Response:
        asked = request.query.get("symbols")
        names = msgspec.json.decode(asked) if asked else self._symbols
        price = str(now_us())
        rows = [
            {"symbol": name, "lastPrice": price, "bidPrice": price, "askPrice": price}
            for name in names
        ]
        return _answer(rows)

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        streams = set(filter(None, request.query.get("streams", "").split("/")))
        assert request.transport is not None
        self._listeners[request.transport] = _symbols(streams)
        try:
            async for message in socket:
                asked = msgspec.json.decode(message.data)
                self._listeners[request.transport] |= _symbols(asked["params"])
                await socket.send_str(f'{{"result":null,"id":{asked["id"]}}}')
        finally:
            del self._listeners[request.transport]
        return socket

    def go(self) -> None:
        """Send at the full rate from now on."""
        self._rate = self._full_rate

    async def send(self) -> None:
        """Send at the rate, for ever; what is late is made up for."""
        loop = asyncio.get_running_loop()
        last_s, owed, sent = loop.time(), 0.0, 0
        while True:
            await asyncio.sleep(_STEP_S)
            now_s = loop.time()
            owed += (now_s - last_s) * self._rate
            last_s, due = now_s, sent + int(owed)
            owed -= due - sent
            for transport, names in self._listeners.items():
                self._write(transport, names, range(sent + 1, due + 1))
            sent = due

    def _write(
        self, transport: asyncio.Transport, names: set[str], numbers: Sequence[int]
    ) -> None:
        chosen = (self._symbols[number % len(self._symbols)] for number in numbers)
        sent_us = now_us()
        frames = [
            book_ticker(name, number, sent_us)
            for name, number in zip(chosen, numbers, strict=True)
            if name in names
        ]
        if frames and not transport.is_closing():
            transport.write(b"".join(frames))


def _symbols(streams: Sequence[str] | set[str]) -> set[str]:
    """Return whose best prices are among these streams."""
    return {
        name.partition("@")[0].upper()
        for name in streams
        if name.endswith("@bookTicker")
    }


def _answer(content: object) -> web.Response:
    body = msgspec.json.encode(content)
    return web.Response(body=body, content_type="application/json")


async def _run(count: int, rate: float) -> None:
    exchange = Exchange(count, rate)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, exchange.go)
    app = web.Application()
    app.add_routes(exchange.routes())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"exchange at {runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await exchange.send()


def main(arguments: Sequence[str]) -> None:
    """Send until killed."""
    count, rate = arguments
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(int(count), float(rate)))
