"""The function that answers reads and polls, under the real runtime client."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable

import anyio
import pytest
from msgspec import Struct

from relay.clock import Clock
from relay.delivery.doors import make_key
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.serving import Leader
from tests.functions.events import Event, Told, http_api, rest_api, told
from tests.functions.proxy import Proxy, proxied
from tests.functions.runtime import Runtime, function
from tests.harness import until

PAIR = "symbols=BTC-USD,ETH-USD"
_BEAT_MS = 60_000

Format = Callable[..., Event]


class Api(Struct):
    """One function, and the leader of the board that it reads."""

    runtime: Runtime
    leader: Leader

    async def ask(self, path: str, query: str = "", *, seconds: float = 30) -> Told:
        """Ask as the HTTP API does."""
        outcome = await self.runtime.invoke(http_api(path, query), seconds=seconds)
        return told(outcome.answer)


@pytest.fixture
async def leader(client: Client, keys: Keys) -> Leader:
    """Return the leader of a board with two prices."""
    leader = Leader(client, keys)
    await leader.publish({"BTC-USD": "61000.10", "ETH-USD": "3000"})
    await leader.mark(beat_ms=_BEAT_MS)
    return leader


@pytest.fixture
async def api(valkey_url: str, keys: Keys, leader: Leader) -> AsyncIterator[Api]:
    """Return a function that reads the board."""
    environ = {"RELAY_VALKEY_URL": valkey_url, "RELAY_BOARD": keys.board}
    async with function("functions.api.handler", environ) as runtime:
        yield Api(runtime, leader)


@pytest.mark.parametrize("made", [http_api, rest_api])
async def test_both_payload_formats_are_answered(api: Api, made: Format) -> None:
    """The HTTP API and the function URL send one, the REST API the other."""
    event = made("/v1/prices", "symbols=BTC-USD,NO-USD")
    answer = told((await api.runtime.invoke(event)).answer)
    assert answer.status == 200
    assert answer.json["live"] is True
    assert answer.json["prices"]["BTC-USD"]["price"] == "61000.10"
    assert answer.json["missing"] == ["NO-USD"]
    assert answer.headers["content-type"] == "application/json"

    headers = {"If-None-Match": answer.headers["etag"]}
    event = made("/v1/prices", "symbols=BTC-USD,NO-USD", headers=headers)
    again = told((await api.runtime.invoke(event)).answer)
    assert (again.status, again.text) == (304, "")
    assert again.headers["etag"] == answer.headers["etag"]


@pytest.mark.parametrize("made", [http_api, rest_api])
async def test_bodies_and_errors_pass_the_gateway(api: Api, made: Format) -> None:
    """A client cannot tell that there is a function behind the address."""
    worth = made(
        "/v1/value",
        method="POST",
        headers={"content-type": "application/json"},
        body='{"holdings":{"BTC-USD":"0.5"}}',
    )
    answer = told((await api.runtime.invoke(worth)).answer)
    assert (answer.status, answer.json["value"]) == (200, "30500.05")

    nowhere = told((await api.runtime.invoke(made("/nowhere"))).answer)
    assert (nowhere.status, nowhere.json["error"]["code"]) == (404, "not_found")
    asked = made("/v1/poll", "cursor=nonsense")
    wrong = told((await api.runtime.invoke(asked)).answer)
    assert wrong.status == 400


async def test_an_event_that_is_no_request_fails_alone(api: Api) -> None:
    """The platform hears of it, and the next one is answered."""
    outcome = await api.runtime.invoke({"what": "ever"})
    assert outcome.kind == "error"
    assert (await api.ask("/v1/prices")).status == 200


async def test_without_a_store_it_does_not_start() -> None:
    """The platform's log then says which variable is missing."""
    async with function("functions.api.handler", {}) as runtime:
        error = await asyncio.wait_for(runtime.init_error, 15)
    assert "RELAY_VALKEY_URL" in error["errorMessage"]


async def test_a_store_that_is_away_is_said_at_once() -> None:
    """Nothing that was read earlier is answered in its place."""
    environ = {"RELAY_VALKEY_URL": "valkey://127.0.0.1:1"}
    async with function("functions.api.handler", environ) as runtime:
        answer = told((await runtime.invoke(http_api("/v1/prices"))).answer)
    assert (answer.status, answer.json["error"]["code"]) == (503, "store_down")


async def test_a_poll_is_held_until_something_changes(api: Api) -> None:
    """Without a hub it looks at the store after each mark."""
    cursor = (await api.ask("/v1/poll", PAIR)).json["cursor"]
    held = api.runtime.begin(http_api("/v1/poll", f"{PAIR}&wait=20s&cursor={cursor}"))
    done, _ = await asyncio.wait({held}, timeout=0.3)
    assert not done
    await api.leader.publish({"ETH-USD": "3001"})
    answer = told((await asyncio.wait_for(held, 5)).answer)
    assert {k: v["price"] for k, v in answer.json["prices"].items()} == {
        "ETH-USD": "3001"
    }
    assert answer.headers["cache-control"] == "public, max-age=0, s-maxage=1"


async def test_a_poll_ends_before_the_platform_does(api: Api) -> None:
    """The platform's deadline is nearer than the wait: the client's own place."""
    cursor = (await api.ask("/v1/poll", PAIR)).json["cursor"]
    query = f"{PAIR}&wait=20s&cursor={cursor}"
    answer = await api.ask("/v1/poll", query, seconds=5)
    assert answer.status == 200
    assert answer.json["cursor"].startswith(f"{cursor}~")
    assert (answer.json["prices"], answer.json["live"]) == ({}, True)


