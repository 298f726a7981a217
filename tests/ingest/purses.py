"""Purses over the real store, each with books of its own in which nothing is spent."""

from collections.abc import Sequence
from itertools import count

import msgspec
from msgspec.structs import replace

from relay.clock import Clock
from relay.config import Limit
from relay.ingest.book import Book
from relay.ingest.ledger import Ledger
from relay.ingest.purse import Purse, Terms
from relay.store.client import Client
from relay.store.ledger import Ledgers

REFUSED_MS = 600_000
_numbers = count()


def fresh_terms(limits: Sequence[Limit], *, refused_ms: int = REFUSED_MS) -> Terms:
    """Return terms under a name that no other test has."""
    scope = f"address:test-{next(_numbers)}"
    by_address = [replace(limit, scope="address") for limit in limits]
    return Terms(by_address, {"address": scope}, refused_ms)


async def lay_open(client: Client, exchange: str, terms: Terms, now_ms: int) -> None:
    """Put books into the store in which nothing is spent, as after a quiet day."""
    ledgers = {one.name: Ledger(limit=one, began_ms=now_ms) for one in terms.limits}
    book = Book(born_ms=now_ms, ledgers=ledgers)
    shelf = Ledgers(client, exchange, list(terms.scopes.values()))
    # A book that is there already was laid open by an earlier run of the same test.
    await shelf.replace([b""], [msgspec.json.encode(book)], life_ms=3_600_000)


async def open_purse(
    client: Client,
    limits: Sequence[Limit],
    clock: Clock,
    *,
    exchange: str = "toy",
    refused_ms: int = REFUSED_MS,
) -> Purse:
    """Return a purse of which nothing is spent."""
    terms = fresh_terms(limits, refused_ms=refused_ms)
    await lay_open(client, exchange, terms, clock.wall_ms())
    return Purse(exchange, terms, client, clock)
