"""What clients ask for is noted seldom, and never while one waits."""

import asyncio

import pytest
from msgspec.structs import replace

from relay.clock import Clock, ManualClock
from relay.config import Settings
from relay.delivery.demand import Demand
from relay.model import Selection
from relay.store.client import Client
from relay.store.keys import Keys
from relay.store.reader import Reader
from tests.delivery.serving import Leader
from tests.harness import eventually, until


@pytest.fixture
async def leader(client: Client, keys: Keys) -> Leader:
    """Return a leader whose table knows three instruments."""
    leader = Leader(client, keys)
    listed = {name: ["kraken"] for name in ("A-USD", "B-USD", "BTC-USD")}
    await leader.writer.list_symbols(await leader.lease(), listed)
    return leader


async def test_only_what_is_not_on_anyhow_is_noted(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """The core set would use up the cap; the whole board asks for nothing more."""
    clock = ManualClock()
    demand = Demand(Reader(client, keys), settings.http, settings.board, clock)
    demand.note(Selection.of(None))
    demand.note(Selection.of(["A-USD", "BTC-USD", "NOPE-USD"]))
    await demand.flush()
    assert await leader.writer.demand(0) == ["A-USD"]


async def test_a_selection_is_noted_again_when_its_time_has_come(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """Once a minute however often it is read, so that the store hardly hears it."""
    clock = ManualClock()
    demand = Demand(Reader(client, keys), settings.http, settings.board, clock)
    demand.note(Selection.of(["A-USD"]))
    await demand.flush()
    await client.valkey.delete(keys.demand)
    clock.advance(settings.http.demand_renew_ms - 1)
    demand.note(Selection.of(["A-USD"]))
    await demand.flush()
    assert await leader.writer.demand(0) == []
    clock.advance(1)
    demand.note(Selection.of(["A-USD"]))
    await demand.flush()
    assert await leader.writer.demand(0) == ["A-USD"]


async def test_what_no_table_knows_yet_is_noted_soon_after_one_does(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """At a first start people ask before the tables are there: it took a minute."""
    clock = ManualClock()
    demand = Demand(Reader(client, keys), settings.http, settings.board, clock)
    demand.note(Selection.of(["A-USD", "NEW-USD", "NOPE-USD"]))
    await demand.flush()
    listed = {name: ["kraken"] for name in ("A-USD", "NEW-USD")}
    await leader.writer.list_symbols(await leader.lease(), listed)
    clock.advance(4_999)
    await demand.flush()
    assert await leader.writer.demand(0) == ["A-USD"]
    clock.advance(1)
    await demand.flush()
    assert sorted(await leader.writer.demand(0)) == ["A-USD", "NEW-USD"]
    for _ in range(settings.http.demand_renew_ms // 5_000 - 1):
        assert demand.pending == 3, "what is invented waits as well"
        clock.advance(5_000)
        await demand.flush()
    assert demand.pending == 0, "until somebody asks again"


async def test_a_table_that_comes_later_needs_nobody_who_asks_again(
    client: Client,
    keys: Keys,
    settings: Settings,
    leader: Leader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever holds a stream asks once a minute, and would get nothing so long."""
    monkeypatch.setattr("relay.delivery.demand._AGAIN_MS", 50)
    demand = Demand(Reader(client, keys), settings.http, settings.board, Clock())
    demand.note(Selection.of(["NEW-USD"]))
    await demand.flush()
    assert demand.pending == 1

    async def is_noted() -> bool:
        return await leader.writer.demand(0) == ["NEW-USD"]

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(demand.run())
        await leader.writer.list_symbols(await leader.lease(), {"NEW-USD": ["kraken"]})
        await until(is_noted)
        await eventually(lambda: demand.pending == 0)
        running.cancel()


async def test_what_a_new_epoch_may_not_know_of_is_noted_again(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """The store was emptied and its leader is another: who holds a stream waited."""
    clock, epochs = ManualClock(), [""]
    demand = Demand(
        Reader(client, keys), settings.http, settings.board, clock, lambda: epochs[-1]
    )
    demand.note(Selection.of(["B-USD"]))
    await demand.flush()
    clock.advance(settings.http.demand_renew_ms * 2)
    demand.note(Selection.of(["A-USD"]))
    await demand.flush()
    for epoch, noted in (("k1", []), ("", []), ("k1", []), ("k2", ["A-USD"])):
        await client.valkey.delete(keys.demand)
        epochs.append(epoch)
        await demand.flush()
        assert await leader.writer.demand(0) == noted, epoch


async def test_it_runs_beside_the_requests_and_ends_with_them(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """Noting wakes it; cancelling ends it."""
    clock = ManualClock()
    demand = Demand(Reader(client, keys), settings.http, settings.board, clock)
    noted: list[str] = []
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(demand.run())
        demand.note(Selection.of(["B-USD"]))
        while not noted:
            noted = await leader.writer.demand(0)
        running.cancel()
    assert noted == ["B-USD"]


async def test_many_selections_are_remembered_within_bounds(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Whoever invents selections makes us forget some, and nothing else."""
    clock = ManualClock()
    demand = Demand(Reader(client, keys), settings.http, settings.board, clock)
    for number in range(25_000):
        demand.note(Selection.of([f"X{number}-USD"]))
    assert demand.remembered <= 10_000
    assert demand.pending <= 20_001


async def test_a_store_that_is_away_is_told_when_somebody_asks_again(
    settings: Settings, keys: Keys
) -> None:
    """Nothing is kept for it, and nobody who asks hears of it."""
    nowhere = Client(replace(settings.store, url="valkey://127.0.0.1:1"), ManualClock())
    reader = Reader(nowhere, keys)
    demand = Demand(reader, settings.http, settings.board, ManualClock())
    demand.note(Selection.of(["A-USD"]))
    await demand.flush()
    assert (demand.remembered, demand.pending) == (0, 0)
    demand.note(Selection.of(["A-USD"]))
    assert demand.pending == 1
    await nowhere.close()
