"""Advanced Trade's recordings: every ticker in them arrives, and nothing is dropped."""

from pathlib import Path

import pytest

from relay.exchanges.coinbase import Coinbase
from tests.exchanges.answers import answer_to, settings_of
from tests.exchanges.recordings import Tally, pushed, read_into, text_of

ADAPTER = Coinbase(settings_of("coinbase"))
LIST = "/api/v3/brokerage/market/products"


@pytest.mark.parametrize(
    ("file", "channel", "price", "book"),
    [
        ("ws_Ticker.txt", "ticker", "21932.98", ("21931.98", "21933.98")),
        ("ws_BatchTicker.txt", "ticker_batch", "21932.98", None),
        ("ws_Heartbeat.txt", None, None, None),
    ],
)
def test_recorded_frames_are_read(
    recorded: Path,
    file: str,
    channel: str | None,
    price: str | None,
    book: tuple[str, str] | None,
) -> None:
    """They are of 2024, with the ``client_id`` that went away."""
    tally = Tally()
    session = ADAPTER.session(())
    path = recorded / "coinbase/jkorf" / file
    read_into(tally, session, text_of(path).split("\n")[1][2:].encode(), 1)
    read_into(tally, session, pushed(path), 1)
    assert not tally.drops
    assert list(tally.updates) == ([channel] if channel else [])
    assert tally.prices == ({"ETH-USDT": price} if price else {})
    assert tally.books == ({"ETH-USDT": book} if book else {})


@pytest.mark.parametrize(
    ("file", "path", "prices"),
    [
        ("http_products.json", LIST, {"BTC-USD": "68925.98", "BTC-USDC": "68923.67"}),
        ("http_product.json", f"{LIST}/BTC-USD", {"BTC-USD": "68923.67"}),
        ("http_ticker.json", f"{LIST}/BTC-USD/ticker", {"BTC-USD": "68923.67"}),
    ],
)
def test_recorded_answers_are_read(
    recorded: Path, file: str, path: str, prices: dict[str, str]
) -> None:
    """They are of 2026-04-07, without a key."""
    request = ADAPTER.recognise(path, ())
    assert request is not None
    body = text_of(recorded / "coinbase/nautilus" / file)
    updates = ADAPTER.read_snapshot(answer_to(request, body))
    assert {update.symbol: update.price for update in updates} == prices


def test_the_recorded_list_links_the_twins(recorded: Path) -> None:
    """Both rows carry the link."""
    body = text_of(recorded / "coinbase/nautilus/http_products.json")
    request = ADAPTER.symbol_requests()[0]
    table = ADAPTER.read_symbols([answer_to(request, body)])
    assert [one.answers_as for one in table] == [(), ("BTC-USD",)]
