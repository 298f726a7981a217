"""What exists: instruments by source, lists, and other names."""

import asyncio

from relay.clock import ManualClock
from relay.config import Settings
from relay.delivery.query import Names
from relay.delivery.symbols import SymbolTable
from relay.store.client import Client
from relay.store.embedded import embedded
from relay.store.keys import Keys
from relay.store.reader import Reader
from tests.delivery.serving import Leader, serving
from tests.harness import open_client


async def test_it_lists_instruments_lists_and_names(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """A client finds out what it may ask for."""
    leader = Leader(client, keys)
    listed = {"FOO-USD": ["kraken"], "BTC-USD": ["coinbase", "kraken"]}
    await leader.writer.list_symbols(await leader.lease(), listed)
    async with serving(client, keys, settings) as asker:
        answer = await asker.get("/v1/symbols")
        condition = {"if-none-match": answer.headers["etag"]}
        again = await asker.get("/v1/symbols", headers=condition)
    body = answer.json()
    assert list(body["symbols"]) == ["BTC-USD", "FOO-USD"]
    assert body["symbols"] == listed
    assert body["lists"]["majors"] == list(settings.board.lists["majors"])
    assert body["names"]["bitcoin"] == "BTC-USD"
    assert "BTC-USD" in body["core"]
    assert "max-age=60" in answer.headers["cache-control"]
    assert again.status_code == 304


async def test_the_table_is_read_now_and_then(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """It has ten thousand rows and more, and changes every few days."""
    leader, clock = Leader(client, keys), ManualClock()
    reader = Reader(client, keys)
    table = SymbolTable(reader, Names(settings.board), settings.board, clock)
    lease = await leader.lease()
    await leader.writer.list_symbols(lease, {"A-USD": ["kraken"]})
    first = await table.read()
    await leader.writer.list_symbols(lease, {"B-USD": ["kraken"]})
    assert await table.read() is first
    clock.advance(60_000)
    assert b'"B-USD"' in (await table.read()).body


async def test_one_reads_the_table_anew_and_the_others_get_the_last(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """A thousand who come at that moment would all write out ten thousand rows."""
    reads: list[int] = []

    class Counting(Reader):
        async def symbols(self) -> dict[str, list[str]]:
            reads.append(len(reads))
            return await super().symbols()

    clock = ManualClock()
    reader = Counting(client, keys)
    table = SymbolTable(reader, Names(settings.board), settings.board, clock)
    first = await table.read()
    for _ in range(2):
        clock.advance(60_000)
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(table.read()) for _ in range(100)]
        assert sum(one.result() is first for one in asked) == 99
        first = await table.read()
    assert len(reads) == 3


async def test_a_parameter_is_refused(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """It would make a URL of its own in every cache."""
    async with serving(client, keys, settings) as asker:
        assert (await asker.get("/v1/symbols?x=1")).status_code == 400


async def test_the_last_table_serves_while_the_store_is_away(
    settings: Settings, keys: Keys
) -> None:
    """What exists does not change because nobody can be asked."""
    clock = ManualClock()
    async with embedded() as url, open_client(url, settings) as client:
        reader = Reader(client, keys)
        table = SymbolTable(reader, Names(settings.board), settings.board, clock)
        held = await table.read()
        await client.valkey.shutdown(nosave=True)
        clock.advance(60_000)
        assert await table.read() is held
