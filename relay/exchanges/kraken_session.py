"""One connection to Kraken's WebSocket v2: what to say, and what is heard.

Frames of the older v1, as recordings hold them, are handed on to ``kraken_v1``.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Raw, Struct, field

from relay.errors import FrameError
from relay.exchanges import kraken_v1
from relay.exchanges.adapter import (
    SYMBOLS_MAX,
    Closing,
    Confirmed,
    Notice,
    Rejected,
    Rules,
    Told,
)
from relay.exchanges.decimals import price_of, text_of
from relay.exchanges.failures import UNREADABLE
from relay.exchanges.instants import micros_of_iso
from relay.model import Update

_EXCHANGE: Final = "kraken"

# Channels that give prices, and what their subscription takes beside the symbols.
# `bbo` pushes on each change of the best prices, not only on trades [K4].
CHANNELS: Final[dict[str, dict[str, object]]] = {
    "ticker": {"event_trigger": "bbo"},
    "trade": {},
}

# No cap is published; few large requests are asked for, each a frame of a few KB.
_SYMBOLS_PER_MESSAGE: Final = 200

RULES: Final = Rules(
    # The rate is dynamic and unpublished; third parties keep to 20 a second with
    # bursts of 10 [K9]. Half of that.
    spacing_ms=100,
    # No cap is published; one connection takes every pair there is (about 1,450).
    symbols_max=2000,
    # Heartbeats come each second, so ten are enough to be sure.
    silent_after_ms=10_000,
    # The server closes after about 60 s without traffic [K1].
    ping_ms=30_000,
)

# Stages of an announced maintenance at which it pays to leave. Earlier ones (a day,
# an hour ahead) leave the connection as good as any other.
_EARLY: Final = ("announced", "reminder_24h", "approaching_30m")


# So many tickers of one symbol and microsecond are told apart.
_TURNS: Final = 1_000


class _Result(Struct, frozen=True, kw_only=True):
    channel: str = ""
    symbol: str = ""


class _Envelope(Struct, frozen=True, kw_only=True):
    """What every frame of v2 can have at its top; v1's events only have ``event``."""

    channel: str = ""
    data: Raw = Raw(b"[]")
    method: str = ""
    result: _Result | None = None
    success: bool = True
    error: str | None = None
    # One page of the documents prints the key like this.
    error_too: str | None = field(name="Error", default=None)
    symbol: str | None = None
    req_id: int | None = None
    event: str = ""


class _Ticker(Struct, frozen=True, kw_only=True, gc=False):
    symbol: str
    bid: object = None
    ask: object = None
    last: object = None
    volume: object = None
    low: object = None
    high: object = None
    change_pct: object = None
    timestamp: object = None


class _Trade(Struct, frozen=True, kw_only=True, gc=False):
    symbol: str
    price: object = None
    trade_id: int = 0
    timestamp: object = None


class _Turns:
    """Gives a symbol's tickers numbers by their times, which two of them may share.

    Of those of one instant, the later to arrive is the newer; what says the same again
    is the same.
    """

    def __init__(self) -> None:
        # The newest instant of each symbol, how many rows it has had, and the last.
        self._last: dict[str, tuple[int, int, _Ticker]] = {}

    def number(self, row: _Ticker, micros: int) -> int:
        """Return the row's number, 0 without a time."""
        if not micros:
            return 0
        newest, turn, before = self._last.get(row.symbol, (0, 0, row))
        if micros < newest:
            return micros * _TURNS
        turn = (turn + (row != before)) % _TURNS if micros == newest else 0
        if len(self._last) > SYMBOLS_MAX:
            self._last.clear()
        self._last[row.symbol] = (micros, turn, row)
        return micros * _TURNS + turn

    def forget(self, symbols: Sequence[str]) -> None:
        """Forget symbols that were left."""
        for symbol in symbols:
            self._last.pop(symbol, None)


class _Status(Struct, frozen=True, kw_only=True):
    system: str = ""
    upcoming_maintenance: object = None
    emergency: object = None


