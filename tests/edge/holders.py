"""Clients that hold a connection each and note what came over it, byte for byte."""

import asyncio
from typing import cast
from urllib.parse import urlsplit

from relay.clock import Clock


class Holder(asyncio.Protocol):
    """One client: it asks once and listens. ``None`` in ``ended_ms``: still open."""

    def __init__(self, question: bytes, clock: Clock) -> None:
        self._question, self._clock = question, clock
        self.came = b""
        self.ended_ms: int | None = None
        self.way: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self.way = cast("asyncio.Transport", transport)
        self.way.write(self._question)

    def data_received(self, data: bytes) -> None:
        """Note what came."""
        self.came += data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's
        """Note when."""
        self.ended_ms = self._clock.monotonic_ms()

    @property
    def status(self) -> int:
        """The status that was answered; 0 before."""
        return int(self.came[9:12] or b"0")


def get(place: str, *headers: str) -> bytes:
    """Write a request."""
    lines = [f"GET {place} HTTP/1.1", "Host: relay", *headers, "", ""]
    return "\r\n".join(lines).encode()


HANDSHAKE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


async def hold(url: str, question: bytes, count: int, clock: Clock) -> list[Holder]:
    """Let so many clients ask the same."""
    loop, place = asyncio.get_running_loop(), urlsplit(url)
    assert place.hostname is not None
    assert place.port is not None
    holders = []
    for _ in range(count):
        _, holder = await loop.create_connection(
            lambda: Holder(question, clock), place.hostname, place.port
        )
        holders.append(holder)
    return holders
