"""How a client follows prices: what to ask next, and what the answer means.

Pure: no socket, no clock; chance comes as an argument. Who asks and waits stands in
``asynchronous`` and ``synchronous``.

Streaming comes first. Where it cannot be had (a proxy that holds answers back, a
gateway without streams) the long poll takes over from the same cursor, and streaming is
tried again later. Whatever breaks is tried again after a pause drawn from below a bound
that doubles, so that those who lost a server together do not come back together.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal

from msgspec import Struct

from relay.client import question
from relay.client.errors import (
    ClientError,
    Refused,
    Unavailable,
    Unreachable,
    read_error,
    unreadable,
)
from relay.client.events import Event, Events
from relay.client.prices import Prices, advance, read_body
from relay.client.question import Request, Wanted

Way = Literal["stream", "poll"]
State = Literal["connecting", "live", "stale", "reconnecting"]

_OK: Final = 200
# An answer to a read or a poll; a whole board is far below.
_BODY_MAX: Final = 32 << 20
# Streams that end before anything came, until the poll takes over.
_STRIKES_MAX: Final = 2
# Doublings that still mean something.
_DOUBLINGS_MAX: Final = 30
# What a request for a stream is told where there is none: everything but these.
_SAYS_NOTHING_OF_STREAMS: Final = frozenset({400, 401, 403})


class Pacing(Struct, frozen=True, kw_only=True):
    """How patient a client is, in seconds.

    ``silent_s`` is two of the relay's heartbeats and some more. ``polls`` is how many
    answers the poll gives before streaming is tried again; it doubles each time that
    was in vain.
    """

    pause_min_s: float = 0.5
    pause_max_s: float = 30.0
    silent_s: float = 35.0
    wait_s: float = 20.0
    polls: int = 100
    attempts: int = 3


class Backoff:
    """The pauses between failures: full jitter below a bound that doubles."""

    def __init__(self, pacing: Pacing, random: Callable[[], float]) -> None:
        self._pacing, self._random = pacing, random
        self.failures = 0

    def pause_s(self, least_s: float = 0) -> float:
        """Count a failure; return how long to pause, never less than asked for."""
        pacing, doublings = self._pacing, min(self.failures, _DOUBLINGS_MAX)
        self.failures += 1
        bound_s = min(pacing.pause_max_s, pacing.pause_min_s * (1 << doublings))
        return least_s + self._random() * bound_s


class Trial:
    """The attempts that one read or poll may take."""

    def __init__(self, pacing: Pacing, random: Callable[[], float]) -> None:
        self._most, self._backoff = pacing.attempts, Backoff(pacing, random)

    def failed(self, error: ClientError) -> float:
        """Return how long to pause before the next attempt.

        Raises:
            ClientError: there is none.
        """
        if not isinstance(error, Unavailable) or self._backoff.failures + 1 >= (
            self._most
        ):
            raise error
        return self._backoff.pause_s(error.retry_after_s)


def read_answer(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return an answer's body.

    Raises:
        ClientError: it is none.
    """
    if status != _OK:
        raise read_error(status, headers, body)
    return body


class Pause(Struct, frozen=True):
    """Nothing to ask for so long."""

    seconds: float


