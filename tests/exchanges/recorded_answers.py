"""Readers of recordings; each address is given the request that it stands for."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
from msgspec import Struct

from relay.exchanges.adapter import Adapter, Answer, Request
from tests.exchanges.answers import SENT_MS


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


def read_lines(path: Path) -> list[str]:
    """Return the lines of a recording, packed or not."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    return data.decode(errors="replace").splitlines()


def read_frames(path: Path) -> Iterator[tuple[bytes, int]]:
    """Yield each frame that a ``.ws`` capture received, and when in milliseconds."""
    for line in read_lines(path):
        if not line.startswith("wss://"):
            seconds, _, text = line.partition(": ")
            yield text.encode(), int(float(seconds) * 1000)


def read_cassettes(adapter: Adapter, path: Path) -> Iterator[Exchanged]:
    """Yield what a ``.jsonl`` recording holds."""
    for line in read_lines(path):
        row: dict[str, Any] = msgspec.json.decode(line)
        url, response = row["request"]["url"], row["response"]
        headers = {name: values[0] for name, values in response["headers"].items()}
        body = response["body"].encode()
        yield _exchanged(adapter, url, response["status"], headers, body)


def read_answers(adapter: Adapter, path: Path) -> Iterator[Exchanged]:
    """Yield what a ``.rest`` recording holds."""
    for line in read_lines(path):
        if not line.startswith("configuration: "):
            url, _, rest = line.partition(" -> ")
            yield _exchanged(adapter, url, 200, {}, rest.partition(": ")[2].encode())


def read_fixture(adapter: Adapter, path: Path) -> Exchanged:
    """Return what a three-line fixture holds: method, path, flag, then the body."""
    _, address, _, *body = read_lines(path)
    return _exchanged(adapter, address, 200, {}, "\n".join(body).encode())


def _exchanged(
    adapter: Adapter, url: str, status: int, headers: dict[str, str], body: bytes
) -> Exchanged:
    parts = urlsplit(url)
    request = adapter.recognise(parts.path, parse_qsl(parts.query))
    return Exchanged(url, request, status, headers, body)
