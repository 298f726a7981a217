"""How an instance is, told to people, to balancers and to Prometheus."""

import asyncio
import math
from typing import Any

import httpx
import msgspec
import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from relay.config import Settings
from relay.model import Ticker
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.serving import (
    EPOCH,
    Leader,
    client_of,
    make_app,
    make_hub,
    serving,
)
from tests.harness import eventually

PRICES: dict[str, Ticker | str] = {
    "BTC-USD": "61000",
    "ETH-USD": Ticker(price="3000", stale=True),
    "OLD-USD": Ticker(removed=True),
}
HEALTH = b'{"sources":{"coinbase":{"alive":true}},"budgets":{"coinbase":[]},"new":1}'


async def test_one_page_tells_how_things_stand(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """What the leader says of its sources and budgets is passed on as it stands."""
    leader, hub = Leader(client, keys), make_hub(client, keys, settings)
    async with serving(client, keys, settings, hub=hub) as asker:
        await leader.publish(PRICES)
        await leader.mark_until(lambda: bool(hub.mark), health=HEALTH)
        body = (await asker.get("/v1/status")).json()
    assert body["sources"] == {"coinbase": {"alive": True, "state": "alive"}}
    assert (body["budgets"], body["streams"]) == ({"coinbase": []}, {})
    assert body["board"] == {
        "name": keys.board,
        "instruments": 2,
        "stale": 1,
        "removed": 1,
    }
    assert body["leader"]["holder"] == "a-test"
    assert body["leader"]["alive"] is True
    assert body["store"] == "reachable"
    instance = body["instance"]
    assert (instance["live"], instance["ready"]) == (True, True)
    assert (instance["epoch"], instance["offset"]) == (EPOCH, leader.offset)
    assert 0 <= instance["mark_age_ms"] < 10_000
    assert instance["counts"]["refreshes"] >= 1


async def _left(asker: httpx.AsyncClient) -> dict[str, Any]:
    """Return the status once nobody is told to ingest."""
    async with asyncio.timeout(10):
        while True:
            body: dict[str, Any] = (await asker.get("/v1/status")).json()
            if not body["leader"]["alive"] and not body["instance"]["live"]:
                return body
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("hubless", [False, True])
async def test_with_nobody_ingesting_no_source_is_called_alive(
    client: Client,
    keys: Keys,
    settings: Settings,
    hubless: bool,  # noqa: FBT001 - a row of the table
) -> None:
    """The leader's last word stays in the store, and goes on growing older."""
    ingest = replace(settings.ingest, beat_ms=300)
    settings = replace(settings, ingest=ingest)
    leader = Leader(client, keys)
    hub = None if hubless else make_hub(client, keys, settings)
    word = {"leader": {"as_of_ms": client.clock.wall_ms()}}
    word["sources"] = {"coinbase": {"alive": True, "age_ms": 100}}  # type: ignore[dict-item]
    async with serving(client, keys, settings, hub=hub) as asker:
        await leader.publish(PRICES)
        await leader.mark(beat_ms=300, health=msgspec.json.encode(word))
        body = await _left(asker)
    source = body["sources"]["coinbase"]
    assert (source["alive"], source["state"]) == (False, "unknown")
    assert source["reason"].startswith("nobody ingests; last heard ")
    assert source["age_ms"] >= 300


async def test_a_function_tells_the_same_from_the_store(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Without a hub there are no marks and no clients."""
    leader = Leader(client, keys)
    await leader.publish(PRICES)
    await leader.mark(health=HEALTH)
    async with serving(client, keys, settings) as asker:
        answer = await asker.get("/v1/status")
        refused = await asker.get("/v1/status?verbose=1")
    body = answer.json()
    assert body["board"]["stale"] == 1
    assert body["instance"]["mark"] is None
    assert body["sources"]["coinbase"]["alive"] is True
    assert answer.headers["cache-control"] == "no-store"
    assert refused.status_code == 400


async def test_an_instance_is_ready_once_it_holds_a_board(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """A balancer sends nobody before, nor while the instance ends."""
    leader, hub = Leader(client, keys), make_hub(client, keys, settings)
    async with serving(client, keys, settings, hub=hub) as asker:
        before = await asker.get("/readyz")
        await leader.publish(PRICES)
        await eventually(lambda: hub.board.offset == leader.offset)
        assert (await asker.get("/readyz")).json() == {"ready": True}
        await hub.drain(0)
        ending = await asker.get("/readyz")
        alive = await asker.get("/healthz")
    for answer in (before, ending):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["error"]["code"] == "not_ready"
    assert alive.json() == {"alive": True}


async def test_a_function_is_ready_when_the_store_answers(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """It holds nothing, and needs nothing else."""
    async with serving(client, keys, settings) as asker:
        assert (await asker.get("/readyz")).status_code == 200


async def test_metrics_are_what_prometheus_reads(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Read back by Prometheus's own parser."""
    leader, hub = Leader(client, keys), make_hub(client, keys, settings)
    async with serving(client, keys, settings, hub=hub) as asker:
        await leader.publish(PRICES)
        await leader.mark_until(lambda: bool(hub.mark))
        await asker.get("/v1/prices")
        await asker.get("/v1/prices?x=1")
        answer = await asker.get("/metrics")
    families = list(text_string_to_metric_families(answer.text))
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert samples["relay_answers_total", "/v1/prices", "200"] == 1
    assert samples["relay_answers_total", "/v1/prices", "400"] == 1
    assert samples["relay_board_stale",] == 1
    assert samples["relay_live",] == 1
    assert math.isfinite(samples["relay_mark_age_seconds",])


async def test_two_applications_count_apart(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """No number is kept outside the application: two fit into one process."""
    one = client_of(make_app(client, keys, settings, None))
    other = client_of(make_app(client, keys, settings, None))
    async with one, other:
        await one.get("/healthz")
        assert 'route="/healthz"' in (await one.get("/metrics")).text
        assert 'route="/healthz"' not in (await other.get("/metrics")).text
