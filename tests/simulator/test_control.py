"""What stands under ``/_sim``: orders in, counts out."""

from typing import Any

import msgspec
import pytest

from relay.simulator.ledger import Picture
from tests.simulator.driver import Port, hear


async def order(port: Port, path: str, body: object) -> tuple[int, Any]:
    """Post JSON, or any bytes."""
    sent = body if isinstance(body, bytes) else msgspec.json.encode(body)
    async with port.http.post(f"{port.simulator.url}/_sim/{path}", data=sent) as answer:
        return answer.status, await answer.json()


async def delete(port: Port, path: str) -> Any:  # noqa: ANN401  # JSON
    """Delete and read JSON."""
    async with port.http.delete(f"{port.simulator.url}/_sim/{path}") as answer:
        return await answer.json()


async def test_the_counts_are_the_picture(port: Port) -> None:
    """The same names over HTTP as in Python."""
    await port.get("/binance/api/v3/ticker/24hr")
    async with port.http.get(port.simulator.url + "/_sim/counts") as answer:
        picture = msgspec.json.decode(await answer.read(), type=Picture)
    binance = picture.exchanges["binance"].total
    assert binance.weight_spent == 80
    assert binance.requests.by_path == {"/api/v3/ticker/24hr": 1}
    assert picture.seed == 1
    await delete(port, "counts")
    assert port.counts("binance").weight_spent == 0


async def test_a_fault_is_ordered_listed_and_taken_back(port: Port) -> None:
    """As JSON; its number takes back one."""
    status, standing = await order(
        port, "faults", {"exchange": "binance", "fault": "delay", "value": 1}
    )
    assert status == 201
    _, listed = await port.get("/_sim/faults")
    assert [one["fault"]["fault"] for one in listed["faults"]] == ["delay"]
    assert await delete(port, f"faults?id={standing['id']}") == {"cleared": 1}
    await order(port, "faults", {"exchange": "kraken", "fault": "silence"})
    assert await delete(port, "faults?exchange=binance") == {"cleared": 0}
    assert await delete(port, "faults") == {"cleared": 1}


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("faults", b"{", "truncated"),
        ("faults", {"exchange": "mtgox", "fault": "cut"}, "mtgox"),
        ("faults", {"exchange": "binance", "fault": "cut", "fro_ms": 1}, "fro_ms"),
        ("prices", {"exchange": "binance"}, "symbol"),
        ("prices", {"exchange": "binance", "symbol": "NO", "price": "1"}, "NO"),
        ("prices", {"exchange": "mtgox", "symbol": "X", "price": "1"}, "mtgox"),
        (
            "prices",
            {"exchange": "kraken", "symbol": "BTC/USD", "price": "NaN"},
            "expected a number",
        ),
    ],
)
async def test_a_bad_order_says_what_was_wrong(
    port: Port, path: str, body: object, said: str
) -> None:
    """A test that misspells an order must not pass for want of it."""
    status, answer = await order(port, path, body)
    assert status == 400
    assert said in answer["message"]
    assert answer["hint"]


async def test_a_price_is_ordered_and_freed(port: Port) -> None:
    """What is shown now can be asked for without touching the exchange's limits."""
    body = {"exchange": "binance", "symbol": "BTCUSDT", "price": "61234.56"}
    socket = await port.socket("/binance/ws/btcusdt@trade")
    await port.until(lambda: port.simulator.lines)
    assert (await order(port, "prices", body))[0] == 200
    assert (await hear(socket))["p"] == "61234.56"
    await socket.close()
    _, shown = await port.get("/_sim/prices?exchange=binance&symbol=BTCUSDT")
    assert shown["prices"] == {"BTCUSDT": "61234.56"}
    await order(port, "prices", body | {"price": None})
    _, shown = await port.get("/_sim/prices?exchange=binance")
    assert shown["prices"]["BTCUSDT"] != "61234.56"
    assert len(shown["prices"]) > 100
    assert (await port.get("/_sim/prices?exchange=mtgox"))[0] == 400


async def test_orders_cost_no_exchange_anything(port: Port) -> None:
    """The referee's own page is not a client."""
    await port.get("/_sim/prices?exchange=binance")
    await port.get("/_sim/counts")
    assert port.counts("binance").requests.total == 0
