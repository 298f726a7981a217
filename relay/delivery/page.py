"""The page at ``/`` and the description at ``/docs``: read and compressed once.

Their text stands in ``relay/dashboard`` and in ``describe``.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib.resources import files
from typing import Final

from litestar.handlers import ASGIRouteHandler
from litestar.types import HTTPScope, Receive
from msgspec import Struct

from relay.config import Settings
from relay.delivery.answer import (
    JSON,
    NOSNIFF,
    READ,
    Answer,
    Headers,
    Seen,
    compress_well,
    digest,
    negotiated,
    route,
)

_FOLDER: Final = files("relay.dashboard")
_HTML: Final = b"text/html; charset=utf-8"

# Browsers ask each time whether there is a newer one; mostly there is not.
_CACHED: Final = (b"cache-control", b"no-cache")
# A page takes nothing from elsewhere, sends nothing there, and is put in no frame.
_GUARD: Final[Headers] = [
    (
        b"content-security-policy",
        (
            b"default-src 'none'; script-src 'self'; style-src 'self'; "
            b"connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
            b"form-action 'none'; frame-ancestors 'none'"
        ),
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
]

# What the page is made of, and what others may import: file and content type.
_KINDS: Final = {
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".ts": b"text/plain; charset=utf-8",  # what browsers know as .ts is a film
}


class Text(Struct, frozen=True):
    """One file in memory, ready to send."""

    kind: bytes
    body: bytes
    etag: str
    coded: dict[str, bytes]

    @classmethod
    def of(cls, kind: bytes, body: bytes) -> "Text":
        """Make a text of a file's bytes, compressed once for everybody."""
        return cls(kind, body, digest(body), compress_well(body))

    async def answer(self, scope: HTTPScope, _receive: Receive) -> Answer:
        """Answer one read."""
        headers: Headers = [(b"content-type", self.kind), NOSNIFF, _CACHED]
        if self.kind == _HTML:
            headers += _GUARD
        answer = Answer(200, headers, self.body)
        return negotiated(answer, self.etag, scope, kept=self.coded)


class Page:
    """One text that is made when it is first asked for: most instances never are."""

    def __init__(self, kind: bytes, make: Callable[[], bytes]) -> None:
        self._text = cache(lambda: Text.of(kind, make()))

    async def answer(self, scope: HTTPScope, receive: Receive) -> Answer:
        """Answer one read."""
        return await self._text().answer(scope, receive)


def _pages(settings: Settings) -> Iterator[tuple[str, Page]]:
    yield "/", Page(_HTML, partial(_write_front, settings))
    for file in sorted(_FOLDER.iterdir(), key=lambda file: file.name):
        kind = _KINDS.get(file.name[file.name.rfind(".") :])
        if kind is not None:
            yield f"/dashboard/{file.name}", Page(kind, file.read_bytes)
    yield "/docs", Page(_HTML, _write_page)
    yield "/docs/openapi.json", Page(JSON, partial(_describe, settings))


def _write_front(settings: Settings) -> bytes:
    """Return the page at ``/``, which says whether it has to ask for a key.

    To find out by asking, and being refused, is an error that a browser notes.
    """
    page = (_FOLDER / "index.html").read_bytes()
    if settings.doors.reading == "open":
        return page
    return page.replace(b'data-door="open"', b'data-door="shut"', 1)


def _write_page() -> bytes:
    from relay.delivery.describe import write_page  # noqa: PLC0415 - as for ``Page``

    return write_page()


def _describe(settings: Settings) -> bytes:
    from relay.delivery.describe import describe  # noqa: PLC0415 - as for ``Page``
    from relay.delivery.parameters import choices  # noqa: PLC0415 - as for ``Page``

    return describe(choices(settings))


def routes(settings: Settings, seen: Seen) -> list[ASGIRouteHandler]:
    """Return the handlers of the pages and of what they are made of."""
    pages = _pages(settings)
    return [route(path, READ, page.answer, seen=seen) for path, page in pages]
