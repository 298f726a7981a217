"""From a process's start to its first answer: the packaged ``api``, a bare Litestar.

    python -m functions.startup build/api

Both run from the same folder in an interpreter that sees nothing else. What is counted
is the processor's time, since next to nothing is waited for and a busy machine would
add to either at will; the two take turns, and the least of each counts.
"""

import asyncio
import gc
import resource
import subprocess
import sys
from pathlib import Path
from typing import Final

from msgspec import Struct

from relay.store.embedded import embedded

gc.enable()  # a tool and no function; see the package

EVENT: Final = {
    "version": "2.0",
    "rawPath": "/v1/prices",
    "rawQueryString": "",
    "headers": {"host": "relay.test"},
    "requestContext": {
        "http": {"method": "GET", "path": "/v1/prices", "sourceIp": "192.0.2.1"}
    },
    "isBase64Encoded": False,
}

RELAY: Final = f"""
from functions.api import handler
answer = handler({EVENT!r}, None)
assert answer["statusCode"] == 200, answer
"""

BARE: Final = f"""
from litestar import Litestar, get
from mangum import Mangum

@get("/v1/prices")
async def prices() -> dict[str, str]:
    return {{}}

answer = Mangum(Litestar([prices]), lifespan="off")({EVENT!r}, None)
assert answer["statusCode"] == 200, answer
"""


class Startup(Struct, frozen=True):
    """Milliseconds of the processor from start to first answer."""

    relay_ms: float
    bare_ms: float

    @property
    def ratio(self) -> float:
        """How many times as long the relay takes."""
        return self.relay_ms / self.bare_ms


def run_clean(
    folder: Path, code: str, environ: dict[str, str], *, bare: bool = True
) -> str:
    """Run code in an interpreter that sees a folder and the standard library.

    Unless it is ``bare`` it sees what is installed as well.
    """
    alone = ["-S"] if bare else []
    shown = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, *alone, "-c", code],
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"} | environ,
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


def _spent_ms() -> float:
    """Return what all processes that we have started and seen end have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1000


def measure(folder: Path, url: str, *, rounds: int) -> Startup:
    """Start each of the two so many times, in turn."""
    environ = {"RELAY_VALKEY_URL": url, "RELAY_PLATFORM": "lambda"}
    spent: dict[str, list[float]] = {RELAY: [], BARE: []}
    for _ in range(rounds):
        for code, times in spent.items():
            before_ms = _spent_ms()
            run_clean(folder, code, environ)
            times.append(_spent_ms() - before_ms)
    return Startup(min(spent[RELAY]), min(spent[BARE]))


async def _main(folder: Path) -> None:
    async with embedded() as url:
        took = await asyncio.to_thread(measure, folder, url, rounds=10)
    sys.stdout.write(
        f"relay {took.relay_ms:.0f} ms, bare Litestar {took.bare_ms:.0f} ms, "
        f"ratio {took.ratio:.2f}\n"
    )


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]).resolve()))
