"""A rig that reads all six exchanges, each first for an instrument of its own.

What is done to them, and what must come of it, stands in the tests.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from relay.clock import Clock
from relay.config import Exchange, Group, Limit, Settings
from relay.simulator.settings import (
    CoincapSettings,
    CoingeckoSettings,
    KrakenSettings,
)
from relay.simulator.settings import Settings as SimulatorSettings
from tests.harness import until
from tests.simulation.rig import Rig, hurried, rigged, working

OWN: Final = {
    "binance": ("BTC-USDT", "BTCUSDT", "kraken"),
    "coinbase": ("BTC-USD", "BTC-USD", "kraken"),
    "coincap": ("DOGE-USD", "dogecoin", "coingecko"),
    "kraken": ("ETH-USD", "ETH/USD", "coinbase"),
    "coinbase-exchange": ("SOL-USD", "SOL-USD", "coinbase"),
    "coingecko": ("XRP-USD", "ripple", "coincap"),
}
"""Each exchange's instrument, its symbol there, and who comes second for it."""

HALVES: Final = (
    ("binance", "coinbase", "coincap"),
    ("kraken", "coinbase-exchange", "coingecko"),
)
"""Whoever is hurt together: nobody among them is second for another of them."""

STREAMING: Final = ("binance", "coinbase", "coincap", "kraken", "coinbase-exchange")

# Their windows are minutes and months; a test has seconds.
_SIMULATED: Final = SimulatorSettings(
    updates_per_second=1_500,  # each instrument moves twice a second or so
    burst_every_ms=0,
    kraken=KrakenSettings(bucket=100, bucket_ms=20),
    coincap=CoincapSettings(credits_month=10**9),
    coingecko=CoingeckoSettings(keyless_requests=100, window_ms=1_000, refresh_ms=300),
)
# What was asked for and never answered stays spent for a minute: room for that.
_WEIGHT: Final = Limit(
    name="weight", weight_max=80, window_ms=1_000, kind="rolling", scope="address"
)
_ROOMY: Final = ("kraken", "coincap", "coingecko")


def everyone(settings: Settings) -> Settings:
    """Return settings under which all are read, by REST each second as well."""
    settings = hurried(settings, silent_after_ms=3_000)
    groups = tuple(
        Group(instruments=(instrument,), sources=(name, second))
        for name, (instrument, _, second) in OWN.items()
    )
    sources = (*settings.board.sources, "coinbase-exchange")
    return replace(
        settings,
        board=replace(settings.board, groups=groups, sources=sources),
        exchanges={name: _often(name, one) for name, one in settings.exchanges.items()},
    )


def _often(name: str, exchange: Exchange) -> Exchange:
    limits = [one for one in exchange.limits if one.name == "connect"]
    weight = [one for one in exchange.limits if one.name == "weight"]
    limits += [_WEIGHT] if name in _ROOMY else weight
    # Both dialects of Coinbase have the root path: this tells them apart at once.
    prefix = "/coinbase-exchange" if name == "coinbase-exchange" else ""
    return replace(
        exchange,
        enabled=True,
        rest_url=exchange.rest_url + prefix,
        ws_url=exchange.ws_url + prefix,
        channels=exchange.channels if name != "coincap" else ("prices",),
        snapshot_ms=1_000,
        symbols_ms=2_000,
        limits=tuple(limits),
    )


@asynccontextmanager
async def everyone_rigged(seed: int = 1) -> AsyncIterator[Rig]:
    """Run a worker until each exchange shows its own."""
    simulated = replace(_SIMULATED, seed=seed)
    async with rigged(everyone, simulated) as rig, working(rig):
        for name in OWN:
            await shows(rig, name, name, within_s=45)
        yield rig


def clock_ms(clock: Clock = Clock()) -> int:  # noqa: B008 - one steady clock for all
    """Return the steady time."""
    return clock.monotonic_ms()


async def said_of(rig: Rig, name: str, since_ms: int = 0) -> str:
    """Return what the status says of one exchange, and nothing of the others.

    Events are only those since then.
    """
    health = await rig.health()
    mine: dict[str, Any] = {
        part: health[part].get(name)
        for part in ("sources", "streams", "budgets", "circuits", "refused")
    }
    mine["unsupported"] = health["unsupported"].get(name)
    mine["events"] = [
        event["what"]
        for event in health["events"]
        if event["source"].removesuffix(" rest") == name and event["at_ms"] >= since_ms
    ]
    return msgspec.json.encode(mine).decode()


async def says(
    rig: Rig, name: str, words: str, *, since_ms: int = 0, within_s: float = 15
) -> str:
    """Wait until the status says this of an exchange; return what it was."""
    said, found = "", ""

    async def matches() -> bool:
        nonlocal said, found
        said = await said_of(rig, name, since_ms)
        match = re.search(words, said)
        found = match[0] if match else ""
        return match is not None

    try:
        await until(matches, within_s=within_s)
    except TimeoutError:
        raise AssertionError(f"{words!r} was not said of {name}: {said}") from None
    return found


async def shows(
    rig: Rig, name: str, source: str | None, *, within_s: float = 15
) -> int:
    """Wait until an exchange's instrument moves, fresh, from this source or any.

    Returns how long that took, in milliseconds.
    """
    instrument = OWN[name][0]
    began_ms, offsets = clock_ms(), set[int]()

    async def shown() -> bool:
        ticker = await rig.ticker(instrument)
        if ticker is None or ticker.stale or source not in {None, ticker.source}:
            offsets.clear()
        else:
            offsets.add(ticker.offset)
        return len(offsets) > 1

    try:
        await until(shown, within_s=within_s)
    except TimeoutError:
        seen, said = rig.seen.get(instrument), await said_of(rig, name)
        message = f"{instrument} is not shown from {source} but {seen}: {said}"
        raise AssertionError(message) from None
    return clock_ms() - began_ms
