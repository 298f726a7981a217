"""Warming: through the edge, from a schedule and from the command line."""

import signal
from collections.abc import AsyncIterator

import httpx
import pytest
from msgspec.structs import replace

from relay.config import Settings
from relay.delivery.warming import read_layers, warm
from relay.errors import ConfigError
from relay.store.client import Client
from relay.store.keys import Keys
from tests.cli.commands import relay
from tests.delivery.live import Live, live
from tests.functions.events import schedule
from tests.functions.runtime import function
from tests.harness import until
from tests.simulation.processes import Process
from tests.simulation.processes import relay as process


@pytest.fixture
async def edge(client: Client, keys: Keys, settings: Settings) -> AsyncIterator[Live]:
    """Return an instance, which stands for the edge in front of it."""
    async with live(client, keys, settings) as edge:
        yield edge


async def test_the_function_fetches_what_is_configured(
    edge: Live, settings: Settings
) -> None:
    """And returns what was answered, for the platform's log."""
    environ = {"RELAY_WARM_URL": edge.url}
    async with function("functions.warm.handler", environ) as runtime:
        fetched = (await runtime.invoke(schedule(0))).answer["fetched"]
    assert [one["path"] for one in fetched] == list(settings.warm.paths)
    assert {one["status"] for one in fetched} == {200}


async def test_an_edge_that_is_away_is_told_of_and_no_error(settings: Settings) -> None:
    """The next minute tries again."""
    environ = {"RELAY_WARM_URL": "http://127.0.0.1:1"}
    async with function("functions.warm.handler", environ) as runtime:
        fetched = (await runtime.invoke(schedule(0))).answer["fetched"]
    assert {one["status"] for one in fetched} == {0}
    assert all(one["reason"] for one in fetched)
    assert len(fetched) == len(settings.warm.paths)


async def test_without_an_edge_it_says_which_setting_names_it(
    settings: Settings,
) -> None:
    """Guessing an address would warm somebody else's."""
    with pytest.raises(ConfigError, match="RELAY_WARM_URL"):
        await warm(settings.warm)


def test_the_command_fails_where_something_is_not_answered() -> None:
    """A deployment's last step: its exit status counts."""
    shown = relay("warm", "--url", "http://127.0.0.1:1")
    assert shown.returncode == 1
    assert "/v1/prices: " in shown.stdout


@pytest.mark.parametrize(
    ("headers", "layers"),
    [
        ({}, ()),
        ({"cache-status": '"nginx"; hit'}, ('"nginx"; hit',)),
        (
            {"cache-status": '"a, \\"b"; fwd=miss, "varnish"; hit; ttl=-3'},
            ('"a, \\"b"; fwd=miss', '"varnish"; hit; ttl=-3'),
        ),
        ({"x-cache": "Miss from cloudfront"}, ("Miss from cloudfront",)),
    ],
)
def test_each_layer_is_told_apart(
    headers: dict[str, str], layers: tuple[str, ...]
) -> None:
    """Names may have commas; the one nearest to the relay comes first."""
    assert read_layers(httpx.Headers(headers)) == layers


async def test_an_edge_that_has_too_much_to_do_is_left_alone(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Warming is a favour, and not worth a client's place."""
    http = replace(settings.http, address_requests_max=1, address_window_ms=60_000)
    async with live(client, keys, replace(settings, http=http)) as edge:
        fetched = await warm(replace(settings.warm, url=edge.url))
        asked = edge.hub.counts.refused["rate"]
    assert [one.path for one in fetched] == list(settings.warm.paths)
    assert fetched[0].ok
    assert asked < len(fetched) - 1
    assert "429" in fetched[-1].reason


async def test_the_command_keeps_warm_until_it_is_stopped(edge: Live) -> None:
    """In place of a schedule; a signal ends it in order."""
    command = ("warm", "--url", edge.url, "--every", "1")
    async with process(*command) as warming:
        await until(lambda: _has_said(warming, "/v1/symbols: 200", times=2))
        warming.send(signal.SIGTERM)
        assert await warming.ended(within_s=10) == 0


async def _has_said(warming: Process, line: str, *, times: int) -> bool:
    return sum(one.startswith(line) for one in warming.said) >= times
