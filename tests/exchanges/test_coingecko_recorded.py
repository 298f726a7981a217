"""CoinGecko's recordings of 2021 and 2024, every answer of them."""

from collections import Counter
from pathlib import Path

import pytest

from relay.errors import Refused
from relay.exchanges.adapter import Answer
from relay.exchanges.coingecko import CoinGecko
from relay.model import Symbols
from tests.exchanges.answers import SENT_MS, settings_of
from tests.exchanges.recordings import read_answers

COINGECKO = CoinGecko(settings_of("coingecko"))


@pytest.fixture
def answers(recorded: Path) -> list[Answer]:
    """Return the recorded answers of 2021 that were understood at the time."""
    path = recorded / "coingecko/cassettes_2021-05-15.jsonl.gz"
    return [
        one.answer
        for one in read_answers(COINGECKO, path)
        if one.request is not None and one.status == 200
    ]


def test_every_answer_of_2021_is_prices_a_refusal_or_of_another_kind(
    recorded: Path,
) -> None:
    """Charts, exchanges and categories hold no price of a coin now."""
    counts: Counter[str] = Counter()
    path = recorded / "coingecko/cassettes_2021-05-15.jsonl.gz"
    for one in read_answers(COINGECKO, path):
        if one.request is None:
            counts["other"] += 1
            continue
        failure = COINGECKO.read_failure(one.answer)
        counts["prices" if failure is None else "refused"] += 1
        if failure is not None:
            assert isinstance(failure, Refused)
            assert "Missing parameter" in failure.advice
    assert counts == {"other": 20, "prices": 7, "refused": 5}


def test_every_price_of_2021_finds_its_instrument(answers: list[Answer]) -> None:
    """The coins that prices name are the table; none is dropped."""
    symbols = COINGECKO.read_symbols(answers)
    counts: Counter[str] = Counter()
    last: dict[str, str] = {}
    for answer in answers:
        for update in COINGECKO.read_snapshot(answer):
            counts[update.channel] += 1
            (listing,) = symbols.listings_of(update.symbol)
            last[listing.instrument] = update.price
    assert counts == {
        "rest:coins/bitcoin": 60,
        "rest:simple/price": 4,
        "rest:coins/markets": 2,
    }
    assert {name: last[name] for name in ("BTC-USD", "BTC-ETH", "BTC-EUR")} == {
        "BTC-USD": "49013",
        "BTC-ETH": "12.666344",
        "BTC-EUR": "40349",
    }


def test_a_blank_after_the_comma_had_lost_an_id(answers: list[Answer]) -> None:
    """Two were asked for and one was answered: ours are joined without blanks."""
    (answer,) = (
        answer
        for answer in answers
        if answer.request.path.endswith("/simple/price")
        and dict(answer.request.query)["ids"] == "bitcoin, ethereum"
    )
    (update,) = COINGECKO.read_snapshot(answer)
    assert (update.symbol, update.price) == ("bitcoin", "49357")


def test_an_answer_from_a_cache_is_as_old_as_its_age(answers: list[Answer]) -> None:
    """These four carried an `Age` of 37, 42, 37 and 3 seconds."""
    ages = {
        SENT_MS - update.received_ms
        for answer in answers
        for update in COINGECKO.read_snapshot(answer)
    }
    assert ages == {0, 3_000, 37_000, 42_000}


def test_the_list_of_2021_names_what_is_certain(recorded: Path) -> None:
    """7,248 coins share 6,379 symbols; what several share is left to a rank."""
    path = recorded / "coingecko/cassettes_coins_list_2021-05-15.jsonl.gz"
    first, second = (one.answer for one in read_answers(COINGECKO, path))
    symbols = COINGECKO.read_symbols([first])
    assert len(symbols) == 5_631
    assert symbols.by_instrument["BTC-USD"].symbol == "bitcoin"
    newer: Symbols = COINGECKO.read_symbols([second])
    assert set(newer.by_instrument) - set(symbols.by_instrument)


def test_fixtures_of_2024_are_read_or_of_another_kind(recorded: Path) -> None:
    """Prices of the past, of charts and of single exchanges are another kind."""
    read: dict[str, list[tuple[str, str]]] = {}
    others = set()
    for path in sorted((recorded / "coingecko/jkorf").iterdir()):
        (one,) = read_answers(COINGECKO, path)
        if one.request is None:
            others.add(path.name.partition(".")[0])
            continue
        updates = COINGECKO.read_snapshot(one.answer)
        read[path.stem] = [(update.symbol, update.price) for update in updates]
    assert read == {
        "GetAssets": [],
        "GetMarkets": [("bitcoin", "70187")],
        "GetPrices": [("ethereum", "1498.64")],
    }
    assert others == {
        "GetAssetHistory",
        "GetExchangeTickers",
        "GetGlobalData",
        "GetMarketChart",
        "GetTickers",
        "GetTrendingSearches",
        "Ping",
    }
