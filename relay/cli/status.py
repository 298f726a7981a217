"""``relay status``: one look at a running relay."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

import rich_click as click
from rich.console import Console

from relay.cli.picture import draw_status
from relay.cli.run import EXIT_FAILED, option_api_key, run, until_stopped
from relay.client import AsyncClient, Refused, Status
from relay.clock import Clock

URL: Final = "http://127.0.0.1:8000"
_SHOW_KEY: Final = "Show one with --api-key, or in RELAY_API_KEY."


@click.command()
@click.option("--url", default=URL, show_default=True, help="The relay's address.")
@option_api_key
def status(url: str, api_key: str) -> None:
    """Show how a running relay stands: sources, budgets, clients, leader.

    Exit status 0 while its prices are live, 1 while they are not or nobody answers.

    Example: `relay status --url http://127.0.0.1:8000`
    """
    seen: list[Status] = []
    run(
        lambda stop: until_stopped(stop, _look(AsyncClient(url, api_key=api_key), seen))
    )
    for found in seen:
        clock = Clock()
        set_by(clock, found)
        Console(highlight=False).print(draw_status(found, clock.wall_ms()))
        if not found.instance.live:
            raise SystemExit(EXIT_FAILED)


def set_by(clock: Clock, status: Status) -> None:
    """Set a clock by the relay's: ages are told by it, whatever this machine says."""
    if status.instance.now_ms:
        clock.set_wall(status.instance.now_ms, at_ms=clock.monotonic_ms())


async def _look(client: AsyncClient, seen: list[Status]) -> None:
    async with client:
        with asking():
            seen.append(await client.status())


@contextmanager
def asking() -> Iterator[None]:
    """Say how a key is shown here, where the relay says how programs show one."""
    try:
        yield
    except* Refused as group:
        error = group.exceptions[0]
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if error.status != HTTPStatus.UNAUTHORIZED:
            raise
        raise Refused(error.code, error.sentence, _SHOW_KEY, error.status) from None
