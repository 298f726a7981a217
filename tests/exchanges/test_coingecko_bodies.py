"""CoinGecko's answers: four shapes of prices, and symbols that several coins share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import FrameError
from relay.exchanges.adapter import Answer, Request
from relay.exchanges.coingecko_bodies import (
    kind_of,
    list_coins,
    read_coins,
    read_prices,
    symbol_of,
)
from relay.model import Listing, Symbols, Update
from tests.exchanges.answers import SENT_MS, answer_to, mangled

MARKETS = (
    b'[{"id":"bitcoin","symbol":"btc","name":"Bitcoin","image":"https://x/1.png",'
    b'"current_price":61000,"market_cap":1213900000000.5,"market_cap_rank":1,'
    b'"total_volume":20000000000.10,"high_24h":62000.0,"low_24h":null,'
    b'"price_change_24h":-772.1,"price_change_percentage_24h":-1.2512,"roi":null,'
    b'"last_updated":"2025-10-09T08:53:20.123Z"},'
    b'{"id":"small","symbol":"SML","current_price":1.234e-05,"market_cap_rank":250},'
    b'{"id":"dead","symbol":"dead","current_price":null,"market_cap_rank":null}]'
)
LIST = (
    b'[{"id":"alpha-btc","symbol":"btc","name":"Not bitcoin"},'
    b'{"id":"bitcoin","symbol":"btc","name":"Bitcoin","platforms":{}},'
    b'{"id":"lonely","symbol":"one","name":"One of its kind"},'
    b'{"id":"twin-a","symbol":"two","name":"A"},{"id":"twin-b","symbol":"TWO","name":"B"},'
    b'{"id":"rope","symbol":"$rope","name":"No instrument"}]'
)
SIMPLE = (
    b'{"bitcoin":{"usd":61000,"usd_market_cap":1213000000000.5,'
    b'"usd_24h_vol":20000000000.1,"usd_24h_change":-1.2512,"eur":56000.50,'
    b'"last_updated_at":1760000000},"unquoted":{},"nothing":null,'
    b'"dead":{"usd":null},"small":{"usd":1.234e-05}}'
)
COIN = (
    b'{"id":"ethereum","symbol":"eth","market_cap_rank":2,"market_data":{'
    b'"current_price":{"usd":2500.34,"eur":2300.0,"eth":1.0},'
    b'"high_24h":{"usd":2600,"eur":2390},"low_24h":{"usd":2400},'
    b'"total_volume":{"usd":12345678901},'
    b'"price_change_percentage_24h_in_currency":{"usd":0.50,"eur":-0.25},'
    b'"last_updated":"2025-10-09T08:53:20.123Z"},"tickers":[{"base":"ETH"}],'
    b'"last_updated":"2025-10-09T08:54:00.000Z"}'
)


def _answer(
    path: str, body: bytes, query: tuple[tuple[str, str], ...] = (), age_ms: int = 0
) -> Answer:
    path = f"/api/v3{path}"
    request = Request(exchange="coingecko", purpose="snapshot", path=path, query=query)
    return answer_to(request, body, age_ms=age_ms)


def _symbols(*answers: Answer) -> Symbols:
    return Symbols(list_coins([coin for one in answers for coin in read_coins(one)]))


def test_a_market_row_keeps_every_digit_and_its_own_time() -> None:
    """Two edges can be out of step: the coin's time orders answers, not ours."""
    updates = read_prices(_answer("/coins/markets", MARKETS, age_ms=30_000))
    assert updates == [
        Update(
            exchange="coingecko",
            channel="rest:coins/markets",
            symbol="bitcoin",
            received_ms=SENT_MS - 30_000,
            event_ms=1_760_000_000_123,
            snapshot=True,
            price="61000",
            change_24h_pct="-1.2512",
            high_24h="62000.0",
            volume_24h_quote="20000000000.10",
        ),
        Update(
            exchange="coingecko",
            channel="rest:coins/markets",
            symbol="small",
            received_ms=SENT_MS - 30_000,
            snapshot=True,
            price="0.00001234",
        ),
    ]


def test_the_quote_stands_in_the_question() -> None:
    """The rows of a market do not say what they are quoted in."""
    answer = _answer("/coins/markets", MARKETS, (("vs_currency", "EUR"),))
    assert [update.symbol for update in read_prices(answer)] == [
        "bitcoin/eur",
        "small/eur",
    ]
    (listing,) = _symbols(answer).listings_of("bitcoin/eur")
    assert listing.instrument == "BTC-EUR"


def test_a_coin_in_itself_is_no_price() -> None:
    """It is always one."""
    assert [
        update.symbol
        for update in read_prices(
            _answer("/coins/markets", MARKETS, (("vs_currency", "btc"),))
        )
    ] == ["small/btc"]


