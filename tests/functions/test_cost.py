"""The page on costs is what its script writes, and the script counts right."""

import pytest

from functions.cost import (
    ROWS,
    Load,
    Prices,
    always,
    reads_on_lambda,
    streams_on_lambda,
    streams_on_servers,
    write,
)
from tests.functions.runtime import ROOT


def test_the_page_is_what_the_script_writes() -> None:
    """Whoever changes a price writes the page anew."""
    page = (ROOT / "functions" / "cost.md").read_text(encoding="utf-8")
    assert page == "".join(write(Prices(), Load()))


def test_a_held_client_on_lambda_costs_an_instance() -> None:
    """17.5 dollars a month at 512 MB, as the platform's prices have it."""
    load = Load(stream_gb=0.5)
    prices = Prices(cdn_million=0, cdn_gb=0)
    held = streams_on_lambda(1, prices, load) - always(prices, load)
    assert held == pytest.approx(17.5, abs=0.1)


def test_without_a_client_only_ingestion_is_paid() -> None:
    """Nothing else stays there."""
    prices, load = Prices(), Load()
    assert reads_on_lambda(0, prices, load) == always(prices, load)


def test_servers_are_added_by_the_clients_they_hold() -> None:
    """Below that, one is enough."""
    prices, load = Prices(server_gb=0), Load()
    costs = [streams_on_servers(count, prices, load) for count in (1, 10_000, 10_001)]
    assert costs == [10, 10, 20]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}, {row[1]}")
def test_more_clients_never_cost_less(row: tuple[str, str, object]) -> None:
    """Neither does the free share of each month turn a cost into a gain."""
    cost = next(one for way, where, one in ROWS if (way, where) == row[:2])
    costs = [cost(count, Prices(), Load()) for count in (0, 1, 100, 10_000)]
    assert costs == sorted(costs)
    assert min(costs) >= 0
