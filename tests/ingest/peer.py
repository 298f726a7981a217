"""The other end of a socket: a real WebSocket server that does what a test says.

And a sink that remembers; what the frames mean stands in ``toy``.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from relay.clock import Clock
from relay.config import Exchange, Ingest, Limit, Settings
from relay.exchanges.adapter import Adapter, Told
from relay.ingest.purse import Purse
from relay.ingest.stream import Stream
from relay.model import Update
from relay.store.client import Client
from tests.harness import eventually
from tests.ingest.purses import fresh_terms, lay_open
from tests.ingest.toy import Toy


@dataclass(eq=False)
class Caller:
    """One connection as the peer sees it: what was said on it, and when."""

    socket: ServerConnection
    opened_ms: int
    said: list[tuple[int, str]] = field(default_factory=list)
    closed: bool = False

    @property
    def words(self) -> list[str]:
        """What was said, without the times."""
        return [word for _, word in self.said]

    async def tell(self, *frames: str) -> None:
        """Send frames."""
        for frame in frames:
            await self.socket.send(frame)

    def cut(self, beginning: bytes = b"") -> None:
        """Cut the line, after the beginning of a frame."""
        self.socket.transport.write(beginning)
        self.socket.transport.write_eof()
        self.socket.transport.close()


class Peer:
    """A server on a port of its own.

    ``grants`` tells whether a subscription is acknowledged, ``refusal`` answers every
    upgrade with this response instead.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.url = ""
        self.callers: list[Caller] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.grants = True
        self.refusal: tuple[int, dict[str, str]] | None = None
        self.attempts_ms: list[int] = []

    @property
    def caller(self) -> Caller:
        """The newest connection."""
        return self.callers[-1]

    @property
    def open_callers(self) -> list[Caller]:
        """The connections that are not closed."""
        return [caller for caller in self.callers if not caller.closed]

    def look(self, connection: ServerConnection, request: Request) -> Response | None:
        """Note an upgrade, and refuse it if so told."""
        self.attempts_ms.append(self.clock.monotonic_ms())
        self.paths.append(request.path)
        headers = {name.lower(): text for name, text in request.headers.raw_items()}
        self.headers.append(headers)
        if self.refusal is None:
            return None
        status, headers = self.refusal
        response = connection.respond(200, "no\n")
        response.status_code, response.reason_phrase = status, "No"
        response.headers.update(headers)
        return response

    async def converse(self, socket: ServerConnection) -> None:
        """Hear one caller until it goes."""
        caller = Caller(socket, self.clock.monotonic_ms())
        self.callers.append(caller)
        try:
            with suppress(ConnectionClosed):
                async for message in socket:
                    await self._hear(caller, str(message))
        finally:
            caller.closed = True

    async def _hear(self, caller: Caller, message: str) -> None:
        caller.said.append((self.clock.monotonic_ms(), message))
        verb, _, symbols = message.partition(" ")
        if verb == "sub" and self.grants:
            await caller.tell(f"ack {symbols}")


