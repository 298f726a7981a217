"""Binance's REST weights and the entries of its answers. No requests are served.

Source: binance-spot-api-docs of 2026-07-21, rest-api.md.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from relay.simulator.listing import DEAD, TRADING, Quote, Symbol
from relay.simulator.wire import Request, number_of

ZERO: Final = "0.00000000"
"""What a dead symbol shows for every price and volume."""


def symbol_status(symbol: Symbol) -> str:
    """Give the status that exchangeInfo shows."""
    return "TRADING" if symbol.state == TRADING else "BREAK"


def rate_limit(kind: str, interval: str, number: int, limit: int) -> dict[str, Any]:
    """Write one limit of exchangeInfo."""
    return {
        "rateLimitType": kind,
        "interval": interval,
        "intervalNum": number,
        "limit": limit,
    }


def _tick(decimals: int) -> str:
    return f"{Decimal(1).scaleb(-decimals):.8f}"


def symbol_entry(symbol: Symbol, *, with_sets: bool) -> dict[str, Any]:
    """Write one symbol of exchangeInfo."""
    return {
        "symbol": symbol.name,
        "status": symbol_status(symbol),
        "baseAsset": symbol.base,
        "baseAssetPrecision": 8,
        "quoteAsset": symbol.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "isSpotTradingAllowed": symbol.state == TRADING,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": _tick(symbol.decimals),
                "maxPrice": "1000000.00000000",
                "tickSize": _tick(symbol.decimals),
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": _tick(symbol.lot_decimals),
                "maxQty": "9000.00000000",
                "stepSize": _tick(symbol.lot_decimals),
            },
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]] if with_sets else [],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_MAKER"],
    }


def price_entry(symbol: Symbol) -> dict[str, Any]:
    """Write one entry of ticker/price."""
    quote = symbol.look()
    dead = symbol.state == DEAD
    return {
        "symbol": symbol.name,
        "price": ZERO if dead else quote.price(quote.last),
    }


def book_entry(symbol: Symbol) -> dict[str, Any]:
    """Write one entry of ticker/bookTicker."""
    quote = symbol.look()
    values = {
        "bidPrice": quote.price(quote.bid),
        "bidQty": quote.size(quote.bid_size),
        "askPrice": quote.price(quote.ask),
        "askQty": quote.size(quote.ask_size),
    }
    return {"symbol": symbol.name} | _unless_dead(symbol, values)


def _unless_dead(symbol: Symbol, values: dict[str, str]) -> dict[str, str]:
    return dict.fromkeys(values, ZERO) if symbol.state == DEAD else values


def day_entry(quote: Quote, mini: bool) -> dict[str, Any]:  # noqa: FBT001  # a table's column
    """Write one entry of ticker/24hr, without its times."""
    full = {} if mini else _full_part(quote)
    if not mini:
        full |= {
            "prevClosePrice": quote.price(quote.open),
            "lastQty": quote.size(quote.last_size),
            "bidPrice": quote.price(quote.bid),
            "bidQty": quote.size(quote.bid_size),
            "askPrice": quote.price(quote.ask),
            "askQty": quote.size(quote.ask_size),
        }
    return _entry(quote, full)


def window_entry(quote: Quote, mini: bool) -> dict[str, Any]:  # noqa: FBT001  # a table's column
    """Write one entry of the rolling-window tickers, without its times."""
    return _entry(quote, {} if mini else _full_part(quote))


def _full_part(quote: Quote) -> dict[str, str]:
    return {
        "priceChange": quote.change(),
        "priceChangePercent": quote.change_pct(3),
        "weightedAvgPrice": quote.average(),
    }


def _entry(quote: Quote, full: dict[str, str]) -> dict[str, Any]:
    symbol = quote.symbol
    dead = symbol.state == DEAD
    values = full | {
        "lastPrice": quote.price(quote.last),
        "openPrice": quote.price(quote.open),
        "highPrice": quote.price(quote.high),
        "lowPrice": quote.price(quote.low),
        "volume": quote.size(quote.volume),
        "quoteVolume": quote.volume_quote(),
    }
    ids = {
        "firstId": -1 if dead else quote.trades - 100_000,
        "lastId": -1 if dead else quote.trades,
        "count": 0 if dead else 100_001,
    }
    return {"symbol": symbol.name} | _unless_dead(symbol, values) | ids


def fixed(weight: int) -> Callable[[Request], int]:
    """Charge the same weight for every request."""
    return lambda _: weight


def _symbols_asked(request: Request) -> int:
    """Give how many symbols are named; 0: all of them."""
    if request.value("symbol") is not None:
        return 1
    many = request.value("symbols")
    return 0 if many is None else many.count(",") + 1


def ticker_weight(request: Request) -> int:
    """Charge for ticker/price and ticker/bookTicker: one symbol 2, else 4."""
    return 2 if request.value("symbol") is not None else 4


def day_weight(request: Request) -> int:
    """Charge for ticker/24hr: by the number of symbols, all of them 80."""
    asked = _symbols_asked(request)
    steps = ((0, 80), (20, 2), (100, 40))
    return next((weight for most, weight in steps if asked <= most), 80)


def window_weight(request: Request) -> int:
    """Charge for the rolling window: 4 a symbol, at most 200."""
    return min(200, 4 * max(1, _symbols_asked(request)))


def depth_weight(request: Request) -> int:
    """Charge for depth: by its limit."""
    limit = number_of(request, "limit", 100)
    steps = ((100, 5), (500, 25), (1_000, 50))
    return next((weight for most, weight in steps if limit <= most), 250)
