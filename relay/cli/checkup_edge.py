"""Checks a public address as clients use it: conditions, collapse, an unheld stream."""

import asyncio
from typing import Any, Final

import httpx

from relay.cli.finding import Finding, Verdict
from relay.clock import Clock
from relay.ingest.causes import plain_cause

_TIMEOUT_S: Final = 15
_POLLERS: Final = 10
_SYMBOLS: Final = "BTC-USD"
# A stream says something at once; what a proxy holds back comes much later.
_FIRST_BYTE_S: Final = 3
# Polls are all there after so long, and are held for a few seconds more.
_GATHER_S: Final = 0.5


class EdgeCheckup:
    """An edge's checkup: ``findings`` fill up while ``run`` goes on."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._url, self._clock = url.rstrip("/"), clock
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
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, limits=limits) as client:
            try:
                body = await self._condition(client)
                if body is not None:
                    await self._collapse(client, body["cursor"])
                    await self._stream(client)
            except (httpx.HTTPError, OSError) as error:
                cause = plain_cause(error, timeout_ms=_TIMEOUT_S * 1000)
                advice = "is the address right, and does it reach `relay serve`?"
                self._tell("reach", "wrong", f"{self._url}: {cause}", advice)

    async def _condition(self, client: httpx.AsyncClient) -> dict[str, Any] | None:
        """Ask twice, the second time with what the first was given."""
        url = f"{self._url}/v1/prices?symbols={_SYMBOLS}"
        first = await client.get(url)
        if first.status_code != httpx.codes.OK:
            advice = "a worker must have filled the board; see /v1/status there"
            self._tell("prices", "wrong", f"HTTP {first.status_code}", advice)
            return None
        policy = first.headers.get("cache-control", "")
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
        found: dict[str, Any] = first.json()
        return found

    async def _collapse(self, client: httpx.AsyncClient, cursor: str) -> None:
        """Have several poll alike, and ask how many of them the origin holds."""
        # A cursor ahead of everything is held for as long as it may be.
        epoch, selection, offset = cursor.partition("~")[0].split(".")
        ahead = f"{epoch}.{selection}.{int(offset) + 3_600_000}"
        url = f"{self._url}/v1/poll?symbols={_SYMBOLS}&cursor={ahead}"
        async with asyncio.TaskGroup() as tasks:
            polls = [tasks.create_task(client.get(url)) for _ in range(_POLLERS)]
            await asyncio.sleep(_GATHER_S)
            status = await client.get(f"{self._url}/v1/status")
        held = status.json()["instance"]["clients"].get("poll", 0)
        served = sum(one.result().status_code == httpx.codes.OK for one in polls)
        said = f"{_POLLERS} alike, {served} answered, {held} held at the origin"
        if served < _POLLERS:
            advice = "the edge or the origin turns polls away: see the shipped examples"
            self._tell("polls", "wrong", said, advice)
        else:
            self._tell("polls", "ok" if held <= 1 else "note", said, _collapses(held))

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


def _collapses(held: int) -> str:
    if held <= 1:
        return ""
    return "no edge collapses them; with many clients, put one of the shipped in front"
