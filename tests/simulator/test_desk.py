"""Requests on a real socket: routing, refusals on request, and who asked."""

import pytest
from aiohttp import (
    ClientError,
    ClientPayloadError,
    ClientSession,
    ServerDisconnectedError,
    TCPConnector,
    WSServerHandshakeError,
)
from anyio import create_task_group, move_on_after

from relay.simulator.settings import Settings
from tests.simulator.driver import Port, hear, running

TIME = "/binance/api/v3/time"


@pytest.mark.parametrize(
    "path",
    [
        *(TIME, "/api/v3/ticker/price", "/coinbase/api/v3/brokerage/time"),
        *("/api/v3/brokerage/market/products", "/coinbase-exchange/time"),
        *("/products/BTC-USD/ticker", "/kraken/0/public/Time", "/0/public/Ticker"),
        *("/coincap/v3/assets?apiKey=k", "/v3/assets?apiKey=k"),
        *("/coingecko/api/v3/coins/list", "/api/v3/coins/markets?vs_currency=usd"),
    ],
)
async def test_every_exchange_answers_on_one_port(port: Port, path: str) -> None:
    """Under its prefix and at its natural path."""
    status, body = await port.get(path)
    assert status == 200
    assert body


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/binance/ws", {"method": "LIST_SUBSCRIPTIONS", "id": 1}),
        ("/ws", {"method": "LIST_SUBSCRIPTIONS", "id": 1}),
        ("/stream?streams=btcusdt@trade", {"method": "LIST_SUBSCRIPTIONS", "id": 1}),
        ("/coinbase", {"type": "subscribe", "channel": "heartbeats"}),
        ("/coinbase/", {"type": "subscribe", "channel": "heartbeats"}),
        ("/", {"type": "subscribe", "channel": "heartbeats"}),
        ("/coinbase-exchange", {"type": "subscribe", "channels": ["status"]}),
        ("/kraken/v2", {"method": "ping"}),
        ("/v2", {"method": "ping"}),
    ],
)
async def test_every_socket_answers_on_one_port(
    port: Port, path: str, message: object
) -> None:
    """Under its prefix and at its natural path."""
    socket = await port.socket(path)
    await socket.send_json(message)
    assert await hear(socket)
    await socket.close()


async def test_the_first_message_tells_coinbases_dialects_apart(port: Port) -> None:
    """Both live at the root of their hosts; only the spelling differs."""
    socket = await port.socket("/")
    await socket.send_json(
        {"type": "subscribe", "channels": ["ticker"], "product_ids": ["BTC-USD"]}
    )
    assert (await hear(socket))["type"] == "ticker"
    counts = port.counts("coinbase_exchange")
    assert counts.connections.open == counts.subscriptions.open == 1
    assert port.counts("coinbase").connections.open == 0
    await socket.close()


async def test_a_path_of_nobody_is_not_found(port: Port) -> None:
    """And only GET is understood."""
    assert (await port.get("/nothing"))[0] == 404
    async with port.http.post(port.simulator.url + TIME) as answer:
        assert answer.status == 405


@pytest.mark.parametrize(
    ("exchange", "path", "status"),
    [
        ("binance", TIME, 429),
        ("binance", TIME, 418),
        ("binance", TIME, 451),
        ("binance", TIME, 403),
        ("coinbase", "/coinbase/api/v3/brokerage/time", 429),
        ("kraken", "/kraken/0/public/Time", 503),
        ("coincap", "/coincap/v3/rates?apiKey=k", 403),
        ("coingecko", "/coingecko/api/v3/ping", 500),
    ],
)
async def test_a_status_is_answered_on_request(
    port: Port, exchange: str, path: str, status: int
) -> None:
    """So often as it was asked for, and counted as injected."""
    port.simulator.fault(exchange, str(status), count=1, retry_after_s=3)
    async with port.http.get(port.simulator.url + path) as answer:
        assert answer.status == status
        assert await answer.read()
    async with port.http.get(port.simulator.url + path) as answer:
        assert answer.status == 200
    refusals = port.counts(exchange).refusals
    assert refusals.injected == {str(status): 1}
    assert refusals.earned == {}


async def test_retry_after_is_sent_when_the_fault_names_it(port: Port) -> None:
    """With and without: a client has to live with both."""
    port.simulator.fault("binance", "429", count=1, retry_after_s=17)
    port.simulator.fault("binance", "429", count=1)
    for expected in ("17", None):
        async with port.http.get(port.simulator.url + TIME) as answer:
            assert answer.headers.get("retry-after") == expected


async def test_an_upgrade_is_refused_by_a_status_too(port: Port) -> None:
    """A blocked region gets 451 on both."""
    port.simulator.fault("binance", "451")
    with pytest.raises(WSServerHandshakeError) as refused:
        await port.socket("/binance/ws")
    assert refused.value.status == 451
    assert port.counts("binance").connections.refused == 1


