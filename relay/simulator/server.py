"""The simulator itself: one port, and the pulse that moves the market.

No protocol of any exchange, and none of the pages under ``/_sim``.
"""

from asyncio import TaskGroup, sleep
from collections.abc import Callable
from contextlib import AsyncExitStack
from logging import getLogger
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from relay.clock import Clock
from relay.simulator.assets import asset_rows
from relay.simulator.binance import Binance
from relay.simulator.coinbase import Coinbase
from relay.simulator.coinbase_exchange import CoinbaseExchange
from relay.simulator.coincap import Coincap
from relay.simulator.coingecko import Coingecko
from relay.simulator.control import Control
from relay.simulator.desk import Desk
from relay.simulator.faults import Fault, Faults, Standing
from relay.simulator.kraken import Kraken
from relay.simulator.ledger import Ledger, Picture
from relay.simulator.line import Line
from relay.simulator.market import Market
from relay.simulator.settings import Settings
from relay.simulator.wire import Exchange, World

_LINE_BYTES_MOST: Final = 65_536  # Kraken answers 414 itself, above 8 KB
_STOP_S: Final = 0.2

_log = getLogger(__name__)


class Simulator:
    """Every exchange on one port.

    Start it with ``async with`` or with ``start`` and ``stop``; the fault, price and
    count methods are what ``/_sim`` offers over HTTP.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self._host = host
        self._port = port
        clock = clock or Clock()
        wall_ms, steady_ms = clock.wall_ms(), clock.monotonic_ms()
        # One steady clock from here on: nobody who sets the wall clock moves ours.
        self.now: Callable[[], int] = lambda: wall_ms + clock.monotonic_ms() - steady_ms
        self.exchanges = open_exchanges(self.settings, self.now())
        self._world = self.exchanges["binance"].world
        self.lines: set[Line] = set()
        self._stack = AsyncExitStack()

    @property
    def url(self) -> str:
        """Where it listens, once started."""
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        """Listen and let the market move.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application()
        Control(self).add_routes(app)
        app.router.add_route("*", "/{path:.*}", Desk(self).serve)
        runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=_STOP_S,
            max_line_size=_LINE_BYTES_MOST,
            max_field_size=_LINE_BYTES_MOST,
        )
        async with AsyncExitStack() as stack:
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, self._host, self._port, backlog=1_024)
            await site.start()
            self._port = runner.addresses[0][1]
            tasks = await stack.enter_async_context(TaskGroup())
            pulse = tasks.create_task(self._pulse())
            stack.callback(self._cut_all)
            stack.callback(pulse.cancel)
            self._stack = stack.pop_all()
        _log.info("simulating on %s, seed %d", self.url, self.settings.seed)

    async def stop(self) -> None:
        """Cut every connection and give the port back; within a second."""
        await self._stack.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def _cut_all(self) -> None:
        for line in list(self.lines):
            line.cut()

    async def _pulse(self) -> None:
        step_s = self.settings.step_ms / 1_000
        while True:
            self.beat()
            await sleep(step_s)

    def beat(self) -> None:
        """Move the market up to now, do what is due, and write it out."""
        now_ms = self.now()
        exchanges = self.exchanges.values()
        for asset in self._world.market.moves(now_ms):
            for exchange in exchanges:
                exchange.move(asset, now_ms)
        self._world.faults.expire(now_ms)
        for exchange in exchanges:
            exchange.beat(now_ms)
        for line in list(self.lines):
            self._heed_cut(line, now_ms)
            line.flush(now_ms)

    def _heed_cut(self, line: Line, now_ms: int) -> None:
        faults, name = self._world.faults, line.exchange.name
        if faults.of(name):
            fault = faults.take(name, "cut", now_ms, transport="ws")
            if fault is not None:
                line.strike(fault, now_ms)

    # What tests and the pages ask for.

    def fault(self, exchange: str, fault: str, **details: object) -> Standing:
        """Let something go wrong; the details are the fields of ``Fault``.

        Raises:
            FaultInvalid: there is no such fault.
        """
        return self.add_fault(Fault(exchange=exchange, fault=fault, **details))  # type: ignore[arg-type]

    def add_fault(self, fault: Fault) -> Standing:
        """Let a fault hold, or strike once when it is one that ends connections.

        Raises:
            FaultInvalid: there is no such fault.
        """
        now_ms = self.now()
        standing = self._world.faults.add(fault, now_ms)
        fault = standing.fault
        exchange = self.exchanges[fault.exchange]
        value = fault.value if isinstance(fault.value, int) else None
        if isinstance(exchange, Binance) and fault.fault == "server_shutdown":
            exchange.shut_down(now_ms, value)
        if isinstance(exchange, Kraken) and fault.fault == "maintenance":
            if value is None:
                exchange.announce("maintenance", now_ms)
            else:
                exchange.warn(now_ms, value)
        if isinstance(exchange, Coincap) and fault.fault == "unauthorized":
            exchange.turn_away()
        for line in list(self.lines):
            if (
                fault.fault == "cut"
                and standing.left == 0
                and line.exchange is exchange
            ):
                standing.struck += 1
                line.strike(fault, now_ms)
        exchange.heed_faults(now_ms)
        return standing

    def clear_faults(
        self, exchange: str | None = None, number: int | None = None
    ) -> int:
        """Take back all faults, those of one exchange, or one by its number."""
        name = exchange.replace("-", "_") if exchange is not None else None
        return self._world.faults.clear(name, number)

    def standing_faults(self) -> list[Standing]:
        """Give the faults that hold now."""
        self._world.faults.expire(self.now())
        return self._world.faults.all()

    def set_price(
        self, exchange: str, symbol: str, price: str | None, *, hold: bool = True
    ) -> None:
        """Show exactly this price, at once; without ``hold`` until the next move.

        Raises:
            KeyError: the exchange has no such symbol.
        """
        house = self.exchanges[exchange.replace("-", "_")]
        listed = house.find(symbol)
        if listed is None:
            raise KeyError(symbol)
        listed.pin(price, hold=hold)
        now_ms = self.now()
        listed.asset.stamp(now_ms)
        house.show(listed, now_ms, traded=True)

    def counts(self) -> Picture:
        """Give what every client did so far."""
        return self._world.ledger.picture(self.now())

    def reset_counts(self) -> None:
        """Forget what was counted; what is open stays counted as open."""
        self._world.ledger.reset()


def open_exchanges(settings: Settings, now_ms: int) -> dict[str, Exchange]:
    """Open every exchange over one market, one ledger and one set of faults."""
    world = World(
        settings=settings,
        market=Market(asset_rows(settings.instruments), settings, now_ms),
        ledger=Ledger(seed=settings.seed, started_ms=now_ms),
        faults=Faults(),
    )
    houses: list[Exchange] = [
        Binance(world, now_ms),
        Coinbase(world),
        CoinbaseExchange(world),
        Kraken(world),
        Coincap(world),
        Coingecko(world),
    ]
    return {house.name: house for house in houses}
