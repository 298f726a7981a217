"""What may still be spent at one exchange, by limit; the cooldowns it asked for.

No I/O and no clock, and no sending: ``purse`` asks here, over books that all instances
share, before anybody sends. The rules are functions of plain state.
"""

from bisect import bisect_left
from collections.abc import Container, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Final, Literal

from msgspec import Struct, structs

from relay.config import Limit
from relay.errors import ExchangeError, RateLimited, Refused
from relay.exchanges.adapter import Usage

# A request that was sent has arrived after so long, or never will: the request
# time-out, and what a proxy may hold it back.
FLIGHT_MS: Final = 60_000
# How far an exchange's clock may be from the store's, where its windows are fixed.
_SKEW_MS: Final = 1_000
# Windows this long are not seconds of traffic but somebody's credits: they are paced.
_PACED_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000


# Repeated offences double the wait up to here: limits are an affair of minutes …
_LIMITED_MAX_MS: Final = 900_000
# … and what a person must see to is looked at again a few times a day.
_REFUSED_MAX_MS: Final = 21_600_000
_DOUBLINGS_MAX: Final = 16
# Good conduct for so long after a cooldown, and the next offence is the first again.
_FORGIVEN_MS: Final = 3_600_000
# The id of what may have been spent by nobody knows whom.
_UNSEEN: Final = 0
# Of a smaller limit nothing can be spared.
_SPARE_FROM: Final = 4


Transport = Literal["rest", "ws"]
"""What an exchange may refuse by itself: REST has limits of its own, streams others."""

# The limits, by their names in the configuration, on what goes over streams.
_OF_STREAMS: Final = ("connect", "messages")


class Priority(IntEnum):
    """What a request is for; a lower number goes first."""

    KEEP = 0
    """Keeping the live stream up."""
    SEED = 1
    """Giving new instruments their first value."""
    REFRESH = 2
    WARM = 3


# How much of a limit, in percent, a priority may use up: the rest is for those above.
_SHARE_PCT: Final = {
    Priority.KEEP: 100,
    Priority.SEED: 95,
    Priority.REFRESH: 85,
    Priority.WARM: 50,
}


class Entry(Struct, frozen=True, kw_only=True, array_like=True):
    """Weight that one request took, or may yet take, from one limit.

    It left at ``sent_ms`` at the earliest, and arrived at ``landed_ms`` at the latest;
    it counts before ``until_ms``. ``reported`` tells that the exchange's own count
    came with its answer, ``settled`` that there was an answer at all.
    """

    id: int
    cost: int
    landed_ms: int
    until_ms: int
    settled: bool = False
    reported: bool = False


class Report(Struct, frozen=True, kw_only=True, array_like=True):
    """The exchange's own count, as of ``landed_ms`` at the latest."""

    used: int
    landed_ms: int
    until_ms: int


class Ledger(Struct, kw_only=True):
    """All that is known of one limit; ``published_max`` is what the exchange names."""

    limit: Limit
    began_ms: int
    entries: list[Entry] = []
    reports: list[Report] = []
    published_max: int = 0


class Reservation(Struct, frozen=True):
    """Leave to send one request now. Settle it, or it stays spent."""

    id: int
    costs: tuple[tuple[str, int], ...]
    sent_ms: int


class Wait(Struct, frozen=True):
    """No leave to send; asking again before ``until_ms`` would bring the same answer.

    ``limit`` is the one that stands in the way, empty for a cooldown.
    """

    until_ms: int
    limit: str
    reason: str


class Cooldown(Struct, frozen=True):
    """The exchange wants to be left alone until then.

    ``offences`` counts those that came one after the other.
    """

    until_ms: int
    reason: str
    offences: int = 1


class Book(Struct, kw_only=True):
    """What all instances know of one exchange in one scope: a value of the store.

    ``revision`` grows with each change, and is never less than the store's clock;
    ``born_ms`` tells two lives of a store apart. ``cooldown`` is for everything,
    ``cooldowns`` are those of one transport.
    """

    born_ms: int
    revision: int = 0
    ledgers: dict[str, Ledger] = {}
    cooldown: Cooldown = Cooldown(0, "", 0)
    cooldowns: dict[Transport, Cooldown] = {}


