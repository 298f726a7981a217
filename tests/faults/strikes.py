"""What is done to a fleet: each hurts on entering and heals on leaving.

What is promised of each stands in the tests.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from relay.simulator.faults import FaultValue
from tests.faults.endure import Strike
from tests.faults.fleet import STREAMING, Fleet, Part
from tests.faults.proxy import Bytes, Proxy
from tests.faults.valkey import OwnCluster, OwnValkey
from tests.harness import until

Choose = Callable[[Fleet], list[Part]]


def leader(fleet: Fleet) -> list[Part]:
    """Choose the worker that leads."""
    return [fleet.leader()]


def follower(fleet: Fleet) -> list[Part]:
    """Choose the worker that waits."""
    return [fleet.follower()]


def server(fleet: Fleet) -> list[Part]:
    """Choose one server."""
    return [fleet.random.choice(fleet.servers)]


def workers(fleet: Fleet) -> list[Part]:
    """Choose both workers."""
    return fleet.workers


def servers(fleet: Fleet) -> list[Part]:
    """Choose both servers."""
    return fleet.servers


def pair(fleet: Fleet) -> list[Part]:
    """Choose any two processes, in any order."""
    return fleet.random.sample(fleet.parts, 2)


def everybody(fleet: Fleet) -> list[Part]:
    """Choose every process, in any order."""
    return fleet.random.sample(fleet.parts, len(fleet.parts))


def own(fleet: Fleet) -> OwnValkey:
    """Return the fleet's one Valkey."""
    assert isinstance(fleet.valkey, OwnValkey)
    return fleet.valkey


# Processes.


def killed(choose: Choose) -> Strike:
    """Kill processes; others are started when the fault is over."""

    @asynccontextmanager
    async def strike(fleet: Fleet) -> AsyncIterator[None]:
        parts = choose(fleet)
        for part in parts:
            await part.kill()
        yield
        for part in parts:
            await part.start()

    return strike


def ended(choose: Choose) -> Strike:
    """End processes in order, and start others."""

    @asynccontextmanager
    async def strike(fleet: Fleet) -> AsyncIterator[None]:
        parts = choose(fleet)
        for part in parts:
            assert await part.end() == 0
        yield
        for part in parts:
            await part.start()

    return strike


def stopped(choose: Choose) -> Strike:
    """Freeze processes, and let them go on."""

    @asynccontextmanager
    async def strike(fleet: Fleet) -> AsyncIterator[None]:
        parts = choose(fleet)
        for part in parts:
            part.send(signal.SIGSTOP)
        try:
            yield
        finally:
            for part in parts:
                part.send(signal.SIGCONT)

    return strike


# The store.


@asynccontextmanager
async def store_killed(fleet: Fleet) -> AsyncIterator[None]:
    """Kill it; the next one begins with nothing."""
    await own(fleet).forget_file()
    await own(fleet).kill()
    yield
    await own(fleet).start()


@asynccontextmanager
async def store_restored(fleet: Fleet) -> AsyncIterator[None]:
    """Kill it; the next one begins with a copy that is seconds old."""
    await own(fleet).ask("SAVE")
    await asyncio.sleep(2)  # what is published now is what the copy lacks
    await own(fleet).kill()
    yield
    await own(fleet).start()


@asynccontextmanager
async def store_restored_without_leader(fleet: Fleet) -> AsyncIterator[None]:
    """Kill it together with the leader; its copy and a new leader go on."""
    await own(fleet).ask("SAVE")
    await asyncio.sleep(2)  # what is published now is what the copy lacks
    part = fleet.leader()
    await part.kill()
    await own(fleet).kill()
    yield
    await own(fleet).start()
    await part.start()


@asynccontextmanager
async def store_flushed(fleet: Fleet) -> AsyncIterator[None]:
    """Delete everything under everybody's hands."""
    await own(fleet).ask("FLUSHALL")
    yield


@asynccontextmanager
async def store_frozen(fleet: Fleet) -> AsyncIterator[None]:
    """Stop it, and let it go on."""
    own(fleet).send(signal.SIGSTOP)
    yield
    own(fleet).send(signal.SIGCONT)


@asynccontextmanager
async def store_slow(fleet: Fleet) -> AsyncIterator[None]:
    """Let every word to and from it take its time."""
    for proxy in fleet.stores:
        proxy.delay_s = 0.15
    yield
    for proxy in fleet.stores:
        proxy.heal()


@asynccontextmanager
async def store_full(fleet: Fleet) -> AsyncIterator[None]:
    """Let it run out of memory: it answers, and takes nothing."""
    await own(fleet).ask("CONFIG", "SET", "maxmemory", 100_000)
    yield
    await own(fleet).heal()


