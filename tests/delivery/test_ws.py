"""The WebSocket: selections that change in place, resumed, limited, told why."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, cast

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from relay.board import Board
from relay.config import Settings
from relay.delivery.ws import Allowance, Parts, Session, add, joined, without
from relay.errors import SelectionInvalid
from relay.group import Place
from relay.model import Batch, Cursor, Selection, Ticker
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.live import Live, Socket, live
from tests.delivery.serving import EPOCH
from tests.harness import eventually

BTC, ETH = Selection.of(["BTC-USD"]), Selection.of(["ETH-USD"])
PAIR = Selection.of(["BTC-USD", "ETH-USD"])


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Return settings that look at idle clients often."""
    http = replace(settings.http, heartbeat_ms=200, message_max=2000)
    return replace(settings, http=http)


@pytest.fixture
async def relay(client: Client, keys: Keys, quick: Settings) -> AsyncIterator[Live]:
    """Return a running instance."""
    async with live(client, keys, quick) as relay:
        yield relay


async def close_of(socket: Socket) -> tuple[int, str]:
    """Return the code and the reason with which the relay closes."""
    with anyio.fail_after(10), suppress(ConnectionClosed):
        while True:
            await socket.connection.recv()
    connection = socket.connection
    assert connection.close_code is not None
    return connection.close_code, connection.close_reason or ""


async def test_what_is_subscribed_comes_whole_and_then_its_changes(
    relay: Live,
) -> None:
    """The shared body, with its type first."""
    async with relay.socket() as socket:
        await socket.say(type="subscribe", symbols=["bitcoin", "ETH/USD"])
        text = await socket.connection.recv()
        assert str(text).startswith('{"type":"update","cursor":')
        first = json.loads(text)
        assert sorted(first["prices"]) == ["BTC-USD", "ETH-USD"]
        offset = await relay.leader.publish({"ETH-USD": "3001"})
        second = await socket.hear()
        assert list(second["prices"]) == ["ETH-USD"]
        assert second["cursor"] == f"{EPOCH}.{PAIR.hash}.{offset}"


async def test_what_is_added_is_sent_whole_and_nothing_else(relay: Live) -> None:
    """Under the cursor of the new selection."""
    async with relay.socket() as socket:
        await socket.say(type="subscribe", symbols=["BTC-USD"])
        assert (await socket.hear())["cursor"].split(".")[1] == BTC.hash
        await socket.say(type="subscribe", symbols=["ETH-USD", "FOO-USD"])
        added = await socket.hear()
        assert list(added["prices"]) == ["ETH-USD"]
        assert added["missing"] == ["FOO-USD"]
        hashed = Selection.of(["BTC-USD", "ETH-USD", "FOO-USD"]).hash
        assert added["cursor"].split(".")[1] == hashed


async def test_what_is_taken_away_is_not_heard_of_again(relay: Live) -> None:
    """And the next message carries the cursor of what is left."""
    async with relay.socket() as socket:
        await socket.say(type="subscribe", symbols=["BTC-USD", "ETH-USD"])
        await socket.hear()
        await socket.say(type="unsubscribe", symbols=["ETH-USD"])
        left = await socket.hear()
        assert (left["prices"], left["cursor"].split(".")[1]) == ({}, BTC.hash)
        await relay.leader.publish({"ETH-USD": "3001"})
        await relay.leader.publish({"BTC-USD": "61001"})
        assert list((await socket.hear())["prices"]) == ["BTC-USD"]
        await socket.say(type="unsubscribe")
        nothing = await socket.hear()
        assert (nothing["prices"], nothing["missing"]) == ({}, [])


