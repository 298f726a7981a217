"""Coinbase Exchange, the second dialect: REST with ETags, limits. Frames: its talk.

Source: docs.cdp.coinbase.com (Exchange) of 2026 and what others saw live.
"""

from collections.abc import Callable
from hashlib import md5
from typing import Any, Final

from msgspec import Raw

from relay.simulator.coinbase_exchange_talk import ExchangeTalk
from relay.simulator.coinbase_products import CoinbaseHouse
from relay.simulator.iso import iso_ms, iso_us
from relay.simulator.limits import LeakyBucket
from relay.simulator.listing import TRADING, Quote, Symbol, short_text
from relay.simulator.wire import (
    Answer,
    Request,
    World,
    answer_json,
    find_route,
)

_SECOND_MS: Final = 1_000


class CoinbaseExchange(CoinbaseHouse):
    """The Exchange feed and API as one address sees them."""

    name = "coinbase_exchange"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._settings = world.settings.coinbase
        self.messages_most = self._settings.exchange_messages
        self._changed: dict[str, Symbol] = {}
        self._batch_ms = 0

    # WebSocket.

    def greet(self, request: Request) -> ExchangeTalk | None:
        """Open a connection; more than eight a second, after a burst, are cut."""
        settings = self._settings
        attempts = self.limit(
            "attempts",
            request.address,
            lambda: LeakyBucket(
                settings.exchange_attempts_burst,
                _SECOND_MS // settings.exchange_attempts,
                punish=False,
            ),
        )
        if not attempts.spend(1, request.now_ms):
            request.account.breach("attempts")
            return None
        return ExchangeTalk(self, request)

    def show(self, symbol: Symbol, now_ms: int, *, traded: bool) -> None:
        """Send a symbol's tickers and matches; each match has its own frame."""
        if traded:
            self._changed[symbol.name] = symbol
        for talk in self.conversations:
            if isinstance(talk, ExchangeTalk):
                talk.show(symbol, now_ms, traded=traded)

    def beat(self, now_ms: int) -> None:
        """Send the batches when they are due."""
        super().beat(now_ms)
        if now_ms - self._batch_ms < self._settings.batch_ms:
            return
        self._batch_ms = now_ms
        changed, self._changed = self._changed, {}
        for talk in self.conversations:
            if isinstance(talk, ExchangeTalk):
                talk.show_batch(changed, now_ms)

    # REST.

    def refusal(self, status: int, request: Request, retry_after_s: int) -> Answer:
        """Word a 429 as the Exchange does; the rest is its edge."""
        if status != 429:  # noqa: PLR2004  # Too Many Requests
            return super().refusal(status, request, retry_after_s)
        answer = answer_json({"message": "Public rate limit exceeded"}, status)
        if retry_after_s:
            answer.headers["retry-after"] = str(retry_after_s)
        return answer

    def answer(self, request: Request) -> Answer:
        """Answer one request within ten a second and a burst of fifteen."""
        settings = self._settings
        if not request.headers.get("user-agent"):
            return answer_json({"message": "User-Agent header is required."}, 400)
        bucket = self.limit(
            "requests",
            request.address,
            lambda: LeakyBucket(
                settings.exchange_requests_burst,
                _SECOND_MS // settings.requests,
                punish=False,
            ),
        )
        if not bucket.spend(1, request.now_ms):
            request.account.breach("requests")
            request.account.earn(429)
            return self.refusal(429, request, 0)
        return _tagged(self._serve(request), request)

    def _serve(self, request: Request) -> Answer:
        found = find_route(_ROUTES, request.path)
        if found is None:
            return answer_json({"message": "NotFound"}, 404)
        make, stars = found
        if not stars:
            return answer_json(make(self, request))
        symbol = self.listing.symbols.get(stars[0])
        if symbol is None:
            return answer_json({"message": "NotFound"}, 404)
        return answer_json(make(symbol.look(), request))


def _products(house: CoinbaseExchange, request: Request) -> object:
    del request
    return [product_entry(symbol) for symbol in house.listing.symbols.values()]


def _all_stats(house: CoinbaseExchange, request: Request) -> object:
    del request
    trading = house.listing.trading()
    return {symbol.name: _stats(symbol.look()) for symbol in trading}


def _volumes(house: CoinbaseExchange, request: Request) -> object:
    del request
    return [_volume_entry(symbol.look()) for symbol in house.listing.trading()]


