"""The older names and payloads: what a board, or a frame of it, is in their words.

Pure. Their routes stand in ``compat_rest``, ``compat_ws`` and ``compat_sse``, their
counters in ``compat_counts``.

An instrument is answered under the id that was asked for. Answers with the whole board
call it by the first name that the configuration has for its asset (``bitcoin``), and by
its canonical name where there is none, or where that name means another currency.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final, Literal, Self

import msgspec
from msgspec import Struct, field

from relay.board import Board
from relay.config import Http
from relay.delivery.query import Names, select_all
from relay.errors import SelectionInvalid
from relay.group import Frame
from relay.model import Selection

Phase = Literal["connected", "reconnecting", "disconnected"]

# Frames kept in their older form, so that those who share one share its writing too:
# some for each group that rings at the same moment.
_WRITTEN_MAX: Final = 256
# What JSON takes for a number; decimal text may be written otherwise (``.5``).
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")


class AllPrices(Struct, frozen=True):
    """All prices. ``source`` is where most of them come from, null without any."""

    prices: dict[str, str]
    timestamp: str
    source: str | None
    count: int


class OnePrice(Struct, frozen=True):
    """One price. ``cached`` when it is old, or while nothing streams."""

    symbol: str
    price: str
    source: str
    timestamp: str
    cached: bool


class Bulk(Struct, frozen=True):
    """Some prices, by the ids that were asked for; ``missing`` are ids without one."""

    prices: dict[str, str]
    missing: list[str]
    timestamp: str


class Condition(Struct, frozen=True):
    """How the prices are, in short."""

    healthy: bool
    state: Phase
    source: str | None
    prices_cached: int


class Circuit(Struct, frozen=True, rename="camel"):
    """How the streams are. ``active_connections`` are this instance's clients.

    The circuit is closed while sources live, half-open while they are tried again, and
    open while nobody reads them. The age is in milliseconds, null without a price.
    """

    state: Phase
    source: str | None
    active_connections: int
    circuit_state: Literal["closed", "half-open", "open"]
    newest_price_age_ms: int | None


class Hello(Struct, frozen=True, tag_field="type", tag="connection"):
    """The first message of the WebSocket."""

    status: str
    timestamp: str


class PriceUpdate(Struct, frozen=True, tag_field="type", tag="price_update"):
    """All that is selected, and then what has changed."""

    prices: dict[str, str]
    timestamp: str
    source: str | None


class StateTold(Struct, frozen=True, tag_field="type", tag="status"):
    """How the prices are, over the WebSocket."""

    state: Phase
    source: str | None
    prices_cached: int
    timestamp: str


class Priced(Struct, frozen=True):
    """What older payloads take of a ticker."""

    price: str = ""
    source: str = ""
    received_ms: int = 0
    offset: int = 0
    stale: bool = False

    @property
    def at_ms(self) -> int:
        """When it was received, by the store's clock."""
        return self.received_ms or self.offset


class _Body(Struct, frozen=True):
    as_of_ms: int
    prices: dict[str, Priced]


class Fed(Struct, frozen=True):
    """What the leader says of one source."""

    alive: bool = False
    reason: str = ""


class Line(Struct, frozen=True):
    """What the leader says of one connection."""

    state: str = ""
    since_ms: int = 0
    error: str = ""


class Health(Struct, frozen=True):
    """What older payloads take of the leader's word about its sources."""

    sources: dict[str, Fed] = field(default_factory=dict)
    streams: dict[str, list[Line]] = field(default_factory=dict)


read_health: Final = msgspec.json.Decoder(Health).decode
_read_priced: Final = msgspec.json.Decoder(Priced).decode
_read_body: Final = msgspec.json.Decoder(_Body).decode
_encoder: Final = msgspec.json.Encoder()


def iso(instant_ms: int) -> str:
    """Write Unix milliseconds as ISO 8601, UTC."""
    instant = datetime.fromtimestamp(instant_ms / 1000, UTC)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_seconds(instant_ms: int) -> str:
    """Write Unix milliseconds as ISO 8601, UTC, in whole seconds."""
    return f"{iso(instant_ms)[:-5]}Z"


def json_number(price: str) -> str:
    """Return decimal text as a JSON number, digit for digit; no float on the way."""
    return price if _NUMBER.fullmatch(price) else format(Decimal(price), "f")


class Slugs:
    """The other way round: what an instrument is called in whole-board answers."""

    def __init__(self, board_names: Iterable[str], names: Names) -> None:
        """Make the table; ``board_names`` are in the order of the configuration."""
        self._slugs: dict[str, str] = {}
        for name in board_names:
            self._slugs.setdefault(names.resolve(name), name.lower())

    def __getitem__(self, instrument: str) -> str:
        return self._slugs.get(instrument, instrument)


