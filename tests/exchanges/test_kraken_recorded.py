"""Kraken's recordings of 2017 to 2021, every frame and answer of them."""

from collections import Counter
from pathlib import Path

import pytest

from relay.exchanges.adapter import Confirmed
from relay.exchanges.kraken import Kraken
from relay.model import Symbols
from tests.exchanges.answers import answer_to, settings_of
from tests.exchanges.recordings import read_answers, read_frames

KRAKEN = Kraken(settings_of("kraken"))


@pytest.fixture
def symbols(recorded: Path) -> Symbols:
    """Return the table that was recorded beside the captures."""
    path = recorded / "kraken/cryptofeed_2021-04-17.assetpairs.rest.gz"
    (pairs,) = read_answers(KRAKEN, path)
    return KRAKEN.read_symbols([pairs.answer])


def test_the_table_of_2021_lists_every_open_pair(symbols: Symbols) -> None:
    """Eleven of the 304 rows are dark books, which share their pairs' names."""
    assert len(symbols) == 293
    (listing,) = symbols.listings_of("XXDGXXBT")
    assert listing.instrument == "DOGE-BTC"
    assert "ETH2.S-ETH" in symbols.by_instrument


def test_every_ticker_of_2021_becomes_an_update(
    recorded: Path, symbols: Symbols
) -> None:
    """18 of the 60 frames are tickers, 10 acknowledge, none is dropped."""
    session = KRAKEN.session([])
    counts: Counter[str] = Counter()
    last: dict[str, tuple[str, str]] = {}
    path = recorded / "kraken/cryptofeed_ticker_2021-04-17.ws"
    for frame, received_ms in read_frames(path):
        counts["frames"] += 1
        for update in session.receive(frame, received_ms=received_ms):
            counts["updates"] += 1
            (listing,) = symbols.listings_of(update.symbol)
            last[listing.instrument] = (update.price, update.change_24h_pct)
    assert counts == {"frames": 60, "updates": 18}
    assert len(session.notices) == 10
    assert all(type(notice) is Confirmed for notice in session.notices)
    assert last == {
        "WAVES-EUR": ("13.253900", "-1.299"),
        "XMR-USD": ("353.81000000", "5.549"),
        "KSM-BTC": ("0.00758800", "5.404"),
        "GRT-ETH": ("0.000839800", "2.540"),
        "SC-EUR": ("0.043040", "32.922"),
        "ETH-CHF": ("2191.22000", "-2.090"),
        "OCEAN-BTC": ("0.000027800", "2.470"),
        "OMG-USD": ("9.608415", "-2.458"),
        "BTC-CHF": ("56218.30000", "-1.532"),
        "ADA-BTC": ("0.000022930", "-0.993"),
    }


def test_every_book_frame_of_2021_passes_in_silence(recorded: Path) -> None:
    """Books are documented and carry no ticker: neither updates nor errors."""
    session = KRAKEN.session([])
    frames = 0
    path = recorded / "kraken/cryptofeed_book_2021-04-17.ws.gz"
    for frame, received_ms in read_frames(path):
        frames += 1
        assert not session.receive(frame, received_ms=received_ms)
    assert (frames, len(session.notices)) == (4321, 10)


def test_every_answer_of_2017_is_read_or_of_another_kind(recorded: Path) -> None:
    """The one depth answer is no ticker; all others are tables or prices."""
    counts: Counter[str] = Counter()
    tables, prices = [], []
    path = recorded / "kraken/cassettes.jsonl.gz"
    for one in read_answers(KRAKEN, path):
        counts[one.request.purpose if one.request else "other"] += 1
        if one.request is None:
            assert "/Depth" in one.url
            continue
        assert KRAKEN.read_failure(one.answer) is None
        if one.request.purpose == "symbols":
            tables.append(one.answer)
        else:
            prices += KRAKEN.read_snapshot(one.answer)
    assert counts == {"symbols": 117, "snapshot": 1, "other": 1}
    symbols = KRAKEN.read_symbols(tables)
    # 58 pairs, 11 of them dark.
    assert len(symbols) == 47
    (listing,) = symbols.listings_of(prices[0].symbol)
    assert (listing.instrument, prices[0].price) == ("BCH-EUR", "355.400000")
    assert prices[0].low_24h == "346.000000"


def test_answers_of_undated_fixtures_are_read(recorded: Path) -> None:
    """Their arrays are shorter than today's."""
    folder = recorded / "kraken/xchange"
    ticker = KRAKEN.recognise("/0/public/Ticker", ())
    assets = KRAKEN.recognise("/0/public/Assets", ())
    assert ticker is not None
    assert assets is not None
    body = (folder / "example-ticker-data.json").read_bytes()
    (update,) = KRAKEN.read_snapshot(answer_to(ticker, body))
    assert (update.symbol, update.price) == ("XXBTZEUR", "560.87711")
    assert update.volume_24h == "600.91850325"
    names = (folder / "example-assets-data.json").read_bytes()
    assert len(KRAKEN.read_symbols([answer_to(assets, names)])) == 0
