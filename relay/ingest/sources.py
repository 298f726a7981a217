"""Which source an instrument is shown from: silence, failover, return, staleness.

No I/O and no clock. What a source says is merged by ``conflate``, which is told here
whose value is shown.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final

from msgspec import Struct

from relay.config import Board, Ingest
from relay.model import Listing, Symbols, Ticker, Update, is_positive

# Three of a source's own refresh intervals may pass before it counts as silent.
_REFRESHES: Final = 3


class Feed:
    """One source as a whole: when it was heard last, and since when without a silence.

    ``since_ms`` begins its present life; ``steady_ms`` as well, but after a takeover
    only with the first thing really heard. Silence is the feed's, not the
    instrument's: any frame, heartbeat or answer breaks it. ``fresh`` is a feed of a
    board that began with nothing: it has not been silent, only not heard yet.
    Since ``wrong_ms`` all it says is of the future, which is as good as silence.
    ``halted`` is what it says of itself for as long as it serves nobody. ``polled``
    tells that it is only read, so that each reading says every value again.
    """

    __slots__ = ("assumed", "fresh", "halted", "heard_ms", "name", "polled",
                 "reason", "silent_ms", "since_ms", "steady_ms",
                 "wrong_ms")  # fmt: skip

    def __init__(self, name: str, silent_ms: int, *, polled: bool = False) -> None:
        self.name, self.silent_ms, self.polled = name, silent_ms, polled
        self.heard_ms: int | None = None
        self.since_ms = self.steady_ms = 0
        self.assumed = False
        self.fresh = True
        self.reason = "never heard"
        self.halted = ""
        self.wrong_ms: int | None = None

    def hear(self, now_ms: int) -> None:
        """Note a sign of life; a second one in a millisecond says nothing new."""
        if now_ms == self.heard_ms and not self.assumed and not self.reason:
            return
        if not self.is_alive(now_ms):
            self.fresh = self.fresh and self.heard_ms is None
            self.since_ms = self.steady_ms = now_ms
        elif self.assumed:
            self.steady_ms = now_ms
        self.assumed, self.heard_ms, self.reason = False, now_ms, ""

    def assume(self, now_ms: int) -> None:
        """Let the silence count from now, at a takeover."""
        self.heard_ms = self.since_ms = self.steady_ms = now_ms
        self.assumed, self.reason = True, "not heard yet by this leader"

    def is_alive(self, now_ms: int) -> bool:
        """Tell whether it is not silent, and says what can be true."""
        if self.wrong_ms is not None and now_ms - self.wrong_ms > self.silent_ms:
            return False
        return self.heard_ms is not None and now_ms - self.heard_ms <= self.silent_ms

    def age_ms(self, now_ms: int) -> int | None:
        """Return how long ago it was really heard, None as long as it was not."""
        if self.heard_ms is None or self.assumed:
            return None
        return now_ms - self.heard_ms

    def why(self, now_ms: int) -> str:
        """Say why it is not shown; a silent one has not said anything itself."""
        if self.halted:
            return self.halted
        if self.reason or self.heard_ms is None or self.is_alive(now_ms):
            return self.reason
        return f"nothing was heard for {(now_ms - self.heard_ms) // 1000} s"

    def is_steady(self, now_ms: int, steady_ms: int) -> bool:
        """Tell whether it has really been heard for so long without a silence."""
        if self.assumed:
            return False
        return self.fresh or now_ms - self.steady_ms >= steady_ms

    def turn_back(self, now_ms: int) -> None:
        """Follow a clock that was set back: nothing was heard in the future."""
        if self.heard_ms is not None and self.heard_ms > now_ms:
            self.heard_ms = now_ms
            self.since_ms = min(self.since_ms, now_ms)
            self.steady_ms = min(self.steady_ms, now_ms)
        if self.wrong_ms is not None:
            self.wrong_ms = min(self.wrong_ms, now_ms)


class Earlier(Struct, frozen=True):
    """How the term before this one ended, by the store's clock.

    ``led_ms`` is its last word, which counted for ``beat_ms``; ``heard`` is when each
    source was heard last.
    """

    led_ms: int
    beat_ms: int = 0
    heard: dict[str, int] = {}

    def heard_ms(self, feed: Feed, now_ms: int) -> int:
        """Return since when a source counts as silent.

        While nobody listened it was not the source that was silent, unless that was so
        long that nothing old may be shown as if it were its word.
        """
        heard_ms = min(self.heard.get(feed.name, self.led_ms), self.led_ms)
        paused_ms = now_ms - self.led_ms
        if paused_ms > max(feed.silent_ms, self.beat_ms):
            return heard_ms
        return heard_ms + paused_ms


class Jump(Struct):
    """A price too far from the last one: shown when a second source bears it out.

    It came at ``at_ms``, and waits until ``until_ms`` at most.
    """

    at_ms: int
    until_ms: int
    text: str = ""
    number: Decimal = Decimal(0)


# The fields of a ticker that a source may give, as the ticker names them.
PRICED: Final = (
    "price",
    "bid",
    "ask",
    "change_24h_pct",
    "high_24h",
    "low_24h",
    "volume_24h",
    "volume_24h_quote",
)


class Held:
    """What one source has said of one of its listings, field by field.

    ``by_price``, ``by_book`` and ``by_day`` are the updates that moved the last price,
    the best prices and the day's figures: each group keeps an order of its own.
    ``touched_ms`` is when anything was merged, ``priced_ms`` when the price was last
    said. ``slots`` may show it, ``showing`` do. ``inherited`` is a value of an earlier
    term: clients may have been told of a later event than its own.
    """

    __slots__ = (
        *PRICED, "ask_number", "bid_number", "by_book", "by_day", "by_price",
        "event_ms", "feed", "inherited", "jump", "number", "priced_ms", "received_ms",
        "showing", "slots", "touched_ms",
    )  # fmt: skip

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.price = self.bid = self.ask = ""
        self.change_24h_pct = self.high_24h = self.low_24h = ""
        self.volume_24h = self.volume_24h_quote = ""
        self.number: Decimal | None = None
        self.bid_number: Decimal | None = None
        self.ask_number: Decimal | None = None
        self.by_price: Update | None = None
        self.by_book: Update | None = None
        self.by_day: Update | None = None
        self.event_ms = self.received_ms = 0
        self.inherited = False
        self.touched_ms = self.priced_ms = -1
        self.jump: Jump | None = None
        self.slots: list[Slot] = []
        self.showing: list[Slot] = []

    def seed(self, ticker: Ticker, vouched_ms: int) -> None:
        """Begin with what was published, in an earlier term, and counts as said then.

        A value that was stale is not the word of a living source now.
        """
        for field in PRICED:
            setattr(self, field, getattr(ticker, field))
        self.number = _number(ticker.price)
        self.bid_number, self.ask_number = _number(ticker.bid), _number(ticker.ask)
        self.event_ms, self.received_ms = ticker.event_ms, ticker.received_ms
        self.inherited = True
        self.by_price = self.by_book = self.by_day = Update(
            exchange=ticker.source,
            channel="",
            symbol="",
            # Another term's clock may have been ahead of ours.
            received_ms=min(ticker.received_ms, vouched_ms),
            event_ms=ticker.event_ms,
        )
        self.touched_ms = -1 if ticker.stale else vouched_ms


def _number(text: str) -> Decimal | None:
    return Decimal(text) if is_positive(text) else None


class Candidate:
    """A source that an instrument may be shown from; ``via`` is another quote's name.

    ``listing`` is None while the source's table has not arrived.
    """

    __slots__ = ("feed", "held", "listing", "source", "via")

    def __init__(
        self, source: str, via: str, held: Held, listing: Listing | None = None
    ) -> None:
        self.source, self.via, self.feed = source, via, held.feed
        self.held, self.listing = held, listing

    @property
    def current(self) -> bool:
        """Whether its value was said in the feed's present life."""
        return bool(self.held.price) and self.held.touched_ms >= self.feed.since_ms

    @property
    def heard_ms(self) -> int | None:
        """When it was heard of last: what nothing streams, by its own readings alone.

        An aggregator drops a coin without a word, and a quiet one it says again.
        """
        feed_ms = self.feed.heard_ms
        if feed_ms is None or not self.feed.polled:
            return feed_ms
        return min(feed_ms, self.held.touched_ms)

    def lives(self, now_ms: int) -> bool:
        """Tell whether it may be shown: the feed is not silent, the value its own."""
        if not (self.feed.is_alive(now_ms) and self.current):
            return False
        polled = self.feed.polled
        return not polled or now_ms - self.held.touched_ms <= self.feed.silent_ms