async def test_a_poll_past_its_deadline_is_not_held_at_all(api: Api) -> None:
    """Waking took all the time there was."""
    cursor = (await api.ask("/v1/poll", PAIR)).json["cursor"]
    answer = await api.ask("/v1/poll", f"{PAIR}&wait=20s&cursor={cursor}", seconds=2)
    assert answer.json["cursor"].startswith(f"{cursor}~")


async def test_a_warm_function_reads_anew_over_connections_that_died(
    api: Api, client: Client
) -> None:
    """Dead sockets are found and replaced within one request."""
    first = await api.ask("/v1/prices", PAIR)
    mine = await client.valkey.client_id()
    for one in await client.valkey.client_list():
        if one["id"] != str(mine):
            await client.valkey.client_kill_filter(_id=one["id"])
    await api.leader.publish({"BTC-USD": "62000"})
    second = await api.ask("/v1/prices", PAIR)
    assert first.json["prices"]["BTC-USD"]["price"] == "61000.10"
    assert second.json["prices"]["BTC-USD"]["price"] == "62000"


@pytest.fixture
async def proxy(valkey_url: str) -> AsyncIterator[Proxy]:
    """Return what stands between a function and the store."""
    async with proxied(valkey_url) as proxy:
        yield proxy


@pytest.mark.serverless
async def test_frozen_between_requests_it_wakes_over_connections_gone_silent(
    proxy: Proxy, keys: Keys, leader: Leader
) -> None:
    """Nobody says that they are gone; waiting for their time-outs takes too long."""
    environ = {"RELAY_VALKEY_URL": proxy.url, "RELAY_BOARD": keys.board}
    async with function("functions.api.handler", environ) as runtime:
        api = Api(runtime, leader)
        await api.ask("/v1/prices", PAIR)
        runtime.send(signal.SIGSTOP)
        proxy.fall_silent()
        await leader.publish({"BTC-USD": "62000"})
        await anyio.sleep(3.2)  # longer than http.quiet_ms: this is the freeze itself
        runtime.send(signal.SIGCONT)
        answer = await api.ask("/v1/prices", PAIR, seconds=1.5)
    assert answer.json["prices"]["BTC-USD"]["price"] == "62000"


async def test_frozen_while_it_holds_a_poll_it_answers_what_is_true_on_waking(
    api: Api, client: Client, keys: Keys
) -> None:
    """The board has moved, and whoever moved it has gone: both are told."""
    cursor = (await api.ask("/v1/poll", PAIR)).json["cursor"]
    held = api.runtime.begin(http_api("/v1/poll", f"{PAIR}&wait=20s&cursor={cursor}"))
    # Its look at the store is over, and it waits for the next mark.
    await anyio.sleep((1000 - Clock().wall_ms() % 1000 + 300) / 1000)
    api.runtime.send(signal.SIGSTOP)
    await api.leader.publish({"BTC-USD": "63000"})
    await api.leader.mark(beat_ms=1)

    async def quiet() -> bool:
        return not await client.valkey.exists(keys.beat)

    await until(quiet)
    api.runtime.send(signal.SIGCONT)
    answer = told((await asyncio.wait_for(held, 5)).answer)
    assert answer.json["prices"]["BTC-USD"]["price"] == "63000"
    assert answer.json["live"] is False


async def test_what_clients_ask_for_is_noted_before_the_answer(
    api: Api, client: Client, keys: Keys
) -> None:
    """Nothing runs after it: a note that waits would wait for ever."""
    lease = await api.leader.lease()
    await api.leader.writer.list_symbols(lease, {"PEPE-EUR": ["kraken"]})
    await api.ask("/v1/prices", "symbols=PEPE-EUR")
    assert await client.valkey.zscore(keys.demand, "PEPE-EUR") is not None


@pytest.mark.parametrize("made", [http_api, rest_api])
async def test_its_doors_are_those_of_any_instance(
    valkey_url: str, keys: Keys, leader: Leader, made: Format
) -> None:
    """Closed without a key, open with one, or with a ticket for it."""
    key, line = make_key("shop", "read")
    environ = {
        "RELAY_VALKEY_URL": valkey_url,
        "RELAY_BOARD": keys.board,
        "RELAY_READING": "keys",
        "RELAY_KEYS": line,
    }
    await leader.mark(beat_ms=_BEAT_MS)
    async with function("functions.api.handler", environ) as runtime:

        async def ask(path: str, shown: str = "", method: str = "GET") -> Told:
            headers = {"authorization": f"Bearer {shown}"} if shown else {}
            event = made(path, method=method, headers=headers)
            return told((await runtime.invoke(event)).answer)

        shut = await ask("/v1/prices")
        assert (shut.status, shut.json["error"]["code"]) == (401, "key_missing")
        assert (await ask("/v1/prices", "rk_wrong")).status == 401
        assert (await ask("/readyz")).status == 200
        ticket = (await ask("/v1/ticket", key, "POST")).json["ticket"]
        for shown in (key, ticket):
            read = await ask("/v1/prices", shown)
            assert (read.status, "BTC-USD" in read.json["prices"]) == (200, True)
            assert read.headers["cache-control"].startswith("private")
