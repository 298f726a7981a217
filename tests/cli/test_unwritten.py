"""A command whose output cannot be written says so in a line, and fails."""

import subprocess
import sys
from pathlib import Path

import pytest
from anyio import to_thread

from relay.config import Settings
from relay.store.client import Client
from relay.store.keys import Keys
from tests.cli.commands import relay
from tests.delivery.live import live

FULL = Path("/dev/full")
PLAIN = {"PATH": "/usr/bin:/bin", "COLUMNS": "80"}


def to_full(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``relay`` with a full disk behind its output."""
    with FULL.open("w") as full:
        return subprocess.run(
            [sys.executable, "-m", "relay", *arguments],
            env=PLAIN,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=15,
            check=False,
        )


@pytest.mark.skipif(not FULL.exists(), reason="there is no device that is full")
async def test_a_full_disk_is_one_line(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Not a stack, however deep in the command it was written."""
    async with live(client, keys, settings) as instance:
        await instance.leader.mark(beat_ms=20_000)
        # The command asks this very loop, which must go on.
        arguments = (
            ("check-config",),
            ("status", "--url", instance.url),
            ("top", "--once", "--url", instance.url),
        )
        ended = [await to_thread.run_sync(to_full, *one) for one in arguments]
    sentence = "relay: the output cannot be written: no space left on device\n"
    assert [(one.returncode, one.stderr) for one in ended] == [(1, sentence)] * 3


def test_a_terminal_that_knows_few_letters_is_answered_all_the_same() -> None:
    """A question mark for one that it has not is better than no help."""
    few = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    shown = relay("replay", "--help", **few)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "Usage: relay replay [OPTIONS] FILE" in shown.stdout


def test_the_help_names_no_file_that_is_not_there() -> None:
    """A reader tries the example."""
    assert "config/production" not in relay("check-config", "--help").stdout
