"""What Coinbase's two dialects share: its products, and the count of messages.

No REST, no WebSocket.

Source: docs.cdp.coinbase.com of 2026 and answers others published in 2026.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from relay.simulator.assets import AssetRow
from relay.simulator.ledger import Account
from relay.simulator.limits import RollingWindow
from relay.simulator.listing import (
    BROKEN,
    TRADING,
    Listing,
    Spelling,
    Symbol,
    price_decimals,
)
from relay.simulator.market import Asset, Market
from relay.simulator.wire import Exchange, World

_OFFSET_PPM: Final = 70  # how far Coinbase's prices lie from the market's
_SECOND_MS: Final = 1_000

_QUOTES: Final = {"X": "USD", "Y": "EUR"}

# Their USDC products have books of their own instead of being an alias.
_OWN_USDC: Final = frozenset({"USDT", "EURC"})

# A rename left this one behind.
_DELISTED: Final = "MATIC"


class CoinbaseHouse(Exchange):
    """Either dialect's house; ``messages_most`` is what an address may say a second."""

    messages_most: int

    def __init__(self, world: World) -> None:
        super().__init__(world, offset_ppm=_OFFSET_PPM)
        _fill(self.listing, world.market)

    def list_new(self, symbol: str, value: Mapping[str, str], now_ms: int) -> Symbol:
        """List a product that was not there before; its value says which."""
        del symbol
        base = value.get("base", "NEW")
        slug = base.lower()
        row = AssetRow(base, base, slug, slug, value["price"], 1, 9, base, "X")
        market = self.world.market
        asset = market.add(row, now_ms)
        return _list_product(self.listing, market, asset, value.get("quote", "USD"))

    def may_send(self, account: Account, now_ms: int) -> bool:
        """Count a message of an address; one too many within a second is a breach."""
        messages = self.limit(
            "messages_1s",
            account.client.address,
            lambda: RollingWindow(self.messages_most, _SECOND_MS),
        )
        within = messages.spend(1, now_ms)
        if not within:
            account.breach("messages")
        return within


def _fill(listing: Listing, market: Market) -> None:
    """List every product that has a book of its own."""
    for asset in list(market.assets):
        for flag in asset.row.listed:
            if flag in _QUOTES:
                _list_product(listing, market, asset, _QUOTES[flag])
        if asset.row.symbol in _OWN_USDC and "X" in asset.row.listed:
            _list_product(listing, market, asset, "USDC")
    row = AssetRow(_DELISTED, "Matic", "matic", "matic", "0.4", 1, 1, "MATIC", "")
    asset = market.find(_DELISTED) or market.add(row, 0)
    _list_product(listing, market, asset, "USD").state = BROKEN


def _list_product(listing: Listing, market: Market, asset: Asset, quote: str) -> Symbol:
    """List one product."""
    rate = market.rate(quote)
    decimals = price_decimals(f"{Decimal(asset.mid) / Decimal(rate):f}")
    spelling = Spelling(
        name=f"{asset.row.symbol}-{quote}",
        base=asset.row.symbol,
        quote=quote,
        decimals=decimals,
        shown=decimals,
        lot_decimals=max(0, 8 - max(0, decimals - 2) * 2),
        state=TRADING,
    )
    return listing.add(spelling, asset)


def twin(product_id: str) -> str:
    """Give the product whose book an id shares: ``BTC-USDC`` is ``BTC-USD``."""
    base, _, quote = product_id.rpartition("-")
    if quote == "USDC" and base not in _OWN_USDC:
        return f"{base}-USD"
    return product_id


def alias(symbol: Symbol) -> str | None:
    """Give the USDC id that shares a product's book, if there is one."""
    if symbol.quote == "USD" and symbol.base not in {*_OWN_USDC, "USDC"}:
        return f"{symbol.base}-USDC"
    return None
