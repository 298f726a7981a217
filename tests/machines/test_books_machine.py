"""Processes that share one book, which is now and then wiped or rolled back."""

from copy import deepcopy

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from msgspec import Struct

from relay.config import Limit
from relay.ingest.book import Book, follow, recover, stock
from relay.ingest.budget import Budget, Priority, Reservation

WINDOW_MS = 20_000
FLIGHT_MS = 3_000
PROCESSES = 3


class Sent(Struct):
    """A request under way: whose, and whether the exchange has it already."""

    owner: int
    reservation: Reservation
    cost: int
    landed: bool = False


class BooksMachine(RuleBasedStateMachine):
    """Processes that remember, against an exchange that keeps a list of what landed.

    The store is one value that changes as a whole, as the ledger's script has it. It is
    wiped or put back to an older copy, and all but one process remember: who saw the
    newer state sees to it that the limit holds, and the spare is one for all.
    """

    @initialize(most=st.integers(4, 40))
    def begin(self, most: int) -> None:
        """Begin with a book in which nothing is spent."""
        self.limit = Limit(
            name="weight",
            weight_max=most,
            window_ms=WINDOW_MS,
            kind="rolling",
            scope="address",
        )
        self.now_ms = 1_000_000
        self.known: list[Book | None] = [None] * PROCESSES
        self.stored: Book | None = None
        self.copies: list[Book] = []
        self.flying: list[Sent] = []
        self.sent: list[Sent] = []
        self.landed: list[tuple[int, int]] = []
        self.most_counted = self.lost_ms = 0
        # Every process has looked once, an hour ago: none is a newcomer any more.
        for process in range(PROCESSES):
            self.change(process)
        self.now_ms += 3_600_000

    def change(self, process: int, cost: int = 0) -> Reservation | None:
        """Do what a purse does: open, change, write, remember."""
        known = deepcopy(self.known[process])
        own = {sent.reservation.id for sent in self.sent if sent.owner == process}
        book, lost = follow(deepcopy(self.stored), known, self.now_ms, own)
        stock(book, [self.limit], self.now_ms)
        if lost and known is not None:
            recover(book, known, self.now_ms, FLIGHT_MS)
        budget = Budget(
            "sim", [self.limit], flight_ms=FLIGHT_MS, books={"address": book}
        )
        leave = budget.reserve(
            [("weight", cost)], now_ms=self.now_ms, priority=Priority.KEEP
        )
        budget.revise(self.now_ms)
        self.stored, self.known[process] = book, deepcopy(book)
        return leave if isinstance(leave, Reservation) and cost else None

    @rule(process=st.integers(0, PROCESSES - 1), cost=st.integers(1, 12))
    def reserve(self, process: int, cost: int) -> None:
        """Let a process send what it is granted."""
        leave = self.change(process, cost)
        if leave is not None:
            self.flying.append(Sent(process, leave, cost))
            self.sent.append(self.flying[-1])

    @rule(ms=st.sampled_from([1, 900, 2_900, 5_000, 19_000, 24_000]))
    def pass_time(self, ms: int) -> None:
        """Let time pass; what has not landed in time never will."""
        self.now_ms += ms
        self.flying = [
            sent
            for sent in self.flying
            if self.now_ms - sent.reservation.sent_ms <= FLIGHT_MS
        ]

    @precondition(lambda self: self.flying)
    @rule(choice=st.integers(0, 99))
    def land(self, choice: int) -> None:
        """Let one request arrive at the exchange."""
        sent = self.flying[choice % len(self.flying)]
        if not sent.landed:
            sent.landed = True
            self.landed.append((self.now_ms, sent.cost))
            since_ms = self.now_ms - WINDOW_MS
            counted = sum(cost for at_ms, cost in self.landed if at_ms >= since_ms)
            self.most_counted = max(self.most_counted, counted)

    @precondition(lambda self: self.flying)
    @rule(choice=st.integers(0, 99))
    def answer(self, choice: int) -> None:
        """Settle one that has landed."""
        self.land(choice)
        sent = self.flying.pop(choice % len(self.flying))
        self.change(sent.owner)
        assert self.stored is not None
        budget = Budget(
            "sim", [self.limit], flight_ms=FLIGHT_MS, books={"address": self.stored}
        )
        budget.settle(sent.reservation, [], now_ms=self.now_ms)
        budget.revise(self.now_ms)
        self.known[sent.owner] = deepcopy(self.stored)

    @rule()
    def copy(self) -> None:
        """Keep a copy of the store, as a back-up does."""
        if self.stored is not None:
            self.copies.append(deepcopy(self.stored))

    @rule(first=st.integers(0, PROCESSES - 1))
    def wipe(self, first: int) -> None:
        """Lose everything; whoever looks first remembers."""
        self.stored = None
        self._all_look(first)

    @precondition(lambda self: self.now_ms - self.lost_ms > WINDOW_MS + FLIGHT_MS)
    @rule(process=st.integers(0, PROCESSES - 1), cost=st.integers(1, 4))
    def wipe_before_a_newcomer(self, process: int, cost: int) -> None:
        """Lose everything, and let somebody spend who remembers nothing.

        Once in a window: what a second newcomer cannot know, nobody has told it.
        """
        self.stored = self.known[process] = None
        self.reserve(process, cost)
        self._all_look(process)

    @precondition(lambda self: self.copies)
    @rule(choice=st.integers(0, 99), first=st.integers(0, PROCESSES - 1))
    def roll_back(self, choice: int, first: int) -> None:
        """Put an older copy in place."""
        self.stored = deepcopy(self.copies[choice % len(self.copies)])
        self._all_look(first)

    def _all_look(self, first: int) -> None:
        """Have every process change something, so that each sees what was lost.

        The first may have seen nothing that the copy has not, and go on with it.
        """
        self.lost_ms = self.now_ms
        for place in range(PROCESSES):
            self.change((first + place) % PROCESSES)

    @invariant()
    def the_limit_holds(self) -> None:
        """Whatever the store has forgotten, the exchange counts no breach."""
        if hasattr(self, "limit"):
            assert self.most_counted <= self.limit.weight_max


BooksMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None
)
TestBooks = BooksMachine.TestCase
