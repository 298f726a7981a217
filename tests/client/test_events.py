"""Events are cut where they end, wherever the pieces of the stream do."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.client.errors import Unavailable
from relay.client.events import Event, Events

STREAM = b':\nretry: 1000\n\nid: a.b.1\ndata: {"a":1}\n\n:\n\ndata: one\ndata:two\n\n'
EVENTS = [Event(retry_ms=1000), Event(b'{"a":1}'), Event(b"one\ntwo")]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_of_the_specification_is_one(ending: bytes) -> None:
    """A proxy may write them its own way."""
    assert Events().feed(STREAM.replace(b"\n", ending)) == EVENTS


@given(st.lists(st.integers(0, len(STREAM) * 2)), st.sampled_from([b"\n", b"\r\n"]))
def test_where_the_pieces_end_does_not_matter(cuts: list[int], ending: bytes) -> None:
    """A piece may end in the middle of a line end."""
    stream = STREAM.replace(b"\n", ending)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(places) if a < b]
    events = Events()
    assert [one for piece in pieces for one in events.feed(piece)] == EVENTS


def test_an_event_that_is_not_complete_is_none() -> None:
    """What a broken connection leaves is no news."""
    assert Events().feed(b'data: {"a":1}\n') == []


@pytest.mark.parametrize("digits", ["4000000", "9" * 5000])
def test_nobody_is_told_to_come_back_in_a_year(digits: str) -> None:
    """What a proxy or a mistake has written must not silence a client."""
    assert Events().feed(f"retry: {digits}\n\n".encode()) == [Event(b"", 3_600_000)]


def test_an_event_without_an_end_is_refused() -> None:
    """No answer may fill the memory."""
    with pytest.raises(Unavailable, match="without an end"):
        Events().feed(b"x" * (33 << 20))
