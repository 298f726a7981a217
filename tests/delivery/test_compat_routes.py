"""The older routes over real sockets, read by a client that knows nothing newer."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import anyio
import pytest
from msgspec.structs import replace

from relay.config import Settings
from relay.delivery.doors import make_key
from relay.model import Ticker
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.linting import lint
from tests.delivery.live import Live, live
from tests.delivery.older_client import Body, OlderClient, read_instant
from tests.delivery.serving import Leader, make_hub, serving
from tests.harness import eventually, until

BTC = Ticker(price="45000.50", source="coincap", received_ms=1_768_539_600_000)
ETH = Ticker(price="3000.10", source="coincap", received_ms=1_768_539_599_000)
EUR = Ticker(price="41000", source="kraken", received_ms=1_768_539_598_000)
DOWN = b'{"sources":{"coincap":{"alive":false,"reason":"reset by peer"}}}'
KEY, LINE = make_key("operator", "admin")


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Return settings of an instance that beats often and has an admin key."""
    http = replace(settings.http, heartbeat_ms=200, older_pace_ms=300)
    doors = replace(settings.doors, keys=(LINE,))
    return replace(settings, http=http, doors=doors)


@pytest.fixture
async def leader(client: Client, keys: Keys) -> Leader:
    """Return a leader that has published three prices."""
    leader = Leader(client, keys)
    await leader.publish({"BTC-USD": BTC, "ETH-USD": ETH, "BTC-EUR": EUR})
    return leader


@pytest.fixture
async def relay(
    client: Client, keys: Keys, quick: Settings, leader: Leader
) -> AsyncIterator[Live]:
    """Return a running instance."""
    async with live(client, keys, quick, leader=leader) as relay:
        yield relay


@pytest.fixture
async def older(relay: Live) -> AsyncIterator[OlderClient]:
    """Return a front end of an earlier system."""
    older = OlderClient(relay.url)
    yield older
    await older.close()


async def test_all_prices_go_by_the_names_of_old(
    older: OlderClient, relay: Live
) -> None:
    """The slug where there is one; an instrument in euros has none."""
    body = await older.everything()
    assert body["prices"] == {
        "BTC-EUR": "41000",
        "bitcoin": "45000.50",
        "ethereum": "3000.10",
    }
    assert (body["source"], body["count"]) == ("coincap", 3)
    assert read_instant(body["timestamp"]) == relay.leader.offset / 1000
    await relay.leader.publish({"ETH-USD": Ticker(removed=True)})

    async def is_gone() -> bool:
        return "ethereum" not in (await older.everything())["prices"]

    await until(is_gone)


@pytest.mark.parametrize("asked", ["bitcoin", "BTC", "btc", "BTC/USD", "btc-usd"])
async def test_one_price_goes_by_the_id_that_was_asked_for(
    older: OlderClient, asked: str
) -> None:
    """The front end finds it under the name that it knows."""
    assert await older.price(asked) == {
        "symbol": asked,
        "price": "45000.50",
        "source": "coincap",
        "timestamp": "2026-01-16T05:00:00.000Z",
        "cached": False,
    }


@pytest.mark.parametrize("asked", ["nothing", "NO/THING", "%20", "a,b", "x" * 500])
async def test_a_price_that_is_not_known_is_404_with_a_reason(
    relay: Live, older: OlderClient, asked: str
) -> None:
    """Whether it cannot be an instrument, or is only not on the board."""
    assert await older.price(asked) is None
    answer = await relay.asker.get(f"/api/prices/{asked}")
    assert answer.json()["error"]["code"] == "price_unknown"


