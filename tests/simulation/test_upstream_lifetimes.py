"""Connections that end by rule or notice: replaced before, and no client notices."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

import msgspec
import pytest
import websockets
from msgspec.structs import replace

from relay.config import Settings
from relay.exchanges import binance_session
from relay.simulator.settings import BinanceSettings
from relay.simulator.settings import Settings as SimulatorSettings
from tests.harness import eventually, until
from tests.simulation.processes import relay
from tests.simulation.rig import Rig, hurried, rigged, working

# Bitcoin moves at least ten times a second; each is one exchange's alone.
OF = {"binance": "BTC-USDT", "kraken": "BTC-EUR"}
CALM = SimulatorSettings(updates_per_second=100, burst_every_ms=0)
# The ages of what a client is shown differ by a frame's way and a batch.
LATE_MS = 750


def unforgiving(settings: Settings) -> Settings:
    """Return settings under which a connection that is lost is missed for long."""
    return hurried(settings, reconnect_min_ms=20_000, reconnect_max_ms=40_000)


@dataclass
class Diary:
    """A client that writes down everything it is sent."""

    shown: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    async def keep(self, url: str) -> None:
        """Read for ever."""
        async with websockets.connect(url.replace("http", "ws", 1) + "/v1/ws") as line:
            hello = {"type": "subscribe", "symbols": list(OF.values())}
            await line.send(msgspec.json.encode(hello).decode())
            while True:
                message = msgspec.json.decode(cast("str", await line.recv()))
                for name, ticker in message.get("prices", {}).items():
                    self.shown.setdefault(name, []).append(ticker)

    def doubled(self, name: str) -> list[dict[str, Any]]:
        """Return what was sent twice: nothing in it is new but its number."""
        told = [
            {key: one[key] for key in one if key not in ("offset", "received_ms")}
            for one in self.shown[name]
        ]
        return [one for one, next_ in pairwise(told) if one == next_]

    def gap_ms(self, name: str) -> int:
        """Return the longest time between two events that follow each other."""
        return _longest([int(one["event_ms"]) for one in self.shown[name]])


@dataclass
class Referee:
    """Looks at the exchange: when it moved, and whether it was listened to."""

    rig: Rig
    moved_ms: list[int] = field(default_factory=list)
    deaf: dict[str, int] = field(default_factory=dict)

    async def watch(self) -> None:
        """Look again and again."""
        found = self.rig.simulator.exchanges["binance"].find("BTCUSDT")
        assert found is not None
        while True:
            self.moved_ms.append(found.asset.moved_ms)
            for name in OF:
                talks = self.rig.simulator.exchanges[name].conversations
                heard = any(talk.subscribed for talk in talks)
                self.deaf[name] = self.deaf.get(name, 0) + (not heard)
            await asyncio.sleep(0.005)

    @property
    def gap_ms(self) -> int:
        """The longest time without a move: this machine may have been busy."""
        return _longest(self.moved_ms)


def _longest(instants_ms: list[int]) -> int:
    return max(after - before for before, after in pairwise(instants_ms))


@asynccontextmanager
async def watched(
    simulated: SimulatorSettings,
) -> AsyncIterator[tuple[Rig, Diary, Referee]]:
    """Run a worker, a server and a client, and look at what they do."""
    async with rigged(unforgiving, simulated) as rig, working(rig):
        environ = {"RELAY_VALKEY_URL": rig.settings.store.url}
        async with relay("serve", "--port", "0", **environ) as server:
            url = (await server.says(r"relay at (\S+)", within_s=30))[1]
            await until(lambda: _shown(rig))
            diary, referee = Diary(), Referee(rig)
            async with asyncio.TaskGroup() as tasks:
                watching = [
                    tasks.create_task(diary.keep(url)),
                    tasks.create_task(referee.watch()),
                ]
                await eventually(lambda: len(diary.shown) == len(OF))
                yield rig, diary, referee
                for task in watching:
                    task.cancel()


async def _shown(rig: Rig) -> bool:
    """Tell whether both are streamed, and shown."""
    tickers = {name: await rig.ticker(OF[name]) for name in OF}
    return all(
        _granted(rig, name) and ticker is not None and ticker.source == name
        for name, ticker in tickers.items()
    )


def _granted(rig: Rig, name: str) -> bool:
    return any(talk.subscribed for talk in rig.simulator.exchanges[name].conversations)


async def _see_through(
    simulated: SimulatorSettings,
    names: tuple[str, ...],
    act: Callable[[Rig], Awaitable[None]],
) -> None:
    """See connections replaced, and insist that nobody could have noticed."""
    async with watched(simulated) as (rig, diary, referee):
        await act(rig)
        seen = {name: len(diary.shown[instrument]) for name, instrument in OF.items()}
        await eventually(
            lambda: all(len(diary.shown[OF[name]]) > seen[name] + 20 for name in OF)
        )
        events = (await rig.health())["events"]
    for name in names:
        assert diary.doubled(OF[name]) == []
        assert diary.gap_ms(OF[name]) <= referee.gap_ms + LATE_MS
        offsets = [one["offset"] for one in diary.shown[OF[name]]]
        assert offsets == sorted(set(offsets))
        assert {one["source"] for one in diary.shown[OF[name]]} == {name}
        assert referee.deaf[name] == 0, "nobody listened for a while"
        said = [event["what"] for event in events if event["source"] == name]
        assert not [what for what in said if what.startswith("not streaming")]
    assert rig.breaches() == {}


async def _steady(rig: Rig) -> bool:
    """Tell whether the connections have lived for as long as counts as steady."""
    streams, now_ms = (await rig.health())["streams"], rig.client.clock.wall_ms()
    steady_ms = rig.settings.ingest.reconnect_steady_ms
    return all(
        [
            (line["state"], now_ms - line["since_ms"] > steady_ms)
            for line in streams[name]
        ]
        == [("open", True)]
        for name in OF
    )


def _connections(rig: Rig, name: str) -> tuple[int, int]:
    connections = rig.simulator.counts().exchanges[name].total.connections
    return connections.opened, connections.open


@pytest.mark.faults
@pytest.mark.timeout(90)
async def test_a_lifetime_is_never_lived_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Binance ends connections after a day; here both count a few seconds as one."""
    monkeypatch.setattr(binance_session, "_DAY_MS", 4_000)
    binance = BinanceSettings(life_ms=7_000)

    async def live(rig: Rig) -> None:
        await eventually(lambda: _connections(rig, "binance")[0] >= 4, within_s=40)
        assert rig.simulator.counts().exchanges["binance"].total.connections.cut == 0

    await _see_through(replace(CALM, binance=binance), ("binance",), live)


