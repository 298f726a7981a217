"""The worker and the tick, over a real Valkey and the simulator's sockets."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import pytest
from msgspec.structs import replace

from relay.clock import Clock
from relay.config import Settings, load
from relay.errors import RateLimited
from relay.ingest.budget import Priority, Wait
from relay.ingest.parts import open_intakes
from relay.ingest.worker import Worker, open_worker
from relay.model import decode_ticker
from relay.simulator.server import Simulator
from relay.store.client import Client
from relay.store.keys import Keys
from relay.store.reader import Mark, Reader
from relay.store.tables import Tables
from tests.harness import open_client, until

INSTRUMENTS = {"BTC-USD", "BTC-USDT", "XMR-USD"}


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Run the simulator."""
    async with Simulator() as running:
        yield running


@pytest.fixture
def simulated(simulator: Simulator, keys: Keys, valkey_url: str) -> Settings:
    """Return settings that read the simulator into a board of their own."""
    environ = {"RELAY_BOARD": keys.board, "RELAY_VALKEY_URL": valkey_url}
    return load(environ=environ, sim_url=simulator.url).settings


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[tuple[Worker, Client]]:
    """Hold a worker with a client of its own."""
    clock = Clock()
    async with (
        open_client(settings.store.url, settings, clock) as client,
        open_worker(settings, clock, client) as worker,
    ):
        yield worker, client


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[None]:
    """Let a worker run for as long as the context lasts."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(worker.run())
        yield
        task.cancel()


async def _until_shown(reader: Reader, names: set[str]) -> None:
    async def shown() -> bool:
        view = await reader.read(names)
        tickers = [decode_ticker(row) for row in view.tickers.values()]
        return len(tickers) == len(names) and all(one.price for one in tickers)

    await until(shown)


async def test_a_worker_fills_the_board_and_marks_the_grid(
    simulated: Settings, client: Client, keys: Keys
) -> None:
    """Seeded, streamed, merged, published, marked: and given back at the end."""
    reader = Reader(client, keys)
    async with working(simulated) as (worker, _), running(worker):
        await _until_shown(reader, INSTRUMENTS)
        await until(partial(_is_alive, reader))
        symbols = await reader.symbols()
        assert "binance" in symbols["BTC-USDT"]
        async with reader.follow(wait_ms=3_000) as follower:
            place = await reader.place()
            marks: list[Mark] = []
            while len(marks) < 2:
                entries = await follower.after(place)
                place = entries[-1].place
                marks += [one.item for one in entries if isinstance(one.item, Mark)]
        assert marks[1].number == marks[0].number + 1
    assert not await client.valkey.exists(keys.lease)


async def test_a_worker_that_lost_its_lease_leads_again(
    simulated: Settings, client: Client, keys: Keys
) -> None:
    """Being overtaken costs a term, and not the process."""
    reader = Reader(client, keys)

    async def leads_again(token: int) -> bool:
        head = (await reader.read([])).head
        return head.token > token and head.holder == worker.holder

    async with working(simulated) as (worker, _), running(worker):
        await _until_shown(reader, {"BTC-USD"})
        for _ in range(2):
            token = (await reader.read([])).head.token + 1
            ends_ms = client.clock.wall_ms() + 300
            await client.valkey.set(keys.lease, f"b {token} {ends_ms}", px=300)
            await until(partial(leads_again, token))


async def test_a_store_that_is_wiped_costs_the_leader_nothing(
    simulated: Settings, client: Client, keys: Keys, simulator: Simulator
) -> None:
    """It goes on under its own token, and fills the store from what it holds."""
    reader = Reader(client, keys)
    async with working(simulated) as (worker, _), running(worker):
        await _until_shown(reader, INSTRUMENTS)
        before = (await reader.read([])).head
        opened = _opened(simulator)
        await client.valkey.delete(
            keys.lease, keys.head, keys.tickers, keys.log, keys.beat, keys.symbols
        )
        await _until_shown(reader, INSTRUMENTS)
        await until(reader.symbols)  # type: ignore[arg-type] # none is as good as False
        after = (await reader.read([])).head
        assert after.epoch > before.epoch
        assert after.offset > before.offset
        assert _opened(simulator) == opened, "no connection was made for it"


async def test_tickers_that_the_store_threw_away_are_written_again(
    simulated: Settings, client: Client, keys: Keys
) -> None:
    """A store that is full may throw away the quiet ones, which nobody else has."""
    reader = Reader(client, keys)
    async with working(simulated) as (worker, _), running(worker):
        await _until_shown(reader, INSTRUMENTS)
        held = set((await reader.read(None)).tickers)
        await client.valkey.delete(keys.tickers, keys.symbols)
        await _until_shown(reader, held)


def _opened(simulator: Simulator) -> list[int]:
    counts = simulator.counts().exchanges.values()
    return [one.total.connections.opened for one in counts]


async def _is_alive(reader: Reader) -> bool:
    return (await reader.read([])).head.alive


async def test_a_tick_is_the_same_ingestion_and_ends_in_time(
    simulated: Settings, client: Client, keys: Keys, simulator: Simulator
) -> None:
    """Take the lease, ingest for what is left of the time, publish, release."""
    reader = Reader(client, keys)
    async with working(simulated) as (worker, _):
        began_ms = client.clock.monotonic_ms()
        assert await worker.tick(3)
        assert client.clock.monotonic_ms() - began_ms < 8_000
    view = await reader.read(INSTRUMENTS)
    assert set(view.tickers) == INSTRUMENTS
    assert view.head.alive, "the beat outlives the gap between two ticks"
    assert await client.valkey.pttl(keys.beat) > 30_000
    assert not await client.valkey.exists(keys.lease)
    counts = simulator.counts().exchanges.values()
    assert sum(one.total.connections.open for one in counts) == 0


async def test_a_tick_leaves_when_somebody_leads(simulated: Settings) -> None:
    """Overlapping schedule events are harmless."""
    async with (
        working(simulated) as (first, _),
        working(simulated) as (second, client),
        running(first),
    ):
        reader = Reader(client, Keys(simulated.board.name))
        await _until_shown(reader, {"BTC-USD"})
        assert not await second.tick(1)


async def test_what_an_exchange_asked_for_at_the_end_is_known_to_the_next(
    simulated: Settings, client: Client, keys: Keys
) -> None:
    """A worker that restarts in a loop would go on, and be banned."""
    async with working(simulated) as (worker, _), running(worker):
        await _until_shown(Reader(client, keys), {"XMR-USD"})
        purse = worker._parts.intakes["kraken"].purse  # noqa: SLF001 - it is cancelled in mid-answer
        purse.mind(RateLimited("kraken", "address", 60_000), "rest")
    fresh = open_intakes(simulated, client, Clock())["kraken"].purse
    leave = await fresh.reserve((("weight", 1),), priority=Priority.KEEP)
    assert isinstance(leave, Wait)
    assert leave.reason.startswith("limits us by address")


async def test_a_second_term_does_not_read_the_tables_again(
    simulated: Settings, client: Client, simulator: Simulator
) -> None:
    """A restart must cost the exchanges as little as possible."""
    await _forget_tables(client, simulated)
    async with working(simulated) as (worker, _):
        await worker.tick(2.5)
    before = _requests(simulator, "/api/v3/exchangeInfo")
    assert before == 1
    async with working(simulated) as (worker, _):
        await worker.tick(1.5)
    assert _requests(simulator, "/api/v3/exchangeInfo") == before


def _requests(simulator: Simulator, path: str) -> int:
    by_path = simulator.counts().exchanges["binance"].total.requests.by_path
    return sum(times for one, times in by_path.items() if one.endswith(path))


async def _forget_tables(client: Client, settings: Settings) -> None:
    for name in settings.exchanges:
        await client.valkey.delete(f"relay:{{x:{name}}}:table")
    assert not (await Tables(client).load("binance")).listings


async def test_what_clients_ask_for_is_streamed_and_dropped_again(
    simulated: Settings, client: Client, keys: Keys, simulator: Simulator
) -> None:
    """In place on the live connection; nothing is reconnected for it."""
    settings = replace(
        simulated, ingest=replace(simulated.ingest, demand_ms=3_000, steady_ms=0)
    )
    reader = Reader(client, keys)
    async with working(settings) as (worker, _), running(worker):
        await _until_shown(reader, INSTRUMENTS)
        assert await reader.ask(["ALGO-USD", "NOPE-USD"], most=10) == 1
        await _until_shown(reader, {"ALGO-USD"})
        await until(partial(_is_removed, reader, "ALGO-USD"))
    counts = simulator.counts().exchanges
    for name in ("binance", "coinbase", "kraken"):
        assert counts[name].total.connections.opened == 1
        assert counts[name].total.breaches_total == 0


async def test_what_moved_while_nobody_led_is_known_to_the_next(
    simulated: Settings, client: Client, keys: Keys, simulator: Simulator
) -> None:
    """Binance's streams begin with nothing, and a market may be quiet for a minute."""
    reader = Reader(client, keys)
    async with working(simulated) as (worker, _), running(worker):
        await _until_source(reader, "BTC-USDT", "binance")
    before = await _price(reader, "BTC-USDT")
    simulator.fault("binance", "silence", symbol="BTCUSDT", transport="ws")
    async with working(simulated) as (worker, _), running(worker):

        async def moved() -> bool:
            return await _price(reader, "BTC-USDT") != before

        await until(moved, within_s=15)
        assert (await _price(reader, "BTC-USDT"))[0] == "binance"


