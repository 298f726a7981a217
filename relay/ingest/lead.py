"""Leading: the lease kept, the batches published, the grid marked.

Where the updates come from is ``term``'s, or a replay's.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from relay.clock import Clock
from relay.config import Ingest
from relay.errors import LeaseLost, StoreDown
from relay.ingest.conflate import Merge
from relay.ingest.publish import Published, Publisher
from relay.store.writer import Lease, Writer

# Between two tries to reach a store that is away, in seconds.
_TRY_AGAIN_S: Final = 0.25


class Leader:
    """What a holder of the lease does for as long as it holds it.

    ``beat_ms`` is how long the beat lives; ``health`` gives the JSON that goes with
    each mark; ``published`` is what this process published in earlier terms.
    """

    def __init__(  # noqa: PLR0913 - the parts that a leader is made of
        self,
        writer: Writer,
        merge: Merge,
        clock: Clock,
        rules: Ingest,
        *,
        published: Published,
        beat_ms: int,
        health: Callable[[], bytes],
    ) -> None:
        self._writer, self._clock, self._rules = writer, clock, rules
        self._published, self._beat_ms, self._health = published, beat_ms, health
        self._merge = merge
        self.publisher = Publisher(writer, merge, clock, rules)
        self._begun = False

    async def begin(self) -> bytes:
        """Take over what the store holds; return the last leader's health.

        Raises:
            StoreDown: the store cannot be reached.
        """
        health = await self.publisher.begin(self._published)
        self._begun = True
        return health

    async def announce(self, lease: Lease) -> None:
        """Say that somebody leads, before anything new is published.

        What nobody has vouched for too long is stale before it is said to be live.

        Raises:
            LeaseLost: somebody else leads.
            StoreDown: the store cannot be reached.
        """
        self._merge.turn(now_ms=self._clock.wall_ms())
        while self._merge.dirty:
            await self.publisher.flush(lease, self._published)
        await self._write_mark(lease, self._next_number())

    async def run(self, lease: Lease) -> None:
        """Lead for ever.

        Raises:
            LeaseLost: in an exception group; somebody else leads, or may by now.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep(lease))
            tasks.create_task(self._mark(lease))
            tasks.create_task(self._turn())
            tasks.create_task(self.publisher.run(lease, self._published))

    async def end(self, lease: Lease) -> None:
        """Publish what is left, mark it, and give the lease back.

        Of what was not taken over yet nothing is said.

        Raises:
            LeaseLost: somebody else leads.
            StoreDown: the store cannot be reached; the lease ends by itself.
        """
        if self._begun:
            while self._merge.dirty:
                await self.publisher.flush(lease, self._published)
            # Ahead of the grid: readers need not wait for a leader that has gone.
            await self._write_mark(lease, self._next_number())
        await self._writer.release(lease)

    async def _keep(self, lease: Lease) -> None:
        """Renew the lease again and again."""
        kept_ms = self._clock.monotonic_ms()
        while True:
            await asyncio.sleep(self._rules.lease_renew_ms / 1000)
            kept_ms = await self._renew(lease, kept_ms)

    async def _renew(self, lease: Lease, kept_ms: int) -> int:
        """Renew it once; without a store it is lost when its time is over."""
        while True:
            sent_ms = self._clock.monotonic_ms()
            try:
                await self._writer.keep(lease, self._rules.lease_ms)
            except StoreDown as down:
                if self._clock.monotonic_ms() - kept_ms >= self._rules.lease_ms:
                    raise LeaseLost(lease.token, lease.token) from down
            else:
                return sent_ms
            await asyncio.sleep(_TRY_AGAIN_S)

    async def _mark(self, lease: Lease) -> None:
        """Mark each point of the grid; one that the store missed is left out."""
        align_ms = self._rules.align_ms
        while True:
            into_ms = self._clock.wall_ms() % align_ms
            await asyncio.sleep((align_ms - into_ms) / 1000)
            # The nearest point, since a timer may ring a little early.
            number = (self._clock.wall_ms() + align_ms // 2) // align_ms
            with suppress(StoreDown):
                await self._write_mark(lease, number)

    def _next_number(self) -> int:
        return self._clock.wall_ms() // self._rules.align_ms + 1

    async def _write_mark(self, lease: Lease, number: int) -> None:
        await self._writer.mark(
            lease,
            number,
            beat_ms=self._beat_ms,
            life_ms=self._beat_ms,
            health=self._health(),
        )

    async def _turn(self) -> None:
        """Let the merge look at its own timers: silence, staleness, jumps that wait."""
        while True:
            now_ms = self._clock.wall_ms()
            next_ms = self._merge.turn(now_ms=now_ms)
            if self._merge.dirty:
                self.publisher.wake()
            rest_ms = min(max(next_ms - now_ms, 1), self._rules.align_ms)
            await asyncio.sleep(rest_ms / 1000)
