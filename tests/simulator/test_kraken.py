"""Kraken's REST: three spellings of a name, a bucket, and 200 for errors."""

from typing import Any

import msgspec
import pytest

from relay.simulator.faults import Fault
from relay.simulator.settings import KrakenSettings, Settings
from relay.simulator.wire import Answer
from tests.simulator.driver import Bench

PUBLIC = "/0/public/"


def result(bench: Bench, address: str) -> Any:  # noqa: ANN401  # JSON
    """Ask and give the result, which must have no error."""
    bench.now_ms += 1_000
    body = bench.body("kraken", PUBLIC + address)
    assert body["error"] == []
    return body["result"]


@pytest.mark.parametrize(
    ("key", "wsname", "base", "quote"),
    [
        ("XXBTZUSD", "XBT/USD", "XXBT", "ZUSD"),
        ("XETHZEUR", "ETH/EUR", "XETH", "ZEUR"),
        ("XXDGZUSD", "XDG/USD", "XXDG", "ZUSD"),
        ("SOLUSD", "SOL/USD", "SOL", "ZUSD"),
        ("XTZUSD", "XTZ/USD", "XTZ", "ZUSD"),
        ("ZRXUSD", "ZRX/USD", "ZRX", "ZUSD"),
        ("XBTUSDT", "XBT/USDT", "XXBT", "USDT"),
        ("USDTZUSD", "USDT/USD", "USDT", "ZUSD"),
    ],
)
def test_a_pair_has_its_legacy_spelling(
    bench: Bench, key: str, wsname: str, base: str, quote: str
) -> None:
    """Names are mapped by tables; stripping X and Z breaks XTZ and ZRX."""
    pair = result(bench, "AssetPairs")[key]
    assert (pair["wsname"], pair["base"], pair["quote"]) == (wsname, base, quote)
    assert pair["status"] == "online"
    assert key in result(bench, "Ticker")


def test_assets_give_the_short_names(bench: Bench) -> None:
    """The table through which ``base`` and ``quote`` of a pair are read."""
    assets = result(bench, "Assets")
    assert assets["XXBT"]["altname"] == "XBT"
    assert assets["XXDG"]["altname"] == "XDG"
    assert assets["ZUSD"]["altname"] == "USD"
    assert assets["SOL"]["altname"] == "SOL"


def test_modern_names_are_given_on_request(bench: Bench) -> None:
    """``assetVersion=1`` spares the mapping."""
    pair = result(bench, "AssetPairs?assetVersion=1&pair=XBTUSD")["BTC/USD"]
    assert (pair["base"], pair["quote"]) == ("BTC", "USD")


def test_a_ticker_is_text_without_time_or_name(bench: Bench) -> None:
    """The result's key often differs from the name asked for."""
    tickers = result(bench, "Ticker?pair=XBTUSD,ETH/USD")
    assert set(tickers) == {"XXBTZUSD", "XETHZUSD"}
    ticker = tickers["XXBTZUSD"]
    assert set(ticker) == set("abcvptlho")
    assert [len(ticker[key]) for key in "abcvptlh"] == [3, 3, 2, 2, 2, 2, 2, 2]
    assert isinstance(ticker["a"][0], str)
    assert all(isinstance(number, int) for number in ticker["t"])


def test_one_bad_name_fails_the_whole_request(bench: Bench) -> None:
    """And the status is 200 all the same."""
    body = bench.body("kraken", PUBLIC + "Ticker?pair=XBTUSD,NOPE")
    assert body == {"error": ["EQuery:Unknown asset pair"]}
    assert bench.body("kraken", PUBLIC + "AssetPairs?pair=NOPE")["error"]
    assert bench.body("kraken", PUBLIC + "Nothing")["error"]


def test_health_and_clock_answer(bench: Bench) -> None:
    """Both are cheap; the clock has whole seconds."""
    assert result(bench, "SystemStatus")["status"] == "online"
    assert result(bench, "Time")["unixtime"] == bench.now_ms // 1_000


