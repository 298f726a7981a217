"""CoinCap: version 3 with its key, credits and prices; version 2 as it was retired.

Source: pro.coincap.io/api-docs as clients quoted it in 2025 and 2026.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from relay.simulator.aggregator import Aggregator
from relay.simulator.assets import AssetRow
from relay.simulator.limits import MonthWindow, RollingWindow
from relay.simulator.listing import (
    Quote,
    Symbol,
    decimal_text,
)
from relay.simulator.wire import (
    CONTROL,
    Answer,
    Conversation,
    Frame,
    Request,
    World,
    answer_html,
    answer_json,
    find_route,
    number_of,
)

_RETIRED: Final = (
    "We are deprecating this version of the CoinCap API on March 31, 2025. Sign up for"
    " our new V3 API at https://pro.coincap.io/dashboard"
)
_UNAUTHORIZED: Final = b"Unauthorized: invalid or missing API key"
_DECIMALS: Final = 18  # of a price in REST

# Assets no exchange trades: a clone of a symbol, and one without any number.
_CLONE: Final = {"id": "bitcoin-clone", "rank": "2411", "symbol": "BTC"}
_GHOST: Final = {"id": "ghost-coin", "rank": "2950", "symbol": "GHOST"}


class Coincap(Aggregator):
    """The aggregator as one key sees it; symbols are slugs."""

    name = "coincap"
    finer = 2

    def __init__(self, world: World) -> None:
        super().__init__(world, offset_ppm=15)
        self._settings = world.settings.coincap
        self._changed: dict[str, Symbol] = {}
        self._pushed_ms = 0

    def symbol_of(self, row: AssetRow) -> str:
        """Return its slug."""
        return row.slug

    # WebSocket.

    def greet(self, request: Request) -> Conversation | Answer:
        """Open a stream of the assets in the URL, if the key allows it."""
        if request.path.startswith("/trades"):
            return answer_html(404, "Not Found")
        refused = self._check_key(request) or self._check_credits(request)
        if refused is not None and not self._settings.refuse_with_text:
            return refused
        talk = PriceTalk(self, request)
        faults = self.world.faults
        if refused is not None or faults.find(
            self.name, "unauthorized", request.now_ms
        ):
            talk.turn_away()
        elif request.path.rstrip("/") != "/prices":
            return answer_html(404, "Not Found")
        return talk

    def turn_away(self) -> None:
        """Tell every connection that its key is not good, and close it."""
        for talk in self.conversations:
            if isinstance(talk, PriceTalk):
                talk.turn_away()

    def show(self, symbol: Symbol, now_ms: int, *, traded: bool) -> None:
        """Keep what changed until the next push."""
        del now_ms
        if traded:
            self._changed[symbol.name] = symbol

    def beat(self, now_ms: int) -> None:
        """Push what changed, several times a second."""
        super().beat(now_ms)
        if now_ms - self._pushed_ms < self._settings.push_ms:
            return
        self._pushed_ms = now_ms
        changed, self._changed = self._changed, {}
        prices = {
            slug: symbol.look().price(symbol.look().last)
            for slug, symbol in changed.items()
        }
        for talk in self.conversations if prices else ():
            if isinstance(talk, PriceTalk):
                talk.push(prices)

    # Keys and credits.

    def _key(self, request: Request) -> str:
        bearer = request.headers.get("authorization", "")
        if bearer.startswith("Bearer "):
            return bearer.removeprefix("Bearer ").strip()
        return request.value("apiKey") or ""

    def _check_key(self, request: Request) -> Answer | None:
        key = self._key(request)
        settings = self._settings
        if not key:
            request.account.earn(401)
            return _sorry("Missing API key", request, 401)
        if key in settings.refused_keys or (settings.keys and key not in settings.keys):
            request.account.earn(403)
            return _sorry("Invalid API key", request, 403)
        return None

    def credits_of(self, key: str) -> MonthWindow:
        """Give what a key has spent this month."""
        most = self._settings.credits_month
        window = self.limit("credits_month", key, lambda: MonthWindow(most))
        assert isinstance(window, MonthWindow)
        return window

    def _check_credits(self, request: Request) -> Answer | None:
        spent = self.credits_of(self._key(request))
        if spent.used(request.now_ms) < spent.most:
            return None
        request.account.breach("credits")
        request.account.earn(403)
        return _sorry("You have exceeded your credit limit", request, 403)

    def charge(self, request: Request, amount: int, now_ms: int) -> None:
        """Take credits from the key of a request."""
        self.credits_of(self._key(request)).spend(amount, now_ms)
        request.account.charge(amount)

    def _check_rate(self, request: Request) -> Answer | None:
        settings = self._settings
        window = self.limit(
            "requests_1m",
            self._key(request),
            lambda: RollingWindow(settings.requests, settings.requests_ms),
        )
        if window.spend(1, request.now_ms):
            return None
        request.account.breach("requests")
        request.account.earn(429)
        wait_s = -(-window.wait_ms(request.now_ms) // 1_000)
        return self.refusal(429, request, wait_s)

    def refusal(self, status: int, request: Request, retry_after_s: int) -> Answer:
        """Word a refusal; their bodies are not documented."""
        sentences = {401: "Unauthorized", 403: "Forbidden", 429: "Too Many Requests"}
        if status not in sentences:
            return super().refusal(status, request, retry_after_s)
        answer = _sorry(sentences[status], request, status)
        if retry_after_s:
            answer.headers["retry-after"] = str(retry_after_s)
        return answer

    # REST.

    def answer(self, request: Request) -> Answer:
        """Answer one request and take its credits, a byte rule included."""
        if request.path.startswith("/v2"):
            return self._retired(request)
        refused = (
            self._check_key(request)
            or self._check_credits(request)
            or self._check_rate(request)
        )
        if refused is not None:
            return refused
        answer = self._serve(request)
        extra = len(answer.body) // self._settings.credit_bytes
        self.charge(request, 1 + extra, request.now_ms)
        return answer

    def _retired(self, request: Request) -> Answer:
        if self._settings.version_2_gone:
            return answer_html(530, "Origin DNS error")
        body = {"data": {"message": _RETIRED}, "timestamp": request.now_ms}
        return answer_json(body, 429)

    def _serve(self, request: Request) -> Answer:
        found = find_route(self._ROUTES, request.path)
        if found is None:
            return _sorry("not found", request, 404)
        handler, stars = found
        return handler(self, request, *stars)

    def _asset(self, request: Request, slug: str) -> Answer:
        return _the_one(self.entries(), slug, request)

    def _prices(self, request: Request, symbols: str) -> Answer:
        return _envelope(self._by_symbol(symbols.split(",")), request)

    def _all_rates(self, request: Request) -> Answer:
        return _envelope(self._rates(), request)

    def _one_rate(self, request: Request, slug: str) -> Answer:
        return _the_one(self._rates(), slug, request)

    def _assets(self, request: Request) -> Answer:
        entries = self.entries()
        ids, search = request.value("ids"), request.value("search")
        if ids is not None:
            wanted = set(ids.split(","))
            entries = [entry for entry in entries if entry["id"] in wanted]
        if search is not None:
            sought = search.lower()
            entries = [
                entry
                for entry in entries
                if sought in {entry["id"], entry["symbol"].lower()}
            ]
        offset, limit = (
            number_of(request, "offset", 0),
            number_of(request, "limit", 100),
        )
        return _envelope(entries[offset : offset + limit], request)

    def entries(self) -> list[dict[str, Any]]:
        """Give all assets, best rank first, the odd ones at the end."""
        listed = sorted(
            self.listing.trading(),
            key=lambda symbol: symbol.asset.mid * symbol.asset.row.supply,
            reverse=True,
        )
        entries = [_entry(one.look(), rank) for rank, one in enumerate(listed, start=1)]
        clone = _NOTHING | _CLONE | {"name": "Bitcoin Clone", "priceUsd": "0.0000011"}
        return [*entries, clone, _NOTHING | _GHOST | {"name": "Ghost Coin"}]

    def _by_symbol(self, symbols: list[str]) -> list[str | None]:
        prices: dict[str, str | None] = {}
        for entry in self.entries():
            prices.setdefault(entry["symbol"], entry["priceUsd"])
        return [prices.get(symbol.upper()) for symbol in symbols]

    def _rates(self) -> list[dict[str, Any]]:
        market = self.world.market
        fiat = (("united-states-dollar", "USD", "$"), ("euro", "EUR", "€"))
        rates = [
            _rate(slug, code, sign, "fiat", market.rate(code))
            for slug, code, sign in fiat
        ]
        return rates + [
            _rate(one.name, one.base, None, "crypto", one.asset.mid)
            for one in self.listing.trading()[:10]
        ]

    _ROUTES: Final[dict[str, Callable[..., Answer]]] = {
        "v3/assets": _assets,
        "v3/assets/*": _asset,
        "v3/price/bysymbol/*": _prices,
        "v3/rates": _all_rates,
        "v3/rates/*": _one_rate,
    }


class PriceTalk(Conversation):
    """One stream of prices; the set of assets is the URL's for good."""

    def __init__(self, house: Coincap, request: Request) -> None:
        super().__init__(request.account, request.now_ms)
        self._house = house
        self._request = request
        self._charged_ms = request.now_ms
        named = (request.value("assets") or "").split(",")
        self._all = named == ["ALL"]
        symbols = house.listing.symbols
        known = [slug for slug in dict.fromkeys(named) if slug in symbols]
        self._slugs = set(symbols) if self._all else set(known)
        asked = len(self._slugs) if self._all else len(named)
        unknown = 0 if self._all else len(set(named) - set(symbols))
        self.count_subscribed(asked, new=len(self._slugs), unknown=unknown)

    def turn_away(self) -> None:
        """Say in plain text that the key is not good, and close."""
        self.outbox.append(Frame(_UNAUTHORIZED, CONTROL))
        self.end(1008, "unauthorized")

    def receive(self, text: str, now_ms: int) -> None:
        """Hear a message; none is understood."""
        del text
        self.heard_ms = now_ms

    def push(self, prices: dict[str, str]) -> None:
        """Send what changed of the assets asked for."""
        if self._all:
            chosen = prices
        else:
            chosen = {slug: prices[slug] for slug in prices if slug in self._slugs}
        if chosen:
            alone = next(iter(chosen)) if len(chosen) == 1 else None
            self.say(msgspec.json.encode(chosen), alone)

    def beat(self, now_ms: int) -> None:
        """Take a credit a minute."""
        every_ms = self._house.world.settings.coincap.credit_ms
        while now_ms - self._charged_ms >= every_ms:
            self._charged_ms += every_ms
            self._house.charge(self._request, 1, now_ms)


