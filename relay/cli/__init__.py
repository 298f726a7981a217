"""The commands, such as ``relay up``, ``relay serve`` and ``relay worker``.

Each is imported only when it is called, so that none pays for another's start.
"""

import errno
import importlib
import os
import signal
import sys
from difflib import get_close_matches
from io import TextIOWrapper
from typing import Any, Final

import rich_click as click

from relay import __version__
from relay.config import misspelt

_COMMANDS: Final = {
    "up": "relay.cli.up",
    "serve": "relay.cli.serve",
    "worker": "relay.cli.ingest",
    "tick": "relay.cli.ingest",
    "warm": "relay.cli.warm",
    "sim": "relay.cli.sim",
    "replay": "relay.cli.replay",
    "doctor": "relay.cli.doctor",
    "top": "relay.cli.top",
    "status": "relay.cli.status",
    "check-config": "relay.cli.settings",
    "key": "relay.cli.key",
}


class Commands(click.RichGroup):
    """A group whose commands are imported when they are asked for."""

    def main(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as its parent's
        """Run a command; what its output cannot take is no fault of ours."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                # Terminals that know few letters get a question mark for the others.
                stream.reconfigure(errors="replace")
        try:
            try:
                return super().main(*args, **kwargs)
            finally:
                sys.stdout.flush()
        except (OSError, BaseExceptionGroup) as error:
            reason = _why_unwritten(error)
            if reason is None:
                raise
            # What is left in the buffer goes nowhere, so that ending says nothing.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if reason:
                sys.stderr.write(f"relay: the output cannot be written: {reason}\n")
            raise SystemExit(1) from None

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; until it listens to signals itself, Ctrl-C ends it silently.

        Nothing has begun by then that would have to be ended in order.
        """
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        return super().invoke(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; a misspelt one is answered with the one it is like."""
        name, like = args[0], get_close_matches(args[0], _COMMANDS, n=1)
        if like and name not in _COMMANDS and not ctx.resilient_parsing:
            ctx.fail(f"No such command {name!r}. Did you mean {like[0]!r}?")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, in the order a newcomer needs them."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(_COMMANDS[cmd_name])
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command


# A full disk, a quota, a file that may not grow, a device that fails.
_UNWRITTEN: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _why_unwritten(error: BaseException) -> str | None:
    """Say why the output could not be written; None when something else is wrong.

    Nothing is to be said when nobody reads it any more.
    """
    if isinstance(error, BrokenPipeError):
        return ""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, OSError) and error.errno in _UNWRITTEN:
        return (error.strerror or str(error)).lower()
    return None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="relay")
def main() -> None:
    """Relay crypto prices: exchanges in; REST, long-poll, SSE and WebSocket out.

    Begin with `relay up --sim`, and open http://127.0.0.1:8000.
    """
    for sentence in misspelt():
        click.echo(f"relay: {sentence}", err=True)
