"""One symbol of one exchange, quoted from its asset's price. No protocol's shapes.

All numbers are whole: prices in ticks, sizes in lots, until they become text.
"""

from decimal import Decimal, InvalidOperation
from re import compile as pattern
from typing import Final
from zlib import crc32

from msgspec import Struct, structs

from relay.simulator.market import PICO, Asset, Market

_PPM: Final = 1_000_000
_NUMBER: Final = pattern(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")

TRADING: Final = "trading"
BROKEN: Final = "broken"  # delisted or halted
DEAD: Final = "dead"  # listed once, never traded


def decimal_text(units: int, decimals: int) -> str:
    """Write ``units`` of 10 to the minus ``decimals`` as decimal text."""
    if decimals == 0:
        return str(units)
    sign = "-" if units < 0 else ""
    whole, rest = divmod(abs(units), 10**decimals)
    return f"{sign}{whole}.{rest:0{decimals}d}"


def short_text(units: int, decimals: int) -> str:
    """Write the same without trailing zeros."""
    text = decimal_text(units, decimals)
    return text.rstrip("0").rstrip(".") if "." in text else text


def number_text(text: str) -> str:
    """Write decimal text as a JSON number, tiny ones in scientific notation.

    Kraken and CoinGecko write small prices that way.
    """
    value = Decimal(text)
    if value == 0 or abs(value) >= Decimal("0.0001"):
        return text
    digits = value.normalize().as_tuple()
    exponent = value.adjusted()
    head, rest = digits.digits[0], "".join(map(str, digits.digits[1:]))
    mantissa = f"{head}.{rest}" if rest else f"{head}"
    return f"{'-' if digits.sign else ''}{mantissa}e-{-exponent:02d}"


def is_number(text: str) -> bool:
    """Tell whether the text is a JSON number."""
    return _NUMBER.fullmatch(text) is not None


def price_decimals(price: str) -> int:
    """Choose how many decimals a price of this size is quoted with."""
    value = Decimal(price)
    steps = ("100", "10", "0.9", "0.09", "0.009", "0.0009")
    for decimals, least in enumerate(steps, start=2):
        if value >= Decimal(least):
            return decimals
    return 10 if value < Decimal("0.00001") else 8


class Quote:
    """What one symbol shows at one moment.

    Prices are whole ticks and sizes whole lots until ``price`` and ``size`` write
    them as text.
    """

    __slots__ = (
        "ask",
        "ask_size",
        "bid",
        "bid_size",
        "high",
        "last",
        "last_size",
        "low",
        "moved_ms",
        "moved_us",
        "open",
        "rising",
        "sequence",
        "symbol",
        "trades",
        "volume",
    )

    def __init__(self, symbol: "Symbol", market: Market) -> None:
        asset = symbol.asset
        self.symbol = symbol
        self.moved_ms = asset.moved_ms
        self.moved_us = min(999, asset.moved_nth)  # within that millisecond
        self.rising = asset.rising
        self._fill_prices(symbol, market.rate(symbol.quote))
        mixed = (asset.version * 2_654_435_761 + symbol.salt) & 0xFFFFFFFF
        lots_per_usd = PICO * 10**symbol.lot_decimals
        self.bid_size = 1 + (10 + mixed % 9_000) * lots_per_usd // asset.mid
        self.ask_size = 1 + (10 + mixed % 7_001) * lots_per_usd // asset.mid
        self.last_size = 1 + (5 + mixed % 901) * lots_per_usd // asset.mid
        share = 20 + symbol.salt % 60
        self.volume = asset.volume * 10**symbol.lot_decimals * share // 10**10
        self.sequence = 1_000_000_000 + symbol.salt % 9_973 + asset.version * 3
        self.sequence += symbol.pins
        self.trades = 5_000_000 + symbol.salt % 9_973 + asset.trades + symbol.pins

    def _fill_prices(self, symbol: "Symbol", rate: int) -> None:
        asset = symbol.asset
        scale = 10**symbol.decimals * (_PPM + symbol.offset_ppm)
        last = max(1, asset.mid * scale // (rate * _PPM))
        pinned = symbol.pinned_ticks
        self.last = last = last if pinned is None else pinned
        self.open = max(1, asset.open * scale // (rate * _PPM))
        self.high = max(last, asset.high * scale // (rate * _PPM))
        self.low = max(1, min(last, asset.low * scale // (rate * _PPM)))
        spread = max(1, last // 20_000)
        at_bid = pinned is not None or not asset.rising
        self.bid = last if at_bid else max(1, last - spread)
        self.ask = max(last + spread if at_bid else last, self.bid + 1)

    def price(self, ticks: int) -> str:
        """Write a price as this exchange writes it."""
        symbol = self.symbol
        if symbol.pinned is not None and ticks == self.last:
            return symbol.pinned
        padding = 10 ** (symbol.shown - symbol.decimals)
        return decimal_text(ticks * padding, symbol.shown)

    def size(self, lots: int) -> str:
        """Write a size as this exchange writes it."""
        symbol = self.symbol
        shown = max(symbol.lot_shown, symbol.lot_decimals)
        return decimal_text(lots * 10 ** (shown - symbol.lot_decimals), shown)

    def change(self) -> str:
        """Give the change in 24 hours, in the quote currency."""
        padding = 10 ** (self.symbol.shown - self.symbol.decimals)
        return decimal_text((self.last - self.open) * padding, self.symbol.shown)

    def change_pct(self, decimals: int) -> str:
        """Give the change in 24 hours, in percent."""
        return decimal_text(
            (self.last - self.open) * 10 ** (decimals + 2) // self.open, decimals
        )

    def average(self) -> str:
        """Give the volume-weighted price of 24 hours, about."""
        ticks = (self.open + self.last) // 2
        padding = 10 ** (self.symbol.shown - self.symbol.decimals)
        return decimal_text(ticks * padding, self.symbol.shown)

    def volume_quote(self) -> str:
        """Give the volume of 24 hours in the quote currency, two decimals at least."""
        symbol = self.symbol
        shift = symbol.decimals + symbol.lot_decimals - symbol.shown
        units = self.volume * (self.open + self.last) // 2
        scaled = units // 10**shift if shift >= 0 else units * 10**-shift
        return decimal_text(scaled, symbol.shown)


class Spelling(Struct, frozen=True, kw_only=True):
    """How an exchange writes one symbol, and how far its price lies from ours."""

    name: str
    base: str
    quote: str
    decimals: int  # of the price's tick
    shown: int  # decimals the exchange writes, padded with zeros
    lot_decimals: int
    lot_shown: int = 0
    offset_ppm: int = 0
    state: str = TRADING


class Symbol:
    """One listed symbol and what it shows now."""

    __slots__ = (
        "_loose_version",
        "_market",
        "_quote",
        "_seen",
        "asset",
        "base",
        "decimals",
        "lot_decimals",
        "lot_shown",
        "name",
        "offset_ppm",
        "pinned",
        "pinned_ticks",
        "pins",
        "quote",
        "salt",
        "shown",
        "state",
    )

    def __init__(self, spelling: Spelling, asset: Asset, market: Market) -> None:
        self.name = spelling.name
        self.base = spelling.base
        self.quote = spelling.quote
        self.decimals = spelling.decimals
        self.shown = spelling.shown
        self.lot_decimals = spelling.lot_decimals
        self.lot_shown = spelling.lot_shown
        self.offset_ppm = spelling.offset_ppm
        self.state = spelling.state
        self.asset = asset
        self.salt = crc32(spelling.name.encode())
        self.pinned: str | None = None
        self.pinned_ticks: int | None = None
        self.pins = 0
        self._loose_version: int | None = None
        self._market = market
        self._quote: Quote | None = None
        self._seen = (-1, -1)
        market.link(asset)

    def look(self) -> Quote:
        """Give the quote of this moment; made once for each move."""
        if self._loose_version not in {None, self.asset.version}:
            self.pin(None)
        seen = (self.asset.version, self.pins)
        if self._quote is None or seen != self._seen:
            self._quote = Quote(self, self._market)
            self._seen = seen
        return self._quote

    def pin(self, price: str | None, *, hold: bool = True) -> None:
        """Show exactly this price, until told otherwise or only to the next move.

        None lets it move again.
        """
        self.pins += 1
        loose = price is not None and not hold
        self._loose_version = self.asset.version if loose else None
        self.pinned = price
        self.pinned_ticks = None
        if price is None:
            return
        try:
            self.pinned_ticks = int(Decimal(price).scaleb(self.decimals))
        except (InvalidOperation, ValueError, OverflowError):
            self.pinned_ticks = self.look().last


class Listing:
    """All symbols of one exchange, by name and by asset."""

    def __init__(self, market: Market, *, offset_ppm: int) -> None:
        self._market = market
        self._offset_ppm = offset_ppm
        self.symbols: dict[str, Symbol] = {}
        self._of_asset: dict[int, list[Symbol]] = {}

    def add(self, spelling: Spelling, asset: Asset) -> Symbol:
        """List a symbol; the exchange's own small distance is added to its price."""
        spread = crc32(spelling.name.encode()) % 61 - 30
        shifted = structs.replace(
            spelling, offset_ppm=spelling.offset_ppm + self._offset_ppm + spread
        )
        symbol = Symbol(shifted, asset, self._market)
        self.symbols[symbol.name] = symbol
        self._of_asset.setdefault(asset.index, []).append(symbol)
        return symbol

    def remove(self, name: str) -> None:
        """Forget a symbol; nothing happens when it is not listed."""
        symbol = self.symbols.pop(name, None)
        if symbol is not None:
            self._of_asset[symbol.asset.index].remove(symbol)

    def of_asset(self, asset: Asset) -> list[Symbol]:
        """Give the symbols whose price follows this asset."""
        return self._of_asset.get(asset.index, [])

    def trading(self) -> list[Symbol]:
        """Give the symbols that trade now."""
        return [symbol for symbol in self.symbols.values() if symbol.state == TRADING]
