"""Coinbase Advanced Trade's WebSocket: channels, numbers, deadlines. No REST.

Source: docs.cdp.coinbase.com (overview, channels, rate limits) of 2026 and what
others saw live in June to September 2026.
"""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from relay.simulator.coinbase_products import twin
from relay.simulator.iso import iso_ns
from relay.simulator.listing import TRADING, Quote, Symbol, short_text
from relay.simulator.wire import (
    ACK,
    CONTROL,
    DATA,
    Conversation,
    Frame,
    Request,
    decode_json,
    text_list,
)

if TYPE_CHECKING:
    from relay.simulator.coinbase import Coinbase

_PRODUCT_CHANNELS: Final = frozenset(
    {"ticker", "ticker_batch", "market_trades", "candles", "status", "level2"}
)
_CHANNELS: Final = _PRODUCT_CHANNELS | {"heartbeats"}
_MERGED_MOST: Final = 5  # tickers of one event in a burst


class AdvancedTalk(Conversation):
    """One connection to Advanced Trade."""

    def __init__(self, house: "Coinbase", request: Request) -> None:
        super().__init__(request.account, request.now_ms)
        self._house = house
        self._settings = house.world.settings.coinbase
        self._number = 0
        self._stamped = (0, 0)  # the last instant, and how often it was used
        self._greeted = False
        self._beats = 0
        self._due = dict.fromkeys(_CHANNELS, request.now_ms)
        self.channels: dict[str, dict[str, None]] = {}

    # Inwards.

    def receive(self, text: str, now_ms: int) -> None:
        """Take a subscribe or unsubscribe, within the limit of the address."""
        self.heard_ms = now_ms
        if not self._house.may_send(self.account, now_ms):
            self.end(1008, "rate limit exceeded")
            return
        message = decode_json(text)
        kind = message.get("type") if isinstance(message, dict) else None
        channel = message.get("channel") if isinstance(message, dict) else None
        products = text_list(message.get("product_ids", [])) if kind else None
        if kind not in {"subscribe", "unsubscribe"} or not isinstance(channel, str):
            self._refuse("Failed to subscribe")
        elif channel not in _CHANNELS:
            self._refuse("authentication failure")
        elif products is None or (channel in {"ticker", "level2"} and not products):
            self._refuse("Failed to subscribe")
        elif kind == "subscribe":
            self._subscribe(channel, products, now_ms)
        else:
            self._unsubscribe(channel, products, now_ms)

    def _refuse(self, sentence: str) -> None:
        self.say_control({"type": "error", "message": sentence})

    def _subscribe(self, channel: str, products: list[str], now_ms: int) -> None:
        known = self._known(channel, products)
        members = self.channels.get(channel, {})
        most = self._settings.level2_products
        if channel == "level2" and len({*members, *known}) > most:
            self._refuse("too many L2 streams requested in a single session")
            return
        self._greeted = True
        members = self.channels.setdefault(channel, {})
        new = [name for name in dict.fromkeys(known) if name not in members]
        members.update(dict.fromkeys(new))
        asked = len(products) or len(known)
        unknown = asked - len(known)
        self.count_subscribed(asked, new=len(new), unknown=unknown)
        self._snapshot(channel, new, now_ms)
        self._confirm(now_ms)

    def _known(self, channel: str, products: list[str]) -> list[str]:
        """Drop unknown ids and give the others by the product whose book they share."""
        if channel == "heartbeats":
            return ["heartbeats"]
        listed = self._house.listing.symbols
        twins = products and [twin(name) for name in products]
        if not twins:
            twins = [symbol.name for symbol in self._house.listing.trading()]
        return [
            name for name in twins if name in listed and listed[name].state == TRADING
        ]

    def _unsubscribe(self, channel: str, products: list[str], now_ms: int) -> None:
        members = self.channels.get(channel, {})
        gone = [twin(name) for name in products] or list(members)
        gone = [name for name in gone if name in members]
        for name in gone:
            members.pop(name, None)
        if not members:
            self.channels.pop(channel, None)
        self.count_unsubscribed(len(set(gone)))
        self._confirm(now_ms)

    # Outwards.

    def _envelope(self, channel: str, events: bytes, now_ms: int) -> bytes:
        number = self._number
        self._number += 1
        client = '"client_id":"",' if self._settings.client_id else ""
        stamp = self._stamp(now_ms)
        head = (
            f'{{"channel":"{channel}",{client}"timestamp":"{stamp}"'
            f',"sequence_num":{number},"events":['
        )
        return head.encode() + events + b"]}"

    def _stamp(self, now_ms: int) -> str:
        """Give the time of sending; it grows from message to message."""
        instant_ms = self._house.clock_ms(now_ms)
        again = instant_ms == self._stamped[0]
        self._stamped = (instant_ms, self._stamped[1] + 1 if again else 0)
        return iso_ns(instant_ms, min(999_999, 121 + self._stamped[1] * 1_009))

    def _send(
        self, channel: str, events: bytes, now_ms: int, symbol: str | None = None
    ) -> None:
        kind = CONTROL if channel == "heartbeats" else DATA
        payload = self._envelope(channel, events, now_ms)
        self.outbox.append(Frame(payload, kind, symbol))

    def _confirm(self, now_ms: int) -> None:
        """Acknowledge with everything this connection is subscribed to."""
        held = {name: list(members) for name, members in self.channels.items()}
        wrong = {name: members[1:] for name, members in held.items()}
        encode = msgspec.json.encode
        number = self._number
        right = self._envelope("subscriptions", encode({"subscriptions": held}), now_ms)
        self._number = number
        false = self._envelope(
            "subscriptions", encode({"subscriptions": wrong}), now_ms
        )
        self.outbox.append(Frame(right, ACK, wrong=false))

    def _snapshot(self, channel: str, products: list[str], now_ms: int) -> None:
        make = _SNAPSHOTS.get(channel)
        if make is None:
            return
        for name in products:
            quote = self._house.listing.symbols[name].look()
            events = make(quote, "snapshot", now_ms)
            self._send(_SPOKEN.get(channel, channel), events, now_ms, name)

    def show_tickers(self, tickers: dict[str, bytes], now_ms: int) -> None:
        """Send the tickers that changed, merged when there are several."""
        wanted = self.channels.get("ticker")
        if not wanted:
            return
        chosen = [name for name in tickers if name in wanted]
        most = 1 if self._house.apart else _MERGED_MOST
        for start in range(0, len(chosen), most):
            names = chosen[start : start + most]
            inner = b",".join(tickers[name] for name in names)
            events = b'{"type":"update","tickers":[' + inner + b"]}"
            alone = names[0] if len(names) == 1 else None
            self._send("ticker", events, now_ms, alone)

    def show_levels(self, symbols: dict[str, Symbol], now_ms: int) -> None:
        """Send the best levels of the books that changed."""
        for name in self.channels.get("level2", ()):
            if name in symbols:
                events = level_event(symbols[name].look(), "update", now_ms)
                self._send("l2_data", events, now_ms, name)

    def show_batch(self, channel: str, changed: dict[str, Symbol], now_ms: int) -> None:
        """Send a channel that has an interval, for the products that changed."""
        for name in self.channels.get(channel, ()):
            if name in changed:
                events = _SNAPSHOTS[channel](changed[name].look(), "update", now_ms)
                self._send(channel, events, now_ms, name)

    def beat(self, now_ms: int) -> None:
        """Send heartbeats and end what asked for nothing or hears nothing."""
        settings = self._settings
        if not self._greeted and now_ms - self.opened_ms >= settings.subscribe_ms:
            self.account.breach("subscribe_deadline")
            self.end(1008, "no subscribe")
        if "heartbeats" in self.channels:
            self._heartbeat(now_ms)
        elif self._greeted and now_ms - self.said_ms >= settings.idle_ms:
            self.account.breach("idle")
            self.end(1001, "idle")

    def _heartbeat(self, now_ms: int) -> None:
        if now_ms - self._due["heartbeats"] < self._settings.heartbeat_ms:
            return
        self._due["heartbeats"] = now_ms
        self._beats += 1
        stamp = iso_ns(now_ms, 820_713).replace("T", " ").removesuffix("Z")
        steady = f"{now_ms // 1_000 % 1_000_000}.{now_ms % 1_000:03d}"
        event = {
            "current_time": f"{stamp} +0000 UTC m=+{steady}",
            "heartbeat_counter": self._beats,
        }
        self._send("heartbeats", msgspec.json.encode(event), now_ms)


