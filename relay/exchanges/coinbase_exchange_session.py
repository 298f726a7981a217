"""Coinbase Exchange's streams: frames in, updates out, one conversation.

Not here: sockets and clocks, requests and answers (``coinbase_exchange.py``), order
books. Acknowledgements are read as Advanced Trade's are.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from relay.errors import FrameError
from relay.exchanges.adapter import SYMBOLS_MAX, Closing, Gap, Notice, Rules
from relay.exchanges.coinbase_session import NAMES_MAX, Roll
from relay.exchanges.decimals import price_of, text_of
from relay.exchanges.failures import UNREADABLE
from relay.exchanges.instants import micros_of_iso
from relay.model import Update, change_pct

NAME: Final = "coinbase-exchange"

# --- frames -------------------------------------------------------------------------


class Channel(Struct, frozen=True):
    """One channel of an acknowledgement."""

    name: str
    product_ids: list[str] | None = None


class Frame(Struct, frozen=True):
    """Any message; each type fills some of it."""

    type: str
    product_id: str = ""
    sequence: int = 0
    time: object = None
    trade_id: int = 0
    last_trade_id: int = 0
    price: object = None
    open_24h: object = None
    volume_24h: object = None
    low_24h: object = None
    high_24h: object = None
    best_bid: object = None
    best_ask: object = None
    channels: list[Channel] = []
    message: str = ""
    reason: str = ""


_decode_frame: Final = msgspec.json.Decoder(Frame, float_hook=str).decode


def _read_ticker(frame: Frame, received_ms: int) -> Update:
    # The time is the last trade's, so the snapshot at the start does not look fresh.
    price = price_of(frame.price)
    return Update(
        exchange=NAME,
        channel="ticker",
        symbol=frame.product_id,
        received_ms=received_ms,
        event_ms=micros_of_iso(frame.time) // 1000,
        sequence=frame.sequence,
        price=price,
        bid=price_of(frame.best_bid),
        ask=price_of(frame.best_ask),
        change_24h_pct=change_pct(text_of(frame.open_24h), price),
        high_24h=price_of(frame.high_24h),
        low_24h=price_of(frame.low_24h),
        volume_24h=text_of(frame.volume_24h),
    )


def _read_match(frame: Frame, received_ms: int) -> Update:
    return Update(
        exchange=NAME,
        channel="matches",
        symbol=frame.product_id,
        received_ms=received_ms,
        event_ms=micros_of_iso(frame.time) // 1000,
        sequence=frame.sequence,
        price=price_of(frame.price),
    )


# ``ticker_batch``, acknowledged as ``ticker_1000``, sends type "ticker" too.
_READERS: Final[dict[str, Callable[[Frame, int], Update]]] = {
    "ticker": _read_ticker,
    "last_match": _read_match,
    "match": _read_match,
}

# Documented, and no price at which a product changed hands on its book.
_WITHOUT_PRICE: Final = frozenset(
    {
        "activate",
        "auction",
        "change",
        "done",
        "l2update",
        "open",
        "received",
        "rfq_match",
        "snapshot",
        "status",
    }
)

# --- sessions -----------------------------------------------------------------------

# What we ask for, and the name it is acknowledged under.
_ACKNOWLEDGED_AS: Final = {"ticker_batch": "ticker_1000"}

# Asked for with the products, and no loss when it is refused.
_BEATS: Final = ("heartbeat", "status")

_RULES: Final = Rules(
    # 8 requests a second and address; the ledger has what others there say.
    spacing_ms=130,
    spacing_by="address",
    # None documented; a burst of first messages must fit.
    symbols_max=500,
    # A heartbeat each second and product.
    silent_after_ms=15_000,
)
_RULES_WITHOUT_HEARTBEATS: Final = msgspec.structs.replace(
    # A quiet product may trade once in a long while.
    _RULES,
    silent_after_ms=90_000,
)

# "FOO-USD is not a valid product", "FOO-USD is delisted".
_NAMED: Final = re.compile(r"\S+(?= is )")


class CoinbaseExchangeSession:
    """One connection; each message asks for all channels of a hundred products."""

    def __init__(self, channels: Sequence[str], symbols: Sequence[str]) -> None:
        beats = "heartbeat" in channels
        self.rules = _RULES if beats else _RULES_WITHOUT_HEARTBEATS
        self.target = "/"
        self.headers: tuple[tuple[str, str], ...] = ()
        self.notices: list[Notice] = []
        self._channels = channels
        self._symbols = symbols
        self._roll = Roll()
        # Every trade makes one of these, so a heartbeat may be held against them.
        self._each_trade = "ticker" in channels or "matches" in channels
        self._newest_trade: dict[str, int] = {}

    def opened(self) -> list[bytes]:
        """Return the subscriptions; the first must arrive within 5 s."""
        return self.subscribe(self._symbols)

    def subscribe(self, symbols: Sequence[str]) -> list[bytes]:
        """Return one message for each hundred products."""
        messages = []
        for start in range(0, len(symbols), NAMES_MAX):
            part = symbols[start : start + NAMES_MAX]
            self._roll.ask(self._entries(part))
            messages.append(self._message("subscribe", part))
        return messages

    def unsubscribe(self, symbols: Sequence[str]) -> list[bytes]:
        """Return one message for each hundred products."""
        messages = []
        for start in range(0, len(symbols), NAMES_MAX):
            part = symbols[start : start + NAMES_MAX]
            self._roll.drop(self._entries(part))
            self._roll.ask(())
            messages.append(self._message("unsubscribe", part))
        for symbol in symbols:
            self._newest_trade.pop(symbol, None)
        return messages

    def _entries(self, symbols: Sequence[str]) -> list[tuple[str, str]]:
        return [
            (channel, symbol)
            for channel in self._channels
            if channel not in _BEATS
            for symbol in symbols
        ]

    def _message(self, kind: str, symbols: Sequence[str]) -> bytes:
        return msgspec.json.encode(
            {"type": kind, "product_ids": symbols, "channels": self._channels}
        )

    def ping(self) -> list[bytes]:
        """Return nothing: the heartbeat channel keeps the connection alive."""
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
        read = _READERS.get(decoded.type)
        if read is None:
            self._noticed(decoded)
            return ()
        if not decoded.product_id:
            raise FrameError(NAME, decoded.type, "the message names no product")
        seen = self._newest_trade.get(decoded.product_id, 0)
        if len(self._newest_trade) > SYMBOLS_MAX:
            self._newest_trade.clear()
        self._newest_trade[decoded.product_id] = max(seen, decoded.trade_id)
        update = read(decoded, received_ms)
        return (update,) if update.price else ()

    def _noticed(self, frame: Frame) -> None:
        if frame.type == "heartbeat":
            self._compare(frame)
        elif frame.type == "subscriptions":
            self._acknowledged(frame)
        elif frame.type == "error":
            self._refused(frame)
        elif frame.type not in _WITHOUT_PRICE:
            raise FrameError(NAME, frame.type or "stream", "no such type is known")

    def _compare(self, beat: Frame) -> None:
        """Hold a heartbeat's newest trade against the newest one seen.

        ``sequence`` counts all events of the book, so its jumps mean nothing here.
        """
        seen = self._newest_trade.get(beat.product_id)
        if self._each_trade and seen is not None and beat.last_trade_id > seen:
            self.notices.append(Gap((beat.product_id,)))
            # Said once for each trade that is missing.
            self._newest_trade[beat.product_id] = beat.last_trade_id

    def _acknowledged(self, frame: Frame) -> None:
        names = {ours: ours for ours in self._channels}
        names |= {
            theirs: ours for ours, theirs in _ACKNOWLEDGED_AS.items() if ours in names
        }
        state = {
            (names[channel.name], symbol)
            for channel in frame.channels
            if channel.name in names
            for symbol in channel.product_ids or ()
        }
        self.notices += self._roll.acknowledge(state)

    def _refused(self, frame: Frame) -> None:
        reason = f"{frame.message}: {frame.reason}" if frame.reason else frame.message
        if "ErrSlowConsume" in reason:
            self.notices.append(Closing(reason))
            return
        if frame.message == "Failed to unsubscribe":
            return
        # A request that is refused in part is acknowledged too, before or after.
        match = _NAMED.match(frame.reason)
        known = match is not None and self._roll.knows(match[0])
        refused = (match[0],) if match and known else self._roll.oldest()
        self.notices += self._roll.refuse_symbols(
            refused, reason, whole=len(refused) > 1
        )
