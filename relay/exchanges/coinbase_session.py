"""Coinbase Advanced Trade's streams: frames in, updates out, one conversation.

Not here: sockets and clocks, requests and answers (``coinbase.py``), order books,
candles. ``Roll`` serves the Exchange dialect too: both acknowledge alike.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from relay.errors import FrameError
from relay.exchanges.adapter import Confirmed, Gap, Notice, Omitted, Rejected, Rules
from relay.exchanges.decimals import price_of, text_of
from relay.exchanges.failures import UNREADABLE
from relay.exchanges.instants import micros_of_iso
from relay.model import Update

NAME: Final = "coinbase"

# --- frames -------------------------------------------------------------------------


class Ticker(Struct, frozen=True, gc=False):
    """One row of ``ticker`` or ``ticker_batch``; the latter has no bid and ask."""

    product_id: str
    price: object = None
    volume_24_h: object = None
    low_24_h: object = None
    high_24_h: object = None
    price_percent_chg_24_h: object = None
    best_bid: object = None
    best_ask: object = None


class Trade(Struct, frozen=True, gc=False):
    """One row of ``market_trades``, and of the REST ticker."""

    product_id: str
    trade_id: object = None
    price: object = None
    time: object = None


class Event(Struct, frozen=True):
    """One event of a frame: rows, or the whole state of our subscriptions."""

    type: str = ""
    tickers: list[Ticker] = []
    trades: list[Trade] = []
    subscriptions: dict[str, list[str]] | None = None


class Frame(Struct, frozen=True):
    """The envelope of every message; an error has a type instead of a channel."""

    channel: str = ""
    timestamp: object = None
    sequence_num: int | None = None
    events: list[Event] = []
    type: str = ""
    message: str = ""


_decode_frame: Final = msgspec.json.Decoder(Frame, float_hook=str).decode

# Documented, and no price at which a product changed hands. "level2" is asked for and
# "l2_data" comes back.
_WITHOUT_PRICE: Final = frozenset(
    {"candles", "heartbeats", "l2_data", "level2", "status", "subscriptions"}
)


# Frames of one instant are told apart by the connection's numbers, and the rows of one
# frame by their place: so many of each are enough.
_NUMBERS: Final = 1_000_000
_PLACES: Final = 1_000


def _read_tickers(frame: Frame, received_ms: int) -> list[Update]:
    micros = micros_of_iso(frame.timestamp)
    # Times may have no decimals at all.
    place = (micros * _NUMBERS + (frame.sequence_num or 0) % _NUMBERS) * _PLACES
    updates: list[Update] = []
    for event in frame.events:
        # The first ticker of a product is its last trade, however long ago: the time
        # of sending says nothing about it.
        snapshot = event.type == "snapshot"
        for row in event.tickers:
            update = Update(
                exchange=NAME,
                channel=frame.channel,
                symbol=row.product_id,
                received_ms=received_ms,
                event_ms=0 if snapshot else micros // 1000,
                # One frame may hold several rows of one product, oldest first. What has
                # no time has no number made of one: the clock it is of may be wrong.
                sequence=place + len(updates) if micros and not snapshot else 0,
                snapshot=snapshot,
                price=price_of(row.price),
                bid=price_of(row.best_bid),
                ask=price_of(row.best_ask),
                change_24h_pct=text_of(row.price_percent_chg_24_h),
                high_24h=price_of(row.high_24_h),
                low_24h=price_of(row.low_24_h),
                volume_24h=text_of(row.volume_24_h),
            )
            if update.price:
                updates.append(update)
    return updates


def trade_number(trade_id: object) -> int:
    """Read a trade's number, 0 where it is none."""
    text = text_of(trade_id)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0  # noqa: PLR2004  more than 64 bits hold


def _read_trades(frame: Frame, received_ms: int) -> list[Update]:
    updates = [
        Update(
            exchange=NAME,
            channel=frame.channel,
            symbol=row.product_id,
            received_ms=received_ms,
            event_ms=micros_of_iso(row.time) // 1000,
            sequence=trade_number(row.trade_id),
            snapshot=event.type == "snapshot",
            price=price_of(row.price),
        )
        for event in frame.events
        # Newest first on the wire; the last update must be the newest.
        for row in reversed(event.trades)
    ]
    return [update for update in updates if update.price]


