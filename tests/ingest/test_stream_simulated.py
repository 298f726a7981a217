"""Every exchange that streams, by its own adapter, against the simulator's referee."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from relay.clock import Clock
from relay.config import Exchange, Settings, load
from relay.exchanges import open_adapter
from relay.exchanges.adapter import Told
from relay.ingest.stream import Stream
from relay.model import Update
from relay.simulator.ledger import ExchangeCounts
from relay.simulator.server import Simulator
from relay.store.embedded import embedded
from tests.harness import eventually, open_client
from tests.ingest.purses import open_purse

SYMBOLS = {
    "binance": ("BTCUSDT", "ETHUSDT"),
    "coinbase": ("BTC-USD", "ETH-USD"),
    "coinbase-exchange": ("BTC-USD", "ETH-USD"),
    "kraken": ("BTC/USD", "ETH/USD"),
    "coincap": ("bitcoin", "ethereum"),
}


@dataclass(eq=False)
class Prices:
    """A sink that keeps every price, and counts the rest."""

    seen: dict[str, list[str]] = field(default_factory=dict)
    lively: int = 0
    drops: list[str] = field(default_factory=list)
    refreshes: int = 0
    refusals: list[str] = field(default_factory=list)
    downs: list[str] = field(default_factory=list)

    def updates(self, exchange: str, updates: Sequence[Update]) -> None:
        """Keep the prices."""
        for update in updates:
            assert update.exchange == exchange
            if update.price:
                self.seen.setdefault(update.symbol, []).append(update.price)

    def heard(self, exchange: str) -> None:
        """Count."""
        del exchange
        self.lively += 1

    def dropped(self, exchange: str, reason: str) -> None:
        """Keep the reason."""
        del exchange
        self.drops.append(reason)

    def refresh(self, exchange: str, symbols: Sequence[str]) -> None:
        """Count."""
        del exchange, symbols
        self.refreshes += 1

    def refused(self, exchange: str, symbols: Sequence[str], reason: str) -> None:
        """Keep the symbols."""
        del exchange, reason
        self.refusals += symbols

    def told(self, exchange: str, told: Told) -> None:
        """Keep the words of one that serves nobody."""
        del exchange
        if told.halts:
            self.downs.append(told.words)

    def down(self, exchange: str, reason: str) -> None:
        """Keep the reason."""
        del exchange
        self.downs.append(reason)

    def replaced(self, exchange: str, reason: str) -> None:
        """Do not mind."""

    def up(self, exchange: str) -> None:
        """Do not mind."""


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Run every exchange on one port."""
    async with Simulator() as simulator:
        yield simulator


def configured(name: str, simulator: Simulator) -> tuple[Settings, Exchange]:
    """Return the settings and one exchange's, pointed at the simulator."""
    settings = load(environ={}, sim_url=simulator.url).settings
    exchange = settings.exchanges[name]
    # Its stream is left out by default, since it costs.
    channels = exchange.channels or ("prices",)
    return settings, replace(exchange, channels=channels)


@asynccontextmanager
async def streaming(
    name: str, simulator: Simulator, *symbols: str
) -> AsyncIterator[tuple[Stream, Prices]]:
    """Stream these symbols of an exchange; in the end the referee is asked."""
    settings, exchange = configured(name, simulator)
    prices, clock = Prices(), Clock()
    async with embedded() as url, open_client(url, settings) as client:
        purse = await open_purse(client, exchange.limits, clock, exchange=name)
        stream = Stream(
            open_adapter(name, exchange),
            exchange,
            replace(settings.ingest, reconnect_min_ms=50),
            purse,
            clock,
            prices,
            lambda: 0.5,
        )
        stream.want(symbols)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(stream.run())
            try:
                yield stream, prices
            finally:
                task.cancel()
    await eventually(lambda: counted(name, simulator).total.connections.open == 0)
    total = counted(name, simulator).total
    assert (total.breaches_total, total.bans, total.missed_pongs) == (0, 0, 0)


def counted(name: str, simulator: Simulator) -> ExchangeCounts:
    """Return what the referee counted of one exchange."""
    return simulator.counts().exchanges[name.replace("-", "_")]


def moves(prices: Prices, *symbols: str) -> bool:
    """Tell whether two different prices came of each of these."""
    return all(len(set(prices.seen.get(symbol, ()))) > 1 for symbol in symbols)


