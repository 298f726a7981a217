"""One WebSocket on a real socket: what the faults make of its frames."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType

from relay.simulator.binance_streams import StreamTalk
from relay.simulator.line import encode_frame
from relay.simulator.settings import BinanceSettings, KrakenSettings, Settings
from tests.simulator.driver import Port, hear, hear_until, running

ALL = "/binance/stream?streams=btcusdt@bookTicker/ethusdt@bookTicker"


@asynccontextmanager
async def listening(
    port: Port, path: str = ALL
) -> AsyncIterator[ClientWebSocketResponse]:
    """Hold a connection that the simulator knows of."""
    before = len(port.simulator.lines)
    socket = await port.socket(path)
    await port.until(lambda: len(port.simulator.lines) > before)
    try:
        yield socket
    finally:
        await socket.close()


def trade(port: Port, *symbols: str) -> None:
    """Let assets be traded, each once, in this order, between two beats."""
    market = port.simulator.exchanges["binance"].world.market
    for symbol in symbols:
        asset = market.find(symbol)
        assert asset is not None
        asset.move(500, port.simulator.now())
        for exchange in port.simulator.exchanges.values():
            exchange.move(asset, port.simulator.now())


def is_flushed(port: Port) -> bool:
    """Tell whether everything said to Binance's clients has been dealt with."""
    talks = port.simulator.exchanges["binance"].conversations
    return all(not talk.outbox for talk in talks)


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65_535, b"\x81\x7e\xff\xff"),
        (65_536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_a_frame_has_the_head_of_its_length(size: int, head: bytes) -> None:
    """RFC 6455, section 5.2: three ways to write a length."""
    assert encode_frame(b"x" * size) == head + b"x" * size


async def test_frames_arrive_whole_and_in_order(port: Port) -> None:
    """Without a fault nothing is touched."""
    async with listening(port) as socket:
        trade(port, "BTC", "ETH", "BTC")
        heard = [(await hear(socket))["data"]["s"] for _ in range(3)]
    assert heard == ["BTCUSDT", "ETHUSDT", "BTCUSDT"]


async def test_a_cut_ends_every_connection_once(port: Port) -> None:
    """Without a close frame; whoever comes back is welcome."""
    async with listening(port) as one, listening(port) as other:
        port.simulator.fault("binance", "cut")
        for socket in (one, other):
            message = await socket.receive(timeout=5)
            assert message.type in {WSMsgType.CLOSED, WSMsgType.ERROR}
            assert socket.close_code == 1006
    async with listening(port) as socket:
        trade(port, "BTC")
        await hear(socket)
    assert port.counts("binance").connections.cut == 2
    assert port.counts("binance").faults == {"cut": 2}


async def test_a_cut_may_come_in_the_middle_of_a_frame(port: Port) -> None:
    """Half a frame is no frame: nothing of it may be used."""
    async with listening(port) as socket:
        port.simulator.fault("binance", "cut", value="mid-frame")
        message = await socket.receive(timeout=5)
        assert message.type is not WSMsgType.TEXT
        assert socket.close_code == 1006


async def test_a_cut_may_be_a_close_with_a_code(port: Port) -> None:
    """Some ends are polite."""
    async with listening(port) as socket:
        port.simulator.fault("binance", "cut", value=1012)
        message = await socket.receive(timeout=5)
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1012)


async def test_a_cut_that_holds_ends_new_connections_too(port: Port) -> None:
    """The exchange is up and of no use."""
    port.simulator.fault("binance", "cut", for_ms=1_000)
    socket = await port.socket(ALL)
    message = await socket.receive(timeout=5)
    assert message.type is not WSMsgType.TEXT
    port.clock.advance(1_000)
    async with listening(port) as again:
        trade(port, "BTC")
        await hear(again)


async def test_silence_sends_nothing_and_keeps_the_connection(port: Port) -> None:
    """The worst of faults: everything looks well."""
    async with listening(port) as socket:
        port.simulator.fault("binance", "silence", for_ms=25_000)
        trade(port, "BTC")
        sent = port.counts("binance").messages.sent
        port.clock.advance(20_000)
        await port.until(lambda: is_flushed(port))
        assert port.counts("binance").messages.sent == sent
        port.clock.advance(5_000)
        trade(port, "ETH")
        heard = await hear_until(socket, lambda message: "data" in message)
        assert heard["data"]["s"] == "ETHUSDT"


async def test_nobody_is_blamed_for_a_ping_that_silence_kept_back(port: Port) -> None:
    """The referee has to be just, or its verdicts are worth nothing."""
    async with listening(port):
        port.simulator.fault("binance", "silence", for_ms=200_000)
        for _ in range(6):
            port.clock.advance(20_000)
            await port.until(partial(has_beaten, port, port.simulator.now()))
        assert port.counts("binance").missed_pongs == 0
        assert port.counts("binance").connections.open == 1


def has_beaten(port: Port, at_ms: int) -> bool:
    """Tell whether Binance's connections did what was due at that time."""
    talks = port.simulator.exchanges["binance"].conversations
    return all(
        isinstance(talk, StreamTalk) and talk.pinged_ms >= at_ms for talk in talks
    )


