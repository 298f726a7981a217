"""SIGTERM with a crowd on board: everybody is let go in order, and in time."""

import asyncio
import re
import signal

import httpx
import pytest
from msgspec import Struct

from relay.clock import Clock
from relay.config import Settings
from relay.store.client import Client
from relay.store.keys import Keys
from tests.edge.holders import HANDSHAKE, Holder, get, hold
from tests.edge.stage import NAMES, Instance, Publishing, all_ready, instance
from tests.harness import eventually, until

# Nothing that is published changes it, so that polls of it are held.
QUIET = "QUIET-USD"
# The opcode of a WebSocket's close with its code 1012, "service restart".
RESTART = b"\x03\xf4"


class Party(Struct):
    """Everybody who is on board."""

    streams: list[Holder]
    polls: list[Holder]
    sockets: list[Holder]

    @property
    def everybody(self) -> list[Holder]:
        """Return all of them."""
        return [*self.streams, *self.polls, *self.sockets]


async def board(url: str, each: int, clock: Clock) -> Party:
    """Let so many of each kind come, and wait until they are held."""
    async with httpx.AsyncClient(base_url=url) as asker:
        cursor = (await asker.get(f"/v1/poll?symbols={QUIET}")).json()["cursor"]
        poll = get(f"/v1/poll?symbols={QUIET}&wait=25s&cursor={cursor}")
        party = Party(
            await hold(url, get(f"/v1/stream?symbols={NAMES[0]}"), each, clock),
            await hold(url, poll, each, clock),
            await hold(url, get("/v1/ws", *HANDSHAKE), each // 10, clock),
        )
        wanted = {"sse": each, "poll": each, "ws": each // 10}

        async def held() -> bool:
            told = (await asker.get("/v1/status")).json()
            return bool(told["instance"]["clients"] == wanted)

        await until(held)
    await eventually(lambda: all(b"data:" in one.came for one in party.streams))
    return party


async def end(behind: Instance, party: Party, clock: Clock) -> tuple[int, int]:
    """End the instance, and wait for it; returns when that began and was over."""
    began_ms = clock.monotonic_ms()
    behind.process.send(signal.SIGTERM)
    assert await behind.process.ended(within_s=15) == 0
    ended_ms = clock.monotonic_ms()
    await eventually(lambda: all(one.ended_ms for one in party.everybody))
    return began_ms, ended_ms


@pytest.mark.timeout(60)
@pytest.mark.parametrize("each", [100, pytest.param(1000, marks=pytest.mark.edge)])
async def test_everybody_is_let_go_in_order_and_in_time(
    client: Client, keys: Keys, valkey_url: str, settings: Settings, each: int
) -> None:
    """Polls are answered at once, streams end spread, and there is no error."""
    clock = Clock()
    publishing = Publishing(client, keys, every_ms=200, quiet=QUIET)
    async with (
        asyncio.TaskGroup() as tasks,
        instance(valkey_url, keys.board) as behind,
    ):
        working = tasks.create_task(publishing.run())
        await all_ready([behind.url])
        party = await board(behind.url, each, clock)
        began_ms, ended_ms = await end(behind, party, clock)
        working.cancel()
    assert ended_ms - began_ms < settings.http.drain_ms
    _assert_polls_answered(party.polls, began_ms)
    _assert_streams_ended(party.streams, settings)
    for one in party.sockets:
        assert one.status == 101
        assert RESTART in one.came
    with pytest.raises(ConnectionRefusedError):
        await hold(behind.url, get("/v1/prices"), 1, clock)


def _assert_polls_answered(polls: list[Holder], began_ms: int) -> None:
    for one in polls:
        assert one.status == 200
        assert one.came.endswith(b"}")
        assert one.ended_ms is not None
        assert one.ended_ms - began_ms < 2000


def _assert_streams_ended(streams: list[Holder], settings: Settings) -> None:
    """Each has been told when to come back, and its last chunk has come."""
    ended = sorted(one.ended_ms or 0 for one in streams)
    # A hundred a second, within the time there is.
    assert ended[-1] - ended[0] > min(len(streams) * 8, 4000)
    told = set()
    for one in streams:
        assert one.status == 200
        assert one.came.endswith(b"\r\n0\r\n\r\n")
        told.add(re.findall(rb"retry: (\d+)", one.came)[-1])
    assert len(told) > len(streams) // 4
    assert all(int(one) >= settings.http.retry_ms for one in told)