async def test_some_prices_go_by_their_ids_and_name_what_is_missing(
    older: OlderClient,
) -> None:
    """Pairs with a slash among them, which comes as a part of the path."""
    body = await older.bulk("btc", "eth", "sol", "BTC/USD", "!!", "ethereum")
    assert body["prices"] == {
        "btc": "45000.50",
        "eth": "3000.10",
        "BTC/USD": "45000.50",
        "ethereum": "3000.10",
    }
    assert body["missing"] == ["sol", "!!"]
    assert body["timestamp"] == "2026-01-16T05:00:00.000Z"
    nothing = await older.bulk("sol")
    assert (nothing["prices"], nothing["missing"]) == ({}, ["sol"])


async def test_too_many_ids_are_refused(relay: Live, quick: Settings) -> None:
    """As in every other selection."""
    ids = ",".join(f"c{number}" for number in range(quick.http.selection_max + 1))
    answer = await relay.asker.get(f"/api/prices/bulk/{ids}")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "selection_invalid"


async def test_reads_are_cached_for_a_moment_and_conditional(relay: Live) -> None:
    """As the newer ones; a parameter that keeps caches away is no error."""
    for path in ("/api/prices", "/api/prices/btc?_=7", "/api/prices/bulk/btc,x"):
        answer = await relay.asker.get(path)
        assert answer.headers["cache-control"].startswith("public, max-age=1,")
        condition = {"if-none-match": answer.headers["etag"]}
        again = await relay.asker.get(path, headers=condition)
        assert (again.status_code, again.content) == (304, b"")


async def test_a_large_board_is_compressed_for_who_takes_it(relay: Live) -> None:
    """As every other read; each coding has a tag of its own."""
    names = {f"COIN{number}-USD": f"{number}.5" for number in range(100)}
    await relay.leader.publish(names)
    await eventually(lambda: relay.hub.board.offset == relay.leader.offset)
    tags = set()
    for coding in ("gzip", "zstd", "identity"):
        headers = {"accept-encoding": coding}
        answer = await relay.asker.get("/api/prices", headers=headers)
        assert answer.headers.get("content-encoding", "identity") == coding
        assert answer.headers["vary"] == "accept-encoding"
        assert answer.json()["prices"]["COIN7-USD"] == "7.5"
        tags.add(answer.headers["etag"])
    assert len(tags) == 3


async def test_the_health_follows_the_leader(older: OlderClient, relay: Live) -> None:
    """Connected while sources live, reconnecting while the leader has none."""
    healthy = {
        "healthy": True,
        "state": "connected",
        "source": "coincap",
        "prices_cached": 3,
    }
    health = "/api/prices/status/health"
    assert await older.get(health) == healthy
    circuit = await older.get("/api/market-data/health")
    assert circuit.pop("newestPriceAgeMs") > 0
    assert circuit == {
        "state": "connected",
        "source": "coincap",
        "activeConnections": 0,
        "circuitState": "closed",
    }

    async def is_lost() -> bool:
        await relay.leader.mark(health=DOWN)
        return bool((await older.get(health))["state"] == "reconnecting")

    await until(is_lost)
    assert (await older.get(health))["healthy"] is False
    circuit = await older.get("/api/market-data/health")
    assert circuit["circuitState"] == "half-open"
    # What is answered now comes from the store, while nothing streams.
    price = await older.price("btc")
    assert price is not None
    assert price["cached"] is True
    async with older.stream("BTC/USD") as stream:
        assert (await stream.next())["cached"] is True


async def test_a_price_that_is_stale_is_cached(older: OlderClient, relay: Live) -> None:
    """Whatever else streams."""
    await relay.leader.publish({"BTC-USD": replace(BTC, stale=True)})
    await eventually(lambda: relay.hub.board.offset == relay.leader.offset)
    btc, eth = await older.price("btc"), await older.price("eth")
    assert btc is not None
    assert eth is not None
    assert (btc["cached"], eth["cached"]) == (True, False)


