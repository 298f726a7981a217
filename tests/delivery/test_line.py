"""The end of a connection: seen without waiting, and made without waiting."""

import asyncio
from typing import cast

from litestar.types import HTTPDisconnectEvent, HTTPRequestEvent, Scope

from relay.delivery.line import ABORT, hang_up, has_hung_up


class Wire:
    """What a server knows of one client."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.waiting = 0

    async def receive(self) -> HTTPRequestEvent | HTTPDisconnectEvent:
        """Wait for the client to hang up."""
        self.waiting += 1
        try:
            await self.gone.wait()
        finally:
            self.waiting -= 1
        return {"type": "http.disconnect"}


async def test_a_client_that_is_there_is_not_waited_for() -> None:
    """The question leaves nothing behind, however often it is asked."""
    wire = Wire()
    for _ in range(3):
        assert not has_hung_up(wire.receive)
    assert wire.waiting == 0
    wire.gone.set()
    assert has_hung_up(wire.receive)


async def test_a_request_that_was_not_read_yet_is_no_end() -> None:
    """Servers hand over the body first."""

    async def receive() -> HTTPRequestEvent:
        return {"type": "http.request", "body": b"", "more_body": False}

    assert not has_hung_up(receive)


async def test_hanging_up_is_left_to_the_server() -> None:
    """Where it offers to; else there is nothing to be done here."""
    ended: list[str] = []
    offer = {ABORT: lambda: ended.append("now")}
    await hang_up(cast("Scope", {"extensions": offer}))
    assert ended == ["now"]
    await hang_up(cast("Scope", {"extensions": None}))