async def test_an_earned_refusal_of_an_upgrade_is_an_answer(port: Port) -> None:
    """CoinCap without a key."""
    with pytest.raises(WSServerHandshakeError) as refused:
        await port.socket("/coincap/prices?assets=ALL")
    assert refused.value.status == 401


async def test_connections_are_refused_on_request(port: Port) -> None:
    """Neither REST nor WebSocket get an answer."""
    port.simulator.fault("binance", "refuse", for_ms=1_000)
    with pytest.raises(ClientError):
        await port.get(TIME)
    with pytest.raises(ClientError):
        await port.socket("/binance/ws")
    port.clock.advance(1_000)
    assert (await port.get(TIME))[0] == 200


async def test_coinbase_cuts_the_ninth_connection(port: Port) -> None:
    """Without a word, as what happens is not documented."""
    sockets = [await port.socket("/coinbase") for _ in range(8)]
    with pytest.raises(ClientError):
        await port.socket("/coinbase")
    for socket in sockets:
        await socket.close()


async def test_a_body_is_cut_in_the_middle(port: Port) -> None:
    """The head promised more."""
    port.simulator.fault("binance", "cut", count=1, transport="rest")
    with pytest.raises((ClientPayloadError, ServerDisconnectedError)):
        await port.get("/binance/api/v3/exchangeInfo")


@pytest.mark.parametrize(("value", "body"), [(None, b"<html>"), ("{]", b"{]")])
async def test_a_body_may_be_garbage(
    port: Port, value: str | None, body: bytes
) -> None:
    """With 200 and the content type of JSON."""
    port.simulator.fault("kraken", "garbage", transport="rest", value=value)
    async with port.http.get(port.simulator.url + "/kraken/0/public/Time") as answer:
        assert answer.status == 200
        assert (await answer.read()).startswith(body)


async def test_silence_lets_requests_hang_until_it_is_over(port: Port) -> None:
    """A timeout is the client's business."""
    port.simulator.fault("binance", "silence", for_ms=1_000)
    answers: list[int] = []

    async def ask() -> None:
        answers.append((await port.get(TIME))[0])

    async with create_task_group() as tasks:
        tasks.start_soon(ask)
        with move_on_after(0.1):
            await port.until(lambda: answers)
        assert answers == []
        port.clock.advance(1_000)
    assert answers == [200]


async def test_an_answer_is_late_on_request(port: Port) -> None:
    """By as many milliseconds as asked."""
    port.simulator.fault("binance", "delay", value=30, count=1, transport="rest")
    assert (await port.get(TIME))[0] == 200
    assert port.counts("binance").faults == {"delay": 1}


async def test_large_answers_are_compressed_for_who_asks(port: Port) -> None:
    """Kraken's tickers are several hundred kilobytes otherwise."""
    url = port.simulator.url + "/kraken/0/public/Ticker"
    async with port.http.get(url, headers={"accept-encoding": "gzip"}) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert (await answer.json())["error"] == []
    async with port.http.get(url, headers={"accept-encoding": "identity"}) as answer:
        assert "content-encoding" not in answer.headers
        assert (await answer.json())["error"] == []


async def test_304_has_no_body(port: Port) -> None:
    """But the headers that a 200 would have had."""
    url = port.simulator.url + "/coinbase-exchange/products/BTC-USD"
    async with port.http.get(url) as answer:
        etag = answer.headers["etag"]
    async with port.http.get(url, headers={"if-none-match": etag}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
        assert answer.headers["etag"] == etag


async def test_clients_are_told_apart_and_addresses_are_limited() -> None:
    """Two instances behind one address share its weight."""
    settings = Settings(updates_per_second=0, burst_every_ms=0)
    async with running(settings) as port:
        await port.get(TIME, **{"X-Relay-Instance": "worker-1"})
        await port.get(TIME, **{"X-Relay-Instance": "worker-2"})
        url = port.simulator.url + TIME
        connector = TCPConnector(local_addr=("127.0.0.9", 0))
        async with (
            ClientSession(connector=connector) as other,
            other.get(url) as answer,
        ):
            assert answer.headers["x-mbx-used-weight-1m"] == "1"
        binance = port.simulator.counts().exchanges["binance"]
        assert binance.limits["weight_1m"]["127.0.0.1"].used == 2
        labels = set(binance.clients)
        assert {"127.0.0.1 worker-1", "127.0.0.1 worker-2"} <= labels
        assert any(label.startswith("127.0.0.9 ") for label in labels)


async def test_a_flood_of_paths_is_one_line(port: Port) -> None:
    """Everything has a limit."""
    for number in range(230):
        await port.get(f"/coincap/v3/assets/{number}?apiKey=k")
    paths = port.counts("coincap").requests.by_path
    assert len(paths) <= 201
    assert paths["others"] >= 30
