"""Which node of a cluster holds a key: learned from the nodes when one sends us on.

One server is a cluster that never does. What is sent stands in ``client``.
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Self

from msgspec import Struct
from valkey.asyncio import ConnectionPool, SSLConnection, Valkey
from valkey.asyncio.client import Pipeline
from valkey.asyncio.connection import ValkeySSLContext
from valkey.crc import key_slot
from valkey.exceptions import ConnectionError as ValkeyConnectionError
from valkey.exceptions import ResponseError, ValkeyError
from valkey.exceptions import TimeoutError as ValkeyTimeoutError

Address = tuple[str, int]
Send = Callable[[Valkey], Awaitable[Any]]

# https://valkey.io/topics/cluster-spec, "MOVED Redirection", read in November 2026.
_MOVED: Final = re.compile(r"MOVED (\d+) (\S*):(\d+)")
_SCRIPTS: Final = ("EVAL", "EVALSHA")
# Once where we believed it to be, once where we were sent, once more when that was old.
_TRIES: Final = 3
_GONE: Final = (ValkeyConnectionError, ValkeyTimeoutError, OSError)


class Range(Struct, frozen=True):
    """Slots from ``first`` to ``last``, and the node that has them."""

    first: int
    last: int
    node: Address


class Moved(Struct, frozen=True):
    """What a node says of a slot that is another's."""

    slot: int
    node: Address


def read_moved(error: ResponseError) -> Moved | None:
    """Return where an error sends us; None when it says something else."""
    match = _MOVED.search(str(error))
    return Moved(int(match[1]), (match[2], int(match[3]))) if match else None


def read_slots(answer: Iterable[Any], asked: str) -> tuple[list[Range], list[Address]]:
    """Read ``CLUSTER SLOTS``: the primaries' ranges, and every node there is.

    A node that does not know its own name is at ``asked``.
    """
    ranges, nodes = [], []
    for first, last, *members in answer:
        places = [((host or b"").decode() or asked, port) for host, port, *_ in members]
        ranges.append(Range(first, last, places[0]))
        nodes += places
    return ranges, nodes


def key_of(command: tuple[Any, ...]) -> bytes | None:
    """Return the first key of a command; None when it has none."""
    name, *rest = command
    if name in _SCRIPTS:
        rest = rest[2:]
    elif name == "XREAD":
        rest = rest[rest.index(b"STREAMS") + 1 :]
    if not rest:
        return None
    return rest[0] if isinstance(rest[0], bytes) else str(rest[0]).encode()


class Topology:
    """The nodes that are known, and which slots each has; shared by all that ask.

    ``age`` grows each time it is learned anew.
    """

    def __init__(self, seed: ConnectionPool) -> None:
        self.age = 0
        self._seed = seed
        self._pools: dict[Address, ConnectionPool] = {}
        self._ranges: list[Range] = []
        self._moved: dict[int, Address] = {}
        kwargs = seed.connection_kwargs
        self._home = kwargs.get("host", ""), kwargs.get("port", 0)

    @property
    def pools(self) -> list[ConnectionPool]:
        """Every pool there is, the seed's first."""
        return [self._seed, *self._pools.values()]

    def pool(self, key: bytes | None) -> ConnectionPool:
        """Return the connections to the node that has a key, as far as is known."""
        if not self._ranges or key is None:
            return self._seed
        slot = key_slot(key)
        if slot in self._moved:
            return self._at(self._moved[slot])
        for one in self._ranges:
            if one.first <= slot <= one.last:
                return self._at(one.node)
        return self._seed

    def _at(self, node: Address) -> ConnectionPool:
        if node == self._home:
            return self._seed
        if node not in self._pools:
            host, port = node
            options = {**self._seed.connection_kwargs, "host": host, "port": port}
            kind = self._seed.connection_class
            self._pools[node] = ConnectionPool(connection_class=kind, **options)
        return self._pools[node]

    async def learn(self, moved: Moved | None = None) -> bool:
        """Ask the nodes, one after the other; False when nobody knows a cluster.

        ``moved`` was said by a node just now, and may be newer than the answer.
        """
        for pool in self.pools:
            try:
                answer = await Valkey(connection_pool=pool).execute_command(  # type: ignore[no-untyped-call]
                    "CLUSTER", "SLOTS"
                )
            except (ValkeyError, OSError):
                continue
            asked = pool.connection_kwargs["host"]
            self._ranges, nodes = read_slots(answer, asked)
            for node in nodes:
                self._at(node)
            self._moved.clear()
            if moved is not None:
                self._moved[moved.slot] = moved.node[0] or asked, moved.node[1]
            self.age += 1
            return True
        return False

    @property
    def known(self) -> bool:
        """Whether there is a cluster."""
        return bool(self._ranges)


