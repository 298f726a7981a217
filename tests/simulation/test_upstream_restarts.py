"""Ten workers that restart again and again behind one address, and no ban."""

import asyncio
import random
import sys

import msgspec
import pytest
from msgspec.structs import replace

from relay.clock import Clock
from relay.config import Settings
from relay.ingest.book import Book
from relay.ingest.ledger import Ledger
from relay.ingest.worker import open_worker
from relay.simulator.settings import BinanceSettings, KrakenSettings
from relay.simulator.settings import Settings as SimulatorSettings
from relay.store.ledger import ledger_key
from tests.harness import eventually, open_client
from tests.simulation.rig import Rig, hurried, rigged, working

WORKERS, LIVES = 10, 8
STREAMING = ("binance", "coinbase", "kraken")
# As many attempts as the relay allows itself, and as the exchange bears: fewer than
# they would make in a few minutes, since a test has no more than some seconds.
ALLOWED = {"binance": 48, "kraken": 24}
STRICT = SimulatorSettings(
    updates_per_second=100,
    burst_every_ms=0,
    binance=BinanceSettings(attempts=60),
    kraken=KrakenSettings(attempts=30),
)


def strict(settings: Settings) -> Settings:
    """Return settings that allow so many attempts."""
    settings = hurried(settings)
    exchanges = dict(settings.exchanges)
    for name, most in ALLOWED.items():
        limits = tuple(
            replace(one, weight_max=most) if one.name == "connect" else one
            for one in exchanges[name].limits
        )
        exchanges[name] = replace(exchanges[name], limits=limits)
    return replace(settings, exchanges=exchanges)


async def _remember_an_idle_hour(rig: Rig) -> None:
    """Give each exchange a book in which nothing has been spent lately."""
    now_ms = rig.client.clock.wall_ms()
    for name in STREAMING:
        ledgers = {
            limit.name: Ledger(limit=limit, began_ms=now_ms - 3_600_000)
            for limit in rig.settings.exchanges[name].limits
        }
        book = Book(born_ms=now_ms - 3_600_000, revision=now_ms, ledgers=ledgers)
        key = ledger_key(name, f"address:{rig.settings.store.egress}")
        await rig.client.valkey.set(key, msgspec.json.encode(book))


async def _live_and_die(rig: Rig, board: str, chance: random.Random) -> None:
    """Be one worker, which is started again each time it has died."""
    settings = replace(rig.settings, board=replace(rig.settings.board, name=board))
    url, clock = settings.store.url, Clock()
    for _ in range(LIVES):
        async with (
            open_client(url, settings, clock) as client,
            open_worker(settings, clock, client) as worker,
        ):
            life_s = chance.uniform(0.1, 1.5)
            try:
                async with asyncio.timeout(life_s):
                    await worker.run()
            except TimeoutError:
                continue


def _attempts(rig: Rig, name: str) -> int:
    return rig.simulator.counts().exchanges[name].total.connections.attempts


@pytest.mark.faults
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [1, 2])
async def test_ten_workers_that_restart_in_a_loop_get_nobody_banned(seed: int) -> None:
    """Each leads a board of its own, and connects as soon as it does."""
    chance = random.Random(seed)
    async with rigged(strict, STRICT) as rig:
        await _remember_an_idle_hour(rig)
        # Once it is known what there is, whoever leads connects at once.
        async with working(rig):
            await eventually(lambda: min(_attempts(rig, one) for one in STREAMING) > 0)
        async with asyncio.TaskGroup() as tasks:
            for number in range(WORKERS):
                tasks.create_task(_live_and_die(rig, f"board-{number}", chance))
        counts = rig.simulator.counts().exchanges
        for name in STREAMING:
            total = counts[name].total
            attempts = _attempts(rig, name)
            sys.stdout.write(f"seed {seed}: {name} {attempts} attempts\n")
            assert (total.bans, total.refusals.earned) == (0, {}), name
        for name, most in ALLOWED.items():
            # They wanted more than that; who dies with leave to connect has spent it.
            assert most * 0.6 <= _attempts(rig, name) <= most
        async with working(rig):
            await rig.shows("coinbase")
        assert rig.breaches() == {}
        assert rig.wrong == []


BOARDS = 6


async def _live(rig: Rig, board: str) -> None:
    """Be one worker until somebody ends it."""
    settings = replace(rig.settings, board=replace(rig.settings.board, name=board))
    clock = Clock()
    async with (
        open_client(settings.store.url, settings, clock) as client,
        open_worker(settings, clock, client) as worker,
    ):
        await worker.run()


@pytest.mark.faults
@pytest.mark.timeout(90)
async def test_boards_behind_one_address_say_no_more_than_one_may() -> None:
    """Coinbase counts the messages of all connections of an address together.

    Each begins with two, in time: who says nothing for five seconds is closed.
    """
    async with rigged(hurried, STRICT) as rig:
        await _remember_an_idle_hour(rig)
        # Once it is known what there is, all of them connect at once.
        async with working(rig):
            await rig.shows("coinbase")
        talks = rig.simulator.exchanges["coinbase"].conversations
        await eventually(lambda: not talks)

        def all_subscribed() -> bool:
            # The heartbeats are one of what each is subscribed to.
            return sum(talk.subscribed > 1 for talk in talks) == BOARDS

        async with asyncio.TaskGroup() as tasks:
            workers = [
                tasks.create_task(_live(rig, f"board-{number}"))
                for number in range(BOARDS)
            ]
            await eventually(all_subscribed, within_s=60)
            for worker in workers:
                worker.cancel()
        assert rig.breaches() == {}
