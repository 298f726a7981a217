"""Which exchange a path belongs to. Pure tables.

Each exchange answers under its own prefix, and at its natural paths where those are
its alone: then a client needs another host and port only.
"""

from typing import Final

PREFIXES: Final = {
    "/binance": "binance",
    "/coinbase-exchange": "coinbase_exchange",
    "/coinbase": "coinbase",
    "/kraken": "kraken",
    "/coincap": "coincap",
    "/coingecko-pro": "coingecko",
    "/coingecko": "coingecko",
}

# Natural paths of REST; the first that fits counts.
_REST: Final = (
    ("/api/v3/brokerage/", "coinbase"),
    ("/api/v3/simple/", "coingecko"),
    ("/api/v3/coins/", "coingecko"),
    ("/api/v3/exchange_rates", "coingecko"),
    ("/api/v3/exchanges", "coingecko"),
    ("/api/v3/key", "coingecko"),
    ("/api/v3/", "binance"),
    ("/0/public/", "kraken"),
    ("/v3/", "coincap"),
    ("/v2/prices/", "coinbase"),
    ("/v2/exchange-rates", "coinbase"),
    ("/v2/", "coincap"),
    ("/products", "coinbase_exchange"),
    ("/time", "coinbase_exchange"),
)

# Natural paths of WebSockets. The two dialects of Coinbase share the root; their
# first messages differ.
_SOCKETS: Final = (
    ("/ws", "binance"),
    ("/stream", "binance"),
    ("/v2", "kraken"),
    ("/prices", "coincap"),
    ("/trades/", "coincap"),
    ("/", "coinbase"),
)


def resolve(path: str, *, upgrade: bool) -> tuple[str, str] | None:
    """Give the exchange of a path and the path as that exchange knows it."""
    for prefix, exchange in PREFIXES.items():
        if path == prefix or path.startswith(f"{prefix}/"):
            rest = path[len(prefix) :] or "/"
            return exchange, f"/pro{rest}" if prefix == "/coingecko-pro" else rest
    for natural, exchange in _SOCKETS if upgrade else _REST:
        if path.startswith(natural):
            return exchange, path
    return None
