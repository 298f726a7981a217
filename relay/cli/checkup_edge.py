"""Checks a public address as clients use it: conditions, collapse, an unheld stream."""

import asyncio
from typing import Final

import httpx
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from relay.cli.finding import Finding, Verdict
from relay.client import ClientError
from relay.client.question import without_login
from relay.client.status import read_status
from relay.clock import Clock
from relay.delivery.warming import shown
from relay.errors import CursorInvalid
from relay.ingest.causes import plain_cause
from relay.model import Cursor

_TIMEOUT_S: Final = 15
_POLLERS: Final = 10
_SYMBOLS: Final = "BTC-USD"
# A stream says something at once; what a proxy holds back comes much later.
_FIRST_BYTE_S: Final = 3
# Polls are all there after so long, and are held for a few seconds more.
_GATHER_S: Final = 0.5
_LOCKED: Final = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)

_NO_EDGE: Final = (
    "no edge collapses them; with many clients, put one of the shipped in front"
)
_SOMEBODY_ELSE: Final = (
    "something else answers at this address: a portal's or a firewall's page, or"
    " another service"
)
_LEAKS: Final = (
    "an edge that hands out what others have asked for must check keys itself, or"
    " doors.edge_checks_keys must be false"
)
_KEPT_APART: Final = (
    "what is asked with a key is each client's own; an edge that checks keys, and"
    " doors.edge_checks_keys, let it collapse them"
)


class _Prices(Struct):
    cursor: str


_prices: Final = msgspec.json.Decoder(_Prices)


