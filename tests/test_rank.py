"""Lines: written to together, each held back alone, ended in good order."""

import asyncio
import json
from itertools import pairwise

import pytest

from relay import rank
from relay.group import NOWHERE, Frame, Place, Wish
from relay.model import Selection
from relay.rank import Line, Ranks, Voice
from tests.harness import eventually
from tests.scene import PAIR, Scene, place_at

HELLO = b"hello\n"
BYE = b"bye\n"
PULSE = b"pulse\n"
QUIET_MS = 15_000
DEADLINE_MS = 20_000


class Speech(Voice):
    """Says bodies, a line each, at a time that a test sets."""

    def __init__(self) -> None:
        super().__init__(rank.Pump())
        self.at_ms = 0
        self.renewed: list[Selection] = []

    def now_ms(self) -> int:
        """Return the time that the test has set."""
        return self.at_ms

    def tell(self, frame: Frame) -> bytes:
        """Say the body."""
        return frame.event

    def notice(self, notice: bytes) -> bytes:
        """Pass it on."""
        return notice

    def pulse(self, quiet_ms: int) -> bytes:
        """Say something after a quiet time."""
        return PULSE if quiet_ms >= QUIET_MS else b""

    def farewell(self) -> bytes:
        """Say good-bye."""
        return BYE

    def renew(self, selection: Selection) -> None:
        """Note it."""
        self.renewed.append(selection)


class Socket:
    """A connection that a test can block: what it has sent, and what stays."""

    def __init__(self, *, there: bool = True) -> None:
        self.sent: list[bytes] = []
        self.blocked = False
        self.ended = ""
        self._there = there
        self.line: Line | None = None

    def write(self, chunk: bytes) -> None:
        """Send, and say so when it stays."""
        assert not self.ended
        self.sent.append(chunk)
        if self.blocked and self.line is not None:
            self.line.hold()

    def take(self, line: Line) -> bool:
        """Belong to a line, if the client is there."""
        self.line = line
        return self._there

    def finish(self, last: bytes) -> None:
        """End in order."""
        self.sent.append(last)
        self.ended = "finished"

    def cut(self) -> None:
        """End at once."""
        self.ended = "cut"

    def drain(self) -> None:
        """Let go of what has stayed."""
        self.blocked = False
        assert self.line is not None
        self.line.drained()

    @property
    def prices(self) -> dict[str, str]:
        """What the last event said."""
        body = json.loads(self.sent[-1].rpartition(b"data: ")[2])
        return {name: one["price"] for name, one in body["prices"].items()}


class Stage(Scene):
    """A scene whose clients are lines."""

    def __init__(self) -> None:
        super().__init__()
        self.voice = Speech()

    def admit(
        self, wish: Wish, place: Place = NOWHERE, *, wire: Socket | None = None
    ) -> tuple[Line, Socket]:
        """Return a new line in the group of its wish, and its connection."""
        wire = wire or Socket()
        line = self.groups.open_as(Line, "sse", self.voice.at_ms)
        line.join(self.find(wish), place)
        line.start(self.voice, wire, HELLO)
        return line, wire

    def sweep(self, at_ms: int) -> None:
        """Look after everybody at a time."""
        self.voice.at_ms = at_ms
        self.groups.sweep(at_ms, quiet_ms=QUIET_MS, deadline_ms=DEADLINE_MS)


async def test_those_who_hold_the_same_are_sent_the_same_bytes_at_once() -> None:
    """One pass over the connections, and nobody wakes for it."""
    stage = Stage()
    wires = [stage.admit(Wish(PAIR), place_at(10))[1] for _ in range(100)]
    assert {tuple(wire.sent) for wire in wires} == {(HELLO,)}
    stage.publish("BTC-USD")
    assert len({id(wire.sent[1]) for wire in wires}) == 1
    assert wires[0].prices == {"BTC-USD": "11"}
    assert stage.groups.counts.encoded == 1
    assert stage.groups.counts.deliveries["sse"] == 100


async def test_a_line_begins_with_what_it_does_not_hold_in_one_write() -> None:
    """The first bytes and the first event: one packet."""
    stage = Stage()
    _, wire = stage.admit(Wish(PAIR))
    assert wire.sent[0].startswith(HELLO + b"id: ")
    assert sorted(wire.prices) == ["BTC-USD", "ETH-USD"]
    assert len(wire.sent) == 1


