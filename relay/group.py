"""The fan-out of one instance: clients that want the same share one frame.

Nothing here reads the store or writes to a socket: ``hub`` rings, ``delivery`` and
``rank`` send.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, Literal, Protocol, Self, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from relay.board import Board, Changes, encode
from relay.model import Cursor, Selection

Way = Literal["poll", "sse", "ws"]

# Of one group, between two rings. Clients that keep up share a single place; only
# somebody who invents cursors comes near this.
_FRAMES_MAX: Final = 1000

# A client that takes nothing for so long shows in the gauge of stalled readers.
_STALLED_MS: Final = 1000

NEVER: Final = 1 << 62
"""An instant that does not come, in milliseconds."""


class Counts:
    """What the fan-out did since the process began, and how many it serves now.

    ``cut_off``, ``refused`` and ``refreshes`` of the whole board are by reason;
    ``updates`` are tickers that came with batches, ``taking_ms`` the time that taking
    them in and telling everybody took; ``clients`` and ``stalled`` are as of now, all
    others only grow.
    """

    def __init__(self) -> None:
        self.clients: Counter[str] = Counter()
        self.deliveries: Counter[str] = Counter()
        self.cut_off: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.refreshes: Counter[str] = Counter()
        self.encoded = 0
        self.conflated = 0
        self.stalled = 0
        self.updates = 0
        self.taking_ms = 0


class Place(Struct, frozen=True, cache_hash=True):
    """What a client holds: its cursor, and whether it was told that all is live."""

    cursor: Cursor | None = None
    live: bool = True

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a cursor as it comes back; its suffix tells what the client was told.

        Raises:
            CursorInvalid: the text is not one of ours.
        """
        return cls(Cursor.parse(text), not text.partition("~")[2].startswith("d"))

    @property
    def known(self) -> bool:
        """Whether there is a cursor, and one that can be handed back."""
        return self.cursor is not None and bool(self.cursor.epoch)

    def heeded(self, board: Board, now_ms: int) -> "Place":
        """Return this place as it counts on a board; see ``Board.heed``."""
        if self.cursor is None:
            return self
        return Place(board.heed(self.cursor, now_ms), self.live)


NOWHERE: Final = Place()
"""A client that holds nothing yet."""


class Frame:
    """One body, the same bytes for everybody who held the same place before it.

    ``news`` is False when nothing but ``live`` has changed.
    """

    __slots__ = ("_event", "_update", "body", "news", "place", "text")

    def __init__(self, changes: Changes, *, live: bool, news: bool) -> None:
        suffix = "" if live else "~d"
        self.place = Place(changes.cursor, live)
        self.text = f"{changes.cursor}{suffix}"
        self.body = encode(changes, live=live, suffix=suffix)
        self.news = news
        self._event = b""
        self._update = ""

    @property
    def event(self) -> bytes:
        """The frame as a server-sent event; its id is the cursor."""
        if not self._event:
            self._event = b"id: %b\ndata: %b\n\n" % (self.text.encode(), self.body)
        return self._event

    @property
    def update(self) -> str:
        """The frame as a WebSocket message: the body, with its type before all else."""
        if not self._update:
            self._update = f'{{"type":"update",{self.body.decode()[1:]}'
        return self._update


Trim = Callable[[dict[str, bytes], tuple[str, ...]], dict[str, bytes]]

Look = Callable[[], tuple[Board | None, bool]]
"""Returns the board to answer from, None while there is none, and whether it lives."""


