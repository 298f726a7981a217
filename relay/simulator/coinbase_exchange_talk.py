"""Coinbase Exchange's WebSocket: channels in a list, partial success. No REST.

Source: docs.cdp.coinbase.com (Exchange channels, errors) of 2026; ``ticker_1000``
as observed in October 2026.
"""

from typing import Any, Final

import msgspec

from relay.simulator.coinbase_products import CoinbaseHouse
from relay.simulator.iso import iso_us
from relay.simulator.listing import TRADING, Quote, Symbol, short_text
from relay.simulator.wire import Conversation, Request, decode_json, text_list

_OPEN_CHANNELS: Final = frozenset(
    {"ticker", "ticker_batch", "matches", "heartbeat", "status", "level2_batch"}
)
_KEYED_CHANNELS: Final = frozenset({"level2", "level3", "full", "user"})
_SPOKEN: Final = {"ticker_batch": "ticker_1000"}


class ExchangeTalk(Conversation):
    """One connection to the Exchange feed."""

    def __init__(self, house: CoinbaseHouse, request: Request) -> None:
        super().__init__(request.account, request.now_ms)
        self._house = house
        self._settings = house.world.settings.coinbase
        self._greeted = False
        self._heartbeat_ms = request.now_ms
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
        wanted = _wanted(message) if kind else None
        match kind:
            case "subscribe" if wanted is None:
                self._refuse("Failed to subscribe", "No channels provided")
            case "subscribe":
                self._subscribe(wanted or [], now_ms)
            case "unsubscribe" if wanted is None:
                self._refuse("Failed to unsubscribe", "No channels provided")
            case "unsubscribe":
                self._unsubscribe(wanted or [])
            case _:
                self._refuse("Malformed JSON", "Type is invalid")

    def _refuse(self, sentence: str, reason: str) -> None:
        body = {"type": "error", "message": sentence, "reason": reason}
        self.say_control(body)

    def _subscribe(self, wanted: list[tuple[str, list[str]]], now_ms: int) -> None:
        """Take what can be taken: a request can give an error and an ack."""
        taken = False
        asked = dict.fromkeys(name for _, products in wanted for name in products)
        good = {name for name in asked if self._is_known(name)}
        for channel, products in wanted:
            if channel not in _OPEN_CHANNELS:
                self._refuse("Failed to subscribe", _no_channel(channel))
                continue
            known = [name for name in products if name in good]
            if products and not known:
                self.account.subscribe(
                    len(products), duplicate=0, unknown=len(products)
                )
                continue
            members = self.channels.setdefault(channel, {})
            new = [name for name in dict.fromkeys(known) if name not in members]
            members.update(dict.fromkeys(new))
            unknown = len(products) - len(known)
            self.count_subscribed(len(products), new=len(new), unknown=unknown)
            self._snapshot(channel, new, now_ms)
            taken = True
        if taken:
            self._greeted = True
            self._confirm()

    def _is_known(self, name: str) -> bool:
        symbol = self._house.listing.symbols.get(name)
        if symbol is None:
            self._refuse("Failed to subscribe", f"{name} is not a valid product")
            return False
        if symbol.state != TRADING:
            self._refuse("Failed to subscribe", f"{name} is delisted")
            return False
        return True

    def _unsubscribe(self, wanted: list[tuple[str, list[str]]]) -> None:
        for channel, products in wanted:
            members = self.channels.get(channel, {})
            gone = [name for name in products or list(members) if name in members]
            for name in gone:
                members.pop(name, None)
            self.count_unsubscribed(len(set(gone)))
            if not members:
                self.channels.pop(channel, None)
        self._confirm()

    # Outwards.

    def _confirm(self) -> None:
        """Acknowledge with everything this connection is subscribed to."""
        entries = [
            {
                "name": _SPOKEN.get(channel, channel),
                "product_ids": list(members),
                "account_ids": None,
            }
            for channel, members in self.channels.items()
        ]
        wrong = [entry | {"product_ids": []} for entry in entries]
        self.acknowledge(
            {"type": "subscriptions", "channels": entries},
            {"type": "subscriptions", "channels": wrong},
        )

    def _snapshot(self, channel: str, products: list[str], now_ms: int) -> None:
        if channel == "status":
            self.say_control({"type": "status", "products": [], "currencies": []})
        make = _SNAPSHOTS.get(channel)
        for name in products:
            symbol = self._house.listing.symbols[name]
            if make is not None:
                self.say(make(symbol.look(), now_ms), name)
            elif channel in _TICKERS:
                self._say_ticker(symbol, now_ms)

    def _say_ticker(self, symbol: Symbol, now_ms: int) -> None:
        ahead_ms = self._house.clock_ms(now_ms) - now_ms
        self.say(_ticker_frame(symbol.look(), ahead_ms), symbol.name)

    def show(self, symbol: Symbol, now_ms: int, *, traded: bool) -> None:
        """Send what one product shows now."""
        name = symbol.name
        if name in self.channels.get("level2_batch", ()):
            self.say(_level_update(symbol.look(), now_ms), name)
        if not traded:
            return
        if name in self.channels.get("ticker", ()):
            self._say_ticker(symbol, now_ms)
        if name in self.channels.get("matches", ()):
            self.say(_match_frame(symbol.look(), now_ms, "match"), name)

    def show_batch(self, changed: dict[str, Symbol], now_ms: int) -> None:
        """Send the tickers of the batch channel that changed."""
        for name in self.channels.get("ticker_batch", ()):
            if name in changed:
                self._say_ticker(changed[name], now_ms)

    def beat(self, now_ms: int) -> None:
        """Send heartbeats and end what asked for nothing."""
        settings = self._settings
        if not self._greeted and now_ms - self.opened_ms >= settings.subscribe_ms:
            self.account.breach("subscribe_deadline")
            self.end(1008, "no subscribe")
        if now_ms - self._heartbeat_ms < settings.heartbeat_ms:
            return
        self._heartbeat_ms = now_ms
        for name in self.channels.get("heartbeat", ()):
            quote = self._house.listing.symbols[name].look()
            self.say_control(
                {
                    "type": "heartbeat",
                    "sequence": quote.sequence,
                    "last_trade_id": quote.trades,
                    "product_id": name,
                    "time": iso_us(now_ms, 403),
                }
            )


