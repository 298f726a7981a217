"""Kraken spot: names, REST and its bucket. Frames are in ``kraken_talk``.

Source: docs.kraken.com and support.kraken.com of 2025 and 2026; bodies of refusals
as clients saw them.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from email.utils import formatdate
from typing import Any, Final

from relay.simulator.assets import AssetRow
from relay.simulator.iso import iso_s
from relay.simulator.kraken_talk import KrakenTalk
from relay.simulator.limits import LeakyBucket, RollingWindow
from relay.simulator.listing import TRADING, Quote, Spelling, Symbol, price_decimals
from relay.simulator.market import Asset
from relay.simulator.wire import (
    Answer,
    Exchange,
    Request,
    World,
    answer_html,
    answer_json,
)

_QUOTES: Final = {"K": "USD", "L": "EUR", "T": "USDT"}
_FIAT: Final = {"USD": "ZUSD", "EUR": "ZEUR"}
_OLD_NAMES: Final = {"BTC": "XBT", "DOGE": "XDG"}
_ROOT: Final = "/0/public/"


class Kraken(Exchange):
    """The exchange as one address sees it; symbols are v2's, ``BTC/USD``."""

    name = "kraken"

    def __init__(self, world: World) -> None:
        super().__init__(world, offset_ppm=-60)
        self._settings = world.settings.kraken
        self._refused_until_ms: dict[str, int] = {}
        for asset in list(world.market.assets):
            for flag in asset.row.listed:
                if flag in _QUOTES:
                    self._list(asset, _QUOTES[flag])

    def _list(self, asset: Asset, quote: str) -> Symbol:
        rate = self.world.market.rate(quote)
        decimals = price_decimals(f"{Decimal(asset.mid) / Decimal(rate):f}")
        if decimals == 2 and asset.mid > rate * 1_000:  # noqa: PLR2004  # cents
            decimals = 1 if asset.row.symbol == "BTC" else 2
        spelling = Spelling(
            name=f"{asset.row.symbol}/{quote}",
            base=asset.row.symbol,
            quote=quote,
            decimals=decimals,
            shown=decimals,
            lot_decimals=8,
        )
        return self.listing.add(spelling, asset)

    def list_new(self, symbol: str, value: Mapping[str, str], now_ms: int) -> Symbol:
        """List a pair that was not there before."""
        base, _, quote = symbol.partition("/")
        slug = base.lower()
        row = AssetRow(base, base, slug, slug, value["price"], 1, 9, base, "K")
        return self._list(self.world.market.add(row, now_ms), quote or "USD")

    # WebSocket.

    def greet(self, request: Request) -> KrakenTalk | Answer:
        """Open a connection; too many attempts shut out REST as well."""
        settings, now_ms = self._settings, request.now_ms
        if request.path.rstrip("/") not in {"/v2", ""}:
            return answer_html(404, "Not Found")
        attempts = self.limit(
            "attempts",
            request.address,
            lambda: RollingWindow(settings.attempts, settings.attempts_ms),
        )
        if not attempts.spend(1, now_ms):
            request.account.breach("attempts")
            self._refused_until_ms[request.address] = now_ms + settings.refused_ms
        refused = self._edge(request)
        if refused is not None:
            return refused
        talk = KrakenTalk(self, request)
        if self.world.faults.find(self.name, "maintenance", now_ms):
            talk.announce("maintenance")
        else:
            talk.announce("online")
        return talk

    def _edge(self, request: Request) -> Answer | None:
        if request.now_ms >= self._refused_until_ms.get(request.address, 0):
            return None
        request.account.earn(429)
        return answer_html(429, "Too Many Requests")

    def show(self, symbol: Symbol, now_ms: int, *, traded: bool) -> None:
        """Send a ticker to whoever asked for this pair and trigger."""
        del now_ms
        triggers = {"bbo", "trades"} if traded else {"bbo"}
        text: bytes | None = None
        for talk in self.conversations:
            if isinstance(talk, KrakenTalk) and talk.wants(symbol.name, triggers):
                text = text or talk.ticker(symbol, "update")
                talk.say(text, symbol.name)

    def listed(self, symbol: Symbol, now_ms: int) -> None:
        """Tell the instrument channel that a pair's status has changed."""
        del now_ms
        for talk in self.conversations:
            if isinstance(talk, KrakenTalk):
                talk.show_instrument(symbol)

    def announce(self, system: str, now_ms: int) -> None:
        """Tell every connection the engine's state; maintenance ends it."""
        del now_ms
        for talk in self.conversations:
            if isinstance(talk, KrakenTalk):
                talk.announce(system)

    def warn(self, now_ms: int, lead_ms: int) -> None:
        """Announce maintenance to every connection, and close it after a while."""
        for talk in self.conversations:
            if isinstance(talk, KrakenTalk):
                talk.warn(now_ms + lead_ms)

    # REST.

    def refusal(self, status: int, request: Request, retry_after_s: int) -> Answer:
        """Give the edge's page; a refusal of the exchange itself is a 200."""
        del request
        answer = answer_html(status, _SENTENCES.get(status, "Error"))
        if retry_after_s:
            answer.headers["retry-after"] = str(retry_after_s)
        return answer

    def answer(self, request: Request) -> Answer:
        """Answer one request within the bucket."""
        settings = self._settings
        refused = self._edge(request)
        if refused is not None:
            request.account.breach("refused")
            return refused
        if len(request.query_text) > settings.query_bytes:
            return answer_html(414, "Request-URI Too Large")
        bucket = self.limit(
            "requests",
            request.address,
            lambda: LeakyBucket(settings.bucket, settings.bucket_ms),
        )
        if not bucket.spend(1, request.now_ms):
            request.account.breach("requests")
            request.account.earn(429)
            return _sorry("EGeneral:Too many requests")
        if self.world.faults.find(self.name, "maintenance", request.now_ms):
            return self._unavailable(request)
        return self._serve(request)

    def _unavailable(self, request: Request) -> Answer:
        if request.path == f"{_ROOT}SystemStatus":
            stamp = iso_s(request.now_ms)
            return _result({"status": "maintenance", "timestamp": stamp})
        return _sorry("EService:Unavailable")

    def _serve(self, request: Request) -> Answer:
        name = request.path.removeprefix(_ROOT)
        handler = self._ROUTES.get(name)
        return handler(self, request) if handler else _sorry("EGeneral:Unknown method")

    def _status(self, request: Request) -> Answer:
        return _result({"status": "online", "timestamp": iso_s(request.now_ms)})

    def _time(self, request: Request) -> Answer:
        second = self.clock_ms(request.now_ms) // 1_000
        text = formatdate(second, usegmt=True)
        return _result({"unixtime": second, "rfc1123": text})

    def _chosen(self, request: Request) -> list[Symbol] | None:
        """Give the pairs asked for, or None when one of them is unknown."""
        text = request.value("pair")
        trading = self.listing.trading()
        if text is None:
            return trading
        names = {
            name: symbol for symbol in trading for name in spellings(symbol).values()
        }
        chosen = [names.get(name) for name in text.split(",")]
        return [symbol for symbol in chosen if symbol] if all(chosen) else None

    def _tickers(self, request: Request) -> Answer:
        chosen = self._chosen(request)
        if not chosen:
            return _sorry("EQuery:Unknown asset pair")
        modern = request.value("assetVersion") == "1"
        return _result(
            {
                symbol.name if modern else legacy_key(symbol): _ticker(symbol.look())
                for symbol in chosen
            }
        )

    def _pairs(self, request: Request) -> Answer:
        chosen = self._chosen(request)
        if chosen is None:
            return _sorry("EQuery:Unknown asset pair")
        modern = request.value("assetVersion") == "1"
        return _result(
            {
                symbol.name if modern else legacy_key(symbol): pair_entry(
                    symbol, modern=modern
                )
                for symbol in chosen
            }
        )

    def _assets(self, request: Request) -> Answer:
        del request
        codes: dict[str, str] = {}
        for symbol in self.listing.trading():
            codes[symbol.asset.row.kraken] = old_name(symbol.base)
            codes[quote_code(symbol.quote)] = symbol.quote
        return _result(
            {
                code: {
                    "aclass": "currency",
                    "altname": altname,
                    "decimals": 10,
                    "display_decimals": 5,
                    "status": "enabled",
                }
                for code, altname in sorted(codes.items())
            }
        )

    _ROUTES: Final[dict[str, Callable[["Kraken", Request], Answer]]] = {
        "Ticker": _tickers,
        "AssetPairs": _pairs,
        "Assets": _assets,
        "SystemStatus": _status,
        "Time": _time,
    }


