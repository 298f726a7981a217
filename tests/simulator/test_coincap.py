"""CoinCap: a key for everything, credits by the byte, and version 2's end."""

from typing import Any

import msgspec
import pytest

from relay.simulator.coincap import Coincap
from relay.simulator.faults import Fault
from relay.simulator.settings import CoincapSettings, Settings
from relay.simulator.wire import Answer, Conversation
from tests.simulator.driver import Bench, frames, said

KEY = {"authorization": "Bearer key"}


def content(bench: Bench, path: str) -> Any:  # noqa: ANN401  # JSON
    """Ask with a key and give what is in the envelope."""
    body = bench.body("coincap", path, KEY)
    assert body["timestamp"] == bench.now_ms
    return body["data"]


def spent(bench: Bench) -> int:
    """Give the credits the key has spent."""
    limits = bench.world.ledger.picture(bench.now_ms).exchanges["coincap"].limits
    return limits["credits_month"]["key"].used


def prices(bench: Bench, query: str) -> Conversation:
    """Open a stream of prices."""
    return bench.open("coincap", f"/prices?{query}&apiKey=key")


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({}, "", 401),
        ({"authorization": "Bearer wrong"}, "", 403),
        ({}, "?apiKey=wrong", 403),
        (KEY, "", 200),
        ({}, "?apiKey=key", 200),
    ],
)
def test_a_key_is_needed(
    bench: Bench, headers: dict[str, str], query: str, status: int
) -> None:
    """In the header, or in the query."""
    assert bench.ask("coincap", "/v3/assets" + query, headers).status == status


def test_only_listed_keys_are_accepted_when_there_is_a_list() -> None:
    """A test may want to know that the right key was sent."""
    bench = Bench(Settings(coincap=CoincapSettings(keys=("right",))))
    assert bench.ask("coincap", "/v3/rates", KEY).status == 403
    assert bench.ask("coincap", "/v3/rates?apiKey=right", {}).status == 200


def test_assets_are_ranked_and_their_numbers_are_noisy_text(bench: Bench) -> None:
    """Up to 18 decimals, the last of them without meaning."""
    assets = content(bench, "/v3/assets?limit=2000")
    bitcoin = assets[0]
    assert (bitcoin["id"], bitcoin["rank"], bitcoin["symbol"]) == (
        "bitcoin",
        "1",
        "BTC",
    )
    assert len(bitcoin["priceUsd"].partition(".")[2]) == 18
    assert len(content(bench, "/v3/assets")) == min(100, len(assets))
    assert [asset["id"] for asset in content(bench, "/v3/assets?limit=1&offset=1")] == [
        "ethereum"
    ]


def test_some_fields_are_null(bench: Bench) -> None:
    """Nearly every number may be missing."""
    assets = content(bench, "/v3/assets?limit=2000")
    assert any(asset["vwap24Hr"] is None for asset in assets)
    assert any(asset["maxSupply"] is None for asset in assets)
    ghost = content(bench, "/v3/assets/ghost-coin")
    assert ghost["priceUsd"] is ghost["changePercent24Hr"] is None
    assert ghost["tokens"] == {}


def test_assets_are_chosen_by_ids_and_search(bench: Bench) -> None:
    """Slugs are case-sensitive."""
    chosen = content(bench, "/v3/assets?ids=bitcoin,xrp,Ethereum")
    assert {asset["id"] for asset in chosen} == {"bitcoin", "xrp"}
    found = content(bench, "/v3/assets?search=btc")
    assert [asset["id"] for asset in found] == ["bitcoin", "bitcoin-clone"]
    assert content(bench, "/v3/assets/binance-coin")["symbol"] == "BNB"
    assert bench.ask("coincap", "/v3/assets/nope", KEY).status == 404
    assert bench.ask("coincap", "/v3/nope", KEY).status == 404


def test_prices_by_symbol_keep_the_order_and_have_holes(bench: Bench) -> None:
    """The position gives the symbol; the best rank answers for a shared one."""
    price, hole, other = content(bench, "/v3/price/bysymbol/btc,NOPE,ETH")
    assert price == content(bench, "/v3/assets/bitcoin")["priceUsd"]
    assert hole is None
    assert other == content(bench, "/v3/assets/ethereum")["priceUsd"]


def test_rates_turn_currencies_into_dollars(bench: Bench) -> None:
    """Everything else is priced in USD."""
    rates = {rate["id"]: rate for rate in content(bench, "/v3/rates")}
    assert rates["united-states-dollar"]["rateUsd"].startswith("1.000")
    assert rates["bitcoin"]["type"] == "crypto"
    assert content(bench, "/v3/rates/euro")["symbol"] == "EUR"
    assert bench.ask("coincap", "/v3/rates/nope", KEY).status == 404


def test_a_request_costs_a_credit_and_its_bytes(bench: Bench) -> None:
    """One more for each 2,500 bytes of answer, however it was compressed."""
    answer = bench.ask("coincap", "/v3/assets?limit=50", KEY)
    assert len(answer.body) > 5_000
    assert spent(bench) == 1 + len(answer.body) // 2_500
    before = spent(bench)
    bench.ask("coincap", "/v3/price/bysymbol/BTC", KEY)
    assert spent(bench) == before + 1
    total = bench.world.ledger.picture(bench.now_ms).exchanges["coincap"].total
    assert total.credits_spent == spent(bench)