def _time(house: CoinbaseExchange, request: Request) -> object:
    now_ms = house.clock_ms(request.now_ms)
    epoch = f"{now_ms // 1_000}.{now_ms % 1_000:03d}"
    return {"iso": iso_ms(now_ms), "epoch": Raw(epoch.encode())}


_ROUTES: Final[dict[str, Callable[[Any, Request], object]]] = {
    "products": _products,
    "products/stats": _all_stats,
    "products/volume-summary": _volumes,
    "products/*": lambda quote, _: product_entry(quote.symbol),
    "products/*/ticker": lambda quote, _: ticker_entry(quote),
    "products/*/stats": lambda quote, _: _stats(quote),
    "products/*/book": lambda quote, request: _book_entry(quote, request.now_ms),
    "products/*/trades": lambda quote, _: [
        _trade_entry(quote, step) for step in range(100)
    ],
    "time": _time,
}
"""Every path: with a product in it, the answer is made of its quote."""


def _tagged(answer: Answer, request: Request) -> Answer:
    """Give an answer its ETag and a second of life; 304 when it is known."""
    if answer.status != 200:  # noqa: PLR2004  # OK
        return answer
    etag = f'W/"{md5(answer.body, usedforsecurity=False).hexdigest()}"'
    headers = {"etag": etag, "cache-control": "public, max-age=1"}
    if request.headers.get("if-none-match") == etag:
        return Answer(body=b"", status=304, headers=headers)
    answer.headers = answer.headers | headers
    return answer


def product_entry(symbol: Symbol) -> dict[str, Any]:
    """Write one product."""
    on = symbol.state == TRADING
    return {
        "id": symbol.name,
        "base_currency": symbol.base,
        "quote_currency": symbol.quote,
        "quote_increment": short_text(1, symbol.decimals),
        "base_increment": short_text(1, symbol.lot_decimals),
        "display_name": symbol.name,
        "min_market_funds": "1",
        "margin_enabled": False,
        "post_only": False,
        "limit_only": False,
        "cancel_only": False,
        "status": "online" if on else "delisted",
        "status_message": "",
        "trading_disabled": not on,
        "fx_stablecoin": False,
        "max_slippage_percentage": "0.02000000",
        "auction_mode": False,
        "high_bid_limit_percentage": "",
    }


def _size(quote: Quote, lots: int) -> str:
    return short_text(lots, quote.symbol.lot_decimals)


def ticker_entry(quote: Quote) -> dict[str, Any]:
    """Write the last trade and the best prices."""
    return {
        "ask": quote.price(quote.ask),
        "bid": quote.price(quote.bid),
        "volume": _size(quote, quote.volume),
        "trade_id": quote.trades,
        "price": quote.price(quote.last),
        "size": _size(quote, quote.last_size),
        "time": iso_us(quote.moved_ms, quote.moved_us),
        "rfq_volume": "0.00",
    }


def _stats(quote: Quote) -> dict[str, str]:
    return {
        "open": quote.price(quote.open),
        "high": quote.price(quote.high),
        "low": quote.price(quote.low),
        "last": quote.price(quote.last),
        "volume": _size(quote, quote.volume),
        "volume_30day": _size(quote, quote.volume * 29),
    }


def _volume_entry(quote: Quote) -> dict[str, str]:
    return {
        "id": quote.symbol.name,
        "base_currency": quote.symbol.base,
        "quote_currency": quote.symbol.quote,
        "display_name": quote.symbol.name.replace("-", "/"),
        "spot_volume_24hour": _size(quote, quote.volume),
        "spot_volume_30day": _size(quote, quote.volume * 29),
    }


def _book_entry(quote: Quote, now_ms: int) -> dict[str, Any]:
    return {
        "bids": [[quote.price(quote.bid), _size(quote, quote.bid_size), 1]],
        "asks": [[quote.price(quote.ask), _size(quote, quote.ask_size), 1]],
        "sequence": quote.sequence,
        "auction_mode": False,
        "auction": None,
        "time": iso_us(now_ms, 17),
    }


def _trade_entry(quote: Quote, step: int) -> dict[str, Any]:
    return {
        "trade_id": quote.trades - step,
        "side": "sell" if quote.rising else "buy",
        "size": _size(quote, quote.last_size),
        "price": quote.price(quote.last),
        "time": iso_us(quote.moved_ms - step, 571),
    }
