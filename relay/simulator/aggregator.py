"""What the aggregators share: each lists everything that anybody trades, in dollars.

Not here: what either of them answers.
"""

from abc import abstractmethod
from collections.abc import Mapping

from relay.simulator.assets import AssetRow
from relay.simulator.listing import Spelling, Symbol, price_decimals
from relay.simulator.market import Asset
from relay.simulator.wire import Exchange, World


class Aggregator(Exchange):
    """A house whose symbols are names of its own for assets.

    ``finer`` is how many more decimals its prices have than those on an exchange.
    """

    finer: int

    def __init__(self, world: World, *, offset_ppm: int) -> None:
        super().__init__(world, offset_ppm=offset_ppm)
        for asset in list(world.market.assets):
            if asset.row.listed:
                self._list(asset)

    @abstractmethod
    def symbol_of(self, row: AssetRow) -> str:
        """Return its own name for an asset."""

    def _list(self, asset: Asset) -> Symbol:
        decimals = price_decimals(asset.row.price) + self.finer
        spelling = Spelling(
            name=self.symbol_of(asset.row),
            base=asset.row.symbol,
            quote="USD",
            decimals=decimals,
            shown=decimals,
            lot_decimals=8,
        )
        return self.listing.add(spelling, asset)

    def list_new(self, symbol: str, value: Mapping[str, str], now_ms: int) -> Symbol:
        """List an asset that was not there before."""
        base = value.get("base", symbol.upper())
        row = AssetRow(base, base, symbol, symbol, value["price"], 1, 9, base, "")
        return self._list(self.world.market.add(row, now_ms))
