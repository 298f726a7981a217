"""One price for each asset and how it moves, from one seed. No exchange's spelling.

Prices are whole numbers of 10⁻¹² USD, so nothing is ever rounded by a float.
"""

from bisect import bisect
from collections.abc import Iterator
from decimal import Decimal
from random import Random
from typing import Final

from relay.simulator.assets import AssetRow
from relay.simulator.settings import Settings

PICO: Final = 10**12  # units of one USD
_VOLUME_UNITS: Final = 10**8  # units of one coin in a volume
_PPM: Final = 1_000_000

# USD for one unit of a quote currency that is no asset here.
_FIAT: Final = {"USD": "1", "EUR": "1.0843", "TRY": "0.02931", "GBP": "1.2901"}

_STABLE: Final = frozenset({"USDT", "USDC", "TUSD", "EURC"})


class Asset:
    """One asset's price now and its last 24 hours."""

    __slots__ = (
        "anchor",
        "high",
        "index",
        "low",
        "mid",
        "moved_ms",
        "moved_nth",
        "open",
        "rising",
        "row",
        "trades",
        "version",
        "volume",
    )

    def __init__(self, row: AssetRow, index: int, *, day_ppm: int) -> None:
        mid = int(Decimal(row.price) * PICO)
        self.row = row
        self.index = index
        self.anchor = self.mid = mid
        self.open = mid * _PPM // (_PPM + day_ppm)
        self.high = max(mid, self.open) * 1_012_000 // _PPM
        self.low = min(mid, self.open) * 985_000 // _PPM
        self.volume = row.volume_musd * _PPM * PICO // 20 * _VOLUME_UNITS // mid
        self.version = 0
        self.trades = 0
        self.rising = True
        self.moved_ms = 0
        self.moved_nth = 0  # of the moves within that millisecond

    @property
    def traded(self) -> bool:
        """Tell whether the last move was a trade; each fourth moves the book only."""
        return self.version % 4 != 3  # noqa: PLR2004  # the fourth of 0, 1, 2, 3

    def move(self, step_ppm: int, now_ms: int) -> None:
        """Take one step, pulled back a little towards where it began."""
        pull = (self.anchor - self.mid) // 4_000
        self.mid = max(1_000, self.mid + self.mid * step_ppm // _PPM + pull)
        self.rising = step_ppm >= 0
        self.high = max(self.high, self.mid)
        self.low = min(self.low, self.mid)
        self.version += 1
        self.stamp(now_ms)
        if self.traded:
            self.trades += 1
            self.volume += self.volume // 2_000_000

    def stamp(self, now_ms: int) -> None:
        """Note that something changed now; instants of one asset only grow."""
        self.moved_nth = 0 if now_ms > self.moved_ms else self.moved_nth + 1
        self.moved_ms = max(self.moved_ms, now_ms)


class Market:
    """All assets; decides which moves when."""

    def __init__(
        self, rows: tuple[AssetRow, ...], settings: Settings, now_ms: int
    ) -> None:
        self._settings = settings
        self._random = Random(settings.seed)  # noqa: S311  # prices, not secrets
        self.assets: list[Asset] = []
        self._named: dict[str, Asset] = {}
        self._links: list[int] = []
        self._shares: list[int] = []
        self._moved_ms = now_ms
        self._lead_ms = now_ms
        self._owed = 0
        self._burst_ms = self._next_burst(now_ms)
        for row in rows:
            self.add(row, now_ms)

    def add(self, row: AssetRow, now_ms: int) -> Asset:
        """List one more asset; a symbol already known keeps its price."""
        known = self._named.get(row.symbol)
        if known is not None:
            return known
        day_ppm = self._random.randint(-60_000, 60_000)
        asset = Asset(
            row,
            len(self.assets),
            day_ppm=day_ppm // 1_000 if row.symbol in _STABLE else day_ppm,
        )
        asset.moved_ms = now_ms
        self.assets.append(asset)
        self._named[row.symbol] = asset
        self._links.append(0)
        busy = min(400, row.volume_musd) + 4
        self._shares.append(self._total() + busy)
        return asset

    def _total(self) -> int:
        return self._shares[-1] if self._shares else 0

    def find(self, symbol: str) -> Asset | None:
        """Give the asset of that name, if it is listed."""
        return self._named.get(symbol)

    def link(self, asset: Asset) -> None:
        """Count one more symbol that changes when this asset moves."""
        self._links[asset.index] += 1

    def rate(self, currency: str) -> int:
        """Give the price of one unit of a quote currency, in 10⁻¹² USD."""
        asset = self._named.get(currency)
        if asset is not None:
            return asset.mid
        return int(Decimal(_FIAT[currency]) * PICO)

    def _next_burst(self, now_ms: int) -> int:
        every_ms = self._settings.burst_every_ms
        return now_ms + self._random.randint(every_ms // 2, every_ms * 3 // 2)

    def moves(self, now_ms: int) -> Iterator[Asset]:
        """Move assets one after the other, giving each just after it moved."""
        settings = self._settings
        self._owed += settings.updates_per_second * (now_ms - self._moved_ms)
        # A process that slept does not owe all the moves it missed.
        self._owed = min(self._owed, settings.updates_per_second * 1_000)
        self._moved_ms = now_ms
        if settings.burst_every_ms and now_ms >= self._burst_ms:
            self._burst_ms = self._next_burst(now_ms)
            self._owed += settings.burst_updates * 1_000
        if now_ms - self._lead_ms >= settings.lead_ms and settings.updates_per_second:
            self._lead_ms = now_ms
            yield self._move(self.assets[0], now_ms)
        while self._owed > 0:
            yield self._move(self._pick(), now_ms)

    def _pick(self) -> Asset:
        drawn = self._random.randrange(self._total())
        return self.assets[bisect(self._shares, drawn)]

    def _move(self, asset: Asset, now_ms: int) -> Asset:
        reach = 15 if asset.row.symbol in _STABLE else 120
        step = self._random.randint(-reach, reach)
        asset.move(step or 1, now_ms)
        self._owed -= max(1, self._links[asset.index]) * 1_000
        return asset