class Gauge(Struct, frozen=True, kw_only=True):
    """How one limit stands: ``used`` of ``most`` in the current window.

    ``frees_ms`` is when something of it comes back, 0 where nothing is used;
    ``cooling_until_ms`` is 0 without a cooldown. ``scope`` is what the exchange counts
    by.
    """

    limit: str
    used: int
    most: int
    window_ms: int
    frees_ms: int
    cooling_until_ms: int
    cooling_reason: str = ""
    scope: str = "address"


class Offence(Struct, frozen=True, kw_only=True):
    """An answer that says stop, and for how long.

    ``wait_max_ms`` is how far repetitions may lengthen it; ``transport`` is what it
    stops, None for everything.
    """

    reason: str
    wait_ms: int
    wait_max_ms: int
    transport: Transport | None = None


def transport_of(limits: Iterable[str]) -> Transport:
    """Return what is sent under these limits."""
    return "ws" if any(name in _OF_STREAMS for name in limits) else "rest"


def offence_of(
    error: ExchangeError, *, refused_ms: int, transport: Transport
) -> Offence | None:
    """Return what an error means for all else that is sent to the exchange, if it does.

    A request that was wrong by itself says nothing of the others; a limit that was
    passed over one ``transport`` says nothing of the other, unless the error does.
    """
    if isinstance(error, RateLimited):
        wait_ms, wait_max_ms = error.retry_after_ms, _LIMITED_MAX_MS
    elif isinstance(error, Refused) and error.kind != "request":
        wait_ms, wait_max_ms = refused_ms, _REFUSED_MAX_MS
    else:
        return None
    # The budget's exchange is known to whoever reads this.
    words = str(error).removeprefix(f"{error.exchange} ")
    said = f"HTTP {error.status}, {words}" if error.status else words
    return Offence(
        reason=said,
        wait_ms=wait_ms,
        wait_max_ms=wait_max_ms,
        transport=None if error.everywhere else transport,
    )


def backed_off_ms(offence: Offence, offences: int) -> int:
    """Return how long to stay away after so many offences one after the other.

    Twice as long after each, up to a bound, and never less than was asked for.
    """
    doubled_ms = offence.wait_ms << min(offences - 1, _DOUBLINGS_MAX)
    return max(offence.wait_ms, min(doubled_ms, offence.wait_max_ms))


def until_ms(limit: Limit, landed_ms: int) -> int:
    """Return when a request that landed by ``landed_ms`` counts no more.

    A rolling window ends strictly after its length: instants are whole milliseconds,
    so that one more is needed. A fixed one ends at its boundary, by a clock that may
    be ahead of ours or behind.
    """
    if limit.kind == "rolling":
        return landed_ms + limit.window_ms + 1
    skew_ms = _skew_ms(limit)
    return _start_ms(limit, landed_ms + skew_ms) + limit.window_ms + skew_ms


