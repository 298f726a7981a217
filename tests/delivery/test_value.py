"""What a portfolio is worth: to the last digit, and kept by nobody."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.board import Board
from relay.config import Settings
from relay.delivery.value import value
from relay.model import Selection, Ticker
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.serving import Leader, serving

PRICES: dict[str, Ticker | str] = {
    "BTC-USD": "61000.12",
    "ETH-USD": Ticker(price="3000.50", stale=True, via="USDT"),
    "DOGE-USD": "0.00000001",
    "BTC-EUR": "56000",
    "BID-USD": Ticker(bid="1"),
}


@pytest.fixture
async def leader(client: Client, keys: Keys) -> Leader:
    """Return a leader that has published some prices, and beats."""
    leader = Leader(client, keys)
    await leader.publish(PRICES)
    await leader.mark()
    return leader


async def test_a_portfolio_is_worth_the_sum_of_its_holdings(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """Each with its price, and whether that is old."""
    async with serving(client, keys, settings) as asker:
        answer = await asker.get("/v1/value?holdings=BTC-USD:0.5,eth:2,FOO:1,BID:1")
    body = answer.json()
    assert body.pop("cursor").endswith(f".{leader.offset}")
    assert body == {
        "value": "36501.06",
        "quote": "USD",
        "holdings": {
            "BTC-USD": {"amount": "0.5", "price": "61000.12", "value": "30500.06"},
            "ETH-USD": {
                "amount": "2",
                "price": "3000.50",
                "value": "6001",
                "stale": True,
                "via": "USDT",
            },
        },
        "missing": ["BID-USD", "FOO-USD"],
        "as_of_ms": leader.offset,
        "live": True,
    }
    assert answer.headers["cache-control"] == "private, no-store"
    assert "etag" not in answer.headers


@pytest.mark.parametrize("amount", ['"0.5"', "0.5", "0.50"])
@pytest.mark.usefixtures("leader")
async def test_a_post_answers_the_same(
    client: Client, keys: Keys, settings: Settings, amount: str
) -> None:
    """A number in JSON is read by its digits, and never becomes a float."""
    body = f'{{"holdings":{{"BTC-USD":{amount},"DOGE/USD":"12345678901234567890.1"}}}}'
    headers = {"content-type": "application/json; charset=utf-8"}
    async with serving(client, keys, settings) as asker:
        answer = await asker.post("/v1/value", content=body, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["value"] == "123456819512.405678901"


@pytest.mark.usefixtures("leader")
async def test_an_instrument_named_twice_counts_twice(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Two wallets of one coin."""
    async with serving(client, keys, settings) as asker:
        answer = await asker.get("/v1/value?holdings=BTC:0.1,bitcoin:0.2")
    assert answer.json()["holdings"]["BTC-USD"]["amount"] == "0.3"


@pytest.mark.parametrize(
    ("holdings", "code"),
    [
        ("", "holdings_invalid"),
        ("BTC", "holdings_invalid"),
        ("BTC:", "holdings_invalid"),
        ("BTC:x", "holdings_invalid"),
        ("BTC:-1", "holdings_invalid"),
        ("BTC:1e9", "holdings_invalid"),
        ("BTC:NaN", "holdings_invalid"),
        ("BTC:Infinity", "holdings_invalid"),
        ("BTC:" + "9" * 21, "holdings_invalid"),
        ("BTC:٣", "holdings_invalid"),
        (":1", "selection_invalid"),
        ("BTC:1,BTC-EUR:1", "quotes_differ"),
    ],
)
@pytest.mark.usefixtures("leader")
async def test_holdings_that_cannot_be_valued_are_400(
    client: Client, keys: Keys, settings: Settings, holdings: str, code: str
) -> None:
    """A wrong value would be worse than none."""
    async with serving(client, keys, settings) as asker:
        answer = await asker.get("/v1/value", params={"holdings": holdings})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ((b"{", "application/json"), 400),
        ((b"[]", "application/json"), 400),
        ((b'{"holdings":{"BTC":[1]}}', "application/json"), 400),
        ((b'{"holdings":{"BTC":null}}', "application/json"), 400),
        ((b'{"holdings":{"BTC":1e400}}', "application/json"), 400),
        ((b'{"holdings":{"BTC":"\xff"}}', "application/json"), 400),
        ((b'{"holdings":{}}', "application/json"), 400),
        ((b'{"holdings":{"BTC":"1"}}', "text/plain"), 415),
        ((b'{"holdings":{"BTC":"1"}}' + b" " * 70_000, "application/json"), 413),
    ],
)
@pytest.mark.usefixtures("leader")
async def test_a_body_that_cannot_be_read_is_told_why(
    client: Client,
    keys: Keys,
    settings: Settings,
    sent: tuple[bytes, str],
    status: int,
) -> None:
    """The status and a stable code; and no more is read than allowed."""
    async with serving(client, keys, settings) as asker:
        headers = {"content-type": sent[1]}
        answer = await asker.post("/v1/value", content=sent[0], headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"]["hint"]


@pytest.mark.usefixtures("leader")
async def test_more_holdings_than_allowed_are_refused(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """One question costs no more than one selection."""
    many = ",".join(f"X{number}:1" for number in range(settings.http.selection_max + 1))
    async with serving(client, keys, settings) as asker:
        answer = await asker.get("/v1/value", params={"holdings": many})
    assert answer.status_code == 400


DIGITS = st.decimals(min_value=0, max_value=10**20, places=18).map(lambda d: f"{d:f}")


@given(st.lists(st.tuples(DIGITS, DIGITS), min_size=1, max_size=20))
def test_nothing_is_rounded(pairs: list[tuple[str, str]]) -> None:
    """The sum of the parts, checked by whole numbers alone."""
    names = [f"A{number}-USD" for number in range(len(pairs))]
    tickers = {
        name: Ticker(price=price, offset=1).encode()
        for name, (_, price) in zip(names, pairs, strict=True)
    }
    amounts = {
        name: Decimal(amount) for name, (amount, _) in zip(names, pairs, strict=True)
    }
    board = Board.read("k3", 1, 0, tickers)
    worth = value(amounts, "USD", board, Selection.of(names), live=True)
    whole = sum(_whole(amount) * _whole(price) for amount, price in pairs)
    assert _whole(worth.value, places=36) == whole


def _whole(text: str, places: int = 18) -> int:
    before, _, after = text.partition(".")
    return int(before + after.ljust(places, "0"))
