"""One limit's ledger: what of it is spent, what may be, and when more of it may be.

No I/O and no clock. Which ledgers a request is charged to is ``budget``'s.
"""

from bisect import bisect_left
from enum import IntEnum
from typing import Final, TypeVar

from msgspec import Struct, structs

from relay.config import Limit

# How far an exchange's clock may be from the store's, where its windows are fixed.
SKEW_MS: Final = 1_000
# Windows this long are not seconds of traffic but somebody's credits: they are paced.
_PACED_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000
# Whatever was answered has landed, and whatever is under way lands, by so much from now
# at the latest; by more only if the clock was ahead when that was written down.
_SETTLED_MS: Final = 60_000
_AWAY_MS: Final = 600_000
# The id of what may have been spent by nobody knows whom.
_UNSEEN: Final = 0
# Of a smaller limit nothing can be spared.
_SPARE_FROM: Final = 4


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

    It arrives by ``landed_ms`` at the latest, and counts before ``until_ms``.
    ``reported`` tells that the exchange's own count came with its answer, ``settled``
    that there was an answer at all.
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


_Counted = TypeVar("_Counted", Entry, Report)


class Ledger(Struct, kw_only=True):
    """All that is known of one limit; ``published_max`` is what the exchange names."""

    limit: Limit
    began_ms: int
    entries: list[Entry] = []
    reports: list[Report] = []
    published_max: int = 0


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
    return min(SKEW_MS, limit.window_ms // 10)


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


def own_cost(ledger: Ledger, at_ms: int) -> int:
    """Return what counts at an instant by our own entries alone."""
    return sum(entry.cost for entry in ledger.entries if at_ms < entry.until_ms)


def may_spend(ledger: Ledger, cost: int, priority: Priority, at_ms: int) -> bool:
    """Tell whether a limit bears this cost at an instant."""
    used = spent(ledger, at_ms)
    most = ledger.limit.weight_max
    # Over a lost book the spare is for whoever comes first, whatever for.
    ceiling = most if is_unseen(ledger, at_ms) else _ceiling(most, cost, priority)
    if used + cost > ceiling:
        return False
    if ledger.limit.window_ms < _PACED_MS:
        return True
    own = own_cost(ledger, at_ms)
    allowance = _allowance(ledger, used - own, at_ms)
    return own + cost <= _ceiling(allowance, cost, priority)


def is_unseen(ledger: Ledger, at_ms: int) -> bool:
    """Tell whether something counts that nobody knows of."""
    return any(one.id == _UNSEEN and at_ms < one.until_ms for one in ledger.entries)


def _ceiling(most: int, cost: int, priority: Priority) -> int:
    """Return what may be used up, at least one request of this cost when idle."""
    return min(most, max(cost, most * _SHARE_PCT[priority] // 100))


def _allowance(ledger: Ledger, others: int, at_ms: int) -> int:
    """Return how much of a long window may be gone by now: its even share.

    What earlier steps left is there, from before the ledger began nothing is; what
    others have spent of the same limit is not ours to share out.
    """
    limit, step_ms = ledger.limit, _step_ms(ledger.limit)
    since_ms = _paced_from_ms(ledger, at_ms)
    elapsed_ms = ((at_ms - since_ms) // step_ms + 1) * step_ms
    share_ms = min(elapsed_ms, limit.window_ms)
    return (limit.weight_max - others) * share_ms // limit.window_ms


def _paced_from_ms(ledger: Ledger, at_ms: int) -> int:
    """Return since when a long window is shared out."""
    limit = ledger.limit
    if limit.kind == "rolling":
        return ledger.began_ms
    return max(ledger.began_ms, _start_ms(limit, at_ms - _skew_ms(limit)))


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
    _turn_back(ledger, now_ms)
    ledger.entries = [entry for entry in ledger.entries if now_ms < entry.until_ms]
    ledger.reports = [report for report in ledger.reports if now_ms < report.until_ms]


def _turn_back(ledger: Ledger, now_ms: int) -> None:
    """Follow a clock that was set back: what is of its future has landed by soon."""
    ledger.began_ms = min(ledger.began_ms, now_ms)
    ledger.entries = [
        _by(one, ledger.limit, now_ms + (_SETTLED_MS if one.settled else _AWAY_MS))
        for one in ledger.entries
    ]
    ledger.reports = [
        _by(one, ledger.limit, now_ms + _SETTLED_MS) for one in ledger.reports
    ]


def _by(one: _Counted, limit: Limit, landed_ms: int) -> _Counted:
    if one.landed_ms <= landed_ms:
        return one
    until = until_ms(limit, landed_ms)
    return structs.replace(one, landed_ms=landed_ms, until_ms=until)


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


def spend_unseen(ledger: Ledger, landed_ms: int, cost: int) -> None:
    """Count what may have been spent by others; long windows are paced instead."""
    if ledger.limit.window_ms >= _PACED_MS or cost <= 0:
        return
    until = until_ms(ledger.limit, landed_ms)
    enter(ledger, Entry(id=_UNSEEN, cost=cost, landed_ms=landed_ms, until_ms=until))


def leap(ledger: Ledger, known: Ledger, now_ms: int, leap_ms: int) -> None:
    """Go on in a long window whose clock was set ahead: no time has passed for it.

    Its pace, and what this process knows to be spent, are as old as they were. Done by
    one process after the other it is the same as done once.
    """
    if ledger.limit.window_ms < _PACED_MS:
        return
    paced_ms = _paced_from_ms(known, now_ms - leap_ms) + leap_ms
    ledger.began_ms = min(max(ledger.began_ms, paced_ms), now_ms)
    held = {entry.id: entry for entry in ledger.entries}
    for before in known.entries:
        later = _later(before, leap_ms)
        entry = held.get(before.id)
        if entry is None and before.until_ms <= now_ms < later.until_ms:
            enter(ledger, later)
        elif entry is not None and entry.until_ms < later.until_ms:
            at_ms, until = later.landed_ms, later.until_ms
            enter(ledger, structs.replace(entry, landed_ms=at_ms, until_ms=until))
    over = (report for report in known.reports if report.until_ms <= now_ms)
    ledger.reports += [_later(report, leap_ms) for report in over]


def _later(one: _Counted, by_ms: int) -> _Counted:
    landed_ms, until = one.landed_ms + by_ms, one.until_ms + by_ms
    return structs.replace(one, landed_ms=landed_ms, until_ms=until)
