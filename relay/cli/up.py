"""``relay up``: everything on this machine, in one process."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import rich_click as click
from msgspec.structs import replace

from relay.cli.run import (
    log_to_stderr,
    option_config,
    option_sim_url,
    read_settings,
    run,
    say,
    sentences,
)
from relay.cli.serve import listening, serve_until
from relay.cli.sim import opened
from relay.clock import Clock
from relay.config import Http, Settings, load
from relay.delivery.server import listen_at
from relay.ingest.worker import open_worker
from relay.simulator.server import Simulator
from relay.store.client import address, connect
from relay.store.embedded import embedded


@click.command()
@click.option("--sim", is_flag=True, help="Read from a simulator, not the internet.")
@click.option("--host", help="Listen here, instead of at http.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="… and at this port.")
@option_config
@option_sim_url
def up(
    sim: bool,  # noqa: FBT001 - the library hands flags over like this
    host: str | None,
    port: int | None,
    file: str | None,
    sim_url: str,
) -> None:
    """Run everything on this machine: Valkey, ingestion, HTTP and the page.

    Starts a Valkey of its own, unless RELAY_VALKEY_URL names one. Ctrl-C ends it all.

    Example: `relay up --sim`, then open http://127.0.0.1:8000
    """

    def settings(simulated: str) -> Settings:
        """Read them once more when the simulator's address is known."""
        loaded = read_settings(file, simulated or sim_url)
        return listening(loaded.settings, host, port)

    with sentences():
        path = Path(file) if file else None
        # What a simulator changes is told when all is read.
        http = listening(load(path, sim_url=sim_url).settings, host, port).http
    log_to_stderr()
    run(lambda stop: _up(settings, http, stop, sim=sim))


async def _up(
    read: Callable[[str], Settings], http: Http, stop: asyncio.Event, *, sim: bool
) -> None:
    async with AsyncExitStack() as stack:
        # First of all, since a port that is taken is the commonest mistake.
        socket = stack.enter_context(await listen_at(http.host, http.port))
        simulated = ""
        if sim:
            simulator = await stack.enter_async_context(opened(Simulator(), 0))
            simulated = simulator.url
            say(f"simulator at {simulated}  (its page: {simulated}/_sim/)")
        settings = read(simulated)
        url = settings.store.url or await stack.enter_async_context(embedded())
        settings = replace(settings, store=replace(settings.store, url=url))
        say(f"store at {address(url)}")
        clock = Clock()
        client = await stack.enter_async_context(connect(settings.store, clock))
        worker = await stack.enter_async_context(open_worker(settings, clock, client))
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(worker.run())
            await serve_until(stop, settings, clock, client, sockets=[socket])
            working.cancel()
