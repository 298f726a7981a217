"""Kraken's older dialect: WebSocket v1 frames, and the one-letter ticker REST kept.

Frames of today are in ``kraken_session``. Nobody connects to v1 any more, but it is
kept alive [K1] and recordings hold it.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec import Raw, Struct

from relay.errors import FrameError
from relay.exchanges.adapter import Confirmed, Notice, Rejected
from relay.exchanges.decimals import price_of, text_of
from relay.exchanges.failures import UNREADABLE
from relay.exchanges.instants import micros_of_seconds
from relay.model import Update, change_pct

_EXCHANGE: Final = "kraken"

# The second of two figures is that of the last 24 hours, the first that since midnight.
_DAY: Final = 1


class Letters(Struct, frozen=True, kw_only=True, gc=False):
    """A ticker by its letters: ask, bid, close, volume, low, high, open.

    ``a`` and ``b`` are price, whole lots, lots; ``c`` is price and size; the others
    today and 24 hours, but REST's ``o`` is the text of today's alone.
    """

    a: tuple[object, ...] | None = None
    b: tuple[object, ...] | None = None
    c: tuple[object, ...] | None = None
    v: tuple[object, ...] | None = None
    l: tuple[object, ...] | None = None  # noqa: E741  the exchange's own name
    h: tuple[object, ...] | None = None
    o: object = None


class _Event(Struct, frozen=True, kw_only=True):
    event: str
    status: str = ""
    pair: str = ""
    error: str = msgspec.field(name="errorMessage", default="")


_parts: Final = msgspec.json.Decoder(list[Raw])
_text: Final = msgspec.json.Decoder(str)
_letters: Final = msgspec.json.Decoder(Letters, float_hook=str)
_trades: Final = msgspec.json.Decoder(list[tuple[object, ...]], float_hook=str)
_spread: Final = msgspec.json.Decoder(tuple[object, ...], float_hook=str)
_event: Final = msgspec.json.Decoder(_Event)

# [channel id, payload, channel name, pair]; a book update can have two payloads.
_PARTS_MIN: Final = 4


def read_array(frame: bytes, *, received_ms: int) -> Sequence[Update]:
    """Read one data frame of v1.

    Raises:
        FrameError: it is not one, or of a channel that nobody knows.
    """
    channel = "v1"
    try:
        parts = _parts.decode(frame)
        if len(parts) < _PARTS_MIN:
            raise FrameError(_EXCHANGE, channel, f"an array of {len(parts)}")
        name, pair = _text.decode(parts[-2]), _text.decode(parts[-1])
        channel = name.partition("-")[0]
        reader = _READERS.get(channel)
        if reader is None:
            raise FrameError(_EXCHANGE, "v1", f"unknown channel {name[:40]!r}")
        return reader(parts[1], pair, received_ms)
    except UNREADABLE as error:
        raise FrameError(_EXCHANGE, channel, str(error)) from error


def read_event(frame: bytes) -> list[Notice]:
    """Read one ``{"event": …}`` frame of v1.

    Raises:
        FrameError: it is not one.
    """
    try:
        event = _event.decode(frame)
    except UNREADABLE as error:
        raise FrameError(_EXCHANGE, "v1", str(error)) from error
    if event.event == "subscriptionStatus":
        if event.status == "subscribed":
            return [Confirmed((event.pair,))]
        if event.status == "error":
            named = (event.pair,) if event.pair else ()
            return [Rejected(named, event.error)]
    elif event.event not in ("heartbeat", "systemStatus", "pong"):
        raise FrameError(_EXCHANGE, "v1", f"unknown event {event.event[:40]!r}")
    return []


def item(values: Sequence[object] | None, place: int) -> object:
    """Return one of several figures, None where there are fewer."""
    return values[place] if values and len(values) > place else None


def _read_ticker(payload: Raw, pair: str, received_ms: int) -> Sequence[Update]:
    letters = _letters.decode(payload)
    price = price_of(item(letters.c, 0))
    opened = item(letters.o, _DAY) if type(letters.o) is list else None
    update = Update(
        exchange=_EXCHANGE,
        channel="ticker",
        symbol=pair,
        received_ms=received_ms,
        price=price,
        bid=price_of(item(letters.b, 0)),
        ask=price_of(item(letters.a, 0)),
        change_24h_pct=change_pct(text_of(opened), price),
        high_24h=price_of(item(letters.h, _DAY)),
        low_24h=price_of(item(letters.l, _DAY)),
        volume_24h=text_of(item(letters.v, _DAY)),
    )
    return (update,) if update.price or update.bid or update.ask else ()


def _read_trades(payload: Raw, pair: str, received_ms: int) -> Sequence[Update]:
    updates = []
    for trade in _trades.decode(payload):
        # Price, volume, time in seconds with a fraction, side, kind, remark.
        price = price_of(item(trade, 0))
        micros = micros_of_seconds(text_of(item(trade, 2)))
        if price:
            updates.append(
                Update(
                    exchange=_EXCHANGE,
                    channel="trade",
                    symbol=pair,
                    received_ms=received_ms,
                    event_ms=micros // 1000,
                    sequence=micros,
                    price=price,
                )
            )
    return updates


def _read_spread(payload: Raw, pair: str, received_ms: int) -> Sequence[Update]:
    # Bid, ask, time in seconds with a fraction, sizes.
    spread = _spread.decode(payload)
    micros = micros_of_seconds(text_of(item(spread, 2)))
    update = Update(
        exchange=_EXCHANGE,
        channel="spread",
        symbol=pair,
        received_ms=received_ms,
        event_ms=micros // 1000,
        sequence=micros,
        bid=price_of(item(spread, 0)),
        ask=price_of(item(spread, 1)),
    )
    return (update,) if update.bid or update.ask else ()


def _read_nothing(_payload: Raw, _pair: str, _received_ms: int) -> Sequence[Update]:
    return ()


_READERS: Final[dict[str, Callable[[Raw, str, int], Sequence[Update]]]] = {
    "ticker": _read_ticker,
    "trade": _read_trades,
    "spread": _read_spread,
    "book": _read_nothing,
    "ohlc": _read_nothing,
}
