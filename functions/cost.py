"""What a month costs, by way out and by place, from the prices stated here.

    python -m functions.cost > functions/cost.md

Prices are what AWS publishes for us-east-1 on arm64, in US dollars without tax, and
what a server of two cores is rented for; they change, so put in your own.
"""

import gc
import sys
from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct

gc.enable()  # a tool and no function; see the package

MONTH_S: Final = 730 * 3600
CLIENTS: Final = (100, 10_000, 1_000_000)


class Prices(Struct, frozen=True, kw_only=True):
    """In dollars. What is free each month is left out of what is paid."""

    lambda_million: float = 0.20
    lambda_gb_second: float = 0.0000133334
    http_api_million: float = 1.00
    cdn_million: float = 1.00
    cdn_free_million: float = 10
    cdn_gb: float = 0.085
    cdn_free_gb: float = 1000
    # The store at its least, the address translation, and the ticks are always there.
    valkey_month: float = 6.13
    nat_month: float = 32.85
    server_month: float = 10.0
    server_free_gb: float = 20_000
    server_gb: float = 0.0012


class Load(Struct, frozen=True, kw_only=True):
    """What clients do: each of them is there all month, and looks at one list."""

    lists: int = 20
    read_every_s: float = 5
    change_every_s: float = 1
    read_kb: float = 1.2  # a body now and then, else a 304; headers included
    poll_kb: float = 1.4
    event_kb: float = 0.9
    origin_ms: float = 12
    function_gb: float = 0.5
    stream_gb: float = 0.25
    stream_life_s: float = 240
    # With some room left: what one of two cores holds at one event a second.
    server_clients: int = 10_000


Cost = Callable[[int, Prices, Load], float]


def always(prices: Prices, load: Load) -> float:
    """Return what ingestion costs where nothing else stays: ticks, store, address."""
    ticks = load.function_gb * MONTH_S * 55 / 60 * prices.lambda_gb_second
    return prices.valkey_month + prices.nat_month + ticks


def _cdn(requests: float, gigabytes: float, prices: Prices) -> float:
    paid = max(requests / 1e6 - prices.cdn_free_million, 0) * prices.cdn_million
    return paid + max(gigabytes - prices.cdn_free_gb, 0) * prices.cdn_gb


def _origin(requests: float, held_s: float, prices: Prices, load: Load) -> float:
    """Return what so many answers cost behind the HTTP API, each held so long."""
    seconds = held_s + load.origin_ms / 1000
    each_million = prices.lambda_million + prices.http_api_million
    computed = requests * seconds * load.function_gb * prices.lambda_gb_second
    return requests / 1e6 * each_million + computed


def reads_on_lambda(clients: int, prices: Prices, load: Load) -> float:
    """Return the cost of ETag reads: the edge asks once a second for each list."""
    asked = clients * MONTH_S / load.read_every_s
    # The edge asks no more often than the clients do.
    missed = min(load.lists * MONTH_S, asked)
    gigabytes = asked * load.read_kb / 1e6
    return (
        always(prices, load)
        + _cdn(asked, gigabytes, prices)
        + _origin(missed, 0, prices, load)
    )


def polls_on_lambda(clients: int, prices: Prices, load: Load) -> float:
    """Return the cost of polls: the edge holds one for each list, whoever waits."""
    asked = clients * MONTH_S / load.change_every_s
    lists = min(load.lists, clients)
    held = lists * MONTH_S / load.change_every_s
    gigabytes = asked * load.poll_kb / 1e6
    return (
        always(prices, load)
        + _cdn(asked, gigabytes, prices)
        + _origin(held, load.change_every_s, prices, load)
    )


def streams_on_lambda(clients: int, prices: Prices, load: Load) -> float:
    """Return the cost of SSE there: an instance for each client, all the time."""
    opened = clients * MONTH_S / load.stream_life_s
    gigabytes = clients * MONTH_S / load.change_every_s * load.event_kb / 1e6
    held = clients * MONTH_S * load.stream_gb * prices.lambda_gb_second
    return always(prices, load) + _cdn(opened, gigabytes, prices) + held


