"""Warming: through the edge, from a schedule and from the command line."""

from collections.abc import AsyncIterator

import pytest

from relay.config import Settings
from relay.delivery.warming import warm
from relay.errors import ConfigError
from relay.store.client import Client
from relay.store.keys import Keys
from tests.cli.commands import relay
from tests.delivery.live import Live, live
from tests.functions.events import schedule
from tests.functions.runtime import function


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
