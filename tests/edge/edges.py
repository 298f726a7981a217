"""The real Varnish and nginx with the settings that we ship, on ports of their own.

Only addresses and places on the disk are replaced.
"""

import asyncio
import re
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.harness import until

SHIPPED = Path(__file__).parents[2] / "config" / "edge"
NAMES = ("varnish", "nginx")

_VARNISH_PARAMETERS = (
    "thread_pool_max=300",
    "thread_queue_limit=20000",
    "timeout_idle=75",
)


def program(name: str) -> str:
    """Return where a program is; skips where it is not installed."""
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@asynccontextmanager
async def running(
    name: str, origins: Sequence[str], home: Path, *, shipped: Path = SHIPPED
) -> AsyncIterator[str]:
    """Run an edge before two origins, with settings of a folder; yields its URL."""
    port, addresses = free_port(), [urlsplit(url).netloc for url in origins]
    if name == "varnish":
        arguments = _varnish(shipped / "varnish.vcl", home, port, addresses)
    else:
        arguments = _nginx(shipped / "nginx.conf", home, port, addresses)
    process = await asyncio.create_subprocess_exec(
        *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        await until(lambda: _listens(process, port))
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()


async def _listens(process: asyncio.subprocess.Process, port: int) -> bool:
    if process.returncode is not None:
        assert process.stderr is not None
        said = (await process.stderr.read()).decode()
        raise AssertionError(f"the edge did not start:\n{said}")
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def _varnish(file: Path, home: Path, port: int, addresses: Sequence[str]) -> list[str]:
    text = file.read_text()
    for shipped, address in zip(("8001", "8002"), addresses, strict=True):
        host, _, own = address.partition(":")
        pattern = rf'\.host = "127\.0\.0\.1";\s+\.port = "{shipped}";'
        text, count = re.subn(pattern, f'.host = "{host}"; .port = "{own}";', text)
        assert count == 1
    settings = home / "running.vcl"
    settings.write_text(text)
    parameters = [part for one in _VARNISH_PARAMETERS for part in ("-p", one)]
    return [
        *(program("varnishd"), "-F", "-j", "none", "-n", str(home / "varnish")),
        *("-a", f"127.0.0.1:{port}", "-f", str(settings), "-s", "malloc,64m"),
        *parameters,
    ]


def _nginx(file: Path, home: Path, port: int, addresses: Sequence[str]) -> list[str]:
    text = file.read_text()
    replaced = {
        "server 127.0.0.1:8001": f"server {addresses[0]}",
        "server 127.0.0.1:8002": f"server {addresses[1]}",
        "listen 80 ": f"listen 127.0.0.1:{port} ",
        "/run/nginx.pid": f"{home}/nginx.pid",
        "/var/log/nginx/error.log": f"{home}/error.log",
        "/var/cache/nginx/relay": f"{home}/cache",
        # As many as a process may open here.
        "worker_rlimit_nofile 65536": "worker_rlimit_nofile 16000",
        "worker_connections 30000": "worker_connections 8000",
        "worker_processes auto": "daemon off; worker_processes 1",
    }
    for shipped, ours in replaced.items():
        assert text.count(shipped) == 1, shipped
        text = text.replace(shipped, ours)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {home}/{kind};" for kind in kinds)
    # The workers stay who we are, so that they may write here.
    text = text.replace("http {", f"http {{ {temporary}", 1)
    settings = home / "running.conf"
    settings.write_text(f"user root;\n{text}" if _is_root() else text)
    return [program("nginx"), "-p", str(home), "-c", str(settings)]


def _is_root() -> bool:
    return Path("/proc/self").stat().st_uid == 0
