"""``POST /v1/ticket``: a key is shown, and a ticket for a browser comes back.

What a ticket is stands in ``doors``.
"""

import msgspec
from litestar.types import HTTPScope, Receive
from msgspec import Struct

from relay.delivery.answer import PRIVATE, Answer, json_answer
from relay.delivery.doors import Doors
from relay.delivery.query import read_query


class Ticket(Struct, frozen=True):
    """The body: what to show in place of a key, and until when, in Unix milliseconds.

    The time is the store's.
    """

    ticket: str
    expires_ms: int


class Office:
    """Issues tickets."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    async def answer(self, scope: HTTPScope, _receive: Receive) -> Answer:
        """Answer who shows a key; a body is not needed, and not read.

        Raises:
            RequestError: there are parameters.
            Locked: it is no key that may read.
        """
        read_query(scope["query_string"], ())
        ticket = Ticket(*self._doors.issue(scope["headers"]))
        return json_answer(msgspec.json.encode(ticket), [PRIVATE])