def test_a_simple_price_has_a_key_for_each_quote() -> None:
    """Its time is in seconds; coins without a price are left out."""
    bitcoin, euro, small = read_prices(_answer("/simple/price", SIMPLE))
    assert (bitcoin.symbol, bitcoin.price) == ("bitcoin", "61000")
    assert (bitcoin.change_24h_pct, bitcoin.volume_24h_quote) == (
        "-1.2512",
        "20000000000.1",
    )
    assert (bitcoin.event_ms, bitcoin.sequence) == (1_760_000_000_000, 0)
    assert (euro.symbol, euro.price) == ("bitcoin/eur", "56000.50")
    assert (euro.change_24h_pct, euro.event_ms) == ("", 1_760_000_000_000)
    assert (small.symbol, small.price) == ("small", "0.00001234")


def test_a_coin_is_quoted_in_many_currencies() -> None:
    """All but itself."""
    answer = _answer("/coins/ethereum", COIN)
    dollar, euro = read_prices(answer)
    assert (dollar.symbol, dollar.price, dollar.high_24h) == (
        "ethereum",
        "2500.34",
        "2600",
    )
    assert (euro.symbol, euro.price) == ("ethereum/eur", "2300.0")
    assert (euro.low_24h, euro.change_24h_pct) == ("", "-0.25")
    assert (euro.event_ms, euro.sequence) == (1_760_000_000_123, 0)
    assert set(_symbols(answer).by_instrument) == {"ETH-USD", "ETH-EUR"}


def test_a_coin_without_a_market_has_a_name_and_no_price() -> None:
    """Answers can be asked for without their market part."""
    answer = _answer("/coins/ethereum", b'{"id":"ethereum","symbol":"eth"}')
    assert read_prices(answer) == []
    assert set(_symbols(answer).by_instrument) == {"ETH-USD"}


def test_the_best_rank_has_the_symbol() -> None:
    """Dozens of coins share one; nothing else tells which is meant."""
    rows = b'[{"id":"%s","symbol":"btc","market_cap_rank":%s,"current_price":1}]'
    clone = _answer("/coins/markets", rows % (b"clone", b"300"))
    lost = _answer("/coins/markets", rows % (b"lost", b"null"))
    bitcoin = _answer("/coins/markets", MARKETS)
    (listing, *_) = _symbols(lost, clone, bitcoin)
    assert listing == Listing(symbol="bitcoin", base="BTC", quote="USD")


def test_a_list_without_ranks_names_only_what_is_certain() -> None:
    """Of two coins with one symbol neither is guessed; a symbol of one coin is it."""
    assert set(_symbols(_answer("/coins/list", LIST)).by_instrument) == {"ONE-USD"}


def test_among_unranked_coins_the_priced_one_is_meant() -> None:
    """A recording of `/simple/price` beside the list says who is talked about."""
    symbols = _symbols(_answer("/coins/list", LIST), _answer("/simple/price", SIMPLE))
    (listing,) = symbols.listings_of("bitcoin")
    assert listing.instrument == "BTC-USD"
    assert symbols.listings_of("alpha-btc") == ()
    assert set(symbols.by_instrument) == {"BTC-USD", "BTC-EUR", "ONE-USD"}


def test_a_list_has_no_prices() -> None:
    """It is a table alone."""
    assert read_prices(_answer("/coins/list", LIST)) == []


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/api/v3/simple/price", "simple"),
        ("/api/v3/coins/markets/", "markets"),
        ("/api/v3/coins/list", "list"),
        ("/api/v3/coins/bitcoin", "coin"),
        ("/api/v3/coins/categories", None),
        ("/api/v3/coins/bitcoin/history", None),
        ("/api/v3/coins/bitcoin/tickers", None),
        ("/api/v3/simple/token_price/ethereum", None),
        ("/api/v3/coins/", None),
        ("/api/v3/ping", None),
        ("/", None),
    ],
)
def test_an_answers_kind_is_told_by_its_path(path: str, kind: str | None) -> None:
    """Prices of the past and of single exchanges are not this source's price."""
    assert kind_of(path) == kind


def test_an_id_alone_is_in_dollars() -> None:
    """Every other quote is spelled out."""
    assert symbol_of("bitcoin", "usd") == "bitcoin"
    assert symbol_of("bitcoin", "eur") == "bitcoin/eur"


@pytest.mark.parametrize(
    "path", ["/coins/markets", "/coins/list", "/simple/price", "/coins/x", "/ping"]
)
@pytest.mark.parametrize("body", [b"", b"<html>", b"5", b"[5]", b'{"a":"b"}', b"\xff"])
def test_an_unreadable_body_names_what_was_asked(path: str, body: bytes) -> None:
    """The message alone must tell an operator which answer went wrong."""
    with pytest.raises(FrameError, match=rf"^coingecko /api/v3{path}: "):
        read_coins(_answer(path, body))


@given(st.binary() | mangled([MARKETS, LIST, SIMPLE, COIN]))
def test_any_body_is_read_or_named_unreadable(body: bytes) -> None:
    """Whatever an exchange answers, only our own errors leave the adapter."""
    for path in ("/coins/markets", "/coins/list", "/simple/price", "/coins/x"):
        for read in (read_prices, _symbols):
            try:
                read(_answer(path, body))
            except FrameError:
                continue
