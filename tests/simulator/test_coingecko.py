"""CoinGecko: plans and keys, an edge that keeps answers, and silent omissions."""

from typing import Any

import msgspec
import pytest

from relay.simulator.faults import Fault
from relay.simulator.settings import CoingeckoSettings, Settings
from relay.simulator.wire import Answer
from tests.simulator.driver import AGENT, Bench

V3 = "/api/v3/"
DEMO = AGENT | {"x-cg-demo-api-key": "CG-demo"}
PAID = AGENT | {"x-cg-pro-api-key": "CG-paid"}


def body(bench: Bench, path: str) -> Any:  # noqa: ANN401  # JSON
    """Ask without a key."""
    return bench.body("coingecko", V3 + path)


def limits(bench: Bench) -> dict[str, int]:
    """Give what counts of every limit, whoever it is of."""
    counts = bench.world.ledger.picture(bench.now_ms).exchanges["coingecko"].limits
    return {
        name: sum(count.used for count in scopes.values())
        for name, scopes in counts.items()
    }


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        (V3 + "ping", PAID, 400, 10010),
        ("/pro" + V3 + "ping", DEMO, 400, 10011),
        ("/pro" + V3 + "ping", AGENT, 401, 10002),
        (V3 + "ping", AGENT | {"x-cg-demo-api-key": "nonsense"}, 401, 10002),
        (V3 + "key", DEMO, 401, 10005),
        (V3 + "coins/top_gainers_losers", AGENT, 401, 10005),
        (V3 + "ping?x_cg_pro_api_key=CG-paid", AGENT, 400, 10010),
    ],
)
def test_a_key_at_the_wrong_root_gets_its_code(
    bench: Bench, path: str, headers: dict[str, str], status: int, code: int
) -> None:
    """A key does not tell its kind, so the plan is a setting."""
    answer = bench.ask("coingecko", path, headers)
    assert answer.status == status
    assert msgspec.json.decode(answer.body)["error_code"] == code


@pytest.mark.parametrize(
    ("path", "headers", "window"),
    [
        (V3 + "ping", AGENT, "requests_1m_keyless"),
        (V3 + "ping", DEMO, "requests_1m_demo"),
        (V3 + "ping?x_cg_demo_api_key=CG-demo", AGENT, "requests_1m_demo"),
        ("/pro" + V3 + "ping", PAID, "requests_1m_paid"),
    ],
)
def test_each_plan_has_its_own_window(
    bench: Bench, path: str, headers: dict[str, str], window: str
) -> None:
    """Keyless by address, the others by key."""
    answer = bench.ask("coingecko", path, headers)
    assert msgspec.json.decode(answer.body)["gecko_says"] == "(V3) To the Moon!"
    assert limits(bench)[window] == 1


def test_a_request_needs_a_user_agent(bench: Bench) -> None:
    """Without one it can be refused with 403."""
    assert bench.ask("coingecko", V3 + "ping", {}).status == 403


def test_a_minute_takes_so_many_requests_and_refused_ones_count(bench: Bench) -> None:
    """429 with a body and the seconds until the oldest no longer counts."""
    statuses = [bench.ask("coingecko", V3 + "ping").status for _ in range(16)]
    assert statuses == [200] * 15 + [429]
    bench.now_ms += 20_000
    refused = bench.ask("coingecko", V3 + "ping")
    assert refused.headers["retry-after"] == "40"
    status = msgspec.json.decode(refused.body)["status"]
    assert status["error_code"] == 429
    assert "Rate Limit" in status["error_message"]
    bench.now_ms += 40_000
    assert bench.ask("coingecko", V3 + "ping").status == 200


