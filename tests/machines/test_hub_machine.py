"""Clients of every kind, a board that moves, and what each must hold in the end."""

import asyncio
import json

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from relay.group import NOWHERE, Frame, Mailbox, Wish
from relay.model import Selection
from tests.scene import EPOCH, Scene

NAMES = ["BTC-USD", "ETH-USD", "SOL-USD"]
selections = st.one_of(st.none(), st.sets(st.sampled_from(NAMES), min_size=1)).map(
    Selection.of
)


class Reader:
    """One client: its mailbox, what it has been sent, and what it may wait for."""

    def __init__(self, mailbox: Mailbox, wish: Wish) -> None:
        self.mailbox, self.wish = mailbox, wish
        self.bell: asyncio.Future[Frame | None] | None = None
        self.held: dict[str, int] = {}
        self.offset = -1
        self.live = True

    def take(self, frame: Frame) -> None:
        """Read a frame: never older than what is held, never of something else."""
        body = json.loads(frame.body)
        assert body["as_of_ms"] >= self.offset
        assert frame.place == self.mailbox.place
        self.offset, self.live = body["as_of_ms"], body["live"]
        for name, row in body["prices"].items():
            assert name in self.wish.selection
            assert row["offset"] > self.held.get(name, -1), "sent twice, or backwards"
            self.held[name] = row["offset"]


class Fanout(RuleBasedStateMachine):
    """The groups beside a model: each client's newest values, name by name."""

    readers = Bundle("readers")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.scene = Scene()
        self.at_cut = dict.fromkeys(NAMES, 10)
        self.newest = dict(self.at_cut)
        self.everybody: list[Reader] = []

    def teardown(self) -> None:
        """Close the loop that this machine owns."""
        self.loop.close()

    @rule(target=readers, selection=selections, cuts=st.booleans())
    def enter(self, selection: Selection, cuts: bool) -> Reader:  # noqa: FBT001 - drawn
        """A client comes, holding nothing."""
        wish = Wish(selection, cuts=cuts)
        reader = Reader(self.scene.enter(wish, NOWHERE), wish)
        self.everybody.append(reader)
        return reader

    @rule(reader=readers)
    def listen(self, reader: Reader) -> None:
        """A client's write has drained: it looks, and waits when there is nothing."""
        if reader.mailbox.group is None or reader.bell is not None:
            return
        reader.bell = self.loop.run_until_complete(self._listen(reader))
        self._collect()

    async def _listen(self, reader: Reader) -> "asyncio.Future[Frame | None]":
        return reader.mailbox.listen()

    @rule(names=st.sets(st.sampled_from(NAMES), min_size=1))
    def publish(self, names: set[str]) -> None:
        """A batch comes."""
        offset = self.scene.publish(*sorted(names))
        self.newest |= dict.fromkeys(names, offset)
        self._collect()

    @rule()
    def mark(self) -> None:
        """The grid is marked."""
        self.scene.mark()
        self.at_cut = dict(self.newest)
        self._collect()

    @rule(live=st.booleans())
    def turn(self, live: bool) -> None:  # noqa: FBT001 - drawn
        """The leader falls silent, or is back."""
        self.scene.live = live
        self.scene.groups.turn(0)
        self._collect()

    @rule(reader=readers)
    def leave(self, reader: Reader) -> None:
        """A client goes."""
        if reader.mailbox.group is not None:
            with reader.mailbox:
                pass
            self.everybody.remove(reader)

    def _collect(self) -> None:
        for reader in self.everybody:
            if reader.bell is not None and reader.bell.done():
                frame = reader.bell.result()
                reader.bell = None
                assert frame is not None
                reader.take(frame)

    @invariant()
    def whoever_waits_holds_the_newest_of_everything_it_selected(self) -> None:
        """Nobody waits for what is already there; nobody hears of what is not cut."""
        for reader in self.everybody:
            wanted = self.at_cut if reader.wish.cuts else self.newest
            selected = {n: o for n, o in wanted.items() if n in reader.wish.selection}
            if reader.bell is not None:
                assert reader.held == selected
                assert reader.live is self.scene.live
            else:
                assert all(o <= selected[name] for name, o in reader.held.items())

    @invariant()
    def groups_are_there_for_somebody(self) -> None:
        """Memory comes back."""
        clients = self.scene.groups.counts.clients.total()
        assert clients == len(self.everybody)
        assert self.scene.board is not None
        assert self.scene.board.epoch == EPOCH


Fanout.TestCase.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None
)
TestFanout = Fanout.TestCase