def _servers(clients: int, gigabytes: float, prices: Prices, load: Load) -> float:
    count = -(-clients // load.server_clients)
    free = count * prices.server_free_gb
    paid = max(gigabytes - free, 0) * prices.server_gb
    return count * prices.server_month + paid


def reads_on_servers(clients: int, prices: Prices, load: Load) -> float:
    """Return the cost of the same reads from small servers, no edge in between."""
    gigabytes = clients * MONTH_S / load.read_every_s * load.read_kb / 1e6
    return _servers(clients, gigabytes, prices, load)


def polls_on_servers(clients: int, prices: Prices, load: Load) -> float:
    """Return the cost of polls, collapsed by nginx on the same machine."""
    gigabytes = clients * MONTH_S / load.change_every_s * load.poll_kb / 1e6
    return _servers(clients, gigabytes, prices, load)


def streams_on_servers(clients: int, prices: Prices, load: Load) -> float:
    """Return the cost of SSE from small servers."""
    gigabytes = clients * MONTH_S / load.change_every_s * load.event_kb / 1e6
    return _servers(clients, gigabytes, prices, load)


ROWS: Final[tuple[tuple[str, str, Cost], ...]] = (
    ("ETag reads each 5 s", "Lambda behind CloudFront", reads_on_lambda),
    ("collapsed polls", "Lambda behind CloudFront", polls_on_lambda),
    ("SSE", "Lambda", streams_on_lambda),
    ("ETag reads each 5 s", "small servers", reads_on_servers),
    ("collapsed polls", "small servers", polls_on_servers),
    ("SSE", "small servers", streams_on_servers),
)

_HEAD: Final = """# What a month costs

Written by `python -m functions.cost` from the prices and the load that stand in it:
US dollars a month, for clients who are there all month while prices change each second.

| way out | where | {clients} |
|---|---|{rule}|
"""

_TAIL: Final = """
Of each Lambda row, ${always:,.0f} are ingestion: ticks, the store, the egress address.
A small server has two cores, ${server:.0f} a month, and up to {held:,} clients.

What follows:

- **Lambda is for clients who are seldom there.** Its rows shrink with the hours that
  clients look; a server's do not. Reads are its cheapest way out, a held connection the
  dearest: each is an instance that is billed while it waits.
- **Clients who stay belong on a small server**, and there SSE costs the least.
- **An edge that is paid by the request is the bill.** Collapsing spares the origin, not
  the edge: let one that is paid by the month or by the byte stand before many polls.

The plan to a million:

1. Begin with `relay up` on one small server. Nothing that clients see changes later.
2. From {held:,} clients on, one server more for each {held:,}, all over one Valkey.
   Ingestion stays as it is: one worker, and one to take over.
3. Spare bytes before adding servers: lists in place of the whole board, `fields=`,
   `every=2s`.
4. A million clients are {servers:,} such servers, and the same one worker.
"""


def write(prices: Prices, load: Load) -> Iterator[str]:
    """Yield the page, part by part."""
    clients = " | ".join(f"{count:,} clients" for count in CLIENTS)
    yield _HEAD.format(clients=clients, rule="--:|" * (len(CLIENTS) - 1) + "--:")
    for way, where, cost in ROWS:
        costs = " | ".join(f"{cost(count, prices, load):,.0f}" for count in CLIENTS)
        yield f"| {way} | {where} | {costs} |\n"
    yield _TAIL.format(
        always=always(prices, load),
        server=prices.server_month,
        held=load.server_clients,
        servers=-(-CLIENTS[-1] // load.server_clients),
    )


if __name__ == "__main__":
    sys.stdout.writelines(write(Prices(), Load()))
