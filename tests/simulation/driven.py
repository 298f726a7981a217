"""An hour in seconds: the parts that spend, over a clock that is driven.

Lease, ledger, plan, REST and upgrades are the relay's own, the store is a Valkey, and
the simulator's own counts are the referee. Only the clock is not real.
"""

import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx
from picows import WSFrame, WSListener, WSTransport

from relay.clock import ManualClock
from relay.config import Settings, load
from relay.errors import ExchangeError
from relay.exchanges import open_adapter
from relay.exchanges.adapter import Adapter
from relay.ingest.budget import Priority, Wait
from relay.ingest.dial import Dial
from relay.ingest.line import CONNECT
from relay.ingest.plan import Due, Plan
from relay.ingest.pull import Pull, open_client
from relay.ingest.purse import Purse, terms_of
from relay.model import Symbols
from relay.simulator.server import Simulator
from relay.simulator.settings import BinanceSettings
from relay.simulator.settings import Settings as SimulatorSettings
from relay.store.client import Client
from relay.store.embedded import embedded
from relay.store.keys import Keys
from relay.store.tables import Tables
from relay.store.writer import Lease, Writer

STREAMING = ("binance", "coinbase", "kraken")
# The market hardly moves: it is the requests that matter here.
STILL = SimulatorSettings(
    updates_per_second=1,
    lead_ms=3_600_000,
    burst_every_ms=0,
    step_ms=200,
    # Less than the configuration says: what the exchange publishes must win.
    binance=BinanceSettings(weight=900),
)


@dataclass
class World:
    """What all instances share: a clock, a store, the exchanges."""

    clock: ManualClock
    settings: Settings
    simulator: Simulator
    http: httpx.AsyncClient
    stranger: httpx.AsyncClient
    random: random.Random

    def client(self) -> Client:
        """Open another instance's client of the store."""
        return Client(self.settings.store, self.clock)


@asynccontextmanager
async def open_world(seed: int) -> AsyncIterator[World]:
    """Hold a world of its own, whose exchanges know nobody yet."""
    clock = ManualClock()
    chance = random.Random(seed)
    async with embedded() as url, Simulator(STILL, clock=clock) as simulator:
        settings = load(
            environ={"RELAY_VALKEY_URL": url}, sim_url=simulator.url
        ).settings

        async def disagree(response: httpx.Response) -> None:
            """Have some of the exchange's servers know less than others."""
            used = response.headers.get("x-mbx-used-weight-1m")
            if used is not None and chance.random() < 0.3:
                fewer = int(int(used) * chance.random())
                response.headers["x-mbx-used-weight-1m"] = str(fewer)

        async with (
            open_client(settings.ingest) as http,
            open_client(settings.ingest) as stranger,
        ):
            http.event_hooks["response"].append(disagree)
            yield World(clock, settings, simulator, http, stranger, chance)


class Knock(WSListener):
    """An attempt to connect, which is what the exchanges count."""

    transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Keep the connection."""
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Do not mind."""

    async def leave(self) -> None:
        """Hang up; whoever stayed would have to subscribe in time."""
        assert self.transport is not None, "it is connected"
        self.transport.disconnect(graceful=False)
        with suppress(Exception):
            await self.transport.wait_disconnected()


@dataclass
class Source:
    """One exchange as one instance reads it."""

    adapter: Adapter
    purse: Purse
    pull: Pull
    dial: Dial | None
    symbols: Symbols = field(default_factory=Symbols)
    wanted: int = 10
    knock: Knock | None = None


