"""The table of exchanges by name; one adapter each, pure.

Nothing here sends or waits: ``ingest`` does.
"""

from collections.abc import Callable
from typing import Final

from relay.config import Exchange
from relay.errors import ConfigError
from relay.exchanges.adapter import Adapter
from relay.exchanges.binance import Binance
from relay.exchanges.coinbase import Coinbase
from relay.exchanges.coinbase_exchange import CoinbaseExchange
from relay.exchanges.coincap import CoinCap
from relay.exchanges.coingecko import CoinGecko
from relay.exchanges.kraken import Kraken

ADAPTERS: Final[dict[str, Callable[[Exchange], Adapter]]] = {
    "binance": Binance,
    "coinbase": Coinbase,
    "coinbase-exchange": CoinbaseExchange,
    "kraken": Kraken,
    "coincap": CoinCap,
    "coingecko": CoinGecko,
}


def open_adapter(name: str, exchange: Exchange) -> Adapter:
    """Return the adapter of an exchange that the configuration names.

    Raises:
        ConfigError: the relay has no adapter of that name.
    """
    if name not in ADAPTERS:
        expected = f"one of {', '.join(ADAPTERS)}"
        raise ConfigError("the settings", "exchanges", name, expected)
    return ADAPTERS[name](exchange)
