"""One scenario through reads, polls, streams and WebSockets: one answer, four times.

And one client that changes from each way to the next, under bursts.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random

import pytest
from msgspec.structs import replace

from relay.config import Settings
from relay.model import Cursor, Selection, Ticker
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.live import Body, Live, Socket, live
from tests.harness import eventually

PAIR = "BTC-USD,ETH-USD"


@pytest.fixture
async def relay(client: Client, keys: Keys, settings: Settings) -> AsyncIterator[Live]:
    """Return a running instance."""
    http = replace(settings.http, heartbeat_ms=200)
    async with live(client, keys, replace(settings, http=http)) as relay:
        yield relay


async def read(relay: Live, symbols: str, cursor: str) -> Body:
    """Read the values, which know no cursor but in the condition."""
    headers = {"if-none-match": f'"{cursor}"'} if cursor else {}
    answer = await relay.asker.get(f"/v1/prices?symbols={symbols}", headers=headers)
    body: Body = answer.json()
    assert answer.headers["etag"] == f'"{body["cursor"]}"'
    return body


async def poll(relay: Live, symbols: str, cursor: str) -> Body:
    """Poll once."""
    since = f"&cursor={cursor}" if cursor else ""
    body: Body = (await relay.poll(f"symbols={symbols}{since}")).json()
    return body


async def stream(relay: Live, symbols: str, cursor: str) -> Body:
    """Read the first event of a stream."""
    async with relay.stream(f"symbols={symbols}", last=cursor) as events:
        body = await events.next()
        assert events.id == body["cursor"]
        return body


async def socket(relay: Live, symbols: str, cursor: str) -> Body:
    """Read the first update of a WebSocket."""
    since = {"cursor": cursor} if cursor else {}
    async with relay.socket() as one:
        await one.say(type="subscribe", symbols=symbols.split(","), **since)
        body = await one.hear()
        assert body.pop("type") == "update"
        return body


Way = Callable[[Live, str, str], Awaitable[Body]]
WAYS: tuple[Way, ...] = (read, poll, stream, socket)


async def everywhere(relay: Live, symbols: str, cursor: str, *ways: Way) -> Body:
    """Return the body that all ways agree on."""
    bodies = [await way(relay, symbols, cursor) for way in ways or WAYS]
    texts = {json.dumps(body) for body in bodies}
    assert len(texts) == 1, texts
    return bodies[0]


async def test_four_ways_give_the_same_body(relay: Live) -> None:
    """Whole, changed, added to, removed, foreign: byte for byte and in one order."""
    leader = relay.leader
    whole = await everywhere(relay, PAIR, "")
    assert whole["prices"]["BTC-USD"]["price"] == "61000.10"

    await leader.publish({"ETH-USD": "3000.500"})
    await relay.mark()
    # A read always shows everything; the others, what has changed.
    changed = await everywhere(relay, PAIR, whole["cursor"], poll, stream, socket)
    assert list(changed["prices"]) == ["ETH-USD"]
    assert (await everywhere(relay, PAIR, ""))["cursor"] == changed["cursor"]

    grown = await everywhere(relay, f"{PAIR},FOO-USD", changed["cursor"])
    assert (sorted(grown["prices"]), grown["missing"]) == (PAIR.split(","), ["FOO-USD"])

    await leader.publish({"ETH-USD": Ticker(removed=True)})
    await relay.mark()
    gone = await everywhere(relay, PAIR, changed["cursor"], poll, stream, socket)
    assert (gone["gone"], gone["prices"]) == (["ETH-USD"], {})
    after = await everywhere(relay, PAIR, "")
    assert (after["missing"], after["gone"]) == (["ETH-USD"], [])

    foreign = str(Cursor("a", changed["cursor"].split(".")[1], 1))
    reset = await everywhere(relay, PAIR, foreign, poll, stream, socket)
    assert reset["reset"] is True
    assert list(reset["prices"]) == ["BTC-USD"]


async def test_four_ways_say_alike_that_nobody_ingests(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """The same suffix, so that a cursor may change ways here as well."""
    settings = replace(settings, ingest=replace(settings.ingest, beat_ms=500))
    async with live(client, keys, settings) as relay:
        await eventually(lambda: not relay.hub.live)
        body = await everywhere(relay, PAIR, "")
        assert body["live"] is False
        assert body["cursor"].endswith("~d")


HOUR_MS = 3_600_000
MINUTE_MS = 60_000


async def since(relay: Live, symbols: str, cursor: str) -> Body:
    """Read what has changed since a cursor, at once."""
    answer = await relay.asker.get(f"/v1/prices?symbols={symbols}&cursor={cursor}")
    body: Body = answer.json()
    return body


def forged(relay: Live, *, offset_ms: int, epoch: str = "") -> Cursor:
    """Return a cursor of the pair that is so far ahead of the clock."""
    selection = Selection.of(PAIR.split(","))
    now_ms = relay.hub.clock.wall_ms()
    return Cursor(epoch or relay.hub.board.epoch, selection.hash, now_ms + offset_ms)


@pytest.mark.parametrize("epoch", ["", "zzzzzzzzzzzz", "000000000001"])
async def test_a_cursor_that_nobody_can_have_handed_out_is_answered_anew(
    relay: Live, epoch: str
) -> None:
    """Held, it would be held for ever, and its time shown as ours."""
    cursor = forged(relay, offset_ms=HOUR_MS + MINUTE_MS, epoch=epoch)
    body = await everywhere(relay, PAIR, str(cursor), poll, stream, socket)
    assert body["reset"] is True
    assert sorted(body["prices"]) == PAIR.split(",")
    assert body["as_of_ms"] == relay.hub.board.offset
    whole = await since(relay, PAIR, str(cursor))
    assert whole.pop("cursor") == f"{body['cursor']}~r"
    assert whole == {name: one for name, one in body.items() if name != "cursor"}
    assert (await read(relay, PAIR, str(cursor)))["prices"] == body["prices"]


async def test_a_cursor_somewhat_ahead_is_never_answered_with_something_older(
    relay: Live,
) -> None:
    """Another instance may know more; with another selection it may as well."""
    ahead = forged(relay, offset_ms=MINUTE_MS)
    for cursor in (ahead, replace(ahead, selection="other")):
        path = f"symbols={PAIR}&cursor={cursor}"
        held = await relay.poll(f"{path}&wait=0")
        assert held.json()["cursor"].startswith(f"{cursor}~")
        assert held.json()["prices"] == {}
        assert (await since(relay, PAIR, str(cursor)))["prices"] == {}
        async with relay.stream(path) as events, relay.socket() as one:
            assert await events.block() == [":", "retry: 1000"]
            assert await events.block() == [":"], "a heartbeat"
            await one.say(type="resume", symbols=PAIR.split(","), cursor=str(cursor))
            await one.say(type="ping")
            assert (await one.hear())["type"] == "pong"
            await relay.leader.mark()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await one.hear()
    tag = {"if-none-match": f'"{ahead}"'}
    answer = await relay.asker.get(f"/v1/prices?symbols={PAIR}", headers=tag)
    assert answer.status_code == 304


async def test_another_selection_of_another_life_is_a_reset_as_well(
    relay: Live,
) -> None:
    """What the client holds is of a board that is no more, whatever it selects now."""
    foreign = str(Cursor("a", "other", 1))
    body = await everywhere(relay, PAIR, foreign, poll, stream, socket)
    assert body["reset"] is True


class Traveller:
    """A client that goes from way to way with one cursor, and trusts it."""

    def __init__(self) -> None:
        self.cursor = ""
        self.prices: dict[str, Body] = {}
        self.symbols = ["N0-USD", "N1-USD"]

    @property
    def asked(self) -> str:
        """The selection as it stands in a URL."""
        return ",".join(self.symbols)

    @property
    def has_all(self) -> bool:
        """Whether it holds some value of everything it wants."""
        return set(self.symbols) == set(self.prices)

    def add(self, name: str) -> None:
        """Want one more."""
        self.symbols.append(name)

    def take(self, body: Body) -> None:
        """Take in a body: nothing steps back, and no reset is called for."""
        assert "reset" not in body
        for name, row in body["prices"].items():
            held = self.prices.get(name)
            assert held is None or held["offset"] <= row["offset"]
            self.prices[name] = row
        if self.cursor:
            assert body["as_of_ms"] >= Cursor.parse(self.cursor).offset
        self.cursor = body["cursor"]

    def holds(self, published: dict[str, str]) -> bool:
        """Tell whether it holds the newest of everything it wants."""
        return all(
            self.prices.get(name, {}).get("price") == published[name]
            for name in self.symbols
        )


class Burst:
    """Publishes without a pause, and marks now and then, until told to stop."""

    def __init__(self, relay: Live, seed: int) -> None:
        self._relay, self._random = relay, Random(seed)
        self.published: dict[str, str] = {}
        self.stopped = False

    async def run(self) -> None:
        """Publish; the last mark comes after the last batch."""
        names = [f"N{number}-USD" for number in range(12)]
        await self._publish(names)
        while not self.stopped:
            await self._publish(self._random.sample(names, self._random.randint(1, 5)))
            if self._random.random() < 0.2:
                await self._relay.leader.mark()
        await self._relay.mark()

    async def _publish(self, names: list[str]) -> None:
        prices = {name: f"{self._random.randint(1, 10**9)}.50" for name in names}
        await self._relay.leader.publish(prices)
        self.published |= prices


async def travel(relay: Live, client: Traveller) -> None:
    """Read, poll and stream, adding an instrument before each change of ways."""
    client.take(await read(relay, client.asked, ""))
    for _ in range(3):
        client.take(await poll(relay, client.asked, client.cursor))
    client.add("N2-USD")
    client.take(await poll(relay, client.asked, client.cursor))
    assert client.has_all
    client.add("N3-USD")
    async with relay.stream(f"symbols={client.asked}", client.cursor) as events:
        for _ in range(5):
            client.take(await events.next())
    assert client.has_all


async def subscribe(one: Socket, client: Traveller) -> None:
    """Go on over a WebSocket, adding two instruments in place."""
    await one.say(type="resume", symbols=client.symbols, cursor=client.cursor)
    for name in ("N4-USD", "N5-USD"):
        client.take(await one.hear())
        client.add(name)
        await one.say(type="subscribe", symbols=[name])
    while not client.has_all:
        client.take(await one.hear())


@pytest.mark.parametrize("seed", range(3))
async def test_a_client_that_changes_ways_misses_nothing(
    relay: Live, seed: int
) -> None:
    """Each instrument's newest value reaches it, and no offset goes down."""
    burst, client = Burst(relay, seed), Traveller()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(burst.run())
        await eventually(lambda: "N0-USD" in relay.hub.board.rows)
        await travel(relay, client)
        async with relay.socket() as one:
            await subscribe(one, client)
            burst.stopped = True
            await running
            while not client.holds(burst.published):
                client.take(await one.hear())
    # Back to where it began, with the same cursor: nothing is left to be told.
    again = await relay.poll(f"symbols={client.asked}&cursor={client.cursor}&wait=0")
    assert again.json()["prices"] == {}
    condition = {"if-none-match": f'"{client.cursor}"'}
    path = f"/v1/prices?symbols={client.asked}"
    answer = await relay.asker.get(path, headers=condition)
    assert answer.status_code == 304
