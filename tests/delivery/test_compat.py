"""The older words for a board: names, numbers, instants, states, counters."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from relay.board import Board, Changes
from relay.config import Settings
from relay.delivery.compat import (
    EVERYTHING,
    Asked,
    Fed,
    Health,
    Line,
    Phase,
    Priced,
    Sight,
    Slugs,
    Writer,
    iso,
    iso_seconds,
    json_number,
    main_source,
    phase_of,
    resolve,
)
from relay.delivery.compat_counts import Uplinks
from relay.delivery.compat_sse import read_pairs
from relay.delivery.query import Names, QueryInvalid
from relay.errors import SelectionInvalid
from relay.group import Frame
from relay.model import Cursor, Ticker

NOON_MS = 1_768_564_800_123


@pytest.fixture
def names(settings: Settings) -> Names:
    """Return the names as they are configured."""
    return Names(settings.board)


@pytest.fixture
def slugs(settings: Settings, names: Names) -> Slugs:
    """Return the slugs as they are configured."""
    return Slugs(settings.board.names, names)


def frame(**tickers: Ticker) -> Frame:
    """Return a frame with these, ``BTC_USD`` for an instrument."""
    rows = {name.replace("_", "-"): one.encode() for name, one in tickers.items()}
    cursor = Cursor("k3f9", "7qx", NOON_MS)
    changes = Changes(cursor=cursor, rows=rows, missing=[], gone=[])
    return Frame(changes, live=True, news=True)


@pytest.mark.parametrize(
    ("instrument", "slug"),
    [
        ("BTC-USD", "bitcoin"),
        ("XRP-USD", "xrp"),
        ("AVAX-USD", "avalanche"),
        ("BNB-USD", "binance-coin"),
        ("BTC-EUR", "BTC-EUR"),
        ("BTC-USDT", "BTC-USDT"),
        ("FOO-USD", "FOO-USD"),
    ],
)
def test_an_asset_goes_by_its_first_name(
    slugs: Slugs, instrument: str, slug: str
) -> None:
    """One name for one instrument, and none that means another currency."""
    assert slugs[instrument] == slug


def test_every_slug_leads_back_to_its_instrument(
    settings: Settings, names: Names, slugs: Slugs
) -> None:
    """So that what was answered can be asked for."""
    for name in settings.board.names:
        instrument = names.resolve(name)
        assert names.resolve(slugs[instrument]) == instrument


def test_slugs_are_in_lower_case(settings: Settings) -> None:
    """However the configuration writes them."""
    board = replace(settings.board, names={"BitCoin": "BTC"})
    assert Slugs(board.names, Names(board))["BTC-USD"] == "bitcoin"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("45000.50", "45000.50"),
        ("0.00001000", "0.00001000"),
        ("3000.12345678901234567890", "3000.12345678901234567890"),
        ("1e-7", "1e-7"),
        (".5", "0.5"),
        ("5.", "5"),
        ("007.10", "7.10"),
        ("+1.0", "1.0"),
    ],
)
def test_a_price_becomes_a_number_digit_for_digit(text: str, number: str) -> None:
    """Only what JSON does not take is written otherwise, to the same worth."""
    assert json_number(text) == number


@given(st.decimals(min_value=0, allow_nan=False, allow_infinity=False))
def test_every_price_is_a_number_of_json(price: Decimal) -> None:
    """And the same one."""
    number = json_number(str(price))
    assert json.loads(number, parse_float=Decimal, parse_int=Decimal) == price


def test_instants_are_iso_in_utc() -> None:
    """With milliseconds, also where there are none; without where it was so."""
    assert iso(NOON_MS) == "2026-01-16T12:00:00.123Z"
    assert iso(1_768_539_600_000) == "2026-01-16T05:00:00.000Z"
    assert iso_seconds(NOON_MS) == "2026-01-16T12:00:00Z"


def test_ids_are_answered_as_they_were_asked(names: Names, settings: Settings) -> None:
    """Each spelling once, in the order of asking; they are one instrument."""
    asked = Asked.read(["btc", " ETH/USD", "btc", "bitcoin", ""], names, settings.http)
    assert asked.pairs == (
        ("btc", "BTC-USD"),
        ("ETH/USD", "ETH-USD"),
        ("bitcoin", "BTC-USD"),
    )
    assert asked.selection.instruments == ("BTC-USD", "ETH-USD")


@pytest.mark.parametrize("texts", [[], [""], ["!!"], ["btc", "a b"]])
def test_what_cannot_be_asked_for_is_refused(
    names: Names, settings: Settings, texts: list[str]
) -> None:
    """By those who have no other answer; some prices are answered without it."""
    with pytest.raises(SelectionInvalid):
        Asked.read(texts, names, settings.http)
    known = {"btc": "BTC-USD"} if "btc" in texts else {}
    assert resolve(texts, names) == known


def test_a_frame_is_written_in_the_words_of_who_asked(
    slugs: Slugs, names: Names, settings: Settings
) -> None:
    """All of it by slugs, or what was asked for by its ids; once for all who share."""
    writer = Writer(slugs)
    one = frame(
        BTC_EUR=Ticker(price="7", source="kraken"),
        BTC_USD=Ticker(price="5.0", source="coinbase", received_ms=4),
    )
    whole = json.loads(writer.update((one,), EVERYTHING))
    assert whole["prices"] == {"BTC-EUR": "7", "bitcoin": "5.0"}
    assert whole["timestamp"] == "2026-01-16T12:00:00.123Z"
    asked = Asked.read(["bitcoin", "BTC/USD", "ETH"], names, settings.http)
    update = writer.update((one,), asked)
    assert json.loads(update)["prices"] == {"bitcoin": "5.0", "BTC/USD": "5.0"}
    again = Asked.read(["bitcoin", "BTC/USD", "ETH"], names, settings.http)
    assert writer.update((one,), again) is update
    assert writer.events(one, asked, streams=True) == (
        b'data: {"pair":"bitcoin","price":5.0,"priceText":"5.0","timestamp":4,'
        b'"source":"coinbase","cached":false}\n\n'
        b'data: {"pair":"BTC/USD","price":5.0,"priceText":"5.0","timestamp":4,'
        b'"source":"coinbase","cached":false}\n\n'
    )


def test_frames_that_are_sent_together_are_one_update(slugs: Slugs) -> None:
    """With the newest of each price."""
    writer = Writer(slugs)
    first = frame(BTC_USD=Ticker(price="1"), ETH_USD=Ticker(price="2"))
    second = frame(BTC_USD=Ticker(price="3"))
    update = json.loads(writer.update((first, second), EVERYTHING))
    assert update["prices"] == {"bitcoin": "3", "ethereum": "2"}


def test_a_frame_without_prices_says_nothing(slugs: Slugs) -> None:
    """Older clients have no word for what is missing or gone."""
    writer = Writer(slugs)
    assert writer.update((frame(),), EVERYTHING) == ""
    assert writer.events(frame(), EVERYTHING, streams=True) == b""
    unpriced = frame(BTC_USD=Ticker(bid="1"))
    assert writer.update((unpriced,), EVERYTHING) == ""
    assert writer.events(unpriced, EVERYTHING, streams=True) == b""


def test_a_price_is_cached_when_it_is_old_or_nothing_streams(slugs: Slugs) -> None:
    """Its time is when it was published, where nothing else is known."""
    writer = Writer(slugs)
    fresh = frame(BTC_USD=Ticker(price="5", offset=9))
    stale = frame(BTC_USD=Ticker(price="5", stale=True))
    assert b'"timestamp":9' in writer.events(fresh, EVERYTHING, streams=True)
    assert b'"cached":true' in writer.events(fresh, EVERYTHING, streams=False)
    assert b'"cached":true' in writer.events(stale, EVERYTHING, streams=True)


def test_the_source_is_where_most_prices_come_from() -> None:
    """The first by name of several, and none of nothing."""
    sources = ["kraken", "binance", "binance", "kraken", "coincap", ""]
    assert main_source([Priced(source=one) for one in sources]) == "binance"
    assert main_source([Priced()]) is None


def test_what_is_removed_is_not_seen() -> None:
    """Neither counted nor named."""
    tickers = {
        "A-USD": Ticker(price="1", source="kraken", received_ms=3, offset=5).encode(),
        "B-USD": Ticker(removed=True, offset=7).encode(),
    }
    sight = Sight.of(Board.read("k3f9", 7, 0, tickers))
    assert list(sight.priced) == ["A-USD"]
    assert (sight.source, sight.as_of_ms, sight.newest_ms) == ("kraken", 5, 3)


@pytest.mark.parametrize(
    ("live", "alive", "phase"),
    [
        (False, [True], "disconnected"),
        (True, [], "connected"),
        (True, [True, False], "connected"),
        (True, [False, False], "reconnecting"),
    ],
)
def test_the_state_is_the_leaders(live: bool, alive: list[bool], phase: Phase) -> None:  # noqa: FBT001 - a row of the table
    """Nobody reads; somebody does; somebody tries."""
    health = Health({f"s{number}": Fed(one) for number, one in enumerate(alive)})
    assert phase_of(live=live, health=health) == phase


OPEN = Line("open", 1000)


@pytest.mark.parametrize(
    ("lines", "opened", "reopened", "failed"),
    [
        ([OPEN], 1, 0, 0),
        ([OPEN, OPEN, OPEN], 1, 0, 0),
        ([Line("connecting", 500), OPEN], 1, 0, 0),
        ([OPEN, Line("open", 2000)], 2, 1, 0),
        ([OPEN, Line("waiting", 2000, "cut"), Line("open", 3000, "cut")], 2, 1, 1),
        ([Line("waiting", 9, "no route"), OPEN], 1, 1, 1),
        ([Line("waiting", 9, "a"), Line("waiting", 9, "b")], 0, 0, 2),
    ],
)
def test_connections_are_counted_when_they_are_seen_to_open(
    lines: list[Line], opened: int, reopened: int, failed: int
) -> None:
    """Whatever stays as it is counts once."""
    uplinks = Uplinks()
    for number, line in enumerate(lines):
        uplinks.look(Health(streams={"kraken": [line]}), 4000 + number)
    counted = (uplinks.opened, uplinks.reopened, uplinks.failed)
    assert counted == (opened, reopened, failed)


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([Line("open", 9, "Currency pair not supported")], "REQUEST_REFUSED"),
        ([OPEN, Line("open", 1000, "authentication failure")], "REQUEST_REFUSED"),
        ([Line("connecting", 9), Line("open", 10, "refused")], "REQUEST_REFUSED"),
        ([OPEN, Line("waiting", 2000, "cut")], "CONNECTION_LOST"),
        ([OPEN, Line("open", 2000, "cut")], "CONNECTION_LOST"),
        ([Line("connecting", 9), Line("waiting", 9, "no route")], "CONNECTION_FAILED"),
    ],
)
def test_a_connection_is_lost_only_when_it_was_open_and_is_not(
    lines: list[Line], code: str
) -> None:
    """An exchange that says no over an open one has not hung up."""
    uplinks = Uplinks()
    for line in lines:
        uplinks.look(Health(streams={"kraken": [line]}), 4000)
    assert [error[0] for error in uplinks.recent] == [code]


def test_a_source_that_dies_is_an_error_with_its_reason() -> None:
    """Once, until it has lived again; what is told is bounded, the count is not."""
    uplinks = Uplinks()
    for now_ms in range(0, 60_000, 1000):
        alive = now_ms % 3000 == 0
        fed = Fed(alive, "" if alive else "silent")
        uplinks.look(Health({"kraken": fed}), now_ms)
    assert uplinks.failed == 20
    assert len(uplinks.recent) == 10
    assert uplinks.recent[0][:2] == ("SOURCE_DOWN", "kraken: silent")
    uplinks.reset()
    uplinks.look(Health({"kraken": Fed(alive=False, reason="silent")}), 60_000)
    assert (uplinks.failed, list(uplinks.recent)) == (0, [])


def test_pairs_are_read_and_other_parameters_passed_over() -> None:
    """Repeated or in a row."""
    assert read_pairs(b"x=1&pairs=BTC/USD,ETH%2FUSD&pairs=a") == [
        "BTC/USD",
        "ETH/USD",
        "a",
    ]
    for query in (b"", b"pairs=", b"pairs=%FF", "pairs=é".encode(), b"&" * 40 + b"a=1"):
        with pytest.raises(QueryInvalid):
            read_pairs(query)
