"""Everything that runs: two workers, two servers, a Valkey, the exchanges, observers.

Between any two stands a proxy. What is done to them is in the tests; what must hold
all the while is in ``endure``.
"""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import urlsplit

import httpx
from msgspec import Struct
from msgspec.structs import replace

from relay.simulator.listing import Symbol
from relay.simulator.server import Simulator
from relay.simulator.settings import BinanceSettings, KrakenSettings, Settings
from tests.edge.edges import running
from tests.faults.clocks import WrongClock
from tests.faults.observers import HEARTBEAT_S, WAYS, Observer, sample
from tests.faults.proxy import Proxy
from tests.faults.report import Size
from tests.faults.sent import Sent, plain
from tests.faults.valkey import OwnCluster, OwnValkey
from tests.harness import eventually
from tests.simulation.processes import Process, spawn

SOON_S: Final = 100
LEASE_S: Final = 3
BEAT_S: Final = 3
QUIET_S: Final = 2
# What was spent and is not remembered any more counts as spent until it has landed and
# its window is over: a minute, in which hardly a connection is made.
FORGIVEN_MS: Final = 100_000
# The shipped limits by the minute and by ten, over windows that a run outlives.
WINDOW_MS: Final = 2_000

# The shipped settings with shorter times, so that a fault takes seconds.
_SETTINGS: Final = f"""
[ingest]
lease_ms = {LEASE_S * 1000}
lease_renew_ms = 1000
lease_ask_ms = 300
beat_ms = {BEAT_S * 1000}
reconnect_min_ms = 250
reconnect_max_ms = 2000
log_every_ms = 1000

[store]
clock_ms = 2000

[http]
heartbeat_ms = {HEARTBEAT_S * 1000}
quiet_ms = {QUIET_S * 1000}
# Everybody here has one address.
address_open_max = 0

# So that a fault of REST meets an answer soon.
[exchanges.coinbase]
snapshot_ms = 10000

[[exchanges.binance.limits]]
name = "weight"
weight_max = 6000
window_ms = {WINDOW_MS}
kind = "fixed"
scope = "address"

[[exchanges.binance.limits]]
name = "connect"
weight_max = 300
window_ms = {WINDOW_MS}
kind = "rolling"
scope = "address"

[[exchanges.kraken.limits]]
name = "weight"
weight_max = 1
window_ms = 1000
kind = "rolling"
scope = "address"

[[exchanges.kraken.limits]]
name = "connect"
weight_max = 120
window_ms = {WINDOW_MS}
kind = "rolling"
scope = "address"
"""
# The exchanges count by the same windows.
_EXCHANGES: Final = Settings(
    updates_per_second=120,
    burst_updates=500,
    burst_every_ms=5_000,
    binance=BinanceSettings(weight_ms=WINDOW_MS, attempts_ms=WINDOW_MS),
    kraken=KrakenSettings(attempts_ms=WINDOW_MS),
)

# What observers select; each by the name that each of its sources has for it. The last
# is left alone: it seldom moves, so whoever loses it does not get it back by chance.
SYMBOLS: Final[dict[str, dict[str, str]]] = {
    "BTC-USD": {"coinbase": "BTC-USD", "kraken": "BTC/USD", "binance": "BTCUSDT"},
    "ETH-USD": {"coinbase": "ETH-USD", "kraken": "ETH/USD", "binance": "ETHUSDT"},
    "BTC-USDT": {"binance": "BTCUSDT", "kraken": "BTC/USDT"},
    "XMR-USD": {"kraken": "XMR/USD"},
    "ZEC-USD": {},
}
STREAMING: Final = ("binance", "coinbase", "kraken")

# The port of a service that nobody runs any more.
NOBODY: Final = ("127.0.0.1", 9)

Pins = dict[str, dict[str, str]]


