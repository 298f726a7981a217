"""Binance's REST: weights, refusals and bans, symbols and answers."""

from typing import Any

import msgspec
import pytest

from relay.simulator.faults import Fault
from relay.simulator.settings import BinanceSettings, Settings
from tests.simulator.driver import START_MS, Bench

V3 = "/api/v3/"


def used(bench: Bench) -> int:
    """Give the weight of the running minute."""
    limits = bench.world.ledger.picture(bench.now_ms).exchanges["binance"].limits
    return limits["weight_1m"]["10.0.0.1"].used


def symbols(number: int) -> str:
    """Name so many symbols, known or not: the weight does not ask."""
    return "[" + ",".join(f'"S{one}"' for one in range(number)) + "]"


@pytest.mark.parametrize(
    ("address", "weight"),
    [
        ("ping", 1),
        ("time", 1),
        ("exchangeInfo", 20),
        ("ticker/price?symbol=BTCUSDT", 2),
        ('ticker/price?symbols=["BTCUSDT"]', 4),
        ("ticker/price", 4),
        ("ticker/bookTicker?symbol=BTCUSDT", 2),
        ("ticker/bookTicker", 4),
        ("ticker/24hr?symbol=BTCUSDT", 2),
        (f"ticker/24hr?symbols={symbols(20)}", 2),
        (f"ticker/24hr?symbols={symbols(21)}", 40),
        (f"ticker/24hr?symbols={symbols(100)}", 40),
        (f"ticker/24hr?symbols={symbols(101)}", 80),
        ("ticker/24hr", 80),
        ("ticker?symbol=BTCUSDT", 4),
        (f"ticker?symbols={symbols(3)}", 12),
        (f"ticker?symbols={symbols(90)}", 200),
        ("ticker/tradingDay?symbol=BTCUSDT", 4),
        ("avgPrice?symbol=BTCUSDT", 2),
        ("depth?symbol=BTCUSDT", 5),
        ("depth?symbol=BTCUSDT&limit=500", 25),
        ("depth?symbol=BTCUSDT&limit=1000", 50),
        ("depth?symbol=BTCUSDT&limit=5000", 250),
        ("trades?symbol=BTCUSDT", 25),
        ("klines?symbol=BTCUSDT&interval=1m", 2),
        ("referencePrice?symbol=BTCUSDT", 2),
        ("nothing", 1),
    ],
)
def test_a_request_weighs_what_the_documents_say(
    bench: Bench, address: str, weight: int
) -> None:
    """The referee's table is its own; a wrong row would hide a breach."""
    answer = bench.ask("binance", V3 + address)
    assert used(bench) == weight
    assert answer.headers["x-mbx-used-weight-1m"] == str(weight)
    assert answer.headers["x-mbx-used-weight"] == str(weight)


def test_weight_is_counted_by_address_and_clock_minute(bench: Bench) -> None:
    """Keys and instances share an address's weight; it ends at :00."""
    bench.ask("binance", V3 + "ticker/24hr")
    bench.ask("binance", V3 + "ticker/24hr", by="10.0.0.2")
    assert used(bench) == 80
    bench.now_ms += 59_999
    bench.ask("binance", V3 + "ping")
    assert used(bench) == 81
    bench.now_ms += 1
    assert used(bench) == 0


def spend_all(bench: Bench) -> None:
    """Spend the minute's weight to the last point."""
    for _ in range(75):
        assert bench.ask("binance", V3 + "ticker/24hr").status == 200


def test_too_much_weight_gets_429_until_the_minute_ends(bench: Bench) -> None:
    """The client learns when it may come back."""
    bench.now_ms += 10_500
    spend_all(bench)
    answer = bench.ask("binance", V3 + "ping")
    assert answer.status == 429
    assert answer.headers["retry-after"] == "50"
    assert msgspec.json.decode(answer.body)["code"] == -1003
    bench.now_ms += 49_500
    assert bench.ask("binance", V3 + "ping").status == 200
    total = bench.world.ledger.picture(bench.now_ms).exchanges["binance"].total
    assert total.refusals.earned == {"429": 1}
    assert total.breaches == {"weight": 1}


def test_going_on_after_429_gets_a_ban_that_grows(bench: Bench) -> None:
    """Requests under way are forgiven; the rest earns 418, each time for longer."""
    spend_all(bench)
    statuses = [bench.ask("binance", V3 + "ping").status for _ in range(5)]
    assert statuses == [429, 429, 429, 429, 418]
    answer = bench.ask("binance", V3 + "ping")
    assert answer.headers["retry-after"] == "120"
    said = msgspec.json.decode(answer.body)["msg"]
    assert f"IP banned until {START_MS + 120_000}" in said
    bench.now_ms += 119_999
    assert bench.ask("binance", V3 + "ping").status == 418
    bench.now_ms += 1
    assert bench.ask("binance", V3 + "ping").status == 200
    bench.now_ms += 60_000
    spend_all(bench)
    for _ in range(4):
        bench.ask("binance", V3 + "ticker/24hr")
    assert bench.ask("binance", V3 + "ping").headers["retry-after"] == "240"
    total = bench.world.ledger.picture(bench.now_ms).exchanges["binance"].total
    assert total.bans == 2


