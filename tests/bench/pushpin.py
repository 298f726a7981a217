"""Pushpin, one more peer: its own test handler holds the streams, ours publishes.

The other servers stand in ``servers``.
"""

import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from os import kill
from pathlib import Path
from typing import Final

from tests.bench.ground import HERE, Cores, Missing, listening, running, said
from tests.bench.publisher import MARKER
from tests.bench.servers import Load, Served, children, free_port

_INCLUDED: Final = "/usr/lib/pushpin/internal.conf"

# As shipped, but for places and ports, and without the limit on messages, which is
# 2,500 a second of all streams together as it comes.
_SETTINGS: Final = """
[global]
include={included}
rundir={folder}
ipc_prefix=p-
port_offset=0
[runner]
services=condure,pushpin-proxy,pushpin-handler
http_port=127.0.0.1:{port}
logdir={folder}
log_level=1
client_buffer_size=8192
client_maxconn=19000
condure_bin=condure
[proxy]
routesfile={folder}/routes
updates_check=off
[handler]
push_in_spec=ipc://{folder}/push
push_in_sub_specs=ipc://{folder}/sub
push_in_http_addr=127.0.0.1
push_in_http_port={control}
push_in_http_max_body_size=1000000
stats_spec=ipc://{folder}/stats
command_spec=ipc://{folder}/command
message_rate=0
message_hwm=1000000
message_wait=5000
connection_subscription_max=20
"""


@asynccontextmanager
async def pushpin(load: Load, cores: Cores) -> AsyncIterator[Served]:
    """Run Pushpin's three processes on the server's core, fed with our bodies.

    Raises:
        Missing: it is not installed.
    """
    if not _is_here():
        raise Missing("pushpin (Debian: pushpin)")
    port, control = free_port(), free_port()
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        settings = Path(folder) / "pushpin.conf"
        settings.write_text(
            _SETTINGS.format(
                included=_INCLUDED, folder=folder, port=port, control=control
            ),
            encoding="utf-8",
        )
        # The handler that it has for tests: /stream holds on a channel named "test".
        (Path(folder) / "routes").write_text("* test\n", encoding="utf-8")
        serving = running("pushpin", "-m", f"--config={settings}", cores=cores.server)
        runner = await stack.enter_async_context(serving)
        await listening(port)
        await listening(control)
        parts = tuple(children(runner.pid))
        stack.enter_context(_ended(parts))
        feed = (str(HERE), "publish", "pushpin", str(control), str(load.rate))
        feeding = running(sys.executable, *feed, cores=cores.others)
        await said(await stack.enter_async_context(feeding), b"publishing")
        yield Served(
            port=port, path="/stream", marker=MARKER, pids=parts, everybody=False
        )


def _is_here() -> bool:
    return shutil.which("pushpin") is not None and Path(_INCLUDED).exists()


@contextmanager
def _ended(pids: tuple[int, ...]) -> Iterator[None]:
    """End what has sessions of its own, and would outlive who started it."""
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)
