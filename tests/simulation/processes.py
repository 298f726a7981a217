"""The relay's commands as processes of their own, and clients that watch them."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import msgspec

from relay.model import Cursor

_ENVIRON = {"PATH": "/usr/bin:/bin", "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}


class Process:
    """One running command: what it has said so far, and how to end it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said: list[str] = []
        self._more = asyncio.Condition()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    async def listen(self) -> None:
        """Read what it says until it ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            async with self._more:
                self.said.append(line.decode().rstrip())
                self._more.notify_all()

    async def says(self, pattern: str, *, within_s: float = 15) -> re.Match[str]:
        """Wait until a line matches, and return the match."""

        def found() -> re.Match[str] | None:
            matches = (re.search(pattern, line) for line in self.said)
            return next((match for match in matches if match), None)

        async with self._more:
            try:
                async with asyncio.timeout(within_s):
                    await self._more.wait_for(lambda: found() is not None)
            except TimeoutError:
                message = f"{pattern!r} was not said:\n" + "\n".join(self.said)
                raise AssertionError(message) from None
        match = found()
        assert match is not None
        return match

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def ended(self, *, within_s: float) -> int:
        """Wait until it has ended; returns its exit status."""
        async with asyncio.timeout(within_s):
            return await self._process.wait()


async def spawn(*arguments: str, **environ: str) -> asyncio.subprocess.Process:
    """Start ``relay`` in a session of its own; whoever starts it ends it."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "relay",
        *arguments,
        env=_ENVIRON | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )


@asynccontextmanager
async def relay(*arguments: str, **environ: str) -> AsyncIterator[Process]:
    """Run ``relay`` in a session of its own; whatever is left of it is killed."""
    started = await spawn(*arguments, **environ)
    process = Process(started)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(process.listen())
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            await started.wait()


def children(pid: int) -> set[int]:
    """Return the processes that descend from one, whatever their session."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = stat.read_text().rpartition(")")[2].split()[1]
            parents[int(stat.parent.name)] = int(parent)
    found: set[int] = set()
    while (
        grown := {child for child, of in parents.items() if of in found | {pid}} - found
    ):
        found |= grown
    return found


class Body(msgspec.Struct):
    """What a client reads of a body."""

    cursor: str
    live: bool
    prices: dict[str, dict[str, object]]


decode = msgspec.json.Decoder(Body).decode


class Watcher:
    """A client that polls for ever, and holds what it is told.

    It keeps its cursor, retries a connection that was refused, and remembers what must
    never be: an error, a step backwards.
    """

    def __init__(self, url: str, symbols: str) -> None:
        self._url, self._symbols = url, symbols
        self.cursor = ""
        self.held: dict[str, dict[str, object]] = {}
        self.wrong: list[str] = []
        self.answers = 0
        self.news = 0
        self.live = False

    async def watch(self) -> None:
        """Poll for ever."""
        async with httpx.AsyncClient(timeout=40) as client:
            while True:
                await self._poll(client)

    async def _poll(self, client: httpx.AsyncClient) -> None:
        query = {"symbols": self._symbols, "wait": "5s"}
        if self.cursor:
            query["cursor"] = self.cursor
        answer = await client.get(f"{self._url}/v1/poll", params=query)
        if answer.status_code != 200:
            self.wrong.append(f"{answer.status_code}: {answer.text}")
            await asyncio.sleep(0.2)
            return
        self._take(decode(answer.content))

    def _take(self, body: Body) -> None:
        self.answers += 1
        self.live = body.live
        before = Cursor.parse(self.cursor) if self.cursor else None
        after = Cursor.parse(body.cursor)
        if before is not None and (after.epoch, after.offset) < (
            before.epoch,
            before.offset,
        ):
            self.wrong.append(f"{before} stepped back to {after}")
        self.cursor = body.cursor
        for name, ticker in body.prices.items():
            self.news += 1
            self._compare(name, ticker)
            self.held[name] = ticker

    def _compare(self, name: str, ticker: dict[str, object]) -> None:
        held = self.held.get(name, {})
        offsets = [held.get("offset", 0), ticker["offset"]]
        if offsets != sorted(offsets):  # type: ignore[type-var]
            self.wrong.append(f"{name} stepped back: {held} then {ticker}")
