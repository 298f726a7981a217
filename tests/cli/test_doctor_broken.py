"""``relay doctor`` before exchanges that are broken in each of the ways there are."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import Struct

from relay.cli.finding import Finding
from relay.simulator.server import Simulator
from tests.cli.test_doctor import EXCHANGES, addresses, examine

# What each exchange says when it lists nothing.
NOTHING = {
    "binance": '{"symbols":[]}',
    "coinbase": '{"products":[],"num_products":0}',
    "coincap": '{"data":[],"timestamp":1}',
    "coingecko": "[]",
    "kraken": '{"error":[],"result":{}}',
}


class Way(Struct, frozen=True):
    """One way to be broken: how it is brought about, what is seen, what is advised.

    ``hurt`` returns the variables that it takes.
    """

    name: str
    hurt: Callable[[Simulator, str], dict[str, str]]
    saw: str
    advice: str


def _fault(fault: str, **details: object) -> Callable[[Simulator, str], dict[str, str]]:
    def hurt(simulator: Simulator, name: str) -> dict[str, str]:
        simulator.fault(name, fault, **details)
        return {}

    return hurt


def _empty(simulator: Simulator, name: str) -> dict[str, str]:
    simulator.fault(name, "garbage", transport="rest", value=NOTHING[name])
    return {}


def _tls(simulator: Simulator, name: str) -> dict[str, str]:
    variable = f"RELAY_{name.upper()}_REST_URL"
    return {variable: simulator.url.replace("http:", "https:")}


WAYS = (
    Way("unreachable", _fault("refuse"), "connection broke off", "firewall"),
    Way("TLS", _tls, "TLS failed", "does not speak TLS"),
    Way("auth", _fault("401"), "refuses us (key)", ""),
    Way("empty", _empty, "empty", "lists nothing"),
    Way("blocked", _fault("451"), "refuses us (blocked)", "address"),
    Way(
        "slow",
        _fault("delay", transport="rest", value=5_000),
        "timed out after 1.5 s",
        "request_timeout_ms",
    ),
)


def broken(simulator: Simulator, turn: int) -> tuple[dict[str, Way], dict[str, str]]:
    """Break each exchange in another way; return how, and the variables it takes."""
    ways = {
        name: WAYS[(place + turn) % len(WAYS)] for place, name in enumerate(EXCHANGES)
    }
    environ = addresses(simulator)
    for name, way in ways.items():
        environ |= way.hurt(simulator, name)
    return ways, environ


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Return settings with little patience."""
    file = tmp_path / "hasty.toml"
    file.write_text("[ingest]\nrequest_timeout_ms = 1500\n")
    return str(file)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "turn",
    [0, *(pytest.param(n, marks=pytest.mark.faults) for n in range(1, len(WAYS)))],
)
async def test_each_way_to_be_broken_is_told_apart(turn: int, config: str) -> None:
    """In as many turns as there are ways, each exchange is broken in each of them."""
    async with Simulator() as simulator:
        ways, environ = broken(simulator, turn)
        status, found = await examine("--wait", "2", "--config", config, **environ)
    assert status == 1
    wrong = [one for one in found.values() if one.verdict == "wrong"]
    assert {one.subject for one in wrong} == ways.keys()
    for name, way in ways.items():
        _judge([one for one in wrong if one.subject == name], way)


def _judge(wrong: list[Finding], way: Way) -> None:
    # Whichever way was tried first; what the exchange refuses is then asked no more.
    one = next((one for one in wrong if way.saw in one.saw), wrong[0])
    assert one.check in {"symbols", "stream"}, wrong
    assert way.saw in one.saw, wrong
    assert way.advice in one.advice, one
    for each in wrong:
        assert each.advice, each
        assert each.advice not in each.saw, "each is said once"


@pytest.mark.timeout(60)
async def test_the_table_fits_a_terminal_of_80_columns(config: str) -> None:
    """For each failure what was seen, and below it what to try."""
    async with Simulator() as simulator:
        _, environ = broken(simulator, 2)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "relay", "doctor", "--wait", "2", "--config", config),
            env={"PATH": "/usr/bin:/bin", "COLUMNS": "80", **environ},
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
    assert process.returncode == 1
    lines = said.decode().splitlines()
    assert max(map(len, lines)) <= 80
    wrong = sum(line.startswith("wrong ") for line in lines)
    assert wrong >= len(EXCHANGES)
    assert f" {wrong} wrong" in lines[-1]
    assert sum(line.lstrip().startswith("→ ") for line in lines) == wrong
