"""``relay doctor``: what it sees of healthy and of broken exchanges, stores, edges."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from relay.cli.finding import Finding, advise
from relay.cli.modest import Modest
from relay.clock import Clock
from relay.config import Limit, load
from relay.errors import ExchangeDown
from relay.ingest.budget import Priority, Reservation, Wait
from relay.ingest.purse import Purse, Terms
from relay.simulator.server import Simulator
from relay.store.client import Client, connect
from relay.store.embedded import embedded
from relay.store.tables import Tables
from tests.edge.edges import running
from tests.harness import until
from tests.simulation.processes import relay

Findings = dict[tuple[str, str], Finding]

STREAMS = ("binance", "coinbase", "kraken")
EXCHANGES = ("binance", "coinbase", "coincap", "coingecko", "kraken")


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Run the simulator."""
    async with Simulator() as running:
        yield running


def addresses(simulator: Simulator) -> dict[str, str]:
    """Return each exchange's own address, as variables: each may then be another."""
    environ = {"RELAY_COINCAP_KEY": "simulated", "RELAY_EGRESS": "simulated"}
    for name in EXCHANGES:
        environ[f"RELAY_{name.upper()}_REST_URL"] = simulator.url
        if name in STREAMS:
            url = simulator.url.replace("http:", "ws:")
            environ[f"RELAY_{name.upper()}_WS_URL"] = url
    return environ


async def examine(*arguments: str, **environ: str) -> tuple[int, Findings]:
    """Run the command; return its exit status, and what it found by subject."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "relay", "doctor", "--json", *arguments),
        env={"PATH": "/usr/bin:/bin", **environ},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    found = msgspec.json.decode(said, type=list[Finding])
    assert process.returncode is not None
    return process.returncode, {(one.subject, one.check): one for one in found}


@pytest.mark.timeout(60)
async def test_everything_that_works_is_seen_to_work(simulator: Simulator) -> None:
    """A price was really received over each way, within every limit."""
    status, found = await examine("--sim-url", simulator.url)
    assert status == 0, found
    assert not [one for one in found.values() if one.verdict == "wrong"]
    for name in EXCHANGES:
        assert " at " in found[name, "snapshot"].saw
    for name in STREAMS:
        assert " at " in found[name, "stream"].saw
        assert " of " in found[name, "budget"].saw
    assert "used by its own count" in found["binance", "usage"].saw
    assert found["store", "scripts"].verdict == "ok"
    assert found["coinbase-exchange", "off"].verdict == "note"
    counts = simulator.counts().exchanges.values()
    assert sum(one.total.breaches_total for one in counts) == 0
    assert sum(one.total.connections.open for one in counts) == 0


@pytest.mark.timeout(60)
async def test_what_is_broken_is_named_with_what_to_do(simulator: Simulator) -> None:
    """Each failure at its own check, and the healthy neighbour untouched."""
    simulator.fault("binance", "451")
    simulator.fault("coinbase", "silence", transport="ws")
    simulator.fault("kraken", "garbage", transport="rest")
    simulator.fault("coincap", "429", retry_after_s=77)
    status, found = await examine("--sim-url", simulator.url, "--wait", "2")
    assert status == 1
    wrong = {key: one for key, one in found.items() if one.verdict == "wrong"}
    assert set(wrong) == {
        ("binance", "symbols"),
        ("coinbase", "stream"),
        ("kraken", "symbols"),
        ("kraken", "snapshot"),
        ("coincap", "symbols"),
    }
    assert "refuses us (blocked)" in wrong["binance", "symbols"].saw
    assert "another region" in wrong["binance", "symbols"].advice
    assert "frames in 2 s" in wrong["coinbase", "stream"].saw
    assert "cannot be read" in wrong["kraken", "symbols"].saw
    assert "wait 77 s" in wrong["coincap", "symbols"].advice
    assert found["coingecko", "snapshot"].verdict == "ok"
    for name, check in (
        ("coinbase", "snapshot"),
        ("kraken", "stream"),
    ):
        assert found[name, check].verdict == "ok", "it does not need what failed"
    for name, check in (
        ("binance", "snapshot"),
        ("binance", "stream"),
        ("coincap", "snapshot"),
    ):
        assert found[name, check].verdict == "held", "there is nothing to ask for"


@pytest.mark.timeout(60)
async def test_a_stream_is_checked_though_rest_refuses(simulator: Simulator) -> None:
    """One way's refusal is one failure: the other way may be all that is needed."""
    simulator.fault("coinbase", "429", transport="rest", retry_after_s=77)
    status, found = await examine("--sim-url", simulator.url)
    assert status == 1
    assert [key for key, one in found.items() if one.verdict == "wrong"] == [
        ("coinbase", "symbols")
    ]
    assert "somebody else reads" in found["coinbase", "symbols"].advice
    assert found["coinbase", "stream"].verdict == "ok"
    assert "BTC-USD at " in found["coinbase", "stream"].saw
    assert found["coinbase", "snapshot"].verdict == "held"
    assert "left alone until" in found["coinbase", "snapshot"].saw
    assert found["coinbase", "budget"].saw.startswith("weight ")


