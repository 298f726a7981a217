"""What tests of the delivery serve: a board in a real store, and an application."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import httpx
import litestar
from msgspec.structs import replace

from relay.config import Settings
from relay.delivery.app import create_app
from relay.hub import Hub
from relay.model import Batch, Ticker, next_offset
from relay.store.client import Client
from relay.store.keys import Keys
from relay.store.reader import Reader
from relay.store.writer import Lease, Writer

EPOCH = "k3f9"
_LIFE_MS = 60_000


class Leader:
    """Publishes into one board, as ingestion would."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self.writer = Writer(client, keys, log_entries_max=1000)
        self._lease: Lease | None = None
        self.offset = self._least = 0
        self.epoch = EPOCH

    async def lease(self) -> Lease:
        """Return the lease, taken when first needed."""
        if self._lease is None:
            self._lease = await self.writer.take("a-test", _LIFE_MS)
            assert self._lease is not None
        return self._lease

    async def publish(self, tickers: Mapping[str, Ticker | str]) -> int:
        """Publish tickers, or plain prices; return the batch's offset."""
        now_ms = self._client.clock.wall_ms()
        offset = next_offset(self.offset, max(now_ms, self._least))
        rows = {
            name: replace(
                one if isinstance(one, Ticker) else Ticker(price=one), offset=offset
            ).encode()
            for name, one in tickers.items()
        }
        batch = Batch(
            epoch=self.epoch, previous=self.offset, offset=offset, tickers=rows
        )
        await self.writer.publish(await self.lease(), batch)
        self.offset = offset
        return offset

    def advance_to(self, offset: int) -> None:
        """Number the next batch behind an offset, as if much had been published."""
        self._least = offset + 1

    async def mark(self, *, beat_ms: int = 5000, health: bytes = b"{}") -> None:
        """Write the mark of this moment, which is the beat as well."""
        number = self._client.clock.wall_ms() // 1000
        lease = await self.lease()
        await self.writer.mark(lease, number, beat_ms=beat_ms, health=health)

    async def mark_until(
        self, holds: Callable[[], bool], *, health: bytes = b"{}"
    ) -> None:
        """Write marks, as time goes on, until something holds."""
        with anyio.fail_after(10):
            while not holds():
                await self.mark(health=health)
                await anyio.sleep(0.01)


def make_hub(client: Client, keys: Keys, settings: Settings) -> Hub:
    """Return a hub that nobody has started."""
    reader = Reader(client, keys)
    return Hub(reader, client.clock, settings.http, settings.ingest)


def make_app(
    client: Client, keys: Keys, settings: Settings, hub: Hub | None
) -> litestar.Litestar:
    """Return the application of a board of its own."""
    board = replace(settings.board, name=keys.board)
    settings = replace(settings, board=board)
    return create_app(settings=settings, clock=client.clock, client=client, hub=hub)


def client_of(app: litestar.Litestar) -> httpx.AsyncClient:
    """Return a client of an application that somebody else has started, or nobody."""
    # Both follow the specification, each with types of its own.
    transport = httpx.ASGITransport(cast("Any", app))
    return httpx.AsyncClient(transport=transport, base_url="http://relay.test")


@asynccontextmanager
async def asking(app: litestar.Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """Hold a client of an application, which lives as long."""
    async with app.lifespan(), client_of(app) as client:
        yield client


@asynccontextmanager
async def serving(
    client: Client, keys: Keys, settings: Settings, *, hub: Hub | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """Hold a client of a new application."""
    async with asking(make_app(client, keys, settings, hub)) as asker:
        yield asker
