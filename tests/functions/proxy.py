"""What stands between a function and the store, and may fall silent."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress

from tests.functions.listening import listening

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]


class Proxy:
    """Passes bytes on, both ways, until it falls silent for who is connected."""

    def __init__(self, connect: Connect) -> None:
        self.url = ""
        self._connect = connect
        self._silent: set[asyncio.StreamWriter] = set()
        self._open: set[asyncio.StreamWriter] = set()

    def fall_silent(self) -> None:
        """Pass nothing on any more over the connections there are, and say nothing."""
        self._silent |= self._open

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pass on one connection."""
        answers, there = await self._connect()
        self._open.add(writer)
        with closing(there):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass(reader, there, writer))
                tasks.create_task(self._pass(answers, writer, writer))

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
    ) -> None:
        with suppress(ConnectionError):
            while part := await reader.read(65536):
                if client not in self._silent:
                    writer.write(part)
                    await writer.drain()
        if client not in self._silent:
            writer.close()


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[Proxy]:
    """Hold a proxy of the store at a socket."""
    place = url.removeprefix("unix://")
    proxy = Proxy(lambda: asyncio.open_unix_connection(place))
    async with listening(proxy.serve) as (host, port):
        proxy.url = f"valkey://{host}:{port}"
        yield proxy