async def test_a_client_resumes_where_it_was(relay: Live) -> None:
    """With what changed meanwhile, and an answer even when nothing did."""
    async with relay.socket() as socket:
        await socket.say(type="subscribe", symbols=["BTC-USD", "ETH-USD"])
        cursor = (await socket.hear())["cursor"]
    await relay.leader.publish({"ETH-USD": "3001"})
    await eventually(lambda: relay.hub.board.offset == relay.leader.offset)
    async with relay.socket() as socket:
        pair = ["BTC-USD", "ETH-USD"]
        await socket.say(type="resume", symbols=pair, cursor=cursor)
        resumed = await socket.hear()
        assert list(resumed["prices"]) == ["ETH-USD"]
        await socket.say(type="resume", cursor=resumed["cursor"])
        again = await socket.hear()
        assert (again["prices"], again["cursor"]) == ({}, resumed["cursor"])


async def test_what_a_slow_client_has_not_taken_is_one_frame(relay: Live) -> None:
    """Nothing is queued behind it, neither here nor in the connection's memory."""
    own = socket.socket()
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, _, port = relay.url.removeprefix("http://").partition(":")
    own.connect((host, int(port)))
    long = f"1.{'1' * 9000}"
    place = f"ws://{host}:{port}/v1/ws"
    async with connect(place, sock=own, max_queue=1, compression=None) as lazy:
        await lazy.send('{"type":"subscribe","symbols":["BTC-USD"]}')
        with anyio.fail_after(15):
            while not any(box.writing for box in relay.hub.groups.streams):
                await relay.leader.publish({"BTC-USD": long})
                await eventually(lambda: relay.hub.board.offset == relay.leader.offset)
        held = [
            one.transport.get_write_buffer_size()
            for one in relay.server._uvicorn.server_state.connections  # noqa: SLF001
        ]
        lazy.transport.abort()
        assert 0 < max(held) < 2 * len(long)


async def test_other_fields_are_no_excuse_for_a_step_back(relay: Live) -> None:
    """Who is ahead of us waits, whatever else is wanted; then everything is sent."""
    async with relay.socket() as socket:
        pair = ["BTC-USD", "ETH-USD"]
        ahead = relay.leader.offset + 60_000
        cursor = Cursor(EPOCH, PAIR.hash, ahead)
        await socket.say(type="resume", symbols=pair, cursor=str(cursor))
        await socket.say(type="subscribe", symbols=pair, fields=["price"])
        await socket.say(type="ping")
        assert (await socket.hear())["type"] == "pong"
        await relay.leader.publish({"BTC-USD": "61001"})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await socket.hear()
        relay.leader.advance_to(ahead)
        await relay.leader.publish({"ETH-USD": "3001"})
        told = await socket.hear()
        assert sorted(told["prices"]) == pair
        assert all(set(one) == {"price", "offset"} for one in told["prices"].values())


async def test_a_write_that_failed_is_none_that_does_not_drain(
    relay: Live, quick: Settings
) -> None:
    """The client is gone and nobody has said so yet: whoever looks must not fall."""
    unused = cast("Any", None)
    box = relay.hub.open("ws")
    session = Session(Parts(relay.hub, unused, quick.http, unused), box)

    async def leave(_message: object) -> None:
        raise ConnectionResetError

    with box:
        session.hear("ping")
        await session._write(leave)  # noqa: SLF001 - the moment before it is read
        now_ms = relay.hub.clock.monotonic_ms() + 1
        relay.hub.groups.sweep(now_ms, quiet_ms=1000, deadline_ms=1)
    assert relay.hub.counts.cut_off == {}


async def test_fields_and_lists_are_understood(relay: Live) -> None:
    """As on every other way; other fields make everything come anew."""
    async with relay.socket() as socket:
        await socket.say(type="subscribe", list="majors", fields=["price"])
        body = await socket.hear()
        assert body["prices"]["BTC-USD"].keys() == {"price", "offset"}
        assert body["missing"] == ["SOL-USD", "XRP-USD"]
        await socket.say(type="subscribe", list="majors", fields=["bid", "price"])
        assert sorted((await socket.hear())["prices"]) == ["BTC-USD", "ETH-USD"]


async def test_neither_symbols_nor_list_is_the_whole_board(relay: Live) -> None:
    """A part of it cannot be taken away again."""
    async with relay.socket() as socket:
        await socket.say(type="subscribe")
        assert sorted((await socket.hear())["prices"]) == ["BTC-USD", "ETH-USD"]
        await socket.say(type="unsubscribe", symbols=["BTC-USD"])
        told = await socket.hear()
        assert told["error"]["code"] == "selection_invalid"