class Wish(Struct, frozen=True):
    """What a client wants to be told, and when.

    ``pace_ms`` is 0 for every change; ``cuts`` is for those whom only marks release.
    """

    selection: Selection
    fields: tuple[str, ...] = ()
    pace_ms: int = 0
    cuts: bool = False

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two wishes the same, without comparing every instrument."""
        return self.selection.hash, self.fields, self.pace_ms, self.cuts


class Ringing(Protocol):
    """Clients who are rung together, and not by a bell each."""

    def ring(self) -> None:
        """Let them know that there may be something to tell."""


class Group:
    """The clients of one wish. A frame is encoded once for each place they hold.

    ``ranks`` are rung after those who have a bell.
    """

    def __init__(self, wish: Wish, look: Look, trim: Trim, counts: Counts) -> None:
        self.wish = wish
        self.members: set[Mailbox] = set()
        self.ranks: dict[object, Ringing] = {}
        self.rung = 0
        self.counts = counts
        self._look, self._trim = look, trim
        self._frames: dict[Place, Frame | None] = {}
        self._live = True
        self._paced: asyncio.TimerHandle | None = None
        self._rung_s = 0.0

    def frame(self, place: Place) -> Frame | None:
        """Return what brings this place up to date; None when there is nothing to say.

        Somebody who is ahead of us hears nothing until we have caught up.
        """
        board, live = self._look()
        if board is None:
            return None
        if live is not self._live or len(self._frames) > _FRAMES_MAX:
            self._frames.clear()
            self._live = live
        try:
            return self._frames[place]
        except KeyError:
            frame = self._frames[place] = self._find(board, place, live=live)
            return frame

    def _find(self, board: Board, place: Place, *, live: bool) -> Frame | None:
        since = place.cursor
        if since is not None and board.is_behind(since):
            return None
        news = since is None or board.has_changed(self.wish.selection, since)
        if not news and place.live is live:
            return None
        changes = board.changes(self.wish.selection, since)
        if not news:  # only ``live`` has turned: the client stays where it is
            changes = replace(changes, cursor=since)
        return self.encode(changes, live=live, news=news)

    def encode(self, changes: Changes, *, live: bool, news: bool) -> Frame:
        """Write a frame of the fields that this group wants."""
        self.counts.encoded += 1
        rows = self._trim(changes.rows, self.wish.fields)
        return Frame(replace(changes, rows=rows), live=live, news=news)

    def touch(self, now_ms: int) -> None:
        """Take note that something selected has changed; rings when the pace allows."""
        self._frames.clear()
        if not self.wish.pace_ms:
            self.ring(now_ms)
        elif self._paced is None:
            loop = asyncio.get_running_loop()
            due_s = max(self._rung_s + self.wish.pace_ms / 1000, loop.time())
            self._paced = loop.call_at(due_s, self._ring_paced, now_ms)

    def _ring_paced(self, now_ms: int) -> None:
        self._paced = None
        self._rung_s = asyncio.get_running_loop().time()
        self.ring(now_ms)

    def turn(self, now_ms: int) -> None:
        """Look at everything anew: another cut, another board, or another ``live``."""
        self._frames.clear()
        self.ring(now_ms)

    def ring(self, now_ms: int) -> None:
        """Wake, in one pass, every waiting client that there is something to tell."""
        self.rung += 1
        for mailbox in self.members:
            if mailbox.bell is None:
                continue  # it writes, and looks when that has drained; or has no task
            mailbox.rung = self.rung
            frame = self.frame(mailbox.place)
            if frame is not None or mailbox.due_ms <= now_ms:
                mailbox.answer(frame)
        for ranks in tuple(self.ranks.values()):
            ranks.ring()

    def close(self) -> None:
        """Forget a pace that is still to be kept."""
        if self._paced is not None:
            self._paced.cancel()
            self._paced = None


class Mailbox:
    """One client: the place it holds, and the bell it waits for.

    Nothing is queued. While a client writes it has no bell; when the write has drained
    it looks for the newest frame. Use as a context manager: leaving it forgets the
    client.
    """

    __slots__ = (
        "_groups",
        "bell",
        "due_ms",
        "group",
        "limit",
        "place",
        "rung",
        "way",
        "writing",
        "wrote_ms",
    )

    def __init__(self, groups: "Groups", way: Way, now_ms: int) -> None:
        self._groups, self.way = groups, way
        self.group: Group | None = None
        self.place = NOWHERE
        self.bell: asyncio.Future[Frame | None] | None = None
        self.rung = -1
        self.due_ms = NEVER
        self.wrote_ms = now_ms
        self.writing = False
        self.limit: asyncio.Timeout | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._groups.close(self)

    def join(self, group: Group, place: Place, *, looked: bool = False) -> None:
        """Belong to a group from now on, and to no other.

        ``looked`` is for a client that has seen what the group has for it.
        """
        self._groups.move(self, group)
        self.place = place
        self.rung = self.group.rung if looked and self.group is not None else -1

    def listen(self) -> "asyncio.Future[Frame | None]":
        """Return the next frame to come, or None when the bell rings without one.

        A function and not a coroutine: a waiting client costs one future.
        """
        self.bell = bell = asyncio.get_running_loop().create_future()
        frame = self.look()
        if frame is not None:
            self.answer(frame)
        return bell

    def look(self) -> Frame | None:
        """Return what was rung for since this client looked, as one frame."""
        group = self.group
        if group is None or self.rung == group.rung:
            return None
        if self.rung >= 0:
            # All but the newest of what was rung while this one wrote.
            self._groups.counts.conflated += group.rung - self.rung - 1
        self.rung = group.rung
        return group.frame(self.place)

    def answer(self, frame: Frame | None) -> None:
        """Ring this client's bell, if it waits."""
        bell, self.bell = self.bell, None
        if bell is None or bell.done():
            return
        bell.set_result(frame)
        if frame is not None:
            self.place = frame.place
            self._groups.counts.deliveries[self.way] += 1

    def wake(self) -> None:
        """Let a client that waits look around: it has hung up, for instance."""
        self.answer(None)

    def is_idle(self, now_ms: int, quiet_ms: int) -> bool:
        """Tell whether nothing was written for so long."""
        return now_ms - self.wrote_ms >= quiet_ms

    def begin(self, now_ms: int) -> None:
        """Say that a write begins; it must have drained by the deadline."""
        self.wrote_ms = now_ms
        self.writing = True

    def end(self) -> None:
        """Ask a client to finish, now or when its write has drained."""
        self.due_ms = 0
        self.answer(None)

    def cut(self) -> bool:
        """End a write that does not drain; False when nobody knows how."""
        if self.limit is None:
            return False
        self.limit.reschedule(0)
        return True


