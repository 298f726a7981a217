"""Every fault at every exchange: the right words in the status, and prices again."""

import asyncio
import random
import secrets
import sys
from collections.abc import Sequence
from typing import get_args

import pytest

from relay.simulator.faults import FaultName
from tests.harness import until
from tests.simulation.cases import BENT, ENDING, LASTING, Case
from tests.simulation.conftest import ROW
from tests.simulation.everyone import (
    HALVES,
    OWN,
    clock_ms,
    everyone_rigged,
    says,
    shows,
)
from tests.simulation.rig import Rig

# Prices flow again so soon after a fault has ended: the steady time, the rest of a
# back-off, a breaker's or a cooldown's, twice as long after the second offence.
AGAIN_S = 15
# The worker's clock and ours are both set by the store's, each for itself.
CLOCKS_MS = 50
QUICK = ("cut", "503")

Rows = list[tuple[str, str, str, int, str]]


def hurt(rig: Rig, one: Case, name: str) -> None:
    """Let it happen to one exchange."""
    for fault in one.faults:
        rig.simulator.fault(name, **fault)


async def suffer(rig: Rig, one: Case, name: str, since_ms: int) -> tuple[str, str]:
    """See what is said of an exchange, and who is shown instead of it."""
    said = await says(rig, name, one.said(name), since_ms=since_ms)
    source = one.source(name)
    if source is not None:
        await shows(rig, name, source)
    ticker = await rig.ticker(OWN[name][0])
    assert ticker is not None
    return ticker.source, said


async def endure(rig: Rig, one: Case, half: Sequence[str], rows: Rows) -> None:
    """Do one thing to half of the exchanges, end it, and see them all again."""
    names = [name for name in half if name in one.to]
    since_ms = rig.client.clock.wall_ms() - CLOCKS_MS
    for name in names:
        hurt(rig, one, name)
    async with asyncio.TaskGroup() as tasks:
        seen = {
            name: tasks.create_task(suffer(rig, one, name, since_ms)) for name in names
        }
    rig.simulator.clear_faults()
    began_ms = clock_ms()

    async def come_back(name: str) -> None:
        await shows(rig, name, name, within_s=AGAIN_S)
        source, said = seen[name].result()
        rows.append((one.name, name, source, clock_ms() - began_ms, said[:60]))

    async with asyncio.TaskGroup() as tasks:
        for name in names:
            tasks.create_task(come_back(name))


def judge(rig: Rig, cases: Sequence[Case]) -> None:
    """Insist that no limit was passed, and that nothing went backwards."""
    injected = frozenset[str]().union(*(one.breaches for one in cases))
    for name, held in rig.breaches().items():
        assert not held.keys() - injected, f"{name}: {held}"
    assert rig.wrong == []


async def run(cases: Sequence[Case], half: Sequence[str]) -> Rows:
    """Do one thing after the other to half of the exchanges."""
    rows: Rows = []
    if any(name in one.to for one in cases for name in half):
        async with everyone_rigged() as rig:
            for one in cases:
                await endure(rig, one, half, rows)
            judge(rig, cases)
    return rows


async def run_both(cases: Sequence[Case], request: pytest.FixtureRequest) -> None:
    """Do it to both halves at the same time, each in a rig of its own."""
    async with asyncio.TaskGroup() as tasks:
        halves = [tasks.create_task(run(cases, half)) for half in HALVES]
    rows = [row for half in halves for row in half.result()]
    assert len(rows) == sum(len(one.to) for one in cases)
    request.node.user_properties.extend((ROW, row) for row in rows)


@pytest.mark.timeout(90)
async def test_a_fault_is_said_survived_and_over_soon(
    request: pytest.FixtureRequest,
) -> None:
    """The two that a day is sure to bring, each time; at half of the exchanges."""
    cases = [one for one in (*ENDING, *LASTING) if one.name in QUICK]
    rows = await run(cases, HALVES[0])
    assert len(rows) == len(cases) * len(HALVES[0])
    request.node.user_properties.extend((ROW, row) for row in rows)


@pytest.mark.faults
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "cases", [ENDING, BENT], ids=["that are over at once", "that bend what is said"]
)
async def test_faults_one_after_the_other(
    request: pytest.FixtureRequest, cases: Sequence[Case]
) -> None:
    """Nothing is left of one when the next comes, in a worker that goes on."""
    await run_both(cases, request)


