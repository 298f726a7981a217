"""How every command runs: one event loop, two signals, errors as one sentence.

What the commands do stands in the modules named after them.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import rich_click as click
import uvloop
from rich.console import Console

from relay.clock import Clock
from relay.config import Loaded, Settings, load
from relay.errors import ConfigError, RelayError
from relay.ingest.report import Report

console: Final = Console(highlight=False, soft_wrap=True)
"""What a command answers with."""

errors: Final = Console(stderr=True, highlight=False, soft_wrap=True)
"""What it says besides."""

# 2 is what the shell's own programs use for "called wrongly".
EXIT_CONFIG: Final = 2
EXIT_FAILED: Final = 1
# What a shell says of a program that Ctrl-C ended.
EXIT_INTERRUPTED: Final = 130


def run(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run ``main`` until it is done, or told to stop.

    SIGINT, SIGTERM and SIGHUP set the event it is given; a second one cancels it. Our
    own errors become one sentence and an exit status.
    """
    with sentences(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_watch(main))


async def _watch(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def signalled() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Ignored by who started us, such as nohup: so it stays.
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, signalled)
    try:
        await main(stop)
    except asyncio.CancelledError:
        if not stop.is_set():
            raise


@contextmanager
def sentences() -> Iterator[None]:
    """Turn our own errors into one sentence and an exit status."""
    try:
        yield
    except* RelayError as group:
        first = _first(group)
        errors.print(f"[red]relay:[/] {click_safe(str(first))}")
        status = EXIT_CONFIG if isinstance(first, ConfigError) else EXIT_FAILED
        raise SystemExit(status) from None


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def say(text: str) -> None:
    """Print where a service is to be found; without room for the words, it goes on.

    Its log may stand on a disk that is full.
    """
    with suppress(OSError):
        console.print(text)


def click_safe(text: str) -> str:
    """Return text that the console prints as it stands, brackets and all."""
    return text.replace("[", r"\[")


async def until_stopped(stop: asyncio.Event, work: Awaitable[None]) -> None:
    """Do the work until it ends or ``stop`` is set; then it is cancelled and ends.

    Raises:
        BaseExceptionGroup: what the work raised.
    """
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(_await(work))
        stopping = tasks.create_task(stop.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
        stopping.cancel()


async def _await(work: Awaitable[None]) -> None:
    await work


def patience(settings: Settings, clock: Clock) -> Callable[[str], None]:
    """Return who says, at once and then now and then, why the store is waited for."""
    report = Report(clock, settings.ingest.log_every_ms)
    return lambda reason: report.warn("store", "start", f"{reason}; trying again")


def log_to_stderr() -> None:
    """Let the relay's log be read: a line each, with the time, on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("relay")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def read_settings(file: str | None, sim_url: str = "") -> Loaded:
    """Read the settings of a command that reads exchanges, or begins to.

    Addresses that a simulator takes the place of are named.

    Raises:
        ConfigError: a file cannot be read, or a value is not what it must be.
    """
    loaded = load(Path(file) if file else None, sim_url=sim_url)
    if loaded.unused:
        names = ", ".join(loaded.unused)
        errors.print(f"a simulator is read, so these set nothing: {names}")
    return loaded


def option_config(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option that names a file of settings."""
    return click.option(
        "--config",
        "file",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="Settings that win over the defaults (TOML).",
    )(command)


def option_sim_url(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option that reads every exchange from a simulator."""
    return click.option(
        "--sim-url",
        metavar="URL",
        default="",
        help="Read every exchange from the simulator at this address.",
    )(command)


def _read_key(context: click.Context, option: click.Parameter, key: str) -> str:
    """Read a key; what is wrong with it is said without it.

    Raises:
        BadParameter: no header takes it, and an error there would show it.
    """
    if not (key.isascii() and key.isprintable()) or " " in key:
        reason = "this is no key: it has spaces, line ends or letters that none has"
        raise click.BadParameter(reason, context, option)
    return key


def option_api_key(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option that shows a key; a variable is in no list of processes."""
    return click.option(
        "--api-key",
        metavar="KEY",
        default="",
        envvar="RELAY_API_KEY",
        callback=_read_key,
        help="For a relay that wants one; RELAY_API_KEY as well.",
    )(command)
