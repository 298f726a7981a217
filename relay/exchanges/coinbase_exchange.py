"""Coinbase Exchange by REST: the second dialect, once Coinbase Pro and GDAX.

Not here: sockets and clocks, frames and sessions (``coinbase_exchange_session.py``),
Advanced Trade (``coinbase.py``), which lends the meaning of a status.
"""

import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final

import msgspec
from msgspec import Struct

from relay.config import Exchange
from relay.errors import ExchangeError, FrameError
from relay.exchanges.adapter import Answer, Request, Usage
from relay.exchanges.coinbase import ADVICE, listing_of
from relay.exchanges.coinbase_exchange_session import NAME, CoinbaseExchangeSession
from relay.exchanges.decimals import price_of, text_of
from relay.exchanges.failures import (
    UNREADABLE,
    by_status,
    looks_like_json,
    unknown_symbol,
)
from relay.exchanges.instants import micros_of_iso
from relay.model import Listing, Symbols, Update, change_pct


class Product(Struct, frozen=True):
    """One row of the list of products; rows of 2017 have no status."""

    id: str
    base_currency: str
    quote_currency: str
    status: str = "online"
    trading_disabled: bool = False


class LastTrade(Struct, frozen=True):
    """A product's ticker, which names no product."""

    price: object
    bid: object = None
    ask: object = None
    volume: object = None
    time: object = None
    trade_id: int = 0


class Stats(Struct, frozen=True):
    """A product's day, which names no product and no time."""

    last: object
    open: object = None
    high: object = None
    low: object = None
    volume: object = None


_decode_products: Final = msgspec.json.Decoder(list[Product]).decode
_decode_ticker: Final = msgspec.json.Decoder(LastTrade, float_hook=str).decode
_decode_stats: Final = msgspec.json.Decoder(Stats, float_hook=str).decode

_PRODUCT: Final = re.compile(r"/products/([^/]+)/(ticker|stats)")

# Requests without one are said to be refused.
_HEADERS: Final = (("user-agent", "price-relay"),)


def _read_last_trade(answer: Answer, symbol: str) -> Update:
    row = _decode_ticker(answer.body)
    return Update(
        exchange=NAME,
        channel="rest:products/{id}/ticker",
        symbol=symbol,
        received_ms=answer.as_of_ms,
        event_ms=micros_of_iso(row.time) // 1000,
        sequence=row.trade_id,
        snapshot=True,
        price=price_of(row.price),
        bid=price_of(row.bid),
        ask=price_of(row.ask),
        volume_24h=text_of(row.volume),
    )


def _read_stats(answer: Answer, symbol: str) -> Update:
    row = _decode_stats(answer.body)
    price = price_of(row.last)
    return Update(
        exchange=NAME,
        channel="rest:products/{id}/stats",
        symbol=symbol,
        received_ms=answer.as_of_ms,
        snapshot=True,
        price=price,
        change_24h_pct=change_pct(text_of(row.open), price),
        high_24h=price_of(row.high),
        low_24h=price_of(row.low),
        volume_24h=text_of(row.volume),
    )


_BODIES: Final[dict[str, Callable[[Answer, str], Update]]] = {
    "ticker": _read_last_trade,
    "stats": _read_stats,
}


class CoinbaseExchange:
    """Coinbase Exchange; satisfies ``relay.exchanges.adapter.Adapter``."""

    name: str = NAME
    hosts: tuple[str, ...] = (
        "ws-feed.exchange.coinbase.com",
        "ws-direct.exchange.coinbase.com",
        "ws-feed-public.sandbox.exchange.coinbase.com",
        "api.exchange.coinbase.com",
        "ws-feed.pro.coinbase.com",
        "api.pro.coinbase.com",
        "ws-feed.gdax.com",
        "api.gdax.com",
    )

    def __init__(self, settings: Exchange) -> None:
        self.streams = bool(settings.ws_url and settings.channels)
        self._channels = settings.channels
        # The stream's ticker brings the day's figures; without it they cost a request.
        self._bodies = ["ticker"]
        if not (self.streams and {"ticker", "ticker_batch"} & set(settings.channels)):
            self._bodies.append("stats")

    def symbol_requests(self) -> list[Request]:
        """Ask for the list of products, which holds no prices."""
        return [
            Request(
                exchange=NAME, purpose="symbols", path="/products", headers=_HEADERS
            )
        ]

    def read_symbols(self, answers: Sequence[Answer]) -> Symbols:
        """Read the list of products.

        Raises:
            FrameError: a body cannot be read.
        """
        try:
            rows = [row for answer in answers for row in _decode_products(answer.body)]
        except UNREADABLE as error:
            raise FrameError(NAME, "rest:products", str(error)) from error
        return Symbols(
            Listing(
                symbol=row.id,
                base=row.base_currency,
                quote=row.quote_currency,
                active=row.status == "online" and not row.trading_disabled,
            )
            for row in rows
        )

    def snapshot_requests(self, listings: Sequence[Listing]) -> list[Request]:
        """Ask for each product by itself: no request covers several."""
        return [
            Request(
                exchange=NAME,
                purpose="snapshot",
                path=f"/products/{symbol}/{body}",
                headers=_HEADERS,
                symbols=(symbol,),
            )
            for symbol in sorted({listing.symbol for listing in listings})
            for body in self._bodies
        ]

    def read_snapshot(self, answer: Answer) -> list[Update]:
        """Read a product's ticker or day.

        Raises:
            FrameError: the body cannot be read.
        """
        path = answer.request.path
        match = _PRODUCT.fullmatch(path)
        if match is None:
            raise FrameError(NAME, f"rest:{path}", "no such answer is read")
        try:
            update = _BODIES[match[2]](answer, match[1].upper())
        except UNREADABLE as error:
            raise FrameError(NAME, f"rest:{path}", str(error)) from error
        return [update] if update.price else []

    def read_failure(self, answer: Answer) -> ExchangeError | None:
        """Say what is wrong; the status tells it all, the body only words."""
        product = _PRODUCT.fullmatch(answer.request.path)
        missing = answer.status == HTTPStatus.NOT_FOUND and looks_like_json(answer)
        if product and missing:
            return unknown_symbol(answer)
        return by_status(answer, ADVICE)

    def recognise(self, path: str, query: Sequence[tuple[str, str]]) -> Request | None:
        """Return what a recorded address asked for; old ones wrote ``btc-usd``."""
        if path == "/products":
            return Request(
                exchange=NAME, purpose="symbols", path=path, query=tuple(query)
            )
        match = _PRODUCT.fullmatch(path)
        if match is None:
            return None
        return Request(
            exchange=NAME,
            purpose="snapshot",
            path=path,
            query=tuple(query),
            symbols=(match[1].upper(),),
        )

    def listing_of(self, symbol: str) -> Listing | None:
        """Read a product id, which is base and quote."""
        return listing_of(symbol)

    def read_usage(self, answer: Answer) -> list[Usage]:  # noqa: ARG002  the protocol's
        """Return nothing: no header counts."""
        return []

    def session(self, symbols: Sequence[str]) -> CoinbaseExchangeSession:
        """Begin a connection that wants these symbols on every configured channel."""
        return CoinbaseExchangeSession(self._channels, symbols)
