"""Binance spot and binance.us by REST: requests out, symbols and snapshots in.

Not here: sockets and clocks, frames and sessions (``binance_session.py``). Answers of
the futures hosts are read as well; nothing here asks for them.
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from relay.config import Exchange
from relay.errors import ExchangeError, FrameError
from relay.exchanges.adapter import Answer, Request, Usage
from relay.exchanges.binance_session import (
    NAME,
    BinanceSession,
    Refusal,
    millis,
    rules_of,
)
from relay.exchanges.decimals import price_of, text_of
from relay.exchanges.failures import (
    UNREADABLE,
    Advice,
    bad_request,
    by_status,
    down,
    limited,
    unknown_symbol,
)
from relay.model import Listing, Symbols, Update, change_pct, read_count


class Row(Struct, frozen=True, gc=False, rename="camel"):
    """One row of any of the ticker endpoints; each fills some of it."""

    symbol: str
    price: object = None
    last_price: object = None
    bid_price: object = None
    ask_price: object = None
    price_change_percent: object = None
    open_price: object = None
    high_price: object = None
    low_price: object = None
    volume: object = None
    quote_volume: object = None
    close_time: int = 0
    time: int = 0

    @property
    def lives(self) -> bool:
        """Whether it has a price; a symbol that nobody ever traded has a zero."""
        if self.price is None and self.last_price is None:
            return bool(price_of(self.bid_price) or price_of(self.ask_price))
        return bool(price_of(self.price) or price_of(self.last_price))


class Listed(Struct, frozen=True, rename="camel"):
    """One row of exchangeInfo."""

    symbol: str
    base_asset: str
    quote_asset: str
    status: str = ""
    # Futures only; the dated ones share base and quote with the perpetual one.
    contract_type: str = "PERPETUAL"


class ExchangeInfo(Struct, frozen=True):
    """The part of exchangeInfo that we read."""

    symbols: list[Listed]


class Published(Struct, frozen=True, rename="camel"):
    """One of the limits that exchangeInfo publishes."""

    rate_limit_type: str = ""
    interval: str = ""
    interval_num: int = 0
    limit: int = 0


class PublishedLimits(Struct, frozen=True, rename="camel"):
    """The limits of exchangeInfo."""

    rate_limits: list[Published] = []


_decode_limits: Final = msgspec.json.Decoder(PublishedLimits).decode
_decode_rows: Final = msgspec.json.Decoder(Row | list[Row], float_hook=str).decode
_decode_symbols: Final = msgspec.json.Decoder(ExchangeInfo).decode
_decode_refusal: Final = msgspec.json.Decoder(Refusal).decode

_PATH: Final = re.compile(r"/f?api/v\d/(.+)")
_SNAPSHOTS: Final = frozenset(
    {
        "ticker",
        "ticker/24hr",
        "ticker/allBookTickers",  # of 2017
        "ticker/allPrices",  # of 2017
        "ticker/bookTicker",
        "ticker/price",
        "ticker/tradingDay",
    }
)

# rest-api.md: `ticker/24hr` costs 2 for 20 symbols, 40 for 21 to 100, 80 for all. So
# twenties are cheapest, up to 800 symbols.
_ROWS_MAX: Final = 20
_WEIGHT_ROWS: Final = 2
_WEIGHT_ALL: Final = 80
_WEIGHT_SYMBOLS: Final = 20

# enums.md, rate limiters: their names here. ORDERS count orders, of which we have none.
_PUBLISHED: Final = {
    ("REQUEST_WEIGHT", "MINUTE", 1): "weight",
    ("RAW_REQUESTS", "MINUTE", 5): "requests",
}

# errors.md: what it means when a 4xx or a 200 carries one of these.
_LIMITED: Final = frozenset({-1003, -1034})
_DOWN: Final = frozenset({-1000, -1001, -1007, -1008})
_UNKNOWN: Final = -1121

_BANNED_UNTIL: Final = re.compile(r"banned until (\d{13})\b")
# The first ban lasts two minutes; later ones up to three days.
_BAN_MS: Final = 120_000

_ADVICE: Final = Advice(
    scope="address",
    # Weight counts by the clock minute: a full one is over for certain.
    wait_ms=60_000,
    key="market data needs no key: set RELAY_BINANCE_REST_URL to a market-data host",
    blocked=(
        "Binance or its firewall turns this address away: run the relay in another "
        "region, or set RELAY_BINANCE_REST_URL and RELAY_BINANCE_WS_URL to binance.us"
    ),
)


def _endpoint_of(path: str) -> str:
    match = _PATH.fullmatch(path)
    return match[1] if match else ""


def _covers_a_day(request: Request) -> bool:
    endpoint = _endpoint_of(request.path)
    window = dict(request.query).get("windowSize", "1d")
    return endpoint == "ticker/24hr" or (endpoint == "ticker" and window == "1d")


def _read_row(row: Row, answer: Answer, channel: str, *, day: bool) -> Update:
    price = price_of(row.price) or price_of(row.last_price)
    update = Update(
        exchange=NAME,
        channel=channel,
        symbol=row.symbol,
        received_ms=answer.as_of_ms,
        event_ms=millis(row.close_time or row.time),
        snapshot=True,
        price=price,
        bid=price_of(row.bid_price),
        ask=price_of(row.ask_price),
    )
    if not day:
        return update
    return msgspec.structs.replace(
        update,
        change_24h_pct=text_of(row.price_change_percent)
        or change_pct(text_of(row.open_price), price),
        high_24h=price_of(row.high_price),
        low_24h=price_of(row.low_price),
        volume_24h=text_of(row.volume),
        volume_24h_quote=text_of(row.quote_volume),
    )


def _read_listed(row: Listed) -> Listing:
    return Listing(
        symbol=row.symbol,
        base=row.base_asset,
        quote=row.quote_asset,
        # BREAK, HALT, END_OF_DAY, CANCEL_ONLY and whatever comes next: not trading.
        active=row.status == "TRADING",
    )


def _read_refusal(answer: Answer) -> Refusal:
    """Read Binance's own words; none in a price list or in a proxy's HTML."""
    if not answer.body.startswith(b"{"):
        return Refusal()
    try:
        return _decode_refusal(answer.body)
    except UNREADABLE:
        return Refusal()


class Binance:
    """Binance's market data; satisfies ``relay.exchanges.adapter.Adapter``."""

    name: str = NAME
    hosts: tuple[str, ...] = (
        "data-api.binance.vision",
        "data-stream.binance.vision",
        "api.binance.com",
        "api-gcp.binance.com",
        "api1.binance.com",
        "api2.binance.com",
        "api3.binance.com",
        "api4.binance.com",
        "stream.binance.com",
        "testnet.binance.vision",
        "stream.testnet.binance.vision",
        "api.binance.us",
        "stream.binance.us",
        "fapi.binance.com",
        "fstream.binance.com",
    )

    def __init__(self, settings: Exchange) -> None:
        self.streams = bool(settings.ws_url and settings.channels)
        self._channels = settings.channels
        self._us = "binance.us" in settings.rest_url
        self._rules = rules_of(settings.channels, us=self._us)

    def symbol_requests(self) -> list[Request]:
        """Ask for exchangeInfo, without the permission sets that make it large."""
        # binance.us does not know the parameter, and refuses what it does not know.
        query = () if self._us else (("showPermissionSets", "false"),)
        return [
            Request(
                exchange=NAME,
                purpose="symbols",
                path="/api/v3/exchangeInfo",
                query=query,
                costs=_costs(_WEIGHT_SYMBOLS),
            )
        ]

    def read_symbols(self, answers: Sequence[Answer]) -> Symbols:
        """Read exchangeInfo; what trades comes before what does not.

        Raises:
            FrameError: a body cannot be read.
        """
        try:
            rows = [
                row
                for answer in answers
                for row in _decode_symbols(answer.body).symbols
                if row.contract_type == "PERPETUAL"
            ]
        except UNREADABLE as error:
            raise FrameError(NAME, "rest:exchangeInfo", str(error)) from error
        # After a rename the old row stays, in BREAK, perhaps with the same assets.
        listings = sorted(map(_read_listed, rows), key=lambda one: not one.active)
        return Symbols(listings)

    def snapshot_requests(self, listings: Sequence[Listing]) -> list[Request]:
        """Ask for day tickers by twenties, or for all where that is cheaper."""
        # A repeated symbol fails the whole request (-1151).
        symbols = sorted({listing.symbol for listing in listings})
        parts = [
            symbols[start : start + _ROWS_MAX]
            for start in range(0, len(symbols), _ROWS_MAX)
        ]
        if len(parts) * _WEIGHT_ROWS > _WEIGHT_ALL:
            return [_day_tickers((), _WEIGHT_ALL)]
        return [_day_tickers(part, _WEIGHT_ROWS) for part in parts]

    def read_snapshot(self, answer: Answer) -> list[Update]:
        """Read the rows of a ticker endpoint, leaving out the dead ones.

        Raises:
            FrameError: the body cannot be read.
        """
        channel = f"rest:{_endpoint_of(answer.request.path)}"
        try:
            rows = _decode_rows(answer.body)
        except UNREADABLE as error:
            raise FrameError(NAME, channel, str(error)) from error
        day = _covers_a_day(answer.request)
        return [
            _read_row(row, answer, channel, day=day)
            for row in (rows if isinstance(rows, list) else [rows])
            if row.lives
        ]

    def read_failure(self, answer: Answer) -> ExchangeError | None:
        """Say what is wrong, by the status first and then by Binance's own code."""
        refusal = _read_refusal(answer)
        if answer.status == 418:  # noqa: PLR2004  Binance's status for a ban
            return limited(answer, _ADVICE, _ban_ms(refusal, answer))
        if answer.status not in (200, 400) or not refusal.code:
            return by_status(answer, _ADVICE)
        if refusal.code in _LIMITED:
            return limited(answer, _ADVICE)
        if refusal.code in _DOWN:
            return down(answer, refusal.reason)
        if refusal.code == _UNKNOWN:
            return unknown_symbol(answer, refusal.reason)
        return bad_request(answer, refusal.reason)

    def recognise(self, path: str, query: Sequence[tuple[str, str]]) -> Request | None:
        """Return what a recorded address asked for; any version of the path will do."""
        endpoint = _endpoint_of(path)
        if endpoint == "exchangeInfo":
            return Request(
                exchange=NAME, purpose="symbols", path=path, query=tuple(query)
            )
        if endpoint in _SNAPSHOTS:
            return Request(
                exchange=NAME, purpose="snapshot", path=path, query=tuple(query)
            )
        return None

    def listing_of(self, symbol: str) -> Listing | None:  # noqa: ARG002  the protocol's
        """Return None: ``TUSDUSDT`` does not tell where its halves meet."""
        return None

    def read_usage(self, answer: Answer) -> list[Usage]:
        """Return the weight that the whole address has spent in this clock minute.

        exchangeInfo tells the limits themselves besides.
        """
        headers = answer.headers
        used = headers.get("x-mbx-used-weight-1m") or headers.get("x-mbx-used-weight")
        told = {"weight": read_count(used or "")}
        published = _published_limits(answer)
        return [
            Usage(limit=name, used=told.get(name), most=published.get(name))
            for name in _PUBLISHED.values()
            if told.get(name) is not None or name in published
        ]

    def session(self, symbols: Sequence[str]) -> BinanceSession:
        """Begin a connection that wants these symbols on every configured channel."""
        return BinanceSession(self._channels, symbols, self._rules)