_envelope: Final = msgspec.json.Decoder(_Envelope)
_tickers: Final = msgspec.json.Decoder(list[_Ticker], float_hook=str)
_trades: Final = msgspec.json.Decoder(list[_Trade], float_hook=str)
_statuses: Final = msgspec.json.Decoder(list[_Status])
_encode: Final = msgspec.json.Encoder().encode


class KrakenSession:
    """One connection's conversation."""

    rules = RULES
    target = "/v2"
    headers: tuple[tuple[str, str], ...] = ()

    def __init__(self, channels: Sequence[str], symbols: Sequence[str]) -> None:
        self.notices: list[Notice] = []
        self._channels = tuple(name for name in channels if name in CHANNELS)
        self._symbols = tuple(symbols)
        self._requests = 0
        # Symbol → the channels that have not acknowledged it. Acknowledgements come
        # one a symbol, so a request as a whole is never confirmed or refused.
        self._waiting: dict[str, set[str]] = {}
        # Subscription request → its symbols, for errors that name only the request.
        self._asked: dict[int, tuple[str, ...]] = {}
        self._heard = False
        self._turns = _Turns()

    def opened(self) -> list[bytes]:
        """Return the frames to send first."""
        return self.subscribe(self._symbols)

    def subscribe(self, symbols: Sequence[str]) -> list[bytes]:
        """Return the frames that add these symbols, all of them with a snapshot."""
        for symbol in symbols:
            self._waiting[symbol] = set(self._channels)
        self._forget_answered()
        return self._write("subscribe", symbols, {"snapshot": True})

    def unsubscribe(self, symbols: Sequence[str]) -> list[bytes]:
        """Return the frames that drop these symbols."""
        for symbol in symbols:
            self._waiting.pop(symbol, None)
        self._turns.forget(symbols)
        return self._write("unsubscribe", symbols, {})

    def ping(self) -> list[bytes]:
        """Return the frames that keep the connection alive."""
        return [b'{"method":"ping"}']

    def receive(self, frame: bytes, received_ms: int) -> Sequence[Update]:
        """Read one text frame of v2, or of v1.

        Raises:
            FrameError: the frame cannot be read.
        """
        first, self._heard = not self._heard, True
        if frame.lstrip()[:1] == b"[":
            return kraken_v1.read_array(frame, received_ms=received_ms)
        channel = "frame"
        try:
            envelope = _envelope.decode(frame)
            channel = envelope.channel or envelope.method or channel
            if channel == "ticker":
                return _read_tickers(envelope.data, received_ms, self._turns)
            if channel == "trade":
                return _read_trades(envelope.data, received_ms)
            if channel == "status":
                self._read_status(envelope.data, first=first)
            elif not envelope.channel:
                self._read_reply(envelope, frame)
            elif channel not in _WITHOUT_PRICES:
                raise FrameError(_EXCHANGE, "frame", f"unknown channel {channel!r}")
        except UNREADABLE as error:
            raise FrameError(_EXCHANGE, channel, str(error)) from error
        return ()

    def _write(
        self, method: str, symbols: Sequence[str], more: dict[str, object]
    ) -> list[bytes]:
        frames = []
        for channel in self._channels:
            for start in range(0, len(symbols), _SYMBOLS_PER_MESSAGE):
                some = tuple(symbols[start : start + _SYMBOLS_PER_MESSAGE])
                self._requests += 1
                if method == "subscribe":
                    self._asked[self._requests] = some
                # Leaving takes the same event_trigger as joining did [K4].
                params = {"channel": channel, "symbol": some, **CHANNELS[channel]}
                message = {
                    "method": method,
                    "params": {**params, **more},
                    "req_id": self._requests,
                }
                frames.append(_encode(message))
        return frames

    def _forget_answered(self) -> None:
        self._asked = {
            request: symbols
            for request, symbols in self._asked.items()
            if any(symbol in self._waiting for symbol in symbols)
        }

    def _read_status(self, rows: Raw, *, first: bool) -> None:
        # The server greets with its state. A replacement would be greeted alike, so a
        # state that stood before we came is no reason to leave.
        for row in _statuses.decode(rows):
            if row.system:
                self.notices.append(_told(row.system))
            reason = _closing_reason(row)
            if reason and not first:
                self.notices.append(Closing(reason))

    def _read_reply(self, reply: _Envelope, frame: bytes) -> None:
        reason = reply.error or reply.error_too
        if reply.event:
            self.notices.extend(kraken_v1.read_event(frame))
        elif reason or not reply.success:
            self._read_refusal(reply, reason or "no reason given")
        elif reply.method == "subscribe":
            result = reply.result or _Result()
            self._confirm(result.symbol, result.channel)
        elif reply.method not in ("unsubscribe", "pong"):
            raise FrameError(_EXCHANGE, "frame", "neither a channel nor a reply")

    def _confirm(self, symbol: str, channel: str) -> None:
        channels = self._waiting.get(symbol)
        if channels is None:
            return
        channels.discard(channel)
        if not channels:
            del self._waiting[symbol]
            self.notices.append(Confirmed((symbol,)))

    def _read_refusal(self, reply: _Envelope, reason: str) -> None:
        # What we leave and did not get to leave costs nothing but frames.
        if reply.method in ("unsubscribe", "ping", "pong"):
            return
        symbols = (reply.symbol,) if reply.symbol else self._unanswered(reply.req_id)
        for symbol in symbols:
            self._waiting.pop(symbol, None)
        words = reason.lower()
        if "already subscribed" in words:
            # Our first request was served and its acknowledgement lost.
            self.notices.append(Confirmed(symbols))
        else:
            retry = "exceeded" in words
            whole = not retry and len(symbols) > 1
            self.notices.append(Rejected(symbols, reason, retry=retry, whole=whole))

    def _unanswered(self, request: int | None) -> tuple[str, ...]:
        asked = self._asked.get(request or 0, ())
        return tuple(symbol for symbol in asked if symbol in self._waiting)