async def test_what_is_not_selected_is_not_written() -> None:
    """An idle line costs nothing while others are busy."""
    stage = Stage()
    _, wire = stage.admit(Wish(PAIR), place_at(10))
    stage.publish("SOL-USD")
    assert wire.sent == [HELLO]


async def test_a_write_that_stays_holds_back_that_line_alone() -> None:
    """What came meanwhile is one frame, the newest; all but that is counted."""
    stage = Stage()
    _, slow = stage.admit(Wish(PAIR), place_at(10))
    _, brisk = stage.admit(Wish(PAIR), place_at(10))
    slow.blocked = True
    for _ in range(4):
        stage.publish("BTC-USD")
    assert (len(slow.sent), len(brisk.sent)) == (2, 5)
    assert stage.groups.counts.conflated == 0
    slow.drain()
    assert slow.prices == {"BTC-USD": "14"}
    assert len(slow.sent) == 3
    assert stage.groups.counts.conflated == 2
    stage.publish("ETH-USD")
    assert slow.sent[-1] is brisk.sent[-1]


async def test_a_line_that_was_held_and_missed_nothing_just_waits() -> None:
    """Drained, it stands with the others again."""
    stage = Stage()
    _, wire = stage.admit(Wish(PAIR), place_at(10))
    wire.blocked = True
    stage.publish("BTC-USD")
    wire.drain()
    assert len(wire.sent) == 2
    stage.publish("BTC-USD")
    assert wire.prices == {"BTC-USD": "12"}


async def test_a_head_that_has_not_gone_yet_is_waited_for() -> None:
    """The first event is chosen when the connection is free."""
    stage = Stage()

    class Busy(Socket):
        def take(self, line: Line) -> bool:
            super().take(line)
            line.hold()
            return True

    _, wire = stage.admit(Wish(PAIR), wire=Busy())
    assert wire.sent == [HELLO]
    stage.publish("BTC-USD")
    wire.drain()
    assert wire.prices["BTC-USD"] == "11"


async def test_a_client_that_left_before_its_line_began_is_counted_out() -> None:
    """The head was on its way when the connection was lost."""
    stage = Stage()
    _, wire = stage.admit(Wish(PAIR), wire=Socket(there=False))
    assert wire.sent == []
    assert not stage.groups.streams
    assert stage.groups.counts.clients["sse"] == 0


async def test_a_line_that_leaves_is_not_written_to() -> None:
    """Whether it waits or is held back."""
    stage = Stage()
    lines = [stage.admit(Wish(PAIR), place_at(10)) for _ in range(3)]
    lines[1][1].blocked = True
    stage.publish("BTC-USD")
    for line, _ in lines[:2]:
        line.leave()
    stage.publish("BTC-USD")
    assert [len(wire.sent) for _, wire in lines] == [2, 2, 3]
    assert stage.groups.counts.clients["sse"] == 1


async def test_a_quiet_line_hears_that_we_are_there_and_asks_again() -> None:
    """A proxy in between closes what says nothing; what is wanted stays wanted."""
    stage = Stage()
    _, wire = stage.admit(Wish(PAIR), place_at(10))
    _, other = stage.admit(Wish(PAIR), place_at(10))
    stage.sweep(QUIET_MS - 1)
    assert wire.sent == [HELLO]
    assert stage.voice.renewed == []
    stage.sweep(QUIET_MS)
    stage.sweep(QUIET_MS + 1)
    assert wire.sent == other.sent == [HELLO, PULSE]
    assert set(stage.voice.renewed) == {PAIR}
    stage.voice.at_ms = 2 * QUIET_MS
    stage.publish("BTC-USD")
    stage.sweep(2 * QUIET_MS + 1)
    assert len(wire.sent) == 3, "it was told something a moment ago"


async def test_a_busy_line_asks_again_as_well() -> None:
    """What is listened to must not be forgotten because there is news of it."""
    stage = Stage()
    stage.admit(Wish(PAIR), place_at(10))
    stage.publish("BTC-USD")
    assert stage.voice.renewed == [PAIR]


