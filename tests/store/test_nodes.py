"""Several boards over one cluster, as managed Valkey runs it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace
from valkey.exceptions import ResponseError

from relay.config import Settings
from relay.errors import StoreDown
from relay.store.client import Client
from relay.store.keys import Keys
from relay.store.nodes import key_of, read_moved, read_slots
from relay.store.reader import Reader
from relay.store.tables import Tables
from tests.delivery.live import live
from tests.delivery.serving import Leader
from tests.functions.listening import listening
from tests.functions.proxy import Proxy
from tests.harness import open_client, until
from tests.ingest.toy import CERTIFICATE
from tests.store.cluster import Cluster, Node, clustered

SCRIPTS = sorted(Path(__file__).parents[2].glob("relay/store/scripts/*.lua"))
ADDRESS = ("127.0.0.1", 6379)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Return three primaries, the first with a replica."""
    async with clustered(tmp_path, replicas=1) as cluster:
        yield cluster


@pytest.fixture
async def routed(cluster: Cluster, settings: Settings) -> AsyncIterator[Client]:
    """Return a client that was told of one node."""
    async with open_client(cluster.primaries[1].url, settings) as client:
        yield client


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("GET", "a"), b"a"),
        (("HMGET", b"b", "name"), b"b"),
        (("EVALSHA", "digest", 2, "c", "d", "argument"), b"c"),
        (("XREAD", b"COUNT", b"5", b"BLOCK", b"9", b"STREAMS", "e", "0-0"), b"e"),
        (("TIME",), None),
    ],
)
def test_a_commands_first_key_says_where_it_goes(
    command: tuple[object, ...], key: bytes | None
) -> None:
    """All the others are of the same slot."""
    assert key_of(command) == key


def test_a_redirection_is_read_out_of_a_pipelines_error_too() -> None:
    """There the client library puts its own words around it."""
    error = ResponseError("Command # 1 (GET a) of pipeline: MOVED 15495 10.0.0.7:6380")
    moved = read_moved(error)
    assert moved is not None
    assert (moved.slot, moved.node) == (15495, ("10.0.0.7", 6380))
    assert read_moved(ResponseError("CROSSSLOT Keys in request")) is None


def test_a_node_without_a_name_is_where_it_was_asked() -> None:
    """One endpoint in front of them all answers like that."""
    answer = [[0, 16383, [b"", 6379, b"id", []], [b"10.0.0.9", 6380, b"id", []]]]
    ranges, nodes = read_slots(answer, "127.0.0.1")
    assert ranges[0].node == ADDRESS
    assert nodes == [ADDRESS, ("10.0.0.9", 6380)]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_no_script_asks_for_the_time(script: Path) -> None:
    """Managed Valkey may refuse that inside scripts; it comes as an argument."""
    text = script.read_text(encoding="utf-8").upper()
    assert "'TIME'" not in text
    assert '"TIME"' not in text


async def _lead(client: Client, board: str) -> Leader:
    leader = Leader(client, Keys(board))
    await leader.publish({"BTC-USD": "1", "ETH-USD": "2"})
    await leader.mark()
    return leader


async def test_boards_spread_over_the_cluster_are_led_and_read(
    cluster: Cluster, routed: Client
) -> None:
    """Every command of every room finds its node, whichever was named."""
    boards = cluster.boards("spread")
    for board in boards:
        leader = await _lead(routed, board)
        lease = await leader.lease()
        reader = Reader(routed, Keys(board))
        await leader.writer.list_symbols(lease, {"SOL-USD": ["kraken"]})
        assert await reader.ask(["SOL-USD"], most=5) == 1
        assert await leader.writer.demand(0) == ["SOL-USD"]
        points = {"BTC-USD": b'[1,"1"]', "ETH-USD": b'[1,"2"]'}
        await leader.writer.remember(lease, points, most=3, life_ms=60_000)
        assert await reader.recent("BTC-USD") == [b'[1,"1"]']
        assert await reader.symbols() == {"SOL-USD": ["kraken"]}
        assert (await reader.read(None)).head.offset == leader.offset
        async with reader.follow(wait_ms=100) as follower:
            assert len(await follower.after("0-0")) == 2
        await leader.writer.release(lease)
    sizes = [await node.ask("DBSIZE") for node in cluster.primaries]
    assert all(sizes)


@pytest.mark.serverless
async def test_exchanges_tables_find_their_nodes_as_well(
    cluster: Cluster, routed: Client
) -> None:
    """They are shared by all boards, and have slots of their own."""
    tables = Tables(routed)
    for name in ("binance", "coinbase", "kraken", "coingecko"):
        await tables.save_snapshot(name, now_ms=5, life_ms=60_000)
        assert (await tables.load(name)).snapshot_ms == 5
    assert sum([await node.ask("DBSIZE") for node in cluster.primaries]) == 4


