"""Every fault of the simulator: the right words in the status, and prices again."""

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from relay.config import Settings
from tests.simulation.rig import Rig, hurried, rigged, working

# Prices flow again so soon after a fault has ended: silence, back-off, breaker, steady.
AGAIN_S = 15


class Case(Struct, frozen=True, kw_only=True):
    """One fault: what it is, what the status must say, and whose value is shown then.

    ``then`` ends the connections that stand, where the fault itself does not.
    """

    name: str
    faults: tuple[dict[str, Any], ...]
    words: str
    shown: str = "coinbase"


def case(
    name: str, words: str, *faults: dict[str, Any], shown: str = "coinbase"
) -> Case:
    """Make a case of faults of Coinbase, which comes first."""
    return Case(name=name, words=words, faults=faults, shown=shown)


CUT: dict[str, Any] = {"fault": "cut"}
WS: dict[str, Any] = {"transport": "ws"}
REST: dict[str, Any] = {"transport": "rest"}

CASES = [
    case("cut", "not streaming: connection broke off", CUT),
    case("cut in a frame", "not streaming: ", CUT | {"value": "mid-frame"}),
    case("closed", "closed by the exchange: 1013", CUT | {"value": 1013}),
    case("garbage", r'"drops":\{"[^"]+":', {"fault": "garbage"} | WS),
    case(
        "silence",
        "timed out after 1.5 s",
        {"fault": "silence"},
        shown="kraken",
    ),
    case(
        "refused",
        "connection (refused|broke off)",
        {"fault": "refuse"},
        CUT,
        shown="kraken",
    ),
    case(
        "429",
        "limits us by address: wait 2 s",
        {"fault": "429", "retry_after_s": 2},
        CUT,
        shown="kraken",
    ),
    case(
        "418",
        "limits us by address: wait",
        {"fault": "418", "retry_after_s": 2},
        CUT,
        shown="kraken",
    ),
    case("403", r"refuses us \(blocked\)", {"fault": "403"}, CUT, shown="kraken"),
    case("451", r"refuses us \(blocked\)", {"fault": "451"}, CUT, shown="kraken"),
    case("503", "HTTP 503", {"fault": "503"}, CUT, shown="kraken"),
    case("no ack", '"frames":', {"fault": "no_ack"}, CUT),
    case("wrong ack", '"frames":', {"fault": "wrong_ack"}, CUT),
    case("ignored", '"subscribed":0', {"fault": "ignore"}, CUT),
    case("delay", '"frames":', {"fault": "delay", "value": 300} | WS),
    case("repeat", '"frames":', {"fault": "repeat", "value": 2} | WS),
    case("reorder", '"frames":', {"fault": "reorder", "value": 3} | WS),
    case("gap", '"frames":', {"fault": "gap", "value": 5} | WS),
    case("clock", "in the future", {"fault": "clock", "value": 3_600_000}),
]
QUICK = ("cut", "garbage")


def often(settings: Settings) -> Settings:
    """Return settings under which Coinbase is read by REST each second, too."""
    settings = hurried(settings)
    coinbase = replace(settings.exchanges["coinbase"], snapshot_ms=600)
    return replace(settings, exchanges={**settings.exchanges, "coinbase": coinbase})


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """Run a worker until it shows Coinbase's prices."""
    async with rigged(often) as rig, working(rig):
        await rig.shows("coinbase")
        await rig.says('"kraken":.*"alive":true')
        yield rig


async def suffer(rig: Rig, one: Case) -> None:
    """Let it happen, see what is said and shown, and end it."""
    for fault in one.faults:
        rig.simulator.fault("coinbase", **fault)
    await rig.says(one.words)
    await rig.shows(one.shown)
    await rig.moves()


async def recover(rig: Rig) -> None:
    """End every fault, and see the first source again."""
    rig.simulator.clear_faults()
    await rig.shows("coinbase", within_s=AGAIN_S)
    await rig.moves(within_s=AGAIN_S)


def judge(rig: Rig) -> None:
    """Insist that no limit was passed, and that nothing went backwards."""
    assert rig.breaches() == {}
    assert rig.wrong == []


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    "one", [one for one in CASES if one.name in QUICK], ids=lambda one: one.name
)
async def test_a_fault_is_said_survived_and_over_soon(rig: Rig, one: Case) -> None:
    """The two that cost a test no patience, each time."""
    await suffer(rig, one)
    await recover(rig)
    judge(rig)


@pytest.mark.faults
@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    "one", [one for one in CASES if one.name not in QUICK], ids=lambda one: one.name
)
async def test_every_other_fault_is_survived_as_well(rig: Rig, one: Case) -> None:
    """One by one."""
    await suffer(rig, one)
    await recover(rig)
    judge(rig)


@pytest.mark.faults
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(6))
async def test_faults_in_pairs_end_as_well(rig: Rig, seed: int) -> None:
    """Whatever is shown meanwhile: prices flow, and afterwards as before."""
    first, second = random.Random(seed).sample(CASES, 2)
    for fault in (*first.faults, *second.faults):
        rig.simulator.fault("coinbase", **fault)
    await rig.moves(within_s=20)
    await recover(rig)
    judge(rig)