_READERS: Final[dict[str, Callable[[Frame, int], list[Update]]]] = {
    "ticker": _read_tickers,
    "ticker_batch": _read_tickers,
    "market_trades": _read_trades,
}

# --- sessions -----------------------------------------------------------------------

# A channel of ours and a product: what one acknowledgement names.
Entry = tuple[str, str]


class Roll:
    """What was asked for on one connection, and what has been acknowledged of it.

    Both dialects acknowledge each request with the connection's whole state, and drop
    names without a word. Requests are answered in order, but an answer may be lost or
    repeated, so what a later answer shows corrects an earlier verdict.
    """

    def __init__(self) -> None:
        self._wanted: set[Entry] = set()
        self._confirmed: set[Entry] = set()
        # What each unanswered request still waits for; nothing for an unsubscription.
        self._pending: list[set[Entry]] = []

    def ask(self, entries: Iterable[Entry]) -> None:
        """Note a request that was made for these; none is a request all the same."""
        asked = set(entries)
        self._wanted |= asked
        self._pending.append(asked)

    def drop(self, entries: Iterable[Entry]) -> None:
        """Note that these are no longer wanted."""
        dropped = set(entries)
        self._wanted -= dropped
        self._confirmed -= dropped
        for request in self._pending:
            request.difference_update(dropped)

    def wants(self, entry: Entry) -> bool:
        """Tell whether an entry is wanted."""
        return entry in self._wanted

    def acknowledge(self, state: set[Entry]) -> list[Notice]:
        """Judge a whole state: what is new in it, what vanished, what never came."""
        held = self._wanted & state
        fresh, lost = held - self._confirmed, self._confirmed - held
        self._confirmed = held
        missing = lost | self._judge()
        notices: list[Notice] = []
        if fresh:
            notices.append(Confirmed(_symbols(fresh)))
        if missing:
            # Only names of the product list are asked for: it may be a passing state.
            reason = "left out of the acknowledgement"
            notices.append(Omitted(_symbols(missing), reason))
        return notices

    def _judge(self) -> set[Entry]:
        missing: set[Entry] = set()
        judged = False
        while self._pending:
            request = self._pending[0]
            absent = request - self._confirmed
            # One answer for one request, unless it shows that more were carried out.
            if judged and absent == request:
                break
            missing |= absent
            judged = True
            del self._pending[0]
        return missing

    def refuse(self, reason: str) -> list[Notice]:
        """Take an error for the answer to the oldest request."""
        if not self._pending:
            return [Rejected((), reason)]
        # A request without entries (heartbeats) is missed by nobody.
        refused = _symbols(self._pending.pop(0))
        if not refused:
            return []
        return [Rejected(refused, reason, whole=len(refused) > 1)]

    def refuse_symbols(
        self, symbols: Iterable[str], reason: str, *, whole: bool = False
    ) -> list[Notice]:
        """Take an error for these products'; their request's answer may still come.

        ``whole`` tells that it named none of them.
        """
        refused = tuple(symbols)
        for request in self._pending:
            request.difference_update([one for one in request if one[1] in refused])
        return [Rejected(refused, reason, whole=whole)]

    def oldest(self) -> tuple[str, ...]:
        """Return the products of the oldest request that waits for some."""
        return next((_symbols(request) for request in self._pending if request), ())

    def knows(self, symbol: str) -> bool:
        """Tell whether a product is wanted on any channel."""
        return any(symbol == one for _, one in self._wanted)


def _symbols(entries: Iterable[Entry]) -> tuple[str, ...]:
    return tuple(sorted({symbol for _, symbol in entries}))


# Books of their own, unlike every other pair of ``-USDC`` and ``-USD``.
_WITHOUT_TWIN: Final = ("USDT", "EURC")


def _twin_of(product_id: str) -> str:
    """Return the id that shares its subscription: ``-USD`` of ``-USDC`` and back.

    The spelling tells, by the notes on acknowledgements; ids without a twin are their
    own. Listings take the link from the product list instead.
    """
    base, _, quote = product_id.rpartition("-")
    if base in _WITHOUT_TWIN or quote not in ("USD", "USDC"):
        return product_id
    return f"{base}-USD" if quote == "USDC" else f"{base}-USDC"


# No cap is documented: short enough that one refusal costs little.
NAMES_MAX: Final = 100