def _skew_ms(limit: Limit) -> int:
    return min(_SKEW_MS, limit.window_ms // 10)


def _start_ms(limit: Limit, at_ms: int) -> int:
    return at_ms - at_ms % limit.window_ms


def spent(ledger: Ledger, at_ms: int) -> int:
    """Return what counts at an instant.

    The larger of what has been settled and what the exchange reports, and everything
    in flight besides.
    """
    settled = flying = 0
    for entry in ledger.entries:
        if at_ms >= entry.until_ms:
            continue
        if entry.settled:
            settled += entry.cost
        else:
            flying += entry.cost
    return max(settled, _reported(ledger, at_ms)) + flying


def _reported(ledger: Ledger, at_ms: int) -> int:
    live = (report.used for report in ledger.reports if at_ms < report.until_ms)
    return max(live, default=0)


def _own(ledger: Ledger, at_ms: int) -> int:
    return sum(entry.cost for entry in ledger.entries if at_ms < entry.until_ms)


def may_spend(ledger: Ledger, cost: int, priority: Priority, at_ms: int) -> bool:
    """Tell whether a limit bears this cost at an instant."""
    used = spent(ledger, at_ms)
    most = ledger.limit.weight_max
    # Over a lost book the spare is for whoever comes first, whatever for.
    ceiling = most if _is_unseen(ledger, at_ms) else _ceiling(most, cost, priority)
    if used + cost > ceiling:
        return False
    if ledger.limit.window_ms < _PACED_MS:
        return True
    own = _own(ledger, at_ms)
    allowance = _allowance(ledger, used - own, at_ms)
    return own + cost <= _ceiling(allowance, cost, priority)


def _is_unseen(ledger: Ledger, at_ms: int) -> bool:
    return any(one.id == _UNSEEN and at_ms < one.until_ms for one in ledger.entries)


def _ceiling(most: int, cost: int, priority: Priority) -> int:
    """Return what may be used up, at least one request of this cost when idle."""
    return min(most, max(cost, most * _SHARE_PCT[priority] // 100))


def _allowance(ledger: Ledger, others: int, at_ms: int) -> int:
    """Return how much of a long window may be gone by now: its even share.

    What earlier steps left is there, from before the ledger began nothing is; what
    others have spent of the same limit is not ours to share out.
    """
    limit = ledger.limit
    since_ms = ledger.began_ms
    if limit.kind == "fixed":
        since_ms = max(since_ms, _start_ms(limit, at_ms - _skew_ms(limit)))
    step_ms = _step_ms(limit)
    elapsed_ms = ((at_ms - since_ms) // step_ms + 1) * step_ms
    share_ms = min(elapsed_ms, limit.window_ms)
    return (limit.weight_max - others) * share_ms // limit.window_ms


def _step_ms(limit: Limit) -> int:
    """Return the step a long window is paced by: the day, of shorter ones a part."""
    return min(_DAY_MS, limit.window_ms // 24)


def bears_ms(ledger: Ledger, cost: int, priority: Priority, now_ms: int) -> int:
    """Return when a limit that does not bear this cost may bear it at the earliest.

    As if whatever is in flight were settled now, as it costs, and nothing came between.
    """
    hopeful = structs.replace(ledger, entries=_settled_at(ledger, now_ms))
    instants = sorted(_changes(hopeful, now_ms))
    found = bisect_left(
        instants,
        True,  # noqa: FBT003 - the value that is searched for
        key=lambda at_ms: may_spend(hopeful, cost, priority, at_ms),
    )
    return instants[min(found, len(instants) - 1)]


def _settled_at(ledger: Ledger, now_ms: int) -> list[Entry]:
    soonest_ms = until_ms(ledger.limit, now_ms)
    return [
        structs.replace(entry, until_ms=min(entry.until_ms, soonest_ms))
        for entry in ledger.entries
    ]


def _changes(ledger: Ledger, now_ms: int) -> set[int]:
    """Return the instants after now at which a limit bears more."""
    instants = {until_ms(ledger.limit, now_ms)}
    instants.update(entry.until_ms for entry in ledger.entries)
    instants.update(report.until_ms for report in ledger.reports)
    if ledger.limit.window_ms >= _PACED_MS:
        step_ms = _step_ms(ledger.limit)
        begun_ms = ledger.began_ms + (now_ms - ledger.began_ms) // step_ms * step_ms
        steps = ledger.limit.window_ms // step_ms + 1
        instants.update(begun_ms + step_ms * n for n in range(1, steps + 1))
    return {at_ms for at_ms in instants if at_ms > now_ms}


def tidy(ledger: Ledger, now_ms: int) -> None:
    """Forget what counts no more."""
    ledger.entries = [entry for entry in ledger.entries if now_ms < entry.until_ms]
    ledger.reports = [report for report in ledger.reports if now_ms < report.until_ms]


def enter(ledger: Ledger, entry: Entry) -> None:
    """Put an entry in, in place of an earlier one of the same request."""
    drop(ledger, entry.id)
    ledger.entries.append(entry)


def drop(ledger: Ledger, id: int) -> None:  # noqa: A002 - it is the entry's id
    """Take a request's entry out: it was not sent, or is entered anew."""
    ledger.entries = [entry for entry in ledger.entries if entry.id != id]


def report(ledger: Ledger, used: int, sent_ms: int, now_ms: int) -> None:
    """Take in the exchange's count, from the answer to a request sent at ``sent_ms``.

    Requests settled since then without a count may have landed after this one was
    counted. In a rolling window a later count replaces those that were there before its
    request left; within one millisecond nobody knows, and both stand. In a fixed window
    it can only grow, whatever the exchange's servers say to each other.
    """
    for entry in ledger.entries:
        if entry.settled and not entry.reported and entry.landed_ms >= sent_ms:
            used += entry.cost
    if ledger.limit.kind == "rolling":
        ledger.reports = [one for one in ledger.reports if one.landed_ms >= sent_ms]
    until = until_ms(ledger.limit, now_ms)
    ledger.reports.append(Report(used=used, landed_ms=now_ms, until_ms=until))


def uncounted(ledger: Ledger, cost: int) -> None:
    """Add a request settled without a count to those counts that may not hold it."""
    ledger.reports = [
        structs.replace(report, used=report.used + cost) for report in ledger.reports
    ]


def spare(limit: Limit) -> int:
    """Return what is never spent but by somebody who finds no book at all.

    So whoever begins over an empty store can begin at once, and the limit holds even if
    everything was spent just before the store was emptied. Long windows are paced and
    need no spare; of small limits none can be spared, and their window is waited out.
    """
    if limit.window_ms >= _PACED_MS or limit.weight_max < _SPARE_FROM:
        return 0
    return max(2, limit.weight_max // 20)


def allowed(limit: Limit, published_max: int) -> Limit:
    """Return a limit without its spare, and never above what the exchange publishes."""
    most = min(limit.weight_max, published_max or limit.weight_max)
    limit = structs.replace(limit, weight_max=most)
    return structs.replace(limit, weight_max=most - spare(limit))


def stock(book: Book, limits: Sequence[Limit], now_ms: int) -> None:
    """Bring a book up to the configuration; what is new in it is spent but its spare.

    Nobody knows who has spent what of it before.
    """
    wanted = {limit.name: limit for limit in limits}
    book.ledgers = {name: one for name, one in book.ledgers.items() if name in wanted}
    for name, limit in wanted.items():
        ledger = book.ledgers.get(name)
        if ledger is None:
            fresh = allowed(limit, 0)
            ledger = book.ledgers[name] = Ledger(limit=fresh, began_ms=now_ms)
            _spend_unseen(ledger, now_ms, fresh.weight_max - spare(limit))
        ledger.limit = allowed(limit, ledger.published_max)


def recover(book: Book, known: Book, now_ms: int, flight_ms: int) -> None:
    """Go on with ``book`` from ``known``: the store has lost what this process saw.

    What others did since is unknown, so every limit counts as spent but for the spare,
    until all that was under way has landed and its window is over. The spare is one for
    all: who looks first has begun a book in which the others find what is left of it.
    Lost once more within that time nothing is left, since others may have used it.
    """
    for name, ledger in book.ledgers.items():
        before = known.ledgers.get(name)
        cost = ledger.limit.weight_max
        if before is not None and not _is_unseen(before, now_ms):
            cost -= spare(ledger.limit)
            # What is remembered is part of what was spent, and ends sooner.
            cost -= _own(ledger, now_ms) if book is known else 0
        _spend_unseen(ledger, now_ms + flight_ms, cost)


def _spend_unseen(ledger: Ledger, landed_ms: int, cost: int) -> None:
    if ledger.limit.window_ms >= _PACED_MS or cost <= 0:
        return
    until = until_ms(ledger.limit, landed_ms)
    enter(ledger, Entry(id=_UNSEEN, cost=cost, landed_ms=landed_ms, until_ms=until))


def follow(
    stored: Book | None,
    known: Book | None,
    now_ms: int,
    own: Container[int] = frozenset(),
) -> tuple[Book, bool]:
    """Return the book to go on from, and whether the store has lost one.

    ``stored`` is the store's, None for none; ``known`` what this process saw last, and
    ``own`` the ids of what it has reserved itself and not given back.
    """
    if stored is None:
        return (Book(born_ms=now_ms), False) if known is None else (known, True)
    if known is None:
        return stored, False
    if stored.revision < known.revision:
        return known, True
    # Somebody who knew of none has begun another one meanwhile, or has gone on with an
    # older copy of this one.
    reborn = stored.born_ms != known.born_ms
    return stored, reborn or _lacks(stored, known, now_ms, own)


def _lacks(stored: Book, known: Book, now_ms: int, own: Container[int]) -> bool:
    """Tell whether a book misses what it must have: nobody takes out what counts.

    Only its owner gives back what is under way. What is about to end may have been
    tidied away by somebody whose clock is ahead.
    """
    for name in stored.ledgers.keys() & known.ledgers.keys():
        held = {entry.id for entry in stored.ledgers[name].entries}
        for entry in known.ledgers[name].entries:
            owed = entry.settled or entry.id in own
            if owed and entry.id not in held and now_ms + _SKEW_MS < entry.until_ms:
                return True
    return False


class Budget:
    """The ledgers of one exchange's limits, and its cooldown.

    ``books`` hold them, by the scope that the limits count by; without any, everything
    is unspent.
    """

    def __init__(
        self,
        exchange: str,
        limits: Sequence[Limit],
        *,
        flight_ms: int = FLIGHT_MS,
        books: Mapping[str, Book] | None = None,
    ) -> None:
        self.exchange = exchange
        self._limits = limits
        self._flight_ms = flight_ms
        scopes = {limit.scope for limit in limits} or {"address"}
        self.books = books or {scope: Book(born_ms=0) for scope in sorted(scopes)}
        self._ledgers = {
            name: ledger
            for book in self.books.values()
            for name, ledger in book.ledgers.items()
        }

    def reserve(
        self,
        costs: Sequence[tuple[str, int]],
        *,
        now_ms: int,
        priority: Priority,
        flight_ms: int = 0,
    ) -> Reservation | Wait:
        """Reserve from all limits at once, or say what to wait for.

        A limit that the budget does not know costs nothing. ``flight_ms`` is how long
        from now it may take to land, where whoever sends it sees to that.
        """
        self._begin(now_ms)
        cooldown = self.cooling(now_ms, transport_of(name for name, _ in costs))
        if cooldown is not None:
            return Wait(cooldown.until_ms, "", cooldown.reason)
        summed = _sum(costs, self._ledgers)
        waits = [
            _wait(self._ledgers[name], cost, priority, now_ms)
            for name, cost in summed.items()
            if not may_spend(self._ledgers[name], cost, priority, now_ms)
        ]
        if waits:
            return max(waits, key=lambda wait: wait.until_ms)
        newest = max(book.revision for book in self.books.values())
        revision = max(newest + 1, now_ms)
        reservation = Reservation(revision, tuple(summed.items()), now_ms)
        self.revise(revision)
        self._fly(reservation, now_ms + (flight_ms or self._flight_ms))
        return reservation

    def _begin(self, now_ms: int) -> None:
        """Begin at the first question: pacing counts from here."""
        for limit in self._limits:
            if limit.name not in self._ledgers:
                ledger = Ledger(limit=limit, began_ms=now_ms)
                self.books[limit.scope].ledgers[limit.name] = ledger
                self._ledgers[limit.name] = ledger
        for ledger in self._ledgers.values():
            tidy(ledger, now_ms)

    def revise(self, revision: int) -> None:
        """Number the books' next state; numbers only grow."""
        for book in self.books.values():
            book.revision = max(book.revision + 1, revision)

    def _fly(self, reservation: Reservation, landed_ms: int) -> None:
        for name, cost in reservation.costs:
            ledger = self._ledgers[name]
            entry = Entry(
                id=reservation.id,
                cost=cost,
                landed_ms=landed_ms,
                until_ms=until_ms(ledger.limit, landed_ms),
            )
            enter(ledger, entry)

    def settle(
        self,
        reservation: Reservation,
        usages: Sequence[Usage],
        *,
        now_ms: int,
        late_ms: int = 0,
    ) -> None:
        """Correct a reservation by what its answer tells, at the answer's arrival.

        Without usages, after a time-out too, it is spent as reserved. What goes with
        it may land by ``late_ms`` later.
        """
        self._begin(now_ms)
        told = {usage.limit: usage for usage in usages}
        reserved = dict(reservation.costs)
        for name in (reserved.keys() | told.keys()) & self._ledgers.keys():
            usage = told.get(name, Usage(limit=name))
            if usage.most is not None:
                self._ledgers[name].published_max = usage.most
            cost = usage.cost if usage.cost is not None else reserved.get(name, 0)
            entry = Entry(
                id=reservation.id,
                cost=cost,
                landed_ms=now_ms + late_ms,
                until_ms=until_ms(self._ledgers[name].limit, now_ms + late_ms),
                settled=True,
                reported=usage.used is not None,
            )
            enter(self._ledgers[name], entry)
            if usage.used is None:
                uncounted(self._ledgers[name], cost)
            else:
                report(self._ledgers[name], usage.used, reservation.sent_ms, now_ms)

    def cancel(self, reservation: Reservation) -> None:
        """Give a reservation back: its request has certainly not been sent."""
        for ledger in self._ledgers.values():
            drop(ledger, reservation.id)

    def offend(self, offence: Offence, *, now_ms: int) -> Cooldown:
        """Leave the exchange alone, for longer after each offence that follows soon.

        Whatever comes during a cooldown is the same offence, and never shortens it.
        """
        last = self._cooldown(offence.transport)
        if now_ms < last.until_ms:
            until_ms = max(last.until_ms, now_ms + offence.wait_ms)
            reason = last.reason if until_ms == last.until_ms else offence.reason
            return self._cool(Cooldown(until_ms, reason, last.offences), offence)
        soon = last.offences and now_ms - last.until_ms < _FORGIVEN_MS
        offences = last.offences + 1 if soon else 1
        until_ms = now_ms + backed_off_ms(offence, offences)
        return self._cool(Cooldown(until_ms, offence.reason, offences), offence)

    def _cool(self, cooldown: Cooldown, offence: Offence) -> Cooldown:
        for book in self.books.values():
            if offence.transport is None:
                book.cooldown = cooldown
            else:
                book.cooldowns[offence.transport] = cooldown
        return cooldown

    def _cooldown(self, transport: Transport | None) -> Cooldown:
        """Return the last cooldown that holds for a transport, or for everything."""
        cooldowns = [book.cooldown for book in self.books.values()]
        if transport is not None:
            own = (book.cooldowns.get(transport) for book in self.books.values())
            cooldowns += [one for one in own if one is not None]
        return max(cooldowns, key=lambda one: one.until_ms)

    def cooling(self, now_ms: int, transport: Transport = "rest") -> Cooldown | None:
        """Return the cooldown that holds for a transport, None when there is none."""
        cooldown = self._cooldown(transport)
        return cooldown if now_ms < cooldown.until_ms else None

    def gauges(self, now_ms: int) -> list[Gauge]:
        """Tell how every limit stands."""
        self._begin(now_ms)
        return [self._gauge(one, now_ms) for one in self._ledgers.values()]

    def _gauge(self, ledger: Ledger, now_ms: int) -> Gauge:
        limit = ledger.limit
        cooldown = self.cooling(now_ms, transport_of([limit.name]))
        return Gauge(
            limit=limit.name,
            used=spent(ledger, now_ms),
            most=limit.weight_max,
            window_ms=limit.window_ms,
            frees_ms=min((one.until_ms for one in _holding(ledger)), default=0),
            cooling_until_ms=cooldown.until_ms if cooldown else 0,
            cooling_reason=cooldown.reason if cooldown else "",
            scope=limit.scope,
        )


def _holding(ledger: Ledger) -> Iterable[Entry | Report]:
    return (*ledger.entries, *ledger.reports)


def _sum(costs: Sequence[tuple[str, int]], known: Iterable[str]) -> dict[str, int]:
    summed = dict.fromkeys(known, 0)
    for name, cost in costs:
        if name in summed:
            summed[name] += cost
    return {name: cost for name, cost in summed.items() if cost}


def _wait(ledger: Ledger, cost: int, priority: Priority, now_ms: int) -> Wait:
    limit = ledger.limit
    if cost > limit.weight_max:
        reason = f"costs {cost}, more than the {limit.weight_max} that ever are there"
        return Wait(now_ms + limit.window_ms, limit.name, reason)
    used = spent(ledger, now_ms)
    reason = f"{used} of {limit.weight_max} used, {cost} asked for"
    return Wait(bears_ms(ledger, cost, priority, now_ms), limit.name, reason)
