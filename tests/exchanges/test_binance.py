"""Binance's requests and answers, from the notes on its protocol."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from relay.errors import (
    Banned,
    ExchangeDown,
    ExchangeError,
    FrameError,
    RateLimited,
    Refused,
    UnknownSymbol,
)
from relay.exchanges.adapter import Adapter, Request, Usage
from relay.exchanges.binance import Binance
from relay.model import Listing, Update
from tests.exchanges.answers import SENT_MS, answer_to, settings_of

ADAPTER = Binance(settings_of("binance"))
CHECKED: Adapter = ADAPTER

INFO = json.dumps(
    {
        "timezone": "UTC",
        "serverTime": 1_760_000_000_000,
        "rateLimits": [{}],
        "symbols": [
            {
                "symbol": "OLDUSDT",
                "status": "BREAK",
                "baseAsset": "NEW",
                "quoteAsset": "USDT",
            },
            {
                "symbol": "NEWUSDT",
                "status": "TRADING",
                "baseAsset": "NEW",
                "quoteAsset": "USDT",
                "isSpotTradingAllowed": True,
                "filters": [{"filterType": "PRICE_FILTER"}],
            },
            {
                "symbol": "TUSDUSDT",
                "status": "CANCEL_ONLY",
                "baseAsset": "TUSD",
                "quoteAsset": "USDT",
            },
            {
                "symbol": "NEWUSDT_261225",
                "status": "TRADING",
                "contractType": "CURRENT_QUARTER",
                "baseAsset": "NEW",
                "quoteAsset": "USDT",
            },
        ],
    }
)

DAY_ROW = {
    "symbol": "BNBBTC",
    "priceChange": "-94.99999800",
    "priceChangePercent": "-95.960",
    "weightedAvgPrice": "0.29628482",
    "prevClosePrice": "0.10002000",
    "lastPrice": "4.00000200",
    "lastQty": "200.00000000",
    "bidPrice": "4.00000000",
    "bidQty": "100.00000000",
    "askPrice": "4.00000200",
    "askQty": "100.00000000",
    "openPrice": "99.00000000",
    "highPrice": "100.00000000",
    "lowPrice": "0.10000000",
    "volume": "8913.30000000",
    "quoteVolume": "15.30000000",
    "openTime": 1_499_783_499_040,
    "closeTime": 1_499_869_899_040,
    "firstId": 28385,
    "lastId": 28460,
    "count": 76,
}
DAY_UPDATE = Update(
    exchange="binance",
    channel="rest:ticker/24hr",
    symbol="BNBBTC",
    received_ms=SENT_MS - 1500,
    event_ms=1_499_869_899_040,
    snapshot=True,
    price="4.00000200",
    bid="4.00000000",
    ask="4.00000200",
    change_24h_pct="-95.960",
    high_24h="100.00000000",
    low_24h="0.10000000",
    volume_24h="8913.30000000",
    volume_24h_quote="15.30000000",
)


def request_of(endpoint: str, *query: tuple[str, str]) -> Request:
    """Return the request for an endpoint."""
    found = ADAPTER.recognise(f"/api/v3/{endpoint}", query)
    assert found is not None
    return found


def listings(count: int) -> list[Listing]:
    """Return listings, in no order."""
    return [
        Listing(symbol=f"C{number:04}USDT", base=f"C{number:04}", quote="USDT")
        for number in reversed(range(count))
    ]


def test_the_symbol_table_is_asked_for_without_what_makes_it_large() -> None:
    """Permission sets are most of the answer, and nobody reads them."""
    assert ADAPTER.symbol_requests() == [
        Request(
            exchange="binance",
            purpose="symbols",
            path="/api/v3/exchangeInfo",
            query=(("showPermissionSets", "false"),),
            costs=(("weight", 20), ("requests", 1)),
        )
    ]


def test_binance_us_is_not_asked_with_what_it_does_not_know() -> None:
    """An unknown parameter is an error there, and everywhere."""
    settings = replace(settings_of("binance"), rest_url="https://api.binance.us")
    assert Binance(settings).symbol_requests()[0].query == ()


def test_symbols_come_from_the_table_and_what_trades_comes_first() -> None:
    """After a rename the old row stays in BREAK; dated futures are other things."""
    (request,) = ADAPTER.symbol_requests()
    symbols = ADAPTER.read_symbols([answer_to(request, INFO)])
    assert list(symbols) == [
        Listing(symbol="NEWUSDT", base="NEW", quote="USDT"),
        Listing(symbol="TUSDUSDT", base="TUSD", quote="USDT", active=False),
    ]
    assert symbols.listings_of("OLDUSDT") == ()


@pytest.mark.parametrize("body", ["", "[]", "<html>", '{"symbols":[{}]}', "\xff"])
def test_a_symbol_table_nobody_can_read_is_a_frame_error(body: str) -> None:
    """An empty table would drop every instrument."""
    (request,) = ADAPTER.symbol_requests()
    with pytest.raises(FrameError, match=r"^binance rest:exchangeInfo: "):
        ADAPTER.read_symbols([answer_to(request, body.encode("latin-1"))])


def test_a_symbol_is_never_cut_in_two() -> None:
    """TUSDUSDT could be TUS and DUSDT."""
    assert ADAPTER.listing_of("TUSDUSDT") is None


@pytest.mark.parametrize(
    ("count", "weights"),
    [
        (0, []),
        (1, [2]),
        (20, [2]),
        (21, [2, 2]),
        (100, [2] * 5),
        (800, [2] * 40),
        (801, [80]),
        (2000, [80]),
    ],
)
def test_a_snapshot_costs_as_little_as_the_table_of_weights_allows(
    count: int, weights: list[int]
) -> None:
    """Twenty symbols cost 2, twenty-one cost 40, all of them 80."""
    requests = ADAPTER.snapshot_requests(listings(count))
    assert [request.costs for request in requests] == [
        (("weight", weight), ("requests", 1)) for weight in weights
    ]


def test_a_snapshot_names_each_symbol_once_in_order_and_without_blanks() -> None:
    """A repeated symbol fails the whole request (-1151)."""
    (request,) = ADAPTER.snapshot_requests([*listings(2), *listings(2)])
    assert request.path == "/api/v3/ticker/24hr"
    assert request.query == (("symbols", '["C0000USDT","C0001USDT"]'),)
    assert request.symbols == ("C0000USDT", "C0001USDT")
    assert ADAPTER.snapshot_requests(listings(801))[0].query == ()


def test_a_day_ticker_keeps_every_digit_and_is_as_old_as_its_question() -> None:
    """An answer from a cache is older than it looks."""
    (request,) = ADAPTER.snapshot_requests(listings(1))
    body = json.dumps([DAY_ROW])
    assert ADAPTER.read_snapshot(answer_to(request, body, age_ms=1500)) == [DAY_UPDATE]
    body = json.dumps(DAY_ROW)
    assert ADAPTER.read_snapshot(answer_to(request, body, age_ms=1500)) == [DAY_UPDATE]


def test_a_mini_ticker_gets_its_change_from_the_opening_price() -> None:
    """``type=MINI`` leaves the percentage out."""
    mini = {
        key: value
        for key, value in DAY_ROW.items()
        if not key.startswith(("bid", "ask", "priceChange"))
    }
    answer = answer_to(request_of("ticker/24hr"), json.dumps([mini]))
    (update,) = ADAPTER.read_snapshot(answer)
    assert (update.change_24h_pct, update.bid) == ("-95.960", "")


@pytest.mark.parametrize(
    ("endpoint", "query", "low_24h"),
    [
        ("ticker/24hr", (), "0.10000000"),
        ("ticker", (), "0.10000000"),
        ("ticker", (("windowSize", "1d"),), "0.10000000"),
        ("ticker", (("windowSize", "1h"),), ""),
        ("ticker", (("windowSize", "7d"),), ""),
        ("ticker/tradingDay", (), ""),
    ],
)
def test_only_a_window_of_24_hours_gives_24_hour_figures(
    endpoint: str, query: tuple[tuple[str, str], ...], low_24h: str
) -> None:
    """Any other window's low would be a wrong number."""
    answer = answer_to(request_of(endpoint, *query), json.dumps(DAY_ROW))
    (update,) = ADAPTER.read_snapshot(answer)
    assert update.channel == f"rest:{endpoint}"
    assert (update.price, update.low_24h) == ("4.00000200", low_24h)