def _published_limits(answer: Answer) -> dict[str, int]:
    """Return the limits that exchangeInfo publishes, by their names here."""
    if _endpoint_of(answer.request.path) != "exchangeInfo":
        return {}
    try:
        published = _decode_limits(answer.body).rate_limits
    except UNREADABLE:
        return {}
    named = (
        ((one.rate_limit_type, one.interval, one.interval_num), one.limit)
        for one in published
    )
    return {
        _PUBLISHED[key]: most for key, most in named if key in _PUBLISHED and most > 0
    }


def _costs(weight: int) -> tuple[tuple[str, int], ...]:
    """Return what a request costs: whatever its weight, it is one request."""
    return (("weight", weight), ("requests", 1))


def _day_tickers(symbols: Sequence[str], weight: int) -> Request:
    # FULL, the default: it has best bid and ask, and costs what MINI costs.
    listed = msgspec.json.encode(symbols).decode()
    return Request(
        exchange=NAME,
        purpose="snapshot",
        path="/api/v3/ticker/24hr",
        query=(("symbols", listed),) if symbols else (),
        costs=_costs(weight),
        symbols=tuple(symbols),
    )


def _ban_ms(refusal: Refusal, answer: Answer) -> int:
    """Return how long a ban lasts by its message, where no header says it."""
    match = _BANNED_UNTIL.search(refusal.msg)
    left_ms = int(match[1]) - answer.received_ms if match else 0
    return left_ms if left_ms > 0 else _BAN_MS
