"""Crowds: thousands who read, who do not read, who write slowly, who all come back."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from relay.model import Cursor
from tests.faults.crowd import Crowd, crowd, dripping, room
from tests.faults.endure import FRESH_S, check_size
from tests.faults.fleet import Fleet, Part, open_fleet
from tests.faults.report import ROWS, Row
from tests.harness import eventually, until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

# Clients that begin a request, and then write an octet a second (after the bar).
SLOW_HEAD = b"|GET /v1/prices HTTP/1.1\r\nHost: relay\r\nX: " + b"a" * 5_000
SLOW_BODY = (
    b"POST /v1/value HTTP/1.1\r\nHost: relay\r\nContent-Length: 5000\r\n\r\n|"
    + b" " * 5_000
)
SLOW_QUESTION = (
    b"GET /healthz HTTP/1.1\r\nHost: relay\r\nContent-Length: 5000\r\n\r\n|"
    + b" " * 5_000
)
BURSTS = 8
PER_CLIENT_MAX = 128 << 10
"""Bytes of the server's memory for one client, buffers and all."""
KEPT_MAX = 12_000 * (16 << 10)
"""What the allocator may keep of a crowd that has gone, for the next one."""
# What uvicorn and asyncio hold of a client that reads nothing, before its deadline.
PER_SLOW_MAX = 1 << 20


@pytest.fixture(scope="module")
async def quiet(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> AsyncIterator[Fleet]:
    """Run a fleet whose observers go on watching beside the crowd."""
    async with open_fleet(tmp_path_factory.mktemp("load"), seed) as fleet:
        yield fleet


def _address(part: Part) -> tuple[str, int]:
    assert part.front is not None
    return part.front.target


async def _all_hold_the_newest(many: Crowd, fleet: Fleet, within_s: float) -> float:
    """Wait until everybody has an event newer than now; returns seconds."""
    goal = fleet.simulator.now()
    await eventually(
        lambda: all(
            reader.last and Cursor.parse(reader.last).offset >= goal
            for reader in many.readers
        ),
        within_s=within_s,
    )
    return (fleet.simulator.now() - goal) / 1000


def _note(name: str, fleet: Fleet, promised_s: float, recovery_s: float) -> None:
    """Note until when all had the newest, and how the observers beside them fared."""
    ROWS.append(
        Row(
            fault=name,
            promised_s=promised_s,
            recovery_s=recovery_s,
            fresh_s=FRESH_S,
            worst_age_ms=max(one.worst_ms for one in fleet.observers),
            lost=sum(len(one.lacks({})) for one in fleet.observers),
            errors=sum(one.errors.total() for one in fleet.observers),
            seed=fleet.seed,
        )
    )


async def _all_is_well(fleet: Fleet, name: str) -> None:
    """Judge the promises as after any other fault."""
    assert not [line for one in fleet.observers for line in one.wrong]
    assert max(one.worst_ms for one in fleet.observers) / 1000 <= FRESH_S
    assert not fleet.breaches()
    await check_size(fleet, name, within_s=60, grown_max=KEPT_MAX)


async def _observers_told(fleet: Fleet, within_s: float) -> float:
    """Wait until the observers hold the newest; returns seconds."""
    pins, began_ms = fleet.pin(), fleet.simulator.now()
    try:
        await eventually(
            lambda: all(one.holds(pins) for one in fleet.observers), within_s=within_s
        )
    finally:
        fleet.unpin()
    return (fleet.simulator.now() - began_ms) / 1000


async def _held(client: httpx.AsyncClient, way: str) -> int:
    """Ask a server how many clients of one way it holds."""
    status = (await client.get("/v1/status")).json()
    held: int = status["instance"]["clients"].get(way, 0)
    return held


def _begin(fleet: Fleet) -> None:
    for observer in fleet.observers:
        observer.worst_ms = 0
        observer.errors.clear()
        observer.wrong.clear()


@pytest.mark.parametrize("count", [10_000])
async def test_a_crowd_is_told_of_every_burst_and_comes_back_at_once(
    quiet: Fleet, count: int, seed: int
) -> None:
    """One encoded frame for all; memory by the client; everybody resumes."""
    if room() < count + 1_000:
        pytest.skip(f"this machine gives no {count + 1_000} sockets to one process")
    _begin(quiet)
    server = quiet.servers[0]
    before, _ = server.footprint()
    async with crowd(*_address(server), seed) as many:
        await many.join(count)
        told_s = 0.0
        for _ in range(BURSTS):  # of which there is one each five seconds or so
            told_s = max(told_s, await _all_hold_the_newest(many, quiet, within_s=60))
            await asyncio.sleep(1)
        _note(f"{count:,} streams, bursts of prices", quiet, 60, told_s)
        assert {reader.status for reader in many.readers} == {b"HTTP/1.1 200"}
        grown = server.footprint()[0] - before
        assert grown < count * PER_CLIENT_MAX, f"{grown // count} bytes a client"
        many.leave()
        await eventually(lambda: not many.open, within_s=30)
        await server.kill()
        await server.start()
        began_ms = quiet.simulator.now()
        await many.come_back(_address(server))
        await _all_hold_the_newest(many, quiet, within_s=60)
        back_s = (quiet.simulator.now() - began_ms) / 1000
        _note(f"{count:,} streams, all back after a restart", quiet, 60, back_s)
    await _all_is_well(quiet, "a crowd")


async def test_twenty_thousand_connect_in_a_minute(quiet: Fleet, seed: int) -> None:
    """Twelve thousand of them at once; nobody is refused, nothing stays behind."""
    if room() < 13_000:
        pytest.skip("this machine gives no 13,000 sockets to one process")
    _begin(quiet)
    server = quiet.servers[0]
    async with crowd(*_address(server), seed) as many:
        took_s = await many.pass_by(20_000, at_once=12_000, second=400)
        told_s = await _all_hold_the_newest(many, quiet, within_s=60)
        assert len(many.open) == len(many.readers) == 12_000
        assert {reader.status for reader in many.readers} == {b"HTTP/1.1 200"}
        name = f"20,000 streams connect in {took_s:.0f} s, 12,000 at once"
        _note(name, quiet, 60, told_s)
    await _all_is_well(quiet, name)


async def test_a_thousand_who_write_an_octet_a_second_are_cut_off(quiet: Fleet) -> None:
    """Head or body: a request must be there within ``http.head_deadline_ms``."""
    _begin(quiet)
    server = quiet.servers[0]
    requests = SLOW_HEAD, SLOW_BODY, SLOW_QUESTION
    began_ms = quiet.simulator.now()
    async with dripping(_address(server), 1_000, requests) as slow:
        told_s = await _observers_told(quiet, within_s=15)
        await eventually(lambda: all(one.lost for one in slow), within_s=60)
        took_s = (quiet.simulator.now() - began_ms) / 1000
        name = f"1,000 that send an octet a second, cut off after {took_s:.0f} s"
        _note(name, quiet, 15, told_s)
    await _all_is_well(quiet, name)


async def test_a_thousand_who_never_read_cost_only_themselves(
    quiet: Fleet, seed: int
) -> None:
    """They are cut off by the write deadline; nobody else waits for them."""
    _begin(quiet)
    server = quiet.servers[0]
    before, _ = server.footprint()
    host, port = _address(server)
    async with (
        httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=15) as client,
        crowd(host, port, seed) as many,
    ):
        await many.join(1_000, slow=True)
        await until(lambda: _holds_at_least(client, 1_000), within_s=30)
        began_ms = quiet.simulator.now()
        told_s = await _observers_told(quiet, within_s=15)
        grown = server.footprint()[0] - before
        assert grown < 1_000 * PER_SLOW_MAX
        await until(lambda: _holds_only(client, "sse", quiet), within_s=120)
        took_s = (quiet.simulator.now() - began_ms) / 1000
        told_s = max(told_s, await _observers_told(quiet, within_s=15))
        name = f"1,000 streams that never read, cut off after {took_s:.0f} s"
        _note(name, quiet, 15, told_s)
    await _all_is_well(quiet, name)


