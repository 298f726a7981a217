"""A small Lambda: the Runtime API, and the real runtime client in a process of its own.

The protocol is AWS's "Using the Lambda runtime API for custom runtimes", read in
November 2026. Functions run from the checkout, or from the folder that a zip made.
"""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from relay.clock import Clock
from tests.functions.listening import listening

ROOT: Final = Path(__file__).parents[2]
_PREFIX: Final = "/2018-06-01/runtime"
_clock: Final = Clock()

Event = dict[str, Any]


class Outcome(Struct, frozen=True):
    """How one invocation ended: ``kind`` is ``response`` or ``error``."""

    kind: str
    body: Any

    @property
    def answer(self) -> Any:  # noqa: ANN401 - JSON
        """Return what the handler returned; it must not have failed."""
        assert self.kind == "response", self.body
        return self.body


class Runtime:
    """What the platform does for one function."""

    def __init__(self) -> None:
        self.init_error: asyncio.Future[Any] = asyncio.Future()
        self._waiting: asyncio.Queue[tuple[str, Event, int]] = asyncio.Queue()
        self._outcomes: dict[str, asyncio.Future[Outcome]] = {}
        self._count = 0
        self.process: asyncio.subprocess.Process | None = None

    def begin(self, event: Event, *, seconds: float = 30) -> asyncio.Future[Outcome]:
        """Invoke; the future has the outcome. The platform gives it so many seconds."""
        self._count += 1
        name = f"request-{self._count}"
        outcome = self._outcomes[name] = asyncio.Future()
        deadline_ms = _clock.wall_ms() + int(seconds * 1000)
        self._waiting.put_nowait((name, event, deadline_ms))
        return outcome

    async def invoke(self, event: Event, *, seconds: float = 30) -> Outcome:
        """Invoke and wait, no longer than the platform would."""
        async with asyncio.timeout(seconds):
            return await self.begin(event, seconds=seconds)

    def send(self, number: signal.Signals) -> None:
        """Send the function's process a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer the runtime client, one request after the other."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                method, path, _ = line.decode().split()
                length = 0
                while (header := (await reader.readline()).decode().strip()) != "":
                    name, _, value = header.partition(":")
                    if name.lower() == "content-length":
                        length = int(value)
                    assert value.strip().lower() != "chunked"
                body = await reader.readexactly(length)
                # In one piece: two would wait for a delayed acknowledgement.
                writer.write(await self._answer(method, path, body))
                await writer.drain()

    async def _answer(self, method: str, path: str, body: bytes) -> bytes:
        what = path.removeprefix(f"{_PREFIX}/")
        if (method, what) == ("GET", "invocation/next"):
            name, event, deadline_ms = await self._waiting.get()
            headers = {
                "Lambda-Runtime-Aws-Request-Id": name,
                "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
                "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:::function:f",
            }
            return _response(200, json.dumps(event).encode(), headers)
        if what == "init/error":
            self.init_error.set_result(json.loads(body))
        else:
            _, name, kind = what.split("/")
            outcome = Outcome(kind, json.loads(body))
            if not self._outcomes[name].done():
                self._outcomes[name].set_result(outcome)
        return _response(202, b'{"status":"OK"}', {})


def _response(status: int, body: bytes, headers: dict[str, str]) -> bytes:
    headers = headers | {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
    }
    lines = [f"HTTP/1.1 {status} OK", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def function(
    handler: str, environ: Mapping[str, str], *, folder: Path = ROOT
) -> AsyncIterator[Runtime]:
    """Run one function under the real runtime client; it is killed in the end."""
    runtime = Runtime()
    async with listening(runtime.serve) as (host, port):
        given = {
            "PATH": "/usr/bin:/bin",
            "AWS_LAMBDA_RUNTIME_API": f"{host}:{port}",
            "RELAY_PLATFORM": "lambda",
            "PYTHONPATH": str(folder),
        }
        runtime.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "awslambdaric", handler),
            cwd=folder,
            env=given | dict(environ),
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            yield runtime
        finally:
            with suppress(ProcessLookupError):
                runtime.send(signal.SIGKILL)
            await runtime.process.wait()
