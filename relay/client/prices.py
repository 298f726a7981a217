"""What a client holds: the newest ticker of each instrument, and a place to go on from.

Pure. How it comes here stands in ``follow``.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import islice
from typing import Final, Literal

import msgspec
from msgspec import Struct

from relay import model
from relay.client.errors import unreadable
from relay.errors import CursorInvalid
from relay.model import Cursor

Field = Literal[
    "price",
    "bid",
    "ask",
    "change_24h_pct",
    "high_24h",
    "low_24h",
    "volume_24h",
    "volume_24h_quote",
]


# A board may have thousands, and a notebook shows what a cell returns.
_SHOWN_MAX: Final = 10


class Ticker(model.Ticker, frozen=True, kw_only=True, omit_defaults=True):
    """One instrument's values, each the decimal text that its source sent.

    A field that the source does not give is the empty text.
    """

    def decimal(self, field: Field = "price") -> Decimal | None:
        """Return a field as an exact number; None where there is no value."""
        text: str = getattr(self, field)
        return Decimal(text) if text else None


class Body(Struct, frozen=True, kw_only=True):
    """The body that reads, polls and stream events share."""

    cursor: str
    as_of_ms: int
    live: bool
    prices: dict[str, Ticker]
    missing: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    reset: bool = False


_decode: Final = msgspec.json.Decoder(Body).decode


def read_body(body: bytes) -> Body:
    """Read a body.

    Raises:
        Unavailable: it is no relay's.
    """
    try:
        return _decode(body)
    except msgspec.MsgspecError as error:
        raise unreadable(str(error)) from error


class Prices(Mapping[str, Ticker]):
    """The newest ticker of each instrument, by name. Never changed once made.

    ``changed`` and ``gone`` tell what the last answer brought. ``missing`` are the
    selected instruments without a value. ``as_of_ms`` is the moment of publishing, by
    the relay's clock; ``live`` is False while nobody refreshes the prices. ``cursor``
    is what to go on from, in another process as well.
    """

    __slots__ = (
        "_tickers",
        "as_of_ms",
        "changed",
        "cursor",
        "gone",
        "live",
        "missing",
        "reset",
    )

    def __init__(self, body: Body, tickers: dict[str, Ticker]) -> None:
        self._tickers = tickers
        self.cursor, self.as_of_ms, self.live = body.cursor, body.as_of_ms, body.live
        self.missing, self.gone, self.reset = body.missing, body.gone, body.reset
        self.changed = tuple(body.prices)

    def __getitem__(self, instrument: str) -> Ticker:
        return self._tickers[instrument]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tickers)

    def __len__(self) -> int:
        return len(self._tickers)

    def __repr__(self) -> str:
        first = islice(self._tickers.items(), _SHOWN_MAX)
        shown = [f"{name} {one.price}" for name, one in first]
        if len(self) > _SHOWN_MAX:
            shown.append(f"and {len(self) - _SHOWN_MAX} more")
        live = "" if self.live else "not live, "
        return f"<Prices {live}{', '.join(shown) or 'none'}>"

    def rows(self) -> list[dict[str, object]]:
        """Return a row for each instrument, as tables and data frames take them."""
        return [
            {"instrument": name, **msgspec.structs.asdict(ticker)}
            for name, ticker in self._tickers.items()
        ]


def advance(held: Prices | None, body: Body) -> Prices:
    """Return what is held after one more answer; never anything older than before."""
    if held is None or body.reset or not _goes_on(held.cursor, body.cursor):
        return Prices(body, dict(body.prices))
    newer = {
        name: ticker
        for name, ticker in body.prices.items()
        if name not in held or held[name].offset <= ticker.offset
    }
    tickers = {**held, **newer}
    for name in body.gone:
        tickers.pop(name, None)
    return Prices(msgspec.structs.replace(body, prices=newer), tickers)


def _goes_on(before: str, after: str) -> bool:
    """Tell whether two cursors are of one selection in one epoch.

    Otherwise the answer is whole: a list may have been defined anew.
    """
    try:
        first, second = Cursor.parse(before), Cursor.parse(after)
    except CursorInvalid:
        return False
    return (first.epoch, first.selection) == (second.epoch, second.selection)


def place_of(since: Prices | str | None) -> tuple[Prices | None, str]:
    """Return what is held and its cursor: prices bring both, a text is a cursor."""
    if isinstance(since, Prices):
        return since, since.cursor
    return None, since or ""
