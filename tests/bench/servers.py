"""The servers that are compared: the relay, nchan, and a loop of ``write`` in C.

Each is a context manager that starts one on a core of its own with a publisher on the
others, and returns where to listen and whose cost to count.
"""

import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    closing,
)
from itertools import count
from pathlib import Path
from socket import socket
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from relay.store.embedded import embedded
from tests.bench import exchange
from tests.bench.ground import HERE, Cores, Missing, listening, running, said
from tests.bench.publisher import MARKER, NAME, body, ticker

_PYTHON: Final = sys.executable
_MODULES: Final = "/usr/lib/nginx/modules/ngx_nchan_module.so"
_NOW_US: Final = 1_763_635_200_000_000
_boards: Final = count()

# Of performance.md's measurement: one worker, every message kept long enough. Without
# ``?list=`` and ``?id=`` everybody is on one channel.
_NCHAN: Final = """
load_module {module};
worker_processes 1; daemon off; pid nchan.pid; error_log nchan.err warn; user root;
worker_rlimit_nofile 20000;
events {{ worker_connections 19000; }}
http {{
  access_log off; nchan_shared_memory_size 256M;
  client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f;
  uwsgi_temp_path u; scgi_temp_path s;
  map_hash_max_size 65536; map_hash_bucket_size 512;
  map $arg_list $channels {{ default x; {lists} }}
  map $arg_id $channel {{ default $arg_id; "" x; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096; keepalive_requests 10000000;
    location = /sub {{
      nchan_subscriber; nchan_channel_id $channels;
      nchan_channel_id_split_delimiter ",";
      nchan_subscriber_first_message newest;
    }}
    location = /pub {{
      nchan_publisher; nchan_channel_id $channel; nchan_message_buffer_length 2000;
    }}
  }}
}}
"""


class Load(Struct, frozen=True, kw_only=True):
    """What a server is to bear: messages a second, connections, for so long.

    Each message is of ``count`` instruments.
    """

    rate: float
    streams: int
    seconds: float
    count: int = 1


class Served(Struct, frozen=True, kw_only=True):
    """Where a server listens, and the processes whose cost counts.

    ``marker`` stands before each price's moment, which is in ``unit``; ``name_mark``
    before the number in an instrument's name, where there are several. ``go`` lets the
    load begin, where it waits for everybody to be there. Where ``everybody`` is not set
    some may hear nothing in time under too much load.
    """

    port: int
    path: str
    marker: str
    pids: tuple[int, ...]
    unit: str = "us"
    name_mark: str = ""
    everybody: bool = True
    go: Callable[[], None] = lambda: None


Open = Callable[[Load, Cores], AbstractAsyncContextManager[Served]]


def free_port() -> int:
    """Return a port that nobody has now."""
    with closing(socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def fed(load: Load, cores: Cores) -> AsyncIterator[dict[str, str]]:
    """Run Valkey and a leader; yields the environment of who reads its board."""
    board = f"bench-{next(_boards)}"
    async with embedded() as url:
        words = ("publish", "store", url, board, str(load.rate), str(load.count))
        async with running(_PYTHON, str(HERE), *words, cores=cores.others) as leader:
            await said(leader, b"publishing")
            yield {"RELAY_VALKEY_URL": url, "RELAY_BOARD": board}


@asynccontextmanager
async def serving(
    environ: dict[str, str], core: set[int], path: str = f"?symbols={NAME}"
) -> AsyncIterator[Served]:
    """Run ``relay serve`` as a user starts it."""
    words = (_PYTHON, "-m", "relay", "serve", "--port", "0")
    async with running(*words, cores=core, environ=environ) as server:
        line = await said(server, b"relay at http://")
        yield Served(
            port=int(line.rpartition(b":")[2]),
            path=f"/v1/stream{path}",
            marker=MARKER,
            pids=(server.pid,),
        )


@asynccontextmanager
async def relay(load: Load, cores: Cores) -> AsyncIterator[Served]:
    """Run Valkey, a leader, and ``relay serve``."""
    async with fed(load, cores) as environ, serving(environ, cores.server) as served:
        yield served


@asynccontextmanager
async def nchan(load: Load, cores: Cores) -> AsyncIterator[Served]:
    """Run nginx with nchan, fed with the bodies that the relay sends.

    Raises:
        Missing: it is not installed.
    """
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(nchan_at(cores))
        if load.rate:
            feed = (str(HERE), "publish", "nchan", str(served.port), str(load.rate))
            feeding = running(_PYTHON, *feed, cores=cores.others)
            await said(await stack.enter_async_context(feeding), b"publishing")
        yield replace(served, path="/sub", marker=MARKER, name_mark="")


@asynccontextmanager
async def nchan_at(cores: Cores, lists: str = "") -> AsyncIterator[Served]:
    """Run nginx with nchan, fed by nobody yet; ``lists`` names each list's channels.

    Raises:
        Missing: it is not installed.
    """
    nginx = _find_nchan()
    port = free_port()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = _NCHAN.format(module=_MODULES, port=port, lists=lists)
        (folder / "nchan.conf").write_text(settings, encoding="utf-8")
        words = (nginx, "-p", str(folder), "-c", "nchan.conf", "-e", "nchan.err")
        serving = running(*words, cores=cores.server, folder=folder)
        server = await stack.enter_async_context(serving)
        await listening(port)
        yield Served(
            port=port,
            path="/sub?list=g%d",
            marker=exchange.MARKER,
            pids=tuple(children(server.pid)),
            name_mark=exchange.NAME_MARK,
        )


def find_nginx() -> str:
    """Return nginx's path.

    Raises:
        Missing: it is not here.
    """
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        raise Missing("nginx (Debian: nginx)")
    return nginx


def _find_nchan() -> str:
    """Return the path of an nginx with nchan.

    Raises:
        Missing: it is not here, or has no nchan.
    """
    if not Path(_MODULES).exists():
        raise Missing("nchan (Debian: libnginx-mod-nchan)")
    return find_nginx()


def children(pid: int) -> list[int]:
    """Return the processes that one has started; nginx's worker bears its load."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    return [int(child) for child in listed.split()]


@asynccontextmanager
async def c_loop(load: Load, cores: Cores, program: str) -> AsyncIterator[Served]:
    """Run the loop that does nothing but write frames of the same size."""
    port = free_port()
    pad = len(body(ticker(0, _NOW_US))) - len('{"p":"","t":1763635200000000}')
    words = (program, str(port), str(load.streams), str(load.rate))
    lasts_s = str(load.seconds + 3600)  # until it is ended
    async with running(*words, lasts_s, str(pad), cores=cores.server) as server:
        await listening(port)
        yield Served(port=port, path="/", marker='"t":', pids=(server.pid,))
