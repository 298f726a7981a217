"""``GET /v1/stream``: server-sent events, resumed from ``Last-Event-ID``.

What is sent and when is decided in ``group``, how a stream is opened in ``events``.

A stream begins with a comment and ``retry:``, then what changed since the cursor (or
everything), then every change, newest state only: while a write has not drained nothing
is queued, and what comes after it is the newest. Each event's id is its cursor.
``every=`` asks for a slower pace. When a source falls silent or comes back there is an
event named ``status``, without an id: ``{"sources":{"kraken":false,…}}``. A quiet
stream gets a comment now and then; after its life it is told when to come back, and
ends.
"""

from typing import Final

from litestar.handlers import ASGIRouteHandler
from litestar.types import HTTPScope

from relay.config import Http
from relay.delivery import events
from relay.delivery.answer import Seen, header
from relay.delivery.demand import Demand
from relay.delivery.events import Asking, Events, Framing, plain
from relay.delivery.line import chunked
from relay.delivery.query import Names, QueryInvalid, read_ask
from relay.group import NOWHERE, Frame, Place, Wish
from relay.hub import Hub
from relay.rank import Pump

PATH: Final = "/v1/stream"
PARAMETERS: Final = ("cursor", "every")
"""What it takes besides the selection and the fields."""


def read_request(
    query: bytes, last_event_id: bytes, names: Names, http: Http
) -> tuple[Wish, Place]:
    """Read what a stream asks for; ``Last-Event-ID`` wins over ``cursor=``.

    Raises:
        RequestError: the query, the selection or the cursor is not what it must be.
    """
    ask = read_ask(query, names, http, also=PARAMETERS)
    cursor, last = ask.more.get("cursor"), last_event_id.decode("latin-1")
    place = NOWHERE if cursor is None else Place.read(cursor)
    if last:
        place = Place.read(last)
    pace_ms = _read_pace(ask.more.get("every"), http)
    return Wish(ask.selection, ask.fields, pace_ms), place


def _read_pace(text: str | None, http: Http) -> int:
    if text is None:
        return 0
    paces = {f"{pace_ms}ms": pace_ms for pace_ms in http.paces_ms}
    known = ", ".join(paces)
    paces |= {f"{ms // 1000}s": ms for ms in http.paces_ms if not ms % 1000}
    if text not in paces:
        raise QueryInvalid(
            f"There is no pace {text[:80]!r}.", f"The paces are: {known}."
        )
    return paces[text]


class Bodies(Events):
    """Says what has changed: the shared body, with its cursor as the event's id."""

    def say(self, frame: Frame) -> bytes:
        """Return the frame's own event, the same for all."""
        return frame.event


class Stream(events.Stream):
    """Opens streams of ``/v1/stream``."""

    def __init__(self, parts: events.Parts, names: Names, seen: Seen) -> None:
        super().__init__(parts, seen)
        self._names = names
        self._chunked, self._plain = Bodies(parts, chunked), Bodies(parts, plain)

    def read(self, scope: HTTPScope) -> Asking:
        """Read what is asked for.

        Raises:
            RequestError: the request is malformed.
        """
        query, last = scope["query_string"], header(scope, b"last-event-id")
        wish, place = read_request(query, last, self._names, self._parts.http)
        return Asking(wish, place, self._voice)

    def _voice(self, framing: Framing) -> Bodies:
        return self._chunked if framing is chunked else self._plain


def route(
    hub: Hub, names: Names, http: Http, *, demand: Demand, seen: Seen
) -> ASGIRouteHandler:
    """Return the handler of ``/v1/stream``."""
    parts = events.Parts(hub, http, demand, Pump())
    return events.route(PATH, Stream(parts, names, seen))
