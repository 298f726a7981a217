"""Kraken's WebSocket v2: status, subscriptions, heartbeats. No REST.

Source: docs.kraken.com/api/docs/websocket-v2 (status, ticker, heartbeat, ping,
instrument) and captures published with public clients.
"""

from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import msgspec

from relay.simulator.iso import iso_us
from relay.simulator.limits import RollingWindow
from relay.simulator.listing import (
    TRADING,
    Quote,
    Symbol,
    decimal_text,
    number_text,
)
from relay.simulator.wire import (
    CONTROL,
    Conversation,
    Frame,
    Request,
    decode_json,
    text_list,
)

if TYPE_CHECKING:
    from relay.simulator.kraken import Kraken

_HEARTBEAT: Final = b'{"channel":"heartbeat"}'
_TRIGGERS: Final = frozenset({"bbo", "trades"})
_SECOND_MS: Final = 1_000
_BIG: Final = 1 << 63  # connection ids lie above 2⁵³


class KrakenTalk(Conversation):
    """One connection."""

    def __init__(self, house: "Kraken", request: Request) -> None:
        super().__init__(request.account, request.now_ms)
        self._house = house
        self._settings = house.world.settings.kraken
        self._pairs: dict[str, str] = {}  # pair → trigger
        self._instruments = False
        self._window = RollingWindow(self._settings.messages, _SECOND_MS)
        self._number = crc32(f"{request.address}{request.now_ms}".encode())
        self._now_ms = request.now_ms
        self._close_at_ms = 0  # when announced maintenance begins

    def wants(self, pair: str, triggers: set[str]) -> bool:
        """Tell whether this pair was subscribed with one of these triggers."""
        return self._pairs.get(pair) in triggers

    # Inwards.

    def receive(self, text: str, now_ms: int) -> None:
        """Take one request, unless there were too many."""
        self.heard_ms = self._now_ms = now_ms
        if not self._window.spend(1, now_ms):
            self.account.breach("messages")
            self.say_control(self._stamped({"error": "Exceeded msg rate"}))
            return
        message = decode_json(text)
        if not isinstance(message, dict):
            message = {}
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        channel = params.get("channel")
        match message.get("method"), channel:
            case "ping", _:
                self._pong(message)
            case "subscribe" | "unsubscribe", "ticker":
                self._tickers(message, params)
            case "subscribe" | "unsubscribe", "instrument":
                self._instrument(message)
            case _:
                error = {"error": "Malformed request", "method": "error"}
                self.say_control(self._stamped({**error, "success": False}))

    def _stamped(self, body: dict[str, Any], request_id: object = None) -> object:
        now_ms = self._house.clock_ms(self._now_ms)
        times = {"time_in": iso_us(now_ms, 599), "time_out": iso_us(now_ms, 648)}
        request = {} if request_id is None else {"req_id": request_id}
        return body | times | request

    def _pong(self, message: dict[str, Any]) -> None:
        self.say_control(self._stamped({"method": "pong"}, message.get("req_id")))

    def _tickers(self, message: dict[str, Any], params: dict[str, Any]) -> None:
        method = message["method"]
        pairs = text_list(params.get("symbol"))
        trigger = params.get("event_trigger", "trades")
        if not pairs or trigger not in _TRIGGERS:
            error = {"error": "Malformed request", "method": "error"}
            self.say_control(self._stamped({**error, "success": False}))
            return
        listed = self._house.listing.symbols
        for pair in pairs:
            symbol = listed.get(pair)
            if symbol is None or symbol.state != TRADING:
                self._refuse(method, pair, message.get("req_id"))
            elif method == "subscribe":
                self._subscribe(symbol, trigger, message, params)
            else:
                self._unsubscribe(pair, trigger, message)

    def _refuse(self, method: str, pair: str, request_id: object) -> None:
        self.account.subscribe(1, duplicate=0, unknown=1)
        error = {"error": f"Currency pair not supported {pair}", "method": method}
        body = {**error, "success": False, "symbol": pair}
        self.say_control(self._stamped(body, request_id))

    def _subscribe(
        self,
        symbol: Symbol,
        trigger: str,
        message: dict[str, Any],
        params: dict[str, Any],
    ) -> None:
        pair = symbol.name
        self.count_subscribed(1, new=0 if pair in self._pairs else 1)
        self._pairs[pair] = trigger
        snapshot = params.get("snapshot", True) is not False
        result = {
            "channel": "ticker",
            "event_trigger": trigger,
            "snapshot": snapshot,
            "symbol": pair,
        }
        self._confirm(message, result, pair)
        if snapshot:
            self.say(self.ticker(symbol, "snapshot"), pair)

    def _unsubscribe(self, pair: str, trigger: str, message: dict[str, Any]) -> None:
        if self._pairs.get(pair) != trigger:
            error = {"error": "Subscription Not Found", "method": "unsubscribe"}
            body = {**error, "success": False, "symbol": pair}
            self.say_control(self._stamped(body, message.get("req_id")))
            return
        del self._pairs[pair]
        self.count_unsubscribed(1)
        result = {"channel": "ticker", "event_trigger": trigger, "symbol": pair}
        self._confirm(message, result, pair)

    def _confirm(
        self, message: dict[str, Any], result: dict[str, Any], pair: str
    ) -> None:
        method, request_id = message["method"], message.get("req_id")
        body = {"method": method, "result": result, "success": True}
        error = f"Currency pair not supported {pair}"
        wrong = {"error": error, "method": method, "success": False, "symbol": pair}
        self.acknowledge(
            self._stamped(body, request_id), self._stamped(wrong, request_id)
        )

    def _instrument(self, message: dict[str, Any]) -> None:
        self._instruments = message["method"] == "subscribe"
        result = {"channel": "instrument", "snapshot": True}
        warning = ["snapshot is always sent"]
        self._confirm(message, {**result, "warnings": warning}, "*")
        if self._instruments:
            self.say(self._instrument_frame("snapshot", self._house.listing.trading()))

    def show_instrument(self, symbol: Symbol) -> None:
        """Send a pair whose status has changed, if instruments were asked for."""
        if self._instruments:
            self.say(self._instrument_frame("update", [symbol]))

    def _instrument_frame(self, kind: str, symbols: list[Symbol]) -> bytes:
        names = sorted({name for one in symbols for name in (one.base, one.quote)})
        assets = [{"id": name, "status": "enabled", "precision": 10} for name in names]
        data = {"assets": assets, "pairs": list(map(_instrument_entry, symbols))}
        return msgspec.json.encode(
            {"channel": "instrument", "type": kind, "data": data}
        )

    # Outwards.

    def announce(self, system: str) -> None:
        """Send the engine's state; maintenance is followed by a close."""
        self._say_state(system, {})
        if system == "maintenance":
            self.end(1001, "maintenance")

    def warn(self, close_at_ms: int) -> None:
        """Say that maintenance is near, and close when it begins."""
        stage = {"stage": "final_warning_30s", "action": "disconnect_and_wait"}
        self._say_state("online", {"upcoming_maintenance": [stage]})
        self._close_at_ms = close_at_ms

    def _say_state(self, system: str, more: dict[str, Any]) -> None:
        state = {
            "system": system,
            "api_version": "v2",
            "connection_id": _BIG + self._number,
            "version": "2.0.9",
            **more,
        }
        self.say_control({"channel": "status", "type": "update", "data": [state]})

    def ticker(self, symbol: Symbol, kind: str) -> bytes:
        """Write one ticker; every message is complete."""
        quote = symbol.look()
        event_ms = self._house.clock_ms(quote.moved_ms)
        values = {
            "bid": _price(quote, quote.bid),
            "bid_qty": _size(quote, quote.bid_size),
            "ask": _price(quote, quote.ask),
            "ask_qty": _size(quote, quote.ask_size),
            "last": _price(quote, quote.last),
            "volume": _size(quote, quote.volume),
            "vwap": number_text(quote.average()),
            "low": _price(quote, quote.low),
            "high": _price(quote, quote.high),
            "change": number_text(quote.change()),
            "change_pct": quote.change_pct(2),
        }
        numbers = ",".join(f'"{name}":{text}' for name, text in values.items())
        return (
            f'{{"channel":"ticker","type":"{kind}","data":[{{"symbol":"{symbol.name}"'
            f',{numbers},"timestamp":"{iso_us(event_ms, quote.moved_us)}"}}]}}'
        ).encode()

    def beat(self, now_ms: int) -> None:
        """Send a heartbeat into the silence; end what is idle and wants nothing."""
        settings = self._settings
        self._now_ms = now_ms
        if self._pairs or self._instruments:
            if not self.outbox and now_ms - self.said_ms >= settings.heartbeat_ms:
                self.outbox.append(Frame(_HEARTBEAT, CONTROL))
        elif now_ms - self.heard_ms >= settings.idle_ms:
            self.account.breach("idle")
            self.end(1001, "idle")
        if self._close_at_ms and now_ms >= self._close_at_ms:
            self.end(1001, "maintenance")


def _price(quote: Quote, ticks: int) -> str:
    return number_text(quote.price(ticks))


def _size(quote: Quote, lots: int) -> str:
    return number_text(quote.size(lots))


def _instrument_entry(symbol: Symbol) -> dict[str, Any]:
    number = msgspec.Raw(number_text(decimal_text(1, symbol.decimals)).encode())
    return {
        "symbol": symbol.name,
        "base": symbol.base,
        "quote": symbol.quote,
        "status": "online" if symbol.state == TRADING else "delisted",
        "marginable": False,
        "has_index": True,
        "price_increment": number,
        "price_precision": symbol.decimals,
        "qty_increment": msgspec.Raw(b"1e-08"),
        "qty_precision": symbol.lot_decimals,
        "qty_min": msgspec.Raw(b"0.0001"),
        "cost_min": msgspec.Raw(b"0.5"),
        "cost_precision": 5,
    }
