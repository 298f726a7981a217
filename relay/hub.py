"""One per instance: follows the log, holds the newest board and cut, wakes who waits.

How a client is answered stands in ``delivery``, how clients share frames in ``group``.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from secrets import randbelow
from typing import Final

import msgspec

from relay.board import Board
from relay.clock import Clock
from relay.config import Http, Ingest
from relay.errors import RelayError, StoreDown
from relay.group import Box, Counts, Groups, Mailbox, Place, Way
from relay.model import Cursor
from relay.store.reader import Entry, Follower, Head, Mark, Reader, View

# Less than the store's ``timeout_ms``, by which a read that blocks must have ended.
_BLOCK_MS: Final = 1000
# Reconnecting: at once, then with full jitter below a bound that doubles. Half a step
# of the usual grid at most, so that a store that is back is read before a second mark.
_RETRY_MIN_MS: Final = 50
_RETRY_MAX_MS: Final = 500
# A client whose cursor is ahead of us makes us look at the store, at most so often.
_LOOK_MIN_MS: Final = 50
# How often idle clients are looked at; a heartbeat may be late by as much.
_SWEEP_MAX_MS: Final = 500
_SWEEP_MIN_MS: Final = 5
# Draining ends the streams in so many groups, spread over this share of the time: what
# is left of it is for the last writes.
_DRAIN_STEPS: Final = 20
_DRAIN_SHARE: Final = 0.7
# Few streams end at once: nobody waits for a crowd that is not there.
_DRAIN_STREAMS_PER_S: Final = 100


class Unready(RelayError):
    """This instance cannot serve the client now; another one, or a little later, can.

    ``code`` is ``busy``, ``draining`` or ``behind``.
    """

    def __init__(self, code: str, reason: str, retry_after_s: int = 1) -> None:
        super().__init__(code, reason, retry_after_s)
        self.code, self.reason, self.retry_after_s = code, reason, retry_after_s

    def __str__(self) -> str:
        return self.reason


class _Source(msgspec.Struct):
    """What the leader says of a source, as far as clients are told."""

    alive: bool


class _Health(msgspec.Struct):
    """What the leader says; a new board's says nothing."""

    sources: dict[str, _Source] = {}


_health: Final = msgspec.json.Decoder(_Health)


def read_sources(health: msgspec.Raw) -> dict[str, _Source]:
    """Return the sources that the leader tells of; none when it says something else."""
    try:
        return _health.decode(health).sources
    except msgspec.DecodeError:
        return {}


