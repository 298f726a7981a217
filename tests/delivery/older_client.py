"""A front end of an earlier system, as small as one can be.

It knows the older names and payloads and nothing else: no cursor, no ``/v1``, nothing
of the relay is imported. It checks what it is sent as a careful front end would.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import anyio
import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

Body = dict[str, Any]

# How long anything may take before the front end gives up.
PATIENCE_S = 10
# How older front ends keep a connection: documented with the payloads, but for the
# first delay, which is of a test.
PING_S = 30
STALE_S = 30
ATTEMPTS_MAX = 10
FIRST_DELAY_S = 0.05

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")
_DECIMAL = re.compile(r"\d+(\.\d+)?")


def read_instant(text: str) -> float:
    """Read a timestamp into Unix seconds."""
    assert _INSTANT.fullmatch(text), text
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def check_price(text: object) -> None:
    """Take decimal text only: a number would have lost digits."""
    assert isinstance(text, str), text
    assert _DECIMAL.fullmatch(text), text


class OlderClient:
    """Reads ``/api/prices``, ``/ws/prices`` and ``/api/market-data/stream``."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = httpx.AsyncClient(base_url=url, timeout=PATIENCE_S)

    async def close(self) -> None:
        """Let go of its connections."""
        await self._http.aclose()

    async def get(self, path: str) -> Body:
        """Read one JSON object."""
        answer = await self._http.get(path)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        body: Body = answer.json()
        return body

    async def everything(self) -> Body:
        """Read all prices."""
        body = await self.get("/api/prices")
        assert list(body) == ["prices", "timestamp", "source", "count"]
        assert body["count"] == len(body["prices"])
        read_instant(body["timestamp"])
        for price in body["prices"].values():
            check_price(price)
        return body

    async def price(self, symbol: str) -> Body | None:
        """Read one price; None when it is unknown."""
        answer = await self._http.get(f"/api/prices/{symbol}")
        body: Body = answer.json()
        if answer.status_code == 404:
            return None
        assert list(body) == ["symbol", "price", "source", "timestamp", "cached"]
        assert body["symbol"] == symbol
        check_price(body["price"])
        read_instant(body["timestamp"])
        return body

    async def bulk(self, *symbols: str) -> Body:
        """Read some prices."""
        body = await self.get(f"/api/prices/bulk/{','.join(symbols)}")
        assert list(body) == ["prices", "missing", "timestamp"]
        assert {*body["prices"], *body["missing"]} == set(symbols)
        return body

    async def reset(self, key: str = "") -> int:
        """Set the counters back; returns the status."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        path = "/api/prices/metrics/reset"
        answer = await self._http.post(path, headers=headers)
        assert answer.headers["content-type"] == "application/json"
        return answer.status_code

    @asynccontextmanager
    async def socket(self, symbol: str = "") -> AsyncIterator["OlderSocket"]:
        """Open the WebSocket for everything, or for one price."""
        place = f"/ws/prices/{symbol}" if symbol else "/ws/prices"
        async with connect(self._url.replace("http", "ws", 1) + place) as connection:
            yield OlderSocket(connection)

    @asynccontextmanager
    async def follow(self, symbol: str = "") -> AsyncIterator["Follower"]:
        """Follow prices over connection after connection."""
        follower = Follower(self, symbol)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(follower.run())
            yield follower
            running.cancel()

    @asynccontextmanager
    async def stream(self, *pairs: str) -> AsyncIterator["OlderStream"]:
        """Open the stream of some pairs."""
        path = f"/api/market-data/stream?pairs={','.join(pairs)}"
        async with self._http.stream("GET", path) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/event-stream"
            yield OlderStream(answer)


class OlderSocket:
    """Keeps the newest price of each id, and the last state it was told."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.prices: dict[str, str] = {}
        self.state = ""
        self.heard: list[Body] = []

    async def hear(self) -> str | Body:
        """Take in one message, and return it."""
        with anyio.fail_after(PATIENCE_S):
            text = await self.connection.recv()
        assert isinstance(text, str)
        if text == "pong":
            return text
        body: Body = json.loads(text)
        self.heard.append(body)
        if body["type"] == "price_update":
            assert list(body) == ["type", "prices", "timestamp", "source"]
            read_instant(body["timestamp"])
            for price in body["prices"].values():
                check_price(price)
            self.prices |= body["prices"]
        elif body["type"] == "status":
            self.state = body["state"]
        return body

    async def hear_the_end(self) -> int:
        """Take in what still comes, and return the code of the close."""
        with anyio.fail_after(PATIENCE_S), suppress(ConnectionClosed):
            while True:
                await self.connection.recv()
        assert self.connection.close_code is not None
        return self.connection.close_code

    async def hear_until(self, kind: str) -> Body:
        """Take in messages until one of a kind comes."""
        while True:
            body = await self.hear()
            if isinstance(body, dict) and body["type"] == kind:
                return body


class Follower:
    """Stays connected, as front ends do: it pings, and comes back when it was cut."""

    def __init__(self, client: OlderClient, symbol: str) -> None:
        self._client, self._symbol = client, symbol
        self.prices: dict[str, str] = {}
        self.opened = 0
        self.heard_s = 0.0

    @property
    def is_stale(self) -> bool:
        """Whether nothing was heard for too long."""
        return asyncio.get_running_loop().time() - self.heard_s > STALE_S

    async def run(self) -> None:
        """Follow; gives up after ten attempts in a row that led to nothing."""
        attempts = 0
        while attempts < ATTEMPTS_MAX:
            before = self.opened
            with suppress(ConnectionClosed, OSError):
                await self._follow()
            attempts = 0 if self.opened > before else attempts + 1
            await anyio.sleep(FIRST_DELAY_S * 2**attempts)
        raise ConnectionError("the relay is gone")

    async def _follow(self) -> None:
        async with self._client.socket(self._symbol) as socket:
            await socket.hear_until("connection")
            self.opened += 1
            while True:
                await socket.connection.send("ping")
                with anyio.move_on_after(PING_S):
                    while True:
                        await socket.hear()
                        self.prices |= socket.prices
                        self.heard_s = asyncio.get_running_loop().time()


class OlderStream:
    """Reads events without a name; comments only show that the line lives."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.aiter_lines()
        self.comments = 0

    async def next(self) -> Body:
        """Read the next event; its price comes back as the text that was sent."""
        data = ""
        with anyio.fail_after(PATIENCE_S):
            async for line in self._lines:
                if line.startswith(":"):
                    self.comments += 1
                elif line.startswith("data: "):
                    data = line.removeprefix("data: ")
                elif not line and data:
                    break
        assert data, "the stream has ended"
        # A number's own digits, which a float would lose.
        body: Body = json.loads(data, parse_float=str, parse_int=str)
        expected = ["pair", "price", "priceText", "timestamp", "source", "cached"]
        assert list(body) == expected
        assert f'"price":{body["priceText"]},' in data
        return body