class Routed(Valkey):
    """A client that sends each command to the node that has its key.

    A transaction goes where its first key is: all keys of a board share one slot.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - the library's own
        super().__init__(**options)
        share_context(self.connection_pool)
        self._topology = Topology(self.connection_pool)
        self._alone = False
        self._nodes: dict[int, Valkey] = {}

    def client(self) -> Self:
        """Return a client with a connection of its own to each node it asks."""
        alone = type(self)(connection_pool=self.connection_pool)
        alone._topology, alone._alone = self._topology, True  # noqa: SLF001 - its own kind
        return alone

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001 - the library's own
        """Give the connections back; close them all unless they are another's."""
        for node in self._nodes.values():
            await node.aclose(close_connection_pool=False)
        if close_connection_pool is not False:
            for pool in self._topology.pools:
                await pool.aclose()

    @property
    def pools(self) -> list[ConnectionPool]:
        """The connections to every node that is known, the one that was named first."""
        return self._topology.pools

    async def forget_idle(self) -> None:
        """Close every connection that nobody is using."""
        for pool in self._topology.pools:
            await pool.disconnect(inuse_connections=False)

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - the library's own
        """Send one command."""

        async def send(node: Valkey) -> Any:  # noqa: ANN401 - each answers in its own shape
            return await node.execute_command(*args, **options)  # type: ignore[no-untyped-call]

        return await self.route(key_of(args), send)

    def pipeline(
        self,
        transaction: bool = True,  # noqa: FBT001, FBT002 - the library's own
        shard_hint: str | None = None,
    ) -> "RoutedPipeline":
        """Return a pipeline whose keys are all of one slot."""
        assert shard_hint is None
        return RoutedPipeline(self, transaction=transaction)

    async def route(self, key: bytes | None, send: Send) -> Any:  # noqa: ANN401 - each answers in its own shape
        """Send to the node that has the key, and where it sends us.

        What is sent may arrive twice. A slot in mid-migration (``ASK``, ``TRYAGAIN``)
        counts as a store that is away for a moment.
        """
        topology = self._topology
        for left in reversed(range(_TRIES)):
            age = topology.age
            try:
                return await send(self._node(topology.pool(key)))
            except ResponseError as error:
                moved = read_moved(error)
                if moved is None or not left:
                    raise
                await topology.learn(moved)
            except _GONE:
                # A node that is gone has a successor that the others know.
                if not topology.known or left < _TRIES - 1:
                    raise
                if topology.age == age and not await topology.learn():
                    raise
        raise AssertionError  # the last try returns or raises

    def _node(self, pool: ConnectionPool) -> Valkey:
        number = id(pool)  # pools live as long as the topology
        if number not in self._nodes:
            self._nodes[number] = Valkey(
                connection_pool=pool, single_connection_client=self._alone
            )
        return self._nodes[number]


class RoutedPipeline(Pipeline):
    """Commands that are sent together, to the node that has the first one's key."""

    def __init__(self, routed: Routed, *, transaction: bool) -> None:
        super().__init__(
            routed.connection_pool, routed.response_callbacks, transaction, None
        )
        self._routed = routed

    async def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002 - the library's own
        """Send what was gathered; returns the answers."""
        commands, self.command_stack = list(self.command_stack), []

        async def send(node: Valkey) -> Any:  # noqa: ANN401 - each answers in its own shape
            pipe = node.pipeline(transaction=self.is_transaction)
            pipe.command_stack = list(commands)
            return await pipe.execute(raise_on_error)

        answers: list[Any] = await self._routed.route(key_of(commands[0][0]), send)
        return answers


class _Tls(SSLConnection):
    """A connection over TLS that makes no context of its own: that takes 20 ms."""

    def __init__(self, *, context: ValkeySSLContext, **options: Any) -> None:  # noqa: ANN401 - the library's own
        super().__init__(**options)
        self.ssl_context = context


def share_context(pool: ConnectionPool) -> None:
    """Let all TLS connections of a pool, and of pools made like it, share a context."""
    if pool.connection_class is not SSLConnection:
        return
    options = pool.connection_kwargs
    options.setdefault("ssl_check_hostname", True)
    options["context"] = SSLConnection(**options).ssl_context
    pool.connection_class = _Tls
