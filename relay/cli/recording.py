"""Reading recordings of exchanges: WebSocket captures, REST captures, cassettes.

What the frames and answers in them mean is the adapters' to say.

========================== ==================================================
file                       lines
========================== ==================================================
``.ws``, ``.ws.gz``        ``wss://HOST/PATH <-> UNIX`` (opened),
                           ``wss://HOST/PATH <- UNIX: TEXT`` (sent),
                           ``UNIX: TEXT`` (received)
``.rest``, ``.rest.gz``    ``URL -> UNIX: BODY``
``.jsonl``, ``.jsonl.gz``  one JSON object an HTTP exchange, with its headers
``.txt``, ``.txt.gz``      a fixture: method, path, a flag, then the body of a
                           REST answer; or ``>`` sent, ``<`` received and ``=``
                           pushed messages of a WebSocket
``.json``, ``.json.gz``    one frame, or one body
========================== ==================================================
"""

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from relay.errors import RelayError

_SECONDS: Final = 1000
# Of an instant in whole seconds: enough for any, and few enough to read.
_DIGITS_MAX: Final = 12
# Who speaks in a fixture: the client, the exchange in answer, the exchange by itself.
_TURNS: Final = (b">", b"<", b"=")


class RecordingError(RelayError):
    """A file that is not a recording: file, line and reason."""

    def __init__(self, file: Path, line: int, reason: str) -> None:
        super().__init__(file, line, reason)
        self.file, self.line, self.reason = file, line, reason

    def __str__(self) -> str:
        place = f"{self.file}, line {self.line}" if self.line else str(self.file)
        return f"{place}: {self.reason}"


class EndsEarly(RecordingError):
    """A compressed file that is cut off, or broken from there on.

    Whatever came before has been read.
    """


class Received(Struct, frozen=True):
    """One text frame, and the address of the connection it came by."""

    url: str
    at_ms: int
    frame: bytes


class Answered(Struct, frozen=True):
    """One REST answer."""

    url: str
    at_ms: int
    body: bytes
    status: int = 200
    headers: dict[str, str] = {}


class Unreadable(Struct, frozen=True):
    """A line that is none of the above."""

    line: int


Item = Received | Answered | Unreadable


def read(path: Path) -> Iterator[Item]:
    """Read a recording, item by item, in the order of its lines.

    Raises:
        RecordingError: the file cannot be read, or its name has no known ending.
        EndsEarly: it ends before its end; what it has was yielded.
    """
    yield from _reader_of(path)(_lines(path))


def _reader_of(path: Path) -> Callable[[Iterator[bytes]], Iterator[Item]]:
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    reader = _READERS.get(suffixes[-1] if suffixes else "")
    if reader is None:
        endings = ", ".join(_READERS)
        raise RecordingError(path, 0, f"expected a file that ends in {endings} or .gz")
    return reader


def size(path: Path) -> int:
    """Return how many lines a recording has, for a progress bar.

    Raises:
        RecordingError: the file cannot be read, or its name has no known ending.
    """
    _reader_of(path)
    count = 0
    with suppress(EndsEarly):
        for _ in _lines(path):
            count += 1
    return count


def _lines(path: Path) -> Iterator[bytes]:
    opened = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opened(path, "rb") as file:
            for line in file:
                number += 1
                yield line.rstrip(b"\r\n")
    except (EOFError, zlib.error) as error:
        reason = "the file ends early: what comes after is cut off or broken"
        raise EndsEarly(path, number, reason) from error
    except OSError as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecordingError(path, 0, reason) from error


def _read_frames(lines: Iterator[bytes]) -> Iterator[Item]:
    url = ""
    for number, line in enumerate(lines, 1):
        if line.startswith((b"ws://", b"wss://")):
            # A sent line or a new connection: either names whom we talk to.
            url = line.partition(b" ")[0].decode(errors="replace")
            continue
        instant, found, frame = line.partition(b": ")
        at_ms = _instant_ms(instant)
        if found and at_ms is not None:
            yield Received(url, at_ms, frame)
        elif line:
            yield Unreadable(number)


def _read_answers(lines: Iterator[bytes]) -> Iterator[Item]:
    for number, line in enumerate(lines, 1):
        if not line or line.startswith(b"configuration: "):
            continue
        url, _, rest = line.partition(b" -> ")
        instant, found, body = rest.partition(b": ")
        at_ms = _instant_ms(instant)
        if found and at_ms is not None:
            yield Answered(url.decode(errors="replace"), at_ms, body)
        else:
            yield Unreadable(number)


def _instant_ms(text: bytes) -> int | None:
    """Read seconds since 1970 with a fraction, digit by digit: no float is needed."""
    whole, _, part = text.partition(b".")
    if len(whole) > _DIGITS_MAX or not whole.isdigit():
        return None
    if part and not part.isdigit():
        return None
    return int(whole) * _SECONDS + int(part[:3].ljust(3, b"0") or b"0")


class _Request(Struct):
    method: str
    url: str


class _Response(Struct):
    status: int
    headers: dict[str, list[str]]
    body: str


class _Cassette(Struct):
    recorded_at: str
    request: _Request
    response: _Response


_cassette: Final = msgspec.json.Decoder(_Cassette)


def _read_cassettes(lines: Iterator[bytes]) -> Iterator[Item]:
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            cassette = _cassette.decode(line)
            at_ms = int(parsedate_to_datetime(cassette.recorded_at).timestamp())
        except (msgspec.DecodeError, ValueError, OverflowError, RecursionError):
            yield Unreadable(number)
            continue
        response = cassette.response
        headers = {name: ", ".join(of) for name, of in response.headers.items()}
        yield Answered(
            cassette.request.url,
            at_ms * _SECONDS,
            response.body.encode(),
            response.status,
            headers,
        )


def _read_fixture(lines: Iterator[bytes]) -> Iterator[Item]:
    rows = list(lines)
    if rows and rows[0][:1] not in _TURNS:
        path = rows[1].decode(errors="replace") if len(rows) > 1 else ""
        yield Answered(path, 0, b"\n".join(rows[3:]))
        return
    message: list[bytes] = []
    for row in (*rows, b">"):
        # A message goes on over the lines that begin with none of the three.
        if row[:1] in _TURNS:
            if message and not message[0].startswith(b">"):
                yield Received("", 0, b"\n".join(message)[1:].strip())
            message = []
        message.append(row)


def _read_one(lines: Iterator[bytes]) -> Iterator[Item]:
    yield Received("", 0, b"\n".join(lines))


_READERS: Final = {
    ".ws": _read_frames,
    ".rest": _read_answers,
    ".jsonl": _read_cassettes,
    ".txt": _read_fixture,
    ".json": _read_one,
}