def test_raw_requests_have_a_limit_of_their_own() -> None:
    """A client may stay below the weight and still ask too often."""
    settings = Settings(binance=BinanceSettings(raw_requests=3))
    bench = Bench(settings)
    statuses = [bench.ask("binance", V3 + "ping").status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("ticker/price?symbol=NOPE", -1121),
        ('ticker/price?symbols=["BTCUSDT","NOPE"]', -1121),
        ('ticker/price?symbols=["BTCUSDT","BTCUSDT"]', -1151),
        ('ticker/price?symbol=BTCUSDT&symbols=["BTCUSDT"]', -1128),
        ("ticker/price?symbols=BTCUSDT", -1100),
        ("ticker/24hr?type=HUGE", -1139),
        ("ticker/24hr?symbolStatus=ASLEEP", -1122),
        ("ticker/24hr?symbol=BTCUSDT&symbolStatus=BREAK", -1220),
        ("ticker", -1105),
        ("ticker/price?symbol=BTCUSDT&currency=USD", -1104),
        ("referencePrice?symbol=BTCEUR", -2043),
    ],
)
def test_a_bad_parameter_gets_its_code(bench: Bench, address: str, code: int) -> None:
    """Adapters tell a wrong symbol from a wrong request by the code."""
    answer = bench.ask("binance", V3 + address)
    assert answer.status == 400
    assert msgspec.json.decode(answer.body)["code"] == code


def test_too_many_symbols_of_a_window_are_refused(bench: Bench) -> None:
    """The rolling window takes 100 symbols."""
    names = [symbol.name for symbol in bench.exchanges["binance"].listing.trading()]
    listed = msgspec.json.encode(names[:101]).decode()
    assert bench.ask("binance", f"{V3}ticker?symbols={listed}").status == 400


def test_one_symbol_gives_an_object_and_several_a_list(bench: Bench) -> None:
    """The shape of the answer depends on the parameter, not on the number."""
    one = bench.body("binance", V3 + "ticker/price?symbol=BTCUSDT")
    many = bench.body("binance", V3 + 'ticker/price?symbols=["BTCUSDT"]')
    assert many == [one]
    assert set(one) == {"symbol", "price"}
    assert one["price"].partition(".")[2].__len__() == 8


def test_full_and_mini_statistics_have_their_fields(bench: Bench) -> None:
    """FULL is what adapters know; MINI leaves the book and the changes out."""
    full = bench.body("binance", V3 + "ticker/24hr?symbol=BTCUSDT")
    mini = bench.body("binance", V3 + "ticker/24hr?symbol=BTCUSDT&type=MINI")
    window = bench.body("binance", V3 + "ticker?symbol=BTCUSDT")
    assert set(full) == {
        *("symbol", "priceChange", "priceChangePercent", "weightedAvgPrice"),
        *("prevClosePrice", "lastPrice", "lastQty", "bidPrice", "bidQty"),
        *("askPrice", "askQty", "openPrice", "highPrice", "lowPrice", "volume"),
        *("quoteVolume", "openTime", "closeTime", "firstId", "lastId", "count"),
    }
    assert set(full) - set(mini) == {
        *("priceChange", "priceChangePercent", "weightedAvgPrice", "prevClosePrice"),
        *("lastQty", "bidPrice", "bidQty", "askPrice", "askQty"),
    }
    assert set(full) - set(window) == {
        *("prevClosePrice", "lastQty", "bidPrice", "bidQty", "askPrice", "askQty"),
    }


def test_dead_symbols_show_zeros(bench: Bench) -> None:
    """51 of 595 symbols did in a recorded answer; nobody may publish them."""
    days = bench.body("binance", V3 + "ticker/24hr")
    dead = [day for day in days if day["symbol"] == "BCCUSDT"]
    assert dead[0]["lastPrice"] == "0.00000000"
    assert dead[0]["firstId"] == -1
    assert dead[0]["count"] == 0
    price = bench.body("binance", V3 + "ticker/price?symbol=BCCUSDT")
    assert price["price"] == "0.00000000"
    book = bench.body("binance", V3 + "ticker/bookTicker?symbol=BCCUSDT")
    assert book["bidPrice"] == book["askQty"] == "0.00000000"


def table(bench: Bench) -> dict[str, Any]:
    """Give the symbol table."""
    listed = bench.body("binance", V3 + "exchangeInfo")["symbols"]
    return {entry["symbol"]: entry for entry in listed}


@pytest.mark.parametrize(
    ("symbol", "base", "quote"),
    [
        ("BTCUSDT", "BTC", "USDT"),
        ("ETHUSDC", "ETH", "USDC"),
        ("SOLEUR", "SOL", "EUR"),
        ("ETHBTC", "ETH", "BTC"),
        ("TUSDUSDT", "TUSD", "USDT"),
        ("USDTTRY", "USDT", "TRY"),
        ("1000SATSUSDT", "1000SATS", "USDT"),
        ("1INCHUSDT", "1INCH", "USDT"),
        ("币安人生USDT", "币安人生", "USDT"),
    ],
)
def test_the_table_alone_splits_a_symbol(
    bench: Bench, symbol: str, base: str, quote: str
) -> None:
    """Cutting suffixes off fails on several of these."""
    entry = table(bench)[symbol]
    assert (entry["baseAsset"], entry["quoteAsset"]) == (base, quote)
    assert entry["status"] == "TRADING"


