"""What a command says and does before it has begun: real processes."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
async def test_a_simulator_is_all_that_is_read_whatever_the_environment_says() -> None:
    """Nobody who tries it out wants a real exchange asked; what is void is named."""
    async with (
        socket_that_counts() as (asked, at),
        relay(
            *("up", "--sim", "--port", "0"),
            RELAY_KRAKEN_REST_URL=f"http://{at}",
            RELAY_KRAKEN_WS_URL=f"ws://{at}",
        ) as process,
    ):
        await process.says("kraken: streaming")
        named = [line for line in process.said if "these set nothing" in line]
    assert len(named) == 1
    assert named[0].endswith("RELAY_KRAKEN_REST_URL, RELAY_KRAKEN_WS_URL")
    assert not asked


@asynccontextmanager
async def socket_that_counts() -> AsyncIterator[tuple[list[object], str]]:
    """Listen, and note who comes."""
    asked: list[object] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        asked.append(writer.get_extra_info("peername"))
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield asked, f"{host}:{port}"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("command", ["serve", "up"])
async def test_the_port_of_the_environment_is_listened_to(
    command: str, free: int
) -> None:
    """As every platform does it; the command line wins."""
    arguments = ["--sim"] if command == "up" else []
    environ = {"PORT": str(free), "RELAY_VALKEY_URL": "valkey://127.0.0.1:9"}
    if command == "up":
        del environ["RELAY_VALKEY_URL"]
    async with relay(command, *arguments, **environ) as process:
        assert (await process.says(r"relay at \S+:(\d+)"))[1] == str(free)
    async with relay(command, *arguments, "--port", "0", **environ) as process:
        assert (await process.says(r"relay at \S+:(\d+)"))[1] != str(free)


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
