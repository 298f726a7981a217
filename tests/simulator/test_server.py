"""The simulator as a whole: quick to start and stop, moving, and told what to show."""

from anyio import create_task_group

from relay.clock import Clock
from relay.simulator.server import Simulator
from relay.simulator.settings import Settings
from tests.simulator.driver import Port, hear, hear_until, running


async def test_it_starts_and_stops_within_a_second_with_clients_connected() -> None:
    """Everything that uses it waits for it."""
    clock = Clock()
    begun_ms = clock.monotonic_ms()
    async with running(Settings(instruments=2_000)) as port:
        assert clock.monotonic_ms() - begun_ms < 1_000
        sockets = [await port.socket("/kraken/v2") for _ in range(20)]
        await port.until(lambda: len(port.simulator.lines) == 20)
        begun_ms = clock.monotonic_ms()
        await port.simulator.stop()
        assert clock.monotonic_ms() - begun_ms < 1_000
        assert port.simulator.lines == set()
        for socket in sockets:
            await socket.close()


async def test_it_stops_while_a_request_hangs(port: Port) -> None:
    """Silence must not keep it alive."""
    port.simulator.fault("binance", "silence")
    clock = Clock()
    async with create_task_group() as tasks:
        tasks.start_soon(port.get, "/binance/api/v3/time")
        await port.until(lambda: port.counts("binance").faults)
        begun_ms = clock.monotonic_ms()
        await port.simulator.stop()
        assert clock.monotonic_ms() - begun_ms < 1_000
        tasks.cancel_scope.cancel()


async def test_the_port_is_free_after_it_stopped() -> None:
    """A second one can take its place."""
    async with Simulator(Settings()) as first:
        number = int(first.url.rpartition(":")[2])
    async with Simulator(Settings(), port=number) as second:
        assert second.url == first.url


async def test_every_streaming_exchange_moves_by_itself() -> None:
    """Bitcoin shows a new price several times a second."""
    async with running(Settings(step_ms=2)) as port:
        socket = await port.socket("/binance/ws/btcusdt@bookTicker")
        await port.until(lambda: port.simulator.lines)
        prices = set()
        for _ in range(5):
            port.clock.advance(200)
            prices.add((await hear(socket))["b"])
        assert len(prices) == 5
        await socket.close()


async def test_a_burst_brings_hundreds_of_frames_at_once() -> None:
    """The reader's batches grow; nothing else may."""
    settings = Settings(step_ms=2, burst_every_ms=1_000, updates_per_second=100)
    async with running(settings) as port:
        names = [
            f"{symbol.name.lower()}@bookTicker"
            for symbol in port.simulator.exchanges["binance"].listing.trading()
        ]
        socket = await port.socket("/binance/stream?streams=" + "/".join(names))
        await port.until(lambda: port.simulator.lines)
        port.clock.advance(1_500)
        await port.until(lambda: port.counts("binance").messages.sent > 300)
        await socket.close()


async def test_a_price_set_by_hand_is_streamed_at_once(port: Port) -> None:
    """On every exchange, in its own shape, digit for digit."""
    binance = await port.socket("/binance/ws/btcusdt@trade")
    kraken = await port.socket("/kraken/v2")
    coinbase = await port.socket("/coinbase")
    await kraken.send_json(
        {"method": "subscribe", "params": {"channel": "ticker", "symbol": ["BTC/USD"]}}
    )
    await coinbase.send_json(
        {"type": "subscribe", "channel": "ticker", "product_ids": ["BTC-USD"]}
    )
    await hear_until(kraken, lambda one: one.get("type") == "snapshot")
    await hear_until(coinbase, lambda one: one["channel"] == "subscriptions")
    await port.until(lambda: len(port.simulator.lines) == 3)
    port.simulator.set_price("binance", "BTCUSDT", "61111.10")
    port.simulator.set_price("kraken", "BTC/USD", "61111.2")
    port.simulator.set_price("coinbase", "BTC-USD", "61111.3")
    assert (await hear(binance))["p"] == "61111.10"
    assert (await hear(kraken))["data"][0]["last"] == 61111.2
    tickers = (await hear(coinbase))["events"][0]["tickers"]
    assert tickers[0]["price"] == "61111.3"
    for socket in (binance, kraken, coinbase):
        await socket.close()


async def test_nobody_who_sets_the_wall_clock_moves_the_simulators() -> None:
    """The relay in the same process sets its clock from the store."""
    clock = Clock()
    simulator = Simulator(Settings(), clock=clock)
    before = simulator.now()
    clock.set_wall(0, at_ms=clock.monotonic_ms())
    assert 0 <= simulator.now() - before < 1_000


async def test_faults_are_listed_and_taken_back(port: Port) -> None:
    """The Python methods are what the pages offer."""
    standing = port.simulator.fault("coinbase-exchange", "silence", for_ms=1_000)
    assert [one.id for one in port.simulator.standing_faults()] == [standing.id]
    assert port.simulator.clear_faults("coinbase-exchange") == 1
    assert port.simulator.standing_faults() == []


async def test_a_price_is_set_under_an_alias_too(port: Port) -> None:
    """``BTC-USDC`` is the book of ``BTC-USD``."""
    port.simulator.set_price("coinbase", "BTC-USDC", "61222.2")
    path = "/coinbase/api/v3/brokerage/market/products/BTC-USD"
    assert (await port.get(path))[1]["price"] == "61222.2"
