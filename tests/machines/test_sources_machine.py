"""Whoever lives is shown, in order and without haste; whoever does not goes stale."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec import Struct, structs

from relay.config import Board, Group, load
from relay.ingest.sources import Sources
from relay.model import Listing, Symbols

NAMES = ("alpha", "beta", "gamma")
SILENT_MS, STALE_MS, STEADY_MS = 3_000, 5_000, 1_000
RULES = structs.replace(
    load(environ={}).settings.ingest,
    silent_after_ms=SILENT_MS,
    stale_after_ms=STALE_MS,
    steady_ms=STEADY_MS,
)
BOARD = Board(
    name="test",
    sources=(),
    demand_max=0,
    groups=(Group(instruments=("BTC-USD",), sources=NAMES),),
    lists={},
    names={},
)
TABLE = Symbols([Listing(symbol="BTCUSD", base="BTC", quote="USD")])


class Known(Struct):
    """What the model knows of a source: when it was heard, and when it said a price.

    Nobody waits for a ``fresh`` one to be steady: it has not been silent yet.
    """

    heard_ms: int = -1
    life_ms: int = 0
    said_ms: int = -1
    listed: bool = True
    fresh: bool = True

    def lives(self, now_ms: int) -> bool:
        """Tell whether it is listed, heard, and its price of this life."""
        heard = self.heard_ms >= 0 and now_ms - self.heard_ms <= SILENT_MS
        return heard and self.listed and self.said_ms >= self.life_ms


class SourcesMachine(RuleBasedStateMachine):
    """One instrument with three sources, against three plain records."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_000_000
        self.sources = Sources(BOARD, RULES, dict.fromkeys(NAMES, 0))
        self.known = {name: Known() for name in NAMES}
        for name in NAMES:
            self.sources.tabulate(name, TABLE, self.now_ms)
        self.slot = self.sources.slots["BTC-USD"]
        self.before, self.vouched_ms, self.stale = "", 0, False

    def hear(self, name: str) -> None:
        """Note a sign of life in the model; after a silence a new life begins."""
        known = self.known[name]
        if known.heard_ms < 0 or self.now_ms - known.heard_ms > SILENT_MS:
            known.life_ms = self.now_ms
            known.fresh = known.heard_ms < 0
        known.heard_ms = self.now_ms

    @rule(name=st.sampled_from(NAMES))
    def beat(self, name: str) -> None:
        """Let a source be heard without a price."""
        self.sources.feeds[name].hear(self.now_ms)
        self.hear(name)

    @rule(name=st.sampled_from(NAMES))
    def say(self, name: str) -> None:
        """Let a source say a price; one that is not listed has nobody to listen."""
        self.beat(name)
        for route in self.sources.routes[name].values():
            for held in route.helds:
                held.price, held.touched_ms = "1", self.now_ms
                self.sources.review(self.slot, self.now_ms)
                self.known[name].said_ms = self.now_ms
        self.judge()

    @rule(ms=st.sampled_from([1, 400, 1_000, 2_999, 3_000, 3_001, 5_000]))
    def pass_time(self, ms: int) -> None:
        """Let time pass; the timers run."""
        self.now_ms += ms
        self.sources.turn(self.now_ms)
        self.judge()

    @rule(names=st.sets(st.sampled_from(NAMES)), seconds=st.integers(1, 6))
    def beat_on(self, names: set[str], seconds: int) -> None:
        """Let some sources live on, each heard twice a second, others not."""
        for _ in range(2 * seconds):
            for name in sorted(names):
                self.beat(name)
            self.pass_time(500)

    @rule(name=st.sampled_from(NAMES))
    def unlist(self, name: str) -> None:
        """Take an instrument out of a source's table, as long as another has it."""
        if sum(known.listed for known in self.known.values()) > 1:
            self.sources.tabulate(name, Symbols(), self.now_ms)
            self.known[name].listed = False
            self.known[name].said_ms = -1
            self.judge()

    @rule(name=st.sampled_from(NAMES))
    def list_again(self, name: str) -> None:
        """Put it back; its price must be said anew."""
        self.sources.tabulate(name, TABLE, self.now_ms)
        self.known[name].listed = True
        self.judge()

    def judge(self) -> None:
        """Compare with what the records say."""
        shown = self.slot.shown.source if self.slot.shown is not None else ""
        living = [name for name in NAMES if self.known[name].lives(self.now_ms)]
        if living:
            assert shown == self.expected(living)
            assert not self.slot.stale
            self.stale = False
        else:
            assert shown == self.before
        self.before = shown
        self.judge_staleness(shown)

    def expected(self, living: list[str]) -> str:
        """Return whom the design wants to be shown."""
        if self.before not in living:
            return living[0]
        steady = [
            name
            for name in living[: living.index(self.before)]
            if self.known[name].fresh
            or self.now_ms - self.known[name].life_ms >= STEADY_MS
        ]
        return (*steady, self.before)[0]

    def judge_staleness(self, shown: str) -> None:
        """Compare the staleness: so long after the shown source was last heard."""
        if not shown:
            return
        known = self.known[shown]
        if known.listed and known.said_ms >= known.life_ms:
            self.vouched_ms = known.heard_ms
        if not known.lives(self.now_ms):
            due_ms = self.vouched_ms + max(STALE_MS, SILENT_MS)
            self.stale = self.stale or self.now_ms >= due_ms
        assert self.slot.stale == self.stale

    @invariant()
    def nothing_is_lost(self) -> None:
        """What was shown once is never hidden while somebody lists it."""
        assert (self.slot.shown is not None) == bool(self.before)
        assert not self.slot.removed


SourcesMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None
)
TestSources = SourcesMachine.TestCase
