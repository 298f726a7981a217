"""Symbols and their quotes: whole ticks, exact text."""

from decimal import Decimal

import pytest

from relay.simulator.listing import (
    decimal_text,
    is_number,
    number_text,
    price_decimals,
    short_text,
)
from tests.simulator.driver import Bench


@pytest.mark.parametrize(
    ("units", "decimals", "text", "short"),
    [
        (6100012, 2, "61000.12", "61000.12"),
        (610001000, 4, "61000.1000", "61000.1"),
        (7, 8, "0.00000007", "0.00000007"),
        (-125, 2, "-1.25", "-1.25"),
        (-5, 3, "-0.005", "-0.005"),
        (12, 0, "12", "12"),
        (1200, 2, "12.00", "12"),
    ],
)
def test_units_become_decimal_text(
    units: int, decimals: int, text: str, short: str
) -> None:
    """Prices are made of whole numbers, so no float can round them."""
    assert decimal_text(units, decimals) == text
    assert short_text(units, decimals) == short


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("61000.10", "61000.10"),
        ("0.0001", "0.0001"),
        ("0.00001789", "1.789e-05"),
        ("-0.00001", "-1e-05"),
        ("0.00000000", "0.00000000"),
    ],
)
def test_tiny_numbers_are_written_in_scientific_notation(
    text: str, number: str
) -> None:
    """Kraken and CoinGecko do so, and parsers have to take it."""
    assert number_text(text) == number
    assert is_number(number)


def test_what_is_no_number_is_told_apart() -> None:
    """It would break the JSON of an exchange that writes numbers bare."""
    assert not is_number("NaN")
    assert not is_number("1,5")


@pytest.mark.parametrize(
    ("price", "decimals"),
    [("61000", 2), ("23.4", 3), ("1.2", 4), ("0.5", 5), ("0.012", 6), ("0.000001", 10)],
)
def test_small_prices_are_quoted_with_more_decimals(price: str, decimals: int) -> None:
    """A memecoin with two decimals would never move."""
    assert price_decimals(price) == decimals


@pytest.mark.parametrize(
    "exchange", ["binance", "coinbase", "coinbase_exchange", "kraken", "coingecko"]
)
def test_every_quote_is_plausible(bench: Bench, exchange: str) -> None:
    """An honest exchange shows no crossed book and no price outside its day."""
    for symbol in bench.exchanges[exchange].listing.trading():
        quote = symbol.look()
        assert 0 < quote.bid < quote.ask
        assert quote.low <= quote.last <= quote.high
        assert quote.low <= quote.open <= quote.high
        assert min(quote.bid_size, quote.ask_size, quote.last_size, quote.volume) > 0
        rate = bench.world.market.rate(symbol.quote)
        true = Decimal(symbol.asset.mid) / Decimal(rate)
        assert abs(Decimal(quote.price(quote.last)) / true - 1) < Decimal("0.02")


def test_exchanges_differ_a_little(bench: Bench) -> None:
    """One asset, one market; but no two exchanges show the same digits."""
    shown = {
        name: Decimal(bench.exchanges[name].listing.symbols[symbol].look().last)
        for name, symbol in (("binance", "BTCUSDC"), ("coinbase", "BTC-USD"))
    }
    assert len(set(shown.values())) == 2
    assert max(shown.values()) / min(shown.values()) < Decimal("1.001")


def test_a_move_changes_price_sequence_and_trade(bench: Bench) -> None:
    """Readers order by these numbers, so they only grow."""
    symbol = bench.exchanges["binance"].listing.symbols["BTCUSDT"]
    before = symbol.look()
    bench.move("BTC")
    after = symbol.look()
    assert after is symbol.look()
    assert after.last != before.last
    assert after.sequence > before.sequence
    assert after.trades > before.trades


def test_a_pinned_price_is_shown_digit_for_digit(bench: Bench) -> None:
    """Tests look for exactly this text at the other end."""
    symbol = bench.exchanges["binance"].listing.symbols["BTCUSDT"]
    symbol.pin("61234.5")
    bench.move("BTC")
    quote = symbol.look()
    assert quote.price(quote.last) == "61234.5"
    assert quote.price(quote.bid) == "61234.5"
    assert Decimal(quote.price(quote.ask)) > Decimal("61234.5")
    symbol.pin(None)
    freed = symbol.look()
    assert freed.price(freed.last) != "61234.5"


def test_a_loosely_pinned_price_lasts_until_the_next_move(bench: Bench) -> None:
    """A single odd price in an honest market is what a spike looks like."""
    symbol = bench.exchanges["binance"].listing.symbols["BTCUSDT"]
    symbol.pin("99999", hold=False)
    assert symbol.look().price(symbol.look().last) == "99999"
    bench.move("BTC")
    assert symbol.look().price(symbol.look().last) != "99999"


def test_a_pinned_price_may_be_nonsense(bench: Bench) -> None:
    """What cannot be true has to be dropped by whoever reads it."""
    symbol = bench.exchanges["binance"].listing.symbols["BTCUSDT"]
    symbol.pin("NaN")
    quote = symbol.look()
    assert quote.price(quote.last) == "NaN"


def test_a_removed_symbol_is_gone(bench: Bench) -> None:
    """Delisting takes a symbol out of the asset's moves as well."""
    listing = bench.exchanges["kraken"].listing
    asset = listing.symbols["BTC/USD"].asset
    listing.remove("BTC/USD")
    listing.remove("BTC/USD")
    assert "BTC/USD" not in [symbol.name for symbol in listing.of_asset(asset)]