class Slot:
    """One instrument's place on the board.

    ``shown`` may be no candidate any more: its value stays until another comes.
    ``vouched_ms`` is when its source was last heard. ``published`` is the ticker as it
    was cut last, without ``received_ms`` and ``offset``; None forces the next cut.
    """

    __slots__ = ("candidates", "name", "offset", "published", "removed", "shown",
                 "stale", "vouched_ms")  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.candidates: tuple[Candidate, ...] = ()
        self.shown: Candidate | None = None
        self.stale = self.removed = False
        self.vouched_ms = self.offset = 0
        self.published: Ticker | None = None

    def ticker(self) -> Ticker:
        """Return what is to be published, without ``received_ms`` and ``offset``."""
        if self.shown is None:
            return Ticker(removed=self.removed)
        held = self.shown.held
        return Ticker(
            price=held.price,
            bid=held.bid,
            ask=held.ask,
            change_24h_pct=held.change_24h_pct,
            high_24h=held.high_24h,
            low_24h=held.low_24h,
            volume_24h=held.volume_24h,
            volume_24h_quote=held.volume_24h_quote,
            source=self.shown.source,
            via=self.shown.via,
            event_ms=held.event_ms,
            stale=self.stale,
        )


def choose(slot: Slot, now_ms: int, steady_ms: int) -> Candidate | None:
    """Return whom to show: the first that lives, but without haste.

    Away from a source that lives only to an earlier one that has been steady. With
    nobody alive, whoever is shown stays.
    """
    shown = slot.shown
    content = shown is not None and shown in slot.candidates and shown.lives(now_ms)
    for candidate in slot.candidates:
        if candidate is shown and content:
            return shown
        if candidate.lives(now_ms) and (
            not content or candidate.feed.is_steady(now_ms, steady_ms)
        ):
            return candidate
    return shown


