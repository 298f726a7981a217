"""``relay replay``: recorded frames and answers through the same pipeline.

What the recordings say is ``player``'s; this paces, publishes and sums up.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Final

import rich_click as click
from msgspec import Struct
from msgspec.structs import replace
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from relay.cli.player import UNLISTED, Player
from relay.cli.recording import Unreadable, size
from relay.cli.run import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    click_safe,
    console,
    errors,
    option_config,
    run,
    sentences,
)
from relay.clock import Clock
from relay.config import Settings, load
from relay.errors import LeaseTaken
from relay.exchanges import ADAPTERS
from relay.ingest.lead import Leader
from relay.ingest.publish import Published
from relay.model import decode_ticker
from relay.store.client import Client, connect
from relay.store.embedded import embedded
from relay.store.keys import Keys
from relay.store.reader import Reader
from relay.store.writer import Writer

# Items played before others get their turn, where there is no pace to keep.
_ITEMS_AT_ONCE: Final = 200
# Last prices that are listed unless all of them are asked for.
_PRICES_SHOWN: Final = 40
_COLUMNS: Final = ("frames", "answers", "updates", "dropped")


class Pace(Struct, frozen=True):
    """How it is replayed: as whose, how fast, and how much is listed at the end."""

    exchange: str | None
    speed: float
    every_price: bool


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option(
    "--exchange",
    type=click.Choice(list(ADAPTERS)),
    help="Whose recording it is, where the file does not say.",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="How much faster than recorded; 0 for as fast as possible.",
)
@click.option("--all", "every_price", is_flag=True, help="List every last price.")
@option_config
def replay(files: tuple[str, ...], file: str | None, **how: object) -> None:
    """Push recorded frames and answers through the same pipeline.

    The exchange is told from the connection's or the request's address. Symbol tables
    among the files are used for all of them. With RELAY_VALKEY_URL the result stays in
    that store, for `relay serve`.

    Example: `relay replay --speed 0 recordings/*.ws.gz`
    """
    with sentences():
        settings = load(Path(file) if file else None).settings
    paths, pace = [Path(name) for name in files], Pace(**how)  # type: ignore[arg-type]
    player = Player(settings, pace.exchange)
    played = Played()
    run(lambda stop: _replay(player, paths, pace, stop, played))
    for early in player.early.values():
        errors.print(f"relay: {click_safe(str(early))}")
    if not played.whole:
        errors.print("relay: interrupted: not everything was played")
        raise SystemExit(EXIT_INTERRUPTED)
    if player.fruitless:
        errors.print("relay: nothing to show: no price and no symbol table was found")
        raise SystemExit(EXIT_FAILED)


class Played(Struct):
    """How far it went: ``whole`` once every recording was played to its end."""

    whole: bool = False


async def _replay(
    player: Player,
    paths: list[Path],
    pace: Pace,
    stop: asyncio.Event,
    played: Played,
) -> None:
    settings = player.settings
    # Before anything is begun, since a file that is none is the commonest mistake.
    lines = sum(size(path) for path in paths)
    async with _store(settings) as client:
        with _progress() as progress:
            # Read twice: for the symbol tables first, since they stand anywhere.
            bar = progress.add_task("replaying", total=2 * lines)
            for number, _ in enumerate(player.learn(paths), 1):
                progress.advance(bar)
                if number % _ITEMS_AT_ONCE == 0:
                    await asyncio.sleep(0)
                if stop.is_set():
                    return
            async with _leading(settings, client, player) as wake:
                async for _ in _play(player, paths, pace.speed, client.clock, stop):
                    wake()
                    progress.advance(bar)
            if not stop.is_set():
                played.whole = True
                progress.update(bar, completed=2 * lines)
        view = await Reader(client, Keys(settings.board.name)).read(None)
    _summarise(player, view.tickers, None if pace.every_price else _PRICES_SHOWN)


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[Client]:
    """Hold a client of the store that is named, or of one for the time being."""
    async with AsyncExitStack() as stack:
        url = settings.store.url or await stack.enter_async_context(embedded())
        store = replace(settings.store, url=url)
        yield await stack.enter_async_context(connect(store, Clock()))


@asynccontextmanager
async def _leading(
    settings: Settings, client: Client, player: Player
) -> AsyncIterator[Callable[[], None]]:
    """Lead the board meanwhile; yields what says that there is something to publish.

    Raises:
        LeaseTaken: somebody else ingests.
    """
    rules, board = settings.ingest, settings.board.name
    writer = Writer(client, Keys(board), log_entries_max=settings.store.log_entries_max)
    lease = await writer.take(token_hex(8), rules.lease_ms)
    if lease is None:
        raise LeaseTaken(board)
    leader = Leader(
        writer,
        player.merge,
        client.clock,
        rules,
        published=Published(),
        beat_ms=rules.beat_ms,
        health=lambda: b"{}",
    )
    player.want((await writer.load()).tickers)
    await leader.begin()
    async with asyncio.TaskGroup() as tasks:
        leading = tasks.create_task(leader.run(lease))
        yield leader.publisher.wake
        leading.cancel()
    # A jump that waits for a second source has waited for long enough.
    player.merge.turn(now_ms=client.clock.wall_ms() + rules.jump_wait_ms + 1)
    await leader.end(lease)


async def _play(
    player: Player, paths: list[Path], speed: float, clock: Clock, stop: asyncio.Event
) -> AsyncIterator[None]:
    """Play the recordings one after the other; yields after each item."""
    for path in paths:
        began_ms, first_ms = clock.monotonic_ms(), 0
        for number, item in enumerate(player.read(path)):
            at_ms = 0 if isinstance(item, Unreadable) else item.at_ms
            first_ms = first_ms or at_ms
            if speed and at_ms:
                due_ms = began_ms + (at_ms - first_ms) / speed
                await _rest(due_ms - clock.monotonic_ms(), stop)
            elif number % _ITEMS_AT_ONCE == 0:
                await asyncio.sleep(0)
            if stop.is_set():
                return
            player.play(item, now_ms=clock.wall_ms())
            yield


async def _rest(rest_ms: float, stop: asyncio.Event) -> None:
    """Wait until the next item is due, or until told to stop."""
    with suppress(TimeoutError):
        async with asyncio.timeout(max(rest_ms, 0) / 1000):
            await stop.wait()


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=errors,
    )


def _summarise(player: Player, tickers: Mapping[str, bytes], shown: int | None) -> None:
    """Print what was read, what was dropped and why, and the last prices."""
    table = Table("exchange", *_COLUMNS, box=None, pad_edge=False)
    for name, count in sorted(player.counts.items()):
        dropped = sum(drops.values()) if (drops := player.dropped(name)) else 0
        numbers = (count.frames, count.answers, count.updates, dropped)
        table.add_row(name, *map(str, numbers))
    console.print(table)
    for name in sorted(player.counts):
        for reason, times in player.dropped(name).most_common():
            console.print(click_safe(f"  dropped {times}: {name}: {reason}"))
            if reason == UNLISTED:
                console.print(
                    "  → give the recording of its symbol table too"
                    f" ({player.table_of(name)})"
                )
    console.print(f"\n{len(tickers)} instruments")
    _list_prices(tickers, shown)


def _list_prices(tickers: Mapping[str, bytes], shown: int | None) -> None:
    table = Table("instrument", "last price", "source", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for name in sorted(tickers)[:shown]:
        ticker = decode_ticker(tickers[name])
        table.add_row(name, ticker.price or ticker.bid or "none", ticker.source)
    console.print(table)
    if shown is not None and len(tickers) > shown:
        console.print(f"… and {len(tickers) - shown} more: --all lists them")
