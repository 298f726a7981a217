"""Connections to the store that are closed while they are made, on uvloop's words."""

import pytest

from relay.errors import StoreDown
from relay.store.client import Client


async def test_a_connection_that_was_closed_is_the_stores_failure(
    client: Client,
) -> None:
    """It once ended a leader and was a client's 500: uvloop raises no OSError."""
    closed = "unable to perform operation on <TCPTransport>; the handler is closed"
    with pytest.raises(StoreDown), client.asked():
        raise RuntimeError(closed)


async def test_a_mistake_of_ours_stays_one(client: Client) -> None:
    """Nobody would find it otherwise."""
    with pytest.raises(RuntimeError), client.asked():
        raise RuntimeError("cannot reuse already awaited coroutine")