@pytest.mark.faults
@pytest.mark.timeout(90)
async def test_a_notice_is_heeded_before_it_comes_true() -> None:
    """Binance's ``serverShutdown``, and maintenance that Kraken announces."""

    async def announce(rig: Rig) -> None:
        # One that is young is left after a while by chance, here a long one.
        await until(lambda: _steady(rig))
        rig.simulator.fault("binance", "server_shutdown", value=8_000)
        rig.simulator.fault("kraken", "maintenance", value=8_000)
        await eventually(
            lambda: all(_connections(rig, name) == (2, 1) for name in OF), within_s=40
        )
        for name in OF:
            total = rig.simulator.counts().exchanges[name].total
            assert total.connections.cut == 0, f"{name} was left before it closed"

    await _see_through(CALM, tuple(OF), announce)


@pytest.mark.faults
@pytest.mark.timeout(90)
async def test_pings_are_answered_however_much_is_said() -> None:
    """Binance cuts whoever lets a ping wait; here it has little patience."""
    busy = SimulatorSettings(
        updates_per_second=3_000,
        burst_every_ms=1_000,
        burst_updates=5_000,
        # Pongs count as messages: more pings than that nobody could answer.
        binance=BinanceSettings(ping_ms=1_000, pong_ms=4_000),
    )

    async with rigged(hurried, busy) as rig, working(rig):
        await eventually(lambda: _granted(rig, "binance"))
        began_ms = rig.simulator.now()
        await eventually(lambda: rig.simulator.now() - began_ms > 6_000)
        total = rig.simulator.counts().exchanges["binance"].total
        assert (total.connections.opened, total.connections.cut) == (1, 0)
        assert total.messages.sent > 1_000
        assert rig.breaches() == {}
