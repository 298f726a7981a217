"""One exchange's purse: what is spent is taken from books that all instances share.

The arithmetic is ``budget``'s, done here and written back if nobody was faster; the
sending is ``pull``'s and ``line``'s.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, TypeVar

import msgspec

from relay.clock import Clock
from relay.config import Exchange, Limit
from relay.errors import ExchangeError, StoreDown
from relay.exchanges.adapter import Usage
from relay.ingest.book import Book, follow, outlast, recover, stock
from relay.ingest.budget import FLIGHT_MS, Budget, Gauge, Priority, Reservation, Wait
from relay.ingest.offence import Cooldown, Transport, offence_of
from relay.store.client import Client, address
from relay.store.ledger import Ledgers

T = TypeVar("T")
Change = Callable[[Budget], object]

# Each time somebody else was faster; so many are never at it at once.
_TRIES_MAX: Final = 1_000
# What could not be written down while the store was away; the oldest goes first, and
# stays spent as it was reserved.
_OWED_MAX: Final = 1_000
# Books outlive their longest window, and what was under way at its end.
_LIFE_WINDOWS: Final = 2
_LIFE_MIN_MS: Final = 86_400_000

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Book).decode


@dataclass(frozen=True)
class Terms:
    """What one exchange allows, and under which names it counts us.

    ``scopes`` has a book's name for each scope that a limit counts by. ``refused_ms``
    is how long an exchange that refuses us is left alone at first.
    """

    limits: Sequence[Limit]
    scopes: Mapping[str, str]
    refused_ms: int
    flight_ms: int = FLIGHT_MS


def terms_of(exchange: Exchange, *, egress: str, refused_ms: int) -> Terms:
    """Return an exchange's terms; without a key no limit counts by it."""
    limits = exchange.limits
    if not exchange.key:
        limits = tuple(limit for limit in limits if limit.scope == "address")
    scopes = {"address": f"address:{egress}"}
    if any(limit.scope == "key" for limit in limits):
        digest = blake2b(exchange.key.encode(), digest_size=8).hexdigest()
        scopes["key"] = f"key:{digest}"
    return Terms(limits, scopes, refused_ms)


