"""Nothing that a running relay says has a key or a password in it."""

from contextlib import AsyncExitStack

import httpx
import pytest

from relay.delivery.doors import make_key
from tests.cli.commands import relay as command
from tests.harness import until
from tests.simulation.processes import relay
from tests.store.walled import (
    PASSWORD,
    USER,
    forbid,
    guarded,
    tls_before,
    url_of,
)

CANARIES = {
    "RELAY_COINCAP_KEY": "c4n4ry-coincap",
    "RELAY_COINGECKO_KEY": "c4n4ry-coingecko",
    "RELAY_TICKET_SECRET": "c4n4ry-ticket",
    "RELAY_KRAKEN_REST_URL": "http://c4n4ry:c4n4ry@127.0.0.1:1",
    "RELAY_KRAKEN_WS_URL": "ws://c4n4ry:c4n4ry@127.0.0.1:1",
}
KEY, LINE = make_key("shop", "read+admin")
SECRETS = ("c4n4ry", KEY, LINE.rpartition(":")[2])
PATHS = (
    *("/v1/prices", "/v1/status", "/v1/symbols", "/api/prices/status/health"),
    *("/api/prices/metrics", "/api/market-data/health", "/metrics", "/readyz"),
    *("/docs/openapi.json", "/v1/prices?cursor=x", "/v1/prices?symbols=+", "/nothing"),
)


def test_check_config_shows_no_secret() -> None:
    """It is what people paste into a question."""
    environ = CANARIES | {
        "RELAY_VALKEY_URL": url_of(6379),
        "RELAY_KEYS": LINE,
        "RELAY_READING": "keys",
    }
    shown = command("check-config", **environ)
    assert shown.returncode == 0
    assert 'valkeys://127.0.0.1:6379/0"  # RELAY_VALKEY_URL' in shown.stdout
    assert "shop:read+admin:…" in shown.stdout
    for secret in (*SECRETS, USER + ":"):
        assert secret not in shown.stdout + shown.stderr


@pytest.mark.timeout(90)
async def test_a_relay_in_trouble_tells_no_secret() -> None:
    """With the store behind TLS and a password, reached, lost, and refusing us."""
    answers: list[httpx.Response] = []
    headers = {"authorization": f"Bearer {KEY}"}
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(guarded())
        port = await stack.enter_async_context(tls_before(place, "127.0.0.1"))
        environ = CANARIES | {"RELAY_VALKEY_URL": url_of(port), "RELAY_KEYS": LINE}
        running = relay("up", "--sim", "--port", "0", **environ)
        process = await stack.enter_async_context(running)
        url = (await process.says(r"relay at (http://\S+)", within_s=30))[1]
        asker = await stack.enter_async_context(
            httpx.AsyncClient(base_url=url, timeout=20, headers=headers)
        )

        async def reads() -> bool:
            return bool((await asker.get("/v1/prices")).json().get("prices"))

        async def lost() -> bool:
            status = (await asker.get("/v1/status")).json()
            return bool(status["store"] == "unreachable")

        await until(reads)
        answers += [await asker.get(path) for path in PATHS]
        await forbid(place)
        await until(lost)
        answers += [await asker.get(path) for path in PATHS]
        told = "\n".join(process.said)
    assert "valkeys://127.0.0.1" in told
    for text in (told, *(answer.text + str(answer.headers) for answer in answers)):
        assert not any(secret in text for secret in (*SECRETS, PASSWORD, f"{USER}:"))
