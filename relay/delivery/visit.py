"""``GET /v1/poll`` without a hub: looks at the store after each mark, and ends in time.

What a poll is stands in ``poll``; here is only how a function answers one, in which
nothing runs between two requests. What was read is of this moment, and is never kept.

It reads a moment after the mark, so it may see what was published since and answer a
newer cut than another instance. That costs the edge one collapse and the client
nothing: an answer is never older than the question.
"""

import asyncio
from typing import Final, cast

from litestar.handlers import ASGIRouteHandler
from litestar.types import HTTPScope, Receive
from msgspec import Struct
from msgspec.structs import replace

from relay.board import Board
from relay.clock import Clock
from relay.config import Settings
from relay.delivery.answer import READ, Answer, Seen
from relay.delivery.answer import route as answer_route
from relay.delivery.demand import Demand
from relay.delivery.newest import Newest
from relay.delivery.poll import (
    PATH,
    Question,
    poll_answer,
    read_question,
    write_nothing,
)
from relay.delivery.query import Names, trim
from relay.group import Counts, Frame, Group, Place, Wish
from relay.hub import Unready

DEADLINE: Final = "relay.deadline_ms"
"""Where a scope says by when, on the steady clock, the platform wants its answer."""

# A mark is written by the leader's timer, and is a moment on its way.
_AFTER_MARK_MS: Final = 30
# A poll that is not aligned to marks looks this often.
_LOOK_MS: Final = 250
# What is left of the platform's time when a hold ends: for the answer on its way, and
# for a store that takes its time over the last look.
_MARGIN_MS: Final = 3000
# A board nothing was published on yet may be about to get its first batch.
_SETTLE_STEPS: Final = 2


class Look(Struct, frozen=True):
    """What the store said a moment ago, and what it means to the client."""

    board: Board
    live: bool
    frame: Frame | None


class Visit:
    """Answers polls from the store."""

    def __init__(
        self,
        newest: Newest,
        names: Names,
        demand: Demand,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._newest, self._names, self._demand = newest, names, demand
        self._clock, self._http = clock, settings.http
        self._align_ms = settings.ingest.align_ms
        self._counts = Counts()

    async def answer(self, scope: HTTPScope, _receive: Receive) -> Answer:
        """Answer one poll, now or when there is something to say.

        Raises:
            RequestError: the question is malformed.
            StoreDown: the store cannot be reached.
            Unready: nothing was published yet.
        """
        question = read_question(
            scope["query_string"], self._names, self._http, align_ms=self._align_ms
        )
        self._demand.note(question.ask.selection)
        look = await self._look(question)
        if look.frame is None or not look.frame.news:
            look = await self._hold(question, look, self._end_ms(scope, question))
        body, tag = self._write(question, look)
        return poll_answer(body, tag, question, grid_ms=self._until_mark_ms())

    def _end_ms(self, scope: HTTPScope, question: Question) -> int:
        """Return when, on the steady clock, the hold is over."""
        now_ms = self._clock.monotonic_ms()
        end_ms = now_ms + question.wait_ms
        deadline_ms = cast("int | None", scope.get(DEADLINE))
        return end_ms if deadline_ms is None else min(end_ms, deadline_ms - _MARGIN_MS)

    async def _hold(self, question: Question, look: Look, end_ms: int) -> Look:
        """Look again after each mark, until something is there or the time is over."""
        if not look.board.offset:
            settled_ms = self._clock.monotonic_ms() + _SETTLE_STEPS * self._align_ms
            end_ms = min(end_ms, settled_ms)
        while self._clock.monotonic_ms() < end_ms:
            await asyncio.sleep(self._rest_ms(question, end_ms) / 1000)
            look = await self._look(question)
            if look.frame is not None:
                return look
        return replace(look, frame=None)

    def _rest_ms(self, question: Question, end_ms: int) -> int:
        """Return how long to wait for the next look; a hold ends after a mark too."""
        if question.aligned:
            return self._until_mark_ms() + _AFTER_MARK_MS
        return min(end_ms - self._clock.monotonic_ms(), _LOOK_MS)

    def _until_mark_ms(self) -> int:
        return self._align_ms - self._clock.wall_ms() % self._align_ms

    async def _look(self, question: Question) -> Look:
        """Read what is asked for, and compare it with what the client holds."""
        board, live = await self._newest.board(question.ask.selection)
        wish = Wish(question.ask.selection, question.ask.fields, cuts=True)
        group = Group(wish, lambda: (board, live), trim, self._counts)
        frame = group.frame(self._heed(question, board)) if board.offset else None
        return Look(board, live, frame)

    def _heed(self, question: Question, board: Board) -> Place:
        """Return what the client holds as it counts on a board."""
        return question.place.heeded(board, self._clock.wall_ms())

    def _write(self, question: Question, look: Look) -> tuple[bytes, str]:
        """Return a body with its tag: the news, or that there are none."""
        if look.frame is not None:
            return look.frame.body, look.frame.text
        if not self._heed(question, look.board).known:
            raise Unready("behind", "Nothing has been published yet.")
        number = self._clock.wall_ms() // self._align_ms
        return write_nothing(look.board, question, live=look.live, number=number)


def route(visit: Visit, *, seen: Seen) -> ASGIRouteHandler:
    """Return the handler of ``/v1/poll``."""
    return answer_route(PATH, READ, visit.answer, seen=seen)
