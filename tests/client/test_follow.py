"""What a client does next: resume, pause, fall back, come back."""

from collections.abc import Callable

import pytest

from relay.client.errors import (
    ClientError,
    Refused,
    Unavailable,
    Unreachable,
    unreadable,
)
from relay.client.follow import (
    Backoff,
    Follower,
    Pacing,
    Pause,
    Trial,
    Way,
    read_answer,
)
from relay.client.question import Request, Wanted
from tests.client.test_prices import body

PACING = Pacing(pause_min_s=1, pause_max_s=8, polls=2)
STREAM = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}
REFUSED = Unreachable("http://h", "refused")
SILENT = Unreachable("http://h", "nothing came in time", silent=True)


def follow(
    cursor: str = "", way: Way | None = None, random: Callable[[], float] = lambda: 1.0
) -> Follower:
    """Return a follower whose chance is known."""
    wanted = Wanted(("BTC-USD",))
    return Follower(wanted, cursor=cursor, way=way, pacing=PACING, random=random)


def asked(follower: Follower) -> Request:
    """Return the next request; pauses are passed over."""
    todo = follower.plan()
    while isinstance(todo, Pause):
        todo = follower.plan()
    return todo


def stand(follower: Follower) -> tuple[str, ClientError | None]:
    """Return what is told of a subscription."""
    return follower.state, follower.error


def event(cursor: str, price: str, offset: int) -> bytes:
    """Return an event as the relay writes it."""
    data = body(cursor, offset=offset, BTC_USD=price)
    return b"id: %b\ndata: %b\n\n" % (cursor.encode(), data)


def open_stream(follower: Follower, *pieces: bytes) -> list[str]:
    """Let a stream be answered, and return the prices that came of it."""
    request = asked(follower)
    assert request.place.startswith("/v1/stream")
    follower.answered(200, STREAM)
    return [
        prices["BTC-USD"].price for piece in pieces for prices in follower.take(piece)
    ]


def answer_poll(follower: Follower, cursor: str, price: str, offset: int) -> str:
    """Let a poll be answered; return where it was asked."""
    request = asked(follower)
    follower.answered(200, JSON)
    assert follower.take(body(cursor, offset=offset, BTC_USD=price)) == []
    (prices,) = follower.ended()
    assert prices["BTC-USD"].price == price
    return request.place


def refuse(follower: Follower, status: int) -> None:
    """Let a request be answered by somebody who says no."""
    asked(follower)
    follower.answered(status, {})
    follower.take(b"no")
    follower.ended()


def test_a_stream_is_asked_for_first_and_resumes_with_the_cursor() -> None:
    """What came while the line was broken is not missed."""
    follower = follow()
    assert open_stream(follower, b":\n\n", event("k.s.1", "10", 1)) == ["10"]
    assert stand(follower) == ("live", None)
    follower.failed(REFUSED)
    assert stand(follower) == ("reconnecting", REFUSED)
    assert asked(follower).headers["last-event-id"] == "k.s.1"


def test_a_stream_that_resumes_is_live_before_anything_changes() -> None:
    """A quiet board says nothing but its greeting."""
    follower = follow()
    open_stream(follower, event("k.s.1", "10", 1))
    follower.failed(REFUSED)
    assert open_stream(follower, b":\n\n") == []
    assert stand(follower) == ("live", None)


def test_what_is_not_live_is_shown_as_stale() -> None:
    """The line is well; the prices are not."""
    follower = follow()
    told = event("k.s.1~d", "10", 1).replace(b'"live":true', b'"live":false')
    open_stream(follower, told)
    assert follower.state == "stale"


@pytest.mark.parametrize(("chance", "pause_s"), [(0.0, 1.0), (1.0, 2.0)])
def test_a_stream_that_ends_in_order_comes_back_when_it_said(
    chance: float, pause_s: float
) -> None:
    """Not with everybody else, and never at once."""
    follower = follow(random=lambda: chance)
    open_stream(follower, event("k.s.1", "10", 1), b"retry: 2000\n\n")
    assert follower.ended() == []
    assert follower.plan() == Pause(pause_s)
    assert asked(follower).headers["last-event-id"] == "k.s.1"


def test_pauses_grow_with_each_failure_and_have_a_bound() -> None:
    """A relay that is down is not hammered."""
    follower = follow()
    pauses = []
    for _ in range(6):
        asked(follower)
        follower.failed(REFUSED)
        pauses.append(follower.plan())
    assert pauses == [Pause(seconds) for seconds in (1, 2, 4, 8, 8, 8)]
    open_stream(follower, event("k.s.1", "10", 1))
    follower.failed(REFUSED)
    assert follower.plan() == Pause(1)


def test_pauses_are_drawn_from_below_their_bound() -> None:
    """Those who lost a server together do not come back together."""
    backoff = Backoff(PACING, iter([0.25, 0.5]).__next__)
    assert [backoff.pause_s(), backoff.pause_s(3)] == [0.25, 4]


def test_who_cannot_be_reached_says_nothing_of_streams() -> None:
    """The poll would not be answered either."""
    follower = follow()
    for _ in range(5):
        asked(follower)
        follower.failed(REFUSED)
    assert follower.way == "stream"


