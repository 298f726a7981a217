"""What all instances know of one exchange in one scope, and of books that were lost.

No I/O and no clock: ``purse`` reads and writes the books, ``budget`` spends from them.
"""

from collections.abc import Container, Sequence

from msgspec import Struct

from relay.config import Limit
from relay.ingest.ledger import (
    SKEW_MS,
    Ledger,
    allowed,
    is_unseen,
    leap,
    own_cost,
    spare,
    spend_unseen,
)
from relay.ingest.offence import Cooldown, Transport


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
            spend_unseen(ledger, now_ms, fresh.weight_max - spare(limit))
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
        if before is not None and not is_unseen(before, now_ms):
            cost -= spare(ledger.limit)
            # What is remembered is part of what was spent, and ends sooner.
            cost -= own_cost(ledger, now_ms) if book is known else 0
        spend_unseen(ledger, now_ms + flight_ms, cost)


def outlast(book: Book, known: Book, now_ms: int, leap_ms: int) -> None:
    """Go on with ``book`` by a clock that was set ahead by ``leap_ms`` since ``known``.

    By it windows are over, and days have passed, that the exchange still counts.
    """
    for name in book.ledgers.keys() & known.ledgers.keys():
        leap(book.ledgers[name], known.ledgers[name], now_ms, leap_ms)


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
            if owed and entry.id not in held and now_ms + SKEW_MS < entry.until_ms:
                return True
    return False
