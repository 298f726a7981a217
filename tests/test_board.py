"""What changed since a cursor: every case of the contract."""

import json

import pytest

from relay.board import Board, encode
from relay.model import Batch, Cursor, Selection, Ticker, base36

PAIR = Selection.of(["BTC-USD", "ETH-USD"])


def _ticker(offset: int, price: str = "1", *, removed: bool = False) -> bytes:
    return Ticker(price=price, offset=offset, removed=removed).encode()


def _board() -> Board:
    tickers = {"BTC-USD": _ticker(10), "ETH-USD": _ticker(20), "SOL-USD": _ticker(30)}
    return Board.read("k3", 30, 0, tickers)


def test_without_a_cursor_the_whole_selection_is_answered() -> None:
    """A client that has nothing is told everything."""
    changes = _board().changes(PAIR)
    assert list(changes.rows) == ["BTC-USD", "ETH-USD"]
    assert not changes.reset
    assert changes.cursor.offset == 20


@pytest.mark.parametrize(
    ("since", "rows", "reset"),
    [
        (Cursor("k3", PAIR.hash, 10), ["ETH-USD"], False),
        (Cursor("k3", PAIR.hash, 20), [], False),
        (Cursor("k3", PAIR.hash, 0), ["BTC-USD", "ETH-USD"], False),
        (Cursor("k3", "other", 20), ["BTC-USD", "ETH-USD"], False),
        (Cursor("k2", PAIR.hash, 20), ["BTC-USD", "ETH-USD"], True),
    ],
)
def test_a_cursor_gets_what_changed_since(
    since: Cursor,
    rows: list[str],
    reset: bool,  # noqa: FBT001 - one column of a table
) -> None:
    """Any cursor is answered in full, however old or foreign."""
    changes = _board().changes(PAIR, since)
    assert list(changes.rows) == rows
    assert changes.reset is reset


def test_a_cursor_below_the_floor_is_reset() -> None:
    """Markers below the floor are forgotten, so what went away cannot be told."""
    board = _board()
    board.floor = 15
    assert board.changes(PAIR, Cursor("k3", PAIR.hash, 10)).reset
    assert not board.changes(PAIR, Cursor("k3", PAIR.hash, 15)).reset


def test_forgetting_a_marker_does_not_step_back() -> None:
    """The newest row of a selection may be the marker that is forgotten."""
    board = _board()
    board.rows["ETH-USD"] = board.rows["ETH-USD"].read(_ticker(40, removed=True))
    before = board.cursor(PAIR)
    del board.rows["ETH-USD"]
    board.floor = 40
    assert board.cursor(PAIR) == before


def test_a_removed_instrument_is_gone_once_and_missing_after() -> None:
    """``gone`` says what to take off the screen, ``missing`` what is not there."""
    board = _board()
    marker = {"ETH-USD": _ticker(40, "", removed=True)}
    board.apply(Batch(epoch="k3", previous=30, offset=40, tickers=marker))
    told = board.changes(PAIR, Cursor("k3", PAIR.hash, 20))
    assert (told.gone, told.missing, told.rows) == (["ETH-USD"], [], {})
    after = board.changes(PAIR, told.cursor)
    assert (after.gone, after.missing) == ([], ["ETH-USD"])


@pytest.mark.parametrize(
    ("cursor", "behind"),
    [
        (Cursor("k3", "x", 30), False),
        (Cursor("k3", "x", 31), True),
        (Cursor("k4", "x", 1), True),
        (Cursor("k2", "x", 99), False),
        (Cursor("k30", "x", 1), True),
    ],
)
def test_a_cursor_ahead_of_the_board_is_known_as_such(
    cursor: Cursor,
    behind: bool,  # noqa: FBT001 - one column of a table
) -> None:
    """Nothing older may ever answer it."""
    assert _board().is_behind(cursor) is behind


