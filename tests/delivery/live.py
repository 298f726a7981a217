"""A whole instance on a real port, and clients that read it as browsers do."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
from msgspec import Struct
from msgspec.structs import replace
from websockets.asyncio.client import ClientConnection, connect

from relay.config import Settings
from relay.delivery.server import Addresses, Server
from relay.hub import Hub
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.serving import Leader, make_app, make_hub
from tests.harness import eventually

Body = dict[str, Any]


class Live(Struct):
    """One instance: where it is, what is behind it, and a client of it."""

    url: str
    hub: Hub
    leader: Leader
    asker: httpx.AsyncClient
    server: Server

    async def poll(self, query: str) -> httpx.Response:
        """Ask one poll."""
        return await self.asker.get(f"/v1/poll?{query}")

    def stop(self) -> None:
        """Begin to end the instance."""
        self.server.stop()

    async def mark(self) -> None:
        """Write a mark, and wait until the instance has cut there."""
        await self.leader.mark()
        await self.cut()

    async def cut(self) -> None:
        """Wait until the newest that was published has been cut."""
        await eventually(lambda: self.hub.cut.offset == self.leader.offset)

    async def held(self, count: int = 1) -> None:
        """Wait until so many polls are held."""
        await eventually(lambda: self.hub.counts.clients["poll"] == count)

    @asynccontextmanager
    async def stream(
        self, query: str = "", last: str = ""
    ) -> AsyncIterator["EventSource"]:
        """Open a stream."""
        headers = {"last-event-id": last} if last else {}
        path = f"/v1/stream?{query}"
        async with self.asker.stream("GET", path, headers=headers) as answer:
            yield EventSource(answer)

    @asynccontextmanager
    async def socket(self) -> AsyncIterator["Socket"]:
        """Open a WebSocket."""
        url = self.url.replace("http", "ws", 1) + "/v1/ws"
        async with connect(url) as connection:
            yield Socket(connection)


class EventSource:
    """What a browser makes of a stream: blocks of lines, ended by an empty one."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.id = ""
        self._lines = answer.aiter_lines()

    async def block(self) -> list[str] | None:
        """Read the next block of lines; None at the stream's end."""
        lines: list[str] = []
        with anyio.fail_after(10):
            async for line in self._lines:
                if line:
                    lines.append(line)
                elif lines:
                    return lines
        return None

    async def next(self) -> Body:
        """Read the next event's data; comments and ``retry:`` are passed over."""
        while True:
            lines = await self.block()
            assert lines is not None, "the stream has ended"
            fields = dict(line.split(": ", 1) for line in lines if ": " in line)
            if "data" in fields:
                self.id = fields["id"]
                body: Body = json.loads(fields["data"])
                return body


class Socket:
    """A client that speaks JSON."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def say(self, **message: object) -> None:
        """Send one message."""
        await self.connection.send(json.dumps(message))

    async def hear(self) -> Body:
        """Read the next message but heartbeats."""
        while True:
            with anyio.fail_after(10):
                body: Body = json.loads(await self.connection.recv())
            if body["type"] != "heartbeat":
                return body


def unchanged(app: Any) -> Any:  # noqa: ANN401 - an ASGI application, whoever types it
    """Return the application as it is."""
    return app


@asynccontextmanager
async def live(
    client: Client,
    keys: Keys,
    settings: Settings,
    *,
    leader: Leader | None = None,
    wrap: Callable[[Any], Any] = unchanged,
) -> AsyncIterator[Live]:
    """Run an instance whose board holds two prices, cut at a mark.

    ``wrap`` is what stands between the server and the application.
    """
    http = replace(settings.http, port=0, drain_ms=1000)
    settings = replace(settings, http=http)
    if leader is None:
        leader = Leader(client, keys)
        await leader.publish({"BTC-USD": "61000.10", "ETH-USD": "3000"})
    hub = make_hub(client, keys, settings)
    told: list[Addresses] = []
    server = Server(
        wrap(make_app(client, keys, settings, hub)),
        http,
        started=told.append,
        drain=hub.drain,
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.run())
        await eventually(lambda: bool(told))
        await leader.mark_until(lambda: hub.ready and bool(hub.mark))
        host, port = told[0][0]
        url = f"http://{host}:{port}"
        try:
            async with httpx.AsyncClient(base_url=url, timeout=15) as asker:
                yield Live(url, hub, leader, asker, server)
        finally:
            server.stop()
