"""Entity tags, bodies and methods: what every route of ours has in common."""

import gzip
from collections.abc import Callable
from typing import Any, cast

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from litestar.types import HTTPReceiveMessage, Scope

from relay.delivery.answer import (
    Answer,
    Freshness,
    choose_coding,
    compress,
    conditional,
    digest,
    negotiated,
    read_body,
    read_tags,
)
from relay.errors import RequestError


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        (b"", set()),
        (b"*", {"*"}),
        (b' "a" ', {"a"}),
        (b'W/"a","b"', {"a", "b"}),
        (b'"a,b", W/"*"', {"a,b", "*"}),
        (b"a", set()),
        (b'"\xff"', {"\xff"}),
    ],
)
def test_tags_are_read_as_http_writes_them(text: bytes, tags: set[str]) -> None:
    """A comma may stand within a tag, and weakness does not matter."""
    assert read_tags(text) == tags


@given(st.binary())
def test_any_header_is_read(text: bytes) -> None:
    """Clients send what they like."""
    assert isinstance(read_tags(text), set)


def test_the_tag_of_a_304_is_the_one_the_client_holds() -> None:
    """A client that is ahead of us keeps its own."""
    answer = Answer(200, [(b"cache-control", b"x"), (b"content-type", b"y")], b"body")
    known = conditional(answer, "old", b'"new"', also=["new"])
    assert known == Answer(304, [(b"cache-control", b"x"), (b"etag", b'"new"')])
    assert conditional(answer, "old", b"*").headers[-1] == (b"etag", b'"old"')
    assert conditional(answer, "old", b'"older"').body == b"body"


def test_a_digest_is_of_every_byte() -> None:
    """It stands for the body in caches."""
    assert digest(b"a") != digest(b"b")
    assert digest(b"a") == digest(b"a")


def test_shared_caches_are_told_as_much_as_browsers() -> None:
    """Edges that know the second header go by it alone."""
    (_, rules), (_, shared) = Freshness(
        max_age_s=1, revalidate_s=2, error_s=3
    ).headers()
    assert rules == b"public, max-age=1, stale-while-revalidate=2, stale-if-error=3"
    assert shared == b"max-age=1, stale-while-revalidate=2, stale-if-error=3"


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (b"", ""),
        (b"identity", ""),
        (b"br", ""),
        (b"gzip, deflate, br, zstd", "zstd"),
        (b"GZIP", "gzip"),
        (b"gzip;q=1.0, zstd;q=0.5", "gzip"),
        (b"zstd;q=0, gzip;q=0.001", "gzip"),
        (b"gzip;q=0", ""),
        (b"*", "zstd"),
        (b"zstd;q=0, *;q=0.5", "gzip"),
        (b"*;q=0", ""),
    ],
)
def test_a_coding_is_chosen_as_the_client_likes(accepted: bytes, coding: str) -> None:
    """Weights of RFC 9110, 12.4.2; ours decide where the client does not care."""
    assert choose_coding(accepted) == coding


@given(st.binary())
def test_any_list_of_codings_is_read(accepted: bytes) -> None:
    """Clients send what they like."""
    assert choose_coding(accepted) in ("", "gzip", "zstd")


BODY = b'{"price":"61000.12"}' * 100
DECODED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gzip": gzip.decompress,
    "zstd": zstandard.decompress,
}
TAGS = {"": "k3f9.7qx.12", "gzip": "k3f9.7qx.12~g", "zstd": "k3f9.7qx.12~z"}


def asked(accepted: str, *, tags: str = "") -> Scope:
    """Return what a server says of a request."""
    headers = [(b"accept-encoding", accepted.encode())]
    if tags:
        headers.append((b"if-none-match", tags.encode()))
    return cast("Scope", dict[str, Any](headers=headers))


@pytest.mark.parametrize("coding", ["", "gzip", "zstd"])
def test_each_coding_has_a_tag_of_its_own(coding: str) -> None:
    """Every byte is a function of URL and entity tag."""
    answer = negotiated(Answer(200, [], BODY), TAGS[""], asked(coding))
    headers = dict(answer.headers)
    assert headers[b"etag"] == f'"{TAGS[coding]}"'.encode()
    assert headers[b"vary"] == b"accept-encoding"
    assert headers.get(b"content-encoding", b"").decode() == coding
    assert DECODED[coding](answer.body) == BODY


@pytest.mark.parametrize("held", list(TAGS.values()))
def test_any_codings_tag_makes_a_304(held: str) -> None:
    """What the client holds is the same prices, and its own tag comes back."""
    scope = asked("zstd", tags=f'W/"{held}"')
    answer = negotiated(Answer(200, [], BODY), TAGS[""], scope)
    headers = dict(answer.headers)
    assert (answer.status, answer.body) == (304, b"")
    assert headers[b"etag"] == f'"{held}"'.encode()
    assert headers[b"vary"] == b"accept-encoding"
    assert b"content-encoding" not in headers


def test_a_suffix_of_ours_is_added_to() -> None:
    """A body that is not live stays apart from one that is."""
    answer = negotiated(Answer(200, [], BODY), "a.b.1~d", asked("gzip"))
    assert (b"etag", b'"a.b.1~dg"') in answer.headers


def test_what_fits_one_packet_is_sent_as_it_is() -> None:
    """And does not split caches, since there is no other form of it."""
    answer = negotiated(Answer(200, [], b"{}"), "tag", asked("zstd, gzip"))
    assert answer == Answer(200, [(b"etag", b'"tag"')], b"{}")


def test_a_body_is_compressed_once_for_everybody() -> None:
    """And the same bytes each time, whoever does it."""
    body = BODY + b"once"
    assert compress(body, "gzip") is compress(bytes(body), "gzip")
    compressed = compress(body, "zstd")
    compress.cache_clear()
    assert compress(body, "zstd") == compressed


class Sent:
    """A request's body, in pieces."""

    def __init__(self, *pieces: bytes, cut: bool = False) -> None:
        self._pieces, self._cut = list(pieces), cut

    async def receive(self) -> HTTPReceiveMessage:
        """Return the next piece."""
        if not self._pieces:
            return {"type": "http.disconnect"}
        body = self._pieces.pop(0)
        more = bool(self._pieces) or self._cut
        return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_is_read_to_its_end_and_no_further_than_allowed() -> None:
    """Nobody makes us keep what we will not read."""
    assert await read_body(Sent(b"ab", b"cd").receive, most=4) == b"abcd"
    with pytest.raises(RequestError, match="too large"):
        await read_body(Sent(b"ab", b"cde").receive, most=4)
    with pytest.raises(RequestError, match="too early"):
        await read_body(Sent(b"ab", cut=True).receive, most=4)
