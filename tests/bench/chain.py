"""Everything from an exchange's frame to a client, and nchan in its place.

An exchange of ours sends; ``relay worker`` and ``relay serve`` run as a user starts
them. Clients ask for lists of ten instruments: ``?list=g17``.
"""

import asyncio
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

import httpx
from msgspec import Struct
from msgspec.structs import replace

from relay.store.embedded import embedded
from tests.bench.exchange import MARKER, NAME_MARK, instruments
from tests.bench.ground import HERE, Cores, Unwell, running, said
from tests.bench.servers import Served, nchan_at

_PYTHON: Final = sys.executable
_EACH: Final = 10
_OTHERS: Final = ("coinbase", "kraken", "coincap", "coingecko")
_FILL_S: Final = 20
_SEED: Final = 1


class Flow(Struct, frozen=True, kw_only=True):
    """What flows: updates a second of so many instruments, in so many selections.

    As many clients as ``streams`` share the selections; a selection has ten
    instruments, whose numbers differ in their last digit.
    """

    count: int
    rate: float
    selections: int
    streams: int

    def lists(self) -> list[list[str]]:
        """Return each client's instruments."""
        chance, names = Random(_SEED), instruments(self.count)
        chosen = [
            [
                names[chance.randrange(digit, self.count, _EACH)]
                for digit in range(_EACH)
            ]
            for _ in range(self.selections)
        ]
        return [chosen[number % self.selections] for number in range(self.streams)]


def settings(flow: Flow) -> str:
    """Write the relay's settings: one exchange, its instruments, the clients' lists."""
    quoted = ", ".join(f'"{name}"' for name in instruments(flow.count))
    lines = [f'[[board.groups]]\ninstruments = [{quoted}]\nsources = ["binance"]']
    lines += [f"[exchanges.{name}]\nenabled = false" for name in _OTHERS]
    lines.append("[board.lists]")
    lines += [f"g{number} = {names}" for number, names in enumerate(flow.lists())]
    return "\n".join(lines)


class Sending(Struct, frozen=True):
    """An exchange that runs: its port, and what lets it keep its rate."""

    port: int
    go: Callable[[], None]


@asynccontextmanager
async def exchange(flow: Flow, cores: Cores) -> AsyncIterator[Sending]:
    """Run the exchange."""
    words = (str(HERE), "exchange", str(flow.count), str(flow.rate))
    async with running(_PYTHON, *words, cores=cores.others) as process:
        line = await said(process, b"exchange at ")
        port = int(line.rpartition(b" ")[2])
        yield Sending(port, partial(process.send_signal, signal.SIGUSR1))


class Working(Struct, frozen=True):
    """A worker that runs: the environment of who reads its board, and its exchange."""

    environ: dict[str, str]
    sending: Sending


@asynccontextmanager
async def working(flow: Flow, cores: Cores) -> AsyncIterator[Working]:
    """Run the exchange, Valkey and ``relay worker``."""
    async with AsyncExitStack() as stack:
        sending = await stack.enter_async_context(exchange(flow, cores))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        file = Path(folder) / "bench.toml"
        file.write_text(settings(flow), encoding="utf-8")
        environ = {
            "RELAY_VALKEY_URL": await stack.enter_async_context(embedded()),
            "RELAY_SIM_URL": f"http://127.0.0.1:{sending.port}",
            "RELAY_CONFIG": str(file),
        }
        words = (_PYTHON, "-m", "relay", "worker")
        await stack.enter_async_context(
            running(*words, cores=cores.others, environ=environ)
        )
        yield Working(environ, sending)


@asynccontextmanager
async def through_relay(flow: Flow, cores: Cores) -> AsyncIterator[Served]:
    """Run everything with ``relay serve`` at its end; yields when prices flow."""
    async with working(flow, cores) as behind:
        words = (_PYTHON, "-m", "relay", "serve", "--port", "0")
        async with running(
            *words, cores=cores.server, environ=behind.environ
        ) as server:
            line = await said(server, b"relay at http://")
            port = int(line.rpartition(b":")[2])
            await _filled(port)
            yield Served(
                port=port,
                path="/v1/stream?list=g%d",
                marker=MARKER,
                pids=(server.pid,),
                name_mark=NAME_MARK,
                go=behind.sending.go,
            )


async def _filled(port: int) -> None:
    """Wait until everything that the worker is to read has a price.

    Raises:
        Unwell: that took too long.
    """
    url = f"http://127.0.0.1:{port}/v1/prices?list=g0"
    try:
        async with asyncio.timeout(_FILL_S), httpx.AsyncClient() as asker:
            while (await asker.get(url)).json()["missing"]:  # noqa: ASYNC110 - another process's
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise Unwell(f"no prices within {_FILL_S} s") from None


@asynccontextmanager
async def updates_to_nchan(flow: Flow, cores: Cores) -> AsyncIterator[Served]:
    """Feed nchan each update of the exchange, on a channel for each instrument.

    Raises:
        Missing: it is not installed.
    """
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(nchan_at(cores, _by_list(flow)))
        sending = await stack.enter_async_context(exchange(flow, cores))
        words = (str(sending.port), str(served.port), str(flow.count))
        feeding = running(
            *(_PYTHON, str(HERE), "bridge", "updates", *words), cores=cores.others
        )
        await said(await stack.enter_async_context(feeding), b"publishing")
        yield replace(served, go=sending.go)


def _by_list(flow: Flow) -> str:
    """Write nginx's table from a client's list to its channels."""
    rows = (
        f"g{number} {','.join(names)};" for number, names in enumerate(flow.lists())
    )
    return "\n".join(rows)


@asynccontextmanager
async def batches_to_nchan(flow: Flow, cores: Cores) -> AsyncIterator[Served]:
    """Feed nchan with what the same worker publishes, batch by batch.

    Raises:
        Missing: it is not installed.
    """
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(nchan_at(cores))
        behind = await stack.enter_async_context(working(flow, cores))
        words = (behind.environ["RELAY_VALKEY_URL"], "spot", str(served.port))
        feeding = running(
            *(_PYTHON, str(HERE), "bridge", "batches", *words), cores=cores.others
        )
        await said(await stack.enter_async_context(feeding), b"publishing")
        yield replace(served, go=behind.sending.go)