async def test_silence_of_one_symbol_leaves_the_others(port: Port) -> None:
    """A quiet market and a dead stream look alike."""
    async with listening(port) as socket:
        port.simulator.fault("binance", "silence", symbol="BTCUSDT")
        trade(port, "BTC", "ETH")
        assert (await hear(socket))["data"]["s"] == "ETHUSDT"


async def test_garbage_takes_the_place_of_a_frame(port: Port) -> None:
    """It changes nothing and the next frame is read."""
    async with listening(port) as socket:
        port.simulator.fault("binance", "garbage", count=1)
        port.simulator.fault("binance", "garbage", count=1, value="<html>")
        trade(port, "BTC", "BTC", "ETH")
        first = await socket.receive(timeout=5)
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(first.data)
        assert (await socket.receive(timeout=5)).data == "<html>"
        assert (await hear(socket))["data"]["s"] == "ETHUSDT"


async def test_a_delay_holds_frames_back_in_their_order(port: Port) -> None:
    """Nothing overtakes what waits."""
    async with listening(port) as socket:
        port.simulator.fault("binance", "delay", value=400, count=1)
        trade(port, "BTC")
        await port.until(lambda: "delay" in port.counts("binance").faults)
        trade(port, "ETH")
        sent = port.counts("binance").messages.sent
        assert sent == 0
        port.clock.advance(400)
        heard = [(await hear(socket))["data"]["s"] for _ in range(2)]
        assert heard == ["BTCUSDT", "ETHUSDT"]


async def test_a_repeated_frame_comes_again(port: Port) -> None:
    """A late or repeated frame changes nothing downstream."""
    async with listening(port) as socket:
        port.simulator.fault("binance", "repeat", value=2, count=1)
        trade(port, "BTC", "ETH")
        heard = [(await hear(socket))["data"]["s"] for _ in range(4)]
    assert heard == ["BTCUSDT"] * 3 + ["ETHUSDT"]


async def test_reordered_frames_come_in_turned_groups(port: Port) -> None:
    """Order is judged by the source's own numbers."""
    async with listening(port) as socket:
        port.simulator.fault("binance", "reorder", value=3, count=1)
        trade(port, "BTC", "BTC", "BTC", "ETH", "ETH", "ETH")
        numbers = [(await hear(socket))["data"]["u"] for _ in range(6)]
    assert numbers[2] < numbers[1] < numbers[0]
    assert numbers[3] < numbers[4] < numbers[5]


async def test_what_was_held_for_reordering_comes_when_the_fault_is_over(
    port: Port,
) -> None:
    """A group that never filled is not lost."""
    async with listening(port) as socket:
        port.simulator.fault("binance", "reorder", value=5)
        trade(port, "BTC")
        await port.until(lambda: is_flushed(port))
        port.simulator.clear_faults()
        trade(port, "ETH")
        heard = [(await hear(socket))["data"]["s"] for _ in range(2)]
    assert heard == ["BTCUSDT", "ETHUSDT"]


async def test_a_gap_shows_in_the_numbers(port: Port) -> None:
    """The frame is lost after it got its number."""
    async with listening(port, "/coinbase") as socket:
        await socket.send_json(
            {"type": "subscribe", "channel": "ticker", "product_ids": ["BTC-USD"]}
        )
        await hear(socket)
        await hear(socket)
        port.simulator.fault("coinbase", "gap", count=1)
        trade(port, "BTC")
        await port.until(lambda: "gap" in port.counts("coinbase").faults)
        trade(port, "BTC")
        assert (await hear(socket))["sequence_num"] == 3


async def test_only_each_nth_frame_is_lost_when_asked(port: Port) -> None:
    """A lossy line rather than a broken one."""
    async with listening(port) as socket:
        port.simulator.fault("binance", "gap", value=2)
        trade(port, "BTC", "BTC", "BTC", "BTC")
        first, second = [(await hear(socket))["data"]["u"] for _ in range(2)]
    assert second == first + 6


async def test_an_acknowledgement_may_fail_to_come(port: Port) -> None:
    """The subscription is made all the same."""
    port.simulator.fault("kraken", "no_ack", count=1)
    async with listening(port, "/kraken/v2") as socket:
        await socket.send_json(subscribe("BTC/USD"))
        heard = await hear_until(socket, lambda one: one.get("channel") != "status")
        assert heard["type"] == "snapshot"


async def test_an_acknowledgement_may_be_wrong(port: Port) -> None:
    """An error for what is subscribed in truth."""
    port.simulator.fault("kraken", "wrong_ack", count=1)
    async with listening(port, "/kraken/v2") as socket:
        await socket.send_json(subscribe("BTC/USD"))
        answer = await hear_until(socket, lambda one: "method" in one)
        assert answer["success"] is False


def subscribe(pair: str) -> dict[str, Any]:
    """Write a request of Kraken's."""
    return {"method": "subscribe", "params": {"channel": "ticker", "symbol": [pair]}}