@pytest.mark.parametrize(
    ("endpoint", "row", "shown"),
    [
        (
            "ticker/price",
            {"symbol": "LTCBTC", "price": "4.00000200", "time": 1_589_437_530_011},
            ("4.00000200", "", "", 1_589_437_530_011),
        ),
        (
            "ticker/bookTicker",
            {"symbol": "LTCBTC", "bidPrice": "4.00000000", "askPrice": "4.00000200"},
            ("", "4.00000000", "4.00000200", 0),
        ),
        (
            "ticker/bookTicker",
            {"symbol": "LTCBTC", "bidPrice": "0.00000000", "askPrice": "4.00000200"},
            ("", "", "4.00000200", 0),
        ),
    ],
)
def test_the_small_tickers_fill_what_they_have(
    endpoint: str, row: dict[str, object], shown: tuple[str, str, str, int]
) -> None:
    """The spot ones have no time, the futures one has."""
    answer = answer_to(request_of(endpoint), json.dumps([row]))
    (update,) = ADAPTER.read_snapshot(answer)
    assert (update.price, update.bid, update.ask, update.event_ms) == shown


@pytest.mark.parametrize(
    ("endpoint", "row"),
    [
        ("ticker/24hr", {"symbol": "DEAD", "lastPrice": "0.00000000", "count": 0}),
        ("ticker/24hr", {"symbol": "DEAD", "lastPrice": "0", "bidPrice": "1.0"}),
        ("ticker/price", {"symbol": "DEAD", "price": "0.00000000"}),
        ("ticker/bookTicker", {"symbol": "DEAD", "bidPrice": "0", "askPrice": "0"}),
    ],
)
def test_dead_symbols_are_left_out(endpoint: str, row: dict[str, object]) -> None:
    """51 of 595 rows of a recorded answer were dead; a zero price is never shown."""
    body = json.dumps([row, DAY_ROW])
    answer = answer_to(request_of(endpoint), body)
    assert [one.symbol for one in ADAPTER.read_snapshot(answer)] == ["BNBBTC"]


