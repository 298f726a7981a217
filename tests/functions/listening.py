"""A server for one test: whoever is still connected at its end is cut off."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from ssl import SSLContext
from typing import Final

# Below what the system gives to connections that go out, which might take it between
# our looking and somebody's listening.
_PORTS: Final = range(20_000, 30_000)

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def free_port() -> int:
    """Return a port that nobody listens at."""
    while True:
        port = random.choice(_PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@asynccontextmanager
async def listening(
    serve: Serve, tls: SSLContext | None = None
) -> AsyncIterator[tuple[str, int]]:
    """Serve each connection in a task; yields where."""
    open_: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await serve(reader, writer)

    async with asyncio.TaskGroup() as tasks:

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = tasks.create_task(run(reader, writer))
            open_.add(task)
            task.add_done_callback(open_.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
        try:
            yield server.sockets[0].getsockname()
        finally:
            server.close()
            for task in list(open_):
                task.cancel()