def stale_ms(slot: Slot, shown: Candidate, stale_after_ms: int) -> int:
    """Return when a value becomes stale whose source is heard no more."""
    return slot.vouched_ms + max(stale_after_ms, shown.feed.silent_ms)


class Orders:
    """Who is asked for which instrument, in which order."""

    def __init__(self, board: Board) -> None:
        self.core: dict[str, tuple[str, ...]] = {}
        for group in board.groups:
            for instrument in group.instruments:
                self.core.setdefault(instrument, group.sources)
        self._anybody = board.sources

    def of(self, instrument: str) -> Iterator[tuple[str, str, str]]:
        """Yield source, via, and the instrument as the source has it."""
        for entry in self.core.get(instrument, self._anybody):
            source, _, via = entry.partition(":")
            yield source, via, as_listed(instrument, via)


def as_listed(instrument: str, via: str) -> str:
    """Return an instrument with its quote replaced, where there is a ``via``."""
    return f"{instrument.rpartition('-')[0]}-{via}" if via else instrument


class Route(Struct, frozen=True, eq=False):
    """Where a symbol's updates go; ``sequences`` holds each channel's newest number."""

    helds: list[Held]
    sequences: dict[str, int]


class Tally(Struct, kw_only=True):
    """How many instruments are shown, stale, missing and removed."""

    shown: int = 0
    stale: int = 0
    missing: int = 0
    removed: int = 0


