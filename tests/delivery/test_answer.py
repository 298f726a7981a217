"""Entity tags, bodies and methods: what every route of ours has in common."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar.types import HTTPReceiveMessage

from relay.delivery.answer import (
    Answer,
    Freshness,
    conditional,
    digest,
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
