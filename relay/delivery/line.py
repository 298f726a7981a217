"""A client's connection: has it hung up, hanging up on it, and handing it over.

What is sent over it stands in ``events``, ``ws`` and ``rank``.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from litestar.types import Scope

from relay.rank import Wire

ABORT: Final = "relay.abort"
"""The ASGI extension by which the server offers to end a connection without waiting."""


GONE: Final = "relay.gone"
"""The ASGI extension that takes a function to call when the client has hung up."""


WIRE: Final = "relay.wire"
"""The ASGI extension by which the server offers to hand a connection over."""

AFTER: Final = "relay.after"
"""The ASGI extension that takes a function to call when a handed over answer ends."""

# Do not linger: what lies in the kernel's buffers for the client goes as well.
_AT_ONCE: Final = struct.pack("ii", 1, 0)


def reset(transport: asyncio.Transport) -> None:
    """Reset a connection; what it was sent and did not take is lost."""
    own = transport.get_extra_info("socket")
    if own is not None and not transport.is_closing():
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    transport.abort()


def when_gone(scope: Scope, call: Callable[[], None]) -> None:
    """Have something called when the client hangs up before its answer is complete.

    A server that does not offer it leaves it to be noticed at the next write.
    """
    tell = (scope.get("extensions") or {}).get(GONE)
    if callable(tell):
        tell(call)


async def hang_up(scope: Scope) -> None:
    """End the connection of a client that takes nothing; what it was sent is lost.

    A server that does not offer it closes when the application returns, and then waits
    for the client to take what lies in its buffers.
    """
    abort = (scope.get("extensions") or {}).get(ABORT)
    if callable(abort):
        abort()
        # The server learns of it in the loop's next turn.
        await asyncio.sleep(0)


def chunked(body: bytes) -> bytes:
    """Frame a part of an answer (RFC 9112, section 7.1); empty would be its end."""
    return b"%x\r\n%b\r\n" % (len(body), body) if body else b""


class Lent(Wire, Protocol):
    """A connection that is handed over."""

    @property
    def chunks(self) -> bool:
        """Whether it takes the body as ``chunked`` frames it; else its end ends it."""


def wire_of(scope: Scope) -> Lent | None:
    """Return the connection, if it can be handed over once the head is sent.

    None on another server, and for what is out of the ordinary: a body that is still to
    come, other requests before or behind this one.
    """
    offers: dict[Any, Any] = scope.get("extensions") or {}
    return cast("Lent | None", offers[WIRE]()) if WIRE in offers else None


def when_over(scope: Scope, call: Callable[[], None]) -> None:
    """Have something called at the end of the answer: now, unless it was handed over.

    For whoever comes after the application, such as a gate.
    """
    offers: dict[Any, Any] = scope.get("extensions") or {}
    if AFTER not in offers or not offers[AFTER](call):
        call()
