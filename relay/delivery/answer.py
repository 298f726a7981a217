"""One answer over HTTP: its status, headers and body, and when a 304 says it all.

What is answered stands in the modules of the routes, errors in ``app``.
"""

import re
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import litestar
from litestar import Request, asgi
from litestar.enums import ScopeType
from litestar.exceptions import MethodNotAllowedException
from litestar.handlers import ASGIRouteHandler, HTTPRouteHandler
from litestar.types import ASGIApp, HTTPScope, Method, Receive, Scope, Send
from msgspec import Struct

from relay.config import Http
from relay.errors import RequestError

Headers = list[tuple[bytes, bytes]]

JSON: Final = b"application/json"
READ: Final[tuple[Method, ...]] = ("GET", "HEAD")

NO_STORE: Final = (b"cache-control", b"no-store")
PRIVATE: Final = (b"cache-control", b"private, no-store")
# Browsers take our word for what a body is.
NOSNIFF: Final = (b"x-content-type-options", b"nosniff")


class Freshness(Struct, frozen=True):
    """How long caches may keep an answer, in seconds.

    ``revalidate_s`` is how long an old one may be shown while a new one is fetched;
    ``error_s`` how long when there is nobody to fetch it from.
    """

    max_age_s: int
    revalidate_s: int
    error_s: int

    @classmethod
    def of(cls, http: Http) -> "Freshness":
        """Return how long the settings let a read be kept."""
        times_ms = http.fresh_ms, http.revalidate_ms, http.stale_error_ms
        return cls(*(time_ms // 1000 for time_ms in times_ms))

    def headers(self) -> Headers:
        """Return the header for everybody and the one for shared caches alone."""
        rules = (
            f"max-age={self.max_age_s}, stale-while-revalidate={self.revalidate_s}, "
            f"stale-if-error={self.error_s}"
        )
        return [
            (b"cache-control", f"public, {rules}".encode()),
            (b"cdn-cache-control", rules.encode()),
        ]


class Answer(Struct, frozen=True):
    """What goes back to the client; ``body`` is what GET would answer."""

    status: int
    headers: Headers
    body: bytes = b""


Handle = Callable[[HTTPScope, Receive], Awaitable[Answer]]

Seen = Counter[tuple[str, int]]
"""Answers by route and status."""


def json_answer(body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Answer:
    """Answer 200 with JSON."""
    return Answer(200, [(b"content-type", JSON), NOSNIFF, *headers], body)


def digest(body: bytes) -> str:
    """Return an entity tag's text for a body that has no cursor."""
    return blake2b(body, digest_size=9).hexdigest()


def conditional(
    answer: Answer, etag: str, if_none_match: bytes, *, also: Sequence[str] = ()
) -> Answer:
    """Return the answer with its entity tag, or a 304 when the client has it.

    ``also`` are other tags that make a 304: the client knows better than we do.
    """
    if if_none_match:
        tags = read_tags(if_none_match)
        known = next((tag for tag in (etag, *also) if tag in tags), None)
        if known is None and "*" in tags:
            known = etag
        if known is not None:
            return not_modified(answer, known)
    return Answer(answer.status, [*answer.headers, _etag(etag)], answer.body)


# What describes a body that is not sent; a 304 leaves it out (RFC 9110, 15.4.5).
_OF_BODY: Final = frozenset(
    {b"content-type", b"content-encoding", b"x-content-type-options"}
)


def not_modified(answer: Answer, etag: str) -> Answer:
    """Return the 304 in place of an answer: all its headers that concern caches."""
    headers = [pair for pair in answer.headers if pair[0] not in _OF_BODY]
    return Answer(304, [*headers, _etag(etag)])


# The codings that we write, best first, and the letter that each adds to
# the suffix of an entity tag: bytes that differ have tags that differ.
_CODINGS: Final = {"zstd": "z", "gzip": "g"}
# Above this level zstd may ask for more memory than browsers have for it (RFC 9659).
_ZSTD_BEST: Final = 19
# What fits into one packet is not worth the work.
_COMPRESS_MIN: Final = 1000
# Bodies kept in their compressed form: those of the URLs that are asked for most.
_COMPRESSED_MAX: Final = 128
_VARY: Final = (b"vary", b"accept-encoding")


def negotiated(
    answer: Answer,
    etag: str,
    scope: Scope,
    *,
    also: Sequence[str] = (),
    kept: Mapping[str, bytes] | None = None,
) -> Answer:
    """Return a conditional answer in the coding that the client likes.

    Each coding has an entity tag of its own, and any of them makes a 304. ``kept`` are
    the coded forms of a body that has them already.
    """
    tags = header(scope, b"if-none-match")
    if len(answer.body) < _COMPRESS_MIN:
        return conditional(answer, etag, tags, also=also)
    coding = choose_coding(header(scope, b"accept-encoding"))
    forms = {one: _tag_of(etag, letter) for one, letter in _CODINGS.items()}
    forms[""] = etag
    headers, body = [*answer.headers, _VARY], answer.body
    if coding:
        headers.append((b"content-encoding", coding.encode()))
        body = compress(body, coding) if kept is None else kept[coding]
    coded = Answer(answer.status, headers, body)
    return conditional(coded, forms[coding], tags, also=[*forms.values(), *also])


def _tag_of(etag: str, letter: str) -> str:
    return f"{etag}{'' if '~' in etag else '~'}{letter}"


_WEIGHT: Final = re.compile(r"q=([01](?:\.[0-9]{0,3})?)")


@lru_cache(maxsize=256)
def choose_coding(accepted: bytes) -> str:
    """Return the coding that ``Accept-Encoding`` likes best; empty for none."""
    weights: dict[str, float] = {}
    for part in accepted.decode("latin-1").lower().split(","):
        coding, _, parameters = part.partition(";")
        weight = _WEIGHT.fullmatch(parameters.strip())
        weights[coding.strip()] = float(weight[1]) if weight else 1.0
    anything = weights.get("*", 0.0)
    liked = {one: weights.get(one, anything) for one in _CODINGS}
    best = max(liked, key=lambda one: liked[one])
    return best if liked[best] > 0 else ""


def compress_well(body: bytes) -> dict[str, bytes]:
    """Compress a body that stays, in each coding, as small as it gets."""
    # A function that nobody asks for it would pay for this at each cold start.
    import zstandard  # noqa: PLC0415 - see above

    return {
        "gzip": zlib.compress(body, zlib.Z_BEST_COMPRESSION, zlib.MAX_WBITS | 16),
        "zstd": zstandard.ZstdCompressor(_ZSTD_BEST).compress(body),
    }


@lru_cache(maxsize=_COMPRESSED_MAX)
def compress(body: bytes, coding: str) -> bytes:
    """Compress a body, once for everybody who is answered with it."""
    if coding == "gzip":
        return zlib.compress(body, wbits=zlib.MAX_WBITS | 16)
    # A function that nobody asks for it would pay for this at each cold start.
    import zstandard  # noqa: PLC0415 - see above

    return zstandard.ZstdCompressor().compress(body)


def _etag(tag: str) -> tuple[bytes, bytes]:
    return b"etag", f'"{tag}"'.encode()


_TAG: Final = re.compile(r'(?:W/)?"([^"]*)"')


def read_tags(if_none_match: bytes) -> set[str]:
    """Return the opaque tags of an ``If-None-Match``; weak ones count (RFC 9110)."""
    text = if_none_match.decode("latin-1").strip()
    return {"*"} if text == "*" else set(_TAG.findall(text))


def header(scope: Scope, name: bytes) -> bytes:
    """Return a request's header, several of one name joined; empty without."""
    return b",".join(value for key, value in scope["headers"] if key == name)


async def read_body(receive: Receive, *, most: int) -> bytes:
    """Read a request's body of at most ``most`` bytes.

    Raises:
        RequestError: it is longer, or the client went away in its middle.
    """
    body = bytearray()
    more = True
    while more:
        event = await receive()
        if event["type"] != "http.request":
            raise RequestError(
                "body_cut", "The body ended too early.", "Send it again."
            )
        body += event["body"]
        more = event["more_body"]
        if len(body) > most:
            raise RequestError(
                "body_too_large",
                "The body is too large.",
                f"Send at most {most} bytes.",
            )
    return bytes(body)


def answer_about(method: str, methods: Iterable[str]) -> Answer:
    """Answer a method that a route does not take: OPTIONS asks which it does.

    Raises:
        MethodNotAllowedException: it is another one.
    """
    allow = ", ".join(sorted({*methods, "OPTIONS"}))
    if method != "OPTIONS":
        raise MethodNotAllowedException(headers={"allow": allow})
    return Answer(204, [(b"allow", allow.encode())])


def route(
    paths: str | list[str],
    methods: Sequence[str],
    handle: Handle,
    *,
    seen: Seen,
) -> ASGIRouteHandler:
    """Return the one handler of these paths; it answers for all their methods.

    A plain ASGI application inside Litestar: reading a price costs no more than
    finding it. ``opt["methods"]`` says what it takes.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await send({"type": "websocket.close", "code": 4404, "reason": "no socket"})
            return
        method = scope["method"]
        if method in methods:
            answer = await handle(scope, receive)
        else:
            answer = answer_about(method, methods)
        seen[(scope["path_template"], answer.status)] += 1
        await send_answer(answer, send, head=method == "HEAD")

    return asgi(paths, copy_scope=False, methods=tuple(methods))(serve)


def route_with_symbol(
    paths: list[str], methods: Sequence[Method], handle: Handle, *, seen: Seen
) -> HTTPRouteHandler:
    """Return the one handler of paths that have parameters.

    Litestar finds no parameters for plain ASGI handlers, so this is one of its own.
    """

    async def serve(request: Request[Any, Any, Any]) -> ASGIApp:
        scope = request.scope
        answer = await handle(scope, request.receive)
        seen[(scope["path_template"], answer.status)] += 1

        async def reply(scope: Scope, _receive: Receive, send: Send) -> None:
            assert scope["type"] == ScopeType.HTTP
            await send_answer(answer, send, head=scope["method"] == "HEAD")

        return reply

    return litestar.route(paths, http_method=list(methods))(serve)


# Neither has a body, nor says how long one would be.
_BODILESS: Final = (204, 304)


def head_of(answer: Answer) -> Headers:
    """Return an answer's headers, and how long its body is."""
    if answer.status in _BODILESS:
        return answer.headers
    return [*answer.headers, (b"content-length", b"%d" % len(answer.body))]


async def send_answer(answer: Answer, send: Send, *, head: bool) -> None:
    """Send an answer; of HEAD everything but the body."""
    headers = head_of(answer)
    await send(
        {"type": "http.response.start", "status": answer.status, "headers": headers}
    )
    body = b"" if head else answer.body
    await send({"type": "http.response.body", "body": body, "more_body": False})
