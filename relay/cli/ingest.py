"""``relay worker`` and ``relay tick``: ingestion that stays, or one bounded run."""

import asyncio

import rich_click as click

from relay.cli.run import (
    console,
    log_to_stderr,
    option_config,
    option_sim_url,
    patience,
    read_settings,
    run,
    sentences,
    until_stopped,
)
from relay.clock import Clock
from relay.config import Settings, require_store
from relay.ingest.worker import open_worker
from relay.store.client import connect, hold


@click.command()
@option_config
@option_sim_url
def worker(file: str | None, sim_url: str) -> None:
    """Read the exchanges into the store at RELAY_VALKEY_URL, and go on for ever.

    Of several workers one leads; the others take over when it is gone.

    Example: `RELAY_VALKEY_URL=valkey://127.0.0.1:6379 relay worker`
    """
    settings = _settings(file, sim_url)
    run(lambda stop: _work(settings, stop))


@click.command()
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=55,
    show_default=True,
    help="How long this run lasts at most.",
)
@option_config
@option_sim_url
def tick(seconds: float, file: str | None, sim_url: str) -> None:
    """Ingest once, for a bounded time, as a scheduled function does.

    Takes the lease, or leaves at once when somebody else has it.

    Example: `RELAY_VALKEY_URL=valkey://127.0.0.1:6379 relay tick --seconds 55`
    """
    settings = _settings(file, sim_url)
    run(lambda stop: _tick(settings, seconds, stop))


def _settings(file: str | None, sim_url: str) -> Settings:
    with sentences():
        settings = read_settings(file, sim_url).settings
        require_store(settings)
    log_to_stderr()
    return settings


async def _work(settings: Settings, stop: asyncio.Event) -> None:
    clock = Clock()

    async def work() -> None:
        # A worker outlives its store; so it may be there before it as well.
        await client.reach(patience(settings, clock))
        await ingesting.run()

    async with (
        hold(settings.store, clock) as client,
        open_worker(settings, clock, client) as ingesting,
    ):
        await until_stopped(stop, work())


async def _tick(settings: Settings, seconds: float, stop: asyncio.Event) -> None:
    clock = Clock()
    async with (
        connect(settings.store, clock) as client,
        open_worker(settings, clock, client) as ingesting,
    ):

        async def once() -> None:
            led = await ingesting.tick(seconds)
            said = "done" if led else "somebody else leads: nothing to do"
            console.print(said)

        await until_stopped(stop, once())
