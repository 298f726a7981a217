"""Readers of other people's recordings, for the tests of the adapters.

The formats are described beside the recordings; nothing here knows an exchange.
"""

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct, field

from relay.errors import FrameError
from relay.exchanges.adapter import Adapter, Answer, Session
from relay.model import Update


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


def text_of(path: Path) -> str:
    """Read a file, compressed or not."""
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


def replay(path: Path, session: Session) -> Tally:
    """Let a session read every frame of a capture."""
    tally = Tally()
    for line in text_of(path).splitlines():
        at, _, frame = line.partition(": ")
        if not at[:1].isdigit():
            continue
        tally.frames += 1
        read_into(tally, session, frame.encode(), int(float(at) * 1000))
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
    """Return the pushed message of a fixture: what follows its ``=``."""
    return text_of(path).partition("\n=")[2].strip().encode()


def body_of(path: Path) -> str:
    """Return the body of a REST fixture: what follows its three lines."""
    return text_of(path).split("\n", 3)[3]


def cassettes(path: Path, adapter: Adapter) -> Iterator[Answer]:
    """Yield the answers that an adapter recognises."""
    for line in text_of(path).splitlines():
        exchange = json.loads(line)
        url = urlsplit(exchange["request"]["url"])
        request = adapter.recognise(url.path, parse_qsl(url.query))
        if request is None:
            continue
        response = exchange["response"]
        yield Answer(
            request=request,
            status=response["status"],
            headers={name: value[0] for name, value in response["headers"].items()},
            body=response["body"].encode(),
            sent_ms=1,
            received_ms=2,
        )


def answers(path: Path, adapter: Adapter) -> Iterator[Answer]:
    """Yield the plain answers that an adapter recognises."""
    for line in text_of(path).splitlines():
        address, arrow, rest = line.partition(" -> ")
        url = urlsplit(address)
        request = adapter.recognise(url.path, parse_qsl(url.query)) if arrow else None
        if request is None:
            continue
        body = rest.partition(": ")[2].encode()
        yield Answer(
            request=request, status=200, headers={}, body=body, sent_ms=1, received_ms=2
        )
