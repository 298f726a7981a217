"""Recordings as the adapters' tests want them: each address with its request.

The files are read as ``relay replay`` reads them; nothing here knows an exchange.
"""

import gzip
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct, field

from relay.cli.recording import Answered, Received, read
from relay.errors import FrameError
from relay.exchanges.adapter import Adapter, Answer, Request, Session
from relay.model import Update
from tests.exchanges.answers import SENT_MS


class Tally(Struct):
    """What became of a recording: frames, updates by channel, drops, last values."""

    frames: int = 0
    updates: Counter[str] = field(default_factory=Counter)
    drops: Counter[str] = field(default_factory=Counter)
    prices: dict[str, str] = field(default_factory=dict)
    books: dict[str, tuple[str, str]] = field(default_factory=dict)

    def take(self, update: Update) -> None:
        """Note one update."""
        self.updates[update.channel] += 1
        if update.price:
            self.prices[update.symbol] = update.price
        if update.bid or update.ask:
            self.books[update.symbol] = (update.bid, update.ask)


class Exchanged(Struct, frozen=True):
    """One recorded request and its answer; ``request`` is None for other addresses."""

    url: str
    request: Request | None
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def answer(self) -> Answer:
        """Return the answer as the adapter would have been given it."""
        assert self.request is not None, self.url
        return Answer(
            request=self.request,
            status=self.status,
            headers=self.headers,
            body=self.body,
            sent_ms=SENT_MS,
            received_ms=SENT_MS,
            age_ms=int(self.headers.get("age", "0")) * 1000,
        )


def read_frames(path: Path) -> Iterator[tuple[bytes, int]]:
    """Yield each frame that was received, and when in milliseconds."""
    for item in read(path):
        assert isinstance(item, Received), item
        yield item.frame, item.at_ms


def replay(path: Path, session: Session) -> Tally:
    """Let a session read every frame of a capture."""
    tally = Tally()
    for frame, at_ms in read_frames(path):
        tally.frames += 1
        read_into(tally, session, frame, at_ms)
    return tally


def read_into(tally: Tally, session: Session, frame: bytes, received_ms: int) -> None:
    """Let a session read one frame."""
    try:
        updates = session.receive(frame, received_ms=received_ms)
    except FrameError as error:
        tally.drops[str(error)] += 1
        return
    for update in updates:
        tally.take(update)


def pushed(path: Path) -> bytes:
    """Return the pushed message of a fixture, its last."""
    return list(read_frames(path))[-1][0]


def text_of(path: Path) -> str:
    """Return a file that is one frame or one body, as text."""
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


def body_of(path: Path) -> str:
    """Return the body of a REST fixture."""
    (item,) = read(path)
    assert isinstance(item, Answered)
    return item.body.decode()


def read_answers(adapter: Adapter, path: Path) -> Iterator[Exchanged]:
    """Yield every answer of a recording, whatever its format."""
    for item in read(path):
        assert isinstance(item, Answered), item
        parts = urlsplit(item.url)
        request = adapter.recognise(parts.path, parse_qsl(parts.query))
        yield Exchanged(item.url, request, item.status, item.headers, item.body)


def recognised(path: Path, adapter: Adapter) -> Iterator[Answer]:
    """Yield the answers that an adapter recognises."""
    for one in read_answers(adapter, path):
        if one.request is not None:
            yield one.answer
