"""``relay status``: one look, for people and for scripts."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from msgspec.structs import replace

from relay.config import Settings
from relay.delivery.doors import make_key
from relay.store.client import Client
from relay.store.keys import Keys
from tests.cli.commands import relay
from tests.delivery.live import Live, live

HEALTH = msgspec.json.encode(
    {
        "sources": {"kraken": {"alive": True, "age_ms": 5, "shown": 2}},
        "budgets": {
            "kraken": [{"limit": "weight", "used": 1, "most": 4, "window_ms": 1000}]
        },
    }
)


@pytest.fixture
async def instance(
    client: Client, keys: Keys, settings: Settings
) -> AsyncIterator[Live]:
    """Return a running instance."""
    async with live(client, keys, settings) as instance:
        yield instance


@pytest.fixture
async def attentive(
    client: Client, keys: Keys, settings: Settings
) -> AsyncIterator[Live]:
    """Return a running instance that soon notices silence."""
    http = replace(settings.http, quiet_ms=500)
    async with live(client, keys, replace(settings, http=http)) as instance:
        yield instance


async def test_one_look_is_plain_text_of_80_columns(instance: Live) -> None:
    """It is read in a terminal, in a mail and in a log."""
    await instance.leader.mark(beat_ms=20_000, health=HEALTH)
    shown = await asyncio.to_thread(relay, "status", "--url", instance.url)
    assert shown.returncode == 0
    assert "live; up" in shown.stdout
    assert ": 2 instruments, 0 stale" in shown.stdout
    lines = shown.stdout.splitlines()
    gauge = ["kraken", "weight", "1", "4", "1", "s", "##........"]
    assert gauge in [line.split() for line in lines]
    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)


async def test_prices_that_nobody_refreshes_end_it_with_status_1(
    attentive: Live,
) -> None:
    """A monitor asks no more than that."""
    await attentive.leader.mark(beat_ms=1)
    await asyncio.to_thread(_until_not_live, attentive.url)


def _until_not_live(url: str) -> None:
    for _ in range(20):
        shown = relay("status", "--url", url)
        if shown.returncode:
            assert shown.returncode == 1
            assert shown.stdout.startswith("NOT LIVE")
            return
    pytest.fail("it is live without a beat")


def test_a_relay_that_is_not_there_is_one_sentence(free_tcp_port: int) -> None:
    """And what to do."""
    shown = relay("status", "--url", f"http://127.0.0.1:{free_tcp_port}")
    assert shown.returncode == 1
    assert f"http://127.0.0.1:{free_tcp_port} cannot be reached" in shown.stderr
    assert "Is the relay running" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_an_address_that_is_none_is_one_sentence() -> None:
    """The commonest mistake is to leave the scheme out."""
    shown = relay("status", "--url", "127.0.0.1:8000")
    assert shown.returncode == 1
    assert "'127.0.0.1:8000' is not a relay's address" in shown.stderr


@pytest.mark.parametrize(
    "command", [("status",), ("top", "--once"), ("top",), ("warm",)]
)
async def test_who_has_no_key_is_told_how_to_show_one_here(
    client: Client, keys: Keys, settings: Settings, command: tuple[str, ...]
) -> None:
    """Nobody sends a header from a terminal."""
    _, line = make_key("shop", "read")
    doors = replace(settings.doors, reading="keys", keys=(line,))
    async with live(client, keys, replace(settings, doors=doors)) as locked:
        shown = await asyncio.to_thread(relay, *command, "--url", locked.url)
    assert shown.returncode == 1
    said = shown.stdout + shown.stderr
    assert "--api-key" in said
    assert "RELAY_API_KEY" in said
    assert "Authorization" not in said
    assert "Traceback" not in said
