"""Binance's recordings: every ticker in them arrives, and nothing is dropped."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from relay.exchanges.adapter import Usage
from relay.exchanges.binance import Binance
from tests.exchanges.answers import answer_to, settings_of
from tests.exchanges.recordings import (
    Tally,
    body_of,
    pushed,
    read_into,
    recognised,
    replay,
)

ADAPTER = Binance(settings_of("binance"))

CAPTURES = [
    (
        "cryptofeed_spot_2021-10-12.ws.gz",
        265,
        {"bookTicker": 84, "aggTrade": 2},
        {"NKNUSDT": "0.35280000", "LRCBTC": "0.00000638"},
        {
            "NKNUSDT": ("0.35270000", "0.35310000"),
            "LRCBTC": ("0.00000637", "0.00000638"),
            "BLZETH": ("0.00006547", "0.00006560"),
        },
    ),
    (
        "cryptofeed_us_2021-10-12.ws.gz",
        329,
        {"bookTicker": 84, "aggTrade": 11},
        {"OMGBUSD": "13.76040000"},
        {
            "OMGBUSD": ("13.73070000", "13.75740000"),
            "ZRXUSDT": ("0.99470000", "0.99780000"),
            "CRVUSDT": ("2.64300000", "2.64800000"),
        },
    ),
    (
        "cryptofeed_futures_2021-07-22.ws.gz",
        1135,
        {"bookTicker": 468, "aggTrade": 53},
        {"AKROUSDT": "0.01734", "SUSHIUSDT": "7.6110", "KEEPUSDT": "0.2467"},
        {
            "SUSHIUSDT": ("7.6120", "7.6150"),
            "AKROUSDT": ("0.01734", "0.01735"),
            "KEEPUSDT": ("0.2463", "0.2467"),
        },
    ),
]


@pytest.mark.parametrize(("file", "frames", "updates", "prices", "books"), CAPTURES)
def test_a_capture_gives_its_last_prices_and_drops_nothing(  # noqa: PLR0913, PLR0917  a table's columns
    recorded: Path,
    file: str,
    frames: int,
    updates: dict[str, int],
    prices: dict[str, str],
    books: dict[str, tuple[str, str]],
) -> None:
    """The other frames are depth and candles, which are not ours."""
    tally = replay(recorded / "binance" / file, ADAPTER.session(()))
    assert tally == Tally(
        frames=frames,
        updates=tally.updates,
        prices=prices,
        books=books,
    )
    assert dict(tally.updates) == updates


@pytest.mark.parametrize(
    ("file", "used", "counts"),
    [
        (
            "cassettes_spot_2019-08-22.jsonl.gz",
            [40, 41],
            [("snapshot", 544), ("symbols", 595, 546)],
        ),
        (
            "cassettes_spot_exchangeInfo_2019-08-22.jsonl.gz",
            [1],
            [("symbols", 595, 546)],
        ),
        (
            "cassettes_us_2019-09-19.jsonl",
            [1, 41],
            [("symbols", 14, 14), ("snapshot", 8)],
        ),
    ],
)
def test_answers_of_the_first_version_are_read(
    recorded: Path, file: str, used: list[int], counts: list[tuple[object, ...]]
) -> None:
    """51 of the 595 rows, and 6 of the 14, were dead: no price, no trade."""
    seen: list[tuple[object, ...]] = []
    weights = []
    for answer in recognised(recorded / "binance" / file, ADAPTER):
        assert ADAPTER.read_failure(answer) is None
        weights += ADAPTER.read_usage(answer)
        if answer.request.purpose == "symbols":
            table = ADAPTER.read_symbols([answer])
            active = sum(listing.active for listing in table)
            seen.append(("symbols", len(table), active))
        else:
            updates = ADAPTER.read_snapshot(answer)
            assert all(update.price and update.event_ms for update in updates)
            seen.append(("snapshot", len(updates)))
    assert seen == counts
    # The first of them has the limits of its day besides.
    counted = [replace(one, most=None) for one in weights if one.limit == "weight"]
    assert counted == [Usage(limit="weight", used=one) for one in used]
    published = {one.limit: one.most for one in weights if one.most is not None}
    assert published.items() <= {"weight": 1_200, "requests": 5_000}.items()


def test_every_price_of_the_spot_snapshot_belongs_to_a_listing(recorded: Path) -> None:
    """The table and the prices were recorded in the same second."""
    file = recorded / "binance" / "cassettes_spot_2019-08-22.jsonl.gz"
    prices, table = recognised(file, ADAPTER)
    symbols = ADAPTER.read_symbols([table])
    updates = ADAPTER.read_snapshot(prices)
    assert all(symbols.listings_of(update.symbol) for update in updates)
    shown = {update.symbol: update.price for update in updates}
    assert (shown["ETHBTC"], len(shown)) == ("0.01864700", 544)


@pytest.mark.parametrize(
    ("file", "listed", "active"),
    [
        ("cryptofeed_spot_2021-10-12.exchangeInfo.rest.gz", 1695, 1262),
        ("cryptofeed_us_2021-10-12.exchangeInfo.rest.gz", 121, 117),
    ],
)
def test_recorded_symbol_tables_are_read_whole(
    recorded: Path, file: str, listed: int, active: int
) -> None:
    """What is in BREAK stays in the table, inactive."""
    (answer,) = recognised(recorded / "binance" / file, ADAPTER)
    table = ADAPTER.read_symbols([answer])
    assert (len(table), sum(one.active for one in table)) == (listed, active)


@pytest.mark.parametrize(
    ("file", "channel", "price", "book"),
    [
        ("ws_AggregatedTrades.txt", "aggTrade", "0.001", None),
        ("ws_BookTicker.txt", "bookTicker", None, ("25.35190000", "25.36520000")),
        ("ws_MiniTicker.txt", "miniTicker", "0.0025", None),
        ("ws_RollingWindowTicker.txt", "ticker_1h", "0.0025", None),
        ("ws_Ticker.txt", "ticker", "0.0025", ("0.0024", "0.0026")),
        ("ws_Klines.txt", None, None, None),
    ],
)
def test_documented_examples_are_read(
    recorded: Path,
    file: str,
    channel: str | None,
    price: str | None,
    book: tuple[str, str] | None,
) -> None:
    """They show the shape of each message."""
    tally = Tally()
    read_into(tally, ADAPTER.session(()), pushed(recorded / "binance/jkorf" / file), 1)
    assert not tally.drops
    assert list(tally.updates) == ([channel] if channel else [])
    assert list(tally.prices.values()) == ([price] if price else [])
    assert list(tally.books.values()) == ([book] if book else [])


@pytest.mark.parametrize(
    ("file", "path", "shown"),
    [
        ("rest_GetTicker.txt", "ticker/24hr", ("4.00000200", "4.00000000", "-95.960")),
        ("rest_GetPrice.txt", "ticker/price", ("4.00000200", "", "")),
        ("rest_GetBookPrice.txt", "ticker/bookTicker", ("", "4.00000000", "")),
        ("rest_GetRollingWindowTicker.txt", "ticker", ("1.00000000", "", "-88.889")),
    ],
)
def test_documented_answers_are_read(
    recorded: Path, file: str, path: str, shown: tuple[str, str, str]
) -> None:
    """An endpoint's answer for one symbol is an object, not a list."""
    request = ADAPTER.recognise(f"/api/v3/{path}", ())
    assert request is not None
    body = body_of(recorded / "binance/jkorf" / file)
    (update,) = ADAPTER.read_snapshot(answer_to(request, body))
    assert (update.price, update.bid, update.change_24h_pct) == shown
