"""Frames as Binance sends them, the same for every reader, and who sends them.

Their shapes are those of the exchange's documents (book ticker, aggregate trade, day
ticker of its combined streams), in the proportion of a busy day.
"""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

SYMBOLS: Final = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT")
_START_MS: Final = 1_763_635_200_000
# RFC 6455, 1.3.
_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CHUNK: Final = 64 * 1024


def _book(symbol: str, number: int, price: str) -> str:
    return (
        f'{{"stream":"{symbol.lower()}@bookTicker","data":{{"u":{number},"s":"{symbol}",'
        f'"b":"{price}","B":"1.50000000","a":"{price[:-1]}1","A":"0.25000000"}}}}'
    )


def _trade(symbol: str, number: int, price: str) -> str:
    now_ms = _START_MS + number
    return (
        f'{{"stream":"{symbol.lower()}@aggTrade","data":{{"e":"aggTrade","E":{now_ms},'
        f'"s":"{symbol}","a":{number},"p":"{price}","q":"0.00120000","f":{number},'
        f'"l":{number},"T":{now_ms},"m":true,"M":true}}}}'
    )


def _day(symbol: str, number: int, price: str) -> str:
    now_ms = _START_MS + number
    return (
        f'{{"stream":"{symbol.lower()}@ticker","data":{{"e":"24hrTicker","E":{now_ms},'
        f'"s":"{symbol}","p":"-15.10000000","P":"-1.250","w":"{price}","x":"{price}",'
        f'"c":"{price}","Q":"0.01000000","b":"{price}","B":"1.5","a":"{price[:-1]}1",'
        f'"A":"0.25","o":"{price}","h":"{price}","l":"{price}","v":"9000.50000000",'
        f'"q":"549000000.0","O":{now_ms},"C":{now_ms},"F":1,"L":2,"n":2}}}}'
    )


_KINDS: Final = (*(7 * (_book,)), _trade, _trade, _day)


def frames(count: int) -> Iterator[bytes]:
    """Return so many frames, each newer than the one before."""
    for number in range(1, count + 1):
        symbol = SYMBOLS[number % len(SYMBOLS)]
        price = f"{1000 + number % 500}.{number % 100:02}000000"
        yield _KINDS[number % len(_KINDS)](symbol, number, price).encode()


def on_the_wire(count: int) -> bytes:
    """Return the frames as a WebSocket server sends them."""
    sent = bytearray()
    for frame in frames(count):
        length = len(frame)
        assert 125 < length < 1 << 16, "frames of two length bytes"
        sent += b"\x81\x7e" + length.to_bytes(2) + frame
    return bytes(sent)


@asynccontextmanager
async def sending(count: int) -> AsyncIterator[int]:
    """Send so many frames to whoever connects; return the port."""
    wire = on_the_wire(count)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = (line.partition(b":") for line in head.split(b"\r\n"))
        keys = {name.strip().lower(): value.strip() for name, _, value in lines}
        digest = hashlib.sha1(keys[b"sec-websocket-key"] + _MAGIC).digest()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: "
            b"Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n" % base64.b64encode(digest)
        )
        for start in range(0, len(wire), _CHUNK):
            writer.write(wire[start : start + _CHUNK])
            await writer.drain()
        # What the client says does not matter; that it goes away does.
        while await reader.read(_CHUNK):
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