class Instance:
    """One worker: it reads the exchanges while it holds the lease."""

    def __init__(self, world: World, board: str) -> None:
        self.world, self.clock = world, world.clock
        self.client = world.client()
        self.tables = Tables(self.client)
        rules = world.settings
        self.writer = Writer(
            self.client, Keys(board), log_entries_max=rules.store.log_entries_max
        )
        self.board, self.lease = board, Lease("", 0)
        self.holder = f"{world.random.getrandbits(64):x}"
        self.sources: dict[str, Source] = {}
        self.plan: Plan | None = None

    async def close(self) -> None:
        """Die without a word to anybody."""
        await self.client.close()

    async def ask_to_lead(self) -> bool:
        """Take the lease, or keep it; tell whether it is held."""
        life_ms = self.world.settings.ingest.lease_ms
        if self.lease.token:
            await self.writer.keep(self.lease, life_ms)
            return True
        lease = await self.writer.take(self.holder, life_ms)
        if lease is None:
            return False
        self.lease = lease
        await self._begin()
        return True

    async def _begin(self) -> None:
        exchanges = {
            name: one
            for name, one in self.world.settings.exchanges.items()
            if one.enabled and not one.lacks_key
        }
        self.plan = Plan(exchanges, random=self.world.random.random)
        for name in exchanges:
            self.sources[name] = self.open_source(name)
            table = await self.tables.load(name)
            self.sources[name].symbols = Symbols(table.listings)
            self.plan.known(
                name, symbols_ms=table.symbols_ms, snapshot_ms=table.snapshot_ms
            )

    def open_source(self, name: str) -> Source:
        """Open an exchange as a worker does that has just begun."""
        settings = self.world.settings
        exchange = settings.exchanges[name]
        adapter = open_adapter(name, exchange)
        terms = terms_of(
            exchange,
            egress=settings.store.egress,
            refused_ms=settings.ingest.refused_ms,
        )
        purse = Purse(name, terms, self.client, self.clock)
        rules = settings.ingest
        pull = Pull(adapter, exchange, rules, purse, self.clock, self.world.http)
        dial = Dial(
            adapter=adapter,
            url=exchange.ws_url,
            ingest=rules,
            clock=self.clock,
            tls=None,
        )
        return Source(adapter, purse, pull, dial if name in STREAMING else None)

    async def work(self) -> None:
        """Do what is due at this moment."""
        assert self.plan is not None, "it leads"
        for source in self.sources.values():
            if source.dial is not None and source.knock is None:
                await self.connect(source)
        for due in self.plan.due(self.clock.wall_ms()):
            try:
                await self._read(due)
            except ExchangeError as error:
                self.plan.failed(due, error, now_ms=self.clock.wall_ms())
            else:
                self.plan.done(due, now_ms=self.clock.wall_ms())

    async def connect(self, source: Source) -> Wait | None:
        """Try to connect, if the ledger gives leave."""
        leave = await source.purse.reserve(CONNECT, priority=Priority.KEEP)
        if isinstance(leave, Wait):
            return leave
        knock = Knock()
        assert source.dial is not None, "it streams"
        try:
            await source.dial.open(source.adapter.session(["BTC-USD"]), knock)
        except ExchangeError as error:
            await source.purse.heed(error, "ws")
        else:
            source.knock = knock
            await knock.leave()
        await source.purse.settle(leave, (), now_ms=self.clock.wall_ms())
        return None

    async def _read(self, due: Due) -> None:
        source, now_ms = self.sources[due.source], self.clock.wall_ms()
        life_ms = 7_200_000
        if due.purpose == "symbols":
            answers = [
                await source.pull.fetch(request, priority=due.priority)
                for request in source.adapter.symbol_requests()
            ]
            source.symbols = source.adapter.read_symbols(answers)
            await self.tables.save_listings(
                due.source, list(source.symbols), now_ms=now_ms, life_ms=life_ms
            )
            return
        listings = list(source.symbols)[: source.wanted]
        for request in source.adapter.snapshot_requests(listings):
            answer = await source.pull.fetch(request, priority=due.priority)
            source.adapter.read_snapshot(answer)
        await self.tables.save_snapshot(due.source, now_ms=now_ms, life_ms=life_ms)

    def demand(self, name: str, wanted: int) -> None:
        """Have clients want something else of a source."""
        assert self.plan is not None, "it leads"
        self.sources[name].wanted = wanted
        self.plan.ask(name, now_ms=self.clock.wall_ms())


