"""``relay warm``: fetch the configured addresses through the edge."""

from pathlib import Path

import rich_click as click
from msgspec.structs import replace

from relay.cli.run import EXIT_FAILED, console, option_config, run, sentences
from relay.config import Warm, load
from relay.delivery.warming import warm as fetch


@click.command()
@click.option("--url", help="The edge's address, instead of RELAY_WARM_URL.")
@option_config
def warm(url: str | None, file: str | None) -> None:
    """Fetch the configured addresses through the edge, so that its cache is warm.

    Exit status 1 when one of them is not answered with 200.

    Example: `relay warm --url https://prices.example.org`
    """
    with sentences():
        settings = load(Path(file) if file else None).settings.warm
    if url is not None:
        settings = replace(settings, url=url)
    run(lambda _: _warm(settings))


async def _warm(settings: Warm) -> None:
    fetched = await fetch(settings)
    for one in fetched:
        said = f"{one.status}, {one.age_s} s old" if one.status else one.reason
        console.print(f"{one.path}: {said}")
    if not all(one.ok for one in fetched):
        raise SystemExit(EXIT_FAILED)
