"""Many clients in a process of their own: ``python pollers.py PLAN``.

Each polls for ever as a browser would, comes back a moment after each answer, and notes
when which offset came. What is noted is judged in ``crowd``.
"""

import asyncio
import re
import sys
from array import array
from pathlib import Path
from random import Random
from typing import cast

import msgspec
import uvloop
from msgspec import Struct

from relay.clock import Clock

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)\r\n")
_CURSOR = re.compile(rb'"cursor":"([^"]+)"')

clock = Clock()


class Plan(Struct, frozen=True):
    """What the clients do.

    ``selections`` are shared out among them in turn. ``back_ms`` is how long the most
    of them stay away at most; a share of ``late`` stays away for 1 to 4 s, and then
    asks as ``way`` says: with its cursor (``cursor``), without (``fresh``), or by a
    read before the next poll (``read``).
    """

    host: str
    port: int
    count: int
    selections: list[str]
    noted: str
    more: str = ""
    back_ms: int = 200
    late: float = 0.0
    way: str = "cursor"


class Crowd:
    """All clients, and what they have noted: client, instant, offset; in turn."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.random = Random(plan.count)
        self.noted = array("q")
        self.wrong: list[str] = []

    def note(self, client: int, offset: int) -> None:
        """Note an answer."""
        self.noted.extend((client, clock.monotonic_ms(), offset))

    async def connect(self) -> None:
        """Let everybody come, over about a second."""
        loop = asyncio.get_running_loop()
        for number in range(self.plan.count):
            await loop.create_connection(
                lambda number=number: Poller(self, number),  # type: ignore[misc]
                self.plan.host,
                self.plan.port,
            )


class Poller(asyncio.Protocol):
    """One client."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        self._crowd, self._number = crowd, number
        plan = crowd.plan
        self._is_late = number < plan.late * plan.count
        chosen = plan.selections[number % len(plan.selections)]
        self._query = f"?symbols={chosen}"
        self._cursor = ""
        self._has_read = False
        self._came = b""
        self._way: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        # uvloop's transports are none of asyncio's own classes.
        self._way = cast("asyncio.Transport", transport)
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note it: no edge of ours hangs up on a client that waits."""
        self._crowd.wrong.append(f"{self._number} was cut off: {exc}")

    def _ask(self) -> None:
        place = f"/v1/poll{self._query}{self._crowd.plan.more}"
        if self._cursor:
            place += f"&cursor={self._cursor}"
        self._send(place)

    def _ask_late(self) -> None:
        if self._crowd.plan.way == "read":
            self._has_read = True
            self._send(f"/v1/prices{self._query}")
            return
        if self._crowd.plan.way == "fresh":
            self._cursor = ""
        self._ask()

    def _send(self, place: str) -> None:
        assert self._way is not None
        self._way.write(f"GET {place} HTTP/1.1\r\nHost: relay\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Take in an answer when it is whole."""
        came = self._came = self._came + data
        head, end, body = came.partition(_HEAD_END)
        if not end:
            return
        length = _LENGTH.search(came)
        if length is None:
            self._crowd.wrong.append(f"an answer of no length: {head!r}")
        elif len(body) >= int(length[1]):
            self._came = b""
            self._take(head, body)

    def _take(self, head: bytes, body: bytes) -> None:
        cursor = _CURSOR.search(body)
        if not head.startswith(b"HTTP/1.1 200") or cursor is None:
            self._crowd.wrong.append(f"{head!r} {body!r}")
        else:
            self._cursor = cursor[1].decode()
            offset = self._cursor.split(".")[2].partition("~")[0]
            self._crowd.note(self._number, int(offset))
        self._come_back()

    def _come_back(self) -> None:
        loop, random = asyncio.get_running_loop(), self._crowd.random
        if self._has_read:
            self._has_read = False
            self._ask()
        elif self._is_late:
            loop.call_later(random.uniform(1, 4), self._ask_late)
        else:
            back_s = random.uniform(0, self._crowd.plan.back_ms / 1000)
            loop.call_later(back_s, self._ask)


async def _main(crowd: Crowd) -> None:
    await crowd.connect()
    print("here", flush=True)  # noqa: T201 - whoever started us waits for it
    loop = asyncio.get_running_loop()
    # Until whoever started us closes our input.
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    everybody = Crowd(msgspec.json.decode(sys.argv[1], type=Plan))
    uvloop.run(_main(everybody))
    Path(everybody.plan.noted).write_bytes(everybody.noted.tobytes())
    for line in sorted(set(everybody.wrong))[:20]:
        print(line, flush=True)  # noqa: T201 - and reads what was wrong
