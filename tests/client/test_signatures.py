"""Both clients are one: what differs between them is ``await``."""

import inspect
import re

import pytest

from relay.client import AsyncClient, AsyncFeed, Client, Feed

ASKED = ("__init__", "get", "poll", "stream", "status")
TOLD = ("prices", "state", "way", "error")


def words(text: str | None) -> str:
    """Return a docstring without what must differ."""
    assert text
    same = re.sub(r"\b(asynchronous|ordinary) code", "code", text)
    same = same.replace("An interrupted", "A cancelled").replace("aclose", "close")
    return " ".join(same.replace(", in another task as well", "").split())


@pytest.mark.parametrize("name", ASKED)
def test_what_may_be_asked_is_the_same(name: str) -> None:
    """A script becomes a coroutine by writing ``await``, and by nothing else."""
    blocking, waiting = getattr(Client, name), getattr(AsyncClient, name)
    ours, theirs = inspect.signature(blocking), inspect.signature(waiting)
    text = str(theirs).replace("AsyncClient", "Client").replace("AsyncFeed", "Feed")
    assert str(ours) == text
    if name != "__init__":
        assert words(blocking.__doc__) == words(waiting.__doc__)


@pytest.mark.parametrize(("ours", "theirs"), [(Client, AsyncClient), (Feed, AsyncFeed)])
def test_what_is_promised_is_the_same(ours: type, theirs: type) -> None:
    """Whoever has read one page of the two has read both."""
    assert words(ours.__doc__) == words(theirs.__doc__)


@pytest.mark.parametrize("name", TOLD)
def test_what_a_feed_tells_is_the_same(name: str) -> None:
    """How it stands is told in one place for both."""
    assert getattr(Feed, name) is getattr(AsyncFeed, name)
