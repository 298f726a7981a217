"""Clients that read for ever by each of the four ways, and keep count of the promises.

Each keeps its cursor, goes to the other instance when one fails it, and drops what is
older than what it has. What is done to the relay meanwhile is ``fleet``'s.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Final, cast

import httpx
import msgspec
import websockets
from msgspec import Struct
from msgspec.structs import replace

from relay.model import Cursor
from tests.faults.sent import Sent

HEARTBEAT_S: Final = 2
"""What the fleet's settings say; a stream that is quiet for three is given up."""

PATIENCE_S: Final = 3 * HEARTBEAT_S
_AGAIN_S: Final = 0.1
# What a cache may show for fresh: a second, two more while it fetches, and the second
# that a Date is cut to.
_OLD_S: Final = 4
_SHOWN: Final = ("price", "bid", "ask")
LEADING: Final = "BTC-USD"
"""It moves at least every 100 ms, so its age is the relay's."""


class Shown(Struct, frozen=True):
    """What an observer reads of a ticker."""

    offset: int
    source: str = ""
    price: str = ""
    bid: str = ""
    ask: str = ""
    event_ms: int = 0
    received_ms: int = 0
    stale: bool = False

    @property
    def of_ms(self) -> int:
        """When it was true: the exchange's own time, where it gives one."""
        return self.event_ms or self.received_ms


class Body(Struct, frozen=True):
    """The body that all four ways share."""

    cursor: str
    live: bool
    prices: dict[str, Shown]
    missing: list[str] = []
    gone: list[str] = []
    reset: bool = False


_body: Final = msgspec.json.Decoder(Body).decode


def _age_s(headers: httpx.Headers, now_ms: int) -> float:
    """Return how old an answer says it is: by its Age, or else by its Date."""
    if "age" in headers:
        return int(headers["age"])
    return now_ms / 1000 - parsedate_to_datetime(headers["date"]).timestamp()


def _order(cursor: Cursor) -> tuple[int, str, int]:
    """Order cursors: epochs are times in base 36, so a longer one is later."""
    return len(cursor.epoch), cursor.epoch, cursor.offset


class Observer:
    """One client; ``wrong`` is what must never be, ``errors`` what may happen."""

    def __init__(
        self,
        name: str,
        urls: Sequence[str],
        symbols: Sequence[str],
        *,
        sent: Sent,
        now: Callable[[], int],
    ) -> None:
        self.name, self._urls = name, list(urls)
        self.symbols = list(symbols)
        self._sent, self.now = sent, now
        self.cursor = ""
        self.live = False
        self.held: dict[str, Shown] = {}
        self.wrong: list[str] = []
        self.errors: Counter[str] = Counter()
        self.answers = 0
        self.worst_ms = 0
        self._heard_ms = 0
        self._events: dict[tuple[str, str], int] = {}

    @property
    def url(self) -> str:
        """The instance that this client talks to now."""
        return self._urls[0]

    @property
    def query(self) -> dict[str, str]:
        """What it asks for."""
        return {"symbols": ",".join(self.symbols)}

    async def watch(
        self, once: Callable[["Observer"], AsyncGenerator[Body, None]]
    ) -> None:
        """Read for ever; an error sends it to the other instance."""
        while True:
            try:
                async with aclosing(once(self)) as bodies:
                    async for body in bodies:
                        self.take(body)
            except (httpx.HTTPError, OSError, websockets.WebSocketException) as error:
                self._fail(type(error).__name__)
            except (TimeoutError, httpx.InvalidURL) as error:
                self._fail(type(error).__name__)
            await asyncio.sleep(_AGAIN_S)

    def _fail(self, reason: str) -> None:
        self.errors[reason] += 1
        self._heard_ms = 0
        self._urls.append(self._urls.pop(0))

    def refuse(self, status: int) -> None:
        """Count an answer that was an error, which sends it elsewhere."""
        self._fail(f"{status}")
        if status not in (502, 503):
            self.wrong.append(f"{self.name}: answered {status}")

    def hear(self) -> None:
        """Note a sign of life."""
        self._heard_ms = self.now()

    def take(self, body: Body) -> None:
        """Take in a body, unless it is older than what is held."""
        self.hear()
        self.answers += 1
        if self.cursor:
            before, after = Cursor.parse(self.cursor), Cursor.parse(body.cursor)
            if _order(after) < _order(before):
                if self.name.startswith("rest"):
                    self.errors["older, dropped"] += 1
                else:
                    self.wrong.append(f"{self.name}: {before} stepped back to {after}")
                return
        self.live, self.cursor = body.live, body.cursor
        for name, shown in body.prices.items():
            self._compare(name, shown, self.held.get(name), reset=body.reset)
            self.held[name] = shown
        for name in (*body.gone, *(body.missing if body.reset else ())):
            self.held.pop(name, None)
        self.look()

    def _compare(
        self, name: str, shown: Shown, held: Shown | None, *, reset: bool
    ) -> None:
        if held is not None and shown.offset < held.offset:
            self.wrong.append(f"{self.name}: {name} {held} stepped back to {shown}")
        key = name, shown.source
        if 0 < shown.event_ms < self._events.get(key, 0):
            kind = "was reset" if reset else "stepped"
            self.wrong.append(
                f"{self.name}: {name} {kind} back in time, {self._events[key]} "
                f"to {shown}"
            )
        self._events[key] = max(shown.event_ms, self._events.get(key, 0))
        self.wrong += [
            f"{self.name}: {name} {field} {getattr(shown, field)!r} was never sent"
            for field in _SHOWN
            if getattr(shown, field) and getattr(shown, field) not in self._sent
        ]
        if shown.price in self._sent.lies:
            self.wrong.append(f"{self.name}: {name} {shown.price!r} is a lie")

    def look(self) -> None:
        """Note how old the leading price is, where it is shown as live."""
        shown, now_ms = self.held.get(LEADING), self.now()
        if shown is None or shown.stale or not self.live:
            return
        if now_ms - self._heard_ms > PATIENCE_S * 1000:
            return  # a client that hears nothing says so itself
        self.worst_ms = max(self.worst_ms, now_ms - shown.of_ms)

    def holds(self, pins: Mapping[str, Mapping[str, str]]) -> bool:
        """Tell whether everything selected is held, live, and the newest of it."""
        return self.live and not self.lacks(pins)

    def lacks(self, pins: Mapping[str, Mapping[str, str]]) -> list[str]:
        """Return what is missing or is not the newest that its source has sent."""
        lacking = [name for name in self.symbols if name not in self.held]
        for name, by_source in pins.items():
            if not by_source:
                continue
            shown = self.held.get(name)
            newest = by_source.get(shown.source) if shown else None
            if shown and (newest is None or Decimal(shown.price) != Decimal(newest)):
                lacking.append(f"{name}: {shown} is not {newest}")
        return lacking