@dataclass(frozen=True)
class Footprint:
    """What the exchanges counted of everybody together."""

    instances: int
    requests: int
    weight: int
    attempts: int
    breaches: int
    earned: int
    bans: int

    @classmethod
    def of(cls, simulator: Simulator, instances: int, *, others: int) -> "Footprint":
        """Ask the referee; ``others`` is the weight that was not ours."""
        totals = [one.total for one in simulator.counts().exchanges.values()]
        return cls(
            instances,
            sum(one.requests.total for one in totals),
            sum(one.weight_spent for one in totals) - others,
            sum(one.connections.attempts for one in totals),
            sum(one.breaches_total for one in totals),
            sum(sum(one.refusals.earned.values()) for one in totals),
            sum(one.bans for one in totals),
        )


def print_table(rows: Sequence[Footprint]) -> None:
    """Print footprints side by side."""
    names = list(Footprint.__dataclass_fields__)
    lines = ["  ".join(f"{name:>9}" for name in names)]
    lines += ["  ".join(f"{getattr(row, name):>9}" for name in names) for row in rows]
    sys.stdout.write("\n" + "\n".join(lines) + "\n")


# Each follower asks for the lease every second. Of many, so few do here that one of
# them does: more would only be slower, fewer leave the few without a leader longer.
ASK_EVERY_MAX_S = 20
# A takeover takes a lease and a turn of asking at most. Leaders die no closer together,
# since a death that finds nobody leading would be one connection less.
APART_S = 24
LATE_S = 8


@dataclass(frozen=True)
class Script:
    """What happens when, the same for any number of instances."""

    restarts_s: frozenset[int]
    demands: dict[int, tuple[str, int]]
    others_s: frozenset[int]

    @classmethod
    def of(cls, seed: int, seconds: int) -> "Script":
        """Draw one: a restart each four minutes or so, a demand each ten seconds."""
        chance = random.Random(seed)
        moments = range(60, max(seconds, 61))
        deaths = range(60, max(seconds - APART_S, 61), APART_S)
        return cls(
            frozenset(
                second + chance.randint(0, LATE_S)
                for second in chance.sample(deaths, min(seconds // 240, len(deaths)))
            ),
            {
                second: (chance.choice(STREAMING), chance.randint(5, 60))
                for second in chance.sample(moments, min(seconds // 10, len(moments)))
            },
            frozenset(chance.sample(moments, min(seconds // 30, len(moments)))),
        )


# rest-api.md: what exchangeInfo costs.
OTHERS_WEIGHT = 20


class Hour:
    """A run of one board with some instances, by a script."""

    def __init__(self, world: World, instances: int, script: Script) -> None:
        self.world, self.script = world, script
        self.instances = [Instance(world, "spot") for _ in range(instances)]
        self.others = 0

    async def run(self, seconds: int) -> Footprint:
        """Let so many seconds pass."""
        count = len(self.instances)
        for second in range(seconds):
            await self._happen(second)
            await self._ask(second)
            for instance in self.instances:
                if instance.lease.token:
                    await instance.work()
            self.world.clock.advance(1_000)
        for instance in self.instances:
            await instance.close()
        return Footprint.of(self.world.simulator, count, others=self.others)

    async def _happen(self, second: int) -> None:
        """Restart whoever leads, and somebody else; have clients and others act."""
        leaders = [one for one in self.instances if one.lease.token]
        if second in self.script.restarts_s:
            for one in {*leaders, self.world.random.choice(self.instances)}:
                await self._restart(one)
        elif second in self.script.demands and leaders:
            leaders[0].demand(*self.script.demands[second])
        if second in self.script.others_s:
            await self._others_spend()

    async def _restart(self, instance: Instance) -> None:
        place = self.instances.index(instance)
        await instance.close()
        self.instances[place] = Instance(self.world, instance.board)

    async def _others_spend(self) -> None:
        """Let somebody behind our address read from Binance as well."""
        url = f"{self.world.simulator.url}/api/v3/exchangeInfo"
        answer = await self.world.stranger.get(url, params={"symbol": "BTCUSDT"})
        assert answer.status_code == 200
        self.others += OTHERS_WEIGHT

    async def _ask(self, second: int) -> None:
        every_s = min(len(self.instances), ASK_EVERY_MAX_S)
        for place, instance in enumerate(self.instances):
            leads = bool(instance.lease.token)
            if (leads and second % 3 == 0) or (
                not leads and (second + place) % every_s == 0
            ):
                await instance.ask_to_lead()