@pytest.mark.timeout(60)
async def test_a_deployment_that_spends_its_budget_is_healthy(
    simulator: Simulator,
) -> None:
    """Twice beside a worker: what it needs is left to it, and what it read is told."""
    async with (
        embedded() as url,
        relay("worker", "--sim-url", simulator.url, RELAY_VALKEY_URL=url) as worker,
    ):
        await worker.says("coinbase: streaming")
        await read_by_the_leader(url, "coingecko")
        arguments = ("--sim-url", simulator.url)
        first, _ = await examine(*arguments, RELAY_VALKEY_URL=url)
        again, found = await examine(*arguments, RELAY_VALKEY_URL=url)
    assert (first, again) == (0, 0), found
    for check in ("symbols", "snapshot"):
        held = found["coingecko", check]
        assert held.verdict == "held"
        assert "not asked: this deployment's budget (weight) spares nothing" in held.saw
        assert "the leader read it 0:" in held.saw
    assert "instruments" in found["coingecko", "symbols"].saw
    counts = simulator.counts().exchanges.values()
    assert sum(one.total.breaches_total for one in counts) == 0


async def read_by_the_leader(url: str, exchange: str) -> None:
    """Wait until the prices of an exchange have been read."""
    clock = Clock()
    settings = replace(load(environ={}).settings.store, url=url)
    async with connect(settings, clock) as client:

        async def is_read() -> bool:
            return bool((await Tables(client).load(exchange)).snapshot_ms)

        await until(is_read)


@pytest.mark.timeout(60)
async def test_only_the_spare_of_a_budget_is_spent(client: Client) -> None:
    """What is asked for as the most urgent thing is granted as the least."""
    limit = Limit(
        name="weight", weight_max=10, window_ms=60_000, kind="fixed", scope="address"
    )
    terms = Terms([limit], {"address": "address:modest"}, 1_000)
    leader = Purse("modest", terms, client, client.clock)
    modest = Modest("modest", terms, client, client.clock)
    cost = [("weight", 1)]
    # A book that nobody knew is spent but for a little, for one window.
    unseen = await leader.reserve(cost, priority=Priority.KEEP)
    assert isinstance(unseen, Reservation)
    assert isinstance(await leader.reserve(cost, priority=Priority.KEEP), Reservation)
    outcome = await modest.reserve(cost, priority=Priority.KEEP)
    assert isinstance(outcome, Wait)
    assert modest.held == outcome


async def test_a_lost_book_is_not_emptied_beside_a_leader(client: Client) -> None:
    """Its spare is for whoever comes first: several checkups would leave nothing."""
    limit = Limit(
        name="weight", weight_max=1_000, window_ms=60_000, kind="fixed", scope="address"
    )
    terms = Terms([limit], {"address": "address:shy"}, 1_000)
    leader = Purse("shy", terms, client, client.clock)
    shy = Modest("shy", terms, client, client.clock)
    shy.shy = True
    granted = await shy.reserve([("weight", 20)], priority=Priority.KEEP)
    assert isinstance(granted, Reservation), "50 are there"
    refused = await shy.reserve([("weight", 10)], priority=Priority.KEEP)
    assert isinstance(refused, Wait)
    assert refused.until_ms > client.clock.wall_ms()
    needed = await leader.reserve([("weight", 30)], priority=Priority.KEEP)
    assert isinstance(needed, Reservation), "what was refused is not spent"