async def test_pings_are_answered(relay: Live) -> None:
    """As JSON or as a bare text."""
    async with relay.socket() as socket:
        await socket.say(type="ping")
        assert await socket.hear() == {"type": "pong"}
        await socket.connection.send("ping")
        assert await socket.hear() == {"type": "pong"}


async def test_a_quiet_socket_beats(relay: Live) -> None:
    """So that nobody in between takes it for dead."""
    async with relay.socket() as socket:
        with anyio.fail_after(5):
            assert json.loads(await socket.connection.recv()) == {"type": "heartbeat"}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("nonsense", "message_invalid"),
        ("[]", "message_invalid"),
        ('{"type":"dance"}', "message_invalid"),
        ('{"symbols":["BTC-USD"]}', "message_invalid"),
        ('{"type":"subscribe","symbols":"BTC-USD"}', "message_invalid"),
        ('{"type":"subscribe","symbol":["BTC-USD"]}', "message_invalid"),
        ('{"type":"resume","symbols":["BTC-USD"]}', "message_invalid"),
        ('{"type":"resume","cursor":"x"}', "cursor_invalid"),
        ('{"type":"subscribe","symbols":["?"]}', "selection_invalid"),
        ('{"type":"subscribe","symbols":[]}', "selection_invalid"),
        ('{"type":"subscribe","list":"nope"}', "selection_invalid"),
        ('{"type":"subscribe","list":"majors","symbols":["A"]}', "selection_invalid"),
        ('{"type":"subscribe","fields":["nope"]}', "query_invalid"),
        (b"\xff\xfe", "message_invalid"),
    ],
)
async def test_what_is_not_understood_is_explained_and_closes_nothing(
    relay: Live, message: str | bytes, code: str
) -> None:
    """Code, sentence, hint; the next message is taken as if nothing had been."""
    async with relay.socket() as socket:
        await socket.connection.send(message)
        told = await socket.hear()
        assert (told["type"], told["error"]["code"]) == ("error", code)
        assert told["error"]["sentence"]
        assert told["error"]["hint"]
        await socket.connection.send("ping")
        assert await socket.hear() == {"type": "pong"}


async def test_a_refused_change_changes_nothing(
    client: Client, keys: Keys, quick: Settings
) -> None:
    """Too many in all: the client keeps what it had."""
    quick = replace(quick, http=replace(quick.http, selection_max=2))
    async with live(client, keys, quick) as relay, relay.socket() as socket:
        await socket.say(type="subscribe", symbols=["BTC-USD", "ETH-USD"])
        await socket.hear()
        await socket.say(type="subscribe", symbols=["SOL-USD"])
        assert (await socket.hear())["error"]["code"] == "selection_invalid"
        await relay.leader.publish({"SOL-USD": "1", "BTC-USD": "2"})
        assert list((await socket.hear())["prices"]) == ["BTC-USD"]


async def test_too_large_a_message_closes_with_a_reason(relay: Live) -> None:
    """1009, before it is read."""
    async with relay.socket() as socket:
        await socket.connection.send("x" * 3000)
        code, _ = await close_of(socket)
        assert code == 1009


async def test_too_many_messages_close_with_a_reason(
    client: Client, keys: Keys, quick: Settings
) -> None:
    """1008, and it is counted."""
    quick = replace(quick, http=replace(quick.http, messages_per_minute=3))
    async with live(client, keys, quick) as relay, relay.socket() as socket:
        for _ in range(4):
            await socket.connection.send("ping")
        code, reason = await close_of(socket)
        assert code == 1008
        assert "3 messages a minute" in reason
        assert relay.hub.counts.cut_off == {"message_rate": 1}