def test_a_month_takes_so_many_credits() -> None:
    """Only what was answered takes one."""
    bench = Bench(Settings(coingecko=CoingeckoSettings(demo_credits=2)))
    bench.ask("coingecko", V3 + "coins/nope", DEMO)
    statuses = [bench.ask("coingecko", V3 + "ping", DEMO).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert limits(bench)["credits_month_demo"] == 2


def test_the_paid_root_tells_what_was_used(bench: Bench) -> None:
    """The demo root does not."""
    bench.ask("coingecko", "/pro" + V3 + "ping", PAID)
    used = bench.body("coingecko", "/pro" + V3 + "key", PAID)
    assert used["current_total_monthly_calls"] == 1
    assert used["current_remaining_monthly_calls"] == 499_999


# Prices.


def test_simple_prices_are_numbers_by_id(bench: Bench) -> None:
    """Whole or fractional; small ones in scientific notation."""
    answer = bench.ask(
        "coingecko",
        V3 + "simple/price?ids=bitcoin,shiba-inu&vs_currencies=usd,eur"
        "&include_market_cap=true&include_24hr_vol=true&include_24hr_change=true"
        "&include_last_updated_at=true",
    )
    prices = msgspec.json.decode(answer.body)
    assert set(prices) == {"bitcoin", "shiba-inu"}
    assert isinstance(prices["bitcoin"]["usd"], int)
    assert prices["bitcoin"]["last_updated_at"] == bench.now_ms // 1_000
    assert {"usd_market_cap", "usd_24h_vol", "usd_24h_change", "eur"} <= set(
        prices["bitcoin"]
    )
    assert b'"usd":1.78' in answer.body
    assert b"e-05" in answer.body


@pytest.mark.parametrize(
    ("query", "decimals"), [("&precision=full", 6), ("&precision=3", 3), ("", 0)]
)
def test_precision_is_asked_for(bench: Bench, query: str, decimals: int) -> None:
    """Otherwise prices are shortened."""
    answer = bench.ask(
        "coingecko", V3 + "simple/price?ids=bitcoin&vs_currencies=usd" + query
    )
    text = answer.body.partition(b'"usd":')[2].strip(b"}").decode()
    assert len(text.partition(".")[2]) == decimals


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("ids=nope&vs_currencies=usd", {}),
        ("ids=bitcoin&vs_currencies=xyz", {"bitcoin": {}}),
        ("ids=ghost-coin&vs_currencies=usd", {"ghost-coin": {"usd": None}}),
    ],
)
def test_what_is_unknown_is_left_out_silently(
    bench: Bench, query: str, answer: object
) -> None:
    """No error says so: what was answered has to be compared with what was asked."""
    assert body(bench, f"simple/price?{query}") == answer


def test_a_blank_after_the_comma_loses_an_id(bench: Bench) -> None:
    """In prices, though not in markets (recorded)."""
    prices = body(bench, "simple/price?ids=bitcoin,%20ethereum&vs_currencies=usd")
    assert set(prices) == {"bitcoin"}
    markets = body(bench, "coins/markets?vs_currency=usd&ids=bitcoin,%20ethereum")
    assert {coin["id"] for coin in markets} == {"bitcoin", "ethereum"}


@pytest.mark.parametrize(
    ("query", "key"), [("names=Bitcoin", "Bitcoin"), ("symbols=btc", "btc")]
)
def test_coins_are_found_by_name_and_symbol(bench: Bench, query: str, key: str) -> None:
    """Answered under what was asked by."""
    assert set(body(bench, f"simple/price?{query}&vs_currencies=usd")) == {key}


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ("simple/price?vs_currencies=usd", "ids"),
        ("simple/price?ids=bitcoin", "vs_currencies"),
        ("coins/markets", "vs_currency"),
    ],
)
def test_a_missing_parameter_gets_422(bench: Bench, path: str, missing: str) -> None:
    """And is not kept by any cache."""
    answer = bench.ask("coingecko", V3 + path)
    assert answer.status == 422
    assert msgspec.json.decode(answer.body) == {"error": f"Missing parameter {missing}"}
    assert answer.headers["cache-control"] == "no-cache"


def test_markets_are_ranked_in_pages(bench: Bench) -> None:
    """Past the last page there is nothing."""
    first = bench.ask("coingecko", V3 + "coins/markets?vs_currency=usd&per_page=2")
    coins = msgspec.json.decode(first.body)
    assert [coin["market_cap_rank"] for coin in coins] == [1, 2]
    assert first.headers["per-page"] == "2"
    assert int(first.headers["total"]) > 60
    assert 'rel="last"' in first.headers["link"]
    assert body(bench, "coins/markets?vs_currency=usd&page=99") == []
    assert bench.ask("coingecko", V3 + "coins/markets?vs_currency=xyz").status == 422


def test_symbols_are_shared_and_numbers_are_null(bench: Bench) -> None:
    """Ids are the key; nearly every number can be missing."""
    coins = body(bench, "coins/markets?vs_currency=usd&per_page=250")
    assert [coin["symbol"] for coin in coins].count("btc") == 2
    (ghost,) = [coin for coin in coins if coin["id"] == "ghost-coin"]
    assert ghost["current_price"] is ghost["last_updated"] is None
    assert coins[0]["last_updated"].endswith("Z")


def test_windows_of_change_are_added_on_request(bench: Bench) -> None:
    """Each has its own field."""
    query = "coins/markets?vs_currency=usd&ids=bitcoin&price_change_percentage=1h,7d"
    (coin,) = body(bench, query)
    assert "price_change_percentage_1h_in_currency" in coin
    assert "price_change_percentage_7d_in_currency" in coin


def test_other_answers_have_their_shapes(bench: Bench) -> None:
    """Lists, one coin, rates."""
    assert "usd" in body(bench, "simple/supported_vs_currencies")
    coins = body(bench, "coins/list")
    assert {"id": "ripple", "symbol": "xrp", "name": "XRP"} in coins
    assert "platforms" in body(bench, "coins/list?include_platform=true")[0]
    assert body(bench, "coins/list?status=inactive") == []
    coin = body(bench, "coins/bitcoin")
    assert coin["market_data"]["current_price"]["usd"]
    assert body(bench, "exchange_rates")["rates"]["usd"]["type"] == "fiat"
    assert bench.ask("coingecko", V3 + "coins/nope").status == 404
    assert bench.ask("coingecko", V3 + "nothing").status == 404
    gainers = bench.ask("coingecko", f"/pro{V3}coins/top_gainers_losers", PAID)
    assert gainers.status == 200