@asynccontextmanager
async def listening(
    clock: Clock, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Peer]:
    """Run a peer."""
    peer = Peer(clock)
    async with serve(
        peer.converse,
        "127.0.0.1",
        0,
        process_request=peer.look,
        ping_interval=None,
        compression=None,
        close_timeout=0.1,
        ssl=tls,
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        peer.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{port}"
        yield peer


@dataclass(eq=False)
class Notes:
    """A sink that remembers; ``sizes`` are those of what it was told in one go."""

    prices: list[tuple[str, str]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    heard_times: int = 0
    drops: list[str] = field(default_factory=list)
    refreshes: list[tuple[str, ...]] = field(default_factory=list)
    refusals: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    tolds: list[Told] = field(default_factory=list)
    downs: list[str] = field(default_factory=list)
    replacements: list[str] = field(default_factory=list)
    ups: int = 0

    def updates(self, exchange: str, updates: Sequence[Update]) -> None:
        """Remember symbols and prices, each of a frame of its own: a sign of life."""
        assert exchange == "toy"
        self.heard_times += len(updates)
        self.sizes.append(len(updates))
        self.prices += [(update.symbol, update.price) for update in updates]

    def heard(self, exchange: str) -> None:
        """Count."""
        assert exchange == "toy"
        self.heard_times += 1

    def dropped(self, exchange: str, reason: str) -> None:
        """Remember the reason."""
        assert exchange == "toy"
        self.drops.append(reason)

    def refresh(self, exchange: str, symbols: Sequence[str]) -> None:
        """Remember the symbols."""
        assert exchange == "toy"
        self.refreshes.append(tuple(symbols))

    def refused(self, exchange: str, symbols: Sequence[str], reason: str) -> None:
        """Remember the symbols and the reason."""
        assert exchange == "toy"
        self.refusals.append((tuple(symbols), reason))

    def told(self, exchange: str, told: Told) -> None:
        """Remember."""
        assert exchange == "toy"
        self.tolds.append(told)

    def down(self, exchange: str, reason: str) -> None:
        """Remember the reason."""
        assert exchange == "toy"
        self.downs.append(reason)

    def replaced(self, exchange: str, reason: str) -> None:
        """Remember the reason."""
        assert exchange == "toy"
        self.replacements.append(reason)

    def up(self, exchange: str) -> None:
        """Count."""
        assert exchange == "toy"
        self.ups += 1


class Bench:
    """A stream with everything around it. Reconnecting is quick, unless told else."""

    def __init__(
        self,
        settings: Settings,
        url: str,
        clock: Clock,
        adapter: Adapter | None = None,
        **ingest: int,
    ) -> None:
        quick = {
            "reconnect_min_ms": 20,
            "reconnect_max_ms": 40,
            "request_timeout_ms": 2_000,
        }
        self.ingest: Ingest = replace(settings.ingest, **{**quick, **ingest})
        limit = Limit(
            name="connect",
            weight_max=50,
            window_ms=600_000,
            kind="rolling",
            scope="address",
        )
        exchange: Exchange = replace(
            settings.exchanges["kraken"], ws_url=url, limits=(limit,)
        )
        self.clock, self.sink = clock, Notes()
        self._store = Client(settings.store, Clock())
        self._terms = fresh_terms(exchange.limits)
        self.stream = Stream(
            adapter or Toy(),
            exchange,
            self.ingest,
            self._purse(),
            clock,
            self.sink,
            lambda: 0.5,
        )

    def _purse(self) -> Purse:
        return Purse("toy", self._terms, self._store, self.clock)

    def allow(self, limit: Limit) -> None:
        """Count attempts by this limit instead."""
        self._terms = fresh_terms([limit])
        self.stream.purse = self._purse()

    @property
    def connects(self) -> int:
        """How many attempts the ledger counts."""
        return self.stream.purse.gauges()[0].used

    @asynccontextmanager
    async def running(self, *symbols: str) -> AsyncIterator[Stream]:
        """Run the stream, wanting these; nothing of it is left in the end."""
        tasks_before, sockets_before = asyncio.all_tasks(), open_sockets()
        await lay_open(self._store, "toy", self._terms, self.clock.wall_ms())
        self.stream.want(symbols)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.stream.run())
            try:
                yield self.stream
            finally:
                task.cancel()
        await self._store.close()
        # The peer's own tasks and sockets go when it notices.
        await eventually(lambda: asyncio.all_tasks() <= tasks_before)
        await eventually(lambda: open_sockets() <= sockets_before)


def open_sockets() -> int:
    """Count this process's sockets."""
    fds = Path("/proc/self/fd")
    names = []
    for fd in fds.iterdir():
        with suppress(OSError):
            names.append(str(fd.readlink()))
    return sum(name.startswith("socket:") for name in names)
