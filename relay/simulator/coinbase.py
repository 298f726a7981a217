"""Coinbase Advanced Trade: products, REST and its limits. Frames: ``coinbase_talk``.

Source: docs.cdp.coinbase.com of 2026; the limit on public requests is the older
documentation's, its answer the official client's.
"""

from collections.abc import Callable
from typing import Any, Final

from relay.simulator.coinbase_products import CoinbaseHouse, alias, twin
from relay.simulator.coinbase_talk import AdvancedTalk, ticker_text
from relay.simulator.iso import iso_s, iso_us
from relay.simulator.limits import RollingWindow
from relay.simulator.listing import TRADING, Symbol, short_text
from relay.simulator.wire import (
    Answer,
    Request,
    World,
    answer_json,
    find_route,
    number_of,
)

_SECOND_MS: Final = 1_000
_BROKERAGE: Final = "/api/v3/brokerage/"
_CANDLES_MOST: Final = 350


class Coinbase(CoinbaseHouse):
    """Advanced Trade as one address sees it."""

    name = "coinbase"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._settings = world.settings.coinbase
        self.messages_most = self._settings.messages
        self.apart = False
        """Whether tickers are sent one by one, because a fault names a product."""
        self._tickers: dict[str, bytes] = {}
        self._symbols: dict[str, Symbol] = {}
        self._changed: dict[str, dict[str, Symbol]] = {
            "ticker_batch": {},
            "market_trades": {},
            "candles": {},
        }
        self._sent_ms = dict.fromkeys(self._changed, 0)

    # WebSocket.

    def greet(self, request: Request) -> AdvancedTalk | None:
        """Open a connection; the ninth within a second is cut."""
        attempts = self.limit(
            "attempts_1s",
            request.address,
            lambda: RollingWindow(self._settings.attempts, _SECOND_MS),
        )
        if not attempts.spend(1, request.now_ms):
            request.account.breach("attempts")
            return None
        return AdvancedTalk(self, request)

    def show(self, symbol: Symbol, now_ms: int, *, traded: bool) -> None:
        """Keep what changed until the next beat, so that bursts are merged."""
        del now_ms
        self._symbols[symbol.name] = symbol
        if not traded:
            return
        self._tickers[symbol.name] = ticker_text(symbol.look())
        for changed in self._changed.values():
            changed[symbol.name] = symbol

    def beat(self, now_ms: int) -> None:
        """Send what changed, then what is due."""
        faults = self.world.faults
        self.apart = any(
            standing.fault.symbol is not None
            for standing in faults.all()
            if standing.fault.exchange == self.name
        )
        tickers, self._tickers = self._tickers, {}
        symbols, self._symbols = self._symbols, {}
        due = [channel for channel in self._changed if self._is_due(channel, now_ms)]
        for talk in self.conversations:
            if isinstance(talk, AdvancedTalk):
                talk.show_tickers(tickers, now_ms)
                talk.show_levels(symbols, now_ms)
                for channel in due:
                    talk.show_batch(channel, self._changed[channel], now_ms)
        for channel in due:
            self._changed[channel] = {}
        super().beat(now_ms)

    def _is_due(self, channel: str, now_ms: int) -> bool:
        settings = self._settings
        every_ms = {
            "ticker_batch": settings.batch_ms,
            "market_trades": settings.trades_ms,
            "candles": settings.candles_ms,
        }[channel]
        if now_ms - self._sent_ms[channel] < every_ms:
            return False
        self._sent_ms[channel] = now_ms
        return True

    # REST.

    def refusal(self, status: int, request: Request, retry_after_s: int) -> Answer:
        """Word a 429 as Coinbase does; the rest is its edge."""
        if status != 429:  # noqa: PLR2004  # Too Many Requests
            return super().refusal(status, request, retry_after_s)
        error = {"id": "rate_limit_exceeded", "message": "Too many requests"}
        answer = answer_json({"errors": [error]}, status)
        if retry_after_s:
            answer.headers["retry-after"] = str(retry_after_s)
        return answer

    def answer(self, request: Request) -> Answer:
        """Answer one request within ten a second."""
        settings = self._settings
        requests = self.limit(
            "requests_1s",
            request.address,
            lambda: RollingWindow(settings.requests, _SECOND_MS),
        )
        within = requests.spend(1, request.now_ms)
        if within:
            answer = self._serve(request)
        else:
            request.account.breach("requests")
            request.account.earn(429)
            answer = self.refusal(429, request, 0)
        left = max(0, settings.requests - requests.used(request.now_ms))
        answer.headers = answer.headers | {
            "x-ratelimit-limit": str(settings.requests),
            "x-ratelimit-remaining": str(left),
            "x-ratelimit-reset": "1",
        }
        return answer

    def _serve(self, request: Request) -> Answer:
        found = find_route(self._ROUTES, request.path)
        if found is not None:
            handler, stars = found
            return handler(self, request, *stars)
        name = request.path.removeprefix(_BROKERAGE).partition("/")[0]
        if name in _KEYED:
            return Answer(body=b"Unauthorized\n", status=401)
        return _missing("unknown path")

    def _time(self, request: Request) -> Answer:
        now_ms = self.clock_ms(request.now_ms)
        return answer_json(
            {
                "iso": iso_s(now_ms),
                "epochSeconds": str(now_ms // 1_000),
                "epochMillis": str(now_ms),
            }
        )

    def find(self, name: str) -> Symbol | None:
        """Give the product whose book an id shares."""
        return self.listing.symbols.get(twin(name))

    def _products(self, request: Request) -> Answer:
        entries = [
            entry
            for symbol in self.listing.symbols.values()
            for entry in product_entries(symbol)
        ]
        entries.append(_FUTURE)
        kind = request.value("product_type")
        wanted = request.values("product_ids")
        chosen = [
            entry
            for entry in entries
            if kind in {None, entry["product_type"]}
            and (not wanted or entry["product_id"] in wanted)
        ]
        offset, limit = number_of(request, "offset", 0), number_of(request, "limit", 0)
        page = chosen[offset : offset + limit] if limit else chosen[offset:]
        return answer_json(
            {"products": page, "num_products": len(page), "pagination": None}
        )

    def _product(self, request: Request, product_id: str) -> Answer:
        del request
        symbol = self.find(product_id)
        for entry in product_entries(symbol) if symbol else ():
            if entry["product_id"] == product_id:
                return answer_json(entry)
        return _missing(f"product {product_id} not found")

    def _ticker(self, request: Request, product_id: str) -> Answer:
        symbol = self.find(product_id)
        if symbol is None or symbol.state != TRADING:
            return _missing(f"product {product_id} not found")
        quote = symbol.look()
        trades = [
            {
                "trade_id": str(quote.trades - step),
                "product_id": product_id,
                "price": quote.price(quote.last),
                "size": short_text(quote.last_size, symbol.lot_decimals),
                "time": iso_us(quote.moved_ms - step, 313),
                "side": "SELL" if quote.rising else "BUY",
                "bid": "",
                "ask": "",
                "exchange": "coinbase",
            }
            for step in range(min(1_000, number_of(request, "limit", 100)))
        ]
        best = {
            "best_bid": quote.price(quote.bid),
            "best_ask": quote.price(quote.ask),
        }
        return answer_json({"trades": trades} | best)

    def _candles(self, request: Request, product_id: str) -> Answer:
        symbol = self.find(product_id)
        if symbol is None:
            return _missing(f"product {product_id} not found")
        end = number_of(request, "end", request.now_ms // 1_000)
        start = number_of(request, "start", end - 300 * _CANDLES_MOST)
        if (end - start) // 300 > _CANDLES_MOST:
            return _sorry("INVALID_ARGUMENT", "number of candles requested", 400)
        quote = symbol.look()
        candles = [
            {
                "start": str(second // 300 * 300),
                "low": quote.price(quote.low),
                "high": quote.price(quote.high),
                "open": quote.price(quote.open),
                "close": quote.price(quote.last),
                "volume": short_text(quote.last_size, symbol.lot_decimals),
            }
            for second in range(end, start, -300)
        ]
        return answer_json({"candles": candles})

    def _book(self, request: Request) -> Answer:
        product_id = request.value("product_id") or ""
        symbol = self.find(product_id)
        if symbol is None:
            return _missing(f"product {product_id} not found")
        quote = symbol.look()
        bid = short_text(quote.bid_size, symbol.lot_decimals)
        ask = short_text(quote.ask_size, symbol.lot_decimals)
        return answer_json(
            {
                "pricebook": {
                    "product_id": product_id,
                    "bids": [{"price": quote.price(quote.bid), "size": bid}],
                    "asks": [{"price": quote.price(quote.ask), "size": ask}],
                    "time": iso_us(request.now_ms, 71),
                }
            }
        )

    def _retail_price(self, request: Request, product_id: str) -> Answer:
        """Answer an old retail price, which is only a fallback."""
        del request
        symbol = self.find(product_id)
        if symbol is None:
            return _missing("Invalid base currency")
        quote = symbol.look()
        amount = quote.price(quote.last)
        named = {"base": symbol.base, "currency": symbol.quote}
        return answer_json({"data": {"amount": amount} | named})

    def _retail_rates(self, request: Request) -> Answer:
        currency = request.value("currency") or "USD"
        rates = self._rates() if currency == "USD" else {}
        return answer_json({"data": {"currency": currency, "rates": rates}})

    def _rates(self) -> dict[str, str]:
        market = self.world.market
        return {
            asset.row.symbol: short_text(10**24 // asset.mid, 12)
            for asset in market.assets
        }

    _ROUTES: Final[dict[str, Callable[..., Answer]]] = {
        "api/v3/brokerage/time": _time,
        "api/v3/brokerage/market/products": _products,
        "api/v3/brokerage/market/products/*": _product,
        "api/v3/brokerage/market/products/*/ticker": _ticker,
        "api/v3/brokerage/market/products/*/candles": _candles,
        "api/v3/brokerage/market/product_book": _book,
        "v2/prices/*/spot": _retail_price,
        "v2/exchange-rates": _retail_rates,
    }


_KEYED: Final = frozenset({"products", "product_book", "best_bid_ask"})
"""Paths that need a token; with ``market/`` before them they do not."""


def _sorry(error: str, details: str, status: int) -> Answer:
    return answer_json(
        {"error": error, "error_details": details, "message": details}, status
    )


def _missing(details: str) -> Answer:
    return _sorry("NOT_FOUND", details, 404)


def product_entries(symbol: Symbol) -> list[dict[str, Any]]:
    """Give a product as the list shows it, followed by its alias."""
    second = alias(symbol)
    entries = [_entry(symbol, symbol.name, symbol.quote)]
    if second is None:
        return entries
    entries[0]["alias_to"] = [second]
    entries.append(_entry(symbol, second, "USDC") | {"alias": symbol.name})
    return entries


def _entry(symbol: Symbol, product_id: str, quote_id: str) -> dict[str, Any]:
    quote = symbol.look()
    on = symbol.state == TRADING
    return _STILL | {
        "product_id": product_id,
        "price": quote.price(quote.last) if on else "",
        "price_percentage_change_24h": quote.change_pct(14) if on else "",
        "volume_24h": short_text(quote.volume, symbol.lot_decimals) if on else "",
        "volume_percentage_change_24h": quote.change_pct(12) if on else "",
        "base_increment": short_text(1, symbol.lot_decimals),
        "quote_increment": short_text(1, symbol.decimals),
        "price_increment": short_text(1, symbol.decimals),
        "base_name": symbol.asset.row.name,
        "quote_name": quote_id,
        "is_disabled": not on,
        "status": "online" if on else "delisted",
        "trading_disabled": not on,
        "base_currency_id": symbol.base,
        "quote_currency_id": quote_id,
        "base_display_symbol": symbol.base,
        "quote_display_symbol": quote_id,
        "display_name": product_id,
        "approximate_quote_24h_volume": quote.volume_quote() if on else "",
    }


_STILL: Final[dict[str, Any]] = {
    "quote_min_size": "1",
    "quote_max_size": "150000000",
    "base_min_size": "0.00000001",
    "base_max_size": "3400",
    "watched": False,
    "new": False,
    "cancel_only": False,
    "limit_only": False,
    "post_only": False,
    "auction_mode": False,
    "product_type": "SPOT",
    "fcm_trading_session_details": None,
    "mid_market_price": "",
    "alias": "",
    "alias_to": [],
    "view_only": False,
    "product_venue": "CBE",
    "new_at": "2023-01-01T00:00:00Z",
    "market_cap": "",
    "best_bid_price": "",
    "best_ask_price": "",
}
"""What no product differs in, empty strings for missing numbers included."""

_FUTURE: Final[dict[str, Any]] = _STILL | {
    "product_id": "BIT-28NOV26-CDE",
    "price": "61250",
    "price_percentage_change_24h": "-0.21",
    "volume_24h": "51321",
    "volume_percentage_change_24h": "3.1",
    "base_increment": "1",
    "quote_increment": "0.01",
    "price_increment": "5",
    "base_name": "",
    "quote_name": "US Dollar",
    "is_disabled": False,
    "status": "",
    "trading_disabled": False,
    "product_type": "FUTURE",
    "base_currency_id": "",
    "quote_currency_id": "USD",
    "base_display_symbol": "",
    "quote_display_symbol": "USD",
    "display_name": "BTC 28 NOV 26",
    "product_venue": "FCM",
    "approximate_quote_24h_volume": "",
}