@pytest.mark.parametrize("name", SYMBOLS)
async def test_prices_move_and_come_back_after_a_cut(
    name: str, simulator: Simulator
) -> None:
    """The main job, on every exchange that streams."""
    first, second = SYMBOLS[name]
    async with streaming(name, simulator, first) as (stream, prices):
        await eventually(lambda: moves(prices, first))
        stream.want([first, second])
        await eventually(lambda: moves(prices, first, second))
        prices.seen.clear()
        simulator.fault(name, "cut", value="mid-frame")
        await eventually(lambda: bool(prices.downs))
        await eventually(lambda: moves(prices, first, second))
        await eventually(lambda: prices.refreshes >= 1)
        assert not prices.drops
        assert not prices.refusals
        stream.want([second])
        await eventually(lambda: stream.states[0].wanted == 1)


# The simulator cannot tell Coinbase's two dialects before their first words.
@pytest.mark.parametrize("name", sorted(SYMBOLS.keys() - {"coinbase-exchange"}))
async def test_a_refusal_is_waited_out(name: str, simulator: Simulator) -> None:
    """With the exchange's own words for it, and no second attempt before its time."""
    simulator.fault(name, "429", transport="ws", retry_after_s=1)
    async with streaming(name, simulator, SYMBOLS[name][0]) as (_, prices):
        await eventually(lambda: bool(prices.downs))
        assert "wait 1 s" in prices.downs[0]
        attempts = counted(name, simulator).total.connections.attempts
        simulator.clear_faults(name)
        await eventually(lambda: bool(prices.seen))
        assert attempts == 1


@pytest.mark.parametrize(
    ("name", "unknown"),
    [("kraken", "FOO/USD"), ("coinbase-exchange", "FOO-USD")],
)
async def test_an_unknown_symbol_is_refused_and_the_others_stream(
    name: str, unknown: str, simulator: Simulator
) -> None:
    """Partial success is normal."""
    known = SYMBOLS[name][0]
    async with streaming(name, simulator, known, unknown) as (stream, prices):
        await eventually(lambda: moves(prices, known))
        await eventually(lambda: prices.refusals == [unknown])
        await eventually(lambda: stream.states[0].wanted == 1)
        assert stream.states[0].subscribed == 1


@pytest.mark.parametrize("name", SYMBOLS)
async def test_garbage_is_counted_and_changes_nothing(
    name: str, simulator: Simulator
) -> None:
    """The connection goes on, and so do the prices."""
    symbol = SYMBOLS[name][0]
    async with streaming(name, simulator, symbol) as (_, prices):
        await eventually(lambda: moves(prices, symbol))
        simulator.fault(name, "garbage", transport="ws", count=5)
        await eventually(lambda: len(prices.drops) == 5)
        simulator.clear_faults(name)
        prices.seen.clear()
        await eventually(lambda: moves(prices, symbol))
        assert counted(name, simulator).total.connections.attempts == 1


async def test_a_planned_restart_is_met_before_it_comes(simulator: Simulator) -> None:
    """Binance announces it; the referee sees both connections open at once."""
    async with streaming("binance", simulator, "BTCUSDT") as (_, prices):
        await eventually(lambda: moves(prices, "BTCUSDT"))
        simulator.fault("binance", "server_shutdown", value=4_000)
        await eventually(
            lambda: counted("binance", simulator).total.connections.left == 1
        )
        connections = counted("binance", simulator).total.connections
        assert (connections.open_peak, connections.open) == (2, 1)
        assert not prices.downs
        assert not prices.refreshes


async def test_a_late_subscription_keeps_to_the_limit_of_messages(
    simulator: Simulator,
) -> None:
    """A burst of wishes must not break a connection: five messages a second."""
    async with streaming("binance", simulator, "BTCUSDT") as (stream, prices):
        await eventually(lambda: moves(prices, "BTCUSDT"))
        wanted = ["BTCUSDT"]
        for symbol in ("ETHUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT", "DOGEUSDT"):
            wanted.append(symbol)
            stream.want(wanted)
            await eventually(lambda: stream.states[0].wanted == len(wanted))
        await eventually(lambda: stream.states[0].subscribed == len(wanted))
        assert counted("binance", simulator).total.messages.received >= 3
