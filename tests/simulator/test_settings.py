"""The settings: the exchanges' own numbers unless a test says otherwise."""

import msgspec
import pytest

from relay.simulator.settings import Settings


def test_the_defaults_are_the_documents() -> None:
    """A referee that forgot to be strict proves nothing."""
    settings = Settings()
    binance, kraken = settings.binance, settings.kraken
    assert (binance.ping_ms, binance.pong_ms) == (20_000, 60_000)
    assert (binance.messages, binance.streams, binance.attempts) == (5, 1_024, 300)
    assert binance.weight == 6_000
    assert (kraken.attempts, kraken.attempts_ms) == (150, 600_000)
    assert (settings.coinbase.subscribe_ms, settings.coinbase.requests) == (5_000, 10)
    assert settings.coincap.credits_month == 2_500
    assert settings.coingecko.refresh_ms == 60_000


def test_a_misspelt_setting_is_an_error() -> None:
    """It would leave the default in force without a word."""
    with pytest.raises(msgspec.ValidationError, match="heartbeet_ms"):
        msgspec.convert({"kraken": {"heartbeet_ms": 1}}, Settings)
