"""Clients without a task of their own: their group writes to them, rank by rank.

What they are told is decided in ``group``, how it is worded in ``delivery``.

Those who hold the same place, and to whom nothing is on its way, stand in one rank: one
pass writes the same bytes to all of them. A connection that does not take its write
whole steps out; when that has drained it gets the newest state, and stands in a rank
again. So nothing is queued here either, and a slow client costs only itself.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from relay.group import Frame, Group, Groups, Mailbox, Place, Way
from relay.model import Selection

# Clients of one pass: some 3 ms of writing.
_RANK_MAX: Final = 500
# Writing for so long at a stretch, what else waits for the loop gets a turn; less than
# the floor between two batches.
_STRETCH_S: Final = 0.005


class Wire(Protocol):
    """A connection, as the server offers it: it keeps what it cannot send at once."""

    @property
    def write(self) -> Callable[[bytes], None]:
        """What sends bytes; it says ``hold`` to the line when some of them stay."""

    def take(self, line: "Line") -> bool:
        """Belong to a line until ``finish``; False when the client has left."""

    def finish(self, last: bytes) -> None:
        """Send the last bytes, and end the answer in order."""

    def cut(self) -> None:
        """End the connection; what it was sent and did not take is lost."""


class Voice(ABC):
    """How one way out speaks to its lines. What it returns is sent as it stands."""

    def __init__(self, pump: "Pump") -> None:
        """Speak; voices that share a pump share its stretches."""
        self.pump = pump

    @abstractmethod
    def now_ms(self) -> int:
        """Read the steady clock."""

    @abstractmethod
    def tell(self, frame: Frame) -> bytes:
        """Say what has changed; the same object for everybody who is told of it."""

    @abstractmethod
    def notice(self, notice: bytes) -> bytes:
        """Pass on what everybody is to be told."""

    @abstractmethod
    def pulse(self, quiet_ms: int) -> bytes:
        """Say that we are there, to a line that was quiet for so long; or nothing."""

    @abstractmethod
    def farewell(self) -> bytes:
        """Say when to come back."""

    @abstractmethod
    def renew(self, selection: Selection) -> None:
        """Ask again for what is listened to."""


class Rank:
    """Lines that hold the same place, and to whom nothing is on its way."""

    __slots__ = ("held", "lines", "place", "rung", "wrote_ms")

    def __init__(self, place: Place, rung: int) -> None:
        self.place, self.rung = place, rung
        # With what writes to each: looking that up costs as much as all else here.
        self.lines: dict[Line, Callable[[bytes], None]] = {}
        self.held: list[Line] = []
        self.wrote_ms = 0

    def write(self, chunk: bytes, now_ms: int) -> None:
        """Write to all of them; who does not take it whole steps out."""
        self.wrote_ms = now_ms
        for write in self.lines.values():
            write(chunk)
        for line in self.held:
            line.step_out()
        self.held.clear()

    def take_in(self, other: "Rank") -> None:
        """Let the lines of another rank stand in this one."""
        for line in other.lines:
            line.wrote_ms = max(line.wrote_ms, other.wrote_ms)
            line.rank = self
        self.lines.update(other.lines)


class Ranks:
    """All ranks of one group that one voice speaks to."""

    def __init__(self, group: Group, voice: Voice, way: Way) -> None:
        self._group, self._voice, self._way = group, voice, way
        self._ranks: deque[Rank] = deque()
        # Where newcomers stand, by what they hold; until the next write alone.
        self._open: dict[Place, Rank] = {}

    def ring(self) -> None:
        """Write to everybody for whom there is something, now or very soon."""
        self.renew()
        self._voice.pump.add(self)

    def renew(self) -> None:
        """Ask again for what is listened to."""
        self._voice.renew(self._group.wish.selection)

    def stand(self, line: "Line") -> None:
        """Let a line that looked a moment ago stand in a rank."""
        rank = self._open.get(line.place)
        if rank is None or rank.place != line.place or len(rank.lines) >= _RANK_MAX:
            rank = self._open[line.place] = Rank(line.place, line.rung)
            self._ranks.append(rank)
        rank.lines[line] = line.wire.write
        line.rank = rank

    def forget(self, rank: Rank) -> None:
        """Forget a rank in which nobody stands any more."""
        self._ranks.remove(rank)
        if self._open.get(rank.place) is rank:
            del self._open[rank.place]
        self._go_when_empty()

    def _go_when_empty(self) -> None:
        """Leave the group, to which another one comes when somebody stands again.

        It may be there already, while this one was still to be written to.
        """
        if not self._ranks and self._group.ranks.get(self._voice) is self:
            del self._group.ranks[self._voice]

    def write(self, until_s: float) -> bool:
        """Write for so long at most; True when everybody has everything."""
        loop, now_ms = asyncio.get_running_loop(), self._voice.now_ms()
        for left in range(len(self._ranks), 0, -1):
            # Where this ends for now, it goes on: nobody is the last each time.
            self._tell(self._ranks[0], now_ms)
            self._ranks.rotate(-1)
            if left > 1 and loop.time() >= until_s:
                return False
        self._close_ranks()
        self._go_when_empty()
        return True

    def _tell(self, rank: Rank, now_ms: int) -> None:
        group, counts, size = self._group, self._group.counts, len(rank.lines)
        missed, rank.rung = group.rung - rank.rung - 1, group.rung
        frame = group.frame(rank.place) if size else None
        if frame is not None:
            counts.conflated += max(missed, 0) * size
            counts.deliveries[self._way] += size
            rank.place = frame.place
            told = self._voice.tell(frame)
            if told:
                rank.write(told, now_ms)

    def _close_ranks(self) -> None:
        """Join ranks that have come to the same place; forget the empty ones."""
        kept: deque[Rank] = deque()
        self._open.clear()
        for rank in self._ranks:
            into = self._open.get(rank.place)
            if into is not None and len(into.lines) + len(rank.lines) <= _RANK_MAX:
                into.take_in(rank)
            elif rank.lines:
                kept.append(rank)
                self._open[rank.place] = rank
        self._ranks = kept


class Pump:
    """Lets ranks be written to at once, unless that has gone on for a stretch.

    What is left then goes on after the loop has looked at everything else; a change
    that comes meanwhile is conflated.
    """

    def __init__(self) -> None:
        self._due: dict[Ranks, None] = {}
        # When the stretch ends; None when none has begun.
        self._until_s: float | None = None

    def add(self, ranks: Ranks) -> None:
        """Write to these."""
        loop = asyncio.get_running_loop()
        if self._until_s is None:
            self._until_s = loop.time() + _STRETCH_S
            loop.call_soon(self._again)
        if self._due or loop.time() >= self._until_s or not ranks.write(self._until_s):
            self._due[ranks] = None

    def _again(self) -> None:
        if not self._due:
            self._until_s = None
            return
        loop = asyncio.get_running_loop()
        self._until_s = loop.time() + _STRETCH_S
        loop.call_soon(self._again)
        for ranks in list(self._due):
            del self._due[ranks]
            if not ranks.write(self._until_s):
                self._due[ranks] = None  # behind all others
            if loop.time() >= self._until_s:
                break


class Line(Mailbox):
    """One client that its group writes to: what it holds, and what is on its way.

    ``rank`` is where it stands; None while a write drains.
    """

    __slots__ = ("_noticed", "_voice", "_wrote_ms", "rank", "wire")

    wire: Wire

    def __init__(self, groups: Groups, way: Way, now_ms: int) -> None:
        self.rank: Rank | None = None
        self._noticed = groups.notice
        super().__init__(groups, way, now_ms)

    @property
    def wrote_ms(self) -> int:
        """When something was written to it for the last time."""
        rank = self.rank
        return self._wrote_ms if rank is None else max(rank.wrote_ms, self._wrote_ms)

    @wrote_ms.setter
    def wrote_ms(self, now_ms: int) -> None:
        self._wrote_ms = now_ms

    def start(self, voice: Voice, wire: Wire, hello: bytes) -> None:
        """Take over a connection to which the head of the answer was sent."""
        self._voice, self.wire = voice, wire
        self.wrote_ms = voice.now_ms()
        if not wire.take(self):
            self.leave()
        elif self.writing:  # the head has not gone yet
            wire.write(hello)
        else:
            self._go_on(hello)

    def hold(self) -> None:
        """Note that a write was not taken whole, and is on its way."""
        self.wrote_ms = self._voice.now_ms()
        self.writing = True
        if self.rank is not None:
            self.rank.held.append(self)

    def drained(self) -> None:
        """Note that what was on its way has gone."""
        self.writing = False
        self._go_on()

    def answer(self, frame: Frame | None) -> None:
        """Look around, unless something is on its way. No frame comes from here."""
        assert frame is None
        if not self.writing and self.group is not None:
            self.step_out()
            self._go_on()

    def step_out(self) -> None:
        """Stand in no rank; the place is kept."""
        rank = self.rank
        if rank is not None:
            self.wrote_ms = self.wrote_ms
            self.place, self.rung, self.rank = rank.place, rank.rung, None
            rank.lines.pop(self, None)

    def leave(self) -> None:
        """Go: the connection is lost, or was given back."""
        rank = self.rank
        self.step_out()
        if rank is not None and not rank.lines:
            self._ranks().forget(rank)
        self._groups.close(self)

    def cut(self) -> bool:
        """End the connection, that takes nothing."""
        self.leave()
        self.wire.cut()
        return True

    def _go_on(self, first: bytes = b"") -> None:
        """Write what there is to say; with nothing on its way, stand in a rank."""
        voice, now_ms = self._voice, self._voice.now_ms()
        if now_ms >= self.due_ms:
            self.leave()
            self.wire.finish(first + voice.farewell())
            return
        chunk = first + self._news()
        if not chunk:
            chunk = voice.pulse(now_ms - self._wrote_ms)
            self._ranks().renew()
        if chunk:
            self.wrote_ms = now_ms
            self.wire.write(chunk)
        if not self.writing:
            self._ranks().stand(self)

    def _news(self) -> bytes:
        """Return what this client was not told yet."""
        chunk, notice = b"", self._groups.notice
        if notice is not self._noticed:
            self._noticed = notice
            chunk = self._voice.notice(notice)
        frame = self.look()
        if frame is not None:
            self.place = frame.place
            self._groups.counts.deliveries[self.way] += 1
            chunk += self._voice.tell(frame)
        return chunk

    def _ranks(self) -> Ranks:
        group = self.group
        assert group is not None
        ranks = group.ranks.get(self._voice)
        if not isinstance(ranks, Ranks):
            ranks = group.ranks[self._voice] = Ranks(group, self._voice, self.way)
        return ranks