def test_a_long_list_of_names_is_too_long(bench: Bench) -> None:
    """Above 8 KB the edge refuses: ask for all instead."""
    assert bench.ask("kraken", PUBLIC + "Ticker?pair=" + "XBTUSD," * 1_300).status == (
        414
    )


def test_requests_beyond_the_bucket_get_200_and_an_error(bench: Bench) -> None:
    """The status says nothing; the body has to be looked at every time."""
    bodies = [bench.body("kraken", PUBLIC + "Time") for _ in range(7)]
    errors = [body["error"] for body in bodies]
    assert errors == [[]] * 5 + [["EGeneral:Too many requests"]] * 2
    bench.now_ms += 2_000
    assert bench.body("kraken", PUBLIC + "Time")["error"]
    bench.now_ms += 4_000
    assert bench.body("kraken", PUBLIC + "Time")["error"] == []
    total = bench.world.ledger.picture(bench.now_ms).exchanges["kraken"].total
    assert total.refusals.earned == {"429": 3}


def test_too_many_attempts_shut_out_rest_as_well() -> None:
    """Both stand behind one edge: 150 in ten minutes, then ten minutes of refusal."""
    bench = Bench(Settings(kraken=KrakenSettings(attempts=3)))
    house = bench.exchanges["kraken"]
    opened = [house.greet(bench.request("kraken", "/v2")) for _ in range(4)]
    refused = opened.pop()
    assert not any(isinstance(talk, Answer) for talk in opened)
    assert isinstance(refused, Answer)
    assert refused.status == 429
    assert refused.content_type.startswith("text/html")
    assert bench.ask("kraken", PUBLIC + "Time").status == 429
    assert bench.ask("kraken", PUBLIC + "Time", by="10.0.0.2").status == 200
    bench.now_ms += 600_000
    assert bench.ask("kraken", PUBLIC + "Time").status == 200


def test_the_socket_has_one_path(bench: Bench) -> None:
    """Version 1 is not simulated."""
    answer = bench.exchanges["kraken"].greet(bench.request("kraken", "/v1"))
    assert isinstance(answer, Answer)
    assert answer.status == 404


def test_maintenance_makes_rest_unavailable(bench: Bench) -> None:
    """All but the status itself."""
    fault = Fault(exchange="kraken", fault="maintenance", for_ms=5_000)
    bench.world.faults.add(fault, bench.now_ms)
    assert bench.body("kraken", PUBLIC + "Ticker")["error"] == ["EService:Unavailable"]
    assert result(bench, "SystemStatus")["status"] == "maintenance"


def test_a_delisted_pair_is_gone_and_a_new_one_is_there(bench: Bench) -> None:
    """Only what trades is in the tables."""
    add = bench.world.faults.add
    add(Fault(exchange="kraken", fault="break", symbol="SOL/USD"), bench.now_ms)
    value = {"price": "1.5"}
    add(
        Fault(exchange="kraken", fault="listing", symbol="NEW/USD", value=value),
        bench.now_ms,
    )
    bench.wait(0)
    pairs = result(bench, "AssetPairs")
    assert "SOLUSD" not in pairs
    assert "NEWUSD" in pairs


def test_refusals_come_from_the_edge(bench: Bench) -> None:
    """In HTML, with Retry-After only if a fault says so."""
    request = bench.request("kraken", PUBLIC + "Time")
    answer = bench.exchanges["kraken"].refusal(429, request, 9)
    assert answer.headers["retry-after"] == "9"
    assert answer.content_type.startswith("text/html")
    plain = bench.exchanges["kraken"].refusal(502, request, 0)
    assert "retry-after" not in plain.headers


def test_tiny_prices_keep_their_digits(bench: Bench) -> None:
    """In REST they are text, not numbers."""
    ticker = result(bench, "Ticker?pair=PEPEUSD")["PEPEUSD"]
    assert msgspec.json.decode(ticker["c"][0]) < 0.0001
    assert ticker["c"][0].startswith("0.0000")
