"""A relay that can be stopped and started at one address, and a proxy that harms."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Self

from msgspec import Struct
from msgspec.structs import replace

from relay.config import Settings
from relay.delivery.server import Addresses, Server
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.serving import Leader, make_app, make_hub
from tests.harness import eventually


@asynccontextmanager
async def serving_at(
    client: Client, keys: Keys, settings: Settings, port: int
) -> AsyncIterator[str]:
    """Run an instance at one port; return its address once it has a board to serve."""
    http = replace(settings.http, port=port, drain_ms=500)
    hub = make_hub(client, keys, replace(settings, http=http))
    told: list[Addresses] = []
    app = make_app(client, keys, replace(settings, http=http), hub)
    server = Server(app, http, started=told.append, drain=hub.drain)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.run())
        try:
            await eventually(lambda: bool(told) and hub.ready and bool(hub.mark))
            yield f"http://127.0.0.1:{port}"
        finally:
            server.stop()


class Market:
    """A leader that never rests: BTC-USD counts up, and marks come as time goes."""

    def __init__(self, leader: Leader) -> None:
        self.leader = leader
        self.count = 100
        self._others: dict[str, str] = {"ETH-USD": "2000.0", "SOL-USD": "30.0"}

    def say(self, **prices: str) -> None:
        """Let other instruments change with the next batch."""
        named = {name.replace("_", "-"): price for name, price in prices.items()}
        self._others |= named

    async def run(self) -> None:
        """Publish for ever."""
        while True:
            self.count += 1
            others, self._others = self._others, {}
            await self.leader.publish({"BTC-USD": f"{self.count}.0", **others})
            await self.leader.mark()
            await asyncio.sleep(0.02)  # the pace of this market

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Publish while the context lasts."""
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.run())
            yield self
            task.cancel()


class Harm(Struct):
    """What a proxy does to streams: nothing, say 404, hold back, garble, cut short."""

    refuses: bool = False
    garbles: bool = False
    holds: bool = False
    cuts_after: int = 0


class Proxy:
    """Stands before a relay, and does harm to its streams."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.harm = Harm()
        self.url = ""
        self.paths: list[str] = []
        self._serving: set[asyncio.Task[object]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Listen on some port while the context lasts."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        try:
            yield self
        finally:
            server.close()
            for task in self._serving:
                task.cancel()
            await server.wait_closed()
            if self._serving:
                await asyncio.wait(self._serving)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            async with AsyncExitStack() as stack:
                stack.callback(writer.close)
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode()
                self.paths.append(path)
                harm = self.harm if path.startswith("/v1/stream") else Harm()
                if harm.refuses:
                    writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n")
                    writer.write(b"connection: close\r\n\r\n")
                    await writer.drain()
                    return
                back, forth = await asyncio.open_connection("127.0.0.1", self._port)
                stack.callback(forth.close)
                forth.write(_closing(head))
                await _pass_on(back, writer, harm)


def _closing(head: bytes) -> bytes:
    """Return a request's head that asks for one answer on this connection."""
    lines = head.split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([kept[0], b"connection: close", *kept[1:]])


async def _pass_on(
    back: asyncio.StreamReader, writer: asyncio.StreamWriter, harm: Harm
) -> None:
    passed = 0
    while piece := await back.read(65536):
        if harm.holds:
            continue
        if harm.garbles:
            piece = piece.replace(b'"cursor":', b'"kursor":')
        if harm.cuts_after and passed + len(piece) > harm.cuts_after:
            writer.write(piece[: harm.cuts_after - passed])
            await writer.drain()
            return
        passed += len(piece)
        writer.write(piece)
        await writer.drain()
