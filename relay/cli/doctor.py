"""``relay doctor``: everything the relay depends on, checked by really using it."""

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import rich_click as click
from msgspec import Struct
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from relay.cli.checkup_edge import EdgeCheckup
from relay.cli.checkup_exchange import Checkup, Tools
from relay.cli.checkup_store import StoreCheckup
from relay.cli.finding import Finding, Verdict
from relay.cli.run import (
    EXIT_FAILED,
    click_safe,
    option_api_key,
    option_config,
    option_sim_url,
    run,
    sentences,
    until_stopped,
)
from relay.clock import Clock
from relay.config import Settings, load
from relay.errors import StoreDown
from relay.ingest.parts import open_intakes
from relay.ingest.pull import open_client
from relay.store.client import Client
from relay.store.embedded import embedded

_COLOURS: dict[Verdict, str] = {"ok": "green", "wrong": "red", "note": "yellow"}


@click.command()
@click.option("--edge", metavar="URL", default="", help="A public address to check.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=1),
    default=15,
    show_default=True,
    help="Seconds that a stream may take to its first price.",
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")
@option_api_key
@option_config
@option_sim_url
def doctor(
    as_json: bool,  # noqa: FBT001 - the library hands flags over like this
    file: str | None,
    sim_url: str,
    **asked: str | float,
) -> None:
    """Check every configured exchange, the store and the edge by really using them.

    Each line says what was seen and, where something is wrong, what to do. Exit
    status 1 when anything is wrong.

    Example: `relay doctor --edge https://prices.example.com`
    """
    with sentences():
        settings = load(Path(file) if file else None, sim_url=sim_url).settings
    findings: list[Finding] = []
    run(
        lambda stop: until_stopped(
            stop, _examine(settings, msgspec.convert(asked, Asked), findings)
        )
    )
    if as_json:
        sys.stdout.write(msgspec.json.encode(findings).decode() + "\n")
    else:
        _print(findings)
    if any(one.verdict == "wrong" for one in findings):
        raise SystemExit(EXIT_FAILED)


class Asked(Struct, frozen=True):
    """What the command line asks for; ``edge`` and ``api_key`` are empty for none."""

    edge: str
    wait_s: float
    api_key: str


async def _examine(settings: Settings, asked: Asked, findings: list[Finding]) -> None:
    """Check the store first, since nothing may be spent without it."""
    clock = Clock()
    async with AsyncExitStack() as stack:
        url = settings.store.url
        if not url:
            url = await stack.enter_async_context(embedded())
            said = "none configured: one of our own, where all counts as spent at first"
            findings.append(_note("store", "reach", said))
        settings = replace(settings, store=replace(settings.store, url=url))
        client = Client(settings.store, clock)
        stack.push_async_callback(client.close)
        store = StoreCheckup(client, clock)
        usable = await store.run()
        findings += store.findings
        if usable:
            findings += await _examine_exchanges(settings, client, asked.wait_s)
        if asked.edge:
            key = asked.api_key or settings.warm.key
            checkup = EdgeCheckup(asked.edge, clock, key)
            await checkup.run()
            findings += checkup.findings


async def _examine_exchanges(
    settings: Settings, client: Client, wait_s: float
) -> list[Finding]:
    """Check all exchanges at once; each has its own budget."""
    clock = client.clock
    intakes = open_intakes(settings, client, clock)
    findings = [
        _note(name, "off", _why_off(name, lacks_key=exchange.lacks_key))
        for name, exchange in settings.exchanges.items()
        if name not in intakes
    ]
    async with open_client(settings.ingest) as http:
        tools = Tools(settings, clock, http, wait_s)
        checkups = [Checkup(name, one, tools) for name, one in intakes.items()]
        async with asyncio.TaskGroup() as tasks:
            for checkup in checkups:
                tasks.create_task(_run(checkup))
    return [found for one in checkups for found in one.findings] + findings


async def _run(checkup: Checkup) -> None:
    try:
        await checkup.run()
    except StoreDown as down:
        checkup.findings.append(
            Finding(
                subject=checkup.name,
                check="budget",
                verdict="wrong",
                saw=str(down),
                advice="without the store nothing may be spent: see above",
            )
        )


def _why_off(name: str, *, lacks_key: bool) -> str:
    if not lacks_key:
        return f"not enabled (exchanges.{name}.enabled)"
    return f"needs a key: set RELAY_{name.upper().replace('-', '_')}_KEY"


def _note(subject: str, check: str, saw: str) -> Finding:
    return Finding(subject=subject, check=check, verdict="note", saw=saw)


def _print(findings: list[Finding]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "what", "check", "saw"):
        table.add_column(title, overflow="fold")
    for one in findings:
        saw = click_safe(one.saw)
        if one.advice:
            saw += f"\n[bold]→ {click_safe(one.advice)}[/]"
        colour = _COLOURS[one.verdict]
        table.add_row(f"[{colour}]{one.verdict}[/]", one.subject, one.check, saw)
    screen = Console(highlight=False)
    screen.print(table)
    wrong = sum(one.verdict == "wrong" for one in findings)
    screen.print(f"{len(findings)} checks, {wrong} wrong")
