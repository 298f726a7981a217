"""Binance's streams: frames in, updates out, and one connection's conversation.

Not here: sockets and clocks, requests and answers (``binance.py``), order books,
candles. Frames of the futures hosts differ by a few more keys, and are read as well.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Meta, Struct, field

from relay.errors import FrameError
from relay.exchanges.adapter import Closing, Confirmed, Notice, Rejected, Rules
from relay.exchanges.decimals import price_of, text_of
from relay.exchanges.failures import UNREADABLE
from relay.model import Update, change_pct

NAME: Final = "binance"

# --- frames -------------------------------------------------------------------------


class Event(Struct, frozen=True, gc=False):
    """One payload of a stream, its one-letter keys given names.

    The letters change their meaning with the event (``a`` is an ask, the id of a trade
    or one side of a book), so only those that never do have a narrow type.
    """

    kind: str = field(name="e", default="")
    sent: int = field(name="E", default=0)
    symbol: str = field(name="s", default="")
    update_id: int = field(name="u", default=0)
    trade_id: int = field(name="t", default=0)
    traded: int = field(name="T", default=0)
    last: object = field(name="c", default=None)
    opened: object = field(name="o", default=None)
    high: object = field(name="h", default=None)
    low: object = field(name="l", default=None)
    volume: object = field(name="v", default=None)
    quote_volume: object = field(name="q", default=None)
    change_pct: object = field(name="P", default=None)
    price: object = field(name="p", default=None)
    bid: object = field(name="b", default=None)
    ask_or_id: object = field(name="a", default=None)
    # The one key of a partial depth payload that tells it, since it names no symbol.
    book_id: int = field(name="lastUpdateId", default=0)


class Best(Struct, frozen=True, gc=False):
    """The payload of ``bookTicker``, by far the most frequent of all."""

    update_id: Annotated[int, Meta(gt=0)] = field(name="u")
    symbol: Annotated[str, Meta(min_length=1)] = field(name="s")
    bid: str = field(name="b")
    ask: str = field(name="a")
    # Spot gives neither; futures do.
    kind: Literal["bookTicker"] = field(name="e", default="bookTicker")
    sent: int = field(name="E", default=0)


class BestFrame(Struct, frozen=True, gc=False):
    """A best price in its envelope."""

    data: Best


class Refusal(Struct, frozen=True):
    """Why Binance says no: the same in frames and in answers."""

    code: int = 0
    msg: str = ""

    @property
    def reason(self) -> str:
        """Both, for people."""
        return f"{self.msg} (code {self.code})"


class Frame(Struct, frozen=True, gc=False):
    """What arrives as an object: a payload in its envelope, or an answer to us.

    Neither is there in a payload that comes raw.
    """

    data: Event | list[Event] | None = None
    # An answer's id is what we sent; it can be null, so absence is another value.
    id: Any = UNSET
    code: int = 0
    msg: str = ""
    error: Refusal | None = None

    @property
    def answers(self) -> bool:
        """Whether it says something about what we asked."""
        return self.id is not UNSET or bool(self.code or self.error)


_decode_best: Final = msgspec.json.Decoder(BestFrame).decode
_decode_event: Final = msgspec.json.Decoder(Event, float_hook=str).decode
_decode_frame: Final = msgspec.json.Decoder(Frame | list[Event], float_hook=str).decode

# Times above are microseconds (``timeUnit=MICROSECOND``), below milliseconds.
_MILLIS_MAX: Final = 100_000_000_000_000


def millis(instant: int) -> int:
    """Return an instant in milliseconds, in whichever unit it was sent."""
    return instant // 1000 if instant > _MILLIS_MAX else instant


# Tickers are ordered by their times alone: two of a burst may share a millisecond, and
# then the later to arrive is the newer.


def _read_day_ticker(event: Event, channel: str, received_ms: int) -> Update:
    return Update(
        exchange=NAME,
        channel=channel,
        symbol=event.symbol,
        received_ms=received_ms,
        event_ms=millis(event.sent),
        price=price_of(event.last),
        bid=price_of(event.bid),
        ask=price_of(event.ask_or_id),
        change_24h_pct=text_of(event.change_pct),
        high_24h=price_of(event.high),
        low_24h=price_of(event.low),
        volume_24h=text_of(event.volume),
        volume_24h_quote=text_of(event.quote_volume),
    )


def _read_mini_ticker(event: Event, channel: str, received_ms: int) -> Update:
    price = price_of(event.last)
    return Update(
        exchange=NAME,
        channel=channel,
        symbol=event.symbol,
        received_ms=received_ms,
        event_ms=millis(event.sent),
        price=price,
        change_24h_pct=change_pct(text_of(event.opened), price),
        high_24h=price_of(event.high),
        low_24h=price_of(event.low),
        volume_24h=text_of(event.volume),
        volume_24h_quote=text_of(event.quote_volume),
    )


def _read_window_ticker(event: Event, channel: str, received_ms: int) -> Update:
    # Its high, low and volume are those of another window: not our 24 h figures.
    return Update(
        exchange=NAME,
        channel=channel,
        symbol=event.symbol,
        received_ms=received_ms,
        event_ms=millis(event.sent),
        price=price_of(event.last),
    )


def _read_book_ticker(event: Event, channel: str, received_ms: int) -> Update:
    # Spot gives no time at all; futures give both.
    return Update(
        exchange=NAME,
        channel=channel,
        symbol=event.symbol,
        received_ms=received_ms,
        event_ms=millis(event.sent),
        sequence=event.update_id,
        bid=price_of(event.bid),
        ask=price_of(event.ask_or_id),
    )


def _read_trade(event: Event, channel: str, received_ms: int) -> Update:
    aggregate_id = event.ask_or_id if channel == "aggTrade" else None
    return Update(
        exchange=NAME,
        channel=channel,
        symbol=event.symbol,
        received_ms=received_ms,
        event_ms=millis(event.traded or event.sent),
        sequence=aggregate_id if isinstance(aggregate_id, int) else event.trade_id,
        price=price_of(event.price),
    )


_Reader = Callable[[Event, str, int], Update]

# By the event type: the channel's name, and its reader. web-socket-streams.md.
_READERS: Final[dict[str, tuple[str, _Reader]]] = {
    "24hrTicker": ("ticker", _read_day_ticker),
    "24hrMiniTicker": ("miniTicker", _read_mini_ticker),
    "1hTicker": ("ticker_1h", _read_window_ticker),
    "4hTicker": ("ticker_4h", _read_window_ticker),
    "1dTicker": ("ticker_1d", _read_window_ticker),
    "bookTicker": ("bookTicker", _read_book_ticker),
    "aggTrade": ("aggTrade", _read_trade),
    "trade": ("trade", _read_trade),
}

# Documented, and no price at which an instrument changed hands just now on its book:
# books, candles, averages, block trades (agreed off the book), the futures' own events.
_WITHOUT_PRICE: Final = frozenset(
    {
        "avgPrice",
        "blockTrade",
        "continuous_kline",
        "contractInfo",
        "depthUpdate",
        "forceOrder",
        "kline",
        "markPriceUpdate",
        "referencePrice",
        "serverShutdown",
    }
)


def _read_event(event: Event, received_ms: int) -> Update | None:
    """Read one payload; None where it says nothing about a price.

    Raises:
        FrameError: it is no payload of Binance's.
    """
    # Only ``bookTicker`` has no event type, and only partial depth has no symbol.
    kind = event.kind or ("bookTicker" if event.update_id else "")
    found = _READERS.get(kind)
    if found is None:
        if kind in _WITHOUT_PRICE or event.book_id:
            return None
        raise FrameError(NAME, kind or "stream", "no such event is known")
    channel, read = found
    if not event.symbol:
        raise FrameError(NAME, channel, "the event names no symbol")
    update = read(event, channel, received_ms)
    # A dead symbol's ticker may still have a bid; only book tickers live by that alone.
    lives = update.price or (kind == "bookTicker" and (update.bid or update.ask))
    return update if lives else None


# How an envelope begins to name a stream of best prices, and within how many octets.
_BEST: Final = b'@bookTicker"'
_BEST_WITHIN: Final = 64


def _read_best(frame: bytes, received_ms: int) -> Update | None:
    """Read a best price in one go; None for whatever is not quite as usual.

    That is left to the reader of everything: one side empty, an exponent, no number.
    """
    try:
        best = _decode_best(frame).data
    except UNREADABLE:
        return None
    bid, ask = best.bid, best.ask
    both = bid + ask
    if "e" in both or "E" in both or not (bid.strip("-0.") and ask.strip("-0.")):
        return None
    return Update(
        exchange=NAME,
        channel="bookTicker",
        symbol=best.symbol,
        received_ms=received_ms,
        event_ms=millis(best.sent) if best.sent else 0,
        sequence=best.update_id,
        bid=bid,
        ask=ask,
    )


# --- sessions -----------------------------------------------------------------------

_STREAMS_MAX: Final = 1024
# Larger SUBSCRIBE messages have been dropped silently (ccxws issue 161: 437 names).
_NAMES_MAX: Final = 200
# Client libraries stop at about 8,000 characters of URL; scheme, host and a proxy's
# prefix are part of it.
_TARGET_MAX: Final = 7_000
_DAY_MS: Final = 24 * 3_600_000


def rules_of(channels: Sequence[str], *, us: bool) -> Rules:
    """Return the rules of a connection, which binance.us has its own of."""
    boards = sum(channel.startswith("!") for channel in channels)
    each = len(channels) - boards
    return Rules(
        # 5 messages a second in a strict rolling window: 300 ms keep a margin.
        spacing_ms=300,
        symbols_max=(_STREAMS_MAX - boards) // max(each, 1),
        # Three of the server's pings, every 20 s; every 3 minutes on binance.us.
        silent_after_ms=600_000 if us else 60_000,
        life_ms=_DAY_MS,
    )


class BinanceSession:
    """One connection to ``/stream``: most streams in the URL, the rest by SUBSCRIBE."""

    def __init__(
        self, channels: Sequence[str], symbols: Sequence[str], rules: Rules
    ) -> None:
        self.rules = rules
        self.headers: tuple[tuple[str, str], ...] = ()
        self.notices: list[Notice] = []
        # ``!miniTicker@arr`` and its like are one stream for all symbols.
        self._boards = [channel for channel in channels if channel.startswith("!")]
        self._channels = [name for name in channels if not name.startswith("!")]
        self._next_id = 1
        self._asked: dict[int, tuple[str, ...]] = {}
        self.target, named = self._target_of(symbols)
        self._named, self._rest = symbols[:named], symbols[named:]

    def _streams_of(self, symbol: str) -> list[str]:
        return [f"{symbol.lower()}@{channel}" for channel in self._channels]

    def _target_of(self, symbols: Sequence[str]) -> tuple[str, int]:
        """Return the URL's path and query, and how many of the symbols it names."""
        parts = [quote(board, safe="!@") for board in self._boards]
        length, named = len("/stream?streams=") + sum(map(len, parts)) + len(parts), 0
        for symbol in symbols:
            streams = [quote(name, safe="@") for name in self._streams_of(symbol)]
            length += sum(map(len, streams)) + len(streams)
            if length > _TARGET_MAX:
                break
            parts += streams
            named += 1
        joined = "/".join(parts)
        return (f"/stream?streams={joined}" if joined else "/stream"), named

    def opened(self) -> list[bytes]:
        """Return the SUBSCRIBE messages for what the URL had no room for."""
        if self._named:
            # Streams in the URL are not acknowledged: the open connection says it.
            self.notices.append(Confirmed(tuple(self._named)))
        return self.subscribe(self._rest)

    def subscribe(self, symbols: Sequence[str]) -> list[bytes]:
        """Return the SUBSCRIBE messages for these symbols."""
        if symbols and not self._channels:
            # The streams of all symbols bring these already.
            self.notices.append(Confirmed(tuple(symbols)))
        return self._ask("SUBSCRIBE", symbols)

    def unsubscribe(self, symbols: Sequence[str]) -> list[bytes]:
        """Return the UNSUBSCRIBE messages for these symbols."""
        return self._ask("UNSUBSCRIBE", symbols)

    def ping(self) -> list[bytes]:
        """Return nothing: the server pings, and counts what we send unasked."""
        return []

    def _ask(self, method: str, symbols: Sequence[str]) -> list[bytes]:
        if not self._channels:
            return []
        step = max(1, _NAMES_MAX // len(self._channels))
        messages = []
        for start in range(0, len(symbols), step):
            part = symbols[start : start + step]
            names = [name for symbol in part for name in self._streams_of(symbol)]
            # Only what is subscribed waits for an answer worth a notice.
            self._asked[self._next_id] = tuple(part) if method == "SUBSCRIBE" else ()
            message = {"method": method, "params": names, "id": self._next_id}
            messages.append(msgspec.json.encode(message))
            self._next_id += 1
        return messages

    def receive(self, frame: bytes, received_ms: int) -> Sequence[Update]:
        """Read one frame: a payload, raw or in its envelope, a list, or an answer.

        Raises:
            FrameError: the frame cannot be read.
        """
        if frame.find(_BEST, 0, _BEST_WITHIN) > 0:
            best = _read_best(frame, received_ms)
            if best is not None:
                return (best,)
        return self._read(frame, received_ms)

    def _read(self, frame: bytes, received_ms: int) -> Sequence[Update]:
        try:
            decoded = _decode_frame(frame)
            data = decoded.data if isinstance(decoded, Frame) else decoded
            if isinstance(decoded, Frame) and data is None and not decoded.answers:
                data = _decode_event(frame)
        except UNREADABLE as error:
            raise FrameError(NAME, "stream", str(error)) from error
        if data is None:
            self._answered(decoded)
            return ()
        events = data if isinstance(data, list) else (data,)
        return self._read_events(events, received_ms)

    def _read_events(self, events: Sequence[Event], received_ms: int) -> list[Update]:
        updates = []
        for event in events:
            update = _read_event(event, received_ms)
            if update is not None:
                updates.append(update)
            elif event.kind == "serverShutdown":
                self.notices.append(Closing("the server is about to restart"))
        return updates

    def _answered(self, answer: Frame) -> None:
        asked = self._asked.pop(answer.id, None) if type(answer.id) is int else None
        # Documented flat, seen wrapped.
        refusal = answer.error or Refusal(answer.code, answer.msg)
        if refusal == Refusal():
            if asked:
                self.notices.append(Confirmed(asked))
        elif asked is None or asked:
            symbols = asked or ()
            # One bad name fails them all, and is not named.
            whole = len(symbols) > 1
            self.notices.append(Rejected(symbols, refusal.reason, whole=whole))
