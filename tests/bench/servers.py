"""The servers that are compared: the relay, nchan, and a loop of ``write`` in C.

Each is a context manager that starts one on a core of its own with a publisher on the
others, and returns where to listen and whose cost to count.
"""

import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from itertools import count
from pathlib import Path
from socket import socket
from typing import Final

from msgspec import Struct

from relay.store.embedded import embedded
from tests.bench.ground import HERE, Cores, Missing, listening, running, said
from tests.bench.publisher import MARKER, NAME, body, ticker

_PYTHON: Final = sys.executable
_MODULES: Final = "/usr/lib/nginx/modules/ngx_nchan_module.so"
_NOW_US: Final = 1_763_635_200_000_000
_boards: Final = count()

# Of performance.md's measurement: one worker, every message kept long enough.
_NCHAN: Final = """
load_module {module};
worker_processes 1; daemon off; pid nchan.pid; error_log nchan.err warn; user root;
worker_rlimit_nofile 20000;
events {{ worker_connections 19000; }}
http {{
  access_log off; nchan_shared_memory_size 256M;
  client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f;
  uwsgi_temp_path u; scgi_temp_path s;
  server {{
    listen 127.0.0.1:{port} backlog=4096; keepalive_requests 10000000;
    location = /sub {{
      nchan_subscriber; nchan_channel_id x; nchan_subscriber_first_message newest;
    }}
    location = /pub {{
      nchan_publisher; nchan_channel_id x; nchan_message_buffer_length 2000;
    }}
  }}
}}
"""


class Load(Struct, frozen=True, kw_only=True):
    """What a server is to bear: messages a second, connections, for so long."""

    rate: float
    streams: int
    seconds: float


class Served(Struct, frozen=True, kw_only=True):
    """Where a server listens, and the process whose cost counts."""

    port: int
    path: str
    marker: str
    pid: int


def free_port() -> int:
    """Return a port that nobody has now."""
    with closing(socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def relay(load: Load, cores: Cores) -> AsyncIterator[Served]:
    """Run Valkey, a leader, and ``relay serve`` as a user starts it."""
    board = f"bench-{next(_boards)}"
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(embedded())
        words = (str(HERE), "publish", "store", url, board, str(load.rate))
        feeding = running(_PYTHON, *words, cores=cores.others)
        await said(await stack.enter_async_context(feeding), b"publishing")
        serving = running(
            *(_PYTHON, "-m", "relay", "serve", "--port", "0"),
            cores=cores.server,
            RELAY_VALKEY_URL=url,
            RELAY_BOARD=board,
        )
        server = await stack.enter_async_context(serving)
        line = await said(server, b"relay at http://")
        yield Served(
            port=int(line.rpartition(b":")[2]),
            path=f"/v1/stream?symbols={NAME}",
            marker=MARKER,
            pid=server.pid,
        )


@asynccontextmanager
async def nchan(load: Load, cores: Cores) -> AsyncIterator[Served]:
    """Run nginx with nchan, fed with the bodies that the relay sends.

    Raises:
        Missing: it is not installed.
    """
    nginx = _find_nchan()
    port = free_port()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = _NCHAN.format(module=_MODULES, port=port)
        (folder / "nchan.conf").write_text(settings, encoding="utf-8")
        words = (nginx, "-p", str(folder), "-c", "nchan.conf", "-e", "nchan.err")
        serving = running(*words, cores=cores.server, folder=folder)
        server = await stack.enter_async_context(serving)
        await listening(port)
        if load.rate:
            feed = (str(HERE), "publish", "nchan", str(port), str(load.rate))
            feeding = running(_PYTHON, *feed, cores=cores.others)
            await said(await stack.enter_async_context(feeding), b"publishing")
        yield Served(port=port, path="/sub", marker=MARKER, pid=_worker_of(server.pid))


def _find_nchan() -> str:
    """Return nginx's path.

    Raises:
        Missing: it is not here, or has no nchan.
    """
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None or not Path(_MODULES).exists():
        raise Missing("nchan (Debian: nginx libnginx-mod-nchan)")
    return nginx


def _worker_of(master: int) -> int:
    """Return nginx's one worker, which bears the load."""
    children = Path(f"/proc/{master}/task/{master}/children")
    return int(children.read_text(encoding="utf-8").split()[0])


@asynccontextmanager
async def c_loop(load: Load, cores: Cores, program: str) -> AsyncIterator[Served]:
    """Run the loop that does nothing but write frames of the same size."""
    port = free_port()
    pad = len(body(ticker(0, _NOW_US))) - len('{"p":"","t":1763635200000000}')
    words = (program, str(port), str(load.streams), str(load.rate))
    lasts_s = str(load.seconds + 3600)  # until it is ended
    async with running(*words, lasts_s, str(pad), cores=cores.server) as server:
        await listening(port)
        yield Served(port=port, path="/", marker='"t":', pid=server.pid)
