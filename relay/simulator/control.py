"""What stands under ``/_sim``: counts, faults, prices and the page.

No counting and no faults here, only their way in and out over HTTP.

    GET    /_sim/counts   what every client did (``ledger.Picture``)
    DELETE /_sim/counts   begin to count anew
    GET    /_sim/faults   the faults that hold
    POST   /_sim/faults   one more (``faults.Fault``)
    DELETE /_sim/faults   take back all, or ?exchange=… or ?id=…
    POST   /_sim/prices   {"exchange", "symbol", "price", "hold"}
    GET    /_sim/prices   ?exchange=…&symbol=…: what is shown now
    GET    /_sim/         the page
"""

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web
from msgspec import Struct

from relay.simulator.faults import Fault, FaultInvalid
from relay.simulator.listing import is_number
from relay.simulator.page import PAGE

if TYPE_CHECKING:
    from relay.simulator.server import Simulator


class PriceOrder(Struct, forbid_unknown_fields=True):
    """Show exactly this price; without one the symbol moves freely again."""

    exchange: str
    symbol: str
    price: str | None = None
    hold: bool = True


# Exchanges whose frames and bodies hold prices as JSON numbers.
_NUMBERS = frozenset({"kraken", "coingecko"})


class Control:
    """The handlers under ``/_sim``."""

    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator

    def add_routes(self, app: web.Application) -> None:
        """Put every route of this module into the application."""
        add = app.router.add_route
        add("GET", "/_sim/counts", self.counts)
        add("DELETE", "/_sim/counts", self.reset_counts)
        add("GET", "/_sim/faults", self.faults)
        add("POST", "/_sim/faults", self.add_fault)
        add("DELETE", "/_sim/faults", self.clear_faults)
        add("GET", "/_sim/prices", self.prices)
        add("POST", "/_sim/prices", self.set_price)
        add("GET", "/_sim", self.page)
        add("GET", "/_sim/", self.page)

    async def counts(self, request: web.Request) -> web.Response:
        """Tell what every client did."""
        del request
        return _json(self._simulator.counts())

    async def reset_counts(self, request: web.Request) -> web.Response:
        """Begin to count anew."""
        del request
        self._simulator.reset_counts()
        return _json(self._simulator.counts())

    async def faults(self, request: web.Request) -> web.Response:
        """Tell which faults hold."""
        del request
        return _json({"faults": self._simulator.standing_faults()})

    async def add_fault(self, request: web.Request) -> web.Response:
        """Let something go wrong."""
        try:
            fault = msgspec.json.decode(await request.read(), type=Fault)
            return _json(self._simulator.add_fault(fault), 201)
        except (msgspec.DecodeError, FaultInvalid) as error:
            return _sorry(str(error), 'POST {"exchange":"binance","fault":"cut"}')

    async def clear_faults(self, request: web.Request) -> web.Response:
        """Let things go right again."""
        number = request.query.get("id", "")
        cleared = self._simulator.clear_faults(
            request.query.get("exchange"), int(number) if number.isdigit() else None
        )
        return _json({"cleared": cleared})

    async def prices(self, request: web.Request) -> web.Response:
        """Tell what each symbol of an exchange shows now."""
        name = request.query.get("exchange", "binance").replace("-", "_")
        exchange = self._simulator.exchanges.get(name)
        if exchange is None:
            return _sorry(f"exchange was {name!r}", "use one of those on /_sim/")
        one = request.query.get("symbol")
        trading = exchange.listing.trading()
        quotes = (symbol.look() for symbol in trading if one in {None, symbol.name})
        shown = {quote.symbol.name: quote.price(quote.last) for quote in quotes}
        return _json({"exchange": name, "prices": shown})

    async def set_price(self, request: web.Request) -> web.Response:
        """Show exactly one price."""
        try:
            order = msgspec.json.decode(await request.read(), type=PriceOrder)
        except msgspec.DecodeError as error:
            return _sorry(str(error), _PRICE_HINT)
        name = order.exchange.replace("-", "_")
        price = order.price
        if name in _NUMBERS and price is not None and not is_number(price):
            return _sorry(f"price was {price!r}, expected a number", _PRICE_HINT)
        try:
            self._simulator.set_price(name, order.symbol, price, hold=order.hold)
        except KeyError as error:
            return _sorry(f"{error} is not listed", _PRICE_HINT)
        return _json({"exchange": name, "symbol": order.symbol, "price": price})

    async def page(self, request: web.Request) -> web.Response:
        """Show the page that a person reads."""
        del request
        return web.Response(text=PAGE, content_type="text/html")


_PRICE_HINT = 'POST {"exchange":"binance","symbol":"BTCUSDT","price":"61000.12"}'


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        content_type="application/json",
        headers={"cache-control": "no-store"},
    )


def _sorry(sentence: str, hint: str) -> web.Response:
    return _json({"code": "bad_order", "message": sentence, "hint": hint}, 400)