async def test_a_write_that_does_not_drain_is_cut_and_counted() -> None:
    """A reader that stalls shows in the metrics first."""
    stage = Stage()
    _, wire = stage.admit(Wish(PAIR), place_at(10))
    wire.blocked = True
    stage.publish("BTC-USD")
    stage.sweep(1500)
    assert stage.groups.counts.stalled == 1
    stage.sweep(DEADLINE_MS)
    assert wire.ended == "cut"
    assert stage.groups.counts.cut_off == {"write_deadline": 1}
    assert stage.groups.counts.clients["sse"] == 0
    stage.publish("BTC-USD")


async def test_a_line_ends_in_order_when_its_time_is_over() -> None:
    """One that is held back when it has drained."""
    stage = Stage()
    lines = [stage.admit(Wish(PAIR), place_at(10)) for _ in range(2)]
    lines[1][1].blocked = True
    stage.publish("BTC-USD")
    for line, _ in lines:
        line.end()
    wires = [wire for _, wire in lines]
    assert [wire.ended for wire in wires] == ["finished", ""]
    wires[1].drain()
    assert [wire.sent[-1] for wire in wires] == [BYE, BYE]
    assert not stage.groups.streams


async def test_everybody_is_told_a_notice_once() -> None:
    """Whoever is held back hears it afterwards, with the news."""
    stage = Stage()
    _, slow = stage.admit(Wish(PAIR), place_at(10))
    _, brisk = stage.admit(Wish(PAIR), place_at(10))
    slow.blocked = True
    stage.publish("BTC-USD")
    stage.groups.announce(b"notice\n")
    stage.publish("BTC-USD")
    assert brisk.sent[2] == b"notice\n"
    assert len(slow.sent) == 2
    slow.drain()
    assert slow.sent[2].startswith(b"notice\nid: ")
    stage.groups.announce(b"another\n")
    assert slow.sent[-1] == brisk.sent[-1] == b"another\n"


async def test_a_turn_of_live_reaches_lines() -> None:
    """Prices that nobody renews must not look fresh."""
    stage = Stage()
    _, wire = stage.admit(Wish(PAIR), place_at(10))
    stage.live = False
    stage.groups.turn(0)
    assert b'"live":false' in wire.sent[-1]


async def test_a_client_ahead_of_us_hears_nothing_until_we_have_caught_up() -> None:
    """It stands alone until then, and with the others afterwards."""
    stage = Stage()
    _, ahead = stage.admit(Wish(PAIR), place_at(12))
    _, other = stage.admit(Wish(PAIR), place_at(10))
    stage.publish("BTC-USD")
    stage.publish("BTC-USD")
    assert ahead.sent == [HELLO]
    stage.publish("ETH-USD")
    assert ahead.prices == {"ETH-USD": "13"}
    assert len(ranks_of(stage)) == 1
    assert len(other.sent) == 4


def ranks_of(stage: Stage) -> list[rank.Rank]:
    """Return the ranks of the one group."""
    ranks = stage.find(Wish(PAIR)).ranks[stage.voice]
    assert isinstance(ranks, Ranks)
    return list(ranks._ranks)  # noqa: SLF001 - how they stand is what is tested


async def test_ranks_are_bounded_and_joined_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Many passes of one client each would be no better than a task for each."""
    monkeypatch.setattr(rank, "_RANK_MAX", 4)
    stage = Stage()
    lines = [stage.admit(Wish(PAIR), place_at(10)) for _ in range(10)]
    assert [len(one.lines) for one in ranks_of(stage)] == [4, 4, 2]
    for line, _ in (*lines[:2], *lines[4:8]):
        line.leave()
    stage.publish("BTC-USD")
    assert [len(one.lines) for one in ranks_of(stage)] == [4]
    stage.publish("BTC-USD")
    assert {len(wire.sent) for _, wire in (*lines[2:4], *lines[8:])} == {3}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a stretch be one rank of four."""
    monkeypatch.setattr(rank, "_RANK_MAX", 4)
    monkeypatch.setattr(rank, "_STRETCH_S", 0)


@pytest.mark.usefixtures("short")
async def test_a_burst_to_many_leaves_time_for_others() -> None:
    """Each stretch is followed by a turn of the loop."""
    stage = Stage()
    wires = [stage.admit(Wish(PAIR), place_at(10))[1] for _ in range(20)]
    stage.publish("BTC-USD")
    reached: list[int] = []
    while not reached or reached[-1] < 20:
        reached.append(sum(len(wire.sent) - 1 for wire in wires))
        await asyncio.sleep(0)
    assert len(reached) >= 5
    assert all(more - less <= 4 for less, more in pairwise(reached))


