"""Coinbase Advanced Trade by REST: requests out, symbols and snapshots in.

Not here: sockets and clocks, frames and sessions (``coinbase_session.py``), and the
Exchange dialect of the same books (``coinbase_exchange.py``).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from relay.config import Exchange
from relay.errors import ExchangeError, FrameError, Refused
from relay.exchanges.adapter import Answer, Request, Usage
from relay.exchanges.coinbase_session import (
    NAME,
    NAMES_MAX,
    CoinbaseSession,
    Trade,
    trade_number,
)
from relay.exchanges.decimals import price_of, text_of
from relay.exchanges.failures import UNREADABLE, Advice, by_status, unknown_symbol
from relay.exchanges.instants import micros_of_iso
from relay.model import Listing, Symbols, Update, is_instrument, read_count


class Product(Struct, frozen=True):
    """One product, of the list or alone; text that is empty stands for nothing.

    So does a null: one product's must not cost all others.
    """

    product_id: str
    base_currency_id: str | None = None
    quote_currency_id: str | None = None
    product_type: str | None = "SPOT"
    status: str | None = None
    is_disabled: bool | None = None
    trading_disabled: bool | None = None
    alias: str | None = None
    alias_to: list[str] | None = None
    price: object = None
    price_percentage_change_24h: object = None
    volume_24h: object = None
    approximate_quote_24h_volume: object = None
    best_bid_price: object = None
    best_ask_price: object = None


class Products(Struct, frozen=True):
    """The list of products."""

    products: list[Product]


class LastTrades(Struct, frozen=True):
    """A product's last trades, and its best bid and ask."""

    trades: list[Trade]
    best_bid: object = None
    best_ask: object = None


class Failure(Struct, frozen=True):
    """An error of the brokerage paths, by its name."""

    error: object = None


class Spot(Struct, frozen=True):
    """An old retail price."""

    amount: object
    base: str
    currency: str


class SpotAnswer(Struct, frozen=True):
    """The envelope of an old retail price."""

    data: Spot


_decode_products: Final = msgspec.json.Decoder(Products, float_hook=str).decode
_decode_product: Final = msgspec.json.Decoder(Product, float_hook=str).decode
_decode_trades: Final = msgspec.json.Decoder(LastTrades, float_hook=str).decode
_decode_error: Final = msgspec.json.Decoder(Failure).decode
_decode_spot: Final = msgspec.json.Decoder(SpotAnswer, float_hook=str).decode

_PRODUCTS: Final = "/api/v3/brokerage/market/products"
# Without ``/market`` the same needs a token, and answers the same.
_LIST: Final = re.compile(r"/api/v3/brokerage/(?:market/)?products/?")
_PRODUCT: Final = re.compile(r"/api/v3/brokerage/(?:market/)?products/([^/]+)")
_TICKER: Final = re.compile(r"/api/v3/brokerage/(?:market/)?products/([^/]+)/ticker")
_NOT_FOUND: Final = "NOT_FOUND"
_SPOT: Final = re.compile(r"/v2/prices/([^/]+)/spot")

ADVICE: Final = Advice(
    scope="address",
    # The limit is one of seconds; a few of them leave room for who shares the address.
    wait_ms=5_000,
    key="this path needs a token: only the public market paths are read",
    blocked=(
        "the edge in front of Coinbase turns this address away: look at "
        "status.coinbase.com, or run the relay from another address"
    ),
)


def _read_product(row: Product, answer: Answer, channel: str) -> Update:
    return Update(
        exchange=NAME,
        channel=channel,
        symbol=row.product_id,
        received_ms=answer.as_of_ms,
        snapshot=True,
        price=price_of(row.price),
        bid=price_of(row.best_bid_price),
        ask=price_of(row.best_ask_price),
        change_24h_pct=text_of(row.price_percentage_change_24h),
        volume_24h=text_of(row.volume_24h),
        volume_24h_quote=text_of(row.approximate_quote_24h_volume),
    )


def _read_list(answer: Answer) -> list[Update]:
    rows = _decode_products(answer.body).products
    return [_read_product(row, answer, "rest:products") for row in rows]


def _read_one(answer: Answer) -> list[Update]:
    row = _decode_product(answer.body)
    return [_read_product(row, answer, "rest:products/{id}")]


def _read_last_trades(answer: Answer) -> list[Update]:
    read = _decode_trades(answer.body)
    if not read.trades:
        return []
    newest = max(read.trades, key=lambda trade: micros_of_iso(trade.time))
    return [
        Update(
            exchange=NAME,
            channel="rest:products/{id}/ticker",
            symbol=newest.product_id,
            received_ms=answer.as_of_ms,
            event_ms=micros_of_iso(newest.time) // 1000,
            sequence=trade_number(newest.trade_id),
            snapshot=True,
            price=price_of(newest.price),
            bid=price_of(read.best_bid),
            ask=price_of(read.best_ask),
        )
    ]


def _read_spot(answer: Answer) -> list[Update]:
    row = _decode_spot(answer.body).data
    return [
        Update(
            exchange=NAME,
            channel="rest:prices/{id}/spot",
            symbol=f"{row.base}-{row.currency}",
            received_ms=answer.as_of_ms,
            snapshot=True,
            price=price_of(row.amount),
        )
    ]


_BODIES: Final[tuple[tuple[re.Pattern[str], Callable[[Answer], list[Update]]], ...]] = (
    (_LIST, _read_list),
    (_PRODUCT, _read_one),
    (_TICKER, _read_last_trades),
    (_SPOT, _read_spot),
)


