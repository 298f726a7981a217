"""What tests build the relay's parts with; ``conftest.py`` makes fixtures of it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from msgspec.structs import replace

from relay.clock import Clock
from relay.config import Settings
from relay.store.client import Client, connect


@asynccontextmanager
async def open_client(
    url: str, settings: Settings, clock: Clock | None = None
) -> AsyncIterator[Client]:
    """Hold a client of the store at ``url``."""
    async with connect(replace(settings.store, url=url), clock or Clock()) as client:
        yield client


async def eventually(holds: Callable[[], bool], *, within_s: float = 30) -> None:
    """Wait until something holds, and fail when it does not in good time."""
    with anyio.fail_after(within_s):
        while not holds():  # noqa: ASYNC110 - the condition is another process's
            await anyio.sleep(0.01)


async def until(holds: Callable[[], Awaitable[bool]], *, within_s: float = 45) -> None:
    """Wait until something that must be asked for holds, and fail when it does not."""
    with anyio.fail_after(within_s):
        while not await holds():  # noqa: ASYNC110 - it is another process's
            await anyio.sleep(0.02)
