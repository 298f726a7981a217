"""Plays recordings into a merge: the adapters read them, as they do for the worker.

No store here and no screen: ``replay`` publishes what comes out and shows it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct, field
from msgspec.structs import replace

from relay.cli.recording import Answered, EndsEarly, Item, Received, read
from relay.config import Board, Exchange, Settings
from relay.errors import FrameError
from relay.exchanges import ADAPTERS, open_adapter
from relay.exchanges.adapter import Adapter, Answer, Request, Session
from relay.ingest.conflate import Merge
from relay.model import Listing, Symbols, Update, read_count

_SECONDS: Final = 1000

UNLISTED: Final = "a symbol that no table lists"
"""Why a price is dropped whose symbol stands for nobody knows what."""


class Count(Struct):
    """What became of one exchange's frames and answers."""

    frames: int = 0
    answers: int = 0
    updates: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


class Player:
    """Knows every adapter, and which recordings are whose.

    ``exchange`` is whose a recording is that does not say so itself.
    """

    def __init__(self, settings: Settings, exchange: str | None) -> None:
        self.settings, self._exchange = settings, exchange
        self._adapters: dict[str, Adapter] = {
            name: open_adapter(name, _on(settings.exchanges[name]))
            for name in ADAPTERS
            if name in settings.exchanges
        }
        self._hosts = {
            host: name
            for name, adapter in self._adapters.items()
            for host in adapter.hosts
        }
        self._sessions: dict[str, Session] = {}
        self._listings: dict[str, list[Listing]] = {name: [] for name in self._adapters}
        self._symbols = {name: Symbols() for name in self._adapters}
        self._wanted: set[str] = set()
        self.counts: dict[str, Count] = {}
        # Files that are cut off, and where.
        self.early: dict[Path, EndsEarly] = {}
        self.merge = Merge(
            replay_board(settings.board, self._adapters),
            settings.ingest,
            dict.fromkeys(self._adapters, 0),
        )

    def learn(self, paths: Iterable[Path]) -> Iterator[None]:
        """Take in the symbol tables among the recordings; yields once an item.

        Raises:
            RecordingError: a file cannot be read.
        """
        tables: dict[tuple[str, str], dict[str, Answer]] = {}
        for path in paths:
            for item in self.read(path):
                yield
                answer = self._answer(item)
                if answer is None or not isinstance(item, Answered):
                    continue
                name = answer.request.exchange
                if answer.request.purpose == "symbols":
                    key = (name, urlsplit(item.url).hostname or "")
                    tables.setdefault(key, {})[item.url] = answer
                else:
                    # Some answer with table and prices in one.
                    with suppress(FrameError):
                        self._learn(name, [answer])
        for (name, _), answers in tables.items():
            try:
                self._learn(name, list(answers.values()))
            except FrameError as error:
                self._count(name).dropped[error.reason] += 1

    def read(self, path: Path) -> Iterator[Item]:
        """Read a recording as far as it goes; that it ends early is remembered.

        Raises:
            RecordingError: the file cannot be read.
        """
        try:
            yield from read(path)
        except EndsEarly as early:
            self.early[path] = early

    @property
    def fruitless(self) -> bool:
        """Whether neither a price nor a symbol table was found."""
        priced = any(count.updates for count in self.counts.values())
        return not priced and not any(self._listings.values())

    def table_of(self, name: str) -> str:
        """Return the path of the answers that make an exchange's symbol table."""
        requests = self._adapters[name].symbol_requests()
        return ", ".join(dict.fromkeys(request.path for request in requests))

    def _learn(self, name: str, answers: list[Answer]) -> None:
        if listings := list(self._adapters[name].read_symbols(answers)):
            self._list(name, listings)

    def dropped(self, name: str) -> Counter[str]:
        """Return what was dropped of an exchange's items, by reason."""
        merged = Counter(
            {
                reason: times
                for (exchange, reason), times in self.merge.drops.items()
                if exchange == name
            }
        )
        return merged + self._count(name).dropped

    def want(self, instruments: Iterable[str]) -> None:
        """Keep these on the board, whether the recordings have them or not."""
        self._wanted.update(instruments)
        self.merge.want(self._wanted)

    def play(self, item: Item, *, now_ms: int) -> None:
        """Play one item: what it says goes into the merge."""
        if isinstance(item, Received):
            self._play_frame(item, now_ms)
        elif isinstance(item, Answered):
            self._play_answer(item, now_ms)
        else:
            self._count("").dropped["no line of a recording"] += 1

    def _play_frame(self, item: Received, now_ms: int) -> None:
        name = self._whose(item.url)
        count = self._count(name)
        count.frames += 1
        if name not in self._adapters:
            count.dropped[_stranger(item.url)] += 1
            return
        try:
            updates = self._session(name).receive(item.frame, received_ms=item.at_ms)
        except FrameError as error:
            count.dropped[error.reason] += 1
            return
        self._take(name, updates, now_ms)

    def _play_answer(self, item: Answered, now_ms: int) -> None:
        name = self._whose(item.url)
        count = self._count(name)
        count.answers += 1
        if name not in self._adapters:
            count.dropped[_stranger(item.url)] += 1
            return
        answer = self._answer(item)
        if answer is None:
            count.dropped["an answer about something else"] += 1
        elif (failure := self._adapters[name].read_failure(answer)) is not None:
            count.dropped[f"the answer was an error: {failure}"] += 1
        elif answer.request.purpose == "snapshot":
            self._play_snapshot(name, answer, now_ms)

    def _play_snapshot(self, name: str, answer: Answer, now_ms: int) -> None:
        try:
            updates = self._adapters[name].read_snapshot(answer)
        except FrameError as error:
            self._count(name).dropped[error.reason] += 1
            return
        self._take(name, updates, now_ms)

    def _take(self, name: str, updates: Iterable[Update], now_ms: int) -> None:
        known = [update for update in updates if self._knows(name, update.symbol)]
        self._count(name).updates += len(known)
        if known:
            self.merge.heard(name, now_ms=now_ms)
            self.merge.take(known, now_ms=now_ms)

    def _knows(self, name: str, symbol: str) -> bool:
        """Tell whether a symbol stands for instruments, and put them on the board."""
        listings = self._symbols[name].listings_of(symbol)
        if not listings:
            listing = self._adapters[name].listing_of(symbol)
            if listing is None:
                self._count(name).dropped[UNLISTED] += 1
                return False
            self._list(name, [listing])
            listings = (listing,)
        new = {listing.instrument for listing in listings} - self._wanted
        if new:
            self.want(new)
        return True

    def _list(self, name: str, listings: list[Listing]) -> None:
        """Add to an exchange's table; what was recorded was listed at the time."""
        self._listings[name] += [replace(one, active=True) for one in listings]
        self._symbols[name] = Symbols(self._listings[name])
        self.merge.list(name, self._symbols[name])

    def _answer(self, item: Item) -> Answer | None:
        """Return an answer as the worker would have it; None if it is not for us."""
        if not isinstance(item, Answered):
            return None
        adapter = self._adapters.get(self._whose(item.url))
        if adapter is None:
            return None
        address = urlsplit(item.url)
        query = tuple(parse_qsl(address.query, keep_blank_values=True))
        request = adapter.recognise(address.path, query)
        if request is None:
            return None
        return _answer(request, item)

    def _whose(self, url: str) -> str:
        return self._hosts.get(urlsplit(url).hostname or "", self._exchange or "")

    def _session(self, name: str) -> Session:
        if name not in self._sessions:
            self._sessions[name] = self._adapters[name].session([])
        session = self._sessions[name]
        session.notices.clear()
        return session

    def _count(self, name: str) -> Count:
        return self.counts.setdefault(name or "unknown", Count())


def _answer(request: Request, item: Answered) -> Answer:
    return Answer(
        request=request,
        status=item.status,
        headers=item.headers,
        body=item.body,
        sent_ms=item.at_ms,
        received_ms=item.at_ms,
        age_ms=(read_count(item.headers.get("age", "")) or 0) * _SECONDS,
    )


def _stranger(url: str) -> str:
    host = urlsplit(url).hostname
    if host is None:
        return "the file does not say whose it is: name it with --exchange"
    return f"{host} is no exchange that is read here"


def _on(exchange: Exchange) -> Exchange:
    """Return the settings of an exchange that is read, whatever it may cost."""
    return replace(exchange, enabled=True, charged=False)


def replay_board(board: Board, sources: Iterable[str]) -> Board:
    """Return a board without a core of its own: it shows what the recordings hold."""
    names = tuple(sources)
    return replace(board, groups=(), sources=names)