@pytest.mark.parametrize("status", [404, 405, 406])
def test_where_there_are_no_streams_the_poll_takes_over(status: int) -> None:
    """From the same cursor, at once."""
    follower = follow(cursor="k.s.1")
    refuse(follower, status)
    assert follower.way == "poll"
    assert "cursor=k.s.1" in answer_poll(follower, "k.s.2", "20", 2)
    assert follower.state == "live"


def test_an_answer_that_is_no_stream_makes_the_poll_take_over() -> None:
    """A captive portal answers everything with 200."""
    follower = follow()
    asked(follower)
    follower.answered(200, {"content-type": "text/html"})
    follower.take(b"<html>")
    assert follower.ended() == []
    assert follower.way == "poll"


def test_a_stream_that_is_held_back_makes_the_poll_take_over() -> None:
    """A proxy that buffers lets nothing through."""
    follower = follow()
    asked(follower)
    follower.failed(SILENT)
    assert follower.way == "poll"


def test_streams_that_end_before_they_begin_make_the_poll_take_over() -> None:
    """Once may be chance."""
    follower = follow()
    for way in ("stream", "poll"):
        asked(follower)
        follower.answered(200, STREAM)
        follower.ended()
        assert follower.way == way


def test_a_stream_that_fell_silent_after_it_spoke_is_asked_for_again() -> None:
    """A phone changed its network; nothing holds streams back."""
    follower = follow()
    open_stream(follower, event("k.s.1", "10", 1))
    follower.failed(SILENT)
    assert follower.way == "stream"


def test_streaming_is_tried_again_and_less_often_each_time() -> None:
    """The proxy may have been mended; or never will."""
    follower = follow()
    for round_polls in (2, 4, 8):
        refuse(follower, 404)
        for offset in range(round_polls):
            assert follower.way == "poll"
            answer_poll(follower, f"k.s.{round_polls}{offset}", "1", offset)
        assert follower.way == "stream"
    open_stream(follower, b":\n\n")
    follower.failed(REFUSED)
    refuse(follower, 404)
    answer_poll(follower, "k.s.900", "1", 900)
    answer_poll(follower, "k.s.901", "1", 901)
    assert follower.way == "stream"


def test_a_poll_whose_answer_does_not_go_on_is_not_spun_on() -> None:
    """Some cache answers with the client's own question."""
    follower = follow(way="poll")
    answer_poll(follower, "k.s.1", "10", 1)
    assert not isinstance(follower.plan(), Pause)
    follower.answered(200, JSON)
    follower.take(body("k.s.1"))
    follower.ended()
    assert follower.plan() == Pause(2)


def test_a_way_that_was_asked_for_is_kept() -> None:
    """Somebody who asks for streams alone is told when there are none."""
    follower = follow(way="stream")
    with pytest.raises(Refused, match="404"):
        refuse(follower, 404)
    follower = follow(way="stream")
    asked(follower)
    follower.failed(SILENT)
    assert follower.way == "stream"
    assert isinstance(follower.plan(), Pause)
    follower = follow(way="poll")
    for offset in range(1, 9):
        answer_poll(follower, f"k.s.{offset}", "1", offset)
    assert follower.way == "poll"


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_question_that_cannot_be_answered_is_raised(status: int) -> None:
    """The poll would be refused as well."""
    with pytest.raises(Refused) as raised:
        refuse(follow(), status)
    assert raised.value.status == status


def test_a_poll_that_is_refused_is_raised() -> None:
    """There is nothing left to fall back to."""
    follower = follow()
    refuse(follower, 404)
    with pytest.raises(Refused):
        refuse(follower, 404)


def test_a_relay_that_is_busy_is_asked_again_when_it_said() -> None:
    """And not before, whatever chance says."""
    follower = follow(random=lambda: 0.0)
    asked(follower)
    follower.answered(503, {"retry-after": "5"})
    follower.ended()
    assert follower.plan() == Pause(5)
    assert follower.way == "stream"
    assert follower.state == "connecting"


def test_an_answer_without_an_end_is_given_up() -> None:
    """No answer may fill the memory."""
    follower = follow(way="poll")
    asked(follower)
    follower.answered(200, JSON)
    with pytest.raises(Unavailable, match="without an end"):
        follower.take(b" " * (33 << 20))


def test_a_refusal_is_never_swallowed() -> None:
    """It is the caller's to know."""
    with pytest.raises(Refused):
        follow().failed(Refused("x", "No.", "Leave it."))


def test_a_read_is_tried_so_often_and_no_more() -> None:
    """A scheduled job ends in time, and with the last error."""
    trial = Trial(PACING, lambda: 1.0)
    assert [trial.failed(REFUSED), trial.failed(unreadable("x"))] == [1, 2]
    with pytest.raises(Unreachable):
        trial.failed(REFUSED)


def test_a_read_that_is_refused_is_not_tried_again() -> None:
    """Asking again would not help."""
    with pytest.raises(ClientError, match="No"):
        Trial(PACING, lambda: 1.0).failed(Refused("x", "No.", "Leave it."))


def test_an_answer_is_a_body_or_an_error() -> None:
    """Nobody reads an error's body as prices."""
    assert read_answer(200, {}, b"{}") == b"{}"
    with pytest.raises(Refused):
        read_answer(404, {}, b"{}")
