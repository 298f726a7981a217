"""A crowd that polls behind a real edge costs the instances one request a step."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from msgspec import Struct
from msgspec.structs import replace

from relay.store.client import Client
from relay.store.keys import Keys
from tests.edge.crowd import Verdict, crowd
from tests.edge.edges import NAMES as EDGES
from tests.edge.edges import program, running
from tests.edge.pollers import Plan
from tests.edge.stage import NAMES, Stage, stage

# nginx lets every so many-th client that waits for one answer through.
NGINX_LEAK = 1024


class Run(Struct, frozen=True):
    """How many clients of which selections, for how many grid steps."""

    count: int
    steps: int
    settle: int
    selections: Sequence[str] = (",".join(NAMES[:10]),)
    more: str = ""
    late: float = 0.0
    way: str = "cursor"
    every_ms: int = 50

    def plan(self, url: str, noted: Path) -> Plan:
        """Return what the clients are told."""
        host, _, port = urlsplit(url).netloc.partition(":")
        return Plan(
            host=host,
            port=int(port),
            count=self.count,
            selections=list(self.selections),
            noted=str(noted),
            more=self.more,
            late=self.late,
            way=self.way,
        )


SHORT = Run(count=300, steps=3, settle=2)
FULL = Run(count=2000, steps=50, settle=10)
LATE = Run(count=2000, steps=20, settle=10, late=0.1)
# What a step may cost where a tenth of the clients has been away.
LATE_COST = {
    # Up to five cuts old, each a question of its own.
    "cursor": 5.25,
    # One question for all of them, answered anew at each mark.
    "fresh": 2.1,
    # The read itself, and a cursor between two cuts is a question of its own as well.
    "read": 4.2,
}
TWENTY = tuple(",".join(NAMES[start : start + 10]) for start in range(20))


class Cost(Struct, frozen=True):
    """What a crowd cost, in requests of the instances for each step, and saw."""

    requests: float
    seen: Verdict


@pytest.fixture(params=EDGES)
def edge(request: pytest.FixtureRequest) -> str:
    """Return one edge's name, where it is installed."""
    name = str(request.param)
    program("varnishd" if name == "varnish" else name)
    return name


async def cost(behind: Stage, edge: str, home: Path, run: Run) -> Cost:
    """Let a crowd poll through an edge, and say what it cost."""
    publishing = behind.publishing
    async with (
        running(edge, behind.urls, home) as url,
        crowd(run.plan(url, home / "noted")) as clients,
    ):
        from_ms = await publishing.half_past(run.settle)
        before = await behind.answered("/v1/poll", "/v1/prices")
        to_ms = await publishing.half_past(run.steps)
        after = await behind.answered("/v1/poll", "/v1/prices")
        noted = await clients.leave()
    assert noted.wrong == []
    assert len(noted.answers) == run.count
    late = int(run.late * run.count)
    seen = noted.judge(publishing.marks, from_ms=from_ms, to_ms=to_ms, late=late)
    found = Cost((after - before) / run.steps, seen)
    print(edge, run.count, len(run.selections), run.way, found)  # noqa: T201 - with -s
    return found


def allowed(edge: str, run: Run) -> float:
    """Return how many requests a step may cost."""
    waiters = run.count / len(run.selections)
    leak = waiters / NGINX_LEAK if edge == "nginx" else 0
    return (1.05 + leak) * len(run.selections)


@pytest.mark.timeout(60)
async def test_a_crowd_costs_one_request_a_step(
    client: Client, keys: Keys, valkey_url: str, edge: str, tmp_path: Path
) -> None:
    """Whatever instance it reaches, and nobody is behind, goes back, or spins."""
    async with stage(client, keys, valkey_url) as behind:
        found = await cost(behind, edge, tmp_path, SHORT)
    # So few steps are counted that one at their border is more than the share.
    assert found.requests <= allowed(edge, SHORT) + 1 / SHORT.steps
    _assert_well_served(found.seen)


@pytest.mark.edge
@pytest.mark.timeout(150)
async def test_two_thousand_cost_one_request_a_step_for_a_minute(
    client: Client, keys: Keys, valkey_url: str, edge: str, tmp_path: Path
) -> None:
    """The goal, as it stands."""
    async with stage(client, keys, valkey_url) as behind:
        found = await cost(behind, edge, tmp_path, FULL)
    assert found.requests <= allowed(edge, FULL)
    _assert_well_served(found.seen)


@pytest.mark.edge
@pytest.mark.timeout(90)
async def test_twenty_selections_cost_twenty_times_one(
    client: Client, keys: Keys, valkey_url: str, edge: str, tmp_path: Path
) -> None:
    """Each is a question of its own, and no more than that."""
    run = Run(count=2000, steps=20, settle=10, selections=TWENTY)
    async with stage(client, keys, valkey_url) as behind:
        found = await cost(behind, edge, tmp_path, run)
    assert found.requests <= allowed(edge, run)
    _assert_well_served(found.seen)


@pytest.mark.edge
@pytest.mark.timeout(90)
@pytest.mark.parametrize("way", list(LATE_COST))
async def test_who_comes_back_late_asks_best_without_a_cursor(
    client: Client, keys: Keys, valkey_url: str, tmp_path: Path, way: str
) -> None:
    """A tenth stays away for 1 to 4 s; what that costs depends on what they ask."""
    program("varnishd")
    async with stage(client, keys, valkey_url) as behind:
        found = await cost(behind, "varnish", tmp_path, replace(LATE, way=way))
    assert found.requests <= LATE_COST[way]
    _assert_well_served(found.seen)


@pytest.mark.edge
@pytest.mark.timeout(90)
async def test_nobody_spins_while_prices_stand_still(
    client: Client, keys: Keys, valkey_url: str, edge: str, tmp_path: Path
) -> None:
    """A change each 7 s, holds of 5 s: an answer each few seconds and no more."""
    run = Run(count=2000, steps=28, settle=7, more="&wait=5s", every_ms=7000)
    async with stage(client, keys, valkey_url, every_ms=run.every_ms) as behind:
        found = await cost(behind, edge, tmp_path, run)
    assert found.requests <= allowed(edge, run) / 2
    assert found.seen.answers <= run.count * run.steps / 2
    _assert_well_served(found.seen)


def _assert_well_served(seen: Verdict) -> None:
    assert seen.behind <= 1
    assert seen.backward == 0
    assert seen.busiest <= 2
