"""A small TCP proxy between two parts, which can be slow, dark, cut or untruthful.

Who stands at its ends is ``fleet``'s to say.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

Bytes = Callable[[bytes], bytes]

_CHUNK: Final = 65_536
# What a stream may hold unsent before its writer waits: small, so that a reader that
# takes nothing is felt on the other side.
_HIGH_WATER: Final = 65_536


def _same(octets: bytes) -> bytes:
    return octets


class Proxy:
    """Passes bytes on to ``target``, until it is told to hurt them.

    ``down`` is what becomes of each chunk on its way back, and ``up`` of the others,
    fault or no fault; ``heard`` hears what came down a connection before anything
    became of it.
    """

    def __init__(
        self, target: tuple[str, int], heard: Callable[[], Bytes] = lambda: _same
    ) -> None:
        self.target = target
        self.port = 0
        self.delay_s = 0.0
        self.drip = False
        self.refusing = False
        self.up: Bytes = _same
        self.down: Bytes = _same
        self.connections = 0
        self._heard = heard
        self._lit = asyncio.Event()
        self._lit.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """Host and port, for a URL."""
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.refusing = True
        self.light()
        async with asyncio.timeout(10):
            while self._writers:
                self.cut()
                await asyncio.sleep(0.01)

    # What hurts.

    def darken(self) -> None:
        """Pass nothing on, either way; nobody is told."""
        self._lit.clear()

    def light(self) -> None:
        """Pass on what was held, as a network does that comes back."""
        self._lit.set()

    def refuse(self) -> None:
        """Cut what there is, and take nobody in."""
        self.refusing = True
        self.cut()

    def cut(self, most: int | None = None) -> None:
        """End connections at once; all of them, or so many."""
        for writer in list(self._writers)[:most]:
            writer.transport.abort()

    def heal(self) -> None:
        """Be an honest proxy again."""
        self.refusing, self.drip, self.delay_s = False, False, 0.0
        self.down = _same
        self.light()

    # What passes.

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._writers.add(writer)
        self.connections += 1
        try:
            await self._lit.wait()
            if not self.refusing:
                await self._join(reader, writer)
        except OSError:
            pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)

    async def _join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self.target)
        self._writers.add(far_writer)
        writer.transport.set_write_buffer_limits(high=_HIGH_WATER)
        try:
            with suppress(ExceptionGroup):
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._pump(reader, far_writer, up=True))
                    tasks.create_task(self._pump(far_reader, writer, up=False))
        finally:
            far_writer.transport.abort()
            self._writers.discard(far_writer)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        """Pass one way on; its end ends the other way too."""
        hear = self._heard()
        while chunk := await reader.read(_CHUNK):
            await self._lit.wait()
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if not up:
                hear(chunk)
            await self._write(writer, (self.up if up else self.down)(chunk))
        raise ConnectionResetError

    async def _write(self, writer: asyncio.StreamWriter, octets: bytes) -> None:
        if not self.drip:
            writer.write(octets)
            await writer.drain()
            return
        for place in range(len(octets)):
            writer.write(octets[place : place + 1])
            await writer.drain()
            await asyncio.sleep(0.005)
            if not self.drip:
                writer.write(octets[place + 1 :])
                return