@pytest.mark.serverless
async def test_a_slot_moves_while_clients_are_connected(
    cluster: Cluster, routed: Client, settings: Settings
) -> None:
    """They are redirected, and miss nothing."""
    board = cluster.boards("moving")[1]
    leader = await _lead(routed, board)
    async with (
        live(routed, Keys(board), settings, leader=leader) as relay,
        relay.stream("symbols=BTC-USD") as events,
    ):
        await events.next()
        await cluster.move(board, cluster.primaries[2])
        await leader.publish({"BTC-USD": "7"})
        assert (await events.next())["prices"]["BTC-USD"]["price"] == "7"


@pytest.mark.serverless
async def test_a_primary_dies_while_clients_are_connected(
    cluster: Cluster, routed: Client, settings: Settings
) -> None:
    """Its replica takes over, and the same stream goes on."""
    board = cluster.boards("failing")[0]
    leader = await _lead(routed, board)
    keys, home = Keys(board), cluster.home(board)
    async with (
        live(routed, keys, settings, leader=leader) as relay,
        relay.stream("symbols=BTC-USD") as events,
    ):
        await events.next()
        await _replicated(cluster, leader)
        await home.die()

        async def published() -> bool:
            try:
                await leader.publish({"BTC-USD": "8"})
            except StoreDown:
                return False
            return True

        await until(published)
        with anyio.fail_after(10):
            while True:
                body = await events.next()
                # In between it may be told that nothing is live.
                if "BTC-USD" in body["prices"]:
                    break
        assert body["prices"]["BTC-USD"]["price"] == "8"
        assert "reset" not in body


async def _replicated(cluster: Cluster, leader: Leader) -> None:
    """Wait until the replica holds what was published."""
    (replica,) = cluster.replicas

    async def holds() -> bool:
        info = await replica.ask("INFO", "replication")
        home = await cluster.primaries[0].ask("INFO", "replication")
        linked = info.get("master_link_status") == "up"
        offset = info.get("slave_repl_offset")
        return bool(linked and offset == home["master_repl_offset"])

    assert leader.offset
    await until(holds)


@pytest.mark.serverless
async def test_a_cluster_that_is_gone_is_a_store_that_is_down(
    cluster: Cluster, routed: Client
) -> None:
    """Said in good time, and not tried for ever."""
    leader = await _lead(routed, cluster.boards("gone")[2])
    for node in (*cluster.primaries, *cluster.replicas):
        await node.die()
    with anyio.fail_after(3), pytest.raises(StoreDown):
        await leader.mark()


@pytest.mark.serverless
async def test_the_node_that_was_named_may_die(
    cluster: Cluster, settings: Settings
) -> None:
    """The others are known by then."""
    seed, board = cluster.primaries[0], cluster.boards("seedless")[2]
    async with open_client(seed.url, replace(settings)) as client:
        leader = await _lead(client, board)
        await seed.die()
        await leader.mark()
        async with asyncio.timeout(5):
            assert (await Reader(client, Keys(board)).read(())).head.alive


@pytest.fixture
async def behind_tls(tmp_path: Path) -> AsyncIterator[str]:
    """Return the address of a cluster that is reached over TLS alone."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(CERTIFICATE)
    nodes: list[Node] = []

    def proxy(number: int) -> Proxy:
        return Proxy(lambda: asyncio.open_connection("127.0.0.1", nodes[number].port))

    async with AsyncExitStack() as stack:
        places = [
            await stack.enter_async_context(listening(proxy(number).serve, tls))
            for number in range(3)
        ]
        ports = [port for _, port in places]
        cluster = await stack.enter_async_context(clustered(tmp_path, announced=ports))
        nodes += cluster.primaries
        yield f"valkeys://127.0.0.1:{ports[0]}"


@pytest.mark.serverless
async def test_every_node_is_reached_over_tls(
    behind_tls: str, settings: Settings
) -> None:
    """With the certificates and the names checked, and one context for them all."""
    url = f"{behind_tls}?ssl_ca_certs={CERTIFICATE}"
    async with open_client(url, settings) as client:
        for number in range(12):
            leader = await _lead(client, f"tls-{number}")
            reader = Reader(client, Keys(f"tls-{number}"))
            assert (await reader.read(None)).head.offset == leader.offset
        kinds = {pool.connection_class for pool in client.valkey.pools}
        contexts = {
            id(pool.connection_kwargs["context"]) for pool in client.valkey.pools
        }
    assert len(client.valkey.pools) == 3
    assert len(kinds) == len(contexts) == 1


@pytest.mark.serverless
async def test_a_certificate_that_nobody_vouches_for_is_refused(
    behind_tls: str, settings: Settings
) -> None:
    """Encrypted to whoever answers is not enough."""
    with pytest.raises(StoreDown, match="certificate"):
        async with open_client(behind_tls, settings):
            pass