async def test_what_clients_hold_outlives_a_store_that_is_wiped(
    simulated: Settings, client: Client, keys: Keys
) -> None:
    """Servers renew what is held once a minute: so long nobody would have had a price.

    It goes on in the new epoch, and was not removed for a moment.
    """
    reader = Reader(client, keys)
    settings = replace(simulated, ingest=replace(simulated.ingest, demand_every_ms=100))
    async with working(settings) as (worker, _), running(worker):
        await _until_shown(reader, INSTRUMENTS)
        assert await reader.ask(["ALGO-USD"], most=10) == 1
        await _until_shown(reader, {"ALGO-USD"})
        before = (await reader.read([])).head
        await client.valkey.delete(
            *(keys.lease, keys.head, keys.tickers, keys.log),
            *(keys.beat, keys.symbols, keys.demand),
        )

        async def is_new() -> bool:
            return (await reader.read([])).head.epoch > before.epoch

        await until(is_new)
        await _until_shown(reader, {"ALGO-USD", *INSTRUMENTS})
        shown = decode_ticker((await reader.read(["ALGO-USD"])).tickers["ALGO-USD"])

        async def goes_on() -> bool:
            row = (await reader.read(["ALGO-USD"])).tickers["ALGO-USD"]
            ticker = decode_ticker(row)
            assert not ticker.removed
            return ticker.received_ms > shown.received_ms + 1_000

        await until(goes_on)


