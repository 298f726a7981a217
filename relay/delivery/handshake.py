"""How the opening of a WebSocket is refused: as any request, with a reason in JSON.

What is said of which error stands in ``faults``.
"""

from typing import Final

import msgspec
from litestar.types import Scope, Send

from relay.delivery.answer import JSON, NO_STORE, NOSNIFF
from relay.delivery.bodies import Told
from relay.delivery.faults import fault_of, headers_of, status_of

_TRY_LATER: Final = 1013


async def refuse(scope: Scope, send: Send, error: Exception) -> None:
    """Refuse a WebSocket that is not open yet, for an error.

    A server that cannot answer a handshake closes it, with the sentence as its reason.
    """
    fault = fault_of(error)
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        reason = fault.sentence
        await send({"type": "websocket.close", "code": _TRY_LATER, "reason": reason})
        return
    body = msgspec.json.encode(Told(fault))
    said = [(name.encode(), text.encode()) for name, text in headers_of(error).items()]
    await send(
        {
            "type": "websocket.http.response.start",
            "status": status_of(error),
            "headers": [
                (b"content-type", JSON),
                NO_STORE,
                NOSNIFF,
                *said,
                (b"content-length", b"%d" % len(body)),
            ],
        }
    )
    await send(
        {"type": "websocket.http.response.body", "body": body, "more_body": False}
    )
