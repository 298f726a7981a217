"""A board that a test moves by hand, and the groups that look at it. No store."""

from relay.board import Board
from relay.group import NOWHERE, Group, Groups, Mailbox, Place, Wish
from relay.model import Batch, Cursor, Selection, Ticker

PAIR = Selection.of(["BTC-USD", "ETH-USD"])
EPOCH = "k3f9"


def ticker(offset: int, price: str = "1") -> bytes:
    """Return a ticker's JSON."""
    return Ticker(price=price, offset=offset).encode()


def keep_all(rows: dict[str, bytes], fields: tuple[str, ...]) -> dict[str, bytes]:
    """Trim nothing: what is trimmed is the delivery's."""
    assert not fields
    return rows


class Scene:
    """A board that a test moves by hand, and the groups that look at it."""

    def __init__(self) -> None:
        names = ["BTC-USD", "ETH-USD", "SOL-USD"]
        tickers = {name: ticker(10) for name in names}
        self.board: Board | None = Board.read(EPOCH, 10, 0, tickers)
        self.cut: Board | None = self.board.copy()
        self.live = True
        self.groups = Groups(
            lambda: (self.board, self.live), lambda: (self.cut, self.live)
        )

    def publish(self, *names: str) -> int:
        """Let these change, each to its offset as a price; returns the offset."""
        assert self.board is not None
        offset = self.board.offset + 1
        tickers = {name: ticker(offset, f"{offset}") for name in names}
        self.board.apply(
            Batch(epoch=EPOCH, previous=offset - 1, offset=offset, tickers=tickers)
        )
        self.groups.touch(names, 0)
        return offset

    def mark(self) -> None:
        """Cut, and release those whom marks release."""
        assert self.board is not None
        self.cut = self.board.copy()
        self.groups.note_cut()
        self.groups.turn_cuts(0)

    def find(self, wish: Wish) -> Group:
        """Return the group of a wish."""
        return self.groups.find(wish, keep_all)

    def enter(self, wish: Wish, place: Place = NOWHERE) -> Mailbox:
        """Return a new client in the group of its wish."""
        mailbox = self.groups.open("poll" if wish.cuts else "sse", 0)
        mailbox.join(self.find(wish), place)
        return mailbox


def place_at(offset: int, selection: Selection = PAIR) -> Place:
    """Return what a client holds that has read up to an offset."""
    return Place(Cursor(EPOCH, selection.hash, offset))