def ticker_text(quote: Quote, *, book: bool = True) -> bytes:
    """Write one ticker; ``ticker_batch`` has no book."""
    high, low = quote.high, quote.low
    best = (
        f',"best_bid":"{quote.price(quote.bid)}"'
        f',"best_bid_quantity":"{_short_size(quote, quote.bid_size)}"'
        f',"best_ask":"{quote.price(quote.ask)}"'
        f',"best_ask_quantity":"{_short_size(quote, quote.ask_size)}"'
        if book
        else ""
    )
    return (
        f'{{"type":"ticker","product_id":"{quote.symbol.name}"'
        f',"price":"{quote.price(quote.last)}"'
        f',"volume_24_h":"{_short_size(quote, quote.volume)}"'
        f',"low_24_h":"{_short_price(quote, low)}"'
        f',"high_24_h":"{_short_price(quote, high)}"'
        f',"low_52_w":"{_short_price(quote, max(1, low * 6 // 10))}"'
        f',"high_52_w":"{_short_price(quote, high * 16 // 10)}"'
        f',"price_percent_chg_24_h":"{quote.change_pct(14)}"{best}}}'
    ).encode()


def _short_price(quote: Quote, ticks: int) -> str:
    return short_text(ticks, quote.symbol.decimals)


def _short_size(quote: Quote, lots: int) -> str:
    return short_text(lots, quote.symbol.lot_decimals)


