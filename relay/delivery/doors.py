"""Who may ask for what: keys, tickets, and the scope that each route needs.

Pure but for the clock it is given. How requests come through stands in ``entrance``.

A key is random text of which the settings hold only the digest. A ticket is what a
browser shows in its place, whose EventSource and WebSocket can send no header: good for
a minute at most, for reading alone, and by any instance, since it is signed with what
all of them have in their settings.
"""

import hmac
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from secrets import token_urlsafe
from typing import Final, Literal
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from relay import config
from relay.clock import Clock
from relay.delivery.answer import PRIVATE, Headers
from relay.errors import RequestError
from relay.model import base36

Heads = Iterable[tuple[bytes, bytes]]
"""A request's headers as a server says them, names in lower case."""

Scope = Literal["", "read", "admin"]
"""What a key may; empty for what anybody may."""


class Need(Struct, frozen=True):
    """The scope that a route needs: while reading is open, and when it needs a key."""

    opened: Scope
    locked: Scope


ANYBODY: Final = Need("", "")
READER: Final = Need("", "read")
# The numbers of an instance: whoever runs it wants them without ado, and no more than
# that when strangers hold keys.
OPERATOR: Final = Need("", "admin")
# What has a meaning with a key only.
HOLDER: Final = Need("read", "read")
ADMIN: Final = Need("admin", "admin")

TICKET: Final = "/v1/ticket"

NEEDS: Final[Mapping[str, Need]] = {
    "/v1/prices": READER,
    "/v1/prices/{symbol}": READER,
    "/v1/prices/{symbol}/recent": READER,
    "/v1/poll": READER,
    "/v1/stream": READER,
    "/v1/ws": READER,
    "/v1/symbols": READER,
    "/v1/value": READER,
    "/v1/status": READER,
    TICKET: HOLDER,
    "/healthz": ANYBODY,
    "/readyz": ANYBODY,
    "/metrics": OPERATOR,
    "/api/prices": READER,
    "/api/prices/{symbol}": READER,
    "/api/prices/bulk/{ids}": READER,
    "/api/prices/status/health": READER,
    "/api/prices/metrics": READER,
    "/api/prices/metrics/reset": ADMIN,
    "/api/market-data/health": READER,
    "/api/market-data/stream": READER,
    "/ws/prices": READER,
    "/ws/prices/{symbol}": READER,
    # Pages hold no prices; what they show they ask for like anybody else.
    "/": ANYBODY,
    "/docs": ANYBODY,
    "/docs/openapi.json": ANYBODY,
}
"""Every route; a test says so. What is not here needs what a reader does."""
_FILES: Final = "/dashboard/"

TICKETED: Final = frozenset(
    {
        "/v1/stream",
        "/v1/ws",
        "/api/market-data/stream",
        "/ws/prices",
        "/ws/prices/{symbol}",
        "/ws/prices/{symbol}/{currency}",
    }
)
"""The routes that take a ticket in the URL: browsers open them without headers."""

_KEY: Final = "rk_"
_TICKET: Final = "rt_"
_KEY_BYTES: Final = 32
_MAC_LENGTH: Final = 32
_BASE36: Final = 36
_EXPIRY: Final = re.compile(r"[0-9a-z]{1,11}")

_TICKET_IN_URL: Final = re.compile(rb"(?:^|&)ticket=([^&]*)")
# By the names that people give it, and by how a key of ours begins.
_KEY_IN_URL: Final = re.compile(
    rb"(?:^|&)(?:(?:x[-_])?api[-_]?key|key|(?:access[-_])?token|authorization|bearer)="
    rb"|rk_[A-Za-z0-9_-]{20}",
    re.IGNORECASE,
)
_HOW: Final = (
    "Send a key as Authorization: Bearer or X-API-Key, or a ticket as Authorization: "
    "Bearer. Streams and WebSockets of browsers take ?ticket=, from POST /v1/ticket."
)
_AGAIN: Final = (
    "Get another with POST /v1/ticket, and open a new stream with it, with cursor= of "
    "the last event: a browser's own reconnect repeats the old address."
)
_REALM: Final = 'Bearer realm="relay"'
_INVALID: Final = f'{_REALM}, error="invalid_token"'


class Locked(RequestError):
    """Somebody may not. ``challenge`` is what ``WWW-Authenticate`` says of it."""

    def __init__(self, code: str, reason: str, hint: str, challenge: str = "") -> None:
        super().__init__(code, reason, hint)
        self.challenge = challenge


def needed(route: str) -> Need:
    """Return what a route needs, named as its path is written with parameters."""
    need = NEEDS.get(route)
    if need is not None:
        return need
    return ANYBODY if route.startswith(_FILES) else READER


class Key(Struct, frozen=True):
    """One key of the settings: its name, what it may, and its digest."""

    name: str
    scopes: frozenset[str]
    digest: bytes

    @classmethod
    def read(cls, text: str) -> "Key":
        """Read ``NAME:SCOPES:DIGEST``, whose form the settings have checked."""
        name, scopes, digest = text.split(":")
        return cls(name, frozenset(scopes.split("+")), bytes.fromhex(digest))


def make_key(name: str, scopes: str) -> tuple[str, str]:
    """Return a new key, and its line for the settings."""
    key = f"{_KEY}{token_urlsafe(_KEY_BYTES)}"
    return key, f"{name}:{scopes}:{sha256(key.encode()).hexdigest()}"


