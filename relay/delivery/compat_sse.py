"""``GET /api/market-data/stream``: the older server-sent events, one for each pair.

What is sent and when is decided in ``group``, how it is written in ``compat``, how a
stream is opened in ``events``.

A stream begins with a comment and the newest known price of each pair, then one event
for each pair and change. It has no cursor: who comes back is told everything anew.
"""

from functools import partial
from typing import Final
from urllib.parse import parse_qs
from weakref import WeakValueDictionary

from litestar.handlers import ASGIRouteHandler
from litestar.types import HTTPScope

from relay.delivery import events
from relay.delivery.answer import Seen
from relay.delivery.compat import Asked
from relay.delivery.compat_scene import Parts
from relay.delivery.events import Asking, Events, Framing
from relay.delivery.query import QueryInvalid
from relay.group import NOWHERE, Frame, Wish
from relay.hub import Hub
from relay.rank import Pump

PATH: Final = "/api/market-data/stream"

# Parameters in one query: more than any client has.
_PARAMETERS_MAX: Final = 20


def read_pairs(query: bytes) -> list[str]:
    """Return the texts of ``pairs=``; other parameters are ignored.

    Raises:
        QueryInvalid: the query is not UTF-8, or there is no ``pairs=``.
    """
    try:
        given = parse_qs(
            query.decode("ascii"), errors="strict", max_num_fields=_PARAMETERS_MAX
        )
    except ValueError:  # UnicodeDecodeError is one
        given = {}
    if "pairs" not in given:
        raise QueryInvalid(
            "No pairs can be read from the query.", "Write pairs=BTC/USD,ETH/USD."
        )
    return ",".join(given["pairs"]).split(",")


class Pairs(Events):
    """Says what has changed: an event for each pair, by the ids that were asked for."""

    def __init__(
        self, parts: events.Parts, framing: Framing, older: Parts, asked: Asked
    ) -> None:
        super().__init__(parts, framing)
        self._older, self._asked = older, asked

    def say(self, frame: Frame) -> bytes:
        """Return the frame's events, the same for all who asked alike."""
        phase = self._older.scene.phase(live=self._parts.hub.live)
        streams = phase == "connected"
        return self._older.writer.events(frame, self._asked, streams=streams)

    def notice(self, notice: bytes) -> bytes:  # noqa: ARG002 - older clients know none
        """Say nothing: their streams have one kind of event."""
        return b""


class Stream(events.Stream):
    """Opens the older streams; those who ask alike hear one voice while they listen."""

    def __init__(self, parts: events.Parts, older: Parts, seen: Seen) -> None:
        super().__init__(parts, seen)
        self._older = older
        self._voices: WeakValueDictionary[tuple[Asked, Framing], Pairs]
        self._voices = WeakValueDictionary()

    def read(self, scope: HTTPScope) -> Asking:
        """Read what is asked for.

        Raises:
            RequestError: the request is malformed.
        """
        pairs = read_pairs(scope["query_string"])
        asked = Asked.read(pairs, self._older.names, self._older.http)
        return Asking(Wish(asked.selection), NOWHERE, partial(self._voice, asked))

    def _voice(self, asked: Asked, framing: Framing) -> Pairs:
        voice = self._voices.get((asked, framing))
        if voice is None:
            voice = Pairs(self._parts, framing, self._older, asked)
            self._voices[asked, framing] = voice
        return voice


def route(hub: Hub, older: Parts, seen: Seen) -> ASGIRouteHandler:
    """Return the handler of the older stream."""
    parts = events.Parts(hub, older.http, older.demand, Pump())
    return events.route(PATH, Stream(parts, older, seen))