async def test_nobody_ingesting_is_disconnected(
    client: Client, keys: Keys, quick: Settings, leader: Leader
) -> None:
    """And is told to whom a WebSocket is open."""
    quick = replace(quick, ingest=replace(quick.ingest, beat_ms=700))
    async with live(client, keys, quick, leader=leader) as relay:
        older = OlderClient(relay.url)
        async with older.socket("BTC") as one:
            while one.state != "disconnected":
                await one.hear()
            health = await older.get("/api/prices/status/health")
            circuit = await older.get("/api/market-data/health")
        await older.close()
    assert (health["healthy"], health["state"]) == (False, "disconnected")
    assert (circuit["circuitState"], circuit["activeConnections"]) == ("open", 1)


METRICS = "/api/prices/metrics"


async def test_the_counters_count_what_came_and_what_was_asked(
    older: OlderClient, relay: Live
) -> None:
    """Real ones: nothing of it is made up."""
    for number in range(4):
        await relay.leader.publish({"BTC-USD": f"{number + 1}"})
    await eventually(lambda: relay.hub.board.offset == relay.leader.offset)
    assert await older.price("btc") is not None
    assert await older.price("nope") is None
    counted = await older.get(METRICS)
    assert list(counted) == ["updates", "connections", "errors", "performance"]
    updates = counted["updates"]
    assert updates["total"] == 4
    assert updates["per_second"] > 0
    assert read_instant(updates["last_timestamp"]) == relay.leader.offset // 1000
    assert counted["performance"]["avg_processing_time_ms"] >= 0
    assert counted["performance"]["cache_hit_rate_percent"] == 50


UP = {"state": "open", "since_ms": 1_768_539_600_000, "error": ""}
LOST = {"state": "waiting", "since_ms": 1_768_539_700_000, "error": "cut"}
BACK = {"state": "open", "since_ms": 1_768_539_800_000, "error": "cut"}


async def test_connections_and_errors_are_counted_by_the_leaders_word(
    older: OlderClient, relay: Live
) -> None:
    """One opened, was cut, and opened again."""

    async def tell(line: dict[str, object]) -> Body:
        health = json.dumps({"streams": {"coincap": [line]}}).encode()
        await relay.leader.mark_until(
            lambda: bytes(relay.hub.health) == health, health=health
        )
        return await older.get(METRICS)

    await tell(UP)
    await tell(LOST)
    counted = await tell(BACK)
    connections = counted["connections"]
    assert connections.pop("last_duration_seconds") > 0
    assert connections == {
        "total": 2,
        "reconnect_attempts": 1,
        "last_connected": "2026-01-16T05:03:20Z",
    }
    assert counted["errors"]["total"] == 1
    code, words, when = counted["errors"]["recent"][0]
    assert (code, words) == ("CONNECTION_LOST", "coincap: cut")
    assert read_instant(when) > 0


async def test_the_counters_are_set_back_with_the_admin_key_alone(
    older: OlderClient, relay: Live
) -> None:
    """Nobody else sets them back."""
    await relay.leader.publish({"BTC-USD": "1"})
    await eventually(lambda: relay.hub.counts.updates == 1)
    assert await older.reset() == 401
    assert await older.reset("wrong") == 401
    assert (await older.get(METRICS))["updates"]["total"] == 1
    assert await older.reset(KEY) == 200
    anew = await older.get(METRICS)
    assert anew["updates"]["total"] == 0
    assert anew["connections"]["total"] == 0
    assert anew["errors"] == {"total": 0, "recent": []}
    assert anew["performance"]["cache_hit_rate_percent"] == 0