async def _holds_at_least(client: httpx.AsyncClient, count: int) -> bool:
    return await _held(client, "sse") >= count


async def _holds_only(client: httpx.AsyncClient, way: str, fleet: Fleet) -> bool:
    return await _held(client, way) <= len(fleet.observers)


async def test_polls_that_are_cancelled_leave_nothing_behind(quiet: Fleet) -> None:
    """Clients go away in the middle of a hold, at random, many at a time."""
    _begin(quiet)
    host, port = _address(quiet.servers[0])
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
        cursor = (await client.get("/v1/prices?symbols=HBAR-USD")).json()["cursor"]
        held = f"/v1/poll?symbols=HBAR-USD&cursor={cursor}"
        cancelled = 0

        async def ask() -> None:
            nonlocal cancelled
            for _ in range(25):
                try:
                    await client.get(held, timeout=quiet.random.uniform(0.005, 0.5))
                except httpx.TimeoutException:
                    cancelled += 1

        async with asyncio.TaskGroup() as tasks:
            for _ in range(20):
                tasks.create_task(ask())
        assert cancelled > 100
        await until(lambda: _holds_only(client, "poll", quiet), within_s=15)
        told_s = await _observers_told(quiet, within_s=15)
    name = f"{cancelled} polls cancelled, 20 at a time"
    _note(name, quiet, 15, told_s)
    await _all_is_well(quiet, name)
