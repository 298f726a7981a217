"""A connection without a client library, which knows nothing that it is not told."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from tests.delivery.live import Live

STREAM = b"GET /v1/stream?symbols=BTC-USD HTTP/1.1\r\nHost: x\r\n\r\n"


class Plain:
    """A connection without a client library: bytes out, chunks in."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader, self.writer = reader, writer

    async def head(self) -> bytes:
        """Read the head of an answer."""
        with anyio.fail_after(10):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def listen(self) -> str:
        """Ask for the stream; return the first price."""
        self.writer.write(STREAM)
        assert (await self.head()).startswith(b"HTTP/1.1 200")
        return await self.price()

    async def chunk(self) -> bytes:
        """Read one chunk of an answer; empty at its end."""
        with anyio.fail_after(10):
            size = int(await self.reader.readline(), 16)
            chunk = await self.reader.readexactly(size)
            assert await self.reader.readline() == b"\r\n"
            return chunk

    async def price(self) -> str:
        """Read chunks until one has a price."""
        while True:
            _, found, body = (await self.chunk()).partition(b"data: ")
            if found:
                price: str = json.loads(body)["prices"]["BTC-USD"]["price"]
                return price

    async def rest(self) -> list[bytes]:
        """Read the chunks that are left."""
        chunks = []
        while chunk := await self.chunk():
            chunks.append(chunk)
        return chunks


@asynccontextmanager
async def plain(relay: Live, *, buffer: int = 0) -> AsyncIterator[Plain]:
    """Connect; ``buffer`` is how much the kernel holds that was not read."""
    host, _, port = relay.url.removeprefix("http://").partition(":")
    own = socket.socket()
    if buffer:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    own.connect((host, int(port)))
    # What the reader itself would hold is no more than that either.
    reader, writer = await asyncio.open_connection(sock=own, limit=buffer or 65536)
    try:
        yield Plain(reader, writer)
    finally:
        writer.close()
