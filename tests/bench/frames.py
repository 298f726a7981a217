"""Frames as Binance sends them, the same for every reader, and who sends them.

Those that others recorded (best prices and trades), where they lie beside the project;
otherwise the same in the shape of the exchange's documents. They are repeated, each
time with newer numbers, since whatever is late or repeated is left out.
"""

import asyncio
import base64
import gzip
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count, cycle, islice
from typing import Any, Final

import msgspec

from tests.bench.ground import ROOT

RECORDED: Final = (
    ROOT.parent / "shared" / "recorded" / "binance" / "cryptofeed_spot_2021-10-12.ws.gz"
)
SYMBOLS: Final = {
    "NKNUSDT": ("NKN", "USDT"),
    "BLZETH": ("BLZ", "ETH"),
    "LRCBTC": ("LRC", "BTC"),
}
"""Every symbol of the frames: its base and its quote."""

_START_MS: Final = 1_763_635_200_000
# RFC 6455, 1.3 and 5.2.
_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SHORT: Final = 126
_CHUNK: Final = 64 * 1024

Payload = dict[str, Any]


def payloads() -> list[Payload]:
    """Return one round of payloads."""
    return _recorded() if RECORDED.exists() else _documented()


def _recorded() -> list[Payload]:
    lines = gzip.decompress(RECORDED.read_bytes()).decode().splitlines()
    texts = (line.partition(": ")[2] for line in lines if line[0].isdigit())
    found = [msgspec.json.decode(text).get("data", {}) for text in texts]
    return [
        one
        for one in found
        if one.get("e") == "aggTrade" or ("u" in one and "B" in one)
    ]


def _documented() -> list[Payload]:
    """Return 40 best prices and a trade of each symbol."""
    books = [
        {
            "u": 0,
            "s": symbol,
            "b": f"0.0031{step:02}00",
            "B": "1.50000000",
            "a": f"0.0032{step:02}00",
            "A": "0.25000000",
        }
        for step in range(40)
        for symbol in SYMBOLS
    ]
    trades = [
        {
            "e": "aggTrade",
            "E": 0,
            "s": symbol,
            "a": 0,
            "p": "0.00315000",
            "q": "12.00000000",
            "f": 1,
            "l": 1,
            "T": 0,
            "m": True,
            "M": True,
        }
        for symbol in SYMBOLS
    ]
    return books + trades


def prices() -> dict[str, str]:
    """Return a price of every symbol, as a reader of snapshots would know it."""
    return {one["s"]: one["b"] for one in payloads() if "e" not in one}


def numbered(payload: Payload, number: int) -> Payload:
    """Return a payload that is newer than all with a lower number."""
    if "e" in payload:
        return {**payload, "E": number, "T": number, "a": number}
    return {**payload, "u": number}


def frames(many: int, *, combined: bool) -> Iterator[bytes]:
    """Return so many frames, raw or in the envelope of combined streams."""
    numbers = count(_START_MS)
    for payload in islice(cycle(payloads()), many):
        newer = numbered(payload, next(numbers))
        if not combined:
            yield msgspec.json.encode(newer)
            continue
        channel = "aggTrade" if "e" in newer else "bookTicker"
        stream = f"{newer['s'].lower()}@{channel}"
        yield msgspec.json.encode({"stream": stream, "data": newer})


def on_the_wire(texts: Iterator[bytes]) -> bytes:
    """Return frames as a WebSocket server sends them."""
    sent = bytearray()
    for text in texts:
        length = len(text)
        assert length < 1 << 16, "frames of two length bytes"
        size = bytes((length,)) if length < _SHORT else b"\x7e" + length.to_bytes(2)
        sent += b"\x81" + size + text
    return bytes(sent)


@asynccontextmanager
async def sending(many: int, *, combined: bool) -> AsyncIterator[int]:
    """Send so many frames to whoever connects, as fast as they are read.

    In the envelope of combined streams, or raw once there was a subscription. Yields
    the port.
    """
    wire = on_the_wire(frames(many, combined=combined))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(_accepted(head))
        if not combined:
            await reader.read(_CHUNK)
        for start in range(0, len(wire), _CHUNK):
            writer.write(wire[start : start + _CHUNK])
            await writer.drain()
        # What the client says does not matter; that it goes away does.
        with suppress(ConnectionError):
            while await reader.read(_CHUNK):
                pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def _accepted(head: bytes) -> bytes:
    """Write the answer to an opening handshake."""
    lines: Sequence[bytes] = head.split(b"\r\n")
    parts = (line.partition(b":") for line in lines)
    fields = {name.strip().lower(): value.strip() for name, _, value in parts}
    digest = hashlib.sha1(fields[b"sec-websocket-key"] + _MAGIC).digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: "
        b"Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n" % base64.b64encode(digest)
    )
