"""A store behind TLS that knows users and passwords, and what is said of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from relay.clock import Clock
from relay.config import Settings
from relay.errors import StoreDown
from relay.store.client import Client, connect
from relay.store.keys import Keys
from relay.store.reader import Reader
from tests.delivery.serving import Leader
from tests.ingest.toy import CERTIFICATE
from tests.store.walled import PASSWORD, USER, guarded, tls_before, url_of


@pytest.fixture
async def place() -> AsyncIterator[str]:
    """Run the store; returns its socket."""
    async with guarded() as place:
        yield place


@pytest.fixture
async def store_port(place: str) -> AsyncIterator[int]:
    """Put TLS before the store, at the address of its certificate."""
    async with tls_before(place, "127.0.0.1") as port:
        yield port


@asynccontextmanager
async def connected(url: str, settings: Settings) -> AsyncIterator[Client]:
    """Hold a client of the store at a URL."""
    async with connect(replace(settings.store, url=url), Clock()) as client:
        yield client


@pytest.mark.parametrize("scheme", ["valkeys", "rediss"])
async def test_a_board_is_published_and_read_over_tls_with_user_and_password(
    store_port: int, settings: Settings, keys: Keys, scheme: str
) -> None:
    """Scripts, transactions and all, by a user who may do nothing else."""
    url = url_of(store_port).replace("valkeys", scheme, 1)
    async with connected(url, settings) as client:
        leader = Leader(client, keys)
        await leader.publish({"BTC-USD": "61000.10"})
        await leader.mark()
        view = await Reader(client, keys).read(None)
    assert view.head.offset == leader.offset
    assert b'"61000.10"' in view.tickers["BTC-USD"]


async def test_a_wrong_password_is_said_and_not_shown(
    store_port: int, settings: Settings
) -> None:
    """Whoever reads the log learns what to mend, and no more."""
    url = url_of(store_port, password="wr0ng-p4ssw0rd")
    with pytest.raises(StoreDown) as down:
        async with connected(url, settings):
            pass
    said = str(down.value) + repr(down.value)
    assert "invalid username-password pair" in said
    assert f"valkeys://127.0.0.1:{store_port}/0" in said
    for secret in ("wr0ng", USER + ":", str(CERTIFICATE)):
        assert secret not in said


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    store_port: int, settings: Settings
) -> None:
    """Otherwise anybody on the way could be the store, and read the password."""
    with pytest.raises(StoreDown, match="certificate verify failed") as down:
        async with connected(url_of(store_port, ca=False), settings):
            pass
    assert PASSWORD not in str(down.value) + repr(down.value)


async def test_a_certificate_of_another_host_is_refused(
    place: str, settings: Settings
) -> None:
    """It is one that we trust, and not that of where we went."""
    async with tls_before(place, "127.0.0.2") as port:
        url = url_of(port).replace("127.0.0.1", "127.0.0.2", 1)
        with pytest.raises(StoreDown, match=r"not valid for '127\.0\.0\.2'") as down:
            async with connected(url, settings):
                pass
    assert PASSWORD not in str(down.value)


async def test_without_tls_nothing_is_said_to_such_a_store(
    store_port: int, settings: Settings
) -> None:
    """A URL without the letter s is a mistake, and fails as one."""
    url = url_of(store_port, ca=False).replace("valkeys", "valkey", 1)
    with pytest.raises(StoreDown) as down:
        async with connected(url, settings):
            pass
    assert PASSWORD not in str(down.value)
