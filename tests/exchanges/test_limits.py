"""Every limit that is configured is charged by something, and says whence it is."""

import re
from pathlib import Path

import pytest

from relay.config import FOLDER, load
from relay.exchanges import open_adapter
from relay.ingest.line import CONNECT

SETTINGS = load(environ={"RELAY_COINCAP_KEY": "k", "RELAY_COINGECKO_KEY": "k"}).settings
FILES = sorted((FOLDER / "exchanges").glob("*.toml"))


@pytest.mark.parametrize("name", SETTINGS.exchanges)
def test_a_limit_that_is_configured_is_charged(name: str) -> None:
    """A misspelt name would be a limit that nobody keeps."""
    exchange = SETTINGS.exchanges[name]
    adapter = open_adapter(name, exchange)
    charged = {
        limit for request in adapter.symbol_requests() for limit, _ in request.costs
    }
    if exchange.ws_url:
        charged |= {limit for limit, _ in CONNECT}
    assert {limit.name for limit in exchange.limits} <= charged


@pytest.mark.parametrize("name", SETTINGS.exchanges)
def test_every_request_has_a_limit_of_its_own_exchange(name: str) -> None:
    """What no budget knows would cost nothing."""
    exchange = SETTINGS.exchanges[name]
    named = {limit.name for limit in exchange.limits}
    for request in open_adapter(name, exchange).symbol_requests():
        assert named & {limit for limit, _ in request.costs}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_of_limits_says_where_its_figures_come_from(file: Path) -> None:
    """Page and year at its head, and a word with each limit."""
    text = file.read_text(encoding="utf-8")
    assert re.search(r"^# Figures: .*20\d\d", text, re.MULTILINE)
    _, *limits = re.split(r"^\[\[.*\]\]$", text, flags=re.MULTILINE)
    assert limits
    assert all("#" in limit for limit in limits)