def test_the_table_tells_the_limits(bench: Bench) -> None:
    """Clients should read them here instead of writing them down."""
    limits = bench.body("binance", V3 + "exchangeInfo")["rateLimits"]
    assert [limit["limit"] for limit in limits if "WEIGHT" in limit["rateLimitType"]]
    sets = bench.body("binance", V3 + "exchangeInfo?showPermissionSets=false")
    assert sets["symbols"][0]["permissionSets"] == []


def test_a_symbol_goes_to_break_and_comes_back(bench: Bench) -> None:
    """Delisted pairs stay in the table; whoever reads must notice."""
    fault = Fault(exchange="binance", fault="break", symbol="ETHUSDT", for_ms=1_000)
    bench.world.faults.add(fault, bench.now_ms)
    bench.wait(0)
    assert table(bench)["ETHUSDT"]["status"] == "BREAK"
    filtered = bench.body(
        "binance", V3 + 'ticker/price?symbols=["ETHUSDT"]&symbolStatus=TRADING'
    )
    assert filtered == []
    bench.now_ms += 1_000
    bench.world.faults.expire(bench.now_ms)
    bench.wait(0)
    assert table(bench)["ETHUSDT"]["status"] == "TRADING"


def test_a_new_symbol_is_listed(bench: Bench) -> None:
    """Discovery has to find what was not there at the start."""
    value = {"base": "NEWBORN", "quote": "USDT", "price": "1.50"}
    fault = Fault(
        exchange="binance", fault="listing", symbol="NEWBORNUSDT", value=value
    )
    bench.world.faults.add(fault, bench.now_ms)
    bench.wait(0)
    assert table(bench)["NEWBORNUSDT"]["baseAsset"] == "NEWBORN"
    price = bench.body("binance", V3 + "ticker/price?symbol=NEWBORNUSDT")
    assert price["price"].startswith("1.")


def test_the_exchanges_clock_is_ahead_and_may_be_far_ahead(bench: Bench) -> None:
    """Ages computed from the exchange's time go below zero unless clamped."""
    assert bench.body("binance", V3 + "time")["serverTime"] == bench.now_ms + 40
    bench.world.faults.add(
        Fault(exchange="binance", fault="clock", value=3_600_000), bench.now_ms
    )
    ahead = bench.body("binance", V3 + "time")["serverTime"] - bench.now_ms
    assert ahead == 3_600_040
    micro = bench.body("binance", V3 + "time", {"x-mbx-time-unit": "MICROSECOND"})
    assert micro["serverTime"] > 10**15


def test_other_answers_have_their_shapes(bench: Bench) -> None:
    """Rarely read, but what is served must be served right."""
    depth = bench.body("binance", V3 + "depth?symbol=BTCUSDT&limit=5")
    assert len(depth["bids"]) == len(depth["asks"]) == 5
    assert set(depth) == {"lastUpdateId", "bids", "asks"}
    trades = bench.body("binance", V3 + "trades?symbol=BTCUSDT&limit=2")
    assert trades[0]["id"] + 1 == trades[1]["id"]
    klines = bench.body("binance", V3 + "klines?symbol=BTCUSDT&interval=1m&limit=3")
    assert [len(kline) for kline in klines] == [12, 12, 12]
    average = bench.body("binance", V3 + "avgPrice?symbol=BTCUSDT")
    assert set(average) == {"mins", "price", "closeTime"}
    assert bench.body("binance", V3 + "referencePrice?symbol=BTCUSDT")["symbol"]
    assert bench.body("binance", V3 + "ping") == {}
    assert bench.ask("binance", V3 + "nothing").status == 404
    assert bench.ask("binance", "/api/v1/ticker/price").status == 404


@pytest.mark.parametrize(
    ("status", "word", "retry"),
    [(429, "weight", "7"), (418, "banned", "7"), (451, "restricted", None)],
)
def test_an_injected_refusal_reads_like_an_earned_one(
    bench: Bench, status: int, word: str, retry: str | None
) -> None:
    """A client cannot know that a test asked for it."""
    request = bench.request("binance", V3 + "ping")
    answer = bench.exchanges["binance"].refusal(status, request, 7)
    assert answer.status == status
    assert word in answer.body.decode()
    assert answer.headers.get("retry-after") == retry


def test_the_edge_answers_in_html(bench: Bench) -> None:
    """A 5xx page must never be parsed as JSON."""
    request = bench.request("binance", V3 + "ping")
    answer = bench.exchanges["binance"].refusal(502, request, 0)
    assert answer.content_type.startswith("text/html")
    assert answer.body.startswith(b"<!DOCTYPE html>")
