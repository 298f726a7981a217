"""What every test may lean on: a clock that waits, and a real Valkey."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from relay.config import Settings, load
from relay.store.client import Client
from relay.store.embedded import embedded
from relay.store.keys import Keys
from tests.harness import open_client

RECORDED = Path(__file__).parents[2] / "shared" / "recorded"
"""Other people's recordings; tests that need them skip where they are not."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, the only loop we deploy."""
    return "asyncio"


@pytest.fixture
def recorded() -> Path:
    """Return the folder of recordings."""
    if not RECORDED.is_dir():
        pytest.skip("the recordings are not here")
    return RECORDED


@pytest.fixture(scope="session")
def settings() -> Settings:
    """Return the settings as they come, whatever the environment says."""
    return load(environ={}).settings


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """Run one Valkey for the whole run, on a socket in an empty directory."""
    with start_blocking_portal("asyncio") as portal:  # noqa: SIM117 - the order matters
        with portal.wrap_async_context_manager(embedded()) as url:
            yield url


_boards = iter(range(1_000_000))


@pytest.fixture
def keys() -> Keys:
    """Return the keys of a board that no other test has."""
    return Keys(f"test-{next(_boards)}")


@pytest.fixture
async def client(valkey_url: str, settings: Settings) -> AsyncIterator[Client]:
    """Return a client of the store, with a clock of its own."""
    async with open_client(valkey_url, settings) as client:
        yield client