async def rest(observer: Observer) -> AsyncGenerator[Body, None]:
    """Read again and again, conditionally, from one instance and then the other."""
    tags: dict[str, str] = {}
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        while True:
            url = f"{observer.url}/v1/prices"
            headers = {"if-none-match": tags[url]} if url in tags else {}
            answer = await client.get(url, params=observer.query, headers=headers)
            if answer.status_code == 304:
                observer.hear()
            elif answer.status_code == 200:
                tags[url] = answer.headers["etag"]
                body = _body(answer.content)
                old = _age_s(answer.headers, observer.now()) > _OLD_S
                yield replace(body, live=False) if old else body
            else:
                observer.refuse(answer.status_code)
            observer.look()
            await asyncio.sleep(0.2)


async def poll(observer: Observer) -> AsyncGenerator[Body, None]:
    """Hold one poll after the other."""
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        while True:
            query = observer.query
            if observer.cursor:
                query["cursor"] = observer.cursor
            answer = await client.get(f"{observer.url}/v1/poll", params=query)
            if answer.status_code == 200:
                yield _body(answer.content)
            else:
                observer.refuse(answer.status_code)
                await asyncio.sleep(_AGAIN_S)


async def sse(observer: Observer) -> AsyncGenerator[Body, None]:
    """Read one stream to its end."""
    headers = {"last-event-id": observer.cursor} if observer.cursor else {}
    url = f"{observer.url}/v1/stream"
    async with (
        httpx.AsyncClient(timeout=PATIENCE_S) as client,
        client.stream("GET", url, params=observer.query, headers=headers) as answer,
    ):
        if answer.status_code != 200:
            observer.refuse(answer.status_code)
            return
        named = False  # an event with a name is none of the board's
        async for line in answer.aiter_lines():
            observer.hear()
            if not line:
                named = False
            elif line.startswith("event: "):
                named = line != "event: prices"
            elif line.startswith("data: ") and not named:
                yield _body(line.removeprefix("data: "))


async def ws(observer: Observer) -> AsyncGenerator[Body, None]:
    """Read one WebSocket to its end."""
    url = observer.url.replace("http", "ws", 1) + "/v1/ws"
    hello: dict[str, object] = {"type": "subscribe", "symbols": observer.symbols}
    if observer.cursor:
        hello["cursor"] = observer.cursor
    async with websockets.connect(
        url, open_timeout=PATIENCE_S, close_timeout=0.2, ping_interval=None
    ) as socket:
        await socket.send(msgspec.json.encode(hello).decode())
        while True:
            async with asyncio.timeout(PATIENCE_S):
                message = cast("str", await socket.recv())
            observer.hear()
            if message.startswith('{"type":"update"'):
                yield _body(message)
            elif message.startswith('{"type":"error"'):
                observer.wrong.append(f"{observer.name}: {message}")


WAYS: Final = {"rest": rest, "poll": poll, "sse": sse, "ws": ws}


async def sample(observers: Sequence[Observer]) -> None:
    """Look at every observer's clock for ever: what it shows ages while it waits."""
    with suppress(asyncio.CancelledError):
        while True:
            for observer in observers:
                observer.look()
            await asyncio.sleep(0.1)
