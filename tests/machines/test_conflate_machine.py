"""Whatever order frames come in, clients end up with the newest of each field."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import Struct, structs

from relay.config import Board, Group, load
from relay.ingest.conflate import Merge
from relay.model import Batch, Listing, Symbols, Ticker, Update, decode_ticker

NAMES = ("BTC-USD", "ETH-USD", "SOL-USD")
# Far from any limit of time or truth: this machine is about order and cutting.
RULES = structs.replace(
    load(environ={}).settings.ingest, jump_pct=1e9, silent_after_ms=10**9
)
BOARD = Board(
    name="test",
    sources=(),
    demand_max=0,
    groups=(Group(instruments=NAMES, sources=("alpha",)),),
    lists={},
    names={},
)
TABLE = Symbols(Listing(symbol=name, base=name[:3], quote=name[4:]) for name in NAMES)
START_MS = 1_763_640_000_000


class Frame(Struct, frozen=True):
    """One update, and its true place in the history of its instrument's field."""

    place: int
    update: Update


class ConflateMachine(RuleBasedStateMachine):
    """An exchange whose frames are delayed, repeated and reordered; a leader that dies.

    The model keeps, for each instrument and group of fields, the newest frame that was
    delivered, by the exchange's own history; and what clients hold, by the batches
    that were acknowledged.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_ms, self.place = START_MS, 0
        self.merge = self.lead()
        self.sent: list[Frame] = []
        self.newest: dict[tuple[str, str], Frame] = {}
        self.clients: dict[str, Ticker] = {}
        # What a takeover knows of the order: the published event of each instrument.
        self.floors: dict[str, int] = {}
        self.offset = 0

    def lead(self) -> Merge:
        """Begin a term."""
        merge = Merge(BOARD, RULES, {"alpha": 0})
        merge.list("alpha", TABLE)
        return merge

    @rule(
        name=st.sampled_from(NAMES),
        kind=st.sampled_from(["trade", "book", "ticker"]),
        pause_ms=st.integers(1, 50),
        arrives=st.booleans(),
    )
    def happen(self, name: str, kind: str, pause_ms: int, *, arrives: bool) -> None:
        """Let something happen at the exchange; its frame may be under way for long."""
        self.now_ms += pause_ms
        self.place += 1
        value = str(1000 + self.place)
        update = Update(
            exchange="alpha",
            channel=kind,
            symbol=name,
            received_ms=0,
            event_ms=self.now_ms,
            # A channel without a number of its own is ordered by the event alone.
            sequence=self.place if kind == "trade" else 0,
            price=value if kind != "book" else "",
            bid=value if kind != "trade" else "",
            ask=value if kind != "trade" else "",
            high_24h=value if kind == "ticker" else "",
        )
        self.sent.append(Frame(self.place, update))
        if arrives:
            self.deliver(-1)

    @precondition(lambda self: self.sent)
    @rule(choice=st.integers(0, 1_000))
    def deliver(self, choice: int) -> None:
        """Deliver any frame that was ever sent, again perhaps."""
        frame = self.sent[choice % len(self.sent)]
        update = structs.replace(frame.update, received_ms=self.now_ms)
        self.merge.take([update], now_ms=self.now_ms)
        if update.event_ms < self.floors.get(update.symbol, 0):
            return
        for field in ("price", "bid", "high_24h"):
            if getattr(update, field):
                key = (update.symbol, field)
                if key not in self.newest or frame.place > self.newest[key].place:
                    self.newest[key] = frame

    def cut(self, most: int) -> Batch | None:
        """Cut a batch, and look at its numbers."""
        batch = self.merge.cut(
            epoch="e", previous=self.offset, now_ms=self.now_ms, most=most
        )
        if batch is not None:
            assert batch.offset > batch.previous == self.offset
            assert batch.offset >= self.now_ms
            assert 0 < len(batch.tickers) <= most
        return batch

    @rule(most=st.integers(1, 3))
    def publish(self, most: int) -> None:
        """Publish; nothing that clients hold already is sent to them."""
        batch = self.cut(most)
        if batch is None:
            return
        self.offset = batch.offset
        for name, raw in batch.tickers.items():
            ticker = decode_ticker(raw)
            assert ticker.offset == batch.offset
            if name in self.clients:
                assert not is_same(ticker, self.clients[name])
            self.clients[name] = ticker

    @rule(most=st.integers(1, 3), stored=st.booleans())
    def fail(self, most: int, *, stored: bool) -> None:
        """Lose a batch, or only the word that it was stored."""
        batch = self.cut(most)
        if batch is not None:
            self.merge.failed(batch)
            assert self.merge.dirty
            if stored:
                self.offset = batch.offset
                # What clients hold may now be sent once more; forget it.
                self.clients.update(dict.fromkeys(batch.tickers, Ticker()))

    @rule()
    def take_over(self) -> None:
        """Let another leader begin with what clients hold; the rest is lost.

        What was published is never stepped back: not by anything older than its event.
        """
        self.settle()
        self.now_ms += 1
        self.floors = {name: one.event_ms for name, one in self.clients.items()}
        self.newest = {
            key: frame for key, frame in self.newest.items() if key[0] in self.clients
        }
        stored = {name: ticker.encode() for name, ticker in self.clients.items()}
        self.merge = self.lead()
        self.merge.restore(stored, now_ms=self.now_ms)
        assert not self.merge.dirty

    @rule()
    def settle(self) -> None:
        """Publish everything: clients then hold the newest of every field."""
        while self.merge.dirty:
            self.publish(most=2)
        for (name, field), frame in self.newest.items():
            if (name, "price") in self.newest:
                held = getattr(self.clients[name], field)
                assert held == getattr(frame.update, field)

    @invariant()
    def what_is_shown_is_the_newest(self) -> None:
        """Also before it is published."""
        for name, price in self.merge.points().items():
            assert price == self.newest[name, "price"].update.price


def is_same(one: Ticker, other: Ticker) -> bool:
    """Tell whether two tickers say the same."""
    blank = {"offset": 0, "received_ms": 0}
    return structs.replace(one, **blank) == structs.replace(other, **blank)


ConflateMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None
)
TestConflate = ConflateMachine.TestCase