def test_spent_credits_get_403_until_the_month_turns() -> None:
    """The one that passes the limit is still served."""
    bench = Bench(Settings(coincap=CoincapSettings(credits_month=2)))
    statuses = [bench.ask("coincap", "/v3/rates", KEY).status for _ in range(3)]
    assert statuses == [200, 200, 403]
    bench.now_ms += 31 * 86_400_000
    assert bench.ask("coincap", "/v3/rates", KEY).status == 200


def test_too_many_requests_a_minute_get_429() -> None:
    """The minute rolls."""
    bench = Bench(Settings(coincap=CoincapSettings(requests=2)))
    statuses = [bench.ask("coincap", "/v3/rates", KEY).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    refused = bench.ask("coincap", "/v3/rates", KEY)
    assert refused.headers["retry-after"] == "60"


@pytest.mark.parametrize(("gone", "status"), [(False, 429), (True, 530)])
def test_version_2_is_retired(*, gone: bool, status: int) -> None:
    """Its 429 means never, not later; after that there was no host."""
    bench = Bench(Settings(coincap=CoincapSettings(version_2_gone=gone)))
    answer = bench.ask("coincap", "/v2/assets", {})
    assert answer.status == status
    if not gone:
        assert "deprecating" in msgspec.json.decode(answer.body)["data"]["message"]
        assert "retry-after" not in answer.headers


def test_the_stream_sends_only_what_changed_of_what_was_asked(bench: Bench) -> None:
    """One flat object, several times a second; no first picture."""
    some, everything = prices(bench, "assets=bitcoin,nope"), prices(bench, "assets=ALL")
    bench.wait(250)
    assert said(some) == said(everything) == []
    bench.move("BTC")
    bench.move("ETH")
    bench.wait(249)
    assert said(some) == []
    bench.wait(1)
    (chosen,) = said(some)
    (changed,) = said(everything)
    assert set(chosen) == {"bitcoin"}
    assert set(changed) == {"bitcoin", "ethereum"}
    assert chosen["bitcoin"] == changed["bitcoin"]
    bench.tell(some, {"hello": 1})
    assert said(some) == []
    total = bench.world.ledger.picture(bench.now_ms).exchanges["coincap"].total
    assert total.subscriptions.unknown == 1


def test_a_stream_costs_a_credit_a_minute(bench: Bench) -> None:
    """Around the clock it is out of a free key's reach."""
    prices(bench, "assets=bitcoin")
    bench.wait(59_999)
    bench.wait(120_001)
    assert spent(bench) == 3


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/prices?assets=ALL", 401),
        ("/prices?assets=ALL&apiKey=wrong", 403),
        ("/assets?assets=ALL&apiKey=key", 404),
        ("/trades/binance?apiKey=key", 404),
    ],
)
def test_a_bad_upgrade_is_refused(bench: Bench, path: str, status: int) -> None:
    """``/assets`` is wrong, and ``/trades`` has no successor."""
    answer = bench.exchanges["coincap"].greet(bench.request("coincap", path))
    assert isinstance(answer, Answer)
    assert answer.status == status


def test_a_bad_key_may_be_told_in_a_text_frame() -> None:
    """It is no JSON, and then the connection ends."""
    bench = Bench(Settings(coincap=CoincapSettings(refuse_with_text=True)))
    talk = bench.open("coincap", "/prices?assets=ALL&apiKey=wrong")
    (frame,) = frames(talk)
    assert frame.payload.startswith(b"Unauthorized")
    assert talk.ending is not None


def test_open_streams_are_turned_away_on_request(bench: Bench) -> None:
    """A key can be withdrawn while it is in use."""
    talk = prices(bench, "assets=ALL")
    house = bench.exchanges["coincap"]
    assert isinstance(house, Coincap)
    house.turn_away()
    assert frames(talk)[0].payload.startswith(b"Unauthorized")
    fault = Fault(exchange="coincap", fault="unauthorized", for_ms=1_000)
    bench.world.faults.add(fault, bench.now_ms)
    again = prices(bench, "assets=ALL")
    assert again.ending is not None


def test_a_slug_disappears_and_another_is_new(bench: Bench) -> None:
    """Renames change the slug without notice."""
    add = bench.world.faults.add
    add(Fault(exchange="coincap", fault="break", symbol="fantom"), bench.now_ms)
    value = {"base": "S", "price": "0.65"}
    add(
        Fault(exchange="coincap", fault="listing", symbol="sonic", value=value),
        bench.now_ms,
    )
    bench.wait(0)
    slugs = {asset["id"] for asset in content(bench, "/v3/assets?limit=2000")}
    assert "fantom" not in slugs
    assert "sonic" in slugs


def test_a_price_set_by_hand_is_shown_digit_for_digit(bench: Bench) -> None:
    """Without the noise."""
    bench.exchanges["coincap"].listing.symbols["bitcoin"].pin("61000.5")
    assert content(bench, "/v3/assets/bitcoin")["priceUsd"] == "61000.5"


def test_other_refusals_come_from_the_edge(bench: Bench) -> None:
    """In HTML."""
    request = bench.request("coincap", "/v3/assets", KEY)
    answer = bench.exchanges["coincap"].refusal(503, request, 0)
    assert answer.content_type.startswith("text/html")
