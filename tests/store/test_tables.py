"""What was read of an exchange outlives the worker that read it."""

import pytest

from relay.model import Listing
from relay.store.client import Client
from relay.store.tables import Table, Tables

LISTING = Listing(symbol="XBT/USD", base="BTC", quote="USD", answers_as=("XXBTZUSD",))


async def test_a_table_is_found_again(client: Client) -> None:
    """A restart must not pay for it once more."""
    tables = Tables(client)
    await tables.save_listings("test-a", [LISTING], now_ms=5, life_ms=60_000)
    await tables.save_snapshot("test-a", now_ms=7, life_ms=1_000)
    assert await tables.load("test-a") == Table([LISTING], 5, 7)
    assert await client.valkey.pttl("relay:{x:test-a}:table") > 30_000


async def test_an_unknown_table_is_empty(client: Client) -> None:
    """The first worker of all finds nothing."""
    assert await Tables(client).load("test-none") == Table([])


async def test_a_table_of_another_shape_is_read_again(client: Client) -> None:
    """Two versions may share a store for a while."""
    await client.valkey.hset("relay:{x:test-b}:table", "listings", '{"a":1}')
    assert await Tables(client).load("test-b") == Table([])


@pytest.mark.parametrize("field", ["listings", "symbols_ms", "snapshot_ms"])
async def test_a_table_that_nobody_can_read_is_none(client: Client, field: str) -> None:
    """It is read anew; whoever wrote it may not end a leader."""
    await client.valkey.hset("relay:{x:odd}:table", field, b"\xff")
    assert await Tables(client).load("odd") == Table([])
    await client.valkey.delete("relay:{x:odd}:table")
