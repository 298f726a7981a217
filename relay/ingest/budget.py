"""What may still be spent at one exchange, by limit; the cooldowns it asked for.

No I/O and no clock, and no sending: ``pull`` and ``stream`` ask here before they send.
The rules are functions of ``Ledger``, plain state that a shared store can hold as well.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Final

from msgspec import Struct, structs

from relay.config import Limit
from relay.exchanges.adapter import Usage

# A request that was sent has arrived after so long, or never will: the request
# time-out, and what a proxy may hold it back.
FLIGHT_MS: Final = 60_000
# How far an exchange's clock may be from the store's, where its windows are fixed.
_SKEW_MS: Final = 1_000
# Windows this long are not seconds of traffic but somebody's credits: they are paced.
_PACED_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000


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


class Entry(Struct, frozen=True, kw_only=True):
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


class Report(Struct, frozen=True, kw_only=True):
    """The exchange's own count, as of ``landed_ms`` at the latest."""

    used: int
    landed_ms: int
    until_ms: int


class Ledger(Struct, kw_only=True):
    """All that is known of one limit."""

    limit: Limit
    began_ms: int
    entries: list[Entry] = []
    reports: list[Report] = []


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
    """The exchange wants to be left alone until then."""

    until_ms: int
    reason: str


class Gauge(Struct, frozen=True, kw_only=True):
    """How one limit stands: ``used`` of ``most`` in the current window.

    ``frees_ms`` is when something of it comes back, 0 where nothing is used;
    ``cooling_until_ms`` is 0 without a cooldown.
    """

    limit: str
    used: int
    most: int
    window_ms: int
    frees_ms: int
    cooling_until_ms: int


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
    if used + cost > _ceiling(ledger.limit.weight_max, cost, priority):
        return False
    if ledger.limit.window_ms < _PACED_MS:
        return True
    own = _own(ledger, at_ms)
    allowance = _allowance(ledger, used - own, at_ms)
    return own + cost <= _ceiling(allowance, cost, priority)


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
    counted. In a rolling window a later count replaces those before it; in a fixed one
    it can only grow, whatever the exchange's servers say to each other.
    """
    for entry in ledger.entries:
        if entry.settled and not entry.reported and entry.landed_ms >= sent_ms:
            used += entry.cost
    if ledger.limit.kind == "rolling":
        ledger.reports = [one for one in ledger.reports if one.landed_ms > sent_ms]
    until = until_ms(ledger.limit, now_ms)
    ledger.reports.append(Report(used=used, landed_ms=now_ms, until_ms=until))


def uncounted(ledger: Ledger, cost: int) -> None:
    """Add a request settled without a count to those counts that may not hold it."""
    ledger.reports = [
        structs.replace(report, used=report.used + cost) for report in ledger.reports
    ]


class Budget:
    """The ledgers of one exchange's limits, and its cooldown."""

    def __init__(
        self, exchange: str, limits: Sequence[Limit], *, flight_ms: int = FLIGHT_MS
    ) -> None:
        self.exchange = exchange
        self._limits = limits
        self._flight_ms = flight_ms
        self._ledgers: dict[str, Ledger] = {}
        self._cooldown = Cooldown(0, "")
        self._reserved = 0

    def reserve(
        self, costs: Sequence[tuple[str, int]], *, now_ms: int, priority: Priority
    ) -> Reservation | Wait:
        """Reserve from all limits at once, or say what to wait for.

        A limit that the budget does not know costs nothing.
        """
        self._begin(now_ms)
        if now_ms < self._cooldown.until_ms:
            return Wait(self._cooldown.until_ms, "", self._cooldown.reason)
        summed = _sum(costs, self._ledgers)
        waits = [
            _wait(self._ledgers[name], cost, priority, now_ms)
            for name, cost in summed.items()
            if not may_spend(self._ledgers[name], cost, priority, now_ms)
        ]
        if waits:
            return max(waits, key=lambda wait: wait.until_ms)
        self._reserved += 1
        reservation = Reservation(self._reserved, tuple(summed.items()), now_ms)
        self._fly(reservation)
        return reservation

    def _begin(self, now_ms: int) -> None:
        """Begin at the first question: pacing counts from here."""
        for limit in self._limits if not self._ledgers else ():
            self._ledgers[limit.name] = Ledger(limit=limit, began_ms=now_ms)
        for ledger in self._ledgers.values():
            tidy(ledger, now_ms)

    def _fly(self, reservation: Reservation) -> None:
        landed_ms = reservation.sent_ms + self._flight_ms
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
        self, reservation: Reservation, usages: Sequence[Usage], *, now_ms: int
    ) -> None:
        """Correct a reservation by what its answer tells, at the answer's arrival.

        Without usages, after a time-out too, it is spent as reserved.
        """
        self._begin(now_ms)
        told = {usage.limit: usage for usage in usages}
        reserved = dict(reservation.costs)
        for name in (reserved.keys() | told.keys()) & self._ledgers.keys():
            usage = told.get(name, Usage(limit=name))
            cost = usage.cost if usage.cost is not None else reserved.get(name, 0)
            entry = Entry(
                id=reservation.id,
                cost=cost,
                landed_ms=now_ms,
                until_ms=until_ms(self._ledgers[name].limit, now_ms),
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

    def cool(self, until_ms: int, reason: str) -> None:
        """Leave the exchange alone until then; an earlier end changes nothing."""
        if until_ms > self._cooldown.until_ms:
            self._cooldown = Cooldown(until_ms, reason)

    def cooling(self, now_ms: int) -> Cooldown | None:
        """Return the cooldown, None when there is none."""
        return self._cooldown if now_ms < self._cooldown.until_ms else None

    def gauges(self, now_ms: int) -> list[Gauge]:
        """Tell how every limit stands."""
        self._begin(now_ms)
        cooldown = self.cooling(now_ms)
        return [
            Gauge(
                limit=name,
                used=spent(ledger, now_ms),
                most=ledger.limit.weight_max,
                window_ms=ledger.limit.window_ms,
                frees_ms=min((one.until_ms for one in _holding(ledger)), default=0),
                cooling_until_ms=cooldown.until_ms if cooldown else 0,
            )
            for name, ledger in self._ledgers.items()
        ]


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
