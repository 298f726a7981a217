"""An exchange that counts for itself never counts more than its limit."""

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
from relay.exchanges.adapter import Usage
from relay.ingest.budget import Budget, Priority, Reservation, Wait

WINDOW_MS = 10_000
FLIGHT_MS = 4_000


class Sent(Struct):
    """A request that was reserved, and the exchange's count when it landed."""

    reservation: Reservation
    cost: int
    flight_ms: int
    count: int | None = None


class BudgetMachine(RuleBasedStateMachine):
    """One budget against an exchange that keeps a list of what landed when.

    The exchange's clock is ahead of ours or behind, requests land whenever they like
    before their answer comes, answers overtake each other, some never come, and
    others spend from the same limit, of which only the exchange's count tells.
    """

    @initialize(
        kind=st.sampled_from(["fixed", "rolling"]),
        most=st.integers(1, 4),
        skew_ms=st.integers(-1_000, 1_000),
        tells=st.sampled_from([True, True, False]),
    )
    def begin(self, *, kind: str, most: int, skew_ms: int, tells: bool) -> None:
        """Choose the limit, and whether answers carry the exchange's count."""
        self.limit = Limit(
            name="weight",
            weight_max=most,
            window_ms=WINDOW_MS,
            kind="fixed" if kind == "fixed" else "rolling",
            scope="address",
        )
        self.budget = Budget("sim", [self.limit], flight_ms=FLIGHT_MS)
        self.now_ms, self.skew_ms, self.tells = 1_000_000, skew_ms, tells
        self.landed: list[tuple[int, int]] = []
        self.flying: list[Sent] = []
        self.most_counted = 0

    def count(self) -> int:
        """Count as the exchange does, by its own clock."""
        here_ms = self.now_ms + self.skew_ms
        if self.limit.kind == "fixed":
            start_ms = here_ms - here_ms % WINDOW_MS
        else:
            start_ms = here_ms - WINDOW_MS
        return sum(cost for at_ms, cost in self.landed if at_ms >= start_ms)

    def land(self, cost: int) -> int:
        """Let weight arrive at the exchange."""
        self.landed.append((self.now_ms + self.skew_ms, cost))
        self.most_counted = max(self.most_counted, self.count())
        return self.count()

    @rule(ms=st.sampled_from([1, 400, 900, 1_100, 3_000, 9_000]))
    def pass_time(self, ms: int) -> None:
        """Let time pass; what has been under way for too long is lost for good."""
        self.now_ms += ms
        for sent in list(self.flying):
            if self.now_ms - sent.reservation.sent_ms > sent.flight_ms:
                self.flying.remove(sent)

    @rule(
        cost=st.integers(1, 2),
        priority=st.sampled_from(list(Priority)),
        flight_ms=st.sampled_from([0, 0, 500, 2_000]),
    )
    def reserve(self, cost: int, priority: Priority, flight_ms: int) -> None:
        """Ask; an answer that says wait must keep its word."""
        answer = self.ask(cost, priority, flight_ms)
        if isinstance(answer, Wait) and cost <= self.limit.weight_max:
            self.keep_word(answer, [("weight", cost)], priority)

    def ask(
        self, cost: int, priority: Priority, flight_ms: int = 0
    ) -> Reservation | Wait:
        """Ask, and remember what was granted; some know how long theirs may take."""
        costs = [("weight", cost)]
        answer = self.budget.reserve(
            costs, now_ms=self.now_ms, priority=priority, flight_ms=flight_ms
        )
        if isinstance(answer, Reservation):
            self.flying.append(Sent(answer, cost, flight_ms or FLIGHT_MS))
        else:
            assert answer.until_ms > self.now_ms
        return answer

    @rule(settled=st.booleans(), patient=st.booleans())
    def rush(self, *, settled: bool, patient: bool) -> None:
        """Send whatever is let through, at the first moment that lets it through."""
        for _ in range(self.limit.weight_max + 1):
            answer = self.ask(1, Priority.KEEP)
            if isinstance(answer, Wait):
                self.pass_time(answer.until_ms - self.now_ms if patient else 0)
                patient = False
                continue
            self.arrive(-1)
            if settled:
                self.answer(-1)

    def keep_word(
        self, answer: Wait, costs: list[tuple[str, int]], priority: Priority
    ) -> None:
        """Try a moment too early, and at the moment itself once all is settled."""
        budget = deepcopy(self.budget)
        for sent in self.flying if not self.tells else ():
            budget.settle(sent.reservation, [], now_ms=self.now_ms)
        early_ms = max(self.now_ms, answer.until_ms - 1)
        early = budget.reserve(costs, now_ms=early_ms, priority=priority)
        assert isinstance(early, Wait)
        if not self.tells:
            due = budget.reserve(costs, now_ms=answer.until_ms, priority=priority)
            assert isinstance(due, Reservation)

    @precondition(lambda self: self.flying)
    @rule(choice=st.integers(0, 99))
    def arrive(self, choice: int) -> None:
        """Let one request land; its answer is still under way."""
        sent = self.flying[choice % len(self.flying)]
        if sent.count is None:
            sent.count = self.land(sent.cost)

    @precondition(lambda self: self.flying)
    @rule(choice=st.integers(0, 99))
    def answer(self, choice: int) -> None:
        """Settle one, in any order, with the count it was given when it landed."""
        sent = self.flying.pop(choice % len(self.flying))
        if sent.count is None:
            sent.count = self.land(sent.cost)
        usages = [Usage(limit="weight", used=sent.count)] if self.tells else []
        self.budget.settle(sent.reservation, usages, now_ms=self.now_ms)

    @precondition(lambda self: self.flying)
    @rule(choice=st.integers(0, 99))
    def time_out(self, choice: int) -> None:
        """Settle one without an answer: it has landed, but nobody knows."""
        self.arrive(choice)
        sent = self.flying.pop(choice % len(self.flying))
        self.budget.settle(sent.reservation, [], now_ms=self.now_ms)

    @precondition(lambda self: self.flying)
    @rule(choice=st.integers(0, 99))
    def refuse(self, choice: int) -> None:
        """Cancel one that has certainly not been sent."""
        sent = self.flying[choice % len(self.flying)]
        if sent.count is None:
            self.flying.remove(sent)
            self.budget.cancel(sent.reservation)

    @precondition(lambda self: self.tells)
    @rule(share=st.integers(1, 4), settled=st.booleans())
    def others_spend(self, share: int, *, settled: bool) -> None:
        """Let others spend what they can without a breach, and tell of it."""
        if isinstance(self.ask(1, Priority.KEEP), Reservation):
            under_way = sum(sent.cost for sent in self.flying if sent.count is None)
            free = self.limit.weight_max - self.count() - under_way
            if free > 0:
                self.land(min(share, free))
            if free > 0 or settled:
                self.answer(-1)

    @invariant()
    def the_limit_holds(self) -> None:
        """Whatever lands, the exchange counts no breach."""
        assert getattr(self, "most_counted", 0) <= self.limit_max()

    def limit_max(self) -> int:
        """Return the limit, before the machine has begun anything at all."""
        return self.limit.weight_max if hasattr(self, "limit") else 0


BudgetMachine.TestCase.settings = settings(
    max_examples=300, stateful_step_count=30, deadline=None
)
TestBudget = BudgetMachine.TestCase