_SENTENCES: Final = {
    403: "Forbidden",
    429: "Too Many Requests",
    502: "Bad Gateway",
    503: "Service Unavailable",
}


def _sorry(error: str) -> Answer:
    return answer_json({"error": [error]})


def _result(result: object) -> Answer:
    return answer_json({"error": [], "result": result})


def old_name(symbol: str) -> str:
    """Give the name that REST and ``wsname`` still use."""
    return _OLD_NAMES.get(symbol, symbol)


def quote_code(quote: str) -> str:
    """Give the asset code of a quote currency."""
    return _FIAT.get(quote, quote)


def legacy_key(symbol: Symbol) -> str:
    """Give the key of a pair in REST: legacy for the old coins, plain for others."""
    code, quote = symbol.asset.row.kraken, symbol.quote
    legacy = code.startswith("X") and code != symbol.base and len(code) == 4  # noqa: PLR2004  # X and three letters
    if legacy and quote in _FIAT:
        return code + _FIAT[quote]
    if symbol.name == "USDT/USD":
        return "USDTZUSD"
    return old_name(symbol.base) + quote


def spellings(symbol: Symbol) -> dict[str, str]:
    """Give every name under which REST understands a pair."""
    old = old_name(symbol.base)
    return {
        "key": legacy_key(symbol),
        "altname": old + symbol.quote,
        "wsname": f"{old}/{symbol.quote}",
        "modern": symbol.name,
        "plain": symbol.base + symbol.quote,
    }