@given(st.binary())
def test_any_body_is_read_or_raises_a_frame_error(body: bytes) -> None:
    """A proxy in maintenance answers anything."""
    with suppress(FrameError):
        ADAPTER.read_snapshot(answer_to(request_of("ticker/24hr"), body))


@pytest.mark.parametrize("body", [b"", b"{}", b'{"code":0}', b"<html>", b"\xff"])
def test_a_body_nobody_can_read_is_a_frame_error(body: bytes) -> None:
    """The endpoint's name tells an operator what went wrong."""
    with pytest.raises(FrameError, match=r"^binance rest:ticker/24hr: "):
        ADAPTER.read_snapshot(answer_to(request_of("ticker/24hr"), body))


FAILURES: list[tuple[int, str, dict[str, str], ExchangeError | None]] = [
    (200, "[]", {}, None),
    (200, '{"symbols":[]}', {}, None),
    (200, "<html>maintenance", {}, ExchangeDown("binance", "not JSON")),
    (200, "{", {}, None),
    (
        200,
        '{"code":-1003,"msg":"Too many requests."}',
        {},
        RateLimited("binance", "address", 60_000),
    ),
    (429, "", {"retry-after": "7"}, RateLimited("binance", "address", 7_000)),
    (
        429,
        '{"code":-1003,"msg":"Too much request weight used"}',
        {},
        RateLimited("binance", "address", 60_000),
    ),
    (418, "", {"retry-after": "180"}, Banned("binance", "address", 180_000)),
    (
        418,
        f'{{"code":-1003,"msg":"IP banned until {SENT_MS + 200_040}. Please"}}',
        {},
        Banned("binance", "address", 200_000),
    ),
    (
        418,
        '{"code":-1003,"msg":"IP banned until 1000000000000."}',
        {},
        Banned("binance", "address", 120_000),
    ),
    (418, "", {}, Banned("binance", "address", 120_000)),
    (
        400,
        '{"code":-1034,"msg":"Too many connections"}',
        {},
        RateLimited("binance", "address", 60_000),
    ),
    (
        400,
        '{"code":-1007,"msg":"Timeout"}',
        {},
        ExchangeDown("binance", "Timeout (code -1007)"),
    ),
    (
        400,
        '{"code":-1121,"msg":"Invalid symbol."}',
        {},
        UnknownSymbol(
            "binance",
            "/api/v3/ticker/24hr was answered with HTTP 400: "
            "Invalid symbol. (code -1121)",
        ),
    ),
    (
        400,
        '{"code":-1151,"msg":"Symbol is present multiple times in the list."}',
        {},
        Refused(
            "binance",
            "request",
            "/api/v3/ticker/24hr was answered with HTTP 400: "
            "Symbol is present multiple times in the list. (code -1151)",
        ),
    ),
    (
        400,
        "",
        {},
        Refused("binance", "request", "/api/v3/ticker/24hr was answered with HTTP 400"),
    ),
    (502, "<html>", {}, ExchangeDown("binance", "HTTP 502")),
]


@pytest.mark.parametrize(("status", "body", "headers", "error"), FAILURES)
def test_every_documented_refusal_is_named(
    status: int, body: str, headers: dict[str, str], error: ExchangeError | None
) -> None:
    """Whoever is refused must know whether to wait, to give up or to change."""
    answer = answer_to(request_of("ticker/24hr"), body, status=status, headers=headers)
    found = ADAPTER.read_failure(answer)
    assert (type(found), getattr(found, "args", None)) == (
        type(error),
        getattr(error, "args", None),
    )