def _told(system: str) -> Told:
    """Read the engine's state; in all but maintenance prices go on [K3]."""
    if system == "online":
        return Told()
    return Told(f"{system}, as its status says", halts=system == "maintenance")


def _closing_reason(status: _Status) -> str:
    if status.system == "maintenance":
        return "maintenance"
    for announced in (status.upcoming_maintenance, status.emergency):
        for entry in announced if type(announced) is list else ():
            stage, action = _announcement(entry)
            if "disconnect" in action and stage not in _EARLY:
                return f"{action} {stage}".rstrip()
    return ""


def _announcement(entry: object) -> tuple[str, str]:
    facts = entry if type(entry) is dict else {}
    return str(facts.get("stage", "")), str(facts.get("action", ""))


def _read_tickers(rows: Raw, received_ms: int, turns: _Turns) -> Sequence[Update]:
    updates = []
    for row in _tickers.decode(rows):
        # Added to the channel in 2025: older frames have none.
        micros = micros_of_iso(row.timestamp)
        update = Update(
            exchange=_EXCHANGE,
            channel="ticker",
            symbol=row.symbol,
            received_ms=received_ms,
            event_ms=micros // 1000,
            sequence=turns.number(row, micros),
            # Only there when the pair traded within 24 hours.
            price=price_of(row.last),
            bid=price_of(row.bid),
            ask=price_of(row.ask),
            change_24h_pct=text_of(row.change_pct),
            high_24h=price_of(row.high),
            low_24h=price_of(row.low),
            volume_24h=text_of(row.volume),
        )
        if update.price or update.bid or update.ask:
            updates.append(update)
    return updates


def _read_trades(rows: Raw, received_ms: int) -> Sequence[Update]:
    updates = []
    for row in _trades.decode(rows):
        price = price_of(row.price)
        if price:
            update = Update(
                exchange=_EXCHANGE,
                channel="trade",
                symbol=row.symbol,
                received_ms=received_ms,
                event_ms=micros_of_iso(row.timestamp) // 1000,
                sequence=row.trade_id,
                price=price,
            )
            updates.append(update)
    return updates


# Documented channels of v2 that carry no price of their own.
_WITHOUT_PRICES: Final = frozenset(
    {"heartbeat", "book", "level3", "ohlc", "instrument", "executions", "balances"}
)
