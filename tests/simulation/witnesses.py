"""Clients of a server that remember what they were shown, and from whom.

The four ways are ``tests.faults.observers``'; the many here read from raw sockets,
since a library's clients would be heavier than what they read.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlencode, urlsplit

import msgspec

from relay.clock import Clock
from relay.model import Cursor
from tests.faults.observers import WAYS, Body, Observer, ws
from tests.faults.sent import Sent

_body: Final = msgspec.json.Decoder(Body).decode
_LINE_MAX: Final = 1 << 20


class Anything(Sent):
    """Whatever is shown has been sent: here it is not digits that are looked at."""

    def __contains__(self, text: str) -> bool:
        return True


class Witness(Observer):
    """A client that notes each change of source, and each reset.

    Another epoch without a word of it is wrong, except for a conditional read, which
    is answered whole and keeps nothing.
    """

    def __init__(self, name: str, url: str, symbols: Sequence[str]) -> None:
        clock = Clock()
        super().__init__(name, [url], symbols, sent=Anything(), now=clock.wall_ms)
        self.sources: dict[str, list[str]] = {}
        self.resets = 0

    def take(self, body: Body) -> None:
        """Take in a body, and what it says of sources."""
        epoch = Cursor.parse(body.cursor).epoch
        if self.cursor and Cursor.parse(self.cursor).epoch != epoch:
            self.resets += 1
            if not body.reset and not self.name.startswith("rest"):
                self.wrong.append(f"{self.name}: epoch {epoch} came without a reset")
        super().take(body)
        for name, shown in body.prices.items():
            seen = self.sources.setdefault(name, [])
            if shown.source not in seen[-1:]:
                seen.append(shown.source)


async def sse_paced(observer: Observer) -> AsyncGenerator[Body, None]:
    """Read one stream to its end, twice a second."""
    resume = f"last-event-id: {observer.cursor}\r\n" if observer.cursor else ""
    query = observer.query | {"every": "500ms"}
    async with _asked(observer, "/v1/stream", query, resume) as reader:
        status = (await reader.readline()).split(b" ")[1]
        if status != b"200":
            observer.refuse(int(status))
            return
        while line := await reader.readline():
            if line.startswith(b'data: {"cursor"'):
                yield _body(line.removeprefix(b"data: "))


async def poll_kept(observer: Observer) -> AsyncGenerator[Body, None]:
    """Hold one poll after the other on one connection."""
    async with _connected(observer) as (reader, writer):
        while True:
            query = observer.query | {"wait": "5s"}
            if observer.cursor:
                query["cursor"] = observer.cursor
            _ask(observer, writer, "/v1/poll", query)
            status, length = await _head(reader)
            body = await reader.readexactly(length)
            if status != 200:
                observer.refuse(status)
                return
            yield _body(body)


MANY: Final = {"sse": sse_paced, "poll": poll_kept, "ws": ws}


@asynccontextmanager
async def _connected(
    observer: Observer,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    at = urlsplit(observer.url)
    reader, writer = await asyncio.open_connection(
        at.hostname, at.port, limit=_LINE_MAX
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


@asynccontextmanager
async def _asked(
    observer: Observer, path: str, query: dict[str, str], more: str
) -> AsyncIterator[asyncio.StreamReader]:
    async with _connected(observer) as (reader, writer):
        _ask(observer, writer, path, query, more)
        yield reader


def _ask(
    observer: Observer,
    writer: asyncio.StreamWriter,
    path: str,
    query: dict[str, str],
    more: str = "",
) -> None:
    host = urlsplit(observer.url).netloc
    head = f"GET {path}?{urlencode(query)} HTTP/1.1\r\nhost: {host}\r\n{more}\r\n"
    writer.write(head.encode())


async def _head(reader: asyncio.StreamReader) -> tuple[int, int]:
    """Read an answer's head; return its status and its body's length."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    lengths = [line for line in lines if line.startswith("content-length:")]
    return int(lines[0].split(" ")[1]), int(lengths[0].partition(":")[2])


@asynccontextmanager
async def attached(
    url: str, symbols: Sequence[str], counts: dict[str, int] | None = None
) -> AsyncIterator[list[Witness]]:
    """Attach clients for as long as the context lasts.

    One by each of the four ways, or so many of each as ``counts`` says.
    """
    ways = {way: MANY[way] for way in counts} if counts else WAYS
    witnesses = [
        Witness(f"{way}{number}", url, symbols)
        for way in ways
        for number in range(counts[way] if counts else 1)
    ]
    async with asyncio.TaskGroup() as tasks:
        watching = [
            tasks.create_task(one.watch(ways[one.name.rstrip("0123456789")]))
            for one in witnesses
        ]
        try:
            yield witnesses
        finally:
            for task in watching:
                task.cancel()


def grievances(witnesses: Sequence[Witness]) -> list[str]:
    """Return everything that must never be, and every error."""
    errors = [f"{one.name}: {dict(one.errors)}" for one in witnesses if one.errors]
    return [line for one in witnesses for line in one.wrong] + errors
