"""What is done to a fleet: each hurts on entering and heals on leaving.

What is promised of each stands in the tests.
"""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from random import Random
from typing import Final

from relay.simulator.faults import FaultValue
from relay.simulator.line import encode_frame
from tests.faults.endure import Strike
from tests.faults.fleet import STREAMING, SYMBOLS, Fleet, Part
from tests.faults.observers import LEADING
from tests.faults.proxy import Bytes, Proxy
from tests.faults.valkey import OwnCluster, OwnValkey
from tests.harness import eventually, until

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
    fleet.forget()
    await own(fleet).start()


@asynccontextmanager
async def store_restored(fleet: Fleet) -> AsyncIterator[None]:
    """Kill it; the next one begins with a copy that is seconds old."""
    await own(fleet).ask("SAVE")
    await asyncio.sleep(2)  # what is published now is what the copy lacks
    await own(fleet).kill()
    yield
    fleet.forget()
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
    fleet.forget()
    await own(fleet).start()
    await part.start()


@asynccontextmanager
async def store_flushed(fleet: Fleet) -> AsyncIterator[None]:
    """Delete everything under everybody's hands."""
    await own(fleet).ask("FLUSHALL")
    fleet.forget()
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
    fleet.forget()
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
    await fleet.valkey.lose_primary(signal.SIGKILL)
    yield


@asynccontextmanager
async def cluster_primary_frozen(fleet: Fleet) -> AsyncIterator[None]:
    """Stop the primary that has the board; it wakes when another has taken over."""
    assert isinstance(fleet.valkey, OwnCluster)
    await fleet.valkey.lose_primary(signal.SIGSTOP)
    yield
    await fleet.valkey.wake_primary()


@asynccontextmanager
async def store_connections_cut(fleet: Fleet) -> AsyncIterator[None]:
    """Cut the connections to it one by one."""
    for proxy in fleet.random.sample(fleet.stores, len(fleet.stores)):
        for _ in range(4):
            proxy.cut(1)
            await asyncio.sleep(fleet.random.uniform(0, 0.05))
    yield


# Any process, in any order.

Act = tuple[str, str]
"""Who, and what becomes of it."""


def drawn(chance: Random) -> list[tuple[Act, ...]]:
    """Draw an order in which all becomes of everybody once; of some at a time."""
    acts = [
        (role, act)
        for roles, which in ((_ROLES, _ACTS), (("store",), _STORE_ACTS))
        for role in roles
        for act in which
    ]
    chance.shuffle(acts)
    steps: list[tuple[Act, ...]] = []
    while acts:
        first = acts.pop()
        others = [act for act in acts if act[0] != first[0]]
        if others and chance.random() < _TOGETHER:
            acts.remove(others[0])
            steps.append((first, others[0]))
        else:
            steps.append((first,))
    return steps


def together(acts: Sequence[Act]) -> Strike:
    """Hurt one while another is hurt, and heal them in any order."""

    @asynccontextmanager
    async def strike(fleet: Fleet) -> AsyncIterator[None]:
        parts = _cast(fleet)
        stacks: list[AsyncExitStack] = []
        for role, act in acts:
            stacks.append(AsyncExitStack())
            hurt = _STORE_ACTS[act] if role == "store" else _ACTS[act](parts[role])
            await stacks[-1].enter_async_context(hurt(fleet))
            await asyncio.sleep(fleet.random.uniform(0, 1.5))
        yield
        for stack in fleet.random.sample(stacks, len(stacks)):
            await stack.aclose()

    return strike


def _cast(fleet: Fleet) -> dict[str, Choose]:
    """Give the roles to processes: who leads now may not when its turn comes."""
    lead = fleet.leader()
    waits = next(part for part in fleet.workers if part is not lead)
    parts = (lead, waits, *fleet.servers)
    return {role: _only(part) for role, part in zip(_ROLES, parts, strict=True)}


def _only(part: Part) -> Choose:
    return lambda _fleet: [part]


_ROLES: Final = ("leader", "follower", "server", "other server")
_ACTS: Final = {"killed": killed, "ended": ended, "frozen": stopped}
_STORE_ACTS: Final = {
    "killed": store_restored,
    "flushed": store_flushed,
    "frozen": store_frozen,
}
_TOGETHER: Final = 0.6
"""The share of acts that another one joins."""


# Clocks.


@asynccontextmanager
async def clocks_scattered(fleet: Fleet) -> AsyncIterator[None]:
    """Set each process's clock to another time, and set them right again."""
    clocks = [part.clock for part in fleet.parts if part.clock is not None]
    assert clocks
    for clock in clocks:
        clock.set(fleet.random.randint(-7200, 7200))
    yield
    for clock in clocks:
        clock.set(0)


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
        fleet.forget()
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