def _read_listings(rows: Iterable[Product]) -> list[Listing]:
    """Read the products that split into two halves, with their twins.

    The link stands on either row or both: ``alias`` on the ``-USDC`` product,
    ``alias_to`` on the ``-USD`` one that answers for it.
    """
    spot = [
        row
        for row in rows
        if row.product_type == "SPOT" and row.base_currency_id and row.quote_currency_id
    ]
    answers_for = {name: row.product_id for row in spot for name in row.alias_to or ()}
    answers_for |= {row.product_id: row.alias for row in spot if row.alias}
    return [_read_listing(row, answers_for.get(row.product_id)) for row in spot]


def _read_listing(row: Product, twin: str | None) -> Listing:
    return Listing(
        symbol=row.product_id,
        base=row.base_currency_id or "",
        quote=row.quote_currency_id or "",
        active=row.status in ("online", "", None)
        and not (row.is_disabled or row.trading_disabled),
        answers_as=(twin,) if twin else (),
    )


def _error_of(answer: Answer) -> object:
    try:
        return _decode_error(answer.body).error
    except UNREADABLE:
        return None


class Coinbase:
    """Coinbase Advanced Trade; satisfies ``relay.exchanges.adapter.Adapter``."""

    name: str = NAME
    hosts: tuple[str, ...] = (
        "advanced-trade-ws.coinbase.com",
        "advanced-trade-ws-user.coinbase.com",
        "api.coinbase.com",
    )

    def __init__(self, settings: Exchange) -> None:
        self.streams = bool(settings.ws_url and settings.channels)
        self._channels = settings.channels
        self._limits = {limit.name: limit.weight_max for limit in settings.limits}

    def symbol_requests(self) -> list[Request]:
        """Ask for the list of products, which holds their prices too."""
        return [_list_request("symbols", (("product_type", "SPOT"),))]

    def read_symbols(self, answers: Sequence[Answer]) -> Symbols:
        """Read the list of products.

        Raises:
            FrameError: a body cannot be read.
        """
        try:
            rows = [
                row
                for answer in answers
                for row in _decode_products(answer.body).products
            ]
        except UNREADABLE as error:
            raise FrameError(NAME, "rest:products", str(error)) from error
        return Symbols(_read_listings(rows))

    def snapshot_requests(self, listings: Sequence[Listing]) -> list[Request]:
        """Ask for some products by name, for many by the whole list: one request."""
        symbols = sorted({listing.symbol for listing in listings})
        if not symbols:
            return []
        if len(symbols) > NAMES_MAX:
            return [_list_request("snapshot", (("product_type", "SPOT"),))]
        return [_list_request("snapshot", [("product_ids", name) for name in symbols])]

    def read_snapshot(self, answer: Answer) -> list[Update]:
        """Read a list, a product, its last trades or a retail price.

        Raises:
            FrameError: the body cannot be read.
        """
        path = answer.request.path
        read = next((read for shape, read in _BODIES if shape.fullmatch(path)), None)
        if read is None:
            raise FrameError(NAME, f"rest:{path}", "no such answer is read")
        try:
            updates = read(answer)
        except UNREADABLE as error:
            raise FrameError(NAME, f"rest:{path}", str(error)) from error
        return [update for update in updates if update.price]

    def read_failure(self, answer: Answer) -> ExchangeError | None:
        """Say what is wrong; the status tells it, the bodies only words.

        But for one: a product that is not found costs the others nothing.
        """
        failure = by_status(answer, ADVICE)
        wrong = isinstance(failure, Refused) and failure.kind == "request"
        if wrong and answer.request.symbols and _error_of(answer) == _NOT_FOUND:
            return unknown_symbol(answer, _NOT_FOUND)
        return failure

    def recognise(self, path: str, query: Sequence[tuple[str, str]]) -> Request | None:
        """Return what a recorded address asked for.

        The list is prices and symbols in one; it is recognised as prices, and
        ``read_symbols`` reads it all the same.
        """
        for shape, _ in _BODIES:
            match = shape.fullmatch(path)
            if match is not None:
                return Request(
                    exchange=NAME,
                    purpose="snapshot",
                    path=path,
                    query=tuple(query),
                    symbols=tuple(name.upper() for name in match.groups()),
                )
        return None

    def listing_of(self, symbol: str) -> Listing | None:
        """Read a product id of two parts; futures have more."""
        return listing_of(symbol)

    def read_usage(self, answer: Answer) -> list[Usage]:
        """Return what the headers count, where they count what we count.

        Their window is not documented: a limit other than ours is another window.
        """
        limit = answer.headers.get("x-ratelimit-limit", "")
        left = read_count(answer.headers.get("x-ratelimit-remaining", ""))
        if limit != str(self._limits.get("weight")) or left is None:
            return []
        return [Usage(limit="weight", used=max(0, int(limit) - left))]

    def session(self, symbols: Sequence[str]) -> CoinbaseSession:
        """Begin a connection that wants these symbols on every configured channel."""
        return CoinbaseSession(self._channels, symbols)


def listing_of(symbol: str) -> Listing | None:
    """Read a product id, which is our own spelling where it has two parts."""
    base, _, quote = symbol.partition("-")
    if "-" in quote or not is_instrument(symbol):
        return None
    return Listing(symbol=symbol, base=base, quote=quote)


def _list_request(purpose: str, query: Sequence[tuple[str, str]]) -> Request:
    return Request(
        exchange=NAME,
        purpose="symbols" if purpose == "symbols" else "snapshot",
        path=_PRODUCTS,
        query=tuple(query),
        symbols=tuple(value for key, value in query if key == "product_ids"),
    )
