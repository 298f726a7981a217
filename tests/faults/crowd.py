"""Thousands of clients of one instance: raw sockets, since a library's would be heavy.

What must hold of them stands in ``test_load``.
"""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Final

_REQUEST: Final = (
    b"GET /v1/stream?symbols=BTC-USD,ETH-USD HTTP/1.1\r\nhost: relay\r\n%b\r\n"
)
_ALL: Final = b"GET /v1/stream HTTP/1.1\r\nhost: relay\r\n\r\n"
# What kernels may hold for a client that does not read is soon full: its own few
# octets, and of the server as much as so short segments need.
_SLOW_BYTES: Final = 4096
_SLOW_SEGMENT: Final = 536
_OPENING_AT_ONCE: Final = 200


def room() -> int:
    """Return how many sockets this process may open, after asking for all it can."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard - 200


class Reader(asyncio.Protocol):
    """A client that reads its stream, and keeps its last event's cursor.

    ``slow`` ones ask for the whole board, and never read.
    """

    def __init__(self, crowd: "Crowd", last: str, *, slow: bool) -> None:
        self._crowd, self._slow = crowd, slow
        self.last = last
        self.events = 0
        self.status = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._crowd.open.add(self)
        if self._slow:
            transport.pause_reading()
            transport.write(_ALL)
            return
        resume = f"last-event-id: {self.last}\r\n" if self.last else ""
        transport.write(_REQUEST % resume.encode())

    def data_received(self, data: bytes) -> None:
        """Take what comes; look into the head, and at the newest event's id."""
        if not self.status:
            self.status = data[:12]
        before, found, rest = data.rpartition(b"id: ")
        if found and b"\n" in rest:
            self.last = rest.partition(b"\n")[0].decode()
            self.events += 1
        del before

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that it is gone."""
        del exc
        self._crowd.open.discard(self)


class Crowd:
    """Many clients of one address."""

    def __init__(self, host: str, port: int, random: Random) -> None:
        self._at = host, port
        self._random = random
        self.open: set[Reader] = set()
        self.readers: list[Reader] = []

    async def join(self, count: int, *, slow: bool = False) -> None:
        """Let so many more come, some hundreds at a time."""
        gate = asyncio.Semaphore(_OPENING_AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(count):
                tasks.create_task(self._come(gate, "", slow=slow))

    async def pass_by(self, count: int, *, at_once: int, second: int) -> float:
        """Let so many come, so many in a second; the first go where it gets too many.

        Returns how many seconds that took.
        """
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for number in range(0, count, second // 10):
            coming = min(second // 10, count - number)
            while len(self.readers) > at_once - coming:
                reader = self.readers.pop(0)
                assert reader.transport is not None
                reader.transport.abort()
            await self.join(coming)
            due_s = began_s + (number + second // 10) / second
            await asyncio.sleep(max(due_s - loop.time(), 0))
        return loop.time() - began_s

    async def come_back(self, at: tuple[str, int] | None = None) -> None:
        """Let everybody come back at once, with its cursor, perhaps elsewhere."""
        self._at = at or self._at
        gone, self.readers = self.readers, []
        gate = asyncio.Semaphore(len(gone))
        async with asyncio.TaskGroup() as tasks:
            for reader in gone:
                tasks.create_task(self._come(gate, reader.last, slow=False))

    async def _come(self, gate: asyncio.Semaphore, last: str, *, slow: bool) -> None:
        loop = asyncio.get_running_loop()
        async with gate:
            while True:
                try:
                    line = await self._dial(slow=slow)
                    _, reader = await loop.create_connection(
                        lambda: Reader(self, last, slow=slow), sock=line
                    )
                except OSError:  # the backlog is full: a client waits, and tries again
                    await asyncio.sleep(self._random.uniform(0.05, 0.3))
                else:
                    self.readers.append(reader)
                    return

    async def _dial(self, *, slow: bool) -> socket.socket:
        line = socket.socket()
        try:
            line.setblocking(False)  # noqa: FBT003 - the socket's own signature
            if slow:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_BYTES)
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SLOW_SEGMENT)
            await asyncio.get_running_loop().sock_connect(line, self._at)
        except BaseException:
            line.close()
            raise
        return line

    def leave(self) -> None:
        """Let everybody hang up without a word."""
        for reader in list(self.open):
            if reader.transport is not None:
                reader.transport.abort()


@asynccontextmanager
async def crowd(host: str, port: int, seed: int) -> AsyncIterator[Crowd]:
    """Hold a crowd; nobody is left of it."""
    many = Crowd(host, port, Random(seed))
    try:
        yield many
    finally:
        many.leave()
        async with asyncio.timeout(30):
            while many.open:  # noqa: ASYNC110 - the sockets tell nobody
                await asyncio.sleep(0.02)


class Dripper(asyncio.Protocol):
    """A client that writes an octet when it is told to, until it is cut off."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._place = 0
        self.transport: asyncio.Transport | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with all but what is written slowly."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        head, _, self._octets = self._octets.rpartition(b"|")
        transport.write(head)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that it is cut off."""
        del exc
        self.lost = True

    def drip(self) -> None:
        """Write one more."""
        if self.transport is not None and not self.lost:
            self.transport.write(self._octets[self._place : self._place + 1])
            self._place += 1


@asynccontextmanager
async def dripping(
    at: tuple[str, int], count: int, requests: Sequence[bytes]
) -> AsyncIterator[list[Dripper]]:
    """Hold clients that write an octet a second; what stands before a bar, at once."""
    loop = asyncio.get_running_loop()
    drippers: list[Dripper] = []

    async def drip() -> None:
        while True:
            await asyncio.sleep(1)
            for one in drippers:
                one.drip()

    try:
        async with asyncio.TaskGroup() as tasks:
            dripping = tasks.create_task(drip())
            for number in range(count):
                request = requests[number % len(requests)]
                _, one = await loop.create_connection(partial(Dripper, request), *at)
                drippers.append(one)
            yield drippers
            dripping.cancel()
    finally:
        for one in drippers:
            if one.transport is not None:
                one.transport.abort()
