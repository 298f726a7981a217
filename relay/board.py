"""The board in memory: every instrument's JSON with the offset of its last change.

Pure, and the one place that answers "what changed since this cursor". ``hub`` keeps one
by following the log; a handler without a hub makes one from what it has just read.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final, Self

import msgspec
from msgspec import Struct

from relay.model import Batch, Cursor, Selection, base36


class _Place(Struct, frozen=True):
    """The two fields of a ticker that say where it stands."""

    offset: int
    removed: bool = False


_place: Final = msgspec.json.Decoder(_Place)
# A board that nothing was published on is of an epoch before all others, so that its
# cursor can be sent back like any other.
_BEFORE: Final = "0"
# The epoch of no board: whatever comes with it is answered whole, as a reset.
_NEVER: Final = ""
# Further ahead than any instance lags, and than clocks of a store that is restored from
# an older copy differ.
_AHEAD_MAX_MS: Final = 3_600_000
_json: Final = msgspec.json.Encoder()


class Row(Struct, frozen=True, gc=False):
    """One instrument: its ticker's JSON as published, and where it stands."""

    ticker: bytes
    offset: int
    removed: bool

    @classmethod
    def read(cls, ticker: bytes) -> Self:
        """Make a row of a ticker's JSON."""
        place = _place.decode(ticker)
        return cls(ticker, place.offset, place.removed)


class Changes(Struct, frozen=True, kw_only=True):
    """What a client is to be told: rows, and the cursor that it then holds.

    ``reset`` means that what the client holds is of another life of the board, and
    is to be thrown away.
    """

    cursor: Cursor
    rows: dict[str, bytes]
    missing: list[str]
    gone: list[str]
    reset: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.rows or self.gone or self.reset)


