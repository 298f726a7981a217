"""CoinGecko's answers about coins, as of now. No keys, no limits, no cache.

Source: the OpenAPI files of 2026-06-22 and answers recorded in 2021.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from msgspec import Raw

from relay.simulator.iso import iso_ms
from relay.simulator.listing import (
    Listing,
    Symbol,
    decimal_text,
    number_text,
    short_text,
)
from relay.simulator.market import PICO, Market
from relay.simulator.wire import Answer, Request, answer_json, find_route, number_of

_CURRENCIES: Final = ("usd", "eur", "gbp", "try", "btc", "eth")

# Coins beside the market's: one that shares Bitcoin's symbol, one without numbers.
_CLONE: Final = ("bitcoin-clone", "btc", "Bitcoin Clone")
_GHOST: Final = ("ghost-coin", "ghost", "Ghost Coin")


class Coins:
    """Everything that is known about the listed coins."""

    def __init__(self, listing: Listing, market: Market) -> None:
        self._listing = listing
        self._market = market

    def answer(self, path: str, request: Request) -> Answer:
        """Answer a path below the root, as of now."""
        found = find_route(self._ROUTES, path)
        if found is None:
            return answer_json({"error": "Incorrect path. Please check."}, 404)
        handler, stars = found
        return handler(self, request, *stars)

    def _ping(self, request: Request) -> Answer:
        del request
        return answer_json({"gecko_says": "(V3) To the Moon!"})

    def _currencies(self, request: Request) -> Answer:
        del request
        return answer_json(list(_CURRENCIES))

    def _gainers(self, request: Request) -> Answer:
        del request
        return answer_json({"top_gainers": [], "top_losers": []})

    def _ranked(self) -> list[Symbol]:
        return sorted(
            self._listing.trading(),
            key=lambda symbol: symbol.asset.mid * symbol.asset.row.supply,
            reverse=True,
        )

    def _chosen(self, request: Request, *, strip: bool) -> list[Symbol] | None:
        """Give the coins that a request names; None when it names none."""
        for name, read in _LOOKUPS.items():
            text = request.value(name)
            if text is None:
                continue
            wanted = [item.strip() if strip else item for item in text.split(",")]
            wanted = [item.lower() for item in wanted] if name != "ids" else wanted
            return [one for one in self._ranked() if read(one) in wanted]
        return None

    def _simple_price(self, request: Request) -> Answer:
        chosen = self._chosen(request, strip=False)
        if chosen is None:
            return _unprocessable("ids")
        currencies = request.value("vs_currencies")
        if currencies is None:
            return _unprocessable("vs_currencies")
        body = {
            _answer_key(symbol, request): self._simple(symbol, currencies, request)
            for symbol in chosen
        }
        if _GHOST[0] in (request.value("ids") or "").split(","):
            body[_GHOST[0]] = dict.fromkeys(
                currency for currency in currencies.split(",")
            )
        return answer_json(body)

    def _simple(
        self, symbol: Symbol, currencies: str, request: Request
    ) -> dict[str, Any]:
        entry: dict[str, Any] = {}
        for currency in currencies.split(","):
            if currency not in _CURRENCIES:
                continue
            entry[currency] = self._number(symbol, currency, request)
            for option, (suffix, write) in _OPTIONS.items():
                if request.value(option) == "true":
                    entry[currency + suffix] = write(self, symbol, currency)
        if entry and request.value("include_last_updated_at") == "true":
            entry["last_updated_at"] = symbol.asset.moved_ms // 1_000
        return entry

    def _in_currency(self, pico: int, currency: str) -> int:
        """Give an amount of 10⁻¹² USD in 10⁻¹² of another currency."""
        return pico * PICO // self._market.rate(currency.upper())

    def _number(self, symbol: Symbol, currency: str, request: Request | None) -> Raw:
        """Write a price: as it was set, in full, rounded as asked, or shortened."""
        precision = request.value("precision") if request else None
        quote = symbol.look()
        if currency == "usd" and symbol.pinned is not None:
            return Raw(symbol.pinned.encode())
        text = quote.price(quote.last)
        if currency != "usd":
            pico = self._in_currency(symbol.asset.mid, currency)
            text = short_text(pico, 12)
        if precision == "full":
            return Raw(number_text(_trimmed(text)).encode())
        decimals = _shortened(text)
        if precision is not None and precision.isdigit():
            decimals = int(precision)
        rounded = f"{Decimal(text):.{min(18, decimals)}f}"
        return Raw(number_text(_trimmed(rounded)).encode())

    def market_cap(self, symbol: Symbol, currency: str) -> Raw:
        """Write the market capitalisation."""
        pico = self._in_currency(symbol.asset.mid, currency) * symbol.asset.row.supply
        return Raw(_trimmed(decimal_text(pico // 10**10, 2)).encode())

    def volume(self, symbol: Symbol, currency: str) -> Raw:
        """Write the day's volume in the quote currency."""
        asset = symbol.asset
        pico = self._in_currency(asset.mid, currency) * asset.volume // 10**8 * 20
        return Raw(_trimmed(decimal_text(pico // 10**10, 2)).encode())

    def change(self, symbol: Symbol, currency: str) -> Raw:
        """Write the day's change in percent."""
        del currency
        return Raw(_trimmed(symbol.look().change_pct(5)).encode())

    def _list_coins(self, request: Request) -> Answer:
        if request.value("status") == "inactive":
            return answer_json([])
        platforms = request.value("include_platform") == "true"
        names = [
            (one.name, one.base.lower(), one.asset.row.name)
            for one in self._listing.trading()
        ]
        extra: dict[str, Any] = {"platforms": {}} if platforms else {}
        coins = [
            {"id": coin_id, "symbol": symbol, "name": name} | extra
            for coin_id, symbol, name in sorted([*names, _CLONE, _GHOST])
        ]
        return answer_json(coins)

    def _markets(self, request: Request) -> Answer:
        currency = request.value("vs_currency")
        if currency is None:
            return _unprocessable("vs_currency")
        if currency not in _CURRENCIES:
            return answer_json({"error": "invalid vs_currency"}, 422)
        ranked = self._ranked()
        ranks = {symbol.name: rank for rank, symbol in enumerate(ranked, start=1)}
        chosen = self._chosen(request, strip=True)
        entries = [
            self._market_entry(symbol, currency, ranks[symbol.name], request)
            for symbol in (ranked if chosen is None else chosen)
        ]
        if chosen is None:
            entries += [_empty_entry(*_CLONE), _empty_entry(*_GHOST)]
        return _paged(entries, request)

    def _market_entry(
        self, symbol: Symbol, currency: str, rank: int, request: Request
    ) -> dict[str, Any]:
        asset, quote = symbol.asset, symbol.look()
        price = self._number(symbol, currency, request)
        change = self.change(symbol, currency)

        def money(pico: int) -> Raw:
            text = short_text(self._in_currency(pico, currency), 12)
            return Raw(number_text(text).encode())

        entry = _empty_entry(symbol.name, symbol.base.lower(), asset.row.name)
        entry |= {
            "current_price": price,
            "market_cap": self.market_cap(symbol, currency),
            "market_cap_rank": rank,
            "total_volume": self.volume(symbol, currency),
            "high_24h": money(asset.high),
            "low_24h": money(asset.low),
            "price_change_24h": money(asset.mid - asset.open),
            "price_change_percentage_24h": change,
            "market_cap_change_percentage_24h": change,
            "circulating_supply": asset.row.supply,
            "total_supply": asset.row.supply,
            "max_supply": None if rank % 3 else asset.row.supply * 11 // 10,
            "ath": money(asset.high * 2),
            "ath_change_percentage": Raw(b"-51.2"),
            "ath_date": "2025-10-06T18:57:42.558Z",
            "atl": money(asset.low // 90),
            "atl_change_percentage": Raw(b"8899.1"),
            "atl_date": "2018-12-15T00:00:00.000Z",
            "last_updated": iso_ms(quote.moved_ms),
        }
        windows = request.value("price_change_percentage") or ""
        for window in filter(None, windows.split(",")):
            entry[f"price_change_percentage_{window}_in_currency"] = change
        return entry

    def _coin(self, request: Request, coin_id: str) -> Answer:
        symbol = self._listing.symbols.get(coin_id)
        if symbol is None or symbol not in self._listing.trading():
            return answer_json({"error": "coin not found"}, 404)
        now = {
            currency: self._number(symbol, currency, request)
            for currency in _CURRENCIES
        }
        stamp = iso_ms(symbol.asset.moved_ms)
        return answer_json(
            {
                "id": coin_id,
                "symbol": symbol.base.lower(),
                "name": symbol.asset.row.name,
                "asset_platform_id": None,
                "market_data": {
                    "current_price": now,
                    "market_cap": {"usd": self.market_cap(symbol, "usd")},
                    "total_volume": {"usd": self.volume(symbol, "usd")},
                    "price_change_percentage_24h": self.change(symbol, "usd"),
                    "last_updated": stamp,
                },
                "last_updated": stamp,
            }
        )

    def _exchange_rates(self, request: Request) -> Answer:
        del request
        bitcoin = self._market.rate("BTC")
        rates = {
            currency: {
                "name": currency.upper(),
                "unit": currency,
                "value": Raw(
                    number_text(
                        short_text(self._in_currency(bitcoin, currency), 12)
                    ).encode()
                ),
                "type": "crypto" if currency in {"btc", "eth"} else "fiat",
            }
            for currency in _CURRENCIES
        }
        return answer_json({"rates": rates})

    _ROUTES: Final[dict[str, Callable[..., Answer]]] = {
        "ping": _ping,
        "simple/price": _simple_price,
        "simple/supported_vs_currencies": _currencies,
        "coins/list": _list_coins,
        "coins/markets": _markets,
        "coins/top_gainers_losers": _gainers,
        "coins/*": _coin,
        "exchange_rates": _exchange_rates,
    }


_LOOKUPS: Final[dict[str, Callable[[Symbol], str]]] = {
    "ids": lambda symbol: symbol.name,
    "names": lambda symbol: symbol.asset.row.name.lower(),
    "symbols": lambda symbol: symbol.base.lower(),
}
"""How coins are looked up, the stronger way first."""

_OPTIONS: Final = {
    "include_market_cap": ("_market_cap", Coins.market_cap),
    "include_24hr_vol": ("_24h_vol", Coins.volume),
    "include_24hr_change": ("_24h_change", Coins.change),
}


def _answer_key(symbol: Symbol, request: Request) -> str:
    """Give the key of an answer: what was asked by, id, name or symbol."""
    if request.value("ids") is not None:
        return symbol.name
    if request.value("names") is not None:
        return symbol.asset.row.name
    return symbol.base.lower()


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _shortened(text: str) -> int:
    """Choose how many decimals are left when no precision was asked for."""
    value = abs(Decimal(text))
    steps = (("10000", 0), ("1", 2), ("0.01", 6), ("0.0001", 8))
    return next((decimals for least, decimals in steps if value >= Decimal(least)), 12)


def _unprocessable(name: str) -> Answer:
    answer = answer_json({"error": f"Missing parameter {name}"}, 422)
    answer.headers = {"cache-control": "no-cache"}
    return answer


def _empty_entry(coin_id: str, symbol: str, name: str) -> dict[str, Any]:
    """Give a coin of ``/coins/markets`` whose numbers are all null."""
    known = {
        "id": coin_id,
        "symbol": symbol,
        "name": name,
        "image": f"https://images.invalid/{coin_id}.png",
    }
    return known | dict.fromkeys(_NUMBERS)


_NUMBERS: Final = (
    "current_price",
    "market_cap",
    "market_cap_rank",
    "fully_diluted_valuation",
    "total_volume",
    "high_24h",
    "low_24h",
    "price_change_24h",
    "price_change_percentage_24h",
    "market_cap_change_24h",
    "market_cap_change_percentage_24h",
    "circulating_supply",
    "total_supply",
    "max_supply",
    "ath",
    "ath_change_percentage",
    "ath_date",
    "atl",
    "atl_change_percentage",
    "atl_date",
    "roi",
    "last_updated",
)


def _paged(entries: list[dict[str, Any]], request: Request) -> Answer:
    size = min(250, max(1, number_of(request, "per_page", 100)))
    page = max(1, number_of(request, "page", 1))
    answer = answer_json(entries[(page - 1) * size : page * size])
    last = max(1, -(-len(entries) // size))
    address = "https://api.coingecko.com/api/v3/coins/markets"
    answer.headers = {
        "link": f'<{address}?page={last}>; rel="last"',
        "per-page": str(size),
        "total": str(len(entries)),
    }
    return answer