class Purse:
    """What may be spent at one exchange, by whichever instance.

    Nothing is sent that was not taken from the shared books first: while the store
    cannot be reached, nothing is.
    """

    def __init__(
        self, exchange: str, terms: Terms, client: Client, clock: Clock
    ) -> None:
        self.exchange, self._terms, self._clock = exchange, terms, clock
        self._ledgers = Ledgers(client, exchange, list(terms.scopes.values()))
        windows_ms = [limit.window_ms for limit in terms.limits]
        self._life_ms = max([_LIFE_MIN_MS, *(_LIFE_WINDOWS * ms for ms in windows_ms)])
        self._limits: dict[str, list[Limit]] = {scope: [] for scope in terms.scopes}
        for limit in terms.limits:
            self._limits[limit.scope].append(limit)
        # The books' bytes as this process believes them to be in the store.
        self._stored: list[bytes] = [b""] * len(terms.scopes)
        # The newest state that the store has acknowledged, or told.
        self._known: dict[str, Book] = {}
        self._owed: deque[Change] = deque(maxlen=_OWED_MAX)
        # Reserved by this process, and in the books since.
        self._own: set[int] = set()
        # The clock's, when that state was written, and how far it was set ahead.
        self._leaps, self._ahead_ms = clock.leaps, _ahead_ms(clock)

    def counts(self, limit: str) -> bool:
        """Tell whether there is a limit of this name."""
        return any(one.name == limit for one in self._terms.limits)

    async def reserve(
        self,
        costs: Sequence[tuple[str, int]],
        *,
        priority: Priority,
        flight_ms: int = 0,
    ) -> Reservation | Wait:
        """Reserve from all limits at once, or say what to wait for.

        ``flight_ms`` is how long from its ``sent_ms`` it may take to land, where the
        caller sees to that. Cancelled, it may have been reserved, and then stays spent.

        Raises:
            StoreDown: the store cannot be reached, so nothing may be spent.
        """

        def take(budget: Budget) -> Reservation | Wait:
            now_ms = self._clock.wall_ms()
            return budget.reserve(
                costs, now_ms=now_ms, priority=priority, flight_ms=flight_ms
            )

        return await self._change(take)

    async def settle(
        self,
        reservation: Reservation,
        usages: Sequence[Usage],
        *,
        now_ms: int,
        late_ms: int = 0,
    ) -> None:
        """Correct a reservation by what its answer tells, at the answer's arrival.

        What goes with it may land by ``late_ms`` later. Where the store is away, it is
        done when it is back.
        """
        self.owe(
            lambda one: one.settle(reservation, usages, now_ms=now_ms, late_ms=late_ms)
        )
        await self.pay()

    async def cancel(self, reservation: Reservation) -> None:
        """Give a reservation back: its request has certainly not been sent."""
        self.owe(lambda one: one.cancel(reservation))
        await self.pay()

    def owe(self, change: Change) -> None:
        """Have a change written down with the next one, by whoever may not wait now."""
        self._owed.append(change)

    async def heed(self, error: ExchangeError, transport: Transport) -> None:
        """Leave the exchange alone for as long as an answer of it asks for."""
        self.mind(error, transport)
        await self.pay()

    def mind(self, error: ExchangeError, transport: Transport) -> None:
        """Do the same, written down with the next change: by whoever may not wait now.

        ``transport`` is what was answered: unless the error is about everything, the
        other one goes on.
        """
        refused_ms = self._terms.refused_ms
        offence = offence_of(error, refused_ms=refused_ms, transport=transport)
        if offence is not None:
            now_ms = self._clock.wall_ms()
            self.owe(lambda one: one.offend(offence, now_ms=now_ms))

    async def pay(self) -> None:
        """Write down what is owed; while the store is away it stays so."""
        if not self._owed:
            return
        try:
            await self._change(lambda _: None)
        except StoreDown:
            return

    def cooling(self, transport: Transport = "rest") -> Cooldown | None:
        """Return a transport's cooldown as far as this process knows, None for none."""
        return self._remembered().cooling(self._clock.wall_ms(), transport)

    def gauges(self) -> list[Gauge]:
        """Tell how every limit stands, as far as this process knows; empty at first."""
        if not self._known:
            return []
        return self._remembered().gauges(self._clock.wall_ms())

    def _remembered(self) -> Budget:
        books = {scope: _copy(book) for scope, book in self._known.items()}
        now_ms = self._clock.wall_ms()
        for scope, limits in self._limits.items():
            stock(books.setdefault(scope, Book(born_ms=now_ms)), limits, now_ms)
        budget = self._budget(books)
        for change in self._owed:
            change(budget)
        return budget

    def _budget(self, books: Mapping[str, Book]) -> Budget:
        terms = self._terms
        return Budget(
            self.exchange, terms.limits, flight_ms=terms.flight_ms, books=books
        )

    async def _change(self, change: Callable[[Budget], T]) -> T:
        """Change the books as a whole, again and again until nobody was faster.

        Raises:
            StoreDown: the store cannot be reached.
        """
        async with self._ledgers.turn:
            for _ in range(_TRIES_MAX):
                owed, leaps = list(self._owed), self._clock.leaps
                ahead_ms = _ahead_ms(self._clock)
                books = self._open()
                budget = self._budget(books)
                for one in owed:
                    one(budget)
                outcome = change(budget)
                budget.revise(self._clock.wall_ms())
                if await self._write(books):
                    self._leaps, self._ahead_ms = leaps, ahead_ms
                    self._paid(owed)
                    self._note_own(outcome, books)
                    return outcome
        raise StoreDown(address(self._ledgers.url), "its ledger never stands still")

    def _note_own(self, outcome: object, books: Mapping[str, Book]) -> None:
        if isinstance(outcome, Reservation):
            self._own.add(outcome.id)
        self._own &= {
            entry.id
            for book in books.values()
            for ledger in book.ledgers.values()
            for entry in ledger.entries
        }

    def _paid(self, changes: Sequence[Change]) -> None:
        # More may be owed by now, and the oldest may have made room for it.
        for change in changes:
            if self._owed and self._owed[0] is change:
                self._owed.popleft()

    def _open(self) -> dict[str, Book]:
        """Read the books, and go on from what is remembered where they are lost.

        Where the clock has leapt they are as good as lost: windows are over by it that
        the exchange still counts.
        """
        now_ms, leapt = self._clock.wall_ms(), self._clock.leaps > self._leaps
        leap_ms = _ahead_ms(self._clock) - self._ahead_ms if leapt else 0
        books: dict[str, Book] = {}
        for scope, stored in zip(self._limits, self._stored, strict=True):
            known = self._known.get(scope)
            memory = known and _copy(known)
            book, lost = follow(_read(stored), memory, now_ms, self._own)
            stock(book, self._limits[scope], now_ms)
            if (lost or leapt) and memory is not None:
                recover(book, memory, now_ms, self._terms.flight_ms)
            if leap_ms > 0 and memory is not None:
                outlast(book, memory, now_ms, leap_ms)
            books[scope] = book
        return books

    async def _write(self, books: dict[str, Book]) -> bool:
        after = [_encode(book) for book in books.values()]
        found = await self._ledgers.replace(self._stored, after, life_ms=self._life_ms)
        if found is not None:
            self._stored = found
            return False
        self._stored, self._known = after, books
        return True


def _ahead_ms(clock: Clock) -> int:
    """Return how far the wall clock is ahead of the steady one."""
    return clock.wall_ms() - clock.monotonic_ms()


def _read(value: bytes) -> Book | None:
    """Read a book; one that another version wrote is as good as lost."""
    try:
        return _decode(value) if value else None
    except msgspec.DecodeError:
        return None


def _copy(book: Book) -> Book:
    return _decode(_encode(book))
