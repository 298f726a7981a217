"""The end of a connection, made without waiting."""

from typing import cast

from litestar.types import Scope

from relay.delivery.line import ABORT, hang_up


async def test_hanging_up_is_left_to_the_server() -> None:
    """Where it offers to; else there is nothing to be done here."""
    ended: list[str] = []
    offer = {ABORT: lambda: ended.append("now")}
    await hang_up(cast("Scope", {"extensions": offer}))
    assert ended == ["now"]
    await hang_up(cast("Scope", {"extensions": None}))