class Doors:
    """Lets in whom the settings let in.

    ``locked`` tells whether reading needs a key: where it does not, ``check`` of a
    reader's route has nothing to say. ``private`` tells whether shared caches must not
    keep answers, because nobody asks for a key on their behalf.
    """

    def __init__(self, settings: config.Doors, clock: Clock) -> None:
        self.locked = settings.reading == "keys"
        self.private = self.locked and not settings.edge_checks_keys
        self._keys = [Key.read(text) for text in settings.keys]
        self._signers = {
            one.name: _signer(settings.ticket_secret, one) for one in self._keys
        }
        self._ticket_ms, self._clock = settings.ticket_ms, clock

    def check(self, route: str, headers: Heads, query: bytes) -> None:
        """Let a request pass; ``route`` is written as in ``NEEDS``.

        Raises:
            Locked: it may not, for want of a key, or with this one.
        """
        need = needed(route)
        scope = need.locked if self.locked else need.opened
        if not scope:
            return
        if query and _KEY_IN_URL.search(unquote_to_bytes(query)):
            raise Locked(
                "key_in_url",
                "A key was sent in the URL, where logs and histories keep it.",
                "Take this key out of use, and send its successor in a header.",
            )
        if not any(scope in key.scopes for key in self._keys):
            raise Locked(
                "forbidden",
                f"This needs a key with the scope {scope}, and there is none.",
                "Whoever runs this relay makes one with relay key new.",
            )
        if scope not in self._scopes(route, headers, query):
            raise Locked(
                "scope_missing",
                f"This needs a key with the scope {scope}, which yours has not.",
                "Ask whoever runs this relay for one that has it.",
                f'{_REALM}, error="insufficient_scope", scope="{scope}"',
            )

    def issue(self, headers: Heads) -> tuple[str, int]:
        """Return a ticket for who shows a key, and its end in Unix milliseconds.

        Raises:
            Locked: it is no key that may read.
        """
        text = _shown(headers)
        if text.startswith(_TICKET):
            raise Locked(
                "scope_missing",
                "A ticket gets no other one: it would never end.",
                "Send the key itself, from where it is kept.",
                f'{_REALM}, error="insufficient_scope", scope="read"',
            )
        key = self._find(text)
        until_ms = self._clock.wall_ms() + self._ticket_ms
        expiry = base36(until_ms)
        mac = _sign(self._signers[key.name], expiry)
        return f"{_TICKET}{key.name}.{expiry}.{mac}", until_ms

    def _scopes(self, route: str, headers: Heads, query: bytes) -> frozenset[str]:
        text = _shown(headers)
        if not text and route in TICKETED:
            found = _TICKET_IN_URL.search(query)
            text = unquote_to_bytes(found[1]).decode("latin-1") if found else ""
            if text and not text.startswith(_TICKET):
                raise _no_ticket()
        if not text:
            raise Locked("key_missing", "This needs a key.", _HOW, _REALM)
        if text.startswith(_TICKET):
            self._heed_ticket(text)
            return frozenset({"read"})
        return self._find(text).scopes

    def _find(self, text: str) -> Key:
        """Return the key that was shown; how long it takes tells nothing."""
        given = sha256(text.encode("latin-1")).digest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, given):
                found = key
        if found is None:
            raise Locked("key_unknown", "This key is not known here.", _HOW, _INVALID)
        return found

    def _heed_ticket(self, text: str) -> None:
        name, _, rest = text.removeprefix(_TICKET).partition(".")
        expiry, _, mac = rest.partition(".")
        # Of a name that is not known any right one would be as wrong as this one.
        right = _sign(self._signers.get(name, b"nobody's"), expiry)
        same = hmac.compare_digest(right.encode(), mac.encode("latin-1"))
        if not same or name not in self._signers or not _EXPIRY.fullmatch(expiry):
            raise _no_ticket()
        left_ms = int(expiry, _BASE36) - self._clock.wall_ms()
        if left_ms <= 0:
            raise Locked("ticket_expired", "This ticket has expired.", _AGAIN, _INVALID)


def _no_ticket() -> Locked:
    return Locked("ticket_invalid", "This is no ticket of ours.", _AGAIN, _INVALID)


def _signer(secret: str, key: Key) -> bytes:
    """Return what a key's tickets are signed with; without the key they are void."""
    scopes = "+".join(sorted(key.scopes))
    said = b"relay ticket %b %b" % (scopes.encode(), key.digest)
    return hmac.digest(secret.encode(), said, "sha256")


def _sign(signer: bytes, expiry: str) -> str:
    mac = hmac.digest(signer, expiry.encode("latin-1"), "sha256")
    return mac.hex()[:_MAC_LENGTH]


def _shown(headers: Heads) -> str:
    """Return the key or the ticket of a request's head; empty without."""
    by_name = b""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, rest = value.partition(b" ")
            if scheme.lower() == b"bearer":
                return rest.strip().decode("latin-1")
        elif name == b"x-api-key":
            by_name = value
    return by_name.strip().decode("latin-1")


def without_ticket(query: bytes) -> bytes:
    """Return a query without its tickets: nobody behind the door needs to know."""
    if b"ticket=" not in query:
        return query
    return b"&".join(one for one in query.split(b"&") if not one.startswith(b"ticket="))


def private(headers: Headers) -> Headers:
    """Return an answer's head so that shared caches do not keep it."""
    return [
        (name, _private_rules(value) if name == b"cache-control" else value)
        for name, value in headers
        if name != b"cdn-cache-control"
    ]


def _private_rules(rules: bytes) -> bytes:
    if not rules.startswith(b"public"):
        return rules
    if b"s-maxage" in rules:
        # It was for shared caches; a browser would only ask again each time.
        return PRIVATE[1]
    return b"private" + rules.removeprefix(b"public")
