"""Binance spot: symbols, REST, weights and bans. Streams are in ``binance_streams``.

Source: binance-spot-api-docs of 2026-07-21, rest-api.md, errors.md and CHANGELOG.md.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from relay.simulator.assets import AssetRow
from relay.simulator.binance_entries import (
    ZERO,
    book_entry,
    day_entry,
    day_weight,
    depth_weight,
    fixed,
    price_entry,
    rate_limit,
    symbol_entry,
    symbol_status,
    ticker_weight,
    window_entry,
    window_weight,
)
from relay.simulator.binance_payloads import DAY_MS, levels
from relay.simulator.binance_streams import Streams, StreamTalk, url_streams
from relay.simulator.limits import Ban, ClockWindow, RollingWindow
from relay.simulator.listing import (
    BROKEN,
    DEAD,
    TRADING,
    Quote,
    Spelling,
    Symbol,
    price_decimals,
)
from relay.simulator.market import Asset
from relay.simulator.wire import (
    Answer,
    Exchange,
    Request,
    World,
    answer_html,
    answer_json,
    number_of,
)

_QUOTES: Final = {"B": "USDT", "C": "USDC", "E": "EUR"}

# Symbols that a splitter by suffix gets wrong, and a few against Bitcoin.
_EXTRA: Final = (("USDT", "TRY"), ("ETH", "BTC"), ("SOL", "BTC"), ("XRP", "BTC"))

# Listed once: the first trades no more, the others never did and show zeros.
_GONE: Final = (
    ("MATIC", "USDT", BROKEN),
    ("BCC", "USDT", DEAD),
    ("HSR", "BTC", DEAD),
    ("VEN", "USDT", DEAD),
)

_NO_STORE: Final = {"cache-control": "no-cache, no-store, must-revalidate"}
_ROOT: Final = "/api/v3/"


class _Refused(Exception):  # an answer on its way, not a fault of ours
    def __init__(self, code: int, sentence: str) -> None:
        self.answer = answer_json({"code": code, "msg": sentence}, 400)


class _Standing:
    """How an address stands: free, told to stop, or banned."""

    def __init__(self, ban: Ban) -> None:
        self.ban = ban
        self.stopped_until_ms = 0
        self.forgiven = 0


_Endpoint = tuple[Callable[[Request], int], Callable[["Binance", Request], object]]


class Binance(Exchange):
    """The exchange as one address sees it."""

    name = "binance"

    def __init__(self, world: World, now_ms: int) -> None:
        super().__init__(world, offset_ppm=0)
        self._settings = world.settings.binance
        self._standings: dict[str, _Standing] = {}
        self.streams = Streams(self._settings)
        for asset in list(world.market.assets):
            for flag in asset.row.listed:
                if flag in _QUOTES:
                    self._list(asset, _QUOTES[flag])
        for base, quote in _EXTRA:
            self._list(self._asset(base, now_ms), quote)
        for base, quote, state in _GONE:
            self._list(self._asset(base, now_ms), quote, state)

    def _asset(self, symbol: str, now_ms: int) -> Asset:
        row = AssetRow(symbol, symbol, symbol, symbol, "0.4", 1, 1, symbol, "")
        known = self.world.market.find(symbol)
        return known or self.world.market.add(row, now_ms)

    def _list(self, asset: Asset, quote: str, state: str = TRADING) -> Symbol:
        rate = self.world.market.rate(quote)
        price = f"{Decimal(asset.mid) / Decimal(rate):f}"
        decimals = min(8, price_decimals(price))
        spelling = Spelling(
            name=asset.row.symbol + quote,
            base=asset.row.symbol,
            quote=quote,
            decimals=decimals,
            shown=8,
            lot_decimals=max(0, 7 - decimals),
            lot_shown=8,
            state=state,
        )
        return self.listing.add(spelling, asset)

    def list_new(self, symbol: str, value: Mapping[str, str], now_ms: int) -> Symbol:
        """List a symbol that was not there before."""
        base = value.get("base") or symbol.removesuffix("USDT")
        row = AssetRow(
            base, base, base.lower(), base.lower(), value["price"], 1, 9, base, "B"
        )
        asset = self.world.market.add(row, now_ms)
        return self._list(asset, value.get("quote", "USDT"))

    def clock_ms(self, now_ms: int) -> int:
        """Give Binance's time, a little ahead of ours as captures showed."""
        return super().clock_ms(now_ms) + self._settings.clock_ahead_ms

    # Streams.

    def greet(self, request: Request) -> StreamTalk | Answer:
        """Open a connection to the streams, unless the address had too many."""
        settings = self._settings
        standing = self._standing(request.address)
        if standing.ban.holds(request.now_ms):
            return self._earned(418, request, standing)
        attempts = self.limit(
            "attempts",
            request.address,
            lambda: RollingWindow(settings.attempts, settings.attempts_ms),
        )
        if not attempts.spend(1, request.now_ms):
            request.account.breach("attempts")
            request.account.earn(429)
            return _sorry(-1034, "Too many connections.", 429)
        if not request.path.startswith(("/ws", "/stream")):
            return answer_html(404, "Not Found")
        if len(request.path) + len(request.query_text) > settings.url_bytes:
            request.account.breach("url")
            return answer_html(414, "Request-URI Too Large")
        names = url_streams(request)
        if len(names) > settings.streams:
            request.account.breach("streams")
            return _sorry(-1130, "Too many streams.", 400)
        talk = StreamTalk(self.streams, request, names)
        talk.breached = lambda now_ms: self._message_breach(request, now_ms)
        return talk

    def _message_breach(self, request: Request, now_ms: int) -> None:
        closes = self.limit(
            "closes",
            request.address,
            lambda: RollingWindow(self._settings.closes_before_ban - 1, 600_000),
        )
        if not closes.spend(1, now_ms):
            self._ban(request, now_ms)

    def show(self, symbol: Symbol, now_ms: int, *, traded: bool) -> None:
        """Send a symbol's real-time streams."""
        self.streams.show(symbol, self.clock_ms(now_ms), traded=traded)

    def beat(self, now_ms: int) -> None:
        """Send the one-second streams, ping, and end what must end."""
        super().beat(now_ms)
        self.streams.beat(now_ms, self.clock_ms(now_ms))

    def shut_down(self, now_ms: int, lead_ms: int | None) -> None:
        """Announce ``serverShutdown`` to every connection and close after a while."""
        wait_ms = self._settings.shutdown_ms if lead_ms is None else lead_ms
        for talk in self.conversations:
            if isinstance(talk, StreamTalk):
                talk.shut_down(self.clock_ms(now_ms), now_ms + wait_ms)

    # Limits.

    def _standing(self, address: str) -> _Standing:
        settings = self._settings
        if address not in self._standings:
            self._standings[address] = _Standing(
                Ban(settings.ban_ms, settings.ban_max_ms)
            )
        return self._standings[address]

    def _ban(self, request: Request, now_ms: int) -> None:
        standing = self._standing(request.address)
        standing.ban.strike(now_ms)
        standing.forgiven = self._settings.forgiven
        request.account.ban()

    def _earned(self, status: int, request: Request, standing: _Standing) -> Answer:
        request.account.earn(status)
        until_ms = (
            standing.ban.until_ms if status == _BANNED else standing.stopped_until_ms
        )
        wait_s = max(1, -(-(until_ms - request.now_ms) // 1_000))
        return self.refusal(status, request, wait_s)

    def refusal(self, status: int, request: Request, retry_after_s: int) -> Answer:
        """Word 429, 418 and 451 as Binance does; the rest is its edge."""
        until_ms = request.now_ms + retry_after_s * 1_000
        known = {
            429: (-1003, _TOO_HEAVY % self._settings.weight),
            418: (-1003, _TOO_HEAVY_BY_FAR % until_ms),
            451: (0, _ELSEWHERE),
        }
        if status not in known:
            return super().refusal(status, request, retry_after_s)
        answer = _sorry(*known[status], status)
        if status != _BLOCKED and retry_after_s:
            answer.headers["retry-after"] = str(retry_after_s)
        return answer

    def _stopped(self, request: Request) -> Answer | None:
        """Refuse an address that was told to stop, and ban it when it goes on."""
        standing = self._standing(request.address)
        banned = standing.ban.holds(request.now_ms)
        if not banned and request.now_ms >= standing.stopped_until_ms:
            return None
        request.account.breach("banned" if banned else "stopped")
        standing.forgiven -= 1
        if standing.forgiven < 0:
            self._ban(request, request.now_ms)
            banned = True
        return self._earned(_BANNED if banned else _STOPPED, request, standing)

    def _weigh(self, request: Request, weight: int) -> Answer | None:
        """Count weight and the request itself; refuse when a limit is passed."""
        settings, now_ms = self._settings, request.now_ms
        window = self._weight_window(request.address)
        raw = self.limit(
            "raw_requests_5m",
            request.address,
            lambda: ClockWindow(settings.raw_requests, settings.raw_requests_ms),
        )
        request.account.weigh(weight)
        within, few = window.spend(weight, now_ms), raw.spend(1, now_ms)
        refused = self._stopped(request)
        if refused is not None or (within and few):
            return refused
        request.account.breach("raw_requests" if within else "weight")
        standing = self._standing(request.address)
        standing.stopped_until_ms = now_ms + (raw if within else window).wait_ms(now_ms)
        standing.forgiven = settings.forgiven
        return self._earned(_STOPPED, request, standing)

    def _weight_window(self, address: str) -> ClockWindow:
        settings = self._settings
        window = self.limit(
            "weight_1m",
            address,
            lambda: ClockWindow(settings.weight, settings.weight_ms),
        )
        assert isinstance(window, ClockWindow)
        return window

    # REST.

    def answer(self, request: Request) -> Answer:
        """Answer one request, with its weight counted and told."""
        name = request.path.removeprefix(_ROOT)
        endpoint = self._ENDPOINTS.get(name) if name != request.path else None
        weight = endpoint[0](request) if endpoint else 1
        answer = self._weigh(request, weight)
        if answer is None:
            answer = self._serve(endpoint, request)
        used = str(self._weight_window(request.address).used(request.now_ms))
        answer.headers = {
            **_NO_STORE,
            **answer.headers,
            "x-mbx-used-weight": used,
            "x-mbx-used-weight-1m": used,
        }
        return answer

    def _serve(self, endpoint: _Endpoint | None, request: Request) -> Answer:
        if endpoint is None:
            return _sorry(-1000, "Path not found", 404)
        sent = {name for name, _ in request.query}
        if sent - _PARAMETERS:
            read = len(sent & _PARAMETERS)
            return _sorry(-1104, _NOT_READ % (read, len(sent)), 400)
        try:
            return answer_json(endpoint[1](self, request))
        except _Refused as refused:
            return refused.answer

    def _event(self, request: Request, instant_ms: int) -> int:
        microseconds = request.headers.get("x-mbx-time-unit") == "MICROSECOND"
        return instant_ms * 1_000 if microseconds else instant_ms

    def chosen(self, request: Request, *, needed: bool = False) -> list[Symbol]:
        """Give the symbols that a request names, or all of them."""
        names = _named(request)
        if names is None:
            if needed:
                raise _Refused(-1105, "Parameter 'symbol' was empty.")
            symbols = list(self.listing.symbols.values())
        else:
            symbols = [self._symbol(name) for name in names]
        status = request.value("symbolStatus")
        if status is None:
            return symbols
        if status not in {"TRADING", "HALT", "BREAK"}:
            raise _Refused(-1122, "Invalid symbolStatus.")
        kept = [symbol for symbol in symbols if symbol_status(symbol) == status]
        if request.value("symbol") and not kept:
            raise _Refused(-1220, "The symbol's status does not match.")
        return kept

    def _symbol(self, name: str) -> Symbol:
        symbol = self.listing.symbols.get(name)
        if symbol is None:
            raise _Refused(-1121, "Invalid symbol.")
        return symbol

    def _ping(self, request: Request) -> object:
        del request
        return {}

    def _time(self, request: Request) -> object:
        now_ms = self.clock_ms(request.now_ms)
        return {"serverTime": self._event(request, now_ms)}

    def _exchange_info(self, request: Request) -> object:
        settings = self._settings
        with_sets = request.value("showPermissionSets") != "false"
        return {
            "timezone": "UTC",
            "serverTime": self._event(request, self.clock_ms(request.now_ms)),
            "rateLimits": [
                rate_limit("REQUEST_WEIGHT", "MINUTE", 1, settings.weight),
                rate_limit("ORDERS", "SECOND", 10, 100),
                rate_limit("ORDERS", "DAY", 1, 200_000),
                rate_limit("RAW_REQUESTS", "MINUTE", 5, settings.raw_requests),
            ],
            "exchangeFilters": [],
            "symbols": [
                symbol_entry(symbol, with_sets=with_sets)
                for symbol in self.chosen(request)
            ],
        }

    def _prices(self, request: Request) -> object:
        return _one_or_all(request, map(price_entry, self.chosen(request)))

    def _books(self, request: Request) -> object:
        return _one_or_all(request, map(book_entry, self.chosen(request)))

    def _days(self, request: Request) -> object:
        return self._statistics(request, self.chosen(request), day_entry)

    def _windows(self, request: Request) -> object:
        chosen = self.chosen(request, needed=True)
        if len(chosen) > _WINDOW_SYMBOLS_MOST:
            raise _Refused(-1100, "Too many symbols; at most 100 are allowed.")
        return self._statistics(request, chosen, window_entry)

    def _statistics(
        self,
        request: Request,
        symbols: list[Symbol],
        make: Callable[[Quote, bool], dict[str, Any]],
    ) -> object:
        kind = request.value("type") or "FULL"
        if kind not in {"FULL", "MINI"}:
            raise _Refused(-1139, "Invalid ticker type.")
        close_ms = self.clock_ms(request.now_ms)
        times = {
            "openTime": self._event(request, close_ms - DAY_MS),
            "closeTime": self._event(request, close_ms),
        }
        entries = (make(symbol.look(), kind == "MINI") | times for symbol in symbols)
        return _one_or_all(request, entries)

    def _average(self, request: Request) -> object:
        quote = self.chosen(request, needed=True)[0].look()
        return {
            "mins": 5,
            "price": quote.price(quote.last),
            "closeTime": self._event(request, self.clock_ms(request.now_ms)),
        }

    def _depth(self, request: Request) -> object:
        quote = self.chosen(request, needed=True)[0].look()
        bids, asks = levels(quote, min(5_000, number_of(request, "limit", 100)))
        return {"lastUpdateId": quote.sequence, "bids": bids, "asks": asks}

    def _trades(self, request: Request) -> object:
        quote = self.chosen(request, needed=True)[0].look()
        number = min(1_000, number_of(request, "limit", 500))
        return [
            {
                "id": quote.trades - number + 1 + step,
                "price": quote.price(quote.last),
                "qty": quote.size(quote.last_size),
                "quoteQty": quote.volume_quote(),
                "time": self._event(request, request.now_ms - number + step),
                "isBuyerMaker": not quote.rising,
                "isBestMatch": True,
            }
            for step in range(number)
        ]

    def _klines(self, request: Request) -> object:
        quote = self.chosen(request, needed=True)[0].look()
        number = min(1_000, number_of(request, "limit", 500))
        minute_ms = request.now_ms // 60_000 * 60_000
        return [
            [
                minute_ms - 60_000 * step,
                quote.price(quote.open),
                quote.price(quote.high),
                quote.price(quote.low),
                quote.price(quote.last),
                quote.size(quote.volume),
                minute_ms - 60_000 * step + 59_999,
                quote.volume_quote(),
                1_000,
                quote.size(quote.volume // 2),
                ZERO,
                "0",
            ]
            for step in reversed(range(number))
        ]

    def _reference(self, request: Request) -> object:
        symbol = self.chosen(request, needed=True)[0]
        if symbol.quote != "USDT":
            raise _Refused(-2043, "This symbol has no reference price.")
        quote = symbol.look()
        return {
            "symbol": symbol.name,
            "referencePrice": quote.price(quote.last),
            "timestamp": self._event(request, request.now_ms),
        }

    _ENDPOINTS: Final[dict[str, _Endpoint]] = {
        "ping": (fixed(1), _ping),
        "time": (fixed(1), _time),
        "exchangeInfo": (fixed(20), _exchange_info),
        "ticker/price": (ticker_weight, _prices),
        "ticker/bookTicker": (ticker_weight, _books),
        "ticker/24hr": (day_weight, _days),
        "ticker": (window_weight, _windows),
        "ticker/tradingDay": (window_weight, _windows),
        "avgPrice": (fixed(2), _average),
        "depth": (depth_weight, _depth),
        "trades": (fixed(25), _trades),
        "historicalTrades": (fixed(25), _trades),
        "klines": (fixed(2), _klines),
        "uiKlines": (fixed(2), _klines),
        "referencePrice": (fixed(2), _reference),
    }
    """Every REST endpoint: its weight, then its answer."""


_STOPPED, _BANNED, _BLOCKED = 429, 418, 451

_TOO_HEAVY: Final = (
    "Too much request weight used; current limit is %d request weight per 1 MINUTE."
    " Please use WebSocket Streams for live updates to avoid polling the API."
)
_TOO_HEAVY_BY_FAR: Final = (
    "Way too much request weight used; IP banned until %d. Please use WebSocket"
    " Streams for live updates to avoid bans."
)
_ELSEWHERE: Final = (
    "Service unavailable from a restricted location according to 'b. Eligibility' in"
    " the terms of service."
)
_WINDOW_SYMBOLS_MOST: Final = 100

_PARAMETERS: Final = frozenset(
    {
        "endTime",
        "fromId",
        "interval",
        "limit",
        "permissions",
        "showPermissionSets",
        "startTime",
        "symbol",
        "symbolStatus",
        "symbols",
        "timeZone",
        "type",
        "windowSize",
    }
)
"""What any endpoint takes; anything else is refused."""
_NOT_READ: Final = (
    "Not all sent parameters were read; read '%d' parameter(s) but was sent '%d'."
)


def _sorry(code: int, sentence: str, status: int) -> Answer:
    return answer_json({"code": code, "msg": sentence}, status)


def _named(request: Request) -> list[str] | None:
    one, many = request.value("symbol"), request.value("symbols")
    if one is not None and many is not None:
        raise _Refused(-1128, "Combination of optional parameters invalid.")
    if many is None:
        return None if one is None else [one]
    try:
        names = msgspec.json.decode(many, type=list[str])
    except msgspec.DecodeError:
        raise _Refused(
            -1100, "Illegal characters found in parameter 'symbols'."
        ) from None
    if len(set(names)) < len(names):
        raise _Refused(-1151, "Symbol is present multiple times in the list.")
    return names


def _one_or_all(request: Request, entries: Any) -> object:  # noqa: ANN401
    listed = list(entries)
    return listed[0] if request.value("symbol") else listed
