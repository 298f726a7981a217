"""Reads that need no application: answered as soon as their head was read.

What is answered stands in ``rest``, what comes before it in ``entrance``. Here is which
requests can be answered so: a plain GET of prices that are held, with nothing out of
the ordinary about it. All else goes the long way, and would get the same bytes.
"""

import re
from typing import Any, Final, Self, cast

from litestar import Litestar
from litestar.types import Scope
from msgspec import Struct

from relay.delivery.answer import Headers, Seen, head_of
from relay.delivery.demand import Demand
from relay.delivery.entrance import Entrance
from relay.delivery.rest import Prices
from relay.errors import RelayError
from relay.model import Selection

_PATH: Final = re.compile(rb"/v1/prices(?:/([A-Za-z0-9-]+))?(?:\?([!-~]*))?")
_TEMPLATE: Final = "/v1/prices"
_TEMPLATE_ONE: Final = "/v1/prices/{symbol}"

# What the answer depends on.
_TELLING: Final = frozenset({b"if-none-match", b"accept-encoding", b"origin"})
# What makes a request one for the long way, but for the one value that changes nothing.
_UNUSUAL: Final = frozenset(
    {b"connection", b"content-length", b"expect", b"transfer-encoding", b"upgrade"}
)
_USUAL: Final = (b"connection", b"keep-alive")
# Answers kept between two changes of the board, small ones and a few of 150 KB.
_KEPT_MAX: Final = 512
# Bytes that such an answer may depend on: the URL of the largest selection, and tags.
_TOLD_MAX: Final = 16_384
# Bytes of a request that is kept: a browser's, with cookies that are none of ours.
_REQUEST_MAX: Final = 2048
_STATE: Final = "quick"


class Asked(Struct, frozen=True):
    """A GET: what stands in its first line, and its headers.

    ``told`` is what its answer depends on; None for one that is out of the way.
    """

    target: bytes
    headers: Headers
    told: tuple[bytes, ...] | None

    @classmethod
    def read(cls, target: bytes, headers: Headers) -> Self:
        """Look at a request's head."""
        return cls(target, headers, _telling(target, headers))


class Ready(Struct, frozen=True):
    """An answer as bytes, all but its status line and the server's own headers."""

    status: int
    rest: bytes
    selection: Selection
    template: str


class Quick:
    """Answers reads that need not wait for anything.

    ``answers`` counts them; ``asked`` is what requests say that came before, by all
    their bytes.
    """

    def __init__(
        self, prices: Prices, demand: Demand, entrance: Entrance, seen: Seen
    ) -> None:
        self._prices, self._demand = prices, demand
        self._entrance, self._seen = entrance, seen
        self._locked = entrance.doors.locked
        self._state: object = None
        self._kept: dict[tuple[bytes, ...], Ready] = {}
        self.asked: dict[bytes, Asked] = {}
        self.answers = 0

    def remember(self, request: bytes, asked: Asked) -> None:
        """Note what a request says, so that it need not be parsed again."""
        if len(request) <= _REQUEST_MAX:
            if len(self.asked) >= _KEPT_MAX:
                self.asked.clear()
            self.asked[request] = asked

    def answer(self, asked: Asked, client: tuple[str, int] | None) -> Ready | None:
        """Answer a GET; None for what must go the long way. Nothing is counted then."""
        told = asked.told
        state = self._prices.state()
        if told is None or state is None or self._locked:
            return None
        if state != self._state:
            self._state = state
            self._kept.clear()
        ready = self._kept.get(told) or self._make(asked, told)
        if ready is None or not self._passes(asked.headers, client):
            return None
        self._demand.note(ready.selection)
        self._seen[(ready.template, ready.status)] += 1
        self.answers += 1
        return ready

    def _passes(self, headers: Headers, client: tuple[str, int] | None) -> bool:
        gate = self._entrance.gate
        if gate is None:
            return True
        return gate.passes(cast("Scope", {"client": client, "headers": headers}))

    def _make(self, asked: Asked, told: tuple[bytes, ...]) -> Ready | None:
        path = _PATH.fullmatch(asked.target)
        if path is None or b"#" in asked.target:
            return None
        symbol, query = (path[1] or b"").decode(), path[2] or b""
        scope = cast("Scope", {"headers": asked.headers})
        try:
            found = self._prices.at_once(symbol, query, scope)
        except RelayError:
            return None
        if found is None:
            return None
        selection, answer = found
        head = [*head_of(answer), *self._entrance.said(scope)]
        lines = b"".join(b"%b: %b\r\n" % pair for pair in head)
        template = _TEMPLATE_ONE if symbol else _TEMPLATE
        ready = Ready(answer.status, lines + b"\r\n" + answer.body, selection, template)
        if len(self._kept) >= _KEPT_MAX:
            self._kept.clear()
        self._kept[told] = ready
        return ready


def _telling(target: bytes, headers: Headers) -> tuple[bytes, ...] | None:
    told = [target]
    for pair in headers:
        if pair[0] in _TELLING:
            told += pair
        elif pair[0] in _UNUSUAL and (pair[0], pair[1].lower()) != _USUAL:
            return None
    return tuple(told) if sum(map(len, told)) <= _TOLD_MAX else None


def offer(app: Litestar, quick: Quick) -> None:
    """Let an application's server answer reads on its own."""
    app.state[_STATE] = quick


def quick_of(app: Any) -> Quick | None:  # noqa: ANN401 - whatever is served
    """Return what answers the reads of an application; None where nothing does."""
    found = app.state.get(_STATE) if isinstance(app, Litestar) else None
    return found if isinstance(found, Quick) else None
