"""Two instances over one store, and a leader who publishes and marks the grid."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import httpx
from msgspec import Struct, field

from relay.errors import LeaseLost, StoreDown
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.serving import EPOCH, Leader
from tests.edge.crowd import Mark
from tests.harness import until
from tests.simulation.processes import Process, relay

ALIGN_MS = 1000
_LEASE_MS = 10_000
# How often a leader without a store asks for it again.
_AGAIN_S = 0.1
NAMES = [f"A{number:03}-USD" for number in range(40)]
"""What is published, all of it in each batch."""

_ANSWERED = re.compile(r'relay_answers_total\{route="([^"]+)",[^}]*\} ([0-9.]+)')


class Publishing:
    """A leader at work: every so often a batch, and a mark at each grid step."""

    def __init__(
        self, client: Client, keys: Keys, *, every_ms: int, quiet: str = ""
    ) -> None:
        """Prepare; ``quiet`` is an instrument that is published once and stays."""
        self._client, self._keys, self._clock = client, keys, client.clock
        self._leader = Leader(client, keys)
        self.every_ms, self._quiet = every_ms, quiet
        # When the first publish of each leader was accepted.
        self.first_ms: list[int] = []
        self.marks: list[Mark] = []

    async def run(self) -> None:
        """Lead for ever; when the store has been away, as a new leader."""
        while True:
            with suppress(StoreDown, LeaseLost):
                await self._lead()
            await asyncio.sleep(_AGAIN_S)
            self._succeed()

    def _succeed(self) -> None:
        """Begin anew, in an epoch of its own."""
        self._leader = Leader(self._client, self._keys)
        self._leader.epoch = f"{EPOCH}{len(self.first_ms)}"

    async def _lead(self) -> None:
        """Publish and mark until the store goes.

        Raises:
            StoreDown: it went.
            LeaseLost: it came back without what it held.
        """
        due_ms, step = 0, 0
        await self._leader.publish(
            {self._quiet: "1"} if self._quiet else {NAMES[0]: "1"}
        )
        self.first_ms.append(self._clock.monotonic_ms())
        while True:
            now_ms = self._clock.wall_ms()
            if now_ms >= due_ms:
                due_ms = now_ms + self.every_ms
                await self._leader.publish(
                    dict.fromkeys(NAMES, f"{now_ms % 100_000 + 1}")
                )
            if now_ms // ALIGN_MS > step:
                step = now_ms // ALIGN_MS
                await self._leader.mark()
                await self._leader.writer.keep(await self._leader.lease(), _LEASE_MS)
                self.marks.append((self._clock.monotonic_ms(), self._leader.offset))
            next_ms = min(due_ms, (step + 1) * ALIGN_MS)
            await asyncio.sleep(max(next_ms - self._clock.wall_ms(), 1) / 1000)

    async def half_past(self, steps: int) -> int:
        """Wait for so many marks, and half a step more; returns the instant."""
        wanted = len(self.marks) + steps

        async def there() -> bool:
            return len(self.marks) >= wanted

        await until(there, within_s=steps * ALIGN_MS / 1000 + 10)
        half_ms = self.marks[wanted - 1][0] + ALIGN_MS // 2
        await asyncio.sleep(max(half_ms - self._clock.monotonic_ms(), 0) / 1000)
        return self._clock.monotonic_ms()


class Instance(Struct):
    """One ``relay serve`` and where it listens."""

    process: Process
    url: str


class Stage(Struct):
    """Everything behind the edge."""

    publishing: Publishing
    instances: list[Instance] = field(default_factory=list)

    @property
    def urls(self) -> list[str]:
        """Return where the instances listen."""
        return [one.url for one in self.instances]

    async def answered(self, *routes: str) -> int:
        """Count the answers that the instances have given."""
        count = 0
        async with httpx.AsyncClient(timeout=5) as asker:
            for url in self.urls:
                text = (await asker.get(f"{url}/metrics")).text
                count += sum(
                    int(float(answers))
                    for route, answers in _ANSWERED.findall(text)
                    if route in routes
                )
        return count


@asynccontextmanager
async def instance(
    store: str, board: str, *options: str, port: int = 0
) -> AsyncIterator[Instance]:
    """Run one instance."""
    environ = {"RELAY_VALKEY_URL": store, "RELAY_BOARD": board}
    command = ("serve", "--port", f"{port}", *options)
    async with relay(*command, **environ) as process:
        match = await process.says(r"relay at (http://\S+)")
        yield Instance(process, match[1])


@asynccontextmanager
async def stage(
    client: Client, keys: Keys, store: str, *, every_ms: int = 50
) -> AsyncIterator[Stage]:
    """Run two instances, and a leader; yields when both are ready."""
    publishing = Publishing(client, keys, every_ms=every_ms)
    async with asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:
        working = tasks.create_task(publishing.run())
        begun = Stage(publishing)
        for _ in range(2):
            begun.instances.append(
                await stack.enter_async_context(instance(store, keys.board))
            )
        await all_ready(begun.urls)
        yield begun
        working.cancel()


async def all_ready(urls: Sequence[str], *, within_s: float = 15) -> None:
    """Wait until everybody is ready."""
    async with httpx.AsyncClient(timeout=5) as asker:

        async def ready() -> bool:
            answers = [await asker.get(f"{url}/readyz") for url in urls]
            return all(one.status_code == 200 for one in answers)

        await until(ready, within_s=within_s)
