"""The page at ``/`` and the description at ``/docs``: files, read once, served whole.

Their text stands in ``relay/dashboard`` and in ``describe``.
"""

from collections.abc import Iterator
from importlib.resources import files
from typing import Final

from litestar.handlers import ASGIRouteHandler
from litestar.types import HTTPScope, Receive
from msgspec import Struct

from relay.delivery.answer import (
    JSON,
    NOSNIFF,
    READ,
    Answer,
    Headers,
    Seen,
    conditional,
    digest,
    header,
    route,
)
from relay.delivery.describe import describe, write_page

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

# Path, file and content type.
_FILES: Final = (
    ("/", "index.html", _HTML),
    ("/dashboard/style.css", "style.css", b"text/css; charset=utf-8"),
    ("/dashboard/docs.css", "docs.css", b"text/css; charset=utf-8"),
    ("/dashboard/prices.js", "prices.js", b"text/javascript; charset=utf-8"),
    ("/dashboard/feed.js", "feed.js", b"text/javascript; charset=utf-8"),
)


class Text(Struct, frozen=True):
    """One file in memory, ready to send."""

    kind: bytes
    body: bytes
    etag: str

    @classmethod
    def of(cls, kind: bytes, body: bytes) -> "Text":
        """Make a text of a file's bytes."""
        return cls(kind, body, digest(body))

    async def answer(self, scope: HTTPScope, _receive: Receive) -> Answer:
        """Answer one read."""
        headers: Headers = [(b"content-type", self.kind), NOSNIFF, _CACHED]
        if self.kind == _HTML:
            headers += _GUARD
        answer = Answer(200, headers, self.body)
        return conditional(answer, self.etag, header(scope, b"if-none-match"))


def _texts() -> Iterator[tuple[str, Text]]:
    for path, name, kind in _FILES:
        yield path, Text.of(kind, (_FOLDER / name).read_bytes())
    yield "/docs", Text.of(_HTML, write_page())
    yield "/docs/openapi.json", Text.of(JSON, describe())


def routes(seen: Seen) -> list[ASGIRouteHandler]:
    """Return the handlers of the pages and of what they are made of."""
    return [route(path, READ, text.answer, seen=seen) for path, text in _texts()]