def footprint(pid: int) -> tuple[int, int]:
    """Return a process's memory in bytes and how many descriptors it has."""
    proc = Path("/proc") / str(pid)
    pages = int((proc / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(list((proc / "fd").iterdir()))


class Part:
    """One ``relay`` process, which comes and goes; its proxies stay."""

    def __init__(  # noqa: PLR0913 - a process and what stands around it
        self,
        tasks: asyncio.TaskGroup,
        arguments: tuple[str, ...],
        *,
        store: Proxy,
        environ: dict[str, str],
        front: Proxy | None = None,
        exchanges: Proxy | None = None,
        clock: WrongClock | None = None,
    ) -> None:
        self.clock = clock
        self._tasks, self._arguments, self._environ = tasks, arguments, environ
        self.store, self.front, self.exchanges = store, front, exchanges
        self._started: asyncio.subprocess.Process | None = None
        self.process: Process | None = None

    async def start(self) -> None:
        """Start it; a server's front proxy learns where it listens."""
        self._started = await spawn(*self._arguments, **self._environ)
        self.process = Process(self._started)
        self._tasks.create_task(self.process.listen())
        if self.front is not None:
            said = await self.process.says(r"relay at (\S+)", within_s=SOON_S)
            parts = urlsplit(said[1])
            assert parts.hostname is not None
            assert parts.port is not None
            self.front.target = parts.hostname, parts.port

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send(number)

    async def kill(self) -> None:
        """End it without a word."""
        if self._started is None:
            return
        if self.front is not None:
            self.front.target = NOBODY  # its port may soon be somebody else's
        with suppress(ProcessLookupError):
            os.killpg(self._started.pid, signal.SIGKILL)
        await self._started.wait()

    async def end(self) -> int:
        """End it in order; returns its status."""
        self.send(signal.SIGTERM)
        assert self.process is not None
        return await self.process.ended(within_s=15)

    @property
    def pid(self) -> int:
        """The number of its process, or of its last one."""
        assert self._started is not None
        return self._started.pid

    @property
    def name(self) -> str:
        """The command that it is."""
        return self._arguments[0]

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._started is not None and self._started.returncode is None

    @property
    def leads(self) -> int:
        """The newest token it has said that it leads with; 0 while it does not."""
        token = 0
        for line in self.process.said if self.process and self.running else ():
            match = re.search(r"leading with token (\d+)", line)
            token = int(match[1]) if match else token
            token = 0 if "not leading any more" in line else token
        return token

    def footprint(self) -> tuple[int, int]:
        """Return its memory in bytes and how many descriptors it has."""
        return footprint(self.pid)

    async def size(self) -> Size:
        """Return what it holds; of its tasks only a server tells by itself."""
        tasks = 0
        if self.front is not None:
            host, port = self.front.target
            async with httpx.AsyncClient(timeout=5) as client:
                said = (await client.get(f"http://{host}:{port}/metrics")).text
            tasks = int(float(re.findall(r"^relay_tasks (\S+)", said, re.MULTILINE)[0]))
        return Size(*self.footprint(), tasks)


class Shape(Struct, frozen=True, kw_only=True):
    """What is different from the usual fleet.

    ``clocks`` gives every process a clock that can be set; ``cluster`` is the store;
    ``edge`` names the one through which observers read.
    """

    clocks: bool = False
    cluster: bool = False
    edge: str = ""


class Fleet:
    """Everything that runs, and the one source of chance."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        folder: Path,
        stack: AsyncExitStack,
        seed: int,
        shape: Shape,
    ) -> None:
        self._tasks, self._folder, self._stack = tasks, folder, stack
        self._shape = shape
        self.seed, self.random = seed, Random(seed)
        self.valkey: OwnValkey | OwnCluster = (
            OwnCluster(folder / "cluster")
            if shape.cluster
            else OwnValkey(folder / "valkey", self._clock("valkey"))
        )
        self.simulator = Simulator(replace(_EXCHANGES, seed=seed))
        self.sent = Sent()
        self.workers: list[Part] = []
        self.servers: list[Part] = []
        self.observers: list[Observer] = []
        self._pinned = 0
        self._usual: dict[str, Size] = {}
        self._forgot_ms = 0

    @property
    def parts(self) -> list[Part]:
        """Every process of ours."""
        return [*self.workers, *self.servers]

    @property
    def stores(self) -> list[Proxy]:
        """What stands before the store."""
        return [part.store for part in self.parts]

    async def start(self) -> None:
        """Start everything, and wait until every observer holds all."""
        (self._folder / "settings.toml").write_text(_SETTINGS)
        await self.valkey.start()
        self._stack.push_async_callback(self.valkey.close)
        await self._stack.enter_async_context(self.simulator)
        for _ in range(2):
            self.workers.append(await self._worker())
        for _ in range(2):
            self.servers.append(await self._server())
        for part in self.parts:
            self._stack.push_async_callback(part.kill)
        async with asyncio.TaskGroup() as starting:
            for part in self.parts:
                starting.create_task(part.start())
        await self._watch()
        await self.settle()
        self._usual = await self._sizes()

    def _clock(self, name: str) -> WrongClock | None:
        return (
            WrongClock(self._folder / f"{name}.clock") if self._shape.clocks else None
        )

    async def _proxy(
        self, target: tuple[str, int], heard: Callable[[], Callable[[bytes], bytes]]
    ) -> Proxy:
        return await self._stack.enter_async_context(Proxy(target, heard))

    async def _store(self) -> Proxy:
        proxy = Proxy(("127.0.0.1", self.valkey.port))
        return await self._stack.enter_async_context(proxy)

    def _environ(self, store: Proxy, clock: WrongClock | None) -> dict[str, str]:
        environ = clock.environ if clock else {}
        if isinstance(self.valkey, OwnCluster):
            return environ | {
                "RELAY_VALKEY_URL": self.valkey.url,
                "RELAY_BOARD": self.valkey.board,
            }
        return environ | {"RELAY_VALKEY_URL": f"valkey://{store.address}"}

    async def _worker(self) -> Part:
        store = await self._store()
        at = urlsplit(self.simulator.url)
        assert at.hostname is not None
        assert at.port is not None
        exchanges = await self._proxy((at.hostname, at.port), self.sent.ear)
        exchanges.up = plain
        clock = self._clock(f"worker{len(self.workers)}")
        environ = self._environ(store, clock) | {
            "RELAY_SIM_URL": f"http://{exchanges.address}"
        }
        arguments = ("worker", "--config", str(self._folder / "settings.toml"))
        return Part(
            self._tasks,
            arguments,
            store=store,
            environ=environ,
            exchanges=exchanges,
            clock=clock,
        )

    async def _server(self) -> Part:
        store = await self._store()
        front = await self._stack.enter_async_context(Proxy(NOBODY))
        config = str(self._folder / "settings.toml")
        arguments = ("serve", "--port", "0", "--config", config)
        clock = self._clock(f"server{len(self.servers)}")
        environ = self._environ(store, clock)
        return Part(
            self._tasks,
            arguments,
            store=store,
            environ=environ,
            front=front,
            clock=clock,
        )

    async def _doors(self) -> list[str]:
        urls = [f"http://{one.front.address}" for one in self.servers if one.front]
        if not self._shape.edge:
            return urls
        home = self._folder / self._shape.edge
        home.mkdir()
        edge = running(self._shape.edge, urls, home)
        return [await self._stack.enter_async_context(edge)]

    async def _watch(self) -> None:
        urls = await self._doors()
        for name, way in WAYS.items():
            for turned in (urls, urls[::-1]):
                observer = Observer(
                    f"{name}{len(self.observers)}",
                    turned,
                    list(SYMBOLS),
                    sent=self.sent,
                    now=self.simulator.now,
                )
                self.observers.append(observer)
                task = self._tasks.create_task(observer.watch(way))
                self._stack.callback(task.cancel)
        sampling = self._tasks.create_task(sample(self.observers))
        self._stack.callback(sampling.cancel)

    # What tests ask.

    def leader(self) -> Part:
        """Return the worker that leads."""
        return max(self.workers, key=lambda part: part.leads)

    def follower(self) -> Part:
        """Return the worker that waits."""
        return min(self.workers, key=lambda part: part.leads)

    def forget(self) -> None:
        """Note that the store has lost what was spent."""
        self._forgot_ms = self.simulator.now()

    @property
    def forgetful(self) -> bool:
        """Whether what is not remembered may still count as spent."""
        return self.simulator.now() - self._forgot_ms < FORGIVEN_MS

    async def mend(self) -> None:
        """Undo whatever a test that failed has left, and wait until all is well."""
        self.simulator.clear_faults()
        for part in self.parts:
            for proxy in (part.store, part.front, part.exchanges):
                if proxy is not None:
                    proxy.heal()
            if part.clock is not None:
                part.clock.set(0)
            if not part.running:
                await part.start()
            part.send(signal.SIGCONT)
        if not self.valkey.running:
            await self.valkey.start()
        self.valkey.send(signal.SIGCONT)
        await self.valkey.heal()
        await self.settle()

    async def settle(self) -> None:
        """Wait until everything runs and every observer holds the newest."""
        pins = self.pin()
        try:
            await eventually(
                lambda: (
                    any(part.leads for part in self.workers)
                    and all(one == 1 for one in self.open_connections().values())
                    and all(one.holds(pins) for one in self.observers)
                ),
                within_s=SOON_S,
            )
        except TimeoutError:
            raise AssertionError(self.story(pins)) from None
        finally:
            self.unpin()

    def pin(self) -> Pins:
        """Let each exchange show a price of its own for everything, and keep to it."""
        self.unpin()  # from where they would be by themselves
        self._pinned += 1
        listed = [(name, *one) for name in SYMBOLS for one in SYMBOLS[name].items()]
        for _, exchange, symbol in listed:
            quote = self._find(exchange, symbol).look()
            # No jump, and not the price of the last time.
            price = quote.price(quote.last + self._pinned % 37 + 1)
            self.simulator.set_price(exchange, symbol, price)
        # Two instruments may share a symbol: the price that was set last counts.
        pins: Pins = {name: {} for name in SYMBOLS}
        for name, exchange, symbol in listed:
            pins[name][exchange] = self._find(exchange, symbol).pinned or ""
        return pins

    def _find(self, exchange: str, symbol: str) -> Symbol:
        found = self.simulator.exchanges[exchange].find(symbol)
        assert found is not None, f"{exchange} does not list {symbol}"
        return found

    def unpin(self) -> None:
        """Let the prices move again."""
        for symbols in SYMBOLS.values():
            for exchange, symbol in symbols.items():
                self.simulator.set_price(exchange, symbol, None)

    def breaches(self) -> dict[str, dict[str, int]]:
        """Return the limits that were broken, as the exchanges counted them.

        Refusals among them that a breach has earned, by their status.
        """
        counts = self.simulator.counts().exchanges
        found = {
            name: one.total.breaches
            | one.total.refusals.earned
            | ({"bans": one.total.bans} if one.total.bans else {})
            for name, one in counts.items()
        }
        return {name: broken for name, broken in found.items() if broken}

    async def grown(self) -> dict[str, Size]:
        """Return how much more each kind of process holds than at the beginning."""
        sizes = await self._sizes()
        return {name: size.beyond(self._usual[name]) for name, size in sizes.items()}

    async def _sizes(self) -> dict[str, Size]:
        """Measure all; of several processes of one kind, the largest of each."""
        led = await self.valkey.health()
        sizes = {
            "valkey": Size(await self.valkey.used_bytes()),
            "worker": Size(tasks=led.get("leader", {}).get("tasks", 0)),
        }
        for part in self.parts:
            size = await part.size()
            sizes[part.name] = size.largest(sizes.get(part.name, size))
        return sizes

    def open_connections(self) -> dict[str, int]:
        """Return how many connections each streaming exchange has."""
        counts = self.simulator.counts().exchanges
        return {name: counts[name].total.connections.open for name in STREAMING}

    def story(self, pins: Pins) -> str:
        """Tell how everything stands, for a test that fails."""
        lines = [f"seed {self.seed}"]
        lines += [
            f"{one.name}: live={one.live} cursor={one.cursor} answers={one.answers}"
            f" errors={dict(one.errors)} lacks={one.lacks(pins)[:3]}"
            for one in self.observers
        ]
        for part in self.parts:
            said = part.process.said[-40:] if part.process else []
            lines += [f"-- {part.name} running={part.running}", *said]
        return "\n".join(lines)


_USUAL: Final = Shape()


@asynccontextmanager
async def open_fleet(
    folder: Path, seed: int, shape: Shape = _USUAL
) -> AsyncIterator[Fleet]:
    """Run a fleet while the context lasts."""
    async with asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:
        fleet = Fleet(tasks, folder, stack, seed, shape)
        await fleet.start()
        yield fleet
