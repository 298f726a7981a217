"""``relay doctor``: what it sees of healthy and of broken exchanges, stores, edges."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from relay.cli.finding import Finding
from relay.simulator.server import Simulator
from tests.edge.edges import running
from tests.simulation.processes import relay

Findings = dict[tuple[str, str], Finding]

EXCHANGES = ("binance", "coinbase", "coincap", "coingecko", "kraken")


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Run the simulator."""
    async with Simulator() as running:
        yield running


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
    for name in ("binance", "coinbase", "kraken"):
        assert " at " in found[name, "stream"].saw
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
        ("coincap", "symbols"),
    }
    assert "refuses us (blocked)" in wrong["binance", "symbols"].saw
    assert "another region" in wrong["binance", "symbols"].advice
    assert "frames in 2 s" in wrong["coinbase", "stream"].saw
    assert "cannot be read" in wrong["kraken", "symbols"].saw
    assert "wait 77 s" in wrong["coincap", "symbols"].advice
    assert found["coingecko", "snapshot"].verdict == "ok"


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
    status, found = await examine(
        "--sim-url",
        simulator.url,
        *("--edge", "http://127.0.0.1:9"),
        RELAY_KRAKEN_REST_URL="https://no-such-host.invalid",
    )
    assert status == 1
    assert "name cannot be resolved" in found["kraken", "resolve"].saw
    assert "DNS" in found["kraken", "resolve"].advice
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
