"""Coinbase Exchange's recordings: every ticker in them arrives, nothing is dropped."""

from pathlib import Path

import pytest

from relay.exchanges.coinbase_exchange import CoinbaseExchange
from tests.exchanges.answers import settings_of
from tests.exchanges.recordings import (
    Tally,
    read_into,
    recognised,
    replay,
    text_of,
)

ADAPTER = CoinbaseExchange(settings_of("coinbase-exchange"))


def test_a_capture_gives_its_last_prices_and_drops_nothing(recorded: Path) -> None:
    """The other frames are books and acknowledgements."""
    file = recorded / "coinbase" / "cryptofeed_exchange_2021-04-17.ws.gz"
    tally = replay(file, ADAPTER.session(()))
    assert tally == Tally(
        frames=6814,
        updates=tally.updates,
        prices={
            "BAND-GBP": "14.7646",
            "SKL-GBP": "0.5762",
            "NU-GBP": "0.4393",
            "SKL-BTC": "0.00001304",
            "CRV-EUR": "3.2981",
            "BAND-BTC": "0.00033396",
            "SKL-USD": "0.7902",
        },
        books={
            "BAND-GBP": ("14.7320", "14.7906"),
            "SKL-GBP": ("0.5742", "0.5771"),
            "NU-GBP": ("0.4389", "0.4393"),
            "SKL-BTC": ("0.00001302", "0.00001304"),
            "CRV-EUR": ("3.2943", "3.3029"),
            "BAND-BTC": ("0.00033396", "0.00033422"),
            "SKL-USD": ("0.7901", "0.7905"),
        },
    )
    assert dict(tally.updates) == {"ticker": 81, "matches": 81}


def test_a_capture_of_what_was_asked_is_confirmed(recorded: Path) -> None:
    """Its client asked for ticker and matches of these, one channel a message."""
    session = ADAPTER.session(["SKL-USD", "NU-GBP"])
    session.opened()
    replay(recorded / "coinbase" / "cryptofeed_exchange_2021-04-17.ws.gz", session)
    kinds = [type(notice).__name__ for notice in session.notices]
    assert kinds == ["Omitted", "Confirmed"]


def test_answers_of_2017_are_read(recorded: Path) -> None:
    """The host had another name, and product ids were asked for in lower case."""
    file = recorded / "coinbase" / "cassettes_exchange_2017-10-03.jsonl"
    table, ticker = recognised(file, ADAPTER)
    assert ADAPTER.read_failure(table) is None
    assert len(ADAPTER.read_symbols([table])) == 9
    (update,) = ADAPTER.read_snapshot(ticker)
    assert (update.symbol, update.price) == ("BTC-USD", "4417.01000000")
    assert (update.bid, update.ask) == ("4417", "4417.01")
    assert update.event_ms == 1_507_003_231_887


def test_the_recorded_symbol_table_is_read_whole(recorded: Path) -> None:
    """All of the day's 162 products were online."""
    file = recorded / "coinbase" / "cryptofeed_exchange_2021-04-17.products.rest.gz"
    (answer,) = recognised(file, ADAPTER)
    table = ADAPTER.read_symbols([answer])
    assert (len(table), sum(one.active for one in table)) == (162, 162)


@pytest.mark.parametrize(
    ("file", "prices"),
    [
        ("ticker.json", {"BTC-USD": "6800.00000000"}),
        ("heartbeat.json", {}),
        ("l2update.json", {}),
        ("status.json.gz", {}),
        ("subscribe_success.json", {}),
        ("empty_subscriptions.json", {}),
        ("unsubscribe_error.json", {}),
    ],
)
def test_recorded_frames_are_read(
    recorded: Path, file: str, prices: dict[str, str]
) -> None:
    """They are of 2019 to 2021; one has a time of the year 1."""
    tally = Tally()
    frame = text_of(recorded / "coinbase/bennycode" / file).encode()
    read_into(tally, ADAPTER.session(()), frame, 1)
    assert not tally.drops
    assert tally.prices == prices