class EdgeCheckup:
    """An edge's checkup: ``findings`` fill up while ``run`` goes on."""

    def __init__(self, url: str, clock: Clock, key: str = "") -> None:
        self._url, self._clock, self._key = url.rstrip("/"), clock, key
        self._private = False
        self.findings: list[Finding] = []

    def _tell(self, check: str, verdict: Verdict, saw: str, advice: str = "") -> None:
        self.findings.append(
            Finding(
                subject="edge", check=check, verdict=verdict, saw=saw, advice=advice
            )
        )

    async def run(self) -> None:
        """Check one thing after the other."""
        limits = httpx.Limits(max_connections=_POLLERS + 2)
        async with httpx.AsyncClient(
            timeout=_TIMEOUT_S, limits=limits, headers=shown(self._key)
        ) as client:
            try:
                cursor = await self._condition(client)
                if cursor is not None:
                    await self._collapse(client, cursor)
                    await self._stream(client)
                    if self._key:
                        await self._door(client)
            except (httpx.HTTPError, OSError) as error:
                cause = plain_cause(error, timeout_ms=_TIMEOUT_S * 1000)
                advice = "is the address right, and does it reach `relay serve`?"
                said = f"{without_login(self._url)}: {cause}"
                self._tell("reach", "wrong", said, advice)

    async def _condition(self, client: httpx.AsyncClient) -> Cursor | None:
        """Ask twice, the second time with what the first was given."""
        url = f"{self._url}/v1/prices?symbols={_SYMBOLS}"
        first = await client.get(url)
        if first.status_code != httpx.codes.OK:
            advice = _opens(first.status_code, with_key=bool(self._key))
            self._tell("prices", "wrong", f"HTTP {first.status_code}", advice)
            return None
        cursor = _cursor_of(first)
        if cursor is None:
            said = "HTTP 200, and no prices of a relay's"
            self._tell("prices", "wrong", said, _SOMEBODY_ELSE)
            return None
        policy = first.headers.get("cache-control", "")
        self._private = policy.startswith("private")
        self._tell("prices", "ok", f"HTTP 200, {policy or 'no Cache-Control'}")
        etag = first.headers.get("etag", "")
        again = await client.get(url, headers={"if-none-match": etag})
        unchanged = again.status_code == httpx.codes.NOT_MODIFIED
        if etag and (unchanged or again.headers.get("etag") != etag):
            said = "304" if unchanged else "200 with another ETag: it had changed"
            self._tell("conditional", "ok", said)
        else:
            advice = "the edge must hand on ETag and If-None-Match"
            said = f"HTTP {again.status_code} for an ETag that still holds"
            self._tell("conditional", "wrong", said, advice)
        return cursor

    async def _door(self, client: httpx.AsyncClient) -> None:
        """Ask without the key, for what caches keep and for what none of them does."""
        prices, url = (
            f"{self._url}/v1/{way}?symbols={_SYMBOLS}" for way in ("prices", "stream")
        )
        async with httpx.AsyncClient(timeout=_TIMEOUT_S) as stranger:
            # Kept for a second only: it has to be there when the stranger asks.
            await client.get(prices)
            kept = await stranger.get(prices)
            async with stranger.stream("GET", url) as passed:
                locked = passed.status_code in _LOCKED
        said = f"HTTP {kept.status_code} without the key"
        if kept.status_code != httpx.codes.OK:
            self._tell("door", "ok", said)
        elif locked:
            self._tell("door", "wrong", f"{said}, and none for a stream", _LEAKS)
        else:
            self._tell("door", "note", f"{said}: reading is open")

    async def _collapse(self, client: httpx.AsyncClient, cursor: Cursor) -> None:
        """Have several poll alike, and ask how many of them the origin holds."""
        # A cursor ahead of everything is held for as long as it may be.
        ahead = replace(cursor, offset=cursor.offset + 3_600_000)
        url = f"{self._url}/v1/poll?symbols={_SYMBOLS}&cursor={ahead}"
        async with asyncio.TaskGroup() as tasks:
            polls = [
                tasks.create_task(_is_served(client, url)) for _ in range(_POLLERS)
            ]
            await asyncio.sleep(_GATHER_S)
            held = await self._held(client)
        served = sum(one.result() for one in polls)
        said = f"{_POLLERS} alike, {served} answered"
        if served < _POLLERS:
            advice = "the edge or the origin turns polls away: see the shipped examples"
            self._tell("polls", "wrong", said, advice)
        elif held is None:
            said += "; how many of them came through cannot be told"
            advice = "let /v1/status through the edge to whoever checks it"
            self._tell("polls", "note", said, advice)
        else:
            said += f", {held} held at the origin"
            advice = "" if held <= 1 else _KEPT_APART if self._private else _NO_EDGE
            self._tell("polls", "ok" if held <= 1 else "note", said, advice)

    async def _held(self, client: httpx.AsyncClient) -> int | None:
        """Return how many polls the origin holds; None when it does not say."""
        try:
            answer = await client.get(f"{self._url}/v1/status")
            return read_status(answer.content).instance.clients.get("poll", 0)
        except (httpx.HTTPError, ClientError):
            return None

    async def _stream(self, client: httpx.AsyncClient) -> None:
        """See whether a stream's first words come at once."""
        began_ms = self._clock.monotonic_ms()
        url = f"{self._url}/v1/stream?symbols={_SYMBOLS}"
        try:
            async with (
                asyncio.timeout(_FIRST_BYTE_S),
                client.stream("GET", url) as answer,
            ):
                await anext(answer.aiter_raw())
        except (TimeoutError, StopAsyncIteration):
            advice = "turn buffering off for text/event-stream (X-Accel-Buffering: no)"
            said = f"nothing came within {_FIRST_BYTE_S} s"
            self._tell("stream", "wrong", said, advice)
            return
        took_ms = self._clock.monotonic_ms() - began_ms
        self._tell("stream", "ok", f"the first words came after {took_ms} ms")


async def _is_served(client: httpx.AsyncClient, url: str) -> bool:
    """Poll once; one that breaks is one that was turned away."""
    try:
        return (await client.get(url)).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _cursor_of(answer: httpx.Response) -> Cursor | None:
    try:
        return Cursor.parse(_prices.decode(answer.content).cursor)
    except (msgspec.MsgspecError, CursorInvalid):
        return None


def _opens(status: int, *, with_key: bool) -> str:
    """Say what to do about an answer that is no prices."""
    if status not in _LOCKED:
        return "a worker must have filled the board; see /v1/status there"
    if with_key:
        return "it takes another key than this one, with the scope read"
    return "it wants a key with the scope read: set RELAY_API_KEY"
