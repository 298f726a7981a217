"""The lease, by its scripts in a real store, against a model of a few lines."""

import asyncio
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from relay.clock import ManualClock
from relay.config import load
from relay.errors import LeaseLost, OutOfStep
from relay.model import Batch
from relay.store.client import Client
from relay.store.embedded import embedded
from relay.store.keys import Keys
from relay.store.writer import Lease, Writer

LIFE_MS = 10_000
HOLDERS = 3
_boards = count()


class LeaseMachine(RuleBasedStateMachine):
    """Holders that take, keep, lose and give back one lease, each with a clock.

    The model is who holds it and until when; the store is one of its own, and the
    machine owns the event loop.
    """

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = embedded()
        url = self.runner.run(self.store.__aenter__())
        self.clock = ManualClock()
        rules = load(environ={"RELAY_VALKEY_URL": url}).settings.store
        self.client = Client(rules, self.clock)
        keys = Keys(f"lease-{next(_boards)}")
        self.writer = Writer(self.client, keys, log_entries_max=10)
        self.held: list[Lease | None] = [None] * HOLDERS
        self.owner: int | None = None
        self.ends_ms = 0
        self.newest = 0
        self.offset = 0

    def teardown(self) -> None:
        """End the store, and the loop."""
        self.runner.run(self.client.close())
        self.runner.run(self.store.__aexit__(None, None, None))
        self.runner.close()

    @initialize()
    def begin(self) -> None:
        """Begin with nobody leading."""
        assert self.owner is None

    def owned(self) -> bool:
        """Tell whether somebody holds the lease now."""
        return self.owner is not None and self.clock.wall_ms() < self.ends_ms

    @rule(ms=st.sampled_from([1, 3_000, 9_999, 10_000]))
    def pass_time(self, ms: int) -> None:
        """Let time pass."""
        self.clock.advance(ms)

    @rule(who=st.integers(0, HOLDERS - 1))
    def take(self, who: int) -> None:
        """Take it if nobody else has it; a new token is always a larger one."""
        free = not self.owned() or self.owner == who
        lease = self.runner.run(self.writer.take(f"holder-{who}", LIFE_MS))
        assert (lease is not None) is free
        if lease is not None:
            assert lease.token > self.newest
            self.held[who], self.owner, self.newest = lease, who, lease.token
            self.ends_ms = self.clock.wall_ms() + LIFE_MS

    def holds(self, who: int) -> bool:
        """Tell whether what this one believes to hold is the lease."""
        lease = self.held[who]
        return (
            lease is not None
            and self.owned()
            and self.owner == who
            and lease.token == self.newest
        )

    @rule(who=st.integers(0, HOLDERS - 1))
    def keep(self, who: int) -> None:
        """Renew it, which only its holder can."""
        lease = self.held[who]
        if lease is None:
            return
        # One who is late keeps it as long as nobody has taken it meanwhile.
        mine = self.owner == who and lease.token == self.newest
        try:
            self.runner.run(self.writer.keep(lease, LIFE_MS))
        except LeaseLost:
            assert not self.holds(who)
            self.held[who] = None
        else:
            assert mine
            self.ends_ms = self.clock.wall_ms() + LIFE_MS

    @rule(who=st.integers(0, HOLDERS - 1))
    def publish(self, who: int) -> None:
        """Write under it: whoever does not hold it is refused, always."""
        lease = self.held[who]
        if lease is None:
            return
        offset = self.offset + 1
        batch = Batch(
            epoch="a", previous=self.offset, offset=offset, tickers={"A": b"1"}
        )
        try:
            self.runner.run(self.writer.publish(lease, batch))
        except (LeaseLost, OutOfStep):
            assert not self.holds(who)
        else:
            assert self.holds(who)
            self.offset = offset

    @precondition(lambda self: any(self.held))
    @rule(who=st.integers(0, HOLDERS - 1))
    def release(self, who: int) -> None:
        """Give it back, which sets nobody free but its holder."""
        lease = self.held[who]
        if lease is None:
            return
        given = self.runner.run(self.writer.release(lease))
        assert given or not self.holds(who)
        if given:
            self.owner = None
        self.held[who] = None

    @invariant()
    def one_holds_it_at_most(self) -> None:
        """The whole point."""
        assert sum(self.holds(who) for who in range(HOLDERS)) <= 1


LeaseMachine.TestCase.settings = settings(
    max_examples=12, stateful_step_count=40, deadline=None
)
TestLease = LeaseMachine.TestCase