class Sources:
    """Every instrument's slot, wired to the sources that list it.

    ``changed`` names the slots whose tickers may have to be published, oldest change
    first.
    """

    def __init__(
        self, board: Board, rules: Ingest, refresh_ms: Mapping[str, int]
    ) -> None:
        self._rules = rules
        self.feeds = {
            name: Feed(
                name,
                max(rules.silent_after_ms, _REFRESHES * every_ms),
                polled=every_ms > 0,
            )
            for name, every_ms in refresh_ms.items()
        }
        self.slots: dict[str, Slot] = {}
        self.routes: dict[str, dict[str, Route]] = {name: {} for name in self.feeds}
        self.changed: dict[str, None] = {}
        # From whom to whom so many went, and why the first may not be shown any more.
        self.moves: Counter[tuple[str, str, str]] = Counter()
        self._orders = Orders(board)
        self._demanded: set[str] = set()
        self._tables: dict[str, Symbols] = {}
        self._helds: dict[tuple[str, str], Held] = {}
        self._wire(0)

    def restore(
        self, tickers: Mapping[str, Ticker], now_ms: int, earlier: Earlier
    ) -> None:
        """Begin with what an earlier term has published, and with its silences."""
        for feed in self.feeds.values():
            feed.assume(earlier.heard_ms(feed, now_ms))
            feed.fresh = feed.fresh and not tickers
        for name, ticker in tickers.items():
            slot = self.slots.setdefault(name, Slot(name))
            slot.removed, slot.offset = ticker.removed, ticker.offset
            if not ticker.removed:
                self._restore(slot, ticker, earlier.led_ms)
            slot.published = slot.ticker()
        self._wire(now_ms)

    def _restore(self, slot: Slot, ticker: Ticker, led_ms: int) -> None:
        feed = self.feeds.get(ticker.source) or Feed(ticker.source, 0)
        vouched_ms = led_ms if feed.heard_ms is None else feed.heard_ms
        key = (ticker.source, as_listed(slot.name, ticker.via))
        held = self._helds.setdefault(key, Held(feed))
        # Another instrument may show the same listing, newer.
        if ticker.received_ms >= held.received_ms:
            held.seed(ticker, vouched_ms)
        slot.stale, slot.vouched_ms = ticker.stale, vouched_ms
        self._show(slot, Candidate(ticker.source, ticker.via, held))
        if slot.name not in self._orders.core:
            self._demanded.add(slot.name)

    def tabulate(self, source: str, symbols: Symbols, now_ms: int) -> None:
        """Take in a source's table."""
        self._tables[source] = symbols
        self._wire(now_ms)

    def want(self, instruments: Iterable[str], now_ms: int) -> None:
        """Want these besides the core, and no others."""
        demanded = set(instruments) - self._orders.core.keys()
        if demanded == self._demanded:
            return
        for name in self._demanded - demanded:
            self._remove(self.slots[name])
            if not self.slots[name].removed:
                del self.slots[name]
        self._demanded = demanded
        self._wire(now_ms)

    def wanted(self, source: str) -> Iterator[Candidate]:
        """Yield who reads from a source, over all instruments."""
        for slot in self.slots.values():
            for candidate in slot.candidates:
                if candidate.source == source and candidate.listing is not None:
                    yield candidate

    def unlisted(self) -> Iterator[str]:
        """Yield what is always on, and no longer or never was in anybody's table."""
        for name in self._orders.core:
            slot = self.slots.get(name)
            if slot and not slot.candidates and self._is_unlisted(name):
                yield name

    def knows(self, source: str, symbol: str) -> bool:
        """Tell whether a source's table has a symbol."""
        return bool(self._tables.get(source, Symbols()).listings_of(symbol))

    def _wire(self, now_ms: int) -> None:
        """Give every wanted instrument its candidates, and every symbol its route."""
        helds: dict[tuple[str, str], Held] = {}
        for name in (*self._orders.core, *sorted(self._demanded)):
            slot = self.slots.setdefault(name, Slot(name))
            slot.candidates = tuple(self._candidates(name, helds))
            for candidate in slot.candidates:
                if slot.shown is not None and _is_same(candidate, slot.shown):
                    slot.shown = candidate
        self._helds = helds
        self._link()
        for slot in tuple(self.slots.values()):
            if not slot.candidates and self._is_unlisted(slot.name):
                self._remove(slot)
            self.review(slot, now_ms)

    def _candidates(
        self, name: str, helds: dict[tuple[str, str], Held]
    ) -> Iterator[Candidate]:
        for source, via, listed in self._orders.of(name):
            key = (source, listed)
            table = self._tables.get(source)
            listing = table.by_instrument.get(listed) if table is not None else None
            # Until its table comes, a source has what was restored.
            known = key in self._helds if table is None else bool(listing)
            if source not in self.feeds or not known:
                continue
            if listing is None or listing.active:
                found = helds.get(key) or self._helds.get(key)
                held = helds[key] = found or Held(self.feeds[source])
                yield Candidate(source, via, held, listing)

    def _link(self) -> None:
        """Connect helds with slots, and symbols with helds; sequences go on."""
        before, self.routes = self.routes, {name: {} for name in self.feeds}
        for held in self._helds.values():
            held.slots = []
        for slot in self.slots.values():
            for candidate in slot.candidates:
                candidate.held.slots.append(slot)
                if candidate.listing is not None:
                    self._route(candidate, candidate.listing, before[candidate.source])

    def _route(
        self, candidate: Candidate, listing: Listing, before: dict[str, Route]
    ) -> None:
        routes = self.routes[candidate.source]
        for symbol in {listing.symbol, *listing.answers_as}:
            if symbol not in routes:
                old = before.get(symbol)
                routes[symbol] = Route([], old.sequences if old else {})
            if candidate.held not in routes[symbol].helds:
                routes[symbol].helds.append(candidate.held)

    def _is_unlisted(self, name: str) -> bool:
        """Tell whether every source of an instrument has a table, and none has it."""
        return all(
            source in self._tables
            for source, _, _ in self._orders.of(name)
            if source in self.feeds
        )

    def _remove(self, slot: Slot) -> None:
        """Leave a marker where something was shown."""
        slot.candidates = ()
        if slot.shown is not None:
            self._hide(slot)
            slot.shown, slot.removed, slot.stale = None, True, False
            self.changed[slot.name] = None

    def review(self, slot: Slot, now_ms: int) -> None:
        """Decide anew whom an instrument is shown from, and whether it is stale."""
        shown = choose(slot, now_ms, self._rules.steady_ms)
        if shown is None:
            return
        if shown is not slot.shown:
            self._note_move(slot, shown, now_ms)
            self._show(slot, shown)
            self.changed[slot.name] = None
        if shown in slot.candidates and shown.current and shown.heard_ms:
            slot.vouched_ms = shown.heard_ms
        stale = self._is_stale(slot, shown, now_ms)
        if stale is not slot.stale:
            slot.stale = stale
            self.changed[slot.name] = None

    def _note_move(self, slot: Slot, to: Candidate, now_ms: int) -> None:
        before = slot.shown
        if before is not None and before.source != to.source:
            lives = before.feed.is_alive(now_ms)
            why = "" if lives else before.feed.why(now_ms)
            self.moves[before.source, to.source, why] += 1

    def _is_stale(self, slot: Slot, shown: Candidate, now_ms: int) -> bool:
        if shown in slot.candidates and shown.lives(now_ms):
            return False
        due_ms = stale_ms(slot, shown, self._rules.stale_after_ms)
        return slot.stale or now_ms >= due_ms

    def _show(self, slot: Slot, candidate: Candidate) -> None:
        self._hide(slot)
        slot.shown, slot.removed = candidate, False
        candidate.held.showing.append(slot)

    def _hide(self, slot: Slot) -> None:
        if slot.shown is not None:
            slot.shown.held.showing.remove(slot)

    def turn(self, now_ms: int) -> None:
        """Look at every silence, return and staleness."""
        for feed in self.feeds.values():
            feed.turn_back(now_ms)
        for slot in self.slots.values():
            self.review(slot, now_ms)

    def next_ms(self, now_ms: int) -> int | None:
        """Return when something will be due if nothing is heard until then."""
        rules = self._rules
        due = [
            at_ms
            for feed in self.feeds.values()
            if feed.heard_ms is not None
            for at_ms in (
                feed.heard_ms + feed.silent_ms + 1,
                feed.steady_ms + rules.steady_ms,
            )
        ]
        due += [
            stale_ms(slot, slot.shown, rules.stale_after_ms)
            for slot in self.slots.values()
            if slot.shown is not None
        ]
        return min((at_ms for at_ms in due if at_ms > now_ms), default=None)

    def forget(self, names: Iterable[str]) -> None:
        """Forget markers; what has come back meanwhile is published anew."""
        for name in names:
            slot = self.slots.get(name)
            if slot is None:
                continue
            if not slot.removed:
                self.touch(slot)
            elif name in self._orders.core or name in self._demanded:
                slot.removed, slot.published = False, None
            else:
                del self.slots[name]

    def touch(self, slot: Slot) -> None:
        """Have a slot published, changed or not."""
        slot.published = None
        if slot.shown is not None or slot.removed:
            self.changed[slot.name] = None

    def tally(self) -> Tally:
        """Count the instruments."""
        tally = Tally()
        for slot in self.slots.values():
            if slot.removed:
                tally.removed += 1
            elif slot.shown is None:
                tally.missing += 1
            elif slot.stale:
                tally.stale += 1
            else:
                tally.shown += 1
        return tally


def _is_same(one: Candidate, other: Candidate) -> bool:
    return one.held is other.held and one.via == other.via
