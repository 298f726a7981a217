"""``relay serve``: HTTP over a store; as many of them as you like."""

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path

import rich_click as click
from msgspec.structs import replace

from relay.cli.run import (
    log_to_stderr,
    option_config,
    patience,
    run,
    say,
    sentences,
)
from relay.clock import Clock
from relay.config import Settings, load, require_store
from relay.delivery.app import create_app
from relay.delivery.server import Addresses, Server
from relay.hub import Hub
from relay.store.client import Client, hold
from relay.store.keys import Keys
from relay.store.reader import Reader


@click.command()
@click.option("--host", help="Listen here, instead of at http.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="… and at this port.")
@option_config
def serve(host: str | None, port: int | None, file: str | None) -> None:
    """Serve what a worker has put into the store at RELAY_VALKEY_URL.

    Example: `RELAY_VALKEY_URL=valkey://127.0.0.1:6379 relay serve --port 8001`
    """
    with sentences():
        settings = listening(load(Path(file) if file else None).settings, host, port)
        require_store(settings)
    log_to_stderr()
    run(lambda stop: _serve(settings, stop))


def listening(settings: Settings, host: str | None, port: int | None) -> Settings:
    """Return the settings with the address that the command line gives."""
    http = settings.http
    http = replace(
        http,
        host=http.host if host is None else host,
        port=http.port if port is None else port,
    )
    return replace(settings, http=http)


async def _serve(settings: Settings, stop: asyncio.Event) -> None:
    clock = Clock()
    async with hold(settings.store, clock) as client, asyncio.TaskGroup() as tasks:
        # Not ready until the store is there, as whenever it is away later.
        keeping = tasks.create_task(_keep_clock(settings, clock, client))
        await serve_until(stop, settings, clock, client)
        keeping.cancel()


async def _keep_clock(settings: Settings, clock: Clock, client: Client) -> None:
    """Set the clock by the store's, as soon as it is there, and then now and then."""
    tell = patience(settings, clock)
    while True:
        await client.reach(tell)
        await asyncio.sleep(settings.store.clock_ms / 1000)


async def serve_until(
    stop: asyncio.Event,
    settings: Settings,
    clock: Clock,
    client: Client,
    *,
    sockets: Sequence[socket.socket] | None = None,
) -> None:
    """Serve until told to stop, then end in order.

    Raises:
        ConfigError: the address is taken.
    """
    reader = Reader(client, Keys(settings.board.name))
    hub = Hub(reader, clock, settings.http, settings.ingest)
    app = create_app(settings=settings, clock=clock, client=client, hub=hub)
    server = Server(
        app, settings.http, sockets=sockets, started=_say_where, drain=hub.drain
    )
    server.go_by(clock)
    async with asyncio.TaskGroup() as tasks:
        stopping = tasks.create_task(_stop_at(stop, server))
        await server.run()
        stopping.cancel()


async def _stop_at(stop: asyncio.Event, server: Server) -> None:
    await stop.wait()
    server.stop()


def _say_where(addresses: Addresses) -> None:
    """Say where it listens."""
    for host, port in addresses:
        say(f"relay at http://{_bracketed(host)}:{port}")


def _bracketed(host: str) -> str:
    return rf"\[{host}]" if ":" in host else host