@pytest.mark.parametrize("status", [403, 451])
def test_a_restricted_place_is_told_where_to_go(status: int) -> None:
    """It is permanent for that address: retrying in a loop helps nobody."""
    body = '{"code":0,"msg":"Service unavailable from a restricted location"}'
    answer = answer_to(request_of("ticker/24hr"), body, status=status)
    found = ADAPTER.read_failure(answer)
    assert isinstance(found, Refused)
    assert found.kind == "blocked"
    assert "binance.us" in found.advice


@pytest.mark.parametrize(
    ("headers", "used"),
    [
        ({"x-mbx-used-weight-1m": "42", "x-mbx-used-weight": "40"}, 42),
        ({"x-mbx-used-weight": "40"}, 40),
        ({"x-mbx-used-weight-1m": "many"}, None),
        ({"x-mbx-used-weight-1m": "²"}, None),
        ({}, None),
    ],
)
def test_the_headers_tell_the_weight_of_the_whole_address(
    headers: dict[str, str], used: int | None
) -> None:
    """Other processes of the same address count too."""
    answer = answer_to(request_of("ticker/24hr"), "[]", headers=headers)
    expected = [] if used is None else [Usage(limit="weight", used=used)]
    assert ADAPTER.read_usage(answer) == expected


ORDERS = '{"rateLimitType":"ORDERS","interval":"SECOND","intervalNum":10,"limit":100}'
WEIGHT = ORDERS.replace("ORDERS", "REQUEST_WEIGHT").replace("SECOND", "MINUTE")
WEIGHT = WEIGHT.replace(":10,", ":1,").replace(":100}", ":1200}")


def test_the_limit_of_raw_requests_is_read_as_well() -> None:
    """It counts requests whatever they weigh, and its documents disagree about it."""
    raw = WEIGHT.replace("REQUEST_WEIGHT", "RAW_REQUESTS").replace(":1,", ":5,")
    body = f'{{"rateLimits":[{WEIGHT},{raw}],"symbols":[]}}'
    headers = {"x-mbx-used-weight-1m": "7"}
    assert ADAPTER.read_usage(
        answer_to(request_of("exchangeInfo"), body, headers=headers)
    ) == [
        Usage(limit="weight", used=7, most=1_200),
        Usage(limit="requests", most=1_200),
    ]


@pytest.mark.parametrize(
    ("body", "most"),
    [
        (f'{{"rateLimits":[{ORDERS},{WEIGHT}],"symbols":[]}}', 1_200),
        ('{"rateLimits":[],"symbols":[]}', None),
        ('{"symbols":[]}', None),
        ("<html>", None),
    ],
)
def test_the_limit_that_binance_publishes_is_read(body: str, most: int | None) -> None:
    """It changes without notice; the table is where it says so."""
    answer = answer_to(request_of("exchangeInfo"), body, headers={})
    expected = [] if most is None else [Usage(limit="weight", most=most)]
    assert ADAPTER.read_usage(answer) == expected


@pytest.mark.parametrize(
    ("path", "purpose"),
    [
        ("/api/v1/exchangeInfo", "symbols"),
        ("/fapi/v1/exchangeInfo", "symbols"),
        ("/api/v1/ticker/24hr", "snapshot"),
        ("/api/v1/ticker/allPrices", "snapshot"),
        ("/api/v3/ticker/bookTicker", "snapshot"),
        ("/fapi/v2/ticker/price", "snapshot"),
        ("/api/v3/depth", None),
        ("/api/v3/trades", None),
        ("/sapi/v1/system/status", None),
        ("/", None),
    ],
)
def test_recorded_addresses_are_recognised_in_every_version(
    path: str, purpose: str | None
) -> None:
    """Recordings are older than the paths of today."""
    query = [("symbol", "BTCUSDT")]
    found = ADAPTER.recognise(path, query)
    assert (found and found.purpose) == purpose
    assert found is None or (found.path, found.query) == (path, tuple(query))


def test_a_session_carries_the_configured_channels() -> None:
    """The configuration decides what is streamed."""
    assert ADAPTER.streams
    session = ADAPTER.session(["BTCUSDT"])
    assert session.target.endswith("btcusdt@ticker/btcusdt@bookTicker/btcusdt@aggTrade")
    assert session.rules.symbols_max == 1024 // 3


@pytest.mark.parametrize("changed", [{"ws_url": ""}, {"channels": ()}])
def test_without_address_or_channels_nothing_is_streamed(
    changed: dict[str, object],
) -> None:
    """REST alone is a valid way to run."""
    assert not Binance(replace(settings_of("binance"), **changed)).streams