@asynccontextmanager
async def store_evicting(fleet: Fleet) -> AsyncIterator[None]:
    """Let it run out of memory, and throw away whatever it likes."""
    await own(fleet).ask("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    await own(fleet).ask("CONFIG", "SET", "maxmemory", 900_000)
    yield
    await own(fleet).heal()


def key_lost(name: str) -> Strike:
    """Let one key go, as an eviction does."""

    @asynccontextmanager
    async def strike(fleet: Fleet) -> AsyncIterator[None]:
        await own(fleet).ask("DEL", f"relay:{{spot}}:{name}")
        yield

    return strike


@asynccontextmanager
async def store_read_only(fleet: Fleet) -> AsyncIterator[None]:
    """Make it the replica of somebody who is not there, as a failover may."""
    await own(fleet).ask("REPLICAOF", "127.0.0.1", 1)
    yield
    await own(fleet).heal()


@asynccontextmanager
async def store_without_disk(fleet: Fleet) -> AsyncIterator[None]:
    """Let it fail to save; then it refuses to write, as it does on a full disk."""
    own(fleet).lose_disk()
    await own(fleet).ask("CONFIG", "SET", "save", "3600 1")
    await own(fleet).ask("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes")
    await own(fleet).ask("BGSAVE")
    yield
    await own(fleet).heal()


@asynccontextmanager
async def store_on_a_full_disk(fleet: Fleet) -> AsyncIterator[None]:
    """Let it save to a disk that has no room left; then it refuses to write."""
    valkey = own(fleet)
    async with valkey.full_disk():
        await valkey.ask("CONFIG", "SET", "save", "3600 1")
        await valkey.ask("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes")
        await valkey.ask("BGSAVE")
        await until(valkey.save_failed)
        yield
    await valkey.heal()


@asynccontextmanager
async def cluster_primary_lost(fleet: Fleet) -> AsyncIterator[None]:
    """Kill the primary that has the board; its replica takes over."""
    assert isinstance(fleet.valkey, OwnCluster)
    await fleet.valkey.lose_primary()
    yield


@asynccontextmanager
async def store_connections_cut(fleet: Fleet) -> AsyncIterator[None]:
    """Cut the connections to it one by one."""
    for proxy in fleet.random.sample(fleet.stores, len(fleet.stores)):
        for _ in range(4):
            proxy.cut(1)
            await asyncio.sleep(fleet.random.uniform(0, 0.05))
    yield


# Clocks.


def jumped(choose: Choose, ahead_s: int) -> Strike:
    """Set the clocks of processes, and set them right again."""

    @asynccontextmanager
    async def strike(fleet: Fleet) -> AsyncIterator[None]:
        clocks = [part.clock for part in choose(fleet) if part.clock is not None]
        assert clocks
        for clock in clocks:
            clock.set(ahead_s)
        yield
        for clock in clocks:
            clock.set(0)

    return strike


def store_jumped(ahead_s: int) -> Strike:
    """Set the clock that everybody goes by, and set it right again."""

    @asynccontextmanager
    async def strike(fleet: Fleet) -> AsyncIterator[None]:
        clock = own(fleet).clock
        assert clock is not None
        before_s, _ = await own(fleet).ask("TIME")
        clock.set(ahead_s)
        # The first command after a rest is answered with the time that was cached
        # before it.
        async with asyncio.timeout(5):
            while (await own(fleet).ask("TIME"))[0] - before_s < ahead_s:
                pass
        yield
        clock.set(0)

    return strike


# Partitions.


def parted(choose: Choose, *ends: str) -> Strike:
    """Let nothing pass between processes and ``store``, ``exchanges`` or ``front``."""

    @asynccontextmanager
    async def strike(fleet: Fleet) -> AsyncIterator[None]:
        proxies = _proxies(choose(fleet), ends)
        for proxy in proxies:
            proxy.darken()
        yield
        for proxy in proxies:
            proxy.light()

    return strike


def refused(choose: Choose, *ends: str) -> Strike:
    """Cut what there is between them, and refuse whatever is new."""

    @asynccontextmanager
    async def strike(fleet: Fleet) -> AsyncIterator[None]:
        proxies = _proxies(choose(fleet), ends)
        for proxy in proxies:
            proxy.refuse()
        yield
        for proxy in proxies:
            proxy.refusing = False

    return strike


def _proxies(parts: list[Part], ends: tuple[str, ...]) -> list[Proxy]:
    found = [getattr(part, end) for part in parts for end in ends]
    return [proxy for proxy in found if proxy is not None]


# The exchanges.


def exchanges(fault: str, value: FaultValue = None, **details: object) -> Strike:
    """Let the simulator's exchanges do wrong, all of them at once."""

    @asynccontextmanager
    async def strike(fleet: Fleet) -> AsyncIterator[None]:
        for name in STREAMING:
            fleet.simulator.fault(name, fault, value=value, **details)
        yield
        fleet.simulator.clear_faults()

    return strike


def wire(*, down: Bytes | None = None, drip: bool = False) -> Strike:
    """Let what comes from the exchanges be changed on its way.

    Connections are cut before and after, so that the handshakes and the REST answers
    pass through it as well.
    """

    @asynccontextmanager
    async def strike(fleet: Fleet) -> AsyncIterator[None]:
        proxies = _proxies(fleet.workers, ("exchanges",))
        for proxy in proxies:
            proxy.drip = drip
            proxy.down = down or proxy.down
            proxy.cut()
        yield
        for proxy in proxies:
            proxy.heal()
            proxy.cut()

    return strike


def _replacing(old: bytes, new: bytes) -> Bytes:
    return lambda chunk: chunk.replace(old, new)


WRONG_LENGTH: Final = _replacing(b"Content-Length: ", b"Content-Length: 9")
WRONG_ENCODING: Final = _replacing(b"Content-Type: ", b"Content-Encoding: gzip\r\nX: ")
NOT_UTF_8: Final = _replacing(b'"', b"\xff")
DEEP: Final = '{"a":' * 50_000
HUGE: Final = '{"stream":"' + "9" * 5_000_000 + '"}'
"""More than ``ingest.frame_max``."""
