"""The fan-out: who is told what, when, and how often it is encoded."""

import asyncio
import json

import anyio
import pytest

from relay.group import NOWHERE, Frame, Place, Wish
from relay.model import Cursor, Selection
from tests.scene import EPOCH, PAIR, Scene, place_at


async def test_a_frame_is_encoded_once_for_all_who_hold_the_same() -> None:
    """The cost of a batch does not grow with the clients, only that of sending it."""
    scene = Scene()
    boxes = [scene.enter(Wish(PAIR), place_at(10)) for _ in range(100)]
    bells = [box.listen() for box in boxes]
    scene.publish("BTC-USD")
    frames = {id(await bell) for bell in bells}
    assert len(frames) == 1
    assert scene.groups.counts.encoded == 1
    assert scene.groups.counts.deliveries["sse"] == 100


async def test_a_client_is_told_what_changed_and_nothing_else() -> None:
    """A delta names only what is new, under the cursor that it leads to."""
    scene = Scene()
    bell = scene.enter(Wish(PAIR), place_at(10)).listen()
    offset = scene.publish("ETH-USD", "SOL-USD")
    frame = await bell
    assert frame is not None
    body = json.loads(frame.body)
    assert list(body["prices"]) == ["ETH-USD"]
    assert body["cursor"] == frame.text == f"{EPOCH}.{PAIR.hash}.{offset}"
    assert frame.place == place_at(offset)


async def test_what_is_not_selected_wakes_nobody() -> None:
    """An idle client costs nothing while others are busy."""
    scene = Scene()
    bell = scene.enter(Wish(PAIR), place_at(10)).listen()
    scene.publish("SOL-USD")
    assert not bell.done()


async def test_a_client_that_was_writing_gets_the_newest_state_alone() -> None:
    """Conflation: what came in between is counted, not queued."""
    scene = Scene()
    box = scene.enter(Wish(PAIR))
    first = await box.listen()
    assert first is not None
    scene.publish("BTC-USD")  # the client has no bell: it writes
    scene.publish("ETH-USD")
    newest = scene.publish("BTC-USD")
    frame = await box.listen()
    assert frame is not None
    body = json.loads(frame.body)
    assert body["cursor"].endswith(f".{newest}")
    assert {name: row["price"] for name, row in body["prices"].items()} == {
        "BTC-USD": str(newest),
        "ETH-USD": str(newest - 1),
    }
    assert scene.groups.counts.conflated == 2
    assert not box.listen().done()


async def test_clients_behind_by_different_amounts_each_get_their_own() -> None:
    """A client that resumes is answered in full from where it stands."""
    scene = Scene()
    scene.publish("BTC-USD")
    scene.publish("ETH-USD")
    older = await scene.enter(Wish(PAIR), place_at(10)).listen()
    newer = await scene.enter(Wish(PAIR), place_at(11)).listen()
    assert older is not None
    assert newer is not None
    assert list(json.loads(older.body)["prices"]) == ["BTC-USD", "ETH-USD"]
    assert list(json.loads(newer.body)["prices"]) == ["ETH-USD"]


async def test_a_client_ahead_of_us_hears_nothing_until_we_have_caught_up() -> None:
    """Another instance has told it more; nothing older may ever answer it."""
    scene = Scene()
    bell = scene.enter(Wish(PAIR), place_at(12)).listen()
    scene.publish("BTC-USD")
    scene.publish("BTC-USD")
    assert not bell.done()
    scene.publish("ETH-USD")
    frame = await bell
    assert frame is not None
    assert list(json.loads(frame.body)["prices"]) == ["ETH-USD"]


async def test_only_a_mark_releases_those_who_wait_for_cuts() -> None:
    """All clients of one selection then come back with the same cursor."""
    scene = Scene()
    bell = scene.enter(Wish(PAIR, cuts=True), place_at(10)).listen()
    scene.publish("BTC-USD")
    assert not bell.done()
    scene.mark()
    frame = await bell
    assert frame is not None
    assert frame.place == place_at(11)


async def test_a_mark_without_a_change_releases_nobody() -> None:
    """Each is released by its own cursor, or edges see a storm of duplicates."""
    scene = Scene()
    bell = scene.enter(Wish(PAIR, cuts=True), place_at(10)).listen()
    scene.publish("SOL-USD")
    scene.mark()
    assert not bell.done()


