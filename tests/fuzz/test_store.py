"""Whatever the store holds, a reader goes on: another version's, or broken."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from relay.board import Board
from relay.config import Settings
from relay.errors import StoreDown
from relay.ingest.publish import newest
from relay.model import Batch
from relay.store.client import Client
from relay.store.keys import Keys
from relay.store.reader import Reader
from tests.delivery.serving import Leader, make_hub
from tests.harness import until

_FIELDS = st.dictionaries(
    st.sampled_from([b"epoch", b"previous", b"mark", b"BTC-USD", b"\xff"]),
    st.sampled_from([b"", b"1", b"x", b"\xff", b"{}", b"[]", b"9" * 5000]),
    min_size=1,
)
_ROWS = st.dictionaries(
    st.sampled_from(["BTC-USD", "ETH-USD"]),
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            [b"", b"{}", b'{"offset":5}', b'{"offset":"5"}', b'{"a":' * 2_000]
        ),
    ),
)


@given(_ROWS)
def test_any_tickers_are_a_board_of_those_that_can_be_read(
    rows: dict[str, bytes],
) -> None:
    """One that nobody can read costs itself, and not the board."""
    board = Board.read("k3f9", 7, 0, rows)
    assert set(board.rows) <= set(rows)
    batch = Batch(epoch="k3f9", previous=board.offset, offset=99, tickers=rows)
    board.apply(batch)
    assert board.offset == 99


@given(_ROWS, _ROWS)
def test_the_newest_of_any_tickers_are_chosen(
    one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    """What cannot be read has no offset, and loses to what can."""
    found = newest(one, other)
    assert found.keys() == one.keys() | other.keys()


_ON_ONE_LOOP = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=40,
)


@_ON_ONE_LOOP
@given(fields=_FIELDS)
@example(fields={b"mark": b"x"})
@example(fields={b"previous": b"1"})
@example(fields={b"epoch": b"\xff", b"previous": b"1"})
@example(fields={b"epoch": b"1", b"previous": b"1", b"\xff": b"1"})
async def test_any_entry_of_the_log_is_read_or_the_stores_fault(
    client: Client, keys: Keys, fields: dict[bytes, bytes]
) -> None:
    """A follower knows one failure, and reads the board again after it."""
    await client.valkey.delete(keys.log)
    await client.valkey.xadd(keys.log, fields)
    async with Reader(client, keys).follow(wait_ms=100) as follower:
        try:
            entries = await follower.after("0-0")
        except StoreDown:
            return
    assert len(entries) == 1


@_ON_ONE_LOOP
@given(name=st.sampled_from(["epoch", "offset", "floor", "token", "holder"]))
async def test_any_head_is_read_or_the_stores_fault(
    client: Client, keys: Keys, name: str
) -> None:
    """The same of the head."""
    await client.valkey.hset(keys.head, name, b"\xff")
    try:
        await Reader(client, keys).read([])
    except StoreDown as down:
        told = str(down)
    else:
        return
    assert "cannot be read" in told


@asynccontextmanager
async def _running(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work)
        yield
        task.cancel()


async def test_an_entry_that_nobody_can_read_does_not_end_the_hub(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """It is passed over, and what comes after it is followed."""
    leader = Leader(client, keys)
    await leader.publish({"BTC-USD": "1"})
    hub = make_hub(client, keys, settings)
    async with _running(hub.run()):
        await leader.mark_until(lambda: hub.board.offset == leader.offset)
        await client.valkey.xadd(keys.log, {"mark": "x"}, id=f"{leader.offset}-99")
        await client.valkey.hset(keys.tickers, "ETH-USD", "broken")

        async def followed() -> bool:
            await leader.publish({"BTC-USD": "2"})
            return hub.board.offset == leader.offset

        await until(followed)
        assert "ETH-USD" not in hub.board.rows
