"""The end of a client's connection: has it hung up, and hanging up on it.

What is sent over it stands in ``sse`` and ``ws``.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from litestar.types import Receive, Scope

ABORT: Final = "relay.abort"
"""The ASGI extension by which the server offers to end a connection without waiting."""


GONE: Final = "relay.gone"
"""The ASGI extension that takes a function to call when the client has hung up."""


def when_gone(scope: Scope, call: Callable[[], None]) -> None:
    """Have something called when the client hangs up before its answer is complete.

    A server that does not offer it leaves it to be noticed at the next write.
    """
    tell = (scope.get("extensions") or {}).get(GONE)
    if callable(tell):
        tell(call)


def has_hung_up(receive: Receive) -> bool:
    """Tell whether a client has hung up, without waiting until it does.

    Takes one step of ``receive``: it answers at once when there is something to say,
    and is closed again where it would wait. So an idle client costs no second task.
    """
    steps = receive().__await__()
    try:
        next(steps)
    except StopIteration as answer:
        return bool(answer.value["type"].endswith(".disconnect"))
    steps.close()
    return False


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
