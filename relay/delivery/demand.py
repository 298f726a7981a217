"""What clients ask for, noted in the store: seldom, and never while one waits.

The leader decides what becomes of it.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from relay.clock import Clock
from relay.config import Board, Http
from relay.errors import StoreDown
from relay.model import Selection
from relay.store.reader import Reader

# Selections whose last note is remembered; beyond it the oldest half is forgotten, and
# noted once more when somebody asks again.
_REMEMBERED_MAX: Final = 10_000
# Names that wait for the store; beyond it they wait for the next time somebody asks.
_PENDING_MAX: Final = 20_000
# Instruments in one note: what one script takes in well under a millisecond.
_CHUNK: Final = 500
# What no table knows is noted again so often until it would be renewed anyhow: at a
# first start people ask before the tables are there, and an instrument may be new. And
# so often it is seen whether the store has begun anew, and forgotten what we noted.
_AGAIN_MS: Final = 5_000
# So many of them; whoever invents names makes others wait for their renewal.
_UNLISTED_MAX: Final = 1_000
# Who holds a stream asks once in a renewal, and may be late by as much.
_RENEWALS: Final = 2


class Demand:
    """Notes each selection at most once in ``demand_renew_ms``.

    ``epoch`` is the board's, empty where nobody follows it: with another one, all that
    was noted lately is noted again, since a store that was emptied has lost it.
    """

    def __init__(
        self,
        reader: Reader,
        http: Http,
        board: Board,
        clock: Clock,
        epoch: Callable[[], str] = str,
    ) -> None:
        self._reader, self._clock = reader, clock
        self._renew_ms, self._most = http.demand_renew_ms, board.demand_max
        # The core set is on anyhow, and would use up what the cap leaves to others.
        self._core = {name for group in board.groups for name in group.instruments}
        self._noted: dict[str, int] = {}
        self._pending: set[str] = set()
        # What was not noted, or something beside it, and since when.
        self._unlisted: dict[str, int] = {}
        self._again_ms = 0
        # When each instrument was asked for last, and in which epoch.
        self._asked: dict[str, int] = {}
        self._read_epoch, self._epoch = epoch, ""
        self._woken = asyncio.Event()

    @property
    def remembered(self) -> int:
        """How many selections have been noted lately."""
        return len(self._noted)

    @property
    def pending(self) -> int:
        """How many instruments wait for the store, or for a table that knows them."""
        return len(self._pending | self._unlisted.keys())

    def note(self, selection: Selection) -> None:
        """Remember that somebody asks for this; returns at once."""
        if selection.instruments is None:
            return
        now_ms = self._clock.monotonic_ms()
        noted_ms = self._noted.get(selection.hash)
        if noted_ms is not None and now_ms - noted_ms < self._renew_ms:
            return
        self._remember(selection.hash, now_ms)
        wanted = set(selection.instruments) - self._core
        if wanted and len(self._pending) < _PENDING_MAX:
            self._pending |= wanted
            self._woken.set()
            if len(self._asked) < _PENDING_MAX:
                self._asked.update(dict.fromkeys(wanted, now_ms))

    def _remember(self, selection_hash: str, now_ms: int) -> None:
        # A later note goes to the end, so the dictionary stands in order of time.
        self._noted.pop(selection_hash, None)
        self._noted[selection_hash] = now_ms
        if len(self._noted) > _REMEMBERED_MAX:
            for old in list(self._noted)[: _REMEMBERED_MAX // 2]:
                del self._noted[old]

    async def run(self) -> None:
        """Send what was noted, for ever; cancelled, what is not sent is lost."""
        while True:
            # Nobody wakes us for a table that came, or an epoch that began.
            with suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_MS / 1000 if self._asked else None):
                    await self._woken.wait()
            await self.flush()

    async def flush(self) -> None:
        """Send what was noted since the last time.

        A store that cannot be reached gets the note when somebody asks again.
        """
        self._woken.clear()
        now_ms = self._clock.monotonic_ms()
        again = self._overdue(now_ms) | self._forgotten(now_ms)
        names, self._pending = sorted(self._pending | again), set()
        try:
            for start in range(0, len(names), _CHUNK):
                chunk = names[start : start + _CHUNK]
                noted = await self._reader.ask(chunk, most=self._most)
                self._judge(chunk, now_ms, all_noted=noted == len(chunk))
        except StoreDown:
            self._noted.clear()
            self._unlisted.clear()

    def _forgotten(self, now_ms: int) -> set[str]:
        """Return what was asked for lately, where a new epoch may not know of it."""
        before, self._epoch = self._epoch, self._read_epoch() or self._epoch
        since_ms = now_ms - _RENEWALS * self._renew_ms
        if before != self._epoch or len(self._asked) >= _PENDING_MAX:
            self._asked = {
                name: asked_ms
                for name, asked_ms in self._asked.items()
                if asked_ms > since_ms
            }
        return set(self._asked) if before and before != self._epoch else set()

    def _overdue(self, now_ms: int) -> set[str]:
        """Return what is to be noted once more."""
        if now_ms < self._again_ms:
            return set()
        self._again_ms = now_ms + _AGAIN_MS
        return set(self._unlisted)

    def _judge(self, names: Iterable[str], now_ms: int, *, all_noted: bool) -> None:
        """Remember names of which some were not noted, as long as one renewal takes."""
        for name in names:
            since_ms = self._unlisted.get(name, now_ms)
            if all_noted or now_ms - since_ms >= self._renew_ms:
                self._unlisted.pop(name, None)
            elif len(self._unlisted) < _UNLISTED_MAX:
                self._unlisted[name] = since_ms
