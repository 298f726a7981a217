"""The market: plausible, seeded, never asleep, with bursts."""

from itertools import pairwise

from relay.simulator.assets import ASSETS
from relay.simulator.market import PICO, Market
from relay.simulator.settings import Settings
from tests.simulator.driver import Bench


def prices_after(seed: int, steps: int = 50) -> list[int]:
    """Give all prices after a second of that seed's market."""
    market = Market(ASSETS, Settings(seed=seed), 0)
    for step in range(steps):
        list(market.moves(step * 20))
    return [asset.mid for asset in market.assets]


def test_one_seed_gives_one_market() -> None:
    """A failing run is repeated by the seed it printed."""
    assert prices_after(7) == prices_after(7)
    assert prices_after(7) != prices_after(8)


def test_bitcoin_moves_at_least_every_lead() -> None:
    """A page that shows the simulator must be seen to move."""
    market = Market(ASSETS, Settings(burst_every_ms=0), 0)
    moved = [
        now_ms
        for now_ms in range(0, 10_000, 20)
        if any(asset.row.symbol == "BTC" for asset in market.moves(now_ms))
    ]
    gaps = [later - earlier for earlier, later in pairwise(moved)]
    assert max(gaps) <= 100


def test_the_rate_is_counted_in_symbols() -> None:
    """Benches ask for so many updates upstream, over all exchanges together."""
    bench = Bench(Settings(updates_per_second=2_000, burst_every_ms=0))
    market = bench.world.market
    changed = 0
    for step in range(1, 501):
        for asset in market.moves(bench.now_ms + step * 20):
            changed += sum(
                len(exchange.listing.of_asset(asset))
                for exchange in bench.exchanges.values()
            )
    assert 18_000 < changed < 22_000


def test_a_burst_brings_hundreds_of_moves_in_one_step() -> None:
    """Markets jump together; whoever reads must not fall behind for long."""
    bench = Bench(Settings(burst_every_ms=1_000, updates_per_second=100))
    market = bench.world.market
    most = max(len(list(market.moves(bench.now_ms + step * 20))) for step in range(150))
    assert most > 100


def test_prices_stay_near_where_they_began_and_the_day_holds_them() -> None:
    """A walk that ran away would show nonsense after an hour."""
    market = Market(ASSETS, Settings(), 0)
    for now_ms in range(0, 600_000, 1_000):
        list(market.moves(now_ms))
    for asset in market.assets:
        assert asset.anchor * 3 // 4 < asset.mid < asset.anchor * 4 // 3
        assert asset.low <= asset.mid <= asset.high
        assert asset.low <= asset.open <= asset.high


def test_a_fourth_of_the_moves_is_no_trade() -> None:
    """Best prices change without a trade; the two must be told apart."""
    market = Market(ASSETS, Settings(), 0)
    asset = market.assets[0]
    traded = []
    for _ in range(8):
        asset.move(1, 0)
        traded.append(asset.traded)
    assert traded.count(False) == 2
    assert asset.trades == 6


def test_a_still_market_stands() -> None:
    """Tests that set prices by hand want nothing else to move."""
    market = Market(ASSETS, Settings(updates_per_second=0, burst_every_ms=0), 0)
    assert not list(market.moves(60_000))


def test_an_asset_is_added_once() -> None:
    """A second listing of an asset must not give it a second price."""
    market = Market(ASSETS, Settings(), 0)
    assert market.add(ASSETS[0], 0) is market.assets[0]
    assert market.rate("USD") == PICO
    assert market.rate("BTC") == market.assets[0].mid
