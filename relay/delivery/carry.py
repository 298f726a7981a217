"""A connection that its server keeps: the request's task carries what a line writes.

For other servers than ours, and for what ours does not hand over: a body that is still
to come, other requests before or behind this one. All else is written to as ``wire``
has it, without a task.
"""

import asyncio

from litestar.types import Receive, Scope, Send

from relay.delivery.line import hang_up
from relay.rank import Line


class Carrier:
    """One answer's body on its way: what was written and is not sent yet."""

    chunks = False

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope, self._send = scope, send
        self._line: Line | None = None
        self._written = b""
        self._ended = False
        self._woken = asyncio.Event()
        self._limit = asyncio.timeout(None)

    def take(self, line: Line) -> bool:
        """Belong to a line; whether the client is there shows later."""
        self._line = line
        return True

    def write(self, chunk: bytes) -> None:
        """Send bytes; they are on their way until the task has sent them."""
        assert self._line is not None
        self._written += chunk
        self._line.hold()
        self._woken.set()

    def finish(self, last: bytes) -> None:
        """Send the last bytes, and end the answer in order."""
        self._line, self._ended = None, True
        self._written += last
        self._woken.set()

    def cut(self) -> None:
        """End the connection; what it was sent and did not take is lost."""
        self._line = None
        self._limit.reschedule(0)

    async def carry(self, receive: Receive) -> None:
        """Send what is written until the answer has ended, or the client is gone."""
        try:
            async with self._limit, asyncio.TaskGroup() as tasks:
                ways_to_end = (
                    tasks.create_task(_until_gone(receive)),
                    tasks.create_task(self._send_on()),
                )
                await asyncio.wait(ways_to_end, return_when=asyncio.FIRST_COMPLETED)
                for one in ways_to_end:
                    one.cancel()
        except TimeoutError:
            await hang_up(self._scope)
        finally:
            line, self._line = self._line, None
            if line is not None:
                line.leave()

    async def _send_on(self) -> None:
        more = True
        try:
            while more:
                await self._woken.wait()
                self._woken.clear()
                more = not self._ended
                await self._send_written(more=more)
        except OSError:
            return  # the client has left

    async def _send_written(self, *, more: bool) -> None:
        chunk, self._written = self._written, b""
        await self._send_part(chunk, more=more)
        if more:
            # Servers take a part at once, and wait before the next: an empty one makes
            # sure that what is chosen then is the newest.
            await self._send_part(b"", more=True)
            if self._line is not None:
                self._line.drained()

    async def _send_part(self, chunk: bytes, *, more: bool) -> None:
        await self._send(
            {"type": "http.response.body", "body": chunk, "more_body": more}
        )


async def _until_gone(receive: Receive) -> None:
    """Wait until the client has hung up; what it sends meanwhile is nothing to us."""
    while (await receive())["type"] != "http.disconnect":
        pass