@pytest.mark.parametrize(
    ("epoch", "floor", "offsets"),
    [
        ("k3", 0, {"BTC-USD": 25, "ETH-USD": 20, "SOL-USD": 30, "XMR-USD": 7}),
        ("k3", 7, {"BTC-USD": 25, "ETH-USD": 20, "SOL-USD": 30}),
        ("k2", 0, {"BTC-USD": 10, "ETH-USD": 20, "SOL-USD": 30}),
    ],
)
def test_what_was_held_is_kept_where_the_store_has_lost_it(
    epoch: str, floor: int, offsets: dict[str, int]
) -> None:
    """Of the same epoch, unless it is newer there or was forgotten there."""
    held = {"BTC-USD": _ticker(25), "ETH-USD": _ticker(5), "XMR-USD": _ticker(7)}
    board = _board()
    board.floor = floor
    board.keep(Board.read(epoch, 25, 0, held))
    assert {name: row.offset for name, row in board.rows.items()} == offsets
    assert board.offset == 30


HOUR_MS = 3_600_000
NOW_MS = 1_763_635_200_000


@pytest.mark.parametrize(
    ("cursor", "counts"),
    [
        (Cursor("k3", PAIR.hash, 30), True),
        (Cursor("k3", PAIR.hash, NOW_MS + HOUR_MS), True),
        (Cursor("k3", PAIR.hash, NOW_MS + HOUR_MS + 1), False),
        (Cursor(base36(NOW_MS + HOUR_MS), PAIR.hash, 1), True),
        (Cursor(base36(NOW_MS + HOUR_MS + 1), PAIR.hash, 1), False),
        (Cursor("zzzzzzzzzzzz", PAIR.hash, 1), False),
    ],
)
def test_a_cursor_that_nobody_can_have_handed_out_is_of_no_life_of_the_board(
    cursor: Cursor,
    counts: bool,  # noqa: FBT001 - one column of a table
) -> None:
    """An hour is more than any instance lags; to wait for more is to wait for ever."""
    board = _board()
    heeded = board.heed(cursor, NOW_MS)
    assert (heeded == cursor) is counts
    if not counts:
        assert not board.is_behind(heeded)
        assert board.changes(PAIR, heeded).reset


def test_a_board_ahead_of_the_clock_knows_its_own_cursors() -> None:
    """Its numbers and its epoch never go back, whatever the clock has done since."""
    board = Board.read("zzzzzzzzzzzz", 10**15, 0, {})
    own = Cursor("zzzzzzzzzzzz", PAIR.hash, 10**15 + HOUR_MS)
    assert board.heed(own, NOW_MS) == own


@pytest.mark.parametrize(("epoch", "behind"), [("0k4", True), ("00000k2", False)])
def test_zeros_before_an_epoch_make_it_no_later(
    epoch: str,
    behind: bool,  # noqa: FBT001 - one column of a table
) -> None:
    """Nobody has to write a number as we do."""
    assert _board().is_behind(Cursor(epoch, PAIR.hash, 1)) is behind


def test_a_body_is_json_of_the_contract() -> None:
    """The tickers are copied as published."""
    body = json.loads(encode(_board().changes(PAIR), live=True, suffix="~7"))
    assert body["cursor"] == f"k3.{PAIR.hash}.20~7"
    assert body["as_of_ms"] == 20
    assert body["live"] is True
    assert body["prices"]["ETH-USD"] == {"price": "1", "offset": 20}
    assert (body["missing"], body["gone"]) == ([], [])
    assert "reset" not in body


def test_the_whole_board_has_nothing_missing() -> None:
    """Nobody named what is not there."""
    everything = Selection.of(None)
    assert list(_board().changes(everything).rows) == ["BTC-USD", "ETH-USD", "SOL-USD"]
    assert _board().changes(everything).missing == []


def test_before_the_store_was_read_every_cursor_counts() -> None:
    """The machine's own clock may be wrong, and no offset is known to go by."""
    cursor = Cursor("k3f9", "abc", 10**15)
    assert Board().heed(cursor, now_ms=0) == cursor
