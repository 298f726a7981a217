"""The table of assets: complete, and larger on demand."""

from decimal import Decimal

from relay.simulator.assets import ASSETS, asset_rows
from relay.simulator.settings import Settings
from tests.simulator.driver import Bench


def test_the_table_names_each_asset_once() -> None:
    """Two rows of one name would give one symbol two prices."""
    for names in (
        [row.symbol for row in ASSETS],
        [row.gecko for row in ASSETS],
        [row.slug for row in ASSETS],
    ):
        assert len(set(names)) == len(names)
    assert len(ASSETS) >= 60
    assert all(Decimal(row.price) > 0 for row in ASSETS)


def test_a_larger_market_is_filled_with_synthetic_assets() -> None:
    """Benches need 2,000 symbols; the real table alone has fewer."""
    large = Bench(Settings(instruments=2_000))
    assert len(large.exchanges["binance"].listing.trading()) >= 2_000
    assert asset_rows(0) == ASSETS
