"""Keep the newest of what is heard of each instrument; cut what changed into batches.

No I/O and no clock. What cannot be true is told by ``doubts`` and ``jumps``, whose
value is shown by ``sources``.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import structs

from relay.config import Board, Ingest
from relay.ingest.doubts import (
    AHEAD,
    CROSSED,
    DAY,
    FUTURE,
    JUMPED,
    LATE,
    REPEATED,
    REVOKED,
    UNKNOWN,
    UNREADABLE,
    UNTRUE_BOOK,
    UNTRUE_DAY,
    UNTRUE_PRICE,
    is_ahead,
    is_far,
    is_late,
    read_price,
)
from relay.ingest.jumps import Jumps
from relay.ingest.sources import Candidate, Earlier, Held, Route, Slot, Sources
from relay.model import (
    Batch,
    Listing,
    Symbols,
    Ticker,
    Update,
    decode_ticker,
    next_offset,
)

# ``turn`` wants to be called this often at least, since a jump may begin between.
_TURN_MS: Final = 500

# What became of one group of an update's fields.
_DROPPED, _SAME, _CHANGED = 0, 1, 2


class Merge:
    """One ticker for each instrument, of the newest that its source has said.

    ``refresh_ms`` has each enabled source's own refresh interval; sources not in it
    are skipped. ``now_ms`` is the store's clock, advanced by the steady one.
    """

    def __init__(
        self, board: Board, rules: Ingest, refresh_ms: Mapping[str, int]
    ) -> None:
        self._rules = rules
        self._sources = Sources(board, rules, refresh_ms)
        self._future_max_ms = rules.future_max_ms
        self._crossed_pct = Decimal(str(rules.crossed_max_pct))
        self._jumps = Jumps(rules)
        self._now_ms = 0
        # Exchange, channel and symbol of what came last with a time that cannot be.
        self._ahead: set[tuple[str, str, str]] = set()
        self.drops: Counter[tuple[str, str]] = Counter()

    # What is on the board, and where it is read.

    def restore(
        self,
        tickers: Mapping[str, bytes],
        *,
        now_ms: int,
        earlier: Earlier | None = None,
    ) -> None:
        """Begin with the store's values, at a takeover.

        They are shown until something newer comes. The term ``earlier`` has ended just
        now, if nothing is said of it.
        """
        self._now_ms = now_ms
        read: dict[str, Ticker] = {}
        for name, ticker in tickers.items():
            try:
                read[name] = decode_ticker(ticker)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                self.drops["store", UNREADABLE] += 1
        self._sources.restore(read, now_ms, earlier or Earlier(now_ms))

    def list(self, source: str, symbols: Symbols) -> None:
        """Take in a source's table, the first or a newer one."""
        self._sources.tabulate(source, symbols, self._now_ms)

    def want(self, instruments: Iterable[str]) -> None:
        """Want these besides the core, and no others."""
        self._sources.want(instruments, self._now_ms)

    def wanted(self, source: str) -> "_Listings":
        """Return what a source is to be read for, in the order of its symbols."""
        return _by_symbol(self._sources.wanted(source))

    def unpriced(self, source: str) -> "_Listings":
        """Return what of it has no value of the source's present life."""
        found = self._sources.wanted(source)
        return _by_symbol(one for one in found if not one.current)

    def unlisted(self) -> Iterator[str]:
        """Yield what is always on, and no longer or never was in anybody's table."""
        return self._sources.unlisted()

    # What is heard.

    def heard(self, source: str, *, now_ms: int) -> None:
        """Note that a feed lives: a frame, a heartbeat, an answer."""
        self._now_ms = now_ms
        feed = self._sources.feeds.get(source)
        if feed is not None:
            feed.hear(now_ms)

    def lost(self, source: str, reason: str, *, now_ms: int) -> None:
        """Note why a feed may fall silent; silence itself decides."""
        self._now_ms = now_ms
        feed = self._sources.feeds.get(source)
        if feed is not None:
            feed.reason = reason

    def halt(self, source: str, words: str) -> None:
        """Note why a source says that it serves nobody; without words it does again.

        Whatever goes wrong meanwhile does so for that reason.
        """
        feed = self._sources.feeds.get(source)
        if feed is not None:
            feed.halted = words

    def take(self, updates: Sequence[Update], *, now_ms: int) -> None:
        """Merge what frames and answers say. The hot path: microseconds each."""
        exchange, routes = "", _NO_ROUTES
        for update in updates:
            if update.exchange != exchange:
                exchange = update.exchange
                self.heard(exchange, now_ms=now_ms)
                routes = self._sources.routes.get(exchange, _NO_ROUTES)
            route = routes.get(update.symbol)
            if route is None:
                self._refuse(update)
            elif update.event_ms > now_ms + self._future_max_ms:
                self._distrust(exchange)
            elif not update.sequence or self._is_next(update, route):
                for held in route.helds:
                    self._merge(held, update, now_ms)

    def _distrust(self, exchange: str) -> None:
        """Count what is far in the future; a feed of nothing else is as good as silent.

        Else its last value would be shown as live for as long as it goes on.
        """
        self.drops[exchange, FUTURE] += 1
        feed = self._sources.feeds[exchange]
        if feed.wrong_ms is None:
            feed.wrong_ms = self._now_ms

    def _refuse(self, update: Update) -> None:
        """Count what has no route, unless it only is not wanted."""
        if not self._sources.knows(update.exchange, update.symbol):
            self.drops[update.exchange, UNKNOWN] += 1

    def _is_next(self, update: Update, route: Route) -> bool:
        """Tell whether an update is a channel's newest; one said again stays true."""
        channel, sequence = update.channel, update.sequence
        last = route.sequences.get(channel, 0)
        anew = self._ahead and self._is_set_right(update)
        if anew or sequence > last:
            route.sequences[channel] = sequence
            return True
        reason = REPEATED if sequence == last else LATE
        self.drops[update.exchange, reason] += 1
        if reason is REPEATED:
            for held in route.helds:
                self._touch(held, self._now_ms)
        return False

    def _is_set_right(self, update: Update) -> bool:
        """Tell whether an exchange's clock was ahead and is not any more.

        Where its times serve as numbers, they begin anew as well.
        """
        key = (update.exchange, update.channel, update.symbol)
        if key not in self._ahead or is_ahead(update):
            return False
        self._ahead.remove(key)
        return True

    def _merge(self, held: Held, update: Update, now_ms: int) -> None:
        """Merge the groups of fields that an update has, each in its own order."""
        done = 0
        if update.price:
            done = self._take_price(held, update, now_ms)
        if update.bid or update.ask:
            done |= self._take_book(held, update)
        if (
            update.high_24h
            or update.volume_24h
            or update.low_24h
            or update.change_24h_pct
            or update.volume_24h_quote
        ):
            done |= self._take_day(held, update)
        if not done:
            self._note_listed(held, update, now_ms)
            return
        if update.event_ms > held.event_ms or (held.inherited and done & _CHANGED):
            done |= self._take_time(held, update)
        if update.received_ms > held.received_ms:  # noqa: PLR1730  no call on the hot path
            held.received_ms = update.received_ms
        if done & _CHANGED:
            self._change(held)
        self._touch(held, now_ms)

    def _note_listed(self, held: Held, update: Update, now_ms: int) -> None:
        """Note that what is only read is still there, with a price older than ours.

        It may come from another edge.
        """
        if held.feed.polled and read_price(update.price) is not None:
            self._touch(held, now_ms)

    def _outdate(self, held: Held, update: Update) -> None:
        """Let go of what a newer price, read by REST, shows to be of long ago.

        Its stream may be dead: best prices that are not its own, and the time of an
        event that is not.
        """
        now_ms, life_ms = update.received_ms, self._rules.silent_after_ms
        book = held.by_book
        if book is not None and not (update.bid or update.ask):
            old = now_ms - book.received_ms > life_ms
            if old or (book.received_ms < now_ms and self._is_outside(held)):
                held.bid = held.ask = ""
                held.bid_number = held.ask_number = None
        if not update.event_ms and held.event_ms and now_ms - held.event_ms > life_ms:
            # It has no time of its own: it is as old as its reading.
            held.event_ms = now_ms

    def _is_outside(self, held: Held) -> bool:
        """Tell whether a price contradicts the best prices beside it."""
        price, pct = held.number, self._crossed_pct
        assert price is not None, "it was just read"
        bid, ask = held.bid_number, held.ask_number
        below = bid is not None and price < bid and is_far(price, bid, pct)
        return below or (ask is not None and price > ask and is_far(price, ask, pct))

    def _take_time(self, held: Held, update: Update) -> int:
        """Take an event's time; in place of one that cannot be true, its receipt.

        So what is published never steps back when the exchange's clock is set right.
        What changes first after a takeover is of its receipt where it has no time: it
        follows whatever an earlier leader told of, also what the store has lost.
        """
        event_ms = update.event_ms
        if not event_ms and held.event_ms:
            event_ms = update.received_ms
        elif is_ahead(update):
            self._drop(update, AHEAD)
            self._ahead.add((update.exchange, update.channel, update.symbol))
            event_ms = update.received_ms
        if event_ms <= held.event_ms:
            return _SAME
        held.inherited = held.inherited and not update.event_ms
        held.event_ms = event_ms
        return _CHANGED

    def _touch(self, held: Held, now_ms: int) -> None:
        """Note that a value is of now; a first one may be shown at once."""
        held.feed.wrong_ms = None
        before_ms, held.touched_ms = held.touched_ms, now_ms
        if before_ms < held.feed.since_ms:
            for slot in held.slots:
                self._sources.review(slot, now_ms)

    def _change(self, held: Held) -> None:
        for slot in held.showing:
            self._sources.changed[slot.name] = None

    def _take_price(self, held: Held, update: Update, now_ms: int) -> int:
        if is_late(update, held.by_price):
            return self._drop(update, LATE)
        number = held.number
        if update.price != held.price:
            number = read_price(update.price)
        if number is None:
            return self._drop(update, UNTRUE_PRICE)
        held.by_price = update
        if self._jumps.is_one(held, number):
            self._jumps.hold(held, update.price, number, now_ms)
            self._weigh(now_ms)
            return _SAME
        if held.jump is not None:
            # Its own source is back where it was.
            self._jumps.end(held)
            self._drop(update, REVOKED)
        done = self._set_price(held, update.price, number, now_ms)
        if update.snapshot and done & _CHANGED:
            self._outdate(held, update)
        return done

    def _set_price(self, held: Held, text: str, number: Decimal, now_ms: int) -> int:
        held.priced_ms = now_ms
        if text == held.price:
            return _SAME
        if not held.price:
            # Only with a price may it be shown: ``_touch`` must look at it anew.
            held.touched_ms = -1
        held.price, held.number = text, number
        if self._jumps:
            self._weigh(now_ms)
        return _CHANGED

    def _drop(self, update: Update, reason: str) -> int:
        self.drops[update.exchange, reason] += 1
        return _DROPPED

    def _take_book(self, held: Held, update: Update) -> int:
        if is_late(update, held.by_book):
            return self._drop(update, LATE)
        bid, ask = update.bid or held.bid, update.ask or held.ask
        if bid == held.bid and ask == held.ask and held.bid_number and held.ask_number:
            # Mostly only the sizes move: what was judged is not judged again.
            held.by_book = update
            return _SAME
        return self._judge_book(held, update, bid, ask)

    def _judge_book(self, held: Held, update: Update, bid: str, ask: str) -> int:
        bid_number, ask_number = held.bid_number, held.ask_number
        if bid != held.bid:
            bid_number = read_price(bid)
        if ask != held.ask:
            ask_number = read_price(ask)
        if (bid and bid_number is None) or (ask and ask_number is None):
            return self._drop(update, UNTRUE_BOOK)
        if self._is_crossed(bid_number, ask_number):
            return self._drop(update, CROSSED)
        held.by_book = update
        if bid == held.bid and ask == held.ask:
            return _SAME
        held.bid, held.bid_number = bid, bid_number
        held.ask, held.ask_number = ask, ask_number
        return _CHANGED

    def _is_crossed(self, bid: Decimal | None, ask: Decimal | None) -> bool:
        if bid is None or ask is None or bid <= ask:
            return False
        return is_far(bid, ask, self._crossed_pct)

    def _take_day(self, held: Held, update: Update) -> int:
        if is_late(update, held.by_day):
            return self._drop(update, LATE)
        done = _DROPPED
        for field, read in DAY:
            text = getattr(update, field)
            if not text:
                continue
            if text == getattr(held, field):
                done |= _SAME
            elif read(text) is None:
                self._drop(update, UNTRUE_DAY)
            else:
                setattr(held, field, text)
                done |= _CHANGED
        if done:
            held.by_day = update
        return done

    def _weigh(self, now_ms: int) -> None:
        for held, taken in self._jumps.weigh(now_ms):
            if taken:
                self._change(held)
            else:
                self.drops[held.feed.name, JUMPED] += 1

    # Timers.

    def turn(self, *, now_ms: int) -> int:
        """Run the timers; return when to be called again at the latest."""
        self._now_ms = now_ms
        self._weigh(now_ms)
        self._sources.turn(now_ms)
        due_ms = self._jumps.due_ms() or now_ms + _TURN_MS
        next_ms = self._sources.next_ms(now_ms) or due_ms
        return min(due_ms, next_ms, now_ms + _TURN_MS)

    # What is published.

    @property
    def dirty(self) -> bool:
        """Whether there may be something to cut."""
        return bool(self._sources.changed)

    def cut(self, *, epoch: str, previous: int, now_ms: int, most: int) -> Batch | None:
        """Return what changed since the last cut, ``most`` tickers; None for nothing.

        The rest stays dirty. Whatever says the same as before is left out.
        """
        offset = next_offset(previous, now_ms)
        tickers: dict[str, bytes] = {}
        for name in tuple(self._sources.changed):
            if len(tickers) == most:
                break
            del self._sources.changed[name]
            ticker = self._cut(self._sources.slots.get(name), offset)
            if ticker is not None:
                tickers[name] = ticker
        if not tickers:
            return None
        return Batch(epoch=epoch, previous=previous, offset=offset, tickers=tickers)

    def _cut(self, slot: Slot | None, offset: int) -> bytes | None:
        if slot is None:
            return None
        ticker = slot.ticker()
        if ticker == slot.published:
            return None
        slot.published, slot.offset = ticker, offset
        received_ms = slot.shown.held.received_ms if slot.shown is not None else 0
        numbered = structs.replace(ticker, received_ms=received_ms, offset=offset)
        return numbered.encode()

    def failed(self, batch: Batch) -> None:
        """Take a batch back that was not published: its instruments are dirty again."""
        self.touch(batch.tickers)

    def touch(self, names: Iterable[str]) -> None:
        """Have these published, changed or not."""
        for name in names:
            slot = self._sources.slots.get(name)
            if slot is not None:
                self._sources.touch(slot)

    def published(self) -> "_Names":
        """Return what was published and not forgotten since; markers among it."""
        slots = self._sources.slots.values()
        return [slot.name for slot in slots if slot.published is not None]

    def points(self) -> dict[str, str]:
        """Return the shown prices that are not stale."""
        return {
            slot.name: slot.shown.held.price
            for slot in self._sources.slots.values()
            if slot.shown is not None and not slot.stale
        }

    def markers(self, before_ms: int) -> tuple["_Names", int]:
        """Return the markers published before then, and the floor they leave behind.

        A cursor at the floor or above knows of them.
        """
        old = [
            slot
            for slot in self._sources.slots.values()
            if slot.removed
            and slot.offset < before_ms
            and slot.name not in self._sources.changed
        ]
        floor = max((slot.offset for slot in old), default=0)
        return [slot.name for slot in old], floor

    def forget(self, names: Iterable[str]) -> None:
        """Forget markers; one that has come back meanwhile is published again."""
        self._sources.forget(names)

    # What the status shows.

    def moved(self) -> "_Moves":
        """Say of which source instruments went over to another since the last time.

        Each is a source and what happened: it fell silent, or is there (again).
        """
        moves = dict(self._sources.moves)
        self._sources.moves.clear()
        return [_move(*names, count) for names, count in moves.items()]

    def health(self, *, now_ms: int) -> dict[str, Any]:
        """Say how each source is, and count the instruments."""
        return {
            "sources": {
                name: self._source_health(name, now_ms) for name in self._sources.feeds
            },
            "instruments": structs.asdict(self._sources.tally()),
        }

    def _source_health(self, name: str, now_ms: int) -> dict[str, Any]:
        feed = self._sources.feeds[name]
        slots = self._sources.slots.values()
        return {
            "alive": feed.is_alive(now_ms),
            "age_ms": feed.age_ms(now_ms),
            "heard_ms": feed.heard_ms,
            "reason": feed.why(now_ms),
            "shown": sum(
                slot.shown is not None and slot.shown.source == name for slot in slots
            ),
            "listed": len(self.wanted(name)),
            "drops": {
                reason: times
                for (exchange, reason), times in self.drops.items()
                if exchange == name
            },
        }


_Listings = list[Listing]
_Names = list[str]
_Moves = list[tuple[str, str]]
_NO_ROUTES: Final[dict[str, Route]] = {}


def _move(old: str, new: str, why: str, count: int) -> tuple[str, str]:
    number = f"{count} instrument{'s' if count > 1 else ''}"
    if not why:
        return new, f"is there: {number} from it, no more from {old}"
    return old, f"{why}: {number} from {new}"


def _by_symbol(candidates: Iterable[Candidate]) -> _Listings:
    found = {one.listing.symbol: one.listing for one in candidates if one.listing}
    return [found[symbol] for symbol in sorted(found)]
