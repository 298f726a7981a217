"""``relay warm``: fetch the configured addresses through the edge."""

import asyncio
from http import HTTPStatus
from pathlib import Path
from typing import Final

import rich_click as click
from msgspec.structs import replace

from relay.cli.run import (
    EXIT_FAILED,
    console,
    option_api_key,
    option_config,
    run,
    sentences,
    until_stopped,
)
from relay.client.question import read_url
from relay.config import Warm, load
from relay.delivery.warming import Fetched
from relay.delivery.warming import warm as fetch

_LOCKED: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


@click.command()
@click.option("--url", help="The edge's address, instead of RELAY_WARM_URL.")
@click.option(
    "--every",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="Do it again and again, until it is stopped.",
)
@option_api_key
@option_config
def warm(url: str | None, every: float | None, api_key: str, file: str | None) -> None:
    """Fetch the configured addresses through the edge, so that its cache is warm.

    Says how each was answered, and what each cache on the way had of it. Exit status 1
    when one of them is not answered with 200.

    Example: `relay warm --url https://prices.example.org --every 30`
    """
    with sentences():
        settings = load(Path(file) if file else None).settings.warm
        if url is not None:
            settings = replace(settings, url=url)
        if settings.url:
            settings = replace(settings, url=read_url(settings.url))
    if api_key:
        settings = replace(settings, key=api_key)
    if every is None:
        run(lambda stop: until_stopped(stop, _once(settings)))
    else:
        run(lambda stop: until_stopped(stop, _again(settings, every)))


async def _once(settings: Warm) -> None:
    if not all(one.ok for one in await _warm(settings)):
        raise SystemExit(EXIT_FAILED)


async def _again(settings: Warm, every_s: float) -> None:
    while True:
        await _warm(settings)
        await asyncio.sleep(every_s)


async def _warm(settings: Warm) -> list[Fetched]:
    fetched = await fetch(settings)
    for one in fetched:
        console.print(f"{one.path}: {_say(one)}", markup=False)
    return fetched


def _say(one: Fetched) -> str:
    """Say what was answered, how old it was, and what each cache on the way said."""
    if not one.status:
        return one.reason
    if one.status in _LOCKED:
        return f"{one.status}: it wants a key (--api-key, or RELAY_API_KEY)"
    age = "" if one.age_s is None else f", {one.age_s} s old"
    layers = f"; {' > '.join(one.layers)}" if one.layers else ""
    return f"{one.status}{age}{layers}"
