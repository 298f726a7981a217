"""``relay sim``: the exchange simulator alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import rich_click as click

from relay.cli.run import console, run
from relay.errors import ConfigError, plain_reason
from relay.simulator.server import Simulator
from relay.simulator.settings import Settings


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Listen here.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=9400,
    show_default=True,
    help="Listen on this port.",
)
@click.option("--seed", default=1, show_default=True, help="What chance draws from.")
@click.option(
    "--instruments",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Symbols on Binance at least; 0 for the table as it stands.",
)
@click.option(
    "--rate",
    type=click.IntRange(min=0),
    default=500,
    show_default=True,
    help="Price changes a second, in all.",
)
def sim(host: str, port: int, seed: int, instruments: int, rate: int) -> None:
    """Run the exchange simulator: every exchange's REST and WebSocket on one port.

    It counts what each client did, and shows it on its own page.

    Example: `relay sim --port 9400`, then `relay worker --sim-url http://127.0.0.1:9400`
    """
    settings = Settings(seed=seed, instruments=instruments, updates_per_second=rate)
    run(lambda stop: _simulate(Simulator(settings, host, port), port, stop))


async def _simulate(simulator: Simulator, port: int, stop: asyncio.Event) -> None:
    async with opened(simulator, port):
        console.print(
            f"simulator at {simulator.url}  (its page: {simulator.url}/_sim/)"
        )
        await stop.wait()


@asynccontextmanager
async def opened(simulator: Simulator, port: int) -> AsyncIterator[Simulator]:
    """Run a simulator while the context lasts.

    Raises:
        ConfigError: something else has the port.
    """
    try:
        await simulator.start()
    except OSError as error:
        expected = f"a free port ({plain_reason(error)})"
        raise ConfigError("command line", "--port", port, expected) from error
    try:
        yield simulator
    finally:
        await simulator.stop()
