"""What a process ingests with for as long as it lives; what of each exchange is read.

What is done with them, term after term, stands in ``worker``, ``term`` and ``reading``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx

from relay.clock import Clock
from relay.config import Exchange, Settings
from relay.exchanges import open_adapter
from relay.exchanges.adapter import Adapter
from relay.ingest.publish import Published
from relay.ingest.purse import Purse, terms_of
from relay.ingest.report import Report
from relay.store.client import Client
from relay.store.tables import Tables
from relay.store.writer import Writer


@dataclass(frozen=True)
class Intake:
    """One exchange: how it is read, and what may be spent on it."""

    adapter: Adapter
    exchange: Exchange
    purse: Purse


@dataclass
class Parts:
    """What a process ingests with, for as long as it lives."""

    settings: Settings
    clock: Clock
    client: Client
    writer: Writer
    tables: Tables
    http: httpx.AsyncClient
    intakes: Mapping[str, Intake]
    report: Report
    random: Callable[[], float]
    published: Published = field(default_factory=Published)
    # When each instrument that is asked for was last found in the store, by the steady
    # clock: a store that begins anew between two terms has lost it.
    found_ms: dict[str, int] = field(default_factory=dict)


def open_intakes(settings: Settings, client: Client, clock: Clock) -> dict[str, Intake]:
    """Return what is read of each exchange that is on and has the key it needs.

    Raises:
        ConfigError: the settings name an exchange that the relay has no adapter of.
    """

    def purse(name: str, exchange: Exchange) -> Purse:
        terms = terms_of(
            exchange,
            egress=settings.store.egress,
            refused_ms=settings.ingest.refused_ms,
        )
        return Purse(name, terms, client, clock)

    return {
        name: Intake(open_adapter(name, exchange), exchange, purse(name, exchange))
        for name, exchange in settings.exchanges.items()
        if exchange.enabled and not exchange.lacks_key
    }
