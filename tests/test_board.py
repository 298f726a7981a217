"""What changed since a cursor: every case of the contract."""

import json

import pytest

from relay.board import Board, encode
from relay.model import Batch, Cursor, Selection, Ticker

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
