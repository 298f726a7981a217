"""What one connection sends when."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from relay.exchanges.adapter import Rules
from relay.ingest.pace import LEAVE_MS, Gate, Pace

RULES = Rules(spacing_ms=300, symbols_max=10, silent_after_ms=5_000, ping_ms=2_000)


def test_the_first_message_goes_at_once() -> None:
    """Coinbase closes a connection that says nothing for 5 s."""
    pace = Pace(RULES, 100)
    pace.say([b"a", b"b"])
    assert pace.take(100) == b"a"
    assert pace.take(100) is None
    assert pace.due_ms() == 401
    assert pace.take(401) == b"b"
    assert pace.idle


def test_a_ping_goes_before_what_waits() -> None:
    """Two hundred subscriptions take a minute; the connection must live so long."""
    pace = Pace(RULES, 0)
    pace.say([b"a", b"b"])
    assert pace.take(0) == b"a"
    assert not pace.ping_due(1_999)
    assert pace.ping_due(2_000)
    pace.ping([b"ping 1", b"ping 2"], 2_000)
    assert not pace.ping_due(2_000)
    sent = [pace.take(now_ms) for now_ms in range(2_000, 3_000, 301)]
    assert sent == [b"ping 1", b"ping 2", b"b", None]


def test_a_connection_that_wants_no_pings_gets_none() -> None:
    """Binance counts each message; its own pings are enough."""
    rules = Rules(spacing_ms=0, symbols_max=1, silent_after_ms=1_000)
    pace = Pace(rules, 0)
    assert not pace.ping_due(10**9)
    assert pace.due_ms() == 1_000


def test_silence_is_measured_from_the_last_frame() -> None:
    """Whatever it was: a ping, a heartbeat, a price."""
    pace = Pace(RULES, 0)
    assert not pace.silent(4_999)
    assert pace.silent(5_000)
    pace.heard_ms = 4_999
    assert not pace.silent(9_998)
    assert pace.silent(9_999)


@given(
    st.lists(
        st.tuples(st.sampled_from(["say", "ping", "take"]), st.integers(0, 700)),
        max_size=60,
    ),
    st.integers(0, 400),
)
def test_two_messages_are_never_too_close(
    steps: list[tuple[str, int]], spacing_ms: int
) -> None:
    """Binance closes at the sixth message in any second, and bans who repeats it."""
    rules = Rules(spacing_ms=spacing_ms, symbols_max=1, silent_after_ms=9, ping_ms=9)
    pace, now_ms, said, sent = Pace(rules, 0), 0, 0, list[int]()
    for kind, pass_ms in steps:
        now_ms += pass_ms
        if kind == "say":
            pace.say([b"a", b"b"])
            said += 2
        elif kind == "ping":
            pace.ping([b"p"], now_ms)
            said += 1
        while pace.take(now_ms) is not None:
            sent.append(now_ms)
    # The clock counts whole milliseconds, so a gap may be one shorter than it looks.
    gaps = [after - before for before, after in pairwise(sent)]
    assert all(gap > spacing_ms or not spacing_ms for gap in gaps)
    while not pace.idle:
        now_ms = max(now_ms + 1, pace.due_ms())
        sent += [now_ms] if pace.take(now_ms) is not None else []
    assert len(sent) == said


def test_messages_of_one_address_share_a_gate() -> None:
    """Coinbase counts them over all connections: two may not double the pace."""
    rules = replace(RULES, spacing_ms=100, spacing_by="address")
    gate = Gate()
    one, other = Pace(rules, 0, gate), Pace(rules, 0, gate)
    one.say([b"a"])
    other.say([b"b"])
    assert one.take(0) == b"a"
    assert other.take(100) is None
    assert other.due_ms() == 101
    assert other.take(101) == b"b"


def test_connections_counted_apart_do_not_share_one() -> None:
    """Binance gives each connection its own five a second."""
    gate = Gate()
    one, other = Pace(RULES, 0, gate), Pace(RULES, 0, gate)
    one.say([b"a"])
    other.say([b"b"])
    assert (one.take(0), other.take(0)) == (b"a", b"b")


RATIONED = replace(RULES, spacing_ms=100, spacing_by="address", ping_ms=0)


def test_what_is_rationed_waits_for_leave() -> None:
    """Other processes say something as well, and the exchange counts it together."""
    pace = Pace(RATIONED, 0)
    pace.ration(1, 0)
    pace.say([b"a", b"b", b"c", b"d", b"e"])
    assert pace.lacking(0) == 0
    assert pace.take(0) == b"a"
    assert pace.take(101) is None
    assert pace.lacking(101) == 3, "one leave is for a few, and leaves some to others"
    assert pace.due_ms() <= 101
    pace.granted(3, 101)
    assert pace.lacking(101) == 0
    assert [pace.take(now_ms) for now_ms in (101, 202, 303)] == [b"b", b"c", b"d"]
    assert pace.lacking(404) == 1
    assert pace.take(404) is None


def test_leave_that_is_old_is_none() -> None:
    """It was counted for the seconds in which it was asked for, and no others."""
    pace = Pace(RATIONED, 0)
    pace.ration(1, 0)
    pace.say([b"a"])
    assert pace.take(LEAVE_MS) is None
    assert pace.lacking(LEAVE_MS) == 1
    pace.granted(1, LEAVE_MS)
    assert pace.take(2 * LEAVE_MS - 1) == b"a"


def test_who_was_put_off_does_not_ask_before() -> None:
    """Each question is a round trip to the store."""
    pace = Pace(RATIONED, 0)
    pace.ration(0, 0)
    pace.say([b"a"])
    assert pace.lacking(0) == 1
    pace.put_off(700)
    assert pace.lacking(699) == 0
    assert pace.take(699) is None
    assert pace.due_ms() == 700
    assert pace.lacking(700) == 1


def test_only_the_first_words_are_an_opening() -> None:
    """They go before what others add to a connection that stands."""
    pace = Pace(RATIONED, 0)
    pace.ration(3, 0)
    pace.say([b"a", b"b"])
    assert pace.opening
    assert (pace.take(0), pace.take(101)) == (b"a", b"b")
    pace.say([b"c"])
    assert not pace.opening
