"""The books of what was spent at the exchanges, shared by all boards and instances.

What stands in them is ``ingest.budget``'s; here they are values that change as a whole.
"""

import asyncio
from collections.abc import Sequence
from hashlib import sha1

from relay.store.client import Client


def ledger_key(exchange: str, scope: str) -> str:
    """Return a book's key; all books of one exchange share one slot."""
    return f"relay:{{x:{exchange}}}:ledger:{scope}"


class Ledgers:
    """The books of one exchange: one for each of these scopes, in their order."""

    def __init__(self, client: Client, exchange: str, scopes: Sequence[str]) -> None:
        self._client = client
        self._keys = [ledger_key(exchange, scope) for scope in scopes]
        self._script = client.script("ledger", fenced=False)
        self.turn = asyncio.Lock()
        """Held by whoever changes the books: one process need not race with itself."""

    @property
    def url(self) -> str:
        """The store's address."""
        return self._client.settings.url

    async def replace(
        self, before: Sequence[bytes], after: Sequence[bytes], *, life_ms: int
    ) -> list[bytes] | None:
        """Replace all books if they are still ``before``; empty stands for none.

        Returns None when that was done, else the books there are. Sent twice, since an
        answer got lost, it finds what it has written itself, and is not done: what it
        took is then taken twice, which is safe. Cancelled, it was done or was not.

        Raises:
            StoreDown: the store cannot be reached.
        """
        pairs: list[bytes | str] = []
        for old, new in zip(before, after, strict=True):
            pairs += [_digest(old), new]
        found: list[bytes] = await self._script.run(self._keys, life_ms, *pairs)
        return found or None


def _digest(value: bytes) -> str:
    # What the store's interpreter has; it tells states apart and guards nothing else.
    return sha1(value, usedforsecurity=False).hexdigest() if value else ""