def _ticker_event(quote: Quote, kind: str, now_ms: int) -> bytes:
    del now_ms
    return b'{"type":"%s","tickers":[%s]}' % (kind.encode(), ticker_text(quote))


def _batch_event(quote: Quote, kind: str, now_ms: int) -> bytes:
    del now_ms
    text = ticker_text(quote, book=False)
    return b'{"type":"%s","tickers":[%s]}' % (kind.encode(), text)


def _trades_event(quote: Quote, kind: str, now_ms: int) -> bytes:
    trade = {
        "trade_id": str(quote.trades),
        "product_id": quote.symbol.name,
        "price": quote.price(quote.last),
        "size": _short_size(quote, quote.last_size),
        "side": "SELL" if quote.rising else "BUY",  # the maker's
        "time": iso_ns(now_ms, 104_113),
    }
    return msgspec.json.encode({"type": kind, "trades": [trade]})


def _candles_event(quote: Quote, kind: str, now_ms: int) -> bytes:
    candle = {
        "start": str(now_ms // 300_000 * 300),
        "high": quote.price(quote.last),
        "low": quote.price(quote.last),
        "open": quote.price(quote.last),
        "close": quote.price(quote.last),
        "volume": _short_size(quote, quote.last_size),
        "product_id": quote.symbol.name,
    }
    return msgspec.json.encode({"type": kind, "candles": [candle]})


def _status_event(quote: Quote, kind: str, now_ms: int) -> bytes:
    del now_ms
    symbol = quote.symbol
    product = {
        "product_type": "SPOT",
        "id": symbol.name,
        "base_currency": symbol.base,
        "quote_currency": symbol.quote,
        "base_increment": short_text(1, symbol.lot_decimals),
        "quote_increment": short_text(1, symbol.decimals),
        "display_name": f"{symbol.base}/{symbol.quote}",
        "status": "online",
        "status_message": "",
        "min_market_funds": "1",
    }
    return msgspec.json.encode({"type": kind, "products": [product]})


def level_event(quote: Quote, kind: str, now_ms: int) -> bytes:
    """Write the best levels; snapshots are stamped 1970, as the exchange does."""
    stamp = "1970-01-01T00:00:00Z" if kind == "snapshot" else iso_ns(now_ms, 311)
    sides: tuple[tuple[str, int, int], ...] = (
        ("bid", quote.bid, quote.bid_size),
        ("offer", quote.ask, quote.ask_size),
    )
    updates = [
        {
            "side": side,
            "event_time": stamp,
            "price_level": quote.price(ticks),
            "new_quantity": _short_size(quote, lots),
        }
        for side, ticks, lots in sides
    ]
    event: dict[str, Any] = {"type": kind, "product_id": quote.symbol.name}
    return msgspec.json.encode(event | {"updates": updates})


_SNAPSHOTS: Final = {
    "ticker": _ticker_event,
    "ticker_batch": _batch_event,
    "market_trades": _trades_event,
    "candles": _candles_event,
    "status": _status_event,
    "level2": level_event,
}

_SPOKEN: Final = {"level2": "l2_data"}
"""Channels that answer under another name than they are asked for by."""