async def test_a_turn_of_live_reaches_sockets(
    client: Client, keys: Keys, quick: Settings
) -> None:
    """As it reaches streams and polls."""
    quick = replace(quick, ingest=replace(quick.ingest, beat_ms=500))
    async with live(client, keys, quick) as relay, relay.socket() as socket:
        await socket.say(type="subscribe", symbols=["BTC-USD"])
        assert (await socket.hear())["live"] is True
        turned = await socket.hear()
        assert (turned["live"], turned["prices"]) == (False, {})


async def test_draining_closes_with_a_reason(relay: Live) -> None:
    """1012: this instance ends, another one is there."""
    async with relay.socket() as socket:
        await socket.say(type="subscribe", symbols=["BTC-USD"])
        await socket.hear()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(relay.hub.drain(100))
            code, reason = await close_of(socket)
        assert (code, bool(reason)) == (1012, True)
    async with relay.socket() as late:
        code, reason = await close_of(late)
        assert (code, bool(reason)) == (1013, True)


async def test_a_client_that_leaves_is_forgotten(relay: Live) -> None:
    """Its place, its group and its task."""
    async with relay.socket() as socket:
        await socket.say(type="subscribe", symbols=["BTC-USD"])
        await socket.hear()
        assert relay.hub.counts.clients["ws"] == 1
    await eventually(lambda: relay.hub.counts.clients["ws"] == 0)
    assert not relay.hub.groups.streams


async def test_a_plain_request_is_told_to_upgrade(relay: Live) -> None:
    """By whoever opens the address in a browser."""
    answer = await relay.asker.get("/v1/ws")
    assert answer.status_code in {400, 426}
    assert answer.json()["error"]["code"] == "upgrade_required"
    assert (await relay.asker.post("/v1/ws")).status_code == 405


def test_an_allowance_refills_steadily() -> None:
    """A client that pauses may go on; one that does not is stopped."""
    allowance = Allowance(60, 0)
    assert all(allowance.take(0) for _ in range(60))
    assert not allowance.take(999)
    assert allowance.take(1_000)
    assert not allowance.take(1_000)
    assert all(allowance.take(1_000_000) for _ in range(60))
    assert not allowance.take(1_000_000)


def test_selections_join_and_part() -> None:
    """The whole board holds everything, and cannot lose a part."""
    whole = Selection.of(None)
    assert joined(BTC, ETH) == PAIR
    assert joined(BTC, whole) == whole
    assert without(PAIR, ETH) == BTC
    assert without(PAIR, whole) == without(whole, whole) == Selection.of(())
    with pytest.raises(SelectionInvalid):
        without(whole, BTC)


NAMES = ["A-USD", "B-USD", "C-USD", "D-USD"]
selections = st.sets(st.sampled_from(NAMES)).map(Selection.of)


@given(
    batches=st.lists(st.sets(st.sampled_from(NAMES), min_size=1), max_size=8),
    read=st.integers(0, 8),
    old=selections,
    new=selections,
)
def test_whoever_changes_a_selection_then_holds_the_newest_of_all(
    batches: list[set[str]], read: int, old: Selection, new: Selection
) -> None:
    """Whatever was added, kept or taken away, and however far the client was."""
    board = Board.read(EPOCH, 1, 0, {name: _ticker(1) for name in NAMES[:2]})
    held: dict[str, bytes] = {}
    place = Place(Cursor(EPOCH, old.hash, 0))
    for number, names in enumerate([set[str](), *batches]):
        if names:
            offset = number + 1
            tickers = dict.fromkeys(names, _ticker(offset))
            batch = Batch(
                epoch=EPOCH, previous=offset - 1, offset=offset, tickers=tickers
            )
            board.apply(batch)
        if number <= read:
            told = board.changes(old, place.cursor)
            held |= told.rows
            place = Place(told.cursor)
    changes = add(board, old, new, place)
    assert changes is not None
    held |= changes.rows
    selected = [name for name in new.instruments or () if name in board.rows]
    newest = {name: board.rows[name].ticker for name in selected}
    assert {name: held.get(name) for name in selected} == newest
    assert set(changes.rows) <= set(selected)
    assert changes.cursor.selection == new.hash


def _ticker(offset: int) -> bytes:
    return Ticker(price=str(offset), offset=offset).encode()
