"""Five minutes in which nothing but ticks ingests; a minute takes four seconds here."""

import asyncio
from pathlib import Path

import pytest
from msgspec import Struct, field

from relay.clock import Clock
from relay.config import load
from relay.hub import Hub
from relay.model import decode_ticker
from relay.simulator.server import Simulator
from relay.store.client import Client
from relay.store.keys import Keys
from relay.store.reader import Reader
from tests.functions.events import schedule
from tests.functions.runtime import Runtime, function
from tests.harness import eventually

pytestmark = [pytest.mark.serverless, pytest.mark.timeout(60)]

MINUTES = 5
MINUTE_S = 4
# As long as a tick lasts of its minute, and what it leaves of the platform's time.
TICK_S = MINUTE_S * 55 / 60
MARGIN_S = 3
STALE_MS = 60_000 * MINUTE_S // 60
# The design's own bounds, in minutes of four seconds.
RULES = f"""
[ingest]
lease_ms = {10_000 * MINUTE_S // 60}
lease_renew_ms = {3_000 * MINUTE_S // 60}
tick_beat_ms = {75_000 * MINUTE_S // 60}
beat_ms = {75_000 * MINUTE_S // 60}
silent_after_ms = {30_000 * MINUTE_S // 60}
stale_after_ms = {STALE_MS}
steady_ms = {10_000 * MINUTE_S // 60}
reconnect_min_ms = 50
"""
STREAMING = ("binance", "coinbase", "kraken")
WATCHED = ("BTC-USD", "ETH-USD", "BTC-USDT")


class Seen(Struct):
    """What somebody saw who looked all the time."""

    age_most_ms: int = 0
    looks: int = 0
    wrong: list[str] = field(default_factory=list)

    def look(self, hub: Hub, now_ms: int) -> None:
        """Look once."""
        self.looks += 1
        if not hub.live:
            self.wrong.append("not live")
        for name in WATCHED:
            shown = decode_ticker(hub.board.rows[name].ticker)
            assert shown.received_ms is not None
            self.age_most_ms = max(self.age_most_ms, now_ms - shown.received_ms)
            if shown.stale:
                self.wrong.append(f"{name} was stale")


async def _ring(runtime: Runtime, clock: Clock) -> list[object]:
    """Ring each minute, as the schedule does; returns what became of it."""
    outcomes = []
    for _ in range(MINUTES):
        event = schedule(clock.wall_ms())
        outcomes.append(runtime.begin(event, seconds=TICK_S + MARGIN_S))
        await asyncio.sleep(MINUTE_S)
    return [(await outcome).answer for outcome in outcomes]


async def test_ticks_alone_keep_a_board_live(
    valkey_url: str, keys: Keys, client: Client, tmp_path: Path
) -> None:
    """Between two of them prices age by the gap and no more, over one connection."""
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    environ = {
        "RELAY_VALKEY_URL": valkey_url,
        "RELAY_BOARD": keys.board,
        "RELAY_CONFIG": str(rules),
    }
    settings = load(environ=environ).settings
    reader, seen = Reader(client, keys), Seen()
    hub = Hub(reader, client.clock, settings.http, settings.ingest)
    async with (
        Simulator() as simulator,
        function(
            "functions.ingest.handler", environ | {"RELAY_SIM_URL": simulator.url}
        ) as runtime,
        asyncio.TaskGroup() as tasks,
    ):
        following = tasks.create_task(hub.run())
        ringing = tasks.create_task(_ring(runtime, client.clock))
        await eventually(lambda: hub.live and set(WATCHED) <= set(hub.board.rows))
        while not ringing.done():
            seen.look(hub, client.clock.wall_ms())
            await asyncio.sleep(0.02)
        following.cancel()
    assert ringing.result() == [{"tick": "led"}] * MINUTES
    assert not seen.wrong
    assert seen.looks > 500
    assert seen.age_most_ms < STALE_MS
    counts = {name: simulator.counts().exchanges[name].total for name in STREAMING}
    assert {one.connections.open_peak for one in counts.values()} == {1}
    assert {one.connections.opened for one in counts.values()} == {MINUTES}
    assert sum(one.breaches_total for one in counts.values()) == 0