async def test_a_turn_of_live_reaches_everybody() -> None:
    """Prices that nobody renews any more must not look fresh."""
    scene = Scene()
    stream = scene.enter(Wish(PAIR), place_at(10)).listen()
    poll = scene.enter(Wish(PAIR, cuts=True), place_at(10)).listen()
    scene.live = False
    scene.groups.turn(0)
    for bell in (stream, poll):
        frame = await bell
        assert frame is not None
        body = json.loads(frame.body)
        assert (body["live"], body["prices"]) == (False, {})
        assert body["cursor"] == f"{EPOCH}.{PAIR.hash}.10~d"
        assert not frame.news


@pytest.mark.parametrize(
    ("text", "live"),
    [("k3f9.7qx.5", True), ("k3f9.7qx.5~t3", True), ("k3f9.7qx.5~dt3", False)],
)
def test_a_cursor_says_what_its_client_was_told(
    text: str,
    live: bool,  # noqa: FBT001 - one column of a table
) -> None:
    """So a client that comes back is told of a turn that it has missed."""
    assert Place.read(text) == Place(Cursor("k3f9", "7qx", 5), live)


async def test_a_client_told_that_nothing_lives_hears_when_it_does() -> None:
    """The suffix of its cursor says that it does not know."""
    scene = Scene()
    told = Place(place_at(10).cursor, live=False)
    frame = await scene.enter(Wish(PAIR), told).listen()
    assert frame is not None
    assert json.loads(frame.body)["live"] is True
    assert frame.place == place_at(10)


async def test_a_slower_pace_is_kept_and_its_first_change_goes_at_once() -> None:
    """After a quiet spell there is nothing to wait for."""
    scene = Scene()
    box = scene.enter(Wish(PAIR, pace_ms=100), place_at(10))
    bell = box.listen()
    scene.publish("BTC-USD")
    with anyio.fail_after(0.09):
        assert await bell is not None
    began_s = asyncio.get_running_loop().time()
    bell = box.listen()
    scene.publish("BTC-USD")
    newest = scene.publish("BTC-USD")
    with anyio.fail_after(5):
        frame = await bell
    assert asyncio.get_running_loop().time() - began_s > 0.09
    assert frame is not None
    assert frame.place == place_at(newest)


async def test_a_group_without_members_is_forgotten() -> None:
    """Memory comes back when clients leave, the pace that was to be kept included."""
    scene = Scene()
    wishes = [Wish(PAIR), Wish(PAIR, pace_ms=100), Wish(Selection.of(None))]
    boxes = [scene.enter(wish) for wish in (*wishes, Wish(PAIR, cuts=True))]
    scene.publish("BTC-USD")
    for box in boxes:
        with box:
            pass
    assert all(scene.find(wish).members == set() for wish in wishes)
    assert scene.find(wishes[0]) is not scene.find(wishes[0])
    assert scene.groups.counts.clients.total() == 0
    scene.publish("BTC-USD")
    scene.mark()


async def test_a_quiet_client_is_woken_for_its_heartbeat() -> None:
    """A proxy in between closes what says nothing."""
    scene = Scene()
    bell = scene.enter(Wish(PAIR), place_at(10)).listen()
    scene.groups.sweep(14_999, quiet_ms=15_000, deadline_ms=20_000)
    assert not bell.done()
    scene.groups.sweep(15_000, quiet_ms=15_000, deadline_ms=20_000)
    assert await bell is None


async def test_a_write_that_does_not_drain_is_cut_and_counted() -> None:
    """A reader that stalls costs only itself, and shows in the metrics first."""
    scene = Scene()
    box = scene.enter(Wish(PAIR), place_at(10))

    async def write() -> None:
        async with asyncio.timeout(None) as box.limit:
            box.begin(0)
            scene.groups.sweep(1_500, quiet_ms=15_000, deadline_ms=2_000)
            assert scene.groups.counts.stalled == 1
            scene.groups.sweep(2_000, quiet_ms=15_000, deadline_ms=2_000)
            await anyio.sleep_forever()

    with pytest.raises(TimeoutError):
        await write()
    assert scene.groups.counts.stalled == 0
    assert scene.groups.counts.cut_off == {"write_deadline": 1}


async def test_a_client_whose_task_was_cancelled_is_passed_over() -> None:
    """Its bell is done for, and the others are still rung."""
    scene = Scene()
    boxes = [scene.enter(Wish(PAIR), place_at(10)) for _ in range(2)]
    bells = [box.listen() for box in boxes]
    bells[0].cancel()
    scene.publish("BTC-USD")
    assert isinstance(await bells[1], Frame)


