"""Lines of every pace and temper, a board that moves, and what each must hold."""

import asyncio
import json
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from relay.group import Place, Wish
from relay.model import Cursor, Selection
from relay.rank import Line
from tests.scene import EPOCH
from tests.test_rank import Socket, Stage

NAMES = ["BTC-USD", "ETH-USD", "SOL-USD"]
selections = st.one_of(st.none(), st.sets(st.sampled_from(NAMES), min_size=1)).map(
    Selection.of
)


class Listener(Socket):
    """One client: what it has read, and whether its connection takes more."""

    def __init__(self, selection: Selection) -> None:
        super().__init__()
        self.selection = selection
        self.held: dict[str, int] = {}
        # What it came with: whatever was published until then it holds.
        self.offset = self.since = -1
        self.live = True
        self.stuck = False

    def write(self, chunk: bytes) -> None:
        """Read what came; one thing is on its way at most."""
        assert not self.stuck, "nothing is written while a write waits"
        self.stuck = self.blocked
        super().write(chunk)
        for event in chunk.split(b"\n\n"):
            _, found, body = event.partition(b"data: ")
            if found:
                self.take_in(json.loads(body))

    def take_in(self, body: dict[str, object]) -> None:
        """Hold what an event says: never older than what is held."""
        offset, prices = body["as_of_ms"], body["prices"]
        assert isinstance(offset, int)
        assert isinstance(prices, dict)
        assert offset >= self.offset
        self.offset, self.live = offset, body["live"] is True
        for name, row in prices.items():
            assert name in self.selection
            assert row["offset"] > self.held.get(name, -1), "sent twice, or backwards"
            self.held[name] = row["offset"]


class Fanout(RuleBasedStateMachine):
    """The ranks beside a model: each client's newest values, name by name."""

    listeners = Bundle("listeners")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stage = Stage()
        self.newest = dict.fromkeys(NAMES, 10)
        self.there: list[Listener] = []

    def teardown(self) -> None:
        """Close the loop that this machine owns."""
        self.loop.close()

    def do(self, step: Callable[[], object]) -> None:
        """Do something within the loop, and let what follows from it happen."""

        async def stepping() -> None:
            step()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        self.loop.run_until_complete(stepping())

    @rule(target=listeners, selection=selections, ahead=st.sampled_from([None, 0, 3]))
    def enter(self, selection: Selection, ahead: int | None) -> Listener:
        """A client comes: with nothing, with everything, or from a newer instance."""
        listener = Listener(selection)
        self.there.append(listener)
        place = Place()
        if ahead is not None:
            newest = max(o for name, o in self.newest.items() if name in selection)
            place = Place(Cursor(EPOCH, selection.hash, newest + ahead))
            listener.offset = listener.since = newest + ahead
        self.do(lambda: self.stage.admit(Wish(selection), place, wire=listener))
        return listener

    @rule(listener=listeners)
    def block(self, listener: Listener) -> None:
        """From its next write on a connection takes nothing."""
        listener.blocked = True

    @rule(listener=listeners)
    def drain(self, listener: Listener) -> None:
        """A connection takes what has stayed, and all that comes."""
        listener.blocked = False
        if listener.stuck:
            listener.stuck = False
            assert listener.line is not None
            self.do(listener.line.drained)

    @rule(names=st.sets(st.sampled_from(NAMES), min_size=1))
    def publish(self, names: set[str]) -> None:
        """A batch comes."""
        self.do(lambda: self.stage.publish(*sorted(names)))
        assert self.stage.board is not None
        self.newest |= dict.fromkeys(names, self.stage.board.offset)

    @rule(live=st.booleans())
    def turn(self, live: bool) -> None:  # noqa: FBT001 - drawn
        """The leader falls silent, or is back."""
        self.stage.live = live
        self.do(lambda: self.stage.groups.turn(0))

    @rule()
    def announce(self) -> None:
        """Everybody is told something."""
        self.do(lambda: self.stage.groups.announce(b"notice\n\n"))

    @rule(listener=listeners)
    def leave(self, listener: Listener) -> None:
        """A client goes."""
        if listener in self.there:
            self.there.remove(listener)
            listener.stuck = False
            line = listener.line
            assert isinstance(line, Line)
            self.do(line.leave)
            listener.line = None
            listener.blocked = False

    @invariant()
    def whoever_takes_its_writes_holds_the_newest(self) -> None:
        """Of everything it selected, unless it knows better than we do."""
        assert self.stage.board is not None
        for one in self.there:
            if one.stuck or one.offset > self.stage.board.offset:
                continue
            for name, offset in self.newest.items():
                if name in one.selection and offset > one.since:
                    assert one.held[name] == offset
            # Who came from ahead of us may still wait for something to be said.
            assert one.live is self.stage.live or one.offset == one.since

    @invariant()
    def everybody_is_counted(self) -> None:
        """Memory comes back."""
        groups = self.stage.groups
        assert groups.counts.clients.total() == len(self.there) == len(groups.streams)


Fanout.TestCase.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None
)
TestFanout = Fanout.TestCase
