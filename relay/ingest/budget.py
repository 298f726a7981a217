"""What may still be spent at one exchange, by limit; the cooldowns it asked for.

No I/O and no clock, and no sending: ``purse`` asks here, over books that all instances
share, before anybody sends. How one limit counts is ``ledger``'s, what a no means
``offence``'s.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from relay.config import Limit
from relay.exchanges.adapter import Usage
from relay.ingest.book import Book
from relay.ingest.ledger import (
    Entry,
    Ledger,
    Priority,
    Report,
    bears_ms,
    drop,
    enter,
    may_spend,
    report,
    spent,
    tidy,
    uncounted,
    until_ms,
)
from relay.ingest.offence import (
    Cooldown,
    Offence,
    Transport,
    backed_off_ms,
    transport_of,
)

__all__ = ["FLIGHT_MS", "Budget", "Gauge", "Priority", "Reservation", "Wait"]

# A request that was sent has arrived after so long, or never will: the request
# time-out, and what a proxy may hold it back.
FLIGHT_MS: Final = 60_000
# Good conduct for so long after a cooldown, and the next offence is the first again.
_FORGIVEN_MS: Final = 3_600_000


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
