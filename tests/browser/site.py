"""A relay that a browser reads: one instance on a port of its own, and its leader."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from msgspec.structs import replace

from relay.config import Settings
from relay.delivery.server import Addresses, Server
from relay.hub import Hub
from relay.model import Ticker
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.serving import Leader, make_app, make_hub
from tests.harness import eventually

_MARK_S = 0.2
_HEALTH = (
    b'{"sources":{"coinbase":{"alive":true,"age_ms":20,"reason":"","shown":2,'
    b'"listed":2,"drops":{}},"kraken":{"alive":false,"age_ms":90000,'
    b'"reason":"connection refused","shown":0,"listed":0,"drops":{}}},'
    b'"streams":{"coinbase":[{"host":"x","state":"open","since_ms":1,"frames":9,'
    b'"wanted":2,"subscribed":2,"error":""}]},"budgets":{"kraken":[{"limit":"weight",'
    b'"used":9,"most":10,"window_ms":60000,"frees_ms":0,'
    b'"cooling_until_ms":4102444800000}]}}'
)


def ticker(price: str, *, event_ms: int = 0) -> Ticker:
    """Return a ticker with all that a row shows."""
    return Ticker(
        price=price,
        bid=price,
        ask=price,
        change_24h_pct="-1.257",
        high_24h="70000.00",
        low_24h="1.00",
        source="coinbase",
        event_ms=event_ms,
        received_ms=event_ms,
    )


class Site:
    """One instance that can be stopped and started again where it was."""

    def __init__(self, client: Client, keys: Keys, settings: Settings) -> None:
        self._client, self._keys = client, keys
        http = replace(settings.http, port=0, drain_ms=300)
        self._settings = replace(settings, http=http)
        self.leader = Leader(client, keys)
        self._server: Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self.hub: Hub
        self.url = ""

    async def publish(self, prices: Mapping[str, str]) -> None:
        """Publish prices as of now."""
        now_ms = self._client.clock.wall_ms()
        rows = {name: ticker(price, event_ms=now_ms) for name, price in prices.items()}
        await self.leader.publish(rows)

    def lock(self, lines: tuple[str, ...]) -> None:
        """Let in who has one of these keys, from the next start on."""
        doors = replace(self._settings.doors, reading="keys", keys=lines)
        self._settings = replace(self._settings, doors=doors)

    async def remember(self, name: str, points: Iterable[tuple[int, str]]) -> None:
        """Write an instrument's last minutes, oldest first: milliseconds and price."""
        lease = await self.leader.lease()
        for at_ms, price in points:
            point = {name: f'[{at_ms},"{price}"]'.encode()}
            await self.leader.writer.remember(lease, point, most=60, life_ms=60_000)

    async def mark(self, *, beat_ms: int = 5000) -> None:
        """Write one mark, with the health of two sources and a budget that cools."""
        await self.leader.mark(beat_ms=beat_ms, health=_HEALTH)

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Listen; at the same port as before, where there was one."""
        self.hub = make_hub(self._client, self._keys, self._settings)
        told: list[Addresses] = []
        self._server = Server(
            make_app(self._client, self._keys, self._settings, self.hub),
            self._settings.http,
            started=told.append,
            drain=self.hub.drain,
        )
        self._serving = tasks.create_task(self._server.run())
        await eventually(lambda: bool(told))
        host, port = told[0][0]
        self._settings = replace(
            self._settings, http=replace(self._settings.http, port=port)
        )
        self.url = f"http://{host}:{port}"
        await eventually(lambda: self.hub.ready and bool(self.hub.mark))

    async def stop(self) -> None:
        """Stop listening."""
        assert self._server is not None
        assert self._serving is not None
        self._server.stop()
        await self._serving

    def clients(self, way: str) -> int:
        """Return how many clients are held by this way out."""
        return self.hub.counts.clients[way]


class Running:
    """A site that runs, and the tasks that run it."""

    def __init__(self, site: Site, tasks: asyncio.TaskGroup) -> None:
        self.site, self._tasks = site, tasks
        self._moving: asyncio.Task[None] | None = None
        self._beating = tasks.create_task(_beat(site))

    async def silence(self) -> None:
        """Let nobody refresh the prices any more."""
        self._beating.cancel()
        await self.site.mark(beat_ms=1)

    def beat(self) -> None:
        """Let somebody refresh them again."""
        self._beating = self._tasks.create_task(_beat(self.site))

    async def restart(self) -> None:
        """Start what does not run, or was stopped."""
        await self.site.start(self._tasks)

    async def stop(self) -> None:
        """End everything."""
        self.hold()
        self._beating.cancel()
        await self.site.stop()

    def move(self, names: list[str], *, every_s: float = 0.05) -> None:
        """Let these prices rise and fall for as long as the site runs."""
        self._moving = self._tasks.create_task(_move(self.site, names, every_s))

    def hold(self) -> None:
        """Let prices stand still."""
        if self._moving is not None:
            self._moving.cancel()


@asynccontextmanager
async def running(
    client: Client, keys: Keys, settings: Settings, prices: Mapping[str, str]
) -> AsyncIterator[Running]:
    """Run a site whose board holds these prices, marked as time goes on."""
    site = Site(client, keys, settings)
    await site.publish(prices)
    async with asyncio.TaskGroup() as tasks:
        run = Running(site, tasks)
        await run.restart()
        try:
            yield run
        finally:
            await run.stop()


async def _beat(site: Site) -> None:
    while True:
        await site.mark()
        await asyncio.sleep(_MARK_S)


async def _move(site: Site, names: list[str], every_s: float) -> None:
    turn = 0
    while True:
        turn += 1
        prices = {
            name: f"{60000 + (turn * 7 + index * 13) % 100}.{turn % 100:02}"
            for index, name in enumerate(names)
        }
        await site.publish(prices)
        await asyncio.sleep(every_s)
