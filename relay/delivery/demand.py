"""What clients ask for, noted in the store: seldom, and never while one waits.

The leader decides what becomes of it.
"""

import asyncio
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


class Demand:
    """Notes each selection at most once in ``demand_renew_ms``."""

    def __init__(self, reader: Reader, http: Http, board: Board, clock: Clock) -> None:
        self._reader, self._clock = reader, clock
        self._renew_ms, self._most = http.demand_renew_ms, board.demand_max
        # The core set is on anyhow, and would use up what the cap leaves to others.
        self._core = {name for group in board.groups for name in group.instruments}
        self._noted: dict[str, int] = {}
        self._pending: set[str] = set()
        self._woken = asyncio.Event()

    @property
    def remembered(self) -> int:
        """How many selections have been noted lately."""
        return len(self._noted)

    @property
    def pending(self) -> int:
        """How many instruments wait for the store."""
        return len(self._pending)

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
            await self._woken.wait()
            await self.flush()

    async def flush(self) -> None:
        """Send what was noted since the last time.

        A store that cannot be reached gets the note when somebody asks again.
        """
        self._woken.clear()
        names, self._pending = sorted(self._pending), set()
        try:
            for start in range(0, len(names), _CHUNK):
                chunk = names[start : start + _CHUNK]
                await self._reader.ask(chunk, most=self._most)
        except StoreDown:
            self._noted.clear()