@pytest.mark.faults
@pytest.mark.timeout(120)
@pytest.mark.parametrize("one", LASTING, ids=lambda one: one.name)
async def test_a_fault_that_lasts(request: pytest.FixtureRequest, one: Case) -> None:
    """Whoever is second is shown until it is over; a worker each, since cooldowns add.

    The exchange says why, and nobody is asked more often than is allowed.
    """
    await run_both([one], request)


@pytest.mark.faults
@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [*range(5), secrets.randbelow(1_000_000)])
async def test_faults_in_pairs_end_as_well(seed: int) -> None:
    """Another pair for each exchange: prices flow meanwhile, and afterwards as before.

    The last seed is another one each time.
    """
    chance = random.Random(seed)
    every = [*ENDING, *BENT, *LASTING]
    pairs = {
        name: chance.sample([one for one in every if name in one.to], 2) for name in OWN
    }
    sys.stdout.write(f"\nseed {seed}\n")
    for name, pair in pairs.items():
        sys.stdout.write(f"{name}: {' and '.join(one.name for one in pair)}\n")
    async with asyncio.TaskGroup() as tasks:
        for half in HALVES:
            tasks.create_task(_endure_pairs(half, pairs))


async def _endure_pairs(half: Sequence[str], pairs: dict[str, list[Case]]) -> None:
    async with everyone_rigged() as rig:
        for name in half:
            for one in pairs[name]:
                hurt(rig, one, name)
        async with asyncio.TaskGroup() as tasks:
            for name in half:
                tasks.create_task(shows(rig, name, None))
        rig.simulator.clear_faults()
        async with asyncio.TaskGroup() as tasks:
            for name in half:
                tasks.create_task(shows(rig, name, name, within_s=AGAIN_S))
        judge(rig, [one for name in half for one in pairs[name]])


@pytest.mark.faults
@pytest.mark.timeout(120)
async def test_a_halted_symbol_is_shown_from_elsewhere() -> None:
    """The exchange lives, and only its table tells that this is not traded there."""
    async with everyone_rigged() as rig:
        for half in HALVES:
            for name in half:
                rig.simulator.fault(name, "break", symbol=OWN[name][1])
            for source in (lambda name: OWN[name][2]), (lambda name: name):
                async with asyncio.TaskGroup() as tasks:
                    for name in half:
                        tasks.create_task(shows(rig, name, source(name)))
                rig.simulator.clear_faults()
        judge(rig, [])


NEW = {
    "binance": ("NEWBUSDT", "NEWB-USDT"),
    "coinbase": ("NEWC-USD", "NEWC-USD"),
    "coinbase-exchange": ("NEWX-USD", "NEWX-USD"),
    "kraken": ("NEWK/USD", "NEWK-USD"),
}


@pytest.mark.faults
@pytest.mark.timeout(60)
async def test_what_an_exchange_lists_anew_may_be_asked_for() -> None:
    """With the next table, and without a restart."""
    async with everyone_rigged() as rig:
        for name, (symbol, instrument) in NEW.items():
            base, _, quote = instrument.partition("-")
            value = {"base": base, "quote": quote, "price": "1.5"}
            rig.simulator.fault(name, "listing", symbol=symbol, value=value)
        wanted = [instrument for _, instrument in NEW.values()]

        async def listed() -> bool:
            return set(wanted) <= (await rig.reader.symbols()).keys()

        await until(listed, within_s=15)
        assert await rig.reader.ask(wanted, most=500) == len(wanted)

        async def shown() -> bool:
            tickers = [await rig.ticker(one) for one in wanted]
            return [one and one.source for one in tickers] == list(NEW)

        await until(shown, within_s=15)
        judge(rig, [])


def test_every_fault_of_the_simulator_is_among_them() -> None:
    """Whoever adds a fault adds what must come of it; a mute feed has its own file."""
    cases = [*ENDING, *BENT, *LASTING]
    done = {fault["fault"] for one in cases for fault in one.faults}
    done = {"status" if name.isdigit() else name for name in done}
    assert {*done, "break", "listing", "mute"} >= {*get_args(FaultName)}