def pair_entry(symbol: Symbol, *, modern: bool) -> dict[str, Any]:
    """Write one entry of AssetPairs."""
    old = old_name(symbol.base)
    names = {
        "altname": old + symbol.quote,
        "wsname": symbol.name if modern else f"{old}/{symbol.quote}",
        "aclass_base": "currency",
        "base": symbol.base if modern else symbol.asset.row.kraken,
        "aclass_quote": "currency",
        "quote": symbol.quote if modern else quote_code(symbol.quote),
    }
    return names | {
        "lot": "unit",
        "cost_decimals": 5,
        "pair_decimals": symbol.decimals,
        "lot_decimals": 8,
        "lot_multiplier": 1,
        "leverage_buy": [],
        "leverage_sell": [],
        "fees": [[0, 0.4], [10_000, 0.35]],
        "fees_maker": [[0, 0.25], [10_000, 0.2]],
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": "0.0001",
        "costmin": "0.5",
        "tick_size": f"{Decimal(1).scaleb(-symbol.decimals):f}",
        "status": "online" if symbol.state == TRADING else "delisted",
    }


def _ticker(quote: Quote) -> dict[str, Any]:
    low, high = quote.price(quote.low), quote.price(quote.high)
    average, volume = quote.average(), quote.size(quote.volume)
    return {
        "a": [quote.price(quote.ask), "1", quote.size(quote.ask_size)[:-5]],
        "b": [quote.price(quote.bid), "1", quote.size(quote.bid_size)[:-5]],
        "c": [quote.price(quote.last), quote.size(quote.last_size)],
        "v": [quote.size(quote.volume * 7 // 10), volume],
        "p": [average, average],
        "t": [quote.trades % 40_000, quote.trades % 40_000 + 4_288],
        "l": [low, low],
        "h": [high, high],
        "o": quote.price(quote.open),
    }
