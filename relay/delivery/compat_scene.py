"""What the older routes look at: the newest board, and whether anything streams.

How it is written stands in ``compat``.
"""

from typing import Protocol, Self

import msgspec
from msgspec import Struct

from relay.board import Board
from relay.clock import Clock
from relay.config import Http, Settings
from relay.delivery.compat import (
    EVERYTHING,
    Health,
    Phase,
    Sight,
    Slugs,
    Writer,
    phase_of,
    read_health,
)
from relay.delivery.compat_counts import Meter
from relay.delivery.demand import Demand
from relay.delivery.newest import Newest
from relay.delivery.query import Names
from relay.errors import StoreDown
from relay.hub import Hub


class Scene:
    """The newest board in the older words, looked at once for each offset."""

    def __init__(self, newest: Newest, hub: Hub | None) -> None:
        self._newest, self._hub = newest, hub
        self._state = ("", -1, -1)
        self._sight = Sight.of(Board())
        self._said, self._health = msgspec.Raw(b"{}"), Health()

    async def read(self) -> tuple[Sight, Phase]:
        """Return what is to be seen, and the state.

        Raises:
            StoreDown: the store cannot be reached, and nothing is held.
        """
        board, live = await self._newest.board(EVERYTHING.selection)
        return self.see(board), self.phase(live=live)

    async def read_or_nothing(self) -> tuple[Sight, Phase]:
        """Return what is to be seen: nothing, while nothing can be."""
        try:
            return await self.read()
        except StoreDown:
            return Sight.of(Board()), "disconnected"

    def see(self, board: Board) -> Sight:
        """Return what is to be seen of a board."""
        state = (board.epoch, board.offset, board.floor)
        if state != self._state:
            self._state, self._sight = state, Sight.of(board)
        return self._sight

    def phase(self, *, live: bool) -> Phase:
        """Return the state; ``live`` is the board's."""
        # The same object until the hub has looked again.
        if self._hub is not None and self._hub.health is not self._said:
            self._said = self._hub.health
            self._health = read_health(self._said)
        return phase_of(live=live, health=self._health)


class Reads(Protocol):
    """What every route of an instance reads with."""

    names: Names
    newest: Newest
    demand: Demand


class Parts(Struct, frozen=True, kw_only=True):
    """What every older route needs, once for all."""

    names: Names
    http: Http
    clock: Clock
    demand: Demand
    newest: Newest
    scene: Scene
    meter: Meter
    slugs: Slugs
    writer: Writer

    @classmethod
    def of(
        cls, settings: Settings, clock: Clock, hub: Hub | None, reads: Reads
    ) -> Self:
        """Make them for one instance."""
        slugs = Slugs(settings.board.names, reads.names)
        return cls(
            names=reads.names,
            http=settings.http,
            clock=clock,
            demand=reads.demand,
            newest=reads.newest,
            scene=Scene(reads.newest, hub),
            meter=Meter(hub, clock),
            slugs=slugs,
            writer=Writer(slugs),
        )
