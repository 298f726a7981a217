"""``relay status``: one look at a running relay."""

from typing import Final

import rich_click as click
from rich.console import Console

from relay.cli.picture import draw_status
from relay.cli.run import EXIT_FAILED, run, until_stopped
from relay.client import AsyncClient
from relay.clock import Clock

URL: Final = "http://127.0.0.1:8000"


@click.command()
@click.option("--url", default=URL, show_default=True, help="The relay's address.")
def status(url: str) -> None:
    """Show how a running relay stands: sources, budgets, clients, leader.

    Exit status 0 while its prices are live, 1 while they are not or nobody answers.

    Example: `relay status --url http://127.0.0.1:8000`
    """
    seen: list[bool] = []
    run(lambda stop: until_stopped(stop, _show(url, seen)))
    if not all(seen):
        raise SystemExit(EXIT_FAILED)


async def _show(url: str, seen: list[bool]) -> None:
    async with AsyncClient(url) as client:
        found = await client.status()
    Console(highlight=False).print(draw_status(found, Clock().wall_ms()))
    seen.append(found.instance.live)