class Hub:
    """What one instance knows of the board, and everybody who waits for more of it.

    ``board`` is the newest state, ``cut`` the board as it stood at ``mark``;
    ``health`` is the leader's JSON about its sources.
    """

    def __init__(
        self, reader: Reader, clock: Clock, http: Http, ingest: Ingest
    ) -> None:
        self.clock = clock
        self.board, self.cut = Board(), Board()
        self.mark = 0
        self.health = msgspec.Raw(b"{}")
        self.groups = Groups(self.newest, self.newest_cut)
        self._reader, self._http = reader, http
        self._align_ms, self._usual_life_ms = ingest.align_ms, ingest.beat_ms
        # As the leader has it who beat last: a tick's beat lasts until the next tick.
        self._beat_life_ms = ingest.beat_ms
        # All by the monotonic clock; None before the first.
        self._heard_ms: int | None = None
        self._beat_ms: int | None = None
        self._down = self._behind = self._draining = False
        self._told_live = False
        self._to_turn = False
        self._ahead_of_us: Cursor | None = None
        self._nudged = asyncio.Event()
        self._alive: dict[str, bool] = {}

    @property
    def counts(self) -> Counts:
        """What the fan-out did, for the metrics."""
        return self.groups.counts

    @property
    def live(self) -> bool:
        """Whether somebody ingests, as far as we have heard, and heard lately."""
        if self._down or self._beat_ms is None:
            return False
        now_ms = self.clock.monotonic_ms()
        return now_ms - self._beat_ms <= self._beat_life_ms and not self._quiet(now_ms)

    @property
    def ready(self) -> bool:
        """Whether a cut is held, at most one mark behind the store.

        An instance that has lost the store goes on with what it holds.
        """
        if not (self.board.epoch and self.cut.epoch) or self._behind:
            return False
        return self._down or not self._quiet(self.clock.monotonic_ms())

    @property
    def number(self) -> int:
        """The newest mark's number; by the clock while nobody marks the grid."""
        beat_ms, now_ms = self._beat_ms, self.clock.monotonic_ms()
        if beat_ms is not None and now_ms - beat_ms < 2 * self._align_ms:
            return self.mark
        return max(self.mark, self.clock.wall_ms() // self._align_ms)

    @property
    def grid_ms(self) -> int:
        """How long until the next mark, in milliseconds; never 0."""
        return self._align_ms - self.clock.wall_ms() % self._align_ms

    @property
    def align_ms(self) -> int:
        """The distance between two marks."""
        return self._align_ms

    def _quiet(self, now_ms: int) -> bool:
        """Tell whether the last word from the store is too old to call fresh.

        True of a process that was stopped and has just woken, before it has read
        anything, whatever lies in its sockets.
        """
        return self._heard_ms is None or now_ms - self._heard_ms > self._http.quiet_ms

    def newest(self) -> tuple[Board | None, bool]:
        """Return the board for those who are told of every change."""
        known = self.board.epoch and (
            self._down or not self._quiet(self.clock.monotonic_ms())
        )
        return (self.board if known else None), self.live

    def newest_cut(self) -> tuple[Board | None, bool]:
        """Return the board for those whom marks release."""
        return (self.cut if self.ready else None), self.live

    # Clients

    def open(self, way: Way) -> Mailbox:
        """Take in a client; leaving the mailbox's context counts it out.

        Raises:
            Unready: there are too many already, or the instance is about to end.
        """
        return self.open_as(Mailbox, way)

    def open_as(self, kind: type[Box], way: Way) -> Box:
        """Take in a client of a kind of its own.

        Raises:
            Unready: there are too many already, or the instance is about to end.
        """
        if self._draining:
            self.counts.refused["draining"] += 1
            raise Unready("draining", "This instance is about to end.")
        if self.counts.clients.total() >= self._http.clients_max:
            self.counts.refused["busy"] += 1
            raise Unready("busy", "This instance serves as many clients as it may.", 5)
        return self.groups.open_as(kind, way, self.clock.monotonic_ms())

    def heed(self, place: Place) -> Place:
        """Return what a client holds as it counts here; we look where it knows more."""
        place = place.heeded(self.board, self.clock.wall_ms())
        if place.cursor is not None and self.board.is_behind(place.cursor):
            self.nudge()
        return place

    @property
    def draining(self) -> bool:
        """Whether clients are being sent away."""
        return self._draining

    def nudge(self) -> None:
        """Look at the store now: a client knows more than we do."""
        self._nudged.set()

    async def drain(self, within_ms: int) -> None:
        """Answer held polls at once and end the streams, spread over the time.

        Cancelled, the streams that are left go on.
        """
        self._draining = True
        self.groups.release()
        streams = list(self.groups.streams)
        most_s = within_ms * _DRAIN_SHARE / 1000
        spread_s = min(most_s, len(streams) / _DRAIN_STREAMS_PER_S)
        # So that they do not all come back at once, and none is the first each time.
        for number in range(_DRAIN_STEPS):
            for mailbox in streams[number::_DRAIN_STEPS]:
                mailbox.end()
            await asyncio.sleep(spread_s / _DRAIN_STEPS)

    # Following

    async def run(self) -> None:
        """Follow the log for ever; the store may come and go."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._watch())
            tasks.create_task(self._sweep())

    async def _follow(self) -> None:
        bound_ms = 0
        while True:
            try:
                async with self._reader.follow(wait_ms=_BLOCK_MS) as follower:
                    place = await self._refresh("lost" if self._down else "connect")
                    bound_ms = 0
                    await self._read_on(follower, place)
            except StoreDown:
                # Once may be an idle connection that died, or our own long sleep.
                if bound_ms:
                    self._lose()
            if bound_ms:
                await asyncio.sleep(randbelow(bound_ms) / 1000)
            bound_ms = min(max(2 * bound_ms, _RETRY_MIN_MS), _RETRY_MAX_MS)

    async def _read_on(self, follower: Follower, place: str) -> None:
        while True:
            entries = await follower.after(place)
            _heed_cancellation()
            now_ms = self.clock.monotonic_ms()
            # What a socket held while we slept is no word of now.
            if self._quiet(now_ms):
                place = await self._refresh("quiet")
                continue
            self._heard_ms = now_ms
            if entries:
                place = entries[-1].place
            if not self._take(entries, now_ms):
                place = await self._refresh("gap")

    async def _refresh(self, reason: str) -> str:
        """Read the board again; returns the place to follow from.

        Raises:
            StoreDown: the store cannot be reached.
        """
        self.counts.refreshes[reason] += 1
        # Without the store we go on with what we hold, however often we ask for it.
        self._behind = not self._down
        while True:
            sent_ms = self.clock.monotonic_ms()
            place = await self._reader.place()
            view = await self._reader.read(None)
            now_ms = self.clock.monotonic_ms()
            if now_ms - sent_ms <= self._http.quiet_ms:
                break  # else we slept over the answer, and it is old
        self._heard_ms = now_ms
        self._adopt(view, now_ms)
        return place

    def _adopt(self, view: View, now_ms: int) -> None:
        """Make what was read our own, unless what we hold is newer.

        A store that came back from an older copy does not take us back: its leader
        begins a new epoch, or passes us soon, row by row.
        """
        self._down = self._behind = False
        head = view.head
        board = Board.read(head.epoch, head.offset, head.floor, view.tickers)
        self._hear(head.health)
        if head.alive:
            self._beat(now_ms, head.left_ms)
        if not board.is_behind(Cursor(self.board.epoch, "", self.board.offset)):
            board.keep(self.board)
            moved = (board.epoch, board.offset) != (self.cut.epoch, self.cut.offset)
            self.board = board
            if moved and self.live and head.offset:
                self.cut = Board()  # unknown until the next mark
            else:
                self.cut = board.copy()
        self._told_live = self.live
        self.groups.turn(now_ms)

    def _take(self, entries: Sequence[Entry], now_ms: int) -> bool:
        """Take in what the log says; False when something is missing in between."""
        touched: set[str] = set()
        marks = 0
        whole = True
        for entry in entries:
            item = entry.item
            if isinstance(item, Mark):
                marks += 1
                # What comes after the mark is not of its cut.
                self._tell_of(touched, now_ms)
                whole = self._cut_at(item, now_ms)
            elif self.board.follows(item):
                self.board.apply(item)
                touched.update(item.tickers)
                self.counts.updates += len(item.tickers)
            else:
                whole = self.board.knows(item)
            if not whole:
                break
        # Two marks in one reading: there may be more where these came from.
        self._behind = marks > 1
        self._tell_of(touched, now_ms)
        self._turn_cuts(now_ms)
        # Whole milliseconds, rounded down and up equally often: the sum is true.
        self.counts.taking_ms += self.clock.monotonic_ms() - now_ms
        return whole

    def _tell_of(self, touched: set[str], now_ms: int) -> None:
        """Tell everybody of what was read so far."""
        if touched:
            self.groups.touch(touched, now_ms)
            touched.clear()

    def _cut_at(self, mark: Mark, now_ms: int) -> bool:
        """Cut the board at a mark; False when it is of an offset we have not read."""
        self._beat(now_ms, mark.life_ms)
        self.mark = mark.number
        self._to_turn = True
        board, cut = self.board, self.cut
        if mark.offset == board.offset and (board.epoch, board.offset, board.floor) != (
            cut.epoch,
            cut.offset,
            cut.floor,
        ):
            self._cut_here()
        return mark.offset <= board.offset

    def _beat(self, now_ms: int, life_ms: int) -> None:
        """Note that somebody ingests, for as long as was said or as is usual."""
        self._beat_ms = now_ms
        self._beat_life_ms = life_ms or self._usual_life_ms

    def _turn_cuts(self, now_ms: int) -> None:
        if self._to_turn and not self._behind:
            self._to_turn = False
            self.groups.turn_cuts(now_ms)
        self._tell(now_ms)

    def _lose(self) -> None:
        """Go on without the store, with what we hold."""
        self._down, self._behind = True, False
        self._tell(self.clock.monotonic_ms())

    def _tell(self, now_ms: int) -> None:
        """Tell everybody when ``live`` has turned.

        Not while it is only that we have slept: reading the board again decides it.
        """
        live = self.live
        if live is self._told_live or (self._quiet(now_ms) and not self._down):
            return
        self._told_live = live
        if not live:
            self._cut_here()
        self.groups.turn(now_ms)

    def _cut_here(self) -> None:
        """Let the newest board be the cut."""
        if self.board.epoch:
            self.cut = self.board.copy()
            self.groups.note_cut()

    # Looking around

    async def _watch(self) -> None:
        """Read the head at each step of the grid, or when a client asks for it."""
        loop = asyncio.get_running_loop()
        step_s = loop.time() + self.grid_ms / 1000
        while True:
            try:
                # However often clients ask for it, the step comes in time.
                async with asyncio.timeout_at(step_s):
                    await self._nudged.wait()
                    await asyncio.sleep(_LOOK_MIN_MS / 1000)
                self._nudged.clear()
            except TimeoutError:
                self._step()
                step_s = loop.time() + self.grid_ms / 1000
            with suppress(StoreDown):  # which the follower notices as well
                view = await self._reader.read([])
                if self._compare(view.head):
                    await self._refresh("behind")
            _heed_cancellation()

    def _step(self) -> None:
        """Keep the grid's time while nobody marks it."""
        now_ms = self.clock.monotonic_ms()
        # Between two ticks somebody is alive, and nobody marks.
        since_ms = now_ms - (self._beat_ms or 0)
        marked = self.live and since_ms <= self._usual_life_ms
        if marked or (self._quiet(now_ms) and not self._down):
            return
        self._cut_here()
        self.groups.turn_cuts(now_ms)

    def _compare(self, head: Head) -> bool:
        """Compare the store's head with ours; True when we do not come after it.

        One look that finds it ahead says little, since the log takes a moment to reach
        us; two that find the same offset ahead say that it does not.
        """
        self._hear(head.health)
        now_ms = self.clock.monotonic_ms()
        if head.alive and not head.offset:
            self._beat(now_ms, head.left_ms)  # the log holds no marks yet
            self._tell(now_ms)
        if head.epoch == self.board.epoch and head.floor > self.board.floor:
            self._raise_floor(head.floor, now_ms)
        seen, self._ahead_of_us = self._ahead_of_us, None
        theirs = Cursor(head.epoch, "", head.offset)
        if not self.board.epoch or not self.board.is_behind(theirs):
            return False
        if seen is not None and self.board.is_behind(seen):
            return True
        self._ahead_of_us = theirs
        return False

    def _hear(self, health: msgspec.Raw) -> None:
        """Take in what the leader says, and tell the streams when a source turned."""
        self.health = health
        alive = {name: one.alive for name, one in read_sources(health).items()}
        told, self._alive = self._alive, alive
        if told and alive and told != alive:
            body = msgspec.json.encode({"sources": alive})
            self.groups.announce(b"event: status\ndata: %b\n\n" % body)

    def _raise_floor(self, floor: int, now_ms: int) -> None:
        board = self.board
        board.floor = floor
        for name in [
            name
            for name, row in board.rows.items()
            if row.removed and row.offset <= floor
        ]:
            del board.rows[name]
        self.groups.turn(now_ms)

    async def _sweep(self) -> None:
        """Look after those who wait: heartbeats, ends, writes that do not drain."""
        http = self._http
        step_ms = min(http.heartbeat_ms // 4, http.write_deadline_ms // 4)
        step_ms = max(min(step_ms, _SWEEP_MAX_MS), _SWEEP_MIN_MS)
        while True:
            await asyncio.sleep(step_ms / 1000)
            now_ms = self.clock.monotonic_ms()
            self._tell(now_ms)
            self.groups.sweep(
                now_ms,
                quiet_ms=http.heartbeat_ms,
                deadline_ms=http.write_deadline_ms,
            )


def _heed_cancellation() -> None:
    """Raise a cancellation that was lost on its way.

    The store's client writes under ``asyncio.wait_for``, which in Python 3.11 drops a
    cancellation that comes at the moment when the write is done (cpython, issue 86296).
    A task that goes on for ever would never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