def deaf(choose: Choose, *ends: str) -> Strike:
    """Let what processes say pass, and nothing of what they are told."""

    @asynccontextmanager
    async def strike(fleet: Fleet) -> AsyncIterator[None]:
        proxies = _proxies(choose(fleet), ends)
        for proxy in proxies:
            proxy.down = _nothing
        yield
        # What was lost is lost: a stream of bytes does not go on with a hole in it.
        for proxy in proxies:
            proxy.heal()
            proxy.cut()

    return strike


def _nothing(chunk: bytes) -> bytes:
    return chunk[:0]


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


# What the simulator counts each time that it strikes; the others just hold.
_COUNTED: Final = ("cut", "garbage", "no_ack", "refuse", "repeat", "status")


def exchanges(
    fault: str, value: FaultValue = None, *, anew: bool = False, **details: object
) -> Strike:
    """Let the simulator's exchanges do wrong, all of them at once.

    ``anew`` cuts the connections as well: it is the next ones that meet the fault.
    """

    @asynccontextmanager
    async def strike(fleet: Fleet) -> AsyncIterator[None]:
        standing = [
            fleet.simulator.fault(name, fault, value=value, **details)
            for name in STREAMING
        ]
        for name in STREAMING if anew else ():
            fleet.simulator.fault(name, "cut")
        yield
        struck = [one.struck for one in standing]
        assert fault not in _COUNTED or any(struck), f"{fault} has not struck"
        fleet.simulator.clear_faults()

    return strike


@asynccontextmanager
async def exchange_lies(fleet: Fleet) -> AsyncIterator[None]:
    """Let one exchange say ten times the price that the other one says."""
    symbol = SYMBOLS[LEADING]["coinbase"]
    listed = fleet.simulator.exchanges["coinbase"].find(symbol)
    assert listed is not None
    quote = listed.look()
    lie = quote.price(quote.last * 10)
    fleet.sent.lies.add(lie)
    fleet.simulator.set_price("coinbase", symbol, lie)
    yield
    fleet.sent.lies.discard(lie)


class _Altered:
    """Changes what passes, and counts how often it has changed anything."""

    def __init__(self, change: Bytes) -> None:
        self._change, self.times = change, 0

    def __call__(self, chunk: bytes) -> bytes:
        changed = self._change(chunk)
        self.times += changed != chunk
        return changed


def wire(*, down: Bytes | None = None, drip: bool = False) -> Strike:
    """Let what comes from the exchanges be changed on its way.

    Connections are cut before and after, so that the handshakes and the REST answers
    pass through it as well.
    """

    @asynccontextmanager
    async def strike(fleet: Fleet) -> AsyncIterator[None]:
        proxies = _proxies(fleet.workers, ("exchanges",))
        altered = _Altered(down or bytes)
        for proxy in proxies:
            proxy.drip = drip
            proxy.down = altered
            proxy.cut()
        await eventually(lambda: drip or altered.times > 0)
        yield
        for proxy in proxies:
            proxy.heal()
            proxy.cut()

    return strike


def _replacing(old: bytes, new: bytes) -> Bytes:
    return lambda chunk: chunk.replace(old, new)


def _endless(chunk: bytes) -> bytes:
    """Begin a message where a WebSocket begins, and never end it (RFC 6455, 5.4)."""
    if chunk.startswith(b"HTTP/1.1 101"):
        return chunk + _fragment(1, b"{")
    return chunk if chunk.startswith(b"HTTP/") else _fragment(0, chunk[:1] * 120_000)


def _fragment(opcode: int, payload: bytes) -> bytes:
    """Write a frame that does not end its message: ``encode_frame`` with FIN taken."""
    whole = encode_frame(payload, opcode)
    return bytes((opcode,)) + whole[1:]


def _halved(match: re.Match[bytes]) -> bytes:
    return match[1] + b"%d" % (int(match[2]) // 2)


_LENGTH: Final = re.compile(rb"(Content-Length: )(\d+)")
# As many octets as before: what stands around them still fits.
_PRICE: Final = re.compile(
    rb'("(?:price|last|bid|ask|best_bid|best_ask|c|b|a|p|\w+Price)":"?)\d'
)

TOO_LONG: Final = _replacing(b"Content-Length: ", b"Content-Length: 9")
TOO_SHORT: Final[Bytes] = partial(_LENGTH.sub, _halved)
WRONG_ENCODING: Final = _replacing(b"content-type: ", b"content-encoding: gzip\r\nx: ")
NOT_UTF_8: Final = _replacing(b'"', b"\xff")
NEGATIVE: Final[Bytes] = partial(_PRICE.sub, rb"\1-")
ENDLESS: Final[Bytes] = _endless
DEEP: Final = '{"a":' * 50_000
HUGE: Final = '{"stream":"' + "9" * 5_000_000 + '"}'
"""More than ``ingest.frame_max``."""
