"""The newest board that an instance can answer reads with.

The hub follows the log; here is only where to look.
"""

import asyncio
from typing import Final

from relay.board import Board
from relay.clock import Clock
from relay.errors import StoreDown
from relay.hub import Hub
from relay.model import Cursor, Selection
from relay.store.reader import Reader

# Who holds a board asks a store that says nothing no longer than this: old prices that
# say so are better than late ones.
_PATIENCE_S: Final = 0.5


class Newest:
    """Where reads come from: the hub's board, or the store in one round trip."""

    def __init__(self, reader: Reader, hub: Hub | None, clock: Clock) -> None:
        self._reader, self._hub, self._clock = reader, hub, clock

    def catch_up(self) -> None:
        """Look at the store now: a client knows more than we do."""
        if self._hub is not None:
            self._hub.nudge()

    def heed(self, board: Board, cursor: Cursor) -> Cursor:
        """Return a client's cursor as it counts on a board; see ``Board.heed``."""
        return board.heed(cursor, self._clock.wall_ms())

    def held(self) -> tuple[Board, bool] | None:
        """Return the board that is held, and whether it is live; None to look first."""
        hub = self._hub
        if hub is not None and hub.ready and hub.board.epoch:
            return hub.board, hub.live
        return None

    async def board(self, selection: Selection) -> tuple[Board, bool]:
        """Return a board that holds what is selected, and whether it is live.

        An instance that has lost the store answers with what it holds.

        Raises:
            StoreDown: the store cannot be reached, and nothing is held.
        """
        ready, hub = self.held(), self._hub
        if ready is not None:
            return ready
        held = hub.board if hub is not None and hub.board.epoch else None
        try:
            async with asyncio.timeout(None if held is None else _PATIENCE_S):
                view = await self._reader.read(selection.instruments)
        except (StoreDown, TimeoutError):
            if held is None:
                raise
            return held, False
        head = view.head
        board = Board.read(head.epoch, head.offset, head.floor, view.tickers)
        if held is not None:
            # A store of an older copy takes nobody back.
            if board.is_behind(Cursor(held.epoch, "", held.offset)):
                return held, head.alive
            board.keep(held)
        return board, head.alive
