"""The page at / on 1,000 instruments, 10 changes a second each: frames and memory.

``uv run python tests/bench page --minutes 10``. Everything runs on this machine: the
simulator, ingestion, Valkey, the server and the browser, which draws without a GPU.
Where the simulator cannot keep its rate, the column of changes says so. What limits the
frames is said at the end: the page's own thread, the machine, or the screen.
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Final

import httpx
from msgspec import Struct
from playwright.async_api import CDPSession, Page, async_playwright
from rich.console import Console
from rich.table import Table

from relay.clock import Clock
from tests.bench.ground import commit, cpu_s, machine
from tests.simulation.processes import Process, relay

_INSTRUMENTS: Final = 1000
_CHANGES_EACH: Final = 10
# The simulator spreads its changes over all its symbols on all exchanges, the liquid
# ones first: nearly half of them are frames of these instruments.
_RATE: Final = 4 * _INSTRUMENTS * _CHANGES_EACH
_WINDOW_S: Final = 10
_MB: Final = 1_000_000
# Percent at which something has no room left for a frame that comes in between.
_FULL: Final = 85

# Counted beside the page's own code, as it would be by any other script.
_COUNT: Final = """() => {
    const now = performance.now();
    window.seen = { frames: 0, longest: 0, last: now };
    Object.assign(seen, { seconds: [], begun: now, counted: 0 });
    const frame = (now) => {
        seen.frames += 1;
        seen.counted += 1;
        if (now - seen.begun >= 1000) {
            seen.seconds.push((1000 * seen.counted) / (now - seen.begun));
            Object.assign(seen, { begun: now, counted: 0 });
        }
        seen.longest = Math.max(seen.longest, now - seen.last);
        seen.last = now;
        requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
}"""
_TAKE: Final = """() => {
    const { frames, longest, seconds } = seen;
    Object.assign(seen, { frames: 0, longest: 0, seconds: [] });
    return [frames, longest, seconds];
}"""


# Cumulative seconds of the page's own thread, as the browser counts them.
_SPENT: Final = {
    "scripts": "ScriptDuration",
    "styles": "RecalcStyleDuration",
    "layout": "LayoutDuration",
    "all": "TaskDuration",
}


class Spent(Struct, frozen=True, kw_only=True):
    """Seconds of work up to a moment: the page's thread, the relay, all processors."""

    page: dict[str, float]
    relay: float
    machine: float
    processors: int

    def since(self, before: "Spent", seconds: float) -> "Spent":
        """Return shares of the time that has passed, in percent."""
        share = 100 / seconds
        return Spent(
            page={
                name: share * (s - before.page[name]) for name, s in self.page.items()
            },
            relay=share * (self.relay - before.relay),
            machine=share * (self.machine - before.machine) / self.processors,
            processors=self.processors,
        )


class Window(Struct, frozen=True, kw_only=True):
    """What was seen in some seconds; ``each_s`` has the frames of each of them."""

    at_s: int
    frames_s: float
    each_s: list[float]
    longest_ms: float
    heap_mb: float
    nodes: int
    moved: int
    updates_s: float
    spent: Spent


def busy() -> tuple[float, int]:
    """Return the seconds that all processors have worked, and how many there are."""
    lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    user, nice, system, _, _, *interrupts = map(int, lines[0].split()[1:8])
    ticks = user + nice + system + sum(interrupts)
    count = sum(line.startswith("cpu") for line in lines) - 1
    return ticks / os.sysconf("SC_CLK_TCK"), count


def settings(names: list[str]) -> str:
    """Write settings whose board is these instruments, all from one exchange."""
    quoted = ", ".join(f'"{name}"' for name in names)
    return f'[[board.groups]]\ninstruments = [{quoted}]\nsources = ["binance"]\n'


async def listed(url: str) -> list[str]:
    """Ask the simulated exchange for its instruments."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as asker:
        answer = await asker.get("/api/v3/exchangeInfo")
    rows = [row for row in answer.json()["symbols"] if row["status"] == "TRADING"]
    names = [f"{row['baseAsset']}-{row['quoteAsset']}" for row in rows]
    return sorted(set(names))[:_INSTRUMENTS]


@asynccontextmanager
async def served() -> AsyncIterator[tuple[str, Process]]:
    """Run the simulator and a relay that reads it; yields the relay's address."""
    size = ("--rate", str(_RATE), "--instruments", str(_INSTRUMENTS))
    sim = ("sim", "--port", "0", *size)
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(relay(*sim))
        url = (await simulator.says(r"simulator at (\S+)"))[1]
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        file = Path(folder) / "board.toml"
        await asyncio.to_thread(file.write_text, settings(await listed(url)))
        up = ("up", "--sim-url", url, "--config", str(file), "--port", "0")
        process = await stack.enter_async_context(relay(*up))
        found = await process.says(r"relay at (\S+)", within_s=30)
        yield found[1], process


class Meter:
    """Reads the page, the browser's heap and the relay's own counters."""

    def __init__(self, page: Page, session: CDPSession, url: str, pid: int) -> None:
        self._page, self._session, self._url, self._pid = page, session, url, pid
        self._clock = Clock()
        self._begun_ms = self._last_ms = self._clock.monotonic_ms()
        self._before: Spent
        self._frames_before = 0

    async def read(self) -> Window:
        """Read what was seen since the last time; the heap after a collection."""
        frames, longest, each_s = await self._page.evaluate(_TAKE)
        now_ms = self._clock.monotonic_ms()
        seconds = (now_ms - self._last_ms) / 1000
        spent = (await self._spent()).since(self._before, seconds)
        updates = await self._frames() - self._frames_before
        moved = await self._moved()
        await self._session.send("HeapProfiler.collectGarbage")
        found = await self._metrics()
        window = Window(
            at_s=(now_ms - self._begun_ms) // 1000,
            frames_s=frames / seconds,
            each_s=each_s,
            longest_ms=longest,
            heap_mb=found["JSHeapUsedSize"] / _MB,
            nodes=int(found["Nodes"]),
            moved=moved,
            updates_s=updates / seconds,
            spent=spent,
        )
        await self.begin()
        return window

    async def begin(self) -> None:
        """Begin a window: forget what was counted before."""
        await self._page.evaluate(_TAKE)
        self._frames_before = await self._frames()
        self._before = await self._spent()
        self._last_ms = self._clock.monotonic_ms()

    async def _metrics(self) -> dict[str, float]:
        told = await self._session.send("Performance.getMetrics")
        return {one["name"]: one["value"] for one in told["metrics"]}

    async def _spent(self) -> Spent:
        found = await self._metrics()
        machine_s, processors = busy()
        return Spent(
            page={name: found[counter] for name, counter in _SPENT.items()},
            relay=cpu_s(self._pid),
            machine=machine_s,
            processors=processors,
        )

    async def _frames(self) -> int:
        """Return how many frames of the exchange the relay has read."""
        async with httpx.AsyncClient(base_url=self._url, timeout=10) as asker:
            status = (await asker.get("/v1/status")).json()
        return sum(one["frames"] for one in status["streams"].get("binance", []))

    async def _moved(self) -> int:
        """Return how many instruments move in a second, as a client sees it."""
        async with httpx.AsyncClient(base_url=self._url, timeout=10) as asker:
            first = (await asker.get("/v1/prices")).json()["cursor"]
            await asyncio.sleep(1)
            later = await asker.get("/v1/prices", params={"cursor": first})
        return len(later.json()["prices"])


async def measure(minutes: float) -> AsyncIterator[Window]:
    """Open the page, and yield what is seen in each window."""
    async with AsyncExitStack() as stack:
        url, process = await stack.enter_async_context(served())
        playwright = await stack.enter_async_context(async_playwright())
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        stack.push_async_callback(browser.close)
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        await page.goto(url)
        await page.get_by_text(f"{_INSTRUMENTS} instruments").first.wait_for()
        session = await page.context.new_cdp_session(page)
        await session.send("Performance.enable")
        await page.evaluate(_COUNT)
        meter = Meter(page, session, url, process.pid)
        await meter.begin()
        window = None
        while window is None or window.at_s < minutes * 60:
            await asyncio.sleep(_WINDOW_S)
            window = await meter.read()
            yield window


def show(windows: list[Window]) -> Table:
    """Make a table of the windows, a row for each minute or so.

    ``moved`` is how many instruments a client sees change in a second; ``page``,
    ``relay`` and ``all`` are how busy its thread, the relay and all processors are.
    """
    title = f"{_INSTRUMENTS} instruments · {machine()} · {commit()}"
    table = Table(title=title, box=None, padding=(0, 1, 0, 0))
    columns = ("s", "frames/s", "worst ms", "heap MB", "nodes", "updates/s")
    for name in (*columns, "moved", "page %", "relay %", "all %"):
        table.add_column(name, justify="right")
    for one in windows[:: max(1, len(windows) // 12)]:
        table.add_row(
            f"{one.at_s}",
            f"{one.frames_s:.1f}",
            f"{one.longest_ms:.0f}",
            f"{one.heap_mb:.1f}",
            f"{one.nodes}",
            f"{one.updates_s:.0f}",
            f"{one.moved}",
            f"{one.spent.page['all']:.0f}",
            f"{one.spent.relay:.0f}",
            f"{one.spent.machine:.0f}",
        )
    return table


def limit(windows: list[Window]) -> str:
    """Say what keeps the page from more frames: by the windows' medians."""
    middle = {name: median(one.spent.page[name] for one in windows) for name in _SPENT}
    rest = middle["all"] - middle["scripts"] - middle["styles"] - middle["layout"]
    machine = median(one.spent.machine for one in windows)
    told = (
        f"the page's thread was busy {middle['all']:.0f} % of the time (scripts "
        f"{middle['scripts']:.0f}, styles {middle['styles']:.0f}, layout "
        f"{middle['layout']:.0f}, painting and the rest {rest:.0f}), all processors "
        f"{machine:.0f} %"
    )
    if machine >= _FULL:
        return f"{told}: the machine, which runs everything else as well, is the limit"
    if middle["all"] >= _FULL:
        return f"{told}: the page is the limit"
    return f"{told}: the screen, with its 60 frames a second, is the limit"


async def _run(minutes: float) -> None:
    console = Console()
    windows = []
    async for window in measure(minutes):
        windows.append(window)
        print(".", end="", file=sys.stderr, flush=True)  # noqa: T201 - minutes go by
    console.print(show(windows))
    each_s = sorted(count for one in windows for count in one.each_s)
    console.print(
        f"frames in each second: median {median(each_s):.1f}, 95 % at least "
        f"{each_s[len(each_s) // 20]:.1f}, least {each_s[0]:.1f}"
        f"; heap from {windows[0].heap_mb:.1f} to {windows[-1].heap_mb:.1f} MB"
    )
    console.print(limit(windows))


def main(words: list[str]) -> None:
    """Measure for so many minutes, and print what was seen."""
    parser = argparse.ArgumentParser(prog="page", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    asyncio.run(_run(parser.parse_args(words).minutes))