_NOTHING: Final[dict[str, Any]] = {
    "supply": None,
    "maxSupply": None,
    "marketCapUsd": None,
    "volumeUsd24Hr": None,
    "priceUsd": None,
    "changePercent24Hr": None,
    "vwap24Hr": None,
    "explorer": None,
    "tokens": {},
}


def noisy_text(quote: Quote) -> str:
    """Write a price with 18 decimals, the last of them noise."""
    symbol = quote.symbol
    text = quote.price(quote.last)
    if symbol.pinned is not None:
        return text
    noise = (symbol.salt * 1_000_003 + quote.sequence) % 10 ** (
        _DECIMALS - symbol.decimals
    )
    return f"{text}{noise:0{_DECIMALS - symbol.decimals}d}"


def _entry(quote: Quote, rank: int) -> dict[str, Any]:
    row, asset = quote.symbol.asset.row, quote.symbol.asset
    odd = rank % 7 == 0
    return {
        "id": row.slug,
        "rank": str(rank),
        "symbol": row.symbol,
        "name": row.name,
        "supply": f"{row.supply}.{'0' * _DECIMALS}",
        "maxSupply": None if odd else f"{row.supply * 11 // 10}.{'0' * _DECIMALS}",
        "marketCapUsd": decimal_text(asset.mid * row.supply // 10**4, 8),
        "volumeUsd24Hr": None if rank == 40 else quote.volume_quote(),  # noqa: PLR2004  # one of many
        "priceUsd": noisy_text(quote),
        "changePercent24Hr": quote.change_pct(16),
        "vwap24Hr": None if odd else quote.average(),
        "explorer": None if odd else f"https://explorer.invalid/{row.slug}",
        "tokens": {"1": [f"0x{quote.symbol.salt:040x}"]} if odd else {},
    }


def _rate(
    slug: str, code: str, sign: str | None, kind: str, mid: int
) -> dict[str, Any]:
    return {
        "id": slug,
        "symbol": code,
        "currencySymbol": sign,
        "type": kind,
        "rateUsd": decimal_text(mid * 10**6, 18),
    }


def _envelope(content: object, request: Request) -> Answer:
    return answer_json({"timestamp": request.now_ms, "data": content})


def _sorry(error: str, request: Request, status: int) -> Answer:
    return answer_json({"error": error, "timestamp": request.now_ms}, status)


def _the_one(entries: list[dict[str, Any]], slug: str, request: Request) -> Answer:
    for entry in entries:
        if entry["id"] == slug:
            return _envelope(entry, request)
    return _sorry("not found", request, 404)