async def test_what_clients_hold_outlives_a_store_wiped_between_two_terms(
    simulated: Settings, client: Client, keys: Keys
) -> None:
    """What was found a while ago is this process's to know, whoever led meanwhile."""
    reader = Reader(client, keys)
    settings = replace(simulated, ingest=replace(simulated.ingest, demand_every_ms=100))
    async with working(settings) as (worker, _):
        async with running(worker):
            await _until_shown(reader, INSTRUMENTS)
            assert await reader.ask(["ALGO-USD"], most=10) == 1
            await _until_shown(reader, {"ALGO-USD"})
        await client.valkey.delete(
            *(keys.lease, keys.head, keys.tickers, keys.log),
            *(keys.beat, keys.symbols, keys.demand),
        )
        began_ms = client.clock.wall_ms()

        async def goes_on() -> bool:
            row = (await reader.read(["ALGO-USD"])).tickers["ALGO-USD"]
            ticker = decode_ticker(row)
            assert not ticker.removed
            return ticker.received_ms > began_ms + 1_000

        async with running(worker):
            await _until_shown(reader, {"ALGO-USD", *INSTRUMENTS})
            await until(goes_on)


async def test_what_nobody_asked_for_since_a_takeover_is_dropped(
    simulated: Settings, client: Client, keys: Keys
) -> None:
    """The last leader's demand is not the next one's."""
    reader = Reader(client, keys)
    async with working(simulated) as (worker, _), running(worker):
        await _until_shown(reader, INSTRUMENTS)
        assert await reader.ask(["ALGO-USD"], most=10) == 1
        await _until_shown(reader, {"ALGO-USD"})
    await client.valkey.delete(keys.demand)
    async with working(simulated) as (worker, _), running(worker):
        await until(partial(_is_removed, reader, "ALGO-USD"))


async def _is_removed(reader: Reader, name: str) -> bool:
    view = await reader.read([name])
    return decode_ticker(view.tickers[name]).removed


def _quick(settings: Settings) -> Settings:
    """Return settings under which silence and return take moments."""
    rules = replace(
        settings.ingest, silent_after_ms=1_500, steady_ms=500, reconnect_max_ms=1_000
    )
    return replace(settings, ingest=rules)


async def test_the_next_source_takes_over_and_gives_back(
    simulated: Settings, client: Client, keys: Keys, simulator: Simulator
) -> None:
    """By silence, not by a lost connection; every value says where it comes from."""
    reader = Reader(client, keys)
    async with working(_quick(simulated)) as (worker, _), running(worker):
        await _until_source(reader, "BTC-USD", "coinbase")
        simulator.fault("coinbase", "refuse", for_ms=60_000)
        simulator.fault("coinbase", "cut")
        await _until_source(reader, "BTC-USD", "kraken")
        simulator.clear_faults()
        await _until_source(reader, "BTC-USD", "coinbase")
        await _until_noted(reader, "coinbase", r": \d+ instruments? from ")
        back = r"is there: \d+ instruments? from it, no more from kraken"
        await _until_noted(reader, "coinbase", back)
    # Whoever leads next begins with what was noted before.
    last = (await _noted(reader))[-1]
    async with working(_quick(simulated)) as (worker, _), running(worker):

        async def went_on() -> bool:
            events = await _noted(reader)
            return last in events[:-1]

        await until(went_on)