_RULES: Final = Rules(
    # 8 messages a second and address; the ledger has what others there say.
    spacing_ms=130,
    spacing_by="address",
    # None documented; 53 on one connection were observed. A burst of them must fit.
    symbols_max=500,
    # Heartbeats come each second.
    silent_after_ms=15_000,
)
_RULES_WITHOUT_HEARTBEATS: Final = msgspec.structs.replace(
    # Quiet connections are cut after 60 to 90 s.
    _RULES,
    silent_after_ms=90_000,
)


class CoinbaseSession:
    """One connection: heartbeats first, then each channel by a hundred products."""

    def __init__(self, channels: Sequence[str], symbols: Sequence[str]) -> None:
        beats = "heartbeats" in channels
        self.rules = _RULES if beats else _RULES_WITHOUT_HEARTBEATS
        self.target = "/"
        self.headers: tuple[tuple[str, str], ...] = ()
        self.notices: list[Notice] = []
        self._beats = beats
        self._channels = [name for name in channels if name != "heartbeats"]
        self._symbols = symbols
        self._roll = Roll()
        self._next_number = 0

    def opened(self) -> list[bytes]:
        """Return the subscriptions; the first must arrive within 5 s."""
        messages = []
        if self._beats:
            self._roll.ask(())
            messages.append(_message("subscribe", "heartbeats"))
        return messages + self.subscribe(self._symbols)

    def subscribe(self, symbols: Sequence[str]) -> list[bytes]:
        """Return one message for each channel and hundred products."""
        messages = []
        for channel in self._channels:
            for start in range(0, len(symbols), NAMES_MAX):
                part = symbols[start : start + NAMES_MAX]
                self._roll.ask((channel, symbol) for symbol in part)
                messages.append(_message("subscribe", channel, part))
        return messages

    def unsubscribe(self, symbols: Sequence[str]) -> list[bytes]:
        """Return the messages that drop these, but for twins of what stays.

        BTC-USD and BTC-USDC are one subscription to Coinbase.
        """
        messages = []
        for channel in self._channels:
            self._roll.drop((channel, symbol) for symbol in symbols)
            free = [
                symbol
                for symbol in symbols
                if not self._roll.wants((channel, _twin_of(symbol)))
            ]
            for start in range(0, len(free), NAMES_MAX):
                self._roll.ask(())
                part = free[start : start + NAMES_MAX]
                messages.append(_message("unsubscribe", channel, part))
        return messages

    def ping(self) -> list[bytes]:
        """Return nothing: the heartbeats channel keeps the connection alive."""
        return []

    def receive(self, frame: bytes, received_ms: int) -> Sequence[Update]:
        """Read one frame.

        Raises:
            FrameError: the frame cannot be read.
        """
        try:
            decoded = _decode_frame(frame)
        except UNREADABLE as error:
            raise FrameError(NAME, "stream", str(error)) from error
        repeated = self._count(decoded.sequence_num)
        read = _READERS.get(decoded.channel)
        if read is not None:
            # A late price is for the reader to judge, by its own time.
            return read(decoded, received_ms)
        if decoded.channel == "subscriptions":
            if not repeated:
                self._acknowledged(decoded)
        elif decoded.type == "error":
            self.notices += self._roll.refuse(decoded.message)
        elif decoded.channel not in _WITHOUT_PRICE:
            channel = decoded.channel or "stream"
            raise FrameError(NAME, channel, "no such channel is known")
        return ()

    def _count(self, number: int | None) -> bool:
        """Notice a jump in the connection's numbers; tell whether one is old.

        They run over all messages from 0; one overview page speaks of numbers by
        product, live data do not.
        """
        if number is None:
            return False
        if number < self._next_number:
            return True
        if number > self._next_number:
            self.notices.append(Gap(()))
        self._next_number = number + 1
        return False

    def _acknowledged(self, frame: Frame) -> None:
        for event in frame.events:
            state = event.subscriptions or {}
            held = {
                (channel, name)
                for channel, symbols in state.items()
                for symbol in symbols
                for name in (symbol, _twin_of(symbol))
            }
            self.notices += self._roll.acknowledge(held)


def _message(kind: str, channel: str, symbols: Sequence[str] = ()) -> bytes:
    message: dict[str, object] = {"type": kind, "channel": channel}
    if symbols:
        message["product_ids"] = list(symbols)
    return msgspec.json.encode(message)
