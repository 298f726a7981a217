"""Where benchmarks run: the machine, its cores, compiled tools, processes, their cost.

What is measured stands in the modules named after the benchmarks.
"""

import asyncio
import os
import platform
import resource
import shutil
import signal
import subprocess
import tempfile
import time  # noqa: TID251 - of other processes we read the processor's clock
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

ROOT: Final = Path(__file__).parents[2]
HERE: Final = Path(__file__).parent
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
# Ten thousand streams take some seconds, many more where others use the machine.
_OPEN_S: Final = 60
_ENVIRON: Final = {"PATH": "/usr/bin:/bin:/usr/sbin", "PYTHONUNBUFFERED": "1"}


class Missing(Exception):
    """Something that a benchmark needs is not on this machine."""


class Unwell(Exception):
    """A turn whose values mean nothing."""


class Scale(Struct, frozen=True, kw_only=True):
    """How much is done: turns, seconds each (and before, to connect), connections.

    ``quick`` is a smoke run, from which nothing is concluded.
    """

    quick: bool
    turns: int
    warm_s: float
    seconds: float
    streams: int
    idle: int
    frames: int


WHOLE: Final = Scale(
    quick=False,
    turns=5,
    warm_s=1,
    seconds=3,
    streams=1000,
    idle=10_000,
    frames=200_000,
)
QUICK: Final = Scale(
    quick=True,
    turns=1,
    warm_s=0.2,
    seconds=0.3,
    streams=50,
    idle=200,
    frames=5_000,
)

Side = Callable[[], Awaitable[None]]


async def take_turns(sides: dict[str, Side], turns: int) -> list[str]:
    """Let every side have its turn, so many times; return what went wrong.

    One that is missing gets no other turn; one turn that went wrong is left out.
    """
    waiting, notes = dict(sides), list[str]()
    for _ in range(turns):
        for name, side in list(waiting.items()):
            try:
                await side()
            except Missing as missing:
                notes.append(f"{name}: needs {missing}")
                del waiting[name]
            except (Unwell, TimeoutError) as unwell:
                notes.append(f"{name}, one turn: {str(unwell) or 'it took too long'}")
    return notes


def first_of(error: BaseException) -> BaseException:
    """Return the first error of a group, however deep."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def machine() -> str:
    """Name the kind of machine: processor, cores, Python."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    models = [line for line in cpu.splitlines() if line.startswith("model name")]
    model = models[0].partition(":")[2].strip() if models else platform.machine()
    here = Cores.here()
    cores = len(here.server | here.others)
    return f"{model}, {cores} cores, Python {platform.python_version()}"


def commit() -> str:
    """Name what was measured; a plus sign for a tree with changes."""
    git = shutil.which("git")
    if git is None:
        return "unknown"

    def ask(*words: str) -> str:
        done = subprocess.run(
            [git, *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    changed = "+" if ask("status", "--porcelain") else ""
    return f"{ask('rev-parse', '--short', 'HEAD') or 'unknown'}{changed}"


class Cores(Struct, frozen=True):
    """One core for the server, all others for those who load it."""

    server: set[int]
    others: set[int]

    @staticmethod
    @cache
    def here() -> "Cores":
        """Share out the cores; on a single one everybody gets it."""
        first, *rest = sorted(os.sched_getaffinity(0))
        return Cores({first}, set(rest) or {first})


@contextmanager
def aside() -> Iterator[Cores]:
    """Leave the server's core to the server, with all that we start meanwhile."""
    cores = Cores.here()
    os.sched_setaffinity(0, cores.others)
    try:
        yield cores
    finally:
        os.sched_setaffinity(0, cores.server | cores.others)


def allow_descriptors() -> None:
    """Let this process and its children hold as many sockets as they may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def compiled(*names: str) -> Iterator[dict[str, str]]:
    """Compile C programs of this folder; return their paths.

    Raises:
        Missing: there is no compiler.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise Missing("a C compiler (Debian: gcc)")
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as folder:
        paths = {name: f"{folder}/{name}" for name in names}
        for name, path in paths.items():
            source = str(HERE / f"{name}.c")
            words = [compiler, "-O2", "-w", "-o", path, source, "-lm"]
            subprocess.run(words, check=True)
        yield paths


@asynccontextmanager
async def running(
    *words: str,
    cores: set[int],
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program on these cores; whatever is left of it is killed."""
    process = await asyncio.create_subprocess_exec(
        *words,
        env={**_ENVIRON, **(environ or {})},
        cwd=folder or ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


async def listening(port: int) -> None:
    """Wait until somebody listens at a port, without connecting to it.

    Raises:
        TimeoutError: nobody does.
    """
    async with asyncio.timeout(15):
        while not _is_listening(port):  # noqa: ASYNC110 - it is another process's
            await asyncio.sleep(0.02)


def _is_listening(port: int) -> bool:
    sockets = Path("/proc/net/tcp").read_text(encoding="ascii")
    # Address, any peer, and the state that the kernel calls LISTEN.
    return any(
        f" {address}:{port:04X} 00000000:0000 0A " in sockets
        for address in ("0100007F", "00000000")
    )


def cpu_s(*pids: int) -> float:
    """Return the processor time that processes have used, in seconds.

    The number of another process's clock is made as clock_getcpuclockid(3) makes it.
    """
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def resident(*pids: int) -> int:
    """Return the memory that processes hold, in bytes."""
    pages = (
        Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]
        for pid in pids
    )
    return sum(map(int, pages)) * _PAGE


async def said(process: asyncio.subprocess.Process, words: bytes) -> bytes:
    """Wait for a program's first line, which begins with these words; return it.

    Raises:
        Unwell: it says something else, or nothing in good time.
    """
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_OPEN_S):
            line = await process.stdout.readline()
    except TimeoutError:
        raise Unwell(f"{words.decode()!r} was not said in {_OPEN_S} s") from None
    if not line.startswith(words):
        raise Unwell(f"{line.decode(errors='replace').strip()!r} was said")
    return line.rstrip()


async def opened(loading: asyncio.subprocess.Process) -> None:
    """Wait until the load generator has opened all its streams.

    Raises:
        Unwell: it cannot, or not in time.
    """
    assert loading.stderr is not None
    try:
        async with asyncio.timeout(_OPEN_S):
            said = await loading.stderr.readline()
    except TimeoutError:
        raise Unwell(f"not all streams were answered in {_OPEN_S} s") from None
    if not said.startswith(b"opened"):
        raise Unwell(said.decode(errors="replace").strip() or "no load was made")


async def read_json(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """Read the one line of JSON that a program ends with.

    Raises:
        Unwell: it ended without one, or did not end.
    """
    line = await said(process, b"{")
    found: dict[str, Any] = msgspec.json.decode(line)
    return found
