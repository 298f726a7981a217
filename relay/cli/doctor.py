"""``relay doctor``: everything the relay depends on, checked by really using it."""

import asyncio
import sys
from collections.abc import Iterable
from contextlib import AsyncExitStack

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
from relay.cli.modest import Modest
from relay.cli.run import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    click_safe,
    option_api_key,
    option_config,
    option_sim_url,
    read_settings,
    run,
    sentences,
    until_stopped,
)
from relay.client.question import read_url
from relay.clock import Clock
from relay.config import Settings
from relay.errors import StoreDown
from relay.ingest.parts import open_intakes
from relay.ingest.pull import open_client
from relay.ingest.purse import terms_of
from relay.store.client import Client
from relay.store.embedded import embedded

_COLOURS: dict[Verdict, str] = {
    "ok": "green",
    "wrong": "red",
    "note": "yellow",
    "held": "yellow",
}


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

    Each line says what was seen and, where something is wrong, what to do. What is
    held was not asked, since only what the workers can spare is spent. Exit status 1
    when anything is wrong, 130 when interrupted.

    Example: `relay doctor --edge https://prices.example.com`
    """
    with sentences():
        settings = read_settings(file, sim_url).settings
        if asked["edge"]:
            asked["edge"] = read_url(str(asked["edge"]))
    rounds = Rounds()
    run(
        lambda stop: until_stopped(
            stop, _examine(settings, msgspec.convert(asked, Asked), rounds)
        )
    )
    findings = rounds.findings()
    if as_json:
        sys.stdout.write(msgspec.json.encode(findings).decode() + "\n")
    else:
        _print(findings)
        if rounds.due:
            _screen().print(
                f"interrupted: {len(rounds.due)} of {len(rounds.parts)} not checked to"
                f" the end ({', '.join(rounds.due)})"
            )
    if rounds.due:
        raise SystemExit(EXIT_INTERRUPTED)
    if any(one.verdict == "wrong" for one in findings):
        raise SystemExit(EXIT_FAILED)


class Asked(Struct, frozen=True):
    """What the command line asks for; ``edge`` and ``api_key`` are empty for none."""

    edge: str
    wait_s: float
    api_key: str


class Rounds(Struct):
    """What is checked, by subject, and what has been found; ``due`` is not done yet."""

    parts: dict[str, list[Finding]] = {}
    due: list[str] = []
    asides: list[Finding] = []

    def plan(self, subjects: Iterable[str]) -> None:
        """Mean to check these, in this order."""
        for subject in subjects:
            self.parts[subject] = []
            self.due.append(subject)

    def findings(self) -> list[Finding]:
        """Return what has been found, and what was not checked to the end."""
        interrupted = [_held(subject) for subject in self.due]
        found = [one for part in self.parts.values() for one in part]
        return found + self.asides + interrupted


async def _examine(settings: Settings, asked: Asked, rounds: Rounds) -> None:
    """Check the store first, since nothing may be spent without it."""
    clock = Clock()
    edge = ["edge"] if asked.edge else []
    rounds.plan(["store", *_read(settings), *edge])
    async with AsyncExitStack() as stack:
        url = settings.store.url
        if not url:
            url = await stack.enter_async_context(embedded())
            said = "none configured: one of our own, where all counts as spent at first"
            rounds.parts["store"].append(_note("store", "reach", said))
        settings = replace(settings, store=replace(settings.store, url=url))
        client = Client(settings.store, clock)
        stack.push_async_callback(client.close)
        store = StoreCheckup(client, clock)
        store.findings = rounds.parts["store"]
        usable = await store.run()
        rounds.due.remove("store")
        if usable:
            await _examine_exchanges(settings, client, asked.wait_s, rounds)
        # Without a store nobody is asked, and that is no interruption.
        rounds.due[:] = edge
        if asked.edge:
            key = asked.api_key or settings.warm.key
            checkup = EdgeCheckup(asked.edge, clock, key)
            rounds.parts["edge"] = checkup.findings
            await checkup.run()
            rounds.due.clear()


def _read(settings: Settings) -> list[str]:
    return [
        name
        for name, exchange in settings.exchanges.items()
        if exchange.enabled and not exchange.lacks_key
    ]


async def _examine_exchanges(
    settings: Settings, client: Client, wait_s: float, rounds: Rounds
) -> None:
    """Check all exchanges at once; each has its own budget."""
    clock = client.clock
    intakes = open_intakes(settings, client, clock)
    rounds.asides += [
        _note(name, "off", _why_off(name, lacks_key=exchange.lacks_key))
        for name, exchange in settings.exchanges.items()
        if name not in intakes
    ]
    async with open_client(settings.ingest) as http, asyncio.TaskGroup() as tasks:
        tools = Tools(settings, client, clock, http, wait_s)
        for name, intake in intakes.items():
            refused_ms = settings.ingest.refused_ms
            egress = settings.store.egress
            terms = terms_of(intake.exchange, egress=egress, refused_ms=refused_ms)
            purse = Modest(name, terms, client, clock)
            checkup = Checkup(name, intake, purse, tools)
            rounds.parts[name] = checkup.findings
            tasks.create_task(_run(checkup, rounds))


async def _run(checkup: Checkup, rounds: Rounds) -> None:
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
    rounds.due.remove(checkup.name)


def _why_off(name: str, *, lacks_key: bool) -> str:
    if not lacks_key:
        return f"not enabled (exchanges.{name}.enabled)"
    return f"needs a key: set RELAY_{name.upper().replace('-', '_')}_KEY"


def _note(subject: str, check: str, saw: str) -> Finding:
    return Finding(subject=subject, check=check, verdict="note", saw=saw)


def _held(subject: str) -> Finding:
    said = "not checked to the end: interrupted"
    return Finding(subject=subject, check="interrupted", verdict="held", saw=said)


def _screen() -> Console:
    return Console(highlight=False)


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
    screen = _screen()
    screen.print(table)
    wrong = sum(one.verdict == "wrong" for one in findings)
    held = sum(one.verdict == "held" for one in findings)
    also = f", {held} held" if held else ""
    screen.print(f"{len(findings)} checks, {wrong} wrong{also}")