class Asked(Struct, frozen=True, cache_hash=True):
    """What a client asked for: pairs of its id and our instrument, in its order.

    ``pairs`` is None for the whole board.
    """

    selection: Selection
    pairs: tuple[tuple[str, str], ...] | None

    @classmethod
    def read(cls, texts: Iterable[str], names: Names, http: Http) -> Self:
        """Read ids, each by any of its names.

        Raises:
            SelectionInvalid: there is none, or too many, or one is malformed.
        """
        ids = dict.fromkeys(text.strip() for text in texts if text.strip())
        selection = select_all(names, http, list(ids))
        return cls(selection, tuple((one, names.resolve(one)) for one in ids))


EVERYTHING: Final = Asked(Selection.of(None), None)


def resolve(ids: Iterable[str], names: Names) -> dict[str, str]:
    """Return the instruments by their ids; those that cannot be one are left out."""
    known: dict[str, str] = {}
    for text in ids:
        with suppress(SelectionInvalid):
            known[text] = names.resolve(text)
    return known


def priced_of(board: Board, instruments: Iterable[str]) -> dict[str, Priced]:
    """Return those of the instruments that have a price."""
    rows = ((name, board.rows.get(name)) for name in instruments)
    priced = {name: _read_priced(row.ticker) for name, row in rows if row is not None}
    return {name: one for name, one in priced.items() if one.price}


class Sight(Struct, frozen=True):
    """What is to be seen of a board: its prices, mostly whose, and how new.

    ``as_of_ms`` is when the last of them was published, ``newest_ms`` when it was
    received.
    """

    priced: dict[str, Priced]
    source: str | None
    as_of_ms: int
    newest_ms: int

    @classmethod
    def of(cls, board: Board) -> Self:
        """Look at a board."""
        priced = priced_of(board, sorted(board.rows))
        as_of_ms = max((one.offset for one in priced.values()), default=0)
        newest_ms = max((one.at_ms for one in priced.values()), default=0)
        return cls(priced, main_source(priced.values()), as_of_ms, newest_ms)


def main_source(priced: Iterable[Priced]) -> str | None:
    """Return the source that most prices come from, the first by name of several."""
    counts = Counter(one.source for one in priced if one.source)
    return min(counts, key=lambda name: (-counts[name], name), default=None)


def phase_of(*, live: bool, health: Health) -> Phase:
    """Return what older payloads call the state.

    ``live`` tells whether somebody reads the exchanges. Who does so with no source
    alive tries them again and again.
    """
    if not live:
        return "disconnected"
    lost = health.sources and not any(one.alive for one in health.sources.values())
    return "reconnecting" if lost else "connected"


CIRCUITS: Final[Mapping[Phase, Literal["closed", "half-open", "open"]]] = {
    "connected": "closed",
    "reconnecting": "half-open",
    "disconnected": "open",
}


class Writer:
    """Writes frames in their older form, once for all who share one."""

    def __init__(self, slugs: Slugs) -> None:
        self._slugs = slugs
        self._body = lru_cache(_WRITTEN_MAX)(_read_frame)
        self.update = lru_cache(_WRITTEN_MAX)(self._update)
        self.events = lru_cache(_WRITTEN_MAX)(self._events)

    def _update(self, frames: tuple[Frame, ...], asked: Asked) -> str:
        """Return frames as one WebSocket message, empty when they have no price."""
        body = self._body(frames[0])
        for later in frames[1:]:
            after = self._body(later)
            body = _Body(after.as_of_ms, body.prices | after.prices)
        prices = {one: priced.price for one, priced in self._called(body, asked)}
        if not prices:
            return ""
        source = main_source(body.prices.values())
        update = PriceUpdate(prices, iso(body.as_of_ms), source)
        return _encoder.encode(update).decode()

    def _events(self, frame: Frame, asked: Asked, *, streams: bool) -> bytes:
        """Return a frame as events, one for each id, empty when it has no price.

        ``streams`` tells whether anything streams at the moment.
        """
        return b"".join(
            _event(called, priced, streams=streams)
            for called, priced in self._called(self._body(frame), asked)
        )

    def _called(self, body: _Body, asked: Asked) -> Iterator[tuple[str, Priced]]:
        prices = body.prices
        if asked.pairs is None:
            return ((self._slugs[name], priced) for name, priced in prices.items())
        return ((one, prices[name]) for one, name in asked.pairs if name in prices)


def _read_frame(frame: Frame) -> _Body:
    body = _read_body(frame.body)
    priced = {name: one for name, one in body.prices.items() if one.price}
    return _Body(body.as_of_ms, priced)


class _Event(Struct, frozen=True):
    """The data of one event, in the order of its documentation."""

    pair: str
    price: msgspec.Raw
    price_text: str = field(name="priceText")
    timestamp: int
    source: str
    cached: bool


def _event(called: str, priced: Priced, *, streams: bool) -> bytes:
    number = msgspec.Raw(json_number(priced.price).encode())
    cached = priced.stale or not streams
    event = _Event(called, number, priced.price, priced.at_ms, priced.source, cached)
    return b"data: %b\n\n" % _encoder.encode(event)