async def test_without_an_admin_key_nothing_is_set_back(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """An empty key opens nothing."""
    async with serving(client, keys, settings) as asker:
        for key in ("", " ", "x"):
            headers = {"authorization": f"Bearer {key}"}
            path = "/api/prices/metrics/reset"
            answer = await asker.post(path, headers=headers)
            assert answer.status_code == 403
            assert answer.json()["error"]["code"] == "forbidden"
        assert (await asker.get("/api/prices/metrics/reset")).status_code == 405


async def test_without_a_hub_the_reads_come_from_the_store(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """What a function answers; what it cannot count is 0 or null."""
    async with serving(client, keys, settings) as asker:
        price = (await asker.get("/api/prices/btc")).json()
        health = (await asker.get("/api/prices/status/health")).json()
        await leader.mark()
        alive = (await asker.get("/api/prices/status/health")).json()
        counted = (await asker.get("/api/prices/metrics")).json()
    assert (price["price"], price["cached"]) == ("45000.50", True)
    assert (health["state"], health["prices_cached"]) == ("disconnected", 3)
    assert (alive["state"], alive["healthy"]) == ("connected", True)
    assert counted["updates"] == {
        "total": 0,
        "per_second": 0.0,
        "last_timestamp": None,
    }


async def test_a_socket_greets_then_sends_everything_then_what_changed(
    older: OlderClient, relay: Live
) -> None:
    """The shapes of old, and the state after the first prices."""
    async with older.socket() as everything:
        hello = await everything.hear()
        assert isinstance(hello, dict)
        assert list(hello) == ["type", "status", "timestamp"]
        assert (hello["type"], hello["status"]) == ("connection", "connected")
        read_instant(hello["timestamp"])
        first = await everything.hear()
        assert isinstance(first, dict)
        assert first["type"] == "price_update"
        assert sorted(first["prices"]) == ["BTC-EUR", "bitcoin", "ethereum"]
        assert first["source"] == "coincap"
        told = await everything.hear()
        assert isinstance(told, dict)
        read_instant(told.pop("timestamp"))
        assert told == {
            "type": "status",
            "state": "connected",
            "source": "coincap",
            "prices_cached": 3,
        }
        await relay.leader.publish({"ETH-USD": replace(ETH, price="3000.20")})
        changed = await everything.hear_until("price_update")
        assert changed["prices"] == {"ethereum": "3000.20"}


@pytest.mark.parametrize("asked", ["btc", "BTC/USD", "bitcoin"])
async def test_a_socket_for_one_price_hears_of_no_other(
    older: OlderClient, relay: Live, asked: str
) -> None:
    """Under the id of its address."""
    async with older.socket(asked) as one:
        first = await one.hear_until("price_update")
        assert first["prices"] == {asked: "45000.50"}
        await relay.leader.publish({"ETH-USD": replace(ETH, price="3000.20")})
        await relay.leader.publish({"BTC-USD": replace(BTC, price="45000.60")})
        changed = await one.hear_until("price_update")
        assert changed["prices"] == {asked: "45000.60"}


async def test_a_socket_is_paced_and_hears_the_newest(
    older: OlderClient, relay: Live, quick: Settings
) -> None:
    """What comes faster is conflated; between two updates lies the pace."""
    async with older.socket("btc") as one:
        await one.hear_until("price_update")
        publishing = True

        async def publish() -> None:
            number = 0
            while publishing:
                number += 1
                await relay.leader.publish({"BTC-USD": f"{number}.50"})
            await relay.leader.publish({"BTC-USD": "7.77"})

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(publish())
            await one.hear_until("price_update")
            times = []
            for _ in range(4):
                await one.hear_until("price_update")
                times.append(asyncio.get_running_loop().time())
            publishing = False
            while one.prices["btc"] != "7.77":
                await one.hear()
        # A message may lie in a buffer for a moment, so whole steps are compared.
        assert times[-1] - times[0] > 2 * quick.http.older_pace_ms / 1000


async def test_a_socket_hears_no_second_update_within_the_pace_of_the_first(
    client: Client, keys: Keys, quick: Settings, leader: Leader
) -> None:
    """What changes meanwhile is conflated, also for who has only just come."""
    http = replace(quick.http, older_pace_ms=1500)
    async with live(client, keys, replace(quick, http=http), leader=leader) as relay:
        older = OlderClient(relay.url)
        async with older.socket("btc") as one:
            await one.hear_until("price_update")
            for number in range(1, 4):
                await relay.leader.publish({"BTC-USD": f"{number}.0"})
                await eventually(lambda: relay.hub.board.offset == relay.leader.offset)
            second = await one.hear_until("price_update")
            # A single change comes as well, if only after a while.
            await relay.leader.publish({"BTC-USD": "4.0"})
            third = await one.hear_until("price_update")
        await older.close()
    assert second["prices"] == {"btc": "3.0"}
    assert third["prices"] == {"btc": "4.0"}


async def test_an_early_update_that_nothing_follows_is_sent_all_the_same(
    older: OlderClient, relay: Live
) -> None:
    """After a little more than the pace."""
    async with older.socket("btc") as one:
        await one.hear_until("price_update")
        await relay.leader.publish({"BTC-USD": "1.0"})
        update = await one.hear_until("price_update")
    assert update["prices"] == {"btc": "1.0"}


async def test_pings_are_answered_in_their_own_words(older: OlderClient) -> None:
    """Text with text, JSON with JSON; other messages close nothing."""
    async with older.socket("btc") as one:
        await one.hear_until("status")
        await one.connection.send("ping")
        while await one.hear() != "pong":
            pass
        await one.connection.send('{"type":"ping"}')
        assert await one.hear_until("pong") == {"type": "pong"}
        for text in ("hello", '{"type":"subscribe","symbols":["BTC"]}'):
            await one.connection.send(text)
            told = await one.hear_until("error")
            assert told["error"]["code"] == "message_invalid"


async def test_a_quiet_socket_hears_the_state_now_and_then(
    older: OlderClient, relay: Live
) -> None:
    """A price that comes into being is heard of then."""
    async with older.socket("newcoin") as one:
        for _ in range(3):
            await one.hear_until("status")
        assert one.prices == {}
        await relay.leader.publish({"NEWCOIN-USD": "0.00001000"})
        await one.hear_until("price_update")
        assert one.prices == {"newcoin": "0.00001000"}


async def test_a_socket_for_what_cannot_be_is_told_why(older: OlderClient) -> None:
    """Closed with a reason, which is cut to what a close may carry."""
    async with older.socket("é!" + "é" * 200) as one:
        assert await one.hear_the_end() == 1008
        assert "not an instrument" in (one.connection.close_reason or "")


async def test_a_socket_is_refused_what_is_no_handshake(relay: Live) -> None:
    """With a reason in JSON."""
    answer = await relay.asker.get("/ws/prices")
    assert answer.status_code == 426
    assert (await relay.asker.post("/ws/prices")).status_code == 405
    answer = await relay.asker.get("/ws/prices/btc")
    assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
    assert answer.json()["error"]["code"] == "upgrade_required"
    assert (await relay.asker.post("/ws/prices/btc")).status_code == 405


async def test_a_client_that_is_sent_away_comes_back_and_misses_nothing(
    older: OlderClient, relay: Live
) -> None:
    """It asks for nothing in particular: what it missed is in what comes first."""
    async with older.follow("btc") as follower:
        await eventually(lambda: follower.prices == {"btc": "45000.50"})
        for mailbox in list(relay.hub.groups.streams):
            mailbox.end()
        await relay.leader.publish({"BTC-USD": replace(BTC, price="45000.60")})
        await eventually(lambda: follower.prices == {"btc": "45000.60"})
        await eventually(lambda: follower.opened == 2)
        assert follower.is_stale is False


async def test_draining_closes_older_sockets_with_a_reason(
    older: OlderClient, relay: Live
) -> None:
    """So that they come back, to another instance."""
    async with older.socket() as everything:
        await everything.hear_until("status")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(relay.hub.drain(200))
            assert await everything.hear_the_end() == 1012


async def test_a_stream_has_an_event_for_each_pair_and_change(
    older: OlderClient, relay: Live
) -> None:
    """The newest known price first; the number is the text without quotes."""
    async with older.stream("BTC/USD", "ETH/USD", "btc/eur") as stream:
        first = {event["pair"]: event for event in [await stream.next() for _ in "123"]}
        assert first["BTC/USD"] == {
            "pair": "BTC/USD",
            "price": "45000.50",
            "priceText": "45000.50",
            "timestamp": "1768539600000",
            "source": "coincap",
            "cached": False,
        }
        assert sorted(first) == ["BTC/USD", "ETH/USD", "btc/eur"]
        digits = "3000.12345678901234567890"
        await relay.leader.publish({"ETH-USD": replace(ETH, price=digits)})
        changed = await stream.next()
        assert (changed["pair"], changed["price"]) == ("ETH/USD", digits)
        # A comment now and then says that the line lives.
        await relay.leader.mark()
        before = stream.comments
        await eventually(lambda: not relay.hub.counts.stalled)
        async with asyncio.TaskGroup() as tasks:
            event = tasks.create_task(stream.next())
            await eventually(lambda: stream.comments > before)
            await relay.leader.publish({"BTC-USD": replace(BTC, price="45000.60")})
        assert event.result()["price"] == "45000.60"


async def test_a_pair_asked_for_by_a_new_stream_really_streams(
    older: OlderClient, relay: Live
) -> None:
    """The leader hears that somebody wants it, and what it publishes comes."""
    lease = await relay.leader.lease()
    await relay.leader.writer.list_symbols(lease, {"PEPE-USD": ["coinbase"]})
    async with older.stream("BTC/USD") as stream:
        await stream.next()
    async with older.stream("BTC/USD", "PEPE/USD") as stream:
        assert (await stream.next())["pair"] == "BTC/USD"

        async def is_wanted() -> bool:
            return "PEPE-USD" in await relay.leader.writer.demand(0)

        await until(is_wanted)
        await relay.leader.publish({"PEPE-USD": "0.00000812"})
        assert (await stream.next())["price"] == "0.00000812"


@pytest.mark.parametrize(
    "query", ["", "?pairs=", "?pairs=!!", "?pair=BTC/USD", "?pairs=%FF"]
)
async def test_a_stream_of_nothing_is_refused(relay: Live, query: str) -> None:
    """With a reason in JSON."""
    answer = await relay.asker.get(f"/api/market-data/stream{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["hint"]


async def test_a_stream_answers_head_and_no_other_method(relay: Live) -> None:
    """The headers alone, and at once."""
    path = "/api/market-data/stream?pairs=BTC/USD&cache=no"
    head = await relay.asker.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["cache-control"] == "no-store"
    assert (await relay.asker.post(path)).status_code == 405


async def test_a_stream_ends_after_its_life(
    client: Client, keys: Keys, quick: Settings, leader: Leader
) -> None:
    """It says when to come back, and is counted out."""
    http = replace(quick.http, stream_life_ms=200, stream_life_jitter_ms=50)
    async with live(client, keys, replace(quick, http=http), leader=leader) as relay:
        path = "/api/market-data/stream?pairs=BTC/USD"
        answer = await relay.asker.get(path)
        last = answer.text.strip().rpartition("\n\n")[2]
        assert 1000 <= int(last.removeprefix("retry: ")) < 2000
        await eventually(lambda: relay.hub.counts.clients["sse"] == 0)


async def test_older_streams_have_no_events_with_names(
    older: OlderClient, relay: Live
) -> None:
    """What newer ones are told of sources is passed over, and disturbs nothing."""
    up = b'{"sources":{"coincap":{"alive":true,"reason":""}}}'
    async with relay.asker.stream(
        "GET", "/api/market-data/stream?pairs=BTC/USD"
    ) as answer:
        lines = answer.aiter_lines()
        await relay.leader.mark_until(lambda: bytes(relay.hub.health) == up, health=up)
        await relay.leader.mark_until(
            lambda: bytes(relay.hub.health) == DOWN, health=DOWN
        )
        assert relay.hub.groups.notice
        async with older.stream("BTC/USD") as stream:
            await stream.next()
            await relay.leader.publish({"BTC-USD": "1.25"})
            assert (await stream.next())["price"] == "1.25"
        heard = []
        async for line in lines:
            heard.append(line)
            if "1.25" in line:
                break
    assert not [line for line in heard if line.startswith(("event:", "id:"))]


async def test_a_stream_that_is_left_is_noticed(
    older: OlderClient, relay: Live
) -> None:
    """When it is next looked at."""
    async with older.stream("BTC/USD") as stream:
        await stream.next()
        assert relay.hub.counts.clients["sse"] == 1
    await eventually(lambda: relay.hub.counts.clients["sse"] == 0)


async def test_a_slow_older_client_costs_only_itself(
    client: Client, keys: Keys, quick: Settings
) -> None:
    """Held back, conflated, and cut off after the deadline, with its reason counted."""
    http = replace(quick.http, write_deadline_ms=400)
    names = [f"COIN{number}-USD" for number in range(400)]
    pairs = ",".join(name.replace("-", "/") for name in names)
    async with live(client, keys, replace(quick, http=http)) as relay:
        older = OlderClient(relay.url)
        host, _, port = relay.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            path = f"/api/market-data/stream?pairs={pairs}"
            lazy.sendall(f"GET {path} HTTP/1.1\r\nhost: relay.test\r\n\r\n".encode())
            async with older.stream("COIN0/USD") as brisk:
                with anyio.fail_after(15):
                    round_ = 0
                    while not relay.hub.counts.cut_off:
                        round_ += 1
                        price = f"{round_}.{'1' * 500}"
                        await relay.leader.publish(dict.fromkeys(names, price))
                        assert (await brisk.next())["price"] == price
        await older.close()
        assert relay.hub.counts.cut_off == {"write_deadline": 1}


async def test_older_clients_share_what_is_written(
    older: OlderClient, relay: Live
) -> None:
    """Encoded once for a group, and shared with the newer ways out."""
    async with (
        relay.stream("symbols=BTC-USD") as newer,
        older.stream("BTC/USD") as one,
        older.stream("BTC/USD") as two,
    ):
        await newer.next()
        await one.next()
        await two.next()
        encoded = relay.hub.counts.encoded
        await relay.leader.publish({"BTC-USD": "61001"})
        assert (await newer.next())["prices"]["BTC-USD"]["price"] == "61001"
        assert await one.next() == await two.next()
        assert relay.hub.counts.encoded == encoded + 1


@pytest.mark.parametrize(
    "asked",
    [
        ("GET", "/api/prices", 200),
        ("HEAD", "/api/prices", 200),
        ("GET", "/api/prices/btc", 200),
        ("GET", "/api/prices/nope", 404),
        ("GET", "/api/prices/bulk/btc,nope", 200),
        ("GET", "/api/prices/status/health", 200),
        ("GET", "/api/prices/metrics", 200),
        ("POST", "/api/prices/metrics/reset", 403),
        ("GET", "/api/prices/metrics/reset", 405),
        ("GET", "/api/market-data/health", 200),
        ("HEAD", "/api/market-data/stream?pairs=BTC/USD", 200),
        ("GET", "/api/market-data/stream", 400),
        ("GET", "/ws/prices", 426),
    ],
)
@pytest.mark.usefixtures("leader")
async def test_every_older_answer_is_good_http(
    client: Client, keys: Keys, settings: Settings, asked: tuple[str, str, int]
) -> None:
    """Linted by somebody else."""
    method, path, status = asked
    hub = make_hub(client, keys, settings)
    async with serving(client, keys, settings, hub=hub) as asker:
        answer = await asker.request(method, path)
    assert (answer.status_code, lint(answer)) == (status, set())