class Follower:
    """One subscription: where it stands, and what it does next.

    The one who asks calls ``plan``, then ``answered``, ``take`` for each piece and
    ``ended``, or ``failed`` whenever the line breaks.
    """

    def __init__(
        self,
        wanted: Wanted,
        *,
        cursor: str = "",
        way: Way | None = None,
        pacing: Pacing,
        random: Callable[[], float],
    ) -> None:
        self.prices: Prices | None = None
        self.state: State = "connecting"
        self.error: ClientError | None = None
        self.way: Way = way or "stream"
        self._wanted, self._cursor = wanted, cursor
        self._pacing, self._random, self._fixed = pacing, random, way is not None
        self._backoff = Backoff(pacing, random)
        self._pause_s = 0.0
        self._strikes = 0
        self._polls_left, self._polls = 0, pacing.polls
        self._retry_s = pacing.pause_min_s
        self._begin()

    def _begin(self) -> None:
        """Forget what belongs to one answer."""
        self._status = 0
        self._headers: Mapping[str, str] = {}
        self._events = Events()
        self._body = bytearray()
        self._fruitful = False

    def plan(self) -> Request | Pause:
        """Return what to do now."""
        if self._pause_s:
            pause, self._pause_s = Pause(self._pause_s), 0.0
            return pause
        self._begin()
        if self.way == "poll":
            return question.poll(self._wanted, self._cursor, self._pacing.wait_s)
        return question.stream(
            self._wanted, self._cursor, silent_s=self._pacing.silent_s
        )

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """Take note of an answer's head."""
        self._status, self._headers = status, headers

    @property
    def _streams(self) -> bool:
        kind = self._headers.get("content-type", "")
        return self._status == _OK and kind.startswith("text/event-stream")

    def take(self, piece: bytes) -> list[Prices]:
        """Take a piece of an answer; return what is new after it.

        Raises:
            Unavailable: it is no relay's answer; hand it to ``failed``.
        """
        if self.way == "stream" and self._streams:
            self._hear()
            events = self._events.feed(piece)
            return [news for one in events if (news := self._take_event(one))]
        self._body += piece
        if len(self._body) > _BODY_MAX:
            raise unreadable("an answer without an end")
        return []

    def _hear(self) -> None:
        """Take note that a stream speaks: a quiet board has nothing more to say."""
        if self._fruitful:
            return
        self._fruitful, self._strikes = True, 0
        self._polls = self._pacing.polls
        if self.prices is not None:
            self._stand(self.prices)

    def _stand(self, prices: Prices) -> None:
        self.error = None
        self.state = "live" if prices.live else "stale"

    def _take_event(self, event: Event) -> Prices | None:
        if event.retry_ms:
            self._retry_s = event.retry_ms / 1000
        return self._advance(event.data) if event.data else None

    def _advance(self, data: bytes) -> Prices:
        prices = self.prices = advance(self.prices, read_body(data))
        self._cursor = prices.cursor
        self._backoff.failures = 0
        self._stand(prices)
        return prices

    def ended(self) -> list[Prices]:
        """Take note that an answer is complete; return what is new after it.

        Raises:
            Unavailable: it was no relay's answer; hand it to ``failed``.
            Refused: the relay says no.
        """
        if self._status != _OK:
            self._failed_status(bytes(self._body))
            return []
        if self.way == "poll":
            return [self._end_poll()]
        if not self._streams:
            self._fall_back(unreadable("no event stream"))
        elif self._fruitful:  # it has lived its life, and said when to come back
            self._pause_s = self._retry_s * (0.5 + self._random() / 2)
        else:
            self.failed(unreadable("a stream that ended before it began"))
        return []

    def _end_poll(self) -> Prices:
        before = self._cursor
        prices = self._advance(bytes(self._body))
        self._polls_left -= 1
        if not self._fixed and self._polls_left <= 0:
            self.way = "stream"
        if prices.cursor == before:
            # Nobody's poll ends like this; some cache's does, and must not be spun on.
            self._pause_s = self._backoff.pause_s(self._pacing.pause_min_s)
        return prices

    def _failed_status(self, body: bytes) -> None:
        """Raise, fall back or pause, as an answer other than 200 asks for."""
        error = read_error(self._status, self._headers, body)
        if isinstance(error, Unavailable):
            self.failed(error)
        elif (
            self._fixed
            or self.way == "poll"
            or self._status in _SAYS_NOTHING_OF_STREAMS
        ):
            self.error = error
            raise error
        else:
            self._fall_back(error)

    def failed(self, error: ClientError) -> None:
        """Take note that the line broke, or of what came that was no answer.

        Raises:
            Refused: asking again would not help.
        """
        if isinstance(error, Refused):
            raise error
        least_s = error.retry_after_s if isinstance(error, Unavailable) else 0
        self._pause_s = self._backoff.pause_s(least_s)
        self._lost(error)
        if self.way == "stream" and not self._fruitful:
            self._count_strike(error)

    def _count_strike(self, error: ClientError) -> None:
        """Fall back from streams that say nothing; others may be held up for once.

        Who was never answered knows nothing of streams.
        """
        if isinstance(error, Unreachable) and error.silent:
            self._fall_back(error)
        elif self._status == _OK:
            self._strikes += 1
            if self._strikes >= _STRIKES_MAX:
                self._fall_back(error)

    def _fall_back(self, error: ClientError) -> None:
        """Go on by the poll for a while."""
        self._lost(error)
        self._strikes = 0
        if self._fixed:
            self._pause_s = self._backoff.pause_s()
            return
        self.way = "poll"
        self._polls_left = self._polls
        self._polls *= 2

    def _lost(self, error: ClientError) -> None:
        self.error = error
        if self.state != "connecting":
            self.state = "reconnecting"


class Standing:
    """What a feed tells of its subscription."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    @property
    def prices(self) -> Prices | None:
        """What is held; None before the first answer."""
        return self._follower.prices

    @property
    def state(self) -> State:
        """How the subscription stands."""
        return self._follower.state

    @property
    def way(self) -> Way:
        """How it reads now."""
        return self._follower.way

    @property
    def error(self) -> ClientError | None:
        """What broke last; None since all is well again."""
        return self._follower.error