Box = TypeVar("Box", bound=Mailbox)


class Groups:
    """Every group and every client of one instance."""

    def __init__(self, board: Look, cut: Look) -> None:
        self.counts = Counts()
        self.streams: set[Mailbox] = set()
        self.notice = b""
        self._board, self._cut = board, cut
        self._groups: dict[tuple[object, ...], Group] = {}
        self._cuts: set[Group] = set()
        # What has changed since the newest cut, and what that one brought and nobody
        # was told of; each with whether it is everything, when nobody can tell.
        self._changed: set[str] = set()
        self._brought: set[str] = set()
        self._all_changed = self._all_brought = True
        self._whole: set[Group] = set()
        self._by_name: dict[str, set[Group]] = {}

    def find(self, wish: Wish, trim: Trim) -> Group:
        """Return the group of a wish. It is kept while it has members."""
        found = self._groups.get(wish.key)
        if found is not None:
            return found
        look = self._cut if wish.cuts else self._board
        return Group(wish, look, trim, self.counts)

    def open(self, way: Way, now_ms: int) -> Mailbox:
        """Count a client in."""
        return self.open_as(Mailbox, way, now_ms)

    def open_as(self, kind: type[Box], way: Way, now_ms: int) -> Box:
        """Count a client in, of a kind of its own."""
        mailbox = kind(self, way, now_ms)
        self.counts.clients[way] += 1
        if way != "poll":
            self.streams.add(mailbox)
        return mailbox

    def close(self, mailbox: Mailbox) -> None:
        """Count a client out."""
        self.counts.clients[mailbox.way] -= 1
        self.streams.discard(mailbox)
        self.move(mailbox, None)

    def move(self, mailbox: Mailbox, group: Group | None) -> None:
        """Put a client into a group, or into none; an empty group is forgotten."""
        old = mailbox.group
        if old is not None:
            old.members.discard(mailbox)
            if not old.members:
                self._drop(old)
        if group is not None:
            # Somebody else may have made the same group since it was looked for.
            group = self._groups.setdefault(group.wish.key, group)
            if not group.members:
                self._keep(group)
            group.members.add(mailbox)
        mailbox.group = group

    def _keep(self, group: Group) -> None:
        names = group.wish.selection.instruments
        if group.wish.cuts:
            self._cuts.add(group)
        elif names is None:
            self._whole.add(group)
        else:
            for name in names:
                self._by_name.setdefault(name, set()).add(group)

    def _drop(self, group: Group) -> None:
        group.close()
        del self._groups[group.wish.key]
        self._cuts.discard(group)
        self._whole.discard(group)
        for name in group.wish.selection.instruments or ():
            groups = self._by_name.get(name)
            if groups is not None:
                groups.discard(group)
                if not groups:
                    del self._by_name[name]

    def touch(self, names: Iterable[str], now_ms: int) -> None:
        """Tell the groups of these instruments that something has changed."""
        touched = set(self._whole)
        self._changed.update(names)
        for name in names:
            touched |= self._by_name.get(name, _NONE)
        for group in touched:
            group.touch(now_ms)

    def note_cut(self) -> None:
        """Note that a cut was taken: it brings all that has changed until now."""
        self._brought |= self._changed
        self._changed = set()
        self._all_brought |= self._all_changed
        self._all_changed = False

    def turn_cuts(self, now_ms: int) -> None:
        """Release those whom only marks release.

        What the newest cut did not change for a group holds on, however many wait.
        """
        brought, self._brought = self._brought, set()
        everybody, self._all_brought = self._all_brought, False
        for group in self._cuts:
            if everybody or _touches(brought, group.wish.selection):
                group.turn(now_ms)
            else:
                group.ring(now_ms)

    def turn(self, now_ms: int) -> None:
        """Let everybody look anew."""
        self._all_changed = True
        for group in self._groups.values():
            group.turn(now_ms)

    def announce(self, notice: bytes) -> None:
        """Let every stream of events carry this once; only the newest counts."""
        self.notice = notice
        for mailbox in list(self.streams):
            if mailbox.way == "sse":
                mailbox.wake()

    def release(self) -> None:
        """Answer every held poll with what it has."""
        for group in list(self._groups.values()):
            for mailbox in group.members:
                if mailbox.way == "poll":
                    mailbox.answer(None)

    def sweep(self, now_ms: int, *, quiet_ms: int, deadline_ms: int) -> None:
        """Wake clients who have been quiet for so long or are at their end.

        Cuts off those whose write has not drained in ``deadline_ms``.
        """
        stalled = 0
        for mailbox in list(self.streams):
            age_ms = now_ms - mailbox.wrote_ms
            if not mailbox.writing:
                if age_ms >= quiet_ms or now_ms >= mailbox.due_ms:
                    mailbox.answer(None)
            elif age_ms >= deadline_ms:
                self._cut_off(mailbox)
            elif age_ms >= _STALLED_MS:
                stalled += 1
        self.counts.stalled = stalled

    def _cut_off(self, mailbox: Mailbox) -> None:
        mailbox.writing = False
        if mailbox.cut():
            self.counts.cut_off["write_deadline"] += 1


_NONE: Final[frozenset[Group]] = frozenset()


def _touches(names: set[str], selection: Selection) -> bool:
    """Tell whether any of these instruments is selected."""
    if selection.instruments is None:
        return bool(names)
    return not names.isdisjoint(selection.instruments)
