"""What one address may, and which address it is, over real sockets."""

import json
from collections import Counter
from typing import Any, cast

import httpx
import pytest
from litestar.types import Scope
from msgspec.structs import replace
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from relay.clock import ManualClock
from relay.config import Settings
from relay.delivery.gate import Gate, TooMany, address_of
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.live import live
from tests.harness import eventually


def scope_of(peer: str, *forwarded: str) -> Scope:
    """Return what a server says of a request."""
    headers = [(b"x-forwarded-for", one.encode()) for one in forwarded]
    scope: dict[str, Any] = {"client": (peer, 4711), "headers": headers}
    return cast("Scope", scope)


@pytest.mark.parametrize(
    ("trusted", "forwarded", "expected"),
    [
        # Whatever the client says of itself.
        (0, ["1.1.1.1"], "9.9.9.9"),
        (0, [], "9.9.9.9"),
        (1, ["1.1.1.1"], "1.1.1.1"),
        (1, ["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
        (1, ["6.6.6.6", "1.1.1.1"], "1.1.1.1"),
        (2, ["6.6.6.6, 1.1.1.1, 2.2.2.2"], "1.1.1.1"),
        # One came past the first proxy: what the second one saw is all there is.
        (2, ["2.2.2.2"], "2.2.2.2"),
        (1, [], "9.9.9.9"),
        # A customer has a whole network of IPv6, and may not be a crowd in it.
        (1, ["2001:db8:1:2:3::4"], "2001:db8:1:2::/64"),
        (1, ["nonsense:"], "nonsense:"),
    ],
)
def test_an_address_is_believed_only_from_trusted_proxies(
    trusted: int, forwarded: list[str], expected: str
) -> None:
    """Each proxy adds the address that asked it; what stands before is a claim."""
    assert address_of(scope_of("9.9.9.9", *forwarded), trusted) == expected


def test_a_server_that_knows_no_address_is_no_error() -> None:
    """A socket of the file system, for instance."""
    assert address_of(cast("Scope", {"client": None, "headers": []}), 0) == ""


def test_a_new_window_lets_an_address_ask_again(settings: Settings) -> None:
    """And until then it is told how long to wait."""
    http = replace(settings.http, address_requests_max=2, address_window_ms=10_000)
    clock = ManualClock()
    clock.advance(4_000)
    gate = Gate(http, clock, Counter())
    for address in ("a", "a", "b"):
        gate.enter(address)
    with pytest.raises(TooMany) as raised:
        gate.enter("a")
    assert (raised.value.code, raised.value.retry_after_s) == ("rate", 6)
    clock.advance(6_000)
    gate.enter("a")


async def test_too_many_requests_are_refused_with_a_reason(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Each address for itself, as far as a trusted proxy says which it is."""
    limits = replace(
        settings.http,
        trusted_proxies=1,
        address_requests_max=3,
        address_window_ms=3_600_000,
    )
    async with live(client, keys, replace(settings, http=limits)) as relay:
        mine, yours = {"x-forwarded-for": "1.1.1.1"}, {"x-forwarded-for": "2.2.2.2"}
        for _ in range(3):
            assert (await relay.asker.get("/v1/prices", headers=mine)).is_success
        refused = await relay.asker.get("/v1/prices", headers=mine)
        other = await relay.asker.get("/v1/prices", headers=yours)
        probe = await relay.asker.get("/healthz", headers=mine)
        metrics = (await relay.asker.get("/metrics", headers=mine)).text
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate"
    assert 0 < int(refused.headers["retry-after"]) <= 3600
    assert refused.headers["cache-control"] == "no-store"
    assert (other.status_code, probe.status_code) == (200, 200)
    assert 'relay_refused_total{reason="rate"} 1.0' in metrics


async def test_too_many_held_answers_are_refused_by_whichever_way(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Streams, polls and WebSockets count as one; who leaves makes room."""
    limits = replace(settings.http, address_open_max=2)
    async with live(client, keys, replace(settings, http=limits)) as relay:
        # What the test's own reads leave room for: they count while they last.
        async with relay.stream(), relay.stream():
            await eventually(lambda: relay.hub.counts.clients["sse"] == 2)
            refused = [
                await relay.asker.get("/v1/stream"),
                await relay.asker.get("/v1/poll"),
            ]
            with pytest.raises(InvalidStatus) as handshake:
                async with connect(relay.url.replace("http", "ws", 1) + "/v1/ws"):
                    pass
        await eventually(lambda: relay.hub.counts.clients["sse"] == 0)
        again = await relay.asker.get("/v1/poll")
    for answer in refused:
        _assert_refused(answer)
    response = handshake.value.response
    assert response.status_code == 429
    assert response.headers["retry-after"] == "5"
    assert json.loads(response.body or b"")["error"]["code"] == "crowd"
    assert again.status_code == 200


def _assert_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "5"
    error = answer.json()["error"]
    assert error["code"] == "crowd"
    assert error["sentence"]
    assert error["hint"]


async def test_too_many_in_all_are_refused_with_503(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Another instance may have room."""
    limits = replace(settings.http, clients_max=1)
    async with (
        live(client, keys, replace(settings, http=limits)) as relay,
        relay.stream(),
    ):
        await eventually(lambda: relay.hub.counts.clients["sse"] == 1)
        refused = await relay.asker.get("/v1/stream")
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "5"
    assert refused.json()["error"]["code"] == "busy"
