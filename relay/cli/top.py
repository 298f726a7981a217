"""``relay top``: a live table of prices, sources, budgets and clients.

What it looks like stands in ``picture``.
"""

import asyncio
import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, TextIO

import rich_click as click
from msgspec import Struct
from rich.console import Console
from rich.live import Live

from relay.cli.picture import Paper, Scene, draw_top, line_of
from relay.cli.run import option_api_key, run, until_stopped
from relay.cli.status import URL, asking, set_by
from relay.client import AsyncClient, AsyncFeed, Prices, Unavailable
from relay.clock import Clock

# Twice a second is as fast as anybody reads.
_PACE: Final = "500ms"
_PAINT_S: Final = 0.5
# The leader's own word on sources and budgets comes once a second.
_STATUS_S: Final = 2.0


class Wish(Struct, frozen=True):
    """What to show, and of whom."""

    url: str
    api_key: str
    symbols: str | None
    of_list: str
    once: bool


@click.command()
@click.option("--url", default=URL, show_default=True, help="The relay's address.")
@click.option("--symbols", help="These instruments, for example BTC-USD,ETH-USD.")
@click.option("--list", "of_list", default="", help="A named list, such as majors.")
@click.option("--once", is_flag=True, help="Show everything once, and end.")
@option_api_key
def top(
    url: str,
    api_key: str,
    symbols: str | None,
    of_list: str,
    once: bool,  # noqa: FBT001 - the library hands flags over like this
) -> None:
    """Watch prices, sources, budgets and clients of a running relay.

    Ctrl-C ends it. Into a pipe it writes a line for each change.

    Example: `relay top --list majors`
    """
    wish = Wish(url, api_key, symbols, of_list, once)
    console = Console(highlight=False)
    run(lambda stop: until_stopped(stop, _top(wish, console)))


async def _top(wish: Wish, console: Console) -> None:
    async with AsyncClient(wish.url, api_key=wish.api_key) as client:
        with asking():
            await _show(client, wish, console)


async def _show(client: AsyncClient, wish: Wish, console: Console) -> None:
    if wish.once:
        await _show_once(client, wish, console)
        return
    feed = client.stream(wish.symbols, of_list=wish.of_list, every=_PACE)
    async with feed:
        if console.is_terminal:
            await _watch(client, feed, console)
        else:
            await _write_lines(feed, sys.stdout)


async def _show_once(client: AsyncClient, wish: Wish, console: Console) -> None:
    prices = await client.get(wish.symbols, of_list=wish.of_list)
    status, clock = await client.status(), Clock()
    set_by(clock, status)
    scene = Scene(
        client.url,
        now_ms=clock.wall_ms(),
        state="live" if prices.live else "stale",
        prices=prices,
        status=status,
    )
    console.print(draw_top(scene, _paper(console, None)))


async def _watch(client: AsyncClient, feed: AsyncFeed, console: Console) -> None:
    """Paint the screen, for ever."""
    scene, clock = Scene(client.url), Clock()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_drain(feed))
            tasks.create_task(_refresh_status(client, scene, clock))
            tasks.create_task(_paint(feed, scene, clock, live))


async def _drain(feed: AsyncFeed) -> None:
    """Read on: what is painted is what the feed holds."""
    async for _ in feed:
        pass


async def _refresh_status(client: AsyncClient, scene: Scene, clock: Clock) -> None:
    while True:
        try:
            scene.status = await client.status()
            set_by(clock, scene.status)
        except Unavailable:  # the feed says why
            scene.status = None
        await asyncio.sleep(_STATUS_S)


async def _paint(feed: AsyncFeed, scene: Scene, clock: Clock, live: Live) -> None:
    console = live.console
    while True:
        scene.now_ms = clock.wall_ms()
        scene.state, scene.way, scene.error = feed.state, feed.way, feed.error
        scene.prices = feed.prices
        picture = draw_top(scene, _paper(console, console.size.height))
        live.update(picture, refresh=True)
        await asyncio.sleep(_PAINT_S)


def _paper(console: Console, height: int | None) -> Paper:
    return Paper(
        console.size.width, height, lambda picture: len(console.render_lines(picture))
    )


async def _write_lines(feed: AsyncFeed, out: TextIO) -> None:
    """Write a line for each change, until nobody reads them any more."""
    async for prices in feed:
        try:
            out.writelines(f"{line}\n" for line in _lines_of(prices))
            out.flush()
        except BrokenPipeError:
            # What is left in the buffer goes nowhere, so that ending says nothing.
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
            return


def _lines_of(prices: Prices) -> Iterable[str]:
    moment = datetime.fromtimestamp(prices.as_of_ms / 1000, UTC)
    clock = f"{moment:%H:%M:%S}Z"
    if not prices.live:
        yield f"{clock} not live: nobody refreshes these prices"
    yield from (f"{clock} {name} gone" for name in prices.gone)
    yield from (line_of(prices, name, clock) for name in prices.changed)