class Board:
    """Every instrument's newest row, as of one offset of one epoch."""

    def __init__(self, epoch: str = "", offset: int = 0, floor: int = 0) -> None:
        self.epoch, self.offset, self.floor = epoch, offset, floor
        self.rows: dict[str, Row] = {}

    @classmethod
    def read(
        cls, epoch: str, offset: int, floor: int, tickers: Mapping[str, bytes]
    ) -> Self:
        """Make a board of what the store holds.

        ``tickers`` may be newer than ``offset`` when they were read after it. An empty
        ``epoch`` means that nothing was published yet.
        """
        board = cls(epoch or _BEFORE, offset, floor)
        board.rows = dict(_rows(tickers))
        for row in board.rows.values():
            board.offset = max(board.offset, row.offset)
        return board

    def follows(self, batch: Batch) -> bool:
        """Tell whether a batch is the next one: nothing lies between."""
        return batch.epoch == self.epoch and batch.previous == self.offset

    def knows(self, batch: Batch) -> bool:
        """Tell whether a batch is one that the board already holds."""
        return batch.epoch == self.epoch and batch.offset <= self.offset

    def apply(self, batch: Batch) -> None:
        """Take in the next batch."""
        assert self.follows(batch)
        self.offset = batch.offset
        self.rows.update(_rows(batch.tickers))

    def keep(self, held: "Board") -> None:
        """Keep rows that were held and are newer than these: the store has lost them.

        A store that came back from an older copy, with another leader than the one who
        filled it, goes on in its epoch.
        """
        if held.epoch != self.epoch:
            return
        for name, row in held.rows.items():
            ours = self.rows.get(name)
            if row.offset > (self.floor if ours is None else ours.offset):
                self.rows[name] = row

    def copy(self) -> "Board":
        """Return a board that stays as this one is now; rows are shared."""
        board = Board(self.epoch, self.offset, self.floor)
        board.rows = dict(self.rows)
        return board

    def is_behind(self, cursor: Cursor) -> bool:
        """Tell whether a cursor is ahead of this board: nothing older may answer it."""
        if cursor.epoch == self.epoch:
            return cursor.offset > self.offset
        return _age(cursor.epoch) > _age(self.epoch)

    def heed(self, cursor: Cursor, now_ms: int) -> Cursor:
        """Return a client's cursor as it counts here; ``now_ms`` is the store's clock.

        One so far ahead that nobody can have handed it out is of no life of the board:
        to wait for it would be to wait for ever. Until the store was read all count.
        """
        if not self.epoch:
            return cursor
        latest_ms = max(self.offset, now_ms) + _AHEAD_MAX_MS
        latest = max(_age(self.epoch), _age(base36(latest_ms)))
        if cursor.offset <= latest_ms and _age(cursor.epoch) <= latest:
            return cursor
        return Cursor(_NEVER, cursor.selection, 0)

    def cursor(self, selection: Selection) -> Cursor:
        """Return the selection's place: the newest offset among its rows.

        Never below the floor, so that forgetting a marker does not step back.
        """
        names = self._names(selection)
        offsets = (self.rows[name].offset for name in names if name in self.rows)
        newest = max(offsets, default=0)
        return Cursor(self.epoch, selection.hash, max(newest, self.floor))

    def changes(self, selection: Selection, since: Cursor | None = None) -> Changes:
        """Return what changed since a cursor; everything selected where it says little.

        A cursor of another selection gets the whole selection, one of another epoch
        or below the floor gets it as a reset.
        """
        reset = since is not None and self._is_foreign(since)
        whole = reset or since is None or since.selection != selection.hash
        after = -1 if since is None or whole else since.offset
        rows: dict[str, bytes] = {}
        missing: list[str] = []
        gone: list[str] = []
        for name in self._names(selection):
            row = self.rows.get(name)
            if row is None or (row.removed and (whole or row.offset <= after)):
                if selection.instruments is not None:
                    missing.append(name)
            elif row.removed:
                gone.append(name)
            elif row.offset > after:
                rows[name] = row.ticker
        return Changes(
            cursor=self.cursor(selection),
            rows=rows,
            missing=missing,
            gone=gone,
            reset=reset,
        )

    def has_changed(self, selection: Selection, since: Cursor) -> bool:
        """Tell whether ``changes`` since this cursor would have anything to say."""
        if self._is_foreign(since) or since.selection != selection.hash:
            return True
        return self.cursor(selection).offset > since.offset

    def _is_foreign(self, cursor: Cursor) -> bool:
        return cursor.epoch != self.epoch or cursor.offset < self.floor

    def _names(self, selection: Selection) -> Iterable[str]:
        if selection.instruments is not None:
            return selection.instruments
        return sorted(self.rows)


def _rows(tickers: Mapping[str, bytes]) -> Iterator[tuple[str, Row]]:
    """Read rows; a ticker that nobody can read is as good as none."""
    for name, ticker in tickers.items():
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            yield name, Row.read(ticker)


def _age(epoch: str) -> tuple[int, str]:
    """Order epochs, which are times in base 36: a longer one is later."""
    digits = epoch.lstrip("0")
    return len(digits), digits


def encode(changes: Changes, *, live: bool, suffix: str = "") -> bytes:
    """Write the body that REST, poll, SSE and WebSocket share.

    Every byte is a function of the cursor with its suffix: ``as_of_ms`` is the
    cursor's offset, the moment of publishing. Tickers are copied as published.
    """
    cursor = changes.cursor
    members = b",".join(
        b"%b:%b" % (_json.encode(name), ticker) for name, ticker in changes.rows.items()
    )
    return b'{"cursor":"%b%b","as_of_ms":%d,"live":%b,%b"prices":{%b},%b' % (
        str(cursor).encode(),
        suffix.encode(),
        cursor.offset,
        b"true" if live else b"false",
        b'"reset":true,' if changes.reset else b"",
        members,
        b'"missing":%b,"gone":%b}'
        % (_json.encode(changes.missing), _json.encode(changes.gone)),
    )