# The edge.

PRICE = V3 + "simple/price?ids=bitcoin&vs_currencies=usd"


def test_the_edge_keeps_an_answer_for_a_minute(bench: Bench) -> None:
    """Asking more often brings the same body, older by the header."""
    first = bench.ask("coingecko", PRICE)
    assert first.headers["cf-cache-status"] == "MISS"
    bench.now_ms += 59_000
    bench.move("BTC")
    kept = bench.ask("coingecko", PRICE)
    assert kept.body == first.body
    assert (kept.headers["age"], kept.headers["cf-cache-status"]) == ("59", "HIT")
    bench.now_ms += 1_000
    fresh = bench.ask("coingecko", PRICE)
    assert fresh.body != first.body
    assert (fresh.headers["age"], fresh.headers["cf-cache-status"]) == ("0", "EXPIRED")
    assert fresh.headers["cache-control"].startswith("max-age=30")


def test_a_known_weak_etag_gets_304(bench: Bench) -> None:
    """While the body is unchanged; it counts as a request all the same."""
    etag = bench.ask("coingecko", PRICE).headers["etag"]
    assert etag.startswith('W/"')
    again = bench.ask("coingecko", PRICE, AGENT | {"if-none-match": etag})
    assert (again.status, again.body) == (304, b"")
    assert limits(bench)["requests_1m_keyless"] == 2
    bench.now_ms += 60_000
    bench.move("BTC")
    changed = bench.ask("coingecko", PRICE, AGENT | {"if-none-match": etag})
    assert changed.status == 200


def test_the_order_of_ids_is_another_answer_to_the_edge(bench: Bench) -> None:
    """And a key in the query is not."""
    query = "&vs_currencies=usd"
    bench.ask("coingecko", f"{V3}simple/price?ids=bitcoin,ethereum{query}")
    other = bench.ask("coingecko", f"{V3}simple/price?ids=ethereum,bitcoin{query}")
    assert other.headers["cf-cache-status"] == "MISS"
    same = bench.ask(
        "coingecko",
        f"{V3}simple/price?ids=ethereum,bitcoin{query}&x_cg_demo_api_key=CG-demo",
    )
    assert same.headers["cf-cache-status"] == "HIT"


def test_two_edges_are_out_of_step() -> None:
    """An answer can be older than the one before it."""
    bench = Bench(Settings(coingecko=CoingeckoSettings(edges=2)))
    old, copy = bench.ask("coingecko", PRICE), bench.ask("coingecko", PRICE)
    assert copy.body == old.body
    bench.now_ms += 60_000
    bench.move("BTC")
    new, late = bench.ask("coingecko", PRICE), bench.ask("coingecko", PRICE)
    assert new.body != old.body
    assert late.body == old.body
    assert late.headers["age"] == "60"


def test_a_price_set_by_hand_is_shown_at_once(bench: Bench) -> None:
    """Digit for digit; the edge forgets what it kept."""
    bench.ask("coingecko", PRICE)
    house = bench.exchanges["coingecko"]
    symbol = house.listing.symbols["bitcoin"]
    symbol.pin("61234.50")
    house.show(symbol, bench.now_ms, traded=True)
    assert bench.ask("coingecko", PRICE).body == b'{"bitcoin":{"usd":61234.50}}'


def test_an_id_disappears_and_another_is_new(bench: Bench) -> None:
    """Projects rename; the old id is in no list any more."""
    add = bench.world.faults.add
    add(Fault(exchange="coingecko", fault="break", symbol="fantom"), bench.now_ms)
    value = {"base": "S", "price": "0.65"}
    add(
        Fault(exchange="coingecko", fault="listing", symbol="sonic-3", value=value),
        bench.now_ms,
    )
    bench.wait(0)
    ids = {coin["id"] for coin in body(bench, "coins/list")}
    assert "fantom" not in ids
    assert "sonic-3" in ids
    assert bench.ask("coingecko", V3 + "coins/fantom").status == 404


def test_there_is_no_socket_for_these_plans(bench: Bench) -> None:
    """REST only."""
    answer = bench.exchanges["coingecko"].greet(bench.request("coingecko", "/v1"))
    assert isinstance(answer, Answer)
    assert answer.status == 404


def test_errors_have_three_shapes(bench: Bench) -> None:
    """An object, a number and a page: decide by the HTTP status first."""
    request = bench.request("coingecko", V3 + "ping")
    refusal = bench.exchanges["coingecko"].refusal
    limited = refusal(429, request, 119)
    assert limited.headers["retry-after"] == "119"
    broken = msgspec.json.decode(refusal(500, request, 0).body)
    assert broken == {"status": 500, "error": "Internal Server Error"}
    assert refusal(403, request, 0).content_type.startswith("text/html")