async def test_a_message_may_be_ignored(port: Port) -> None:
    """Neither an acknowledgement nor data come."""
    port.simulator.fault("kraken", "ignore", count=1)
    async with listening(port, "/kraken/v2") as socket:
        await socket.send_json(subscribe("BTC/USD"))
        await socket.send_json({"method": "ping", "req_id": 5})
        answer = await hear_until(socket, lambda one: "method" in one)
        assert answer["method"] == "pong"


async def test_binance_pings_and_cuts_without_the_right_pong() -> None:
    """On a real socket, with the payload of the ping."""
    settings = Settings(step_ms=2, burst_every_ms=0, updates_per_second=0)
    async with running(settings) as port, listening(port) as socket:
        for answer in (None, b"not this one", b"", b""):
            port.clock.advance(20_000)
            ping = await socket.receive(timeout=5)
            assert ping.type is WSMsgType.PING
            await socket.pong(bytes(ping.data) if answer is None else answer)
        await port.until(lambda: port.counts("binance").messages.received == 4)
        assert port.counts("binance").missed_pongs == 0
        port.clock.advance(20_000)
        await port.until(lambda: port.counts("binance").missed_pongs == 1)
        last = [await socket.receive(timeout=5) for _ in range(2)][-1]
        assert last.type is not WSMsgType.PING


async def test_the_sixth_message_gets_its_close_frame(port: Port) -> None:
    """A client that shouts is told why it was closed."""
    async with listening(port, "/binance/ws") as socket:
        for number in range(6):
            await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": number})
        message = await socket.receive(timeout=5)
        while message.type is WSMsgType.TEXT:
            message = await socket.receive(timeout=5)
        assert (message.data, message.extra) == (1008, "Too many requests")


async def test_a_client_ping_is_returned(port: Port) -> None:
    """With its payload, on every exchange."""
    async with listening(port, "/kraken/v2") as socket:
        await socket.ping(b"hello")
        message = await socket.receive(timeout=5)
        while message.type is WSMsgType.TEXT:
            message = await socket.receive(timeout=5)
        assert (message.type, bytes(message.data)) == (WSMsgType.PONG, b"hello")


async def test_a_close_that_is_never_answered_ends_all_the_same() -> None:
    """Half-dead clients must not be kept."""
    settings = Settings(step_ms=2, close_ms=100, kraken=KrakenSettings(idle_ms=1_000))
    async with running(settings) as port:
        socket = await port.socket("/kraken/v2")
        await port.until(lambda: port.counts("kraken").connections.open == 1)
        port.clock.advance(1_000)
        await port.until(
            lambda: any(
                talk.ending for talk in port.simulator.exchanges["kraken"].conversations
            )
        )
        port.clock.advance(100)
        await port.until(lambda: port.counts("kraken").connections.open == 0)
        assert port.counts("kraken").connections.cut == 1
        await socket.close()


async def test_a_reader_that_does_not_read_is_cut() -> None:
    """Coinbase does so with slow consumers; memory is not for waiting."""
    settings = Settings(step_ms=2, slow_bytes=200_000, burst_every_ms=0)
    async with running(settings) as port, listening(port, ALL):
        while not port.counts("binance").breaches:
            trade(port, *["BTC"] * 500)
            await port.until(lambda: is_flushed(port))
        assert port.counts("binance").breaches == {"slow_reader": 1}


async def test_binance_announces_its_shutdown_and_closes() -> None:
    """The replacement connection can be opened in between."""
    settings = Settings(step_ms=2, binance=BinanceSettings(shutdown_ms=3_000))
    async with running(settings) as port, listening(port) as socket:
        port.simulator.fault("binance", "server_shutdown")
        message = await hear_until(socket, lambda one: "Shutdown" in one["stream"])
        assert message["data"]["e"] == "serverShutdown"
        async with listening(port) as other:
            port.clock.advance(3_000)
            closed = await socket.receive(timeout=5)
            while closed.type is WSMsgType.TEXT:
                closed = await socket.receive(timeout=5)
            assert closed.type is WSMsgType.CLOSE
            trade(port, "BTC")
            await hear(other)


async def test_kraken_announces_maintenance_and_closes(port: Port) -> None:
    """The last thing heard is the engine's state."""
    async with listening(port, "/kraken/v2") as socket:
        await hear(socket)
        port.simulator.fault("kraken", "maintenance")
        state = await hear(socket)
        assert state["data"][0]["system"] == "maintenance"
        assert (await socket.receive(timeout=5)).type is WSMsgType.CLOSE


async def test_coincap_turns_a_stream_away(port: Port) -> None:
    """A text frame that is no JSON, then the close."""
    async with listening(port, "/coincap/prices?assets=ALL&apiKey=k") as socket:
        port.simulator.fault("coincap", "unauthorized")
        message = await socket.receive(timeout=5)
        while not str(message.data).startswith("Unauthorized"):
            message = await socket.receive(timeout=5)
        assert (await socket.receive(timeout=5)).type is WSMsgType.CLOSE