@pytest.mark.usefixtures("short")
async def test_a_change_in_the_middle_of_a_burst_is_conflated() -> None:
    """Nobody is written to twice while another waits; all come to the same place."""
    stage = Stage()
    wires = [stage.admit(Wish(PAIR), place_at(10))[1] for _ in range(20)]
    for _ in range(30):
        stage.publish("BTC-USD")
        await asyncio.sleep(0)
    told = [len(wire.sent) for wire in wires]
    assert max(told) - min(told) <= 1, "they take turns"
    await eventually(lambda: {wire.prices.get("BTC-USD") for wire in wires} == {"40"})
    counts = stage.groups.counts
    assert counts.deliveries["sse"] == sum(len(wire.sent) - 1 for wire in wires)
    assert counts.conflated == 20 * 30 - counts.deliveries["sse"]


@pytest.mark.usefixtures("short")
async def test_many_groups_take_turns_as_well() -> None:
    """Thousands of selections with a client each are a burst like any other."""
    stage = Stage()
    paces = range(1, 11)  # of which each makes a group of its own
    wires = [stage.admit(Wish(PAIR, pace_ms=one), place_at(10))[1] for one in paces]
    stage.live = False
    stage.groups.turn(0)
    assert sum(len(wire.sent) > 1 for wire in wires) < 10
    await eventually(lambda: all(len(wire.sent) > 1 for wire in wires))


async def test_a_pace_is_kept_by_lines() -> None:
    """The newest of what came in between, once in the given time."""
    stage = Stage()
    _, wire = stage.admit(Wish(PAIR, pace_ms=100), place_at(10))
    stage.publish("BTC-USD")
    await eventually(lambda: len(wire.sent) == 2)
    stage.publish("BTC-USD")
    stage.publish("BTC-USD")
    assert len(wire.sent) == 2
    await eventually(lambda: len(wire.sent) == 3)
    assert wire.prices == {"BTC-USD": "13"}


async def test_places_that_nobody_holds_any_more_are_forgotten() -> None:
    """A board may be quiet for hours, while clients come with any cursor and go."""
    stage = Stage()
    stage.admit(Wish(PAIR), place_at(10))
    for offset in range(100):
        line, _ = stage.admit(Wish(PAIR), place_at(1000 + offset))
        line.leave()
    assert len(ranks_of(stage)) == 1


async def test_a_voice_that_nobody_hears_is_forgotten() -> None:
    """Older streams have one for each way to spell what is asked."""
    stage = Stage()
    stage.admit(Wish(PAIR), place_at(10))
    stays, stage.voice = stage.voice, Speech()
    for blocked in (False, True):
        line, wire = stage.admit(Wish(PAIR), place_at(10))
        wire.blocked = blocked
        stage.publish("BTC-USD")
        line.leave()
        stage.publish("BTC-USD")
    assert set(stage.find(Wish(PAIR)).ranks) == {stays}


async def test_what_says_nothing_is_not_written() -> None:
    """And is no sign of life: the next one comes when it is due."""
    stage = Stage()

    class Mute(Speech):
        def tell(self, frame: Frame) -> bytes:
            del frame
            return b""

    stage.voice = Mute()
    _, wire = stage.admit(Wish(PAIR), place_at(10))
    stage.voice.at_ms = QUIET_MS - 1
    stage.publish("BTC-USD")
    assert wire.sent == [HELLO]
    stage.sweep(QUIET_MS)
    assert wire.sent == [HELLO, PULSE]


async def turns() -> None:
    """Let the loop look at all that is due."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_ranks_that_emptied_while_they_waited_leave_their_successor_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else whoever came meanwhile would be told of nothing until a heartbeat."""
    monkeypatch.setattr(rank, "_STRETCH_S", 0.0)  # it is used up by others
    stage = Stage()
    _, slow = stage.admit(Wish(PAIR), place_at(10))
    slow.blocked = True
    stage.publish("BTC-USD")  # it steps out, and keeps the group alive
    await turns()
    leaving, _ = stage.admit(Wish(PAIR), place_at(11))
    stage.publish("BTC-USD")
    leaving.leave()
    _, newcomer = stage.admit(Wish(PAIR))
    await turns()
    told = len(newcomer.sent)
    stage.publish("BTC-USD")
    await turns()
    assert len(newcomer.sent) == told + 1