def _wanted(message: dict[str, Any]) -> list[tuple[str, list[str]]] | None:
    """Give each channel with its products; None when no channel is named."""
    common = text_list(message.get("product_ids", [])) or []
    channels = message.get("channels")
    if not isinstance(channels, list) or not channels:
        return None
    wanted: list[tuple[str, list[str]]] = []
    for channel in channels:
        if isinstance(channel, dict):
            own = text_list(channel.get("product_ids", [])) or []
            wanted.append((str(channel.get("name")), own or common))
        else:
            wanted.append((str(channel), common))
    return wanted


def _no_channel(channel: str) -> str:
    if channel in _KEYED_CHANNELS:
        return f"{channel} channel requires authentication"
    return f"{channel} is not a valid channel"


def _size(quote: Quote, lots: int) -> str:
    return short_text(lots, quote.symbol.lot_decimals)


def _ticker_frame(quote: Quote, ahead_ms: int) -> bytes:
    """Write one ticker; ``sequence`` jumps, as it counts all book events."""
    return msgspec.json.encode(
        {
            "type": "ticker",
            "sequence": quote.sequence,
            "product_id": quote.symbol.name,
            "price": quote.price(quote.last),
            "open_24h": quote.price(quote.open),
            "volume_24h": _size(quote, quote.volume),
            "low_24h": quote.price(quote.low),
            "high_24h": quote.price(quote.high),
            "volume_30d": _size(quote, quote.volume * 29),
            "best_bid": quote.price(quote.bid),
            "best_bid_size": _size(quote, quote.bid_size),
            "best_ask": quote.price(quote.ask),
            "best_ask_size": _size(quote, quote.ask_size),
            "side": "buy" if quote.rising else "sell",
            "time": iso_us(quote.moved_ms + ahead_ms, quote.moved_us),
            "trade_id": quote.trades,
            "last_size": _size(quote, quote.last_size),
        }
    )


def _match_frame(quote: Quote, now_ms: int, kind: str) -> bytes:
    order = f"{quote.trades:08x}-0000-4000-8000-{quote.symbol.salt:012x}"
    return msgspec.json.encode(
        {
            "type": kind,
            "trade_id": quote.trades,
            "maker_order_id": order,
            "taker_order_id": order[::-1],
            "side": "sell" if quote.rising else "buy",
            "size": _size(quote, quote.last_size),
            "price": quote.price(quote.last),
            "product_id": quote.symbol.name,
            "sequence": quote.sequence,
            "time": iso_us(now_ms, 571),
        }
    )


def _last_match(quote: Quote, now_ms: int) -> bytes:
    return _match_frame(quote, now_ms, "last_match")


def _level_snapshot(quote: Quote, now_ms: int) -> bytes:
    del now_ms
    return msgspec.json.encode(
        {
            "type": "snapshot",
            "product_id": quote.symbol.name,
            "bids": [[quote.price(quote.bid), _size(quote, quote.bid_size)]],
            "asks": [[quote.price(quote.ask), _size(quote, quote.ask_size)]],
        }
    )


def _level_update(quote: Quote, now_ms: int) -> bytes:
    return msgspec.json.encode(
        {
            "type": "l2update",
            "product_id": quote.symbol.name,
            "changes": [
                ["buy", quote.price(quote.bid), _size(quote, quote.bid_size)],
                ["sell", quote.price(quote.ask), _size(quote, quote.ask_size)],
            ],
            "time": iso_us(now_ms, 55),
        }
    )


_TICKERS: Final = ("ticker", "ticker_batch")
_SNAPSHOTS: Final = {
    "matches": _last_match,
    "level2_batch": _level_snapshot,
}
