"""Which pages of other origins may read from a browser: the headers that say so.

Pure. How they come to an answer stands in ``entrance``.

Nothing here goes by cookies, so the headers give away nothing that a page could not
have somebody else fetch; a list of origins keeps honest front ends out, not attackers.
WebSockets are not bound by them in any browser.
"""

from collections.abc import Iterable
from typing import Final

from relay.delivery.answer import Headers

EVERYBODY: Final = "*"

_VARY: Final = (b"vary", b"origin")
_EXPOSE: Final = (
    b"access-control-expose-headers",
    (
        b"age, cache-status, content-location, date, etag, retry-after, "
        b"www-authenticate, x-grid-ttl"
    ),
)
_ALLOW: Final[Headers] = [
    (b"access-control-allow-methods", b"GET, HEAD, POST"),
    (
        b"access-control-allow-headers",
        (
            b"authorization, cache-control, content-type, if-none-match, "
            b"last-event-id, x-api-key"
        ),
    ),
]


class Cors:
    """Writes the headers; ``answers`` is false where no other origin is let in."""

    def __init__(self, origins: Iterable[str], preflight_ms: int) -> None:
        self._origins = {origin.encode() for origin in origins}
        self._anybody = EVERYBODY.encode() in self._origins
        self.answers = bool(self._origins)
        self._all = [(b"access-control-allow-origin", b"*"), _EXPOSE]
        self._kept = (b"access-control-max-age", b"%d" % (preflight_ms // 1000))

    def headers(self, origin: bytes) -> Headers:
        """Return what an answer to a page of this origin says; empty is no page.

        For everybody it is the same and depends on nothing, so that caches keep one
        answer for all; where origins are listed it varies, whoever asks.
        """
        if self._anybody:
            return self._all
        if not self.answers:
            return []
        if origin not in self._origins:
            return [_VARY]
        return [(b"access-control-allow-origin", origin), _EXPOSE, _VARY]

    def preflight(self, origin: bytes) -> Headers:
        """Return the head of the answer to a browser that asks whether it may ask."""
        said = [one for one in self.headers(origin) if one is not _EXPOSE]
        if said in ([], [_VARY]):
            return said
        return [*said, *_ALLOW, self._kept]