Noted = list[dict[str, str]]


async def _noted(reader: Reader) -> Noted:
    health = msgspec.json.decode((await reader.read([])).head.health)
    events: Noted = health["events"]
    return events


async def _until_noted(reader: Reader, source: str, words: str) -> None:
    async def noted() -> bool:
        return any(
            event["source"] == source and re.search(words, event["what"])
            for event in await _noted(reader)
        )

    await until(noted)


async def test_an_exchange_that_does_not_stream_is_read_by_snapshots(
    simulated: Settings, client: Client, keys: Keys, simulator: Simulator
) -> None:
    """A stream that cannot be had does not cost the source while its REST answers."""
    simulator.fault("coinbase", "refuse", transport="ws", for_ms=60_000)
    reader = Reader(client, keys)
    async with working(_quick(simulated)) as (worker, _), running(worker):
        await _until_source(reader, "BTC-USD", "coinbase")
        first = await _price(reader, "BTC-USD")

        async def moved() -> bool:
            return await _price(reader, "BTC-USD") != first

        await until(moved)
        await _until_source(reader, "BTC-USD", "coinbase")
    assert simulator.counts().exchanges["coinbase"].total.breaches_total == 0


async def test_a_stream_that_says_nothing_is_bridged_by_snapshots(
    simulated: Settings, client: Client, keys: Keys, simulator: Simulator
) -> None:
    """It takes connections, one each minute: meanwhile REST was read once in each."""
    simulator.fault("binance", "silence", transport="ws", for_ms=60_000)
    reader = Reader(client, keys)
    async with working(_quick(simulated)) as (worker, _), running(worker):
        await _until_source(reader, "BTC-USDT", "binance")
        prices = set[tuple[str, str]]()

        async def moved() -> bool:
            prices.add(await _price(reader, "BTC-USDT"))
            return sum(source == "binance" for source, _ in prices) > 2

        await until(moved, within_s=20)
    assert simulator.counts().exchanges["binance"].total.breaches_total == 0


async def _price(reader: Reader, name: str) -> tuple[str, str]:
    ticker = decode_ticker((await reader.read([name])).tickers[name])
    return ticker.source, ticker.price


async def _until_source(reader: Reader, name: str, source: str) -> None:
    async def shown() -> bool:
        row = (await reader.read([name])).tickers.get(name)
        return row is not None and decode_ticker(row).source == source

    await until(shown)


async def test_a_new_leader_says_that_it_leads_before_it_publishes(
    simulated: Settings, client: Client, keys: Keys
) -> None:
    """Its first batches would be served as not live, until its first mark."""
    reader = Reader(client, keys)
    async with working(simulated) as (worker, _):
        await worker.tick(2)
    place = await reader.place()
    async with working(simulated) as (worker, _):
        await worker.tick(2)
    async with reader.follow(wait_ms=100) as follower:
        first, *_ = await follower.after(place)
    assert isinstance(first.item, Mark)


async def test_a_ticks_marks_say_how_long_they_count(
    simulated: Settings, client: Client, keys: Keys
) -> None:
    """Whoever reads them may be set up for a worker that is missed much sooner."""
    reader = Reader(client, keys)
    async with working(simulated) as (worker, _):
        await worker.tick(2)
    async with reader.follow(wait_ms=100) as follower:
        items = [one.item for one in await follower.after("0-0")]
    lives_ms = {one.life_ms for one in items if isinstance(one, Mark)}
    assert lives_ms == {simulated.ingest.tick_beat_ms}
    assert (await reader.read([])).head.left_ms > simulated.ingest.beat_ms


async def test_a_block_is_called_one_and_not_said_to_be_tried_again_at_once(
    simulated: Settings,
    client: Client,
    simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever reads the log must know that a person has to act, and what is done."""
    caplog.set_level("INFO", "relay.ingest")
    # Books of its own: nobody else is to be left alone for it.
    alone = replace(simulated, store=replace(simulated.store, egress="blocked"))
    await _forget_tables(client, alone)
    simulator.fault("binance", "451", for_ms=60_000)

    async def said() -> bool:
        return any("binance refuses us (blocked)" in one for one in caplog.messages)

    async with working(alone) as (worker, _), running(worker):
        await until(said)
    lines = [one for one in caplog.messages if one.startswith("binance")]
    assert not [one for one in lines if one.endswith("trying again")]
    (blocked,) = [one for one in lines if one.startswith("binance refuses us")]
    assert re.search(r"; next try in \d+ s$", blocked)
