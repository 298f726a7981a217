"""Paths: each finds its exchange, with its prefix and without."""

import pytest

from relay.simulator.routes import resolve


@pytest.mark.parametrize(
    ("path", "upgrade", "exchange", "rest"),
    [
        ("/binance/api/v3/time", False, "binance", "/api/v3/time"),
        ("/binance/stream", True, "binance", "/stream"),
        ("/binance/ws/btcusdt@trade", True, "binance", "/ws/btcusdt@trade"),
        ("/coinbase", True, "coinbase", "/"),
        ("/coinbase/", True, "coinbase", "/"),
        ("/coinbase-exchange", True, "coinbase_exchange", "/"),
        ("/coinbase-exchange/products", False, "coinbase_exchange", "/products"),
        ("/kraken/v2", True, "kraken", "/v2"),
        ("/coincap/v2/assets", False, "coincap", "/v2/assets"),
        ("/coingecko/api/v3/ping", False, "coingecko", "/api/v3/ping"),
        ("/coingecko-pro/api/v3/key", False, "coingecko", "/pro/api/v3/key"),
        ("/api/v3/ticker/price", False, "binance", "/api/v3/ticker/price"),
        ("/stream", True, "binance", "/stream"),
        ("/ws", True, "binance", "/ws"),
        ("/0/public/Ticker", False, "kraken", "/0/public/Ticker"),
        ("/v2", True, "kraken", "/v2"),
        ("/v2/assets", False, "coincap", "/v2/assets"),
        ("/v2/prices/BTC-USD/spot", False, "coinbase", "/v2/prices/BTC-USD/spot"),
        ("/api/v3/brokerage/time", False, "coinbase", "/api/v3/brokerage/time"),
        ("/products/BTC-USD", False, "coinbase_exchange", "/products/BTC-USD"),
        ("/v3/assets", False, "coincap", "/v3/assets"),
        ("/prices", True, "coincap", "/prices"),
        ("/api/v3/simple/price", False, "coingecko", "/api/v3/simple/price"),
        ("/api/v3/coins/list", False, "coingecko", "/api/v3/coins/list"),
        ("/", True, "coinbase", "/"),
    ],
)
def test_a_path_finds_its_exchange(
    path: str,
    upgrade: bool,  # noqa: FBT001  # a column of the table
    exchange: str,
    rest: str,
) -> None:
    """Clients replace an exchange's host, or host and path prefix, by ours."""
    assert resolve(path, upgrade=upgrade) == (exchange, rest)


def test_a_path_of_nobody_is_nobodys() -> None:
    """A wrong path must fail loudly instead of meeting some exchange."""
    assert resolve("/binanceapi", upgrade=False) is None