async def test_nothing_is_said_while_there_is_no_board() -> None:
    """An instance that has not read the store has nothing that is true."""
    scene = Scene()
    scene.board, held = None, scene.board
    bell = scene.enter(Wish(PAIR)).listen()
    assert not bell.done()
    scene.board = held
    scene.groups.turn(0)
    frame = await bell
    assert frame is not None
    assert frame.text == f"{EPOCH}.{PAIR.hash}.10"


def test_the_update_of_a_websocket_is_the_body_with_its_type() -> None:
    """One body for every way out."""
    scene = Scene()
    frame = scene.find(Wish(PAIR)).frame(NOWHERE)
    assert frame is not None
    update = json.loads(frame.update)
    assert update.pop("type") == "update"
    assert frame.update.startswith('{"type":"update","cursor":')
    assert update == json.loads(frame.body)


def test_an_event_is_its_cursor_and_the_body() -> None:
    """The id is what EventSource sends back after a cut."""
    frame = Scene().find(Wish(PAIR)).frame(NOWHERE)
    assert frame is not None
    assert frame.event == b"id: %b\ndata: %b\n\n" % (frame.text.encode(), frame.body)


@pytest.mark.parametrize(
    "place",
    [
        Place(Cursor(EPOCH, "another", 11)),
        Place(Cursor("k3fa", PAIR.hash, 1)),
    ],
)
async def test_nobody_ahead_is_told_something_whole_but_older(place: Place) -> None:
    """A new selection, or a new epoch, does not excuse a step backwards."""
    scene = Scene()
    assert not scene.enter(Wish(PAIR), place).listen().done()


async def test_a_frame_made_before_a_turn_is_not_sent_after_it() -> None:
    """Whoever comes in between must not read that all is well."""
    scene = Scene()
    fresh = await scene.enter(Wish(PAIR)).listen()
    scene.live = False  # and nobody was told yet
    stale = await scene.enter(Wish(PAIR)).listen()
    assert fresh is not None
    assert stale is not None
    assert json.loads(fresh.body)["live"] is True
    assert json.loads(stale.body)["live"] is False


async def test_a_cut_that_changes_nothing_for_a_group_costs_it_nothing() -> None:
    """Thousands of selections may be held; what moves is what is worked on."""
    scene = Scene()
    quiet = Selection.of(["SOL-USD"])
    busy = scene.enter(Wish(PAIR, cuts=True), place_at(10)).listen()
    held = scene.enter(Wish(quiet, cuts=True), place_at(10, quiet)).listen()
    group = scene.find(Wish(quiet, cuts=True))
    scene.mark()  # the first is looked at by everybody
    looked: list[Place] = []
    find = group._find  # noqa: SLF001 - what is counted is the work

    def counted(*args: object, **named: object) -> Frame | None:
        looked.append(NOWHERE)
        return find(*args, **named)  # type: ignore[arg-type]

    group._find = counted  # type: ignore[method-assign]  # noqa: SLF001
    for _ in range(5):
        scene.publish("BTC-USD")
        scene.mark()
    assert busy.done()
    assert not held.done()
    assert looked == []
    scene.publish("SOL-USD")
    scene.mark()
    assert held.done()


async def test_a_hold_that_is_over_ends_at_a_mark_that_changes_nothing() -> None:
    """A mark is heard by everybody who waits for it."""
    scene = Scene()
    quiet = Selection.of(["SOL-USD"])
    box = scene.enter(Wish(quiet, cuts=True), place_at(10, quiet))
    bell = box.listen()
    scene.mark()
    box.due_ms = 0
    scene.publish("BTC-USD")
    scene.mark()
    assert await bell is None


async def test_a_poll_that_came_between_a_change_and_its_mark_is_released() -> None:
    """The group was not there when what it selects changed."""
    scene = Scene()
    scene.mark()
    offset = scene.publish("BTC-USD")
    bell = scene.enter(Wish(PAIR, cuts=True), place_at(10)).listen()
    assert not bell.done()
    scene.mark()
    frame = await bell
    assert frame is not None
    assert frame.place == place_at(offset)


async def test_a_change_read_together_with_a_mark_is_of_the_next_cut() -> None:
    """It came after the mark: the one after that must not pass it over."""
    scene = Scene()
    quiet = Selection.of(["SOL-USD"])
    scene.mark()
    held = scene.enter(Wish(quiet, cuts=True), place_at(10, quiet)).listen()
    scene.publish("BTC-USD")
    assert scene.board is not None
    scene.cut = scene.board.copy()
    scene.groups.note_cut()
    offset = scene.publish("SOL-USD")
    scene.groups.turn_cuts(0)
    assert not held.done()
    scene.mark()
    frame = await held
    assert frame is not None
    assert frame.place == place_at(offset, quiet)
