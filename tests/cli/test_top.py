"""``relay top``: a screen for people, lines for pipes."""

import asyncio
import fcntl
import os
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.config import Settings
from relay.model import Ticker
from relay.store.client import Client
from relay.store.keys import Keys
from tests.cli.commands import relay
from tests.delivery.live import Live, live
from tests.harness import eventually

ENVIRON = {"PATH": "/usr/bin:/bin", "TERM": "xterm-256color"}
TOP = (sys.executable, "-m", "relay", "top", "--url")


@pytest.fixture
async def instance(
    client: Client, keys: Keys, settings: Settings
) -> AsyncIterator[Live]:
    """Return a running instance."""
    async with live(client, keys, settings) as instance:
        yield instance


class Screen:
    """A terminal of 80 columns with one command on it."""

    def __init__(self, master: int) -> None:
        self._master = master
        self.painted = b""
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            self.painted += os.read(self._master, 65536)
        except OSError:  # nobody has it open any more
            self.close()

    def close(self) -> None:
        """Look away."""
        asyncio.get_running_loop().remove_reader(self._master)

    async def shows(self, text: bytes) -> None:
        """Wait until something is painted."""
        await eventually(lambda: text in self.painted, within_s=15)


@asynccontextmanager
async def on_a_screen(
    *arguments: str,
) -> AsyncIterator[tuple[Screen, asyncio.subprocess.Process]]:
    """Run a command on a terminal; whatever is left of it is killed."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    screen = Screen(master)
    process = await asyncio.create_subprocess_exec(
        *TOP, *arguments, stdin=slave, stdout=slave, stderr=slave, env=ENVIRON
    )
    os.close(slave)
    try:
        yield screen, process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        screen.close()
        os.close(master)


async def test_once_shows_everything_in_80_plain_columns(instance: Live) -> None:
    """For a mail, a log, or a quick look."""
    arguments = ("top", "--once", "--url", instance.url, "--symbols", "BTC-USD,FOO-USD")
    shown = await asyncio.to_thread(relay, *arguments)
    assert shown.returncode == 0
    assert "BTC-USD" in shown.stdout
    assert "61000.10" in shown.stdout
    assert "ETH-USD" not in shown.stdout
    assert "without a value: FOO-USD" in shown.stdout
    lines = shown.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)


async def test_ages_are_told_by_the_clock_of_the_relay(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """A laptop whose clock is an hour off shows the same as any other."""
    hour_ms = 3_600_000
    clock = client.clock
    clock.set_wall(clock.wall_ms() + hour_ms, at_ms=clock.monotonic_ms())
    async with live(client, keys, settings) as instance:
        at_ms = clock.wall_ms() - 2 * hour_ms
        old = Ticker(price="5", source="kraken", event_ms=at_ms, received_ms=at_ms)
        await instance.leader.publish({"SOL-USD": old})
        arguments = ("top", "--once", "--url", instance.url, "--symbols", "SOL-USD")
        shown = await asyncio.to_thread(relay, *arguments)
    line = next(one for one in shown.stdout.splitlines() if "SOL-USD" in one)
    assert line.split() == ["SOL-USD", "5", "kraken", "2", "h"]


async def test_into_a_pipe_it_writes_a_plain_line_for_each_change(
    instance: Live,
) -> None:
    """No table, no colour, no control character: ``grep`` reads it."""
    process = await asyncio.create_subprocess_exec(
        *TOP, instance.url, stdout=asyncio.subprocess.PIPE, env=ENVIRON
    )
    assert process.stdout is not None
    async with asyncio.timeout(15):
        first = [(await process.stdout.readline()).decode() for _ in range(2)]
        assert [line.split()[1:] for line in first] == [
            ["BTC-USD", "61000.10"],
            ["ETH-USD", "3000"],
        ]
        await instance.leader.publish({"ETH-USD": "3001.50"})
        line = (await process.stdout.readline()).decode()
        assert line.split()[1:] == ["ETH-USD", "3001.50"]
        assert line.removesuffix("\n").isprintable()
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0


async def test_it_ends_without_a_word_when_nobody_reads_any_more(
    instance: Live,
) -> None:
    """``relay top | head``."""
    process = await asyncio.create_subprocess_exec(
        *TOP,
        instance.url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=ENVIRON,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(15):
        await process.stdout.readline()
        process.stdout._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - as head does
        await instance.leader.publish({"ETH-USD": "3001"})
        assert await process.stderr.read() == b""
        assert await process.wait() == 0


async def test_on_a_screen_it_paints_and_follows_until_ctrl_c(instance: Live) -> None:
    """And leaves the terminal as it was."""
    async with on_a_screen(instance.url, "--symbols", "BTC-USD") as (screen, process):
        await screen.shows(b"61000.10")
        await screen.shows(b"LIVE")
        await instance.leader.publish({"BTC-USD": "61234.50"})
        await screen.shows(b"61234.50")
        await screen.shows(b"2 instruments")
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 10) == 0
        # The other screen is left, and the cursor shown again.
        await screen.shows(b"\x1b[?1049l")
        await screen.shows(b"\x1b[?25h")
        assert b"Traceback" not in screen.painted


async def test_on_a_screen_a_relay_that_is_not_there_is_waited_for(
    free_tcp_port: int,
) -> None:
    """It says so, and goes on trying."""
    url = f"http://127.0.0.1:{free_tcp_port}"
    async with on_a_screen(url) as (screen, process):
        await screen.shows(b"CONNECTING")
        await screen.shows(b"cannot be reached")
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_what_the_relay_refuses_is_one_sentence(instance: Live) -> None:
    """A misspelt list is answered with those there are."""
    arguments = ("top", "--url", instance.url, "--list", "minors")
    shown = await asyncio.to_thread(relay, *arguments)
    assert shown.returncode == 1
    assert "There is no list 'minors'" in shown.stderr
    assert "majors" in shown.stderr
    assert "Traceback" not in shown.stderr
