"""What a command says and does before it has begun: real processes."""

import asyncio
import signal
import socket

import httpx
import pytest

from relay.simulator.server import Simulator
from relay.store.embedded import embedded
from tests.cli.commands import relay as relay_to_its_end
from tests.harness import until
from tests.simulation.processes import relay


@pytest.fixture
def free() -> int:
    """Return a port of nobody's."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
    return port


def test_a_misspelt_variable_is_named_with_the_one_it_is_like() -> None:
    """It would be ignored without a word, and the default be in force."""
    shown = relay_to_its_end("check-config", RELAY_VALKEY_ULR="valkey://x")
    assert shown.returncode == 0
    assert shown.stderr == (
        "relay: RELAY_VALKEY_ULR sets nothing: did you mean RELAY_VALKEY_URL?\n"
    )


def test_variables_that_set_something_are_not_named() -> None:
    """Nor those that Kubernetes sets for a service that is called relay."""
    shown = relay_to_its_end(
        "check-config", RELAY_BOARD="spot", RELAY_PORT_80_TCP="tcp://10.0.0.1:80"
    )
    assert (shown.returncode, shown.stderr) == (0, "")


@pytest.mark.parametrize("command", ["up", "sim"])
def test_a_port_in_use_is_named_with_one_reason(command: str) -> None:
    """The event loop's own sentence says it all again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        failed = relay_to_its_end(command, "--port", port)
    assert failed.returncode == 2
    assert failed.stderr.count("in use") == 1
    assert failed.stderr.count(port) == 1


@pytest.mark.timeout(60)
async def test_both_halves_wait_for_a_store_that_is_not_there_yet(free: int) -> None:
    """They would survive losing it a second later; until it comes nothing is ready."""
    url = f"valkey://127.0.0.1:{free}"
    async with (
        Simulator() as simulator,
        relay("worker", "--sim-url", simulator.url, RELAY_VALKEY_URL=url) as worker,
        relay("serve", "--port", "0", RELAY_VALKEY_URL=url) as server,
        httpx.AsyncClient() as client,
    ):
        at = (await server.says(r"relay at (http://\S+)", within_s=30))[1]
        for process in (worker, server):
            await process.says(rf"store at {url} cannot be reached", within_s=30)
            await process.says("trying again")
        assert (await client.get(f"{at}/healthz")).status_code == 200
        for path in ("/readyz", "/v1/prices"):
            assert (await client.get(f"{at}{path}")).status_code == 503

        async def is_ready() -> bool:
            return (await client.get(f"{at}/readyz")).status_code == 200

        async with embedded(arguments=("--port", str(free))):
            await worker.says("leading with token")
            await until(is_ready)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("command", ["serve", "worker"])
async def test_whoever_waits_for_a_store_is_ended_at_once(
    command: str, free: int
) -> None:
    """By the signal that every platform sends."""
    arguments = ["--port", "0"] if command == "serve" else []
    url = f"valkey://127.0.0.1:{free}"
    async with relay(command, *arguments, RELAY_VALKEY_URL=url) as process:
        await process.says("trying again")
        process.send(signal.SIGTERM)
        assert await process.ended(within_s=3) == 0


@pytest.mark.timeout(60)
@pytest.mark.parametrize("after_ms", [200, 350, 500, 650])
async def test_ctrl_c_before_anything_has_begun_aborts_nothing(after_ms: int) -> None:
    """Wherever in its imports it is: there is nothing to abort, and nobody to tell."""
    async with relay("up", "--sim", "--port", "0") as process:
        # Not for an effect: another moment each time.
        await asyncio.sleep(after_ms / 1000)
        process.send(signal.SIGINT)
        await process.ended(within_s=15)
        assert not any("Abort" in line for line in process.said)
