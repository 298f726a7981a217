"""The synchronous client: it asks and waits. What to ask stands in ``follow``."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from random import random
from threading import Event
from types import TracebackType
from typing import Self

import httpx
from msgspec.structs import replace

from relay.client import question, status
from relay.client.errors import Unavailable
from relay.client.follow import (
    Follower,
    Pacing,
    Pause,
    Standing,
    Trial,
    Way,
    read_answer,
)
from relay.client.line import HEADERS, LIMITS, Line
from relay.client.prices import Prices, advance, place_of, read_body
from relay.client.question import Request, Wanted, read_url
from relay.client.status import Status, read_status


class _Closes(ABC):
    """What is closed at the end of a ``with``."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close it."""


class Client(_Closes):
    """Reads a relay from ordinary code.

    ``api_key`` is for a relay that wants one. ``http`` is a client of yours (with its
    proxies, certificates and headers), which is not closed; without one it has its own.
    ``way`` is ``stream`` or ``poll`` for feeds that may not choose for themselves. Use
    as a context manager, or call ``close``.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str = "",
        http: httpx.Client | None = None,
        way: Way | None = None,
        pacing: Pacing | None = None,
    ) -> None:
        self.url = read_url(url)
        self._way, self._pacing = way, pacing or Pacing()
        self._line = Line(self.url, api_key)
        self._owns = http is None
        self._http = http or _open()

    def close(self) -> None:
        """Close every connection."""
        if self._owns:
            self._http.close()

    def get(
        self,
        symbols: str | Iterable[str] | None = None,
        *,
        of_list: str = "",
        fields: str | Iterable[str] = (),
        since: Prices | str | None = None,
    ) -> Prices:
        """Return the newest prices; with ``since`` (a cursor, or prices), what is new.

        Neither symbols nor a list is the whole board.

        Raises:
            Refused: the relay says no.
            Unavailable: it did not answer, several times.
        """
        wanted = Wanted.of(symbols, of_list, fields)
        held, cursor = place_of(since)
        body = self._ask(question.read(wanted, cursor))
        return advance(held, read_body(body))

    def poll(
        self,
        symbols: str | Iterable[str] | None = None,
        *,
        of_list: str = "",
        fields: str | Iterable[str] = (),
        since: Prices | str | None = None,
        wait_s: float = 20,
    ) -> Prices:
        """Return as soon as something has changed, or when the wait is over.

        Raises:
            Refused: the relay says no.
            Unavailable: it did not answer, several times.
        """
        wanted = Wanted.of(symbols, of_list, fields)
        held, cursor = place_of(since)
        body = self._ask(question.poll(wanted, cursor, wait_s))
        return advance(held, read_body(body))

    def stream(
        self,
        symbols: str | Iterable[str] | None = None,
        *,
        of_list: str = "",
        fields: str | Iterable[str] = (),
        since: str = "",
        every: str = "",
    ) -> "Feed":
        """Return the prices after every change, for ever.

        ``since`` is a cursor to go on from, ``every`` a pace such as ``500ms``.
        """
        follower = Follower(
            replace(Wanted.of(symbols, of_list, fields), every=every),
            cursor=since,
            way=self._way,
            pacing=self._pacing,
            random=random,
        )
        return Feed(self._http, self._line, follower)

    def status(self) -> Status:
        """Return how the relay stands: its sources, budgets and clients.

        Raises:
            Refused: the relay says no.
            Unavailable: it did not answer, several times.
        """
        return read_status(self._ask(Request(place=status.PATH)))

    def _ask(self, request: Request) -> bytes:
        """Ask until there is an answer, as often as it is worth."""
        trial = Trial(self._pacing, random)
        while True:
            try:
                answer = self._http.get(**self._line.call(request))
                return read_answer(answer.status_code, answer.headers, answer.content)
            except httpx.HTTPError as error:
                pause_s = trial.failed(self._line.broken(error))
            except Unavailable as error:
                pause_s = trial.failed(error)
            Event().wait(pause_s)


def _open() -> httpx.Client:
    return httpx.Client(headers=HEADERS, limits=LIMITS, follow_redirects=True)


class Feed(Standing, _Closes):
    """Prices as they change: iterate over it, for each state that follows.

    It reconnects and falls back by itself. ``state`` tells how it stands, ``way`` how
    it reads, ``error`` what broke last, ``prices`` what is held. Use as a context
    manager, or call ``close``. An interrupted wait loses nothing: iterate again.
    """

    def __init__(self, http: httpx.Client, line: Line, follower: Follower) -> None:
        super().__init__(follower)
        self._http, self._line = http, line
        self._answer: httpx.Response | None = None
        self._pieces: Iterator[bytes] | None = None
        self._news: deque[Prices] = deque()
        self._closing = Event()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Prices:
        """Return the prices after the next change.

        Raises:
            Refused: the relay says no.
        """
        while not self._news and not self._closing.is_set():
            self._step()
        if self._closing.is_set():
            self.close()
            raise StopIteration
        return self._news.popleft()

    def close(self) -> None:
        """Hang up; iterating ends."""
        self.stop()
        self._news.clear()
        self._hang_up()

    def stop(self) -> None:
        """Let iterating end with the next thing that comes; for other threads."""
        self._closing.set()

    def _step(self) -> None:
        """Do the next thing: ask, read a piece, or pause."""
        try:
            if self._pieces is not None:
                self._read(self._pieces)
                return
            todo = self._follower.plan()
            if isinstance(todo, Pause):
                self._closing.wait(todo.seconds)
            else:
                self._ask(todo)
        except httpx.HTTPError as error:
            self._hang_up()
            self._follower.failed(self._line.broken(error))
        except Unavailable as error:
            self._hang_up()
            self._follower.failed(error)
        except BaseException:
            # A wait that was interrupted says nothing of the relay: ask anew from here.
            self._hang_up()
            raise

    def _ask(self, request: Request) -> None:
        built = self._http.build_request("GET", **self._line.call(request))
        answer = self._answer = self._http.send(built, stream=True)
        self._follower.answered(answer.status_code, answer.headers)
        self._pieces = answer.iter_bytes()

    def _read(self, pieces: Iterator[bytes]) -> None:
        piece = next(pieces, None)
        if piece is not None:
            self._news.extend(self._follower.take(piece))
            return
        self._hang_up()
        self._news.extend(self._follower.ended())

    def _hang_up(self) -> None:
        answer, self._answer, self._pieces = self._answer, None, None
        if answer is not None:
            answer.close()