@pytest.mark.timeout(60)
async def test_an_interruption_is_not_taken_for_health(simulator: Simulator) -> None:
    """What was not checked is named, for people and for programs."""
    simulator.fault("coinbase", "silence", transport="ws")
    arguments = ("doctor", "--json", "--wait", "40", "--sim-url", simulator.url)
    async with relay(*arguments) as process:

        async def waits() -> bool:
            one = simulator.counts().exchanges["coinbase"].total.connections
            return one.open > 0

        await until(waits)
        process.send(signal.SIGINT)
        assert await process.ended(within_s=15) == 130
    (said,) = [line for line in process.said if line.startswith("[")]
    found = msgspec.json.decode(said, type=list[Finding])
    interrupted = {one.subject for one in found if one.check == "interrupted"}
    assert "coinbase" in interrupted
    assert {one.verdict for one in found if one.check == "interrupted"} == {"held"}


@pytest.mark.parametrize("streams", [True, False])
def test_advice_names_only_addresses_that_there_are(streams: bool) -> None:  # noqa: FBT001 - pytest's parameter
    """Whoever has no stream has no variable for its address."""
    for cause in ("the name cannot be resolved", "empty", "TLS failed", "not JSON"):
        advice = advise("coincap", ExchangeDown("coincap", cause), streams=streams)
        assert "RELAY_COINCAP_REST_URL" in advice
        assert ("RELAY_COINCAP_WS_URL" in advice) is streams


@pytest.mark.timeout(60)
async def test_a_store_that_is_away_is_the_first_thing_said(
    simulator: Simulator,
) -> None:
    """Without it nothing may be spent, so no exchange is asked."""
    status, found = await examine(
        "--sim-url", simulator.url, RELAY_VALKEY_URL="valkey://127.0.0.1:9"
    )
    assert status == 1
    assert set(found) == {("store", "reach")}
    assert "RELAY_VALKEY_URL" in found["store", "reach"].advice
    counts = simulator.counts().exchanges.values()
    assert sum(one.total.requests.total for one in counts) == 0


@pytest.mark.faults
@pytest.mark.timeout(60)
async def test_a_wrong_address_is_said_so(simulator: Simulator) -> None:
    """The commonest mistake of all is a name; what is right stands beside it."""
    environ = addresses(simulator)
    environ["RELAY_KRAKEN_REST_URL"] = "https://no-such-host.invalid"
    status, found = await examine("--edge", "http://127.0.0.1:9", **environ)
    assert status == 1
    assert "name cannot be resolved" in found["kraken", "resolve"].saw
    assert "DNS" in found["kraken", "resolve"].advice
    assert found["kraken", "stream"].verdict == "ok"
    assert ("kraken", "symbols") not in found
    assert "connection refused" in found["edge", "reach"].saw
    assert found["binance", "snapshot"].verdict == "ok"


@pytest.mark.edge
@pytest.mark.timeout(60)
async def test_an_edge_is_used_as_clients_use_it() -> None:
    """Conditions, held polls and an unheld stream, over a relay that runs."""
    async with relay("up", "--sim", "--port", "0") as up:
        url = (await up.says(r"relay at (\S+)"))[1]
        simulated = (await up.says(r"simulator at (\S+)"))[1]
        await up.says("binance: streaming")
        await up.says("coinbase: streaming")
        status, found = await examine("--sim-url", simulated, "--edge", url)
    assert status == 0, found
    for check in ("prices", "conditional", "stream"):
        assert found["edge", check].verdict == "ok"
    assert "10 alike, 10 answered" in found["edge", "polls"].saw
    assert "no edge collapses them" in found["edge", "polls"].advice


@pytest.mark.edge
@pytest.mark.timeout(90)
@pytest.mark.parametrize("name", ["varnish", "nginx"])
async def test_a_shipped_edge_is_seen_to_collapse(name: str, tmp_path: Path) -> None:
    """Of ten that poll alike, one reaches the origin; the stream comes unheld."""
    async with relay("up", "--sim", "--port", "0") as up:
        url = (await up.says(r"relay at (\S+)"))[1]
        simulated = (await up.says(r"simulator at (\S+)"))[1]
        await up.says("binance: streaming")
        await up.says("coinbase: streaming")
        async with running(name, [url, url], tmp_path) as edge:
            status, found = await examine("--sim-url", simulated, "--edge", edge)
    assert status == 0, found
    checks = ("prices", "conditional", "stream", "polls")
    assert {check: found["edge", check].verdict for check in checks} == dict.fromkeys(
        checks, "ok"
    )
    assert "10 alike, 10 answered, 1 held" in found["edge", "polls"].saw
