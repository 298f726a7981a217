"""Conditional REST reads, a second and core. Goal 6.

64 connections that are kept; nginx serves a file of the same size. Half the turns ask
for what they hold already (304), half for everything (200).
"""

import asyncio
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import httpx

from tests.bench.ground import (
    Cores,
    Missing,
    Scale,
    Side,
    Unwell,
    aside,
    cpu_s,
    listening,
    running,
    take_turns,
)
from tests.bench.publisher import names
from tests.bench.servers import Load, Served, children, find_nginx, free_port, relay
from tests.bench.sheet import Goal, Measure

_CONNECTIONS: Final = 64
# So many instruments make a body of 700 bytes.
_INSTRUMENTS: Final = 3
_RATE: Final = re.compile(r"Requests/sec:\s+([\d.]+)")
_COUNT: Final = re.compile(r"(\d+) requests in ([\d.]+)(m?s)")
_WRONG: Final = re.compile(r"Non-2xx or 3xx responses|Socket errors")
_KINDS: Final = {"304": "unchanged (304)", "200": "whole (200)"}

_NGINX: Final = """
worker_processes 1; daemon off; pid nginx.pid; error_log nginx.err warn; user root;
events {{ worker_connections 1000; }}
http {{
  access_log off; sendfile on; tcp_nopush on; open_file_cache max=10;
  client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f;
  uwsgi_temp_path u; scgi_temp_path s;
  server {{
    listen 127.0.0.1:{port}; root {folder}; keepalive_requests 10000000;
    default_type application/json;
  }}
}}
"""


@asynccontextmanager
async def _relay(cores: Cores) -> AsyncIterator[Served]:
    """Run the relay with a board that stands still."""
    chosen = names(_INSTRUMENTS)
    load = Load(rate=0, streams=0, seconds=0, count=_INSTRUMENTS)
    async with relay(load, cores) as served:
        path = f"/v1/prices?symbols={','.join(chosen)}"
        await _ready(served.port)
        yield Served(port=served.port, path=path, marker="", pids=served.pids)


async def _ready(port: int) -> None:
    """Wait for the first mark; until then each read is read from the store.

    Raises:
        TimeoutError: there is none.
    """
    async with httpx.AsyncClient() as asker, asyncio.timeout(10):
        url = f"http://127.0.0.1:{port}/v1/status"
        mark = 0
        while not mark:
            await asyncio.sleep(0.05)  # another process's, so there is nothing to await
            mark = (await asker.get(url)).json()["instance"]["mark"]


@asynccontextmanager
async def _nginx(cores: Cores, body: bytes) -> AsyncIterator[Served]:
    """Run nginx over a file with the relay's answer.

    Raises:
        Missing: it is not installed.
    """
    nginx, port = find_nginx(), free_port()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = _NGINX.format(port=port, folder=folder)
        (folder / "nginx.conf").write_text(settings, encoding="utf-8")
        (folder / "prices").write_bytes(body)
        words = (nginx, "-p", str(folder), "-c", "nginx.conf", "-e", "nginx.err")
        serving = running(*words, cores=cores.server, folder=folder)
        server = await stack.enter_async_context(serving)
        await listening(port)
        pids = tuple(children(server.pid))
        yield Served(port=port, path="/prices", marker="", pids=pids)


class Reads:
    """One run: what is found, kind by kind."""

    def __init__(self, scale: Scale, cores: Cores, wrk: str) -> None:
        self._scale, self._cores, self._wrk = scale, cores, wrk
        self._body = b""
        near = (Goal("nginx", "at least", 0.45),)
        self.found = {
            (kind, unit): Measure(row=6, what=f"reads, {what}", unit=unit, goals=near)
            for kind, what in _KINDS.items()
            for unit in ("a second", "a CPU second")
        }

    async def relay(self) -> None:
        """Read from the relay."""
        async with _relay(self._cores) as served:
            await self._read("relay", served)

    async def nginx(self) -> None:
        """Read the relay's answer from nginx."""
        async with _nginx(self._cores, self._body) as served:
            await self._read("nginx", served)

    async def _read(self, side: str, served: Served) -> None:
        url = f"http://127.0.0.1:{served.port}{served.path}"
        async with httpx.AsyncClient() as asker:
            first = await asker.get(url, headers={"accept-encoding": "identity"})
            held = {"if-none-match": first.headers["etag"]}
            again = await asker.get(url, headers=held)
        if (first.status_code, again.status_code) != (200, 304):
            raise Unwell(f"answered {first.status_code}, then {again.status_code}")
        self._body = first.content
        for kind, headers in (("304", held), ("200", {})):
            wall, cpu = await self._load(url, headers, served)
            self.found[kind, "a second"].add(side, wall)
            self.found[kind, "a CPU second"].add(side, cpu)

    async def _load(
        self, url: str, headers: dict[str, str], served: Served
    ) -> tuple[float, float]:
        """Return the answers a second, and for each second of the processor."""
        named = [f"{name}: {value}" for name, value in headers.items()]
        words = [
            *(self._wrk, "-t1", f"-c{_CONNECTIONS}", f"-d{max(1, self._seconds)}s"),
            *(word for one in named for word in ("-H", one)),
            url,
        ]
        before_s = cpu_s(*served.pids)
        async with running(*words, cores=self._cores.others) as wrk:
            out, _ = await wrk.communicate()
        spent_s = cpu_s(*served.pids) - before_s
        said = out.decode()
        rate, count = _RATE.search(said), _COUNT.search(said)
        if rate is None or count is None or _WRONG.search(said):
            raise Unwell(said.strip() or "wrk said nothing")
        return float(rate[1]), int(count[1]) / spent_s

    @property
    def _seconds(self) -> int:
        return round(self._scale.seconds)


async def run(scale: Scale) -> tuple[list[Measure], list[str]]:
    """Measure both in turns; return the measures and what went wrong.

    Raises:
        Missing: there is nobody to read.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise Missing("wrk (Debian: wrk)")
    with aside() as cores:
        reads = Reads(scale, cores, wrk)
        sides: dict[str, Side] = {"relay": reads.relay, "nginx": reads.nginx}
        notes = await take_turns(sides, scale.turns)
    return list(reads.found.values()), notes
