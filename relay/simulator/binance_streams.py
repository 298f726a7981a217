"""Binance's WebSocket streams: subscriptions, pings and limits. No REST.

Source: binance-spot-api-docs of 2026-07-21, web-socket-streams.md; the close with
1008 and the wrapped errors are as users saw them.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from re import compile as pattern
from typing import Any, Final

from relay.simulator import binance_payloads as payloads
from relay.simulator.limits import RollingWindow
from relay.simulator.listing import Quote, Symbol
from relay.simulator.settings import BinanceSettings
from relay.simulator.wire import (
    CONTROL,
    PING,
    Conversation,
    Frame,
    Request,
    decode_json,
    text_list,
)

_STREAM: Final = pattern(r"[!\w]+(@[\w+:]+)*|!\w+@arr")
_ID_TEXT: Final = pattern(r"[A-Za-z0-9]{0,36}")
_NAMES_MOST: Final = (
    200  # larger SUBSCRIBEs were dropped silently (altangent/ccxws 161)
)

Make = Callable[[Quote, int, int], bytes]

_TRADE_STREAMS: Final[dict[str, Make]] = {
    "trade": payloads.trade,
    "aggTrade": payloads.agg_trade,
}
"""Streams of one symbol that send each trade."""

_SECOND_STREAMS: Final[dict[str, Make]] = {
    "miniTicker": payloads.mini_ticker,
    "ticker": payloads.ticker,
    "avgPrice": payloads.average_price,
    **{
        f"ticker_{window}": partial(payloads.window_ticker, window=window)
        for window in payloads.WINDOWS_MS
    },
    "referencePrice": payloads.reference_price,
    **{
        f"kline_{interval}": partial(payloads.kline, interval=interval)
        for interval in payloads.INTERVALS_MS
    },
    **{
        f"depth{depth}": partial(payloads.partial_depth, depth=depth)
        for depth in (5, 10, 20)
    },
}
"""Streams of one symbol that send once a second, if it changed."""

_ARRAY_STREAMS: Final = {
    "!miniTicker@arr": "miniTicker",
    **{f"!ticker_{window}@arr": f"ticker_{window}" for window in payloads.WINDOWS_MS},
}
"""Streams of all symbols; ``!ticker@arr`` and ``!bookTicker`` are retired."""


class Streams:
    """Who listens to which stream, and what each stream sends."""

    def __init__(self, settings: BinanceSettings) -> None:
        self.settings = settings
        self._members: dict[str, dict[StreamTalk, None]] = {}
        self._channels: dict[str, set[str]] = {}  # symbol → channels listened to
        self._changed: dict[str, Symbol] = {}
        self._second_ms = 0

    def add(self, stream: str, talk: "StreamTalk") -> None:
        """Let a connection listen."""
        self._members.setdefault(stream, {})[talk] = None
        symbol, _, channel = stream.partition("@")
        self._channels.setdefault(symbol, set()).add(channel)

    def remove(self, stream: str, talk: "StreamTalk") -> None:
        """Let it listen no longer."""
        members = self._members.get(stream, {})
        members.pop(talk, None)
        if not members:
            self._members.pop(stream, None)
            symbol, _, channel = stream.partition("@")
            self._channels.get(symbol, set()).discard(channel)

    def show(self, symbol: Symbol, event_ms: int, *, traded: bool) -> None:
        """Send the real-time streams of a symbol that has just changed."""
        lower = symbol.name.lower()
        quote = symbol.look()
        self._changed[symbol.name] = symbol
        self._publish(
            f"{lower}@bookTicker", symbol.name, lambda _: payloads.book_ticker(quote)
        )
        if not traded:
            return
        for name, make in _TRADE_STREAMS.items():
            one = partial(make, quote, event_ms)
            self._publish(f"{lower}@{name}", symbol.name, one)

    def beat(self, now_ms: int, event_ms: int) -> None:
        """Send the one-second streams when a second is over."""
        if now_ms - self._second_ms < self.settings.second_ms:
            return
        self._second_ms = now_ms
        changed, self._changed = self._changed, {}
        if not changed or not self._members:
            return
        for symbol in changed.values():
            lower = symbol.name.lower()
            for channel in self._channels.get(lower, set()) & _SECOND_STREAMS.keys():
                one = partial(_SECOND_STREAMS[channel], symbol.look(), event_ms)
                self._publish(f"{lower}@{channel}", symbol.name, one)
        for stream, channel in _ARRAY_STREAMS.items():
            self._publish_array(stream, channel, changed.values(), event_ms)

    def _publish_array(
        self, stream: str, channel: str, changed: Iterable[Symbol], event_ms: int
    ) -> None:
        make = _SECOND_STREAMS[channel]

        def all_of_them(unit: int) -> bytes:
            texts = (make(symbol.look(), event_ms, unit) for symbol in changed)
            return b"[" + b",".join(texts) + b"]"

        self._publish(stream, None, all_of_them)

    def _publish(
        self, stream: str, symbol: str | None, make: Callable[[int], bytes]
    ) -> None:
        members = self._members.get(stream)
        if not members:
            return
        made: dict[tuple[int, bool], bytes] = {}
        for talk in members:
            form = (talk.unit, talk.combined)
            if form not in made:
                payload = make(talk.unit)
                made[form] = wrap(stream, payload) if talk.combined else payload
            talk.say(made[form], symbol)


def wrap(stream: str, payload: bytes) -> bytes:
    """Put a payload into the envelope of combined streams."""
    return b'{"stream":"' + stream.encode() + b'","data":' + payload + b"}"


def url_streams(request: Request) -> list[str]:
    """Give the streams that a URL names."""
    if request.path.startswith("/stream"):
        names = request.value("streams") or ""
    else:
        names = request.path.removeprefix("/ws")
    return [name for name in names.split("/") if name]


class StreamTalk(Conversation):
    """One connection to the streams."""

    def __init__(self, streams: Streams, request: Request, names: list[str]) -> None:
        super().__init__(request.account, request.now_ms)
        settings = streams.settings
        self.unit = 1_000 if request.value("timeUnit") == "MICROSECOND" else 1
        self.combined = request.path.startswith("/stream")
        self._streams = streams
        self._settings = settings
        self._names: dict[str, None] = {}
        self._window = RollingWindow(settings.messages, settings.messages_ms)
        self.pinged_ms = request.now_ms
        self._unanswered: deque[tuple[bytes, int]] = deque()
        self._shutdown_ms: int | None = None
        self.breached: Callable[[int], None] = lambda _: None
        self._subscribe(names)

    def receive(self, text: str, now_ms: int) -> None:
        """Take a control message, within the limit on messages."""
        self.heard_ms = now_ms
        if not self._spend(now_ms):
            return
        message = decode_json(text)
        if not isinstance(message, dict):
            self._refuse(3, "Invalid JSON: expected value at line 1 column 1", None)
            return
        request_id = message.get("id")
        if not _is_id(request_id):
            self._refuse(2, "Invalid request: request ID must be an integer", None)
            return
        act = self._METHODS.get(str(message.get("method")))
        if act is None:
            known = "method" in message
            self._refuse(
                2,
                "Invalid request: unknown variant"
                if known
                else "Invalid request: missing field `method`",
                request_id,
            )
            return
        act(self, message.get("params"), request_id)

    def pong(self, payload: bytes, now_ms: int) -> None:
        """Match a pong with its ping; one that matches none does not count."""
        self.heard_ms = now_ms
        if not self._spend(now_ms):
            return
        sent = [ping for ping, _ in self._unanswered]
        if payload in sent:
            for _ in range(sent.index(payload) + 1):
                self._unanswered.popleft()

    def unsay_ping(self, payload: bytes) -> None:
        """Expect no pong to a ping that a fault kept back."""
        kept = [one for one in self._unanswered if one[0] != payload]
        self._unanswered = deque(kept)

    def ping(self, payload: bytes, now_ms: int) -> None:
        """Return a ping; it counts as a message."""
        if self._spend(now_ms):
            super().ping(payload, now_ms)

    def _spend(self, now_ms: int) -> bool:
        if self._window.spend(1, now_ms):
            return self.ending is None
        if self.ending is None:
            self.account.breach("messages")
            self.end(1008, "Too many requests")
            self.breached(now_ms)
        return False

    def beat(self, now_ms: int) -> None:
        """Ping, and end what has outlived its time or missed a pong."""
        settings = self._settings
        if now_ms - self.pinged_ms >= settings.ping_ms:
            self.pinged_ms = now_ms
            payload = str(now_ms).encode()
            self._unanswered.append((payload, now_ms))
            self.outbox.append(Frame(payload, CONTROL, opcode=PING))
        if self._unanswered and now_ms - self._unanswered[0][1] >= settings.pong_ms:
            self._unanswered.clear()
            self.account.miss_pong()
            self.end(None)
        if now_ms - self.opened_ms >= settings.life_ms:
            self.end(1001, "Connection lifetime exceeded")
        if self._shutdown_ms is not None and now_ms >= self._shutdown_ms:
            self.end(1001, "Server shutdown")

    def shut_down(self, event_ms: int, close_at_ms: int) -> None:
        """Announce that the server goes away."""
        payload = b'{"e":"serverShutdown","E":%d}' % (event_ms * self.unit)
        if self.combined:
            payload = wrap("!serverShutdown", payload)
        self.outbox.append(Frame(payload, CONTROL))
        self._shutdown_ms = close_at_ms

    def leave(self) -> None:
        """Listen to nothing any more."""
        for name in self._names:
            self._streams.remove(name, self)
        self._names.clear()
        super().leave()

    def _subscribe(self, names: list[str]) -> None:
        new = [name for name in dict.fromkeys(names) if name not in self._names]
        for name in new:
            self._names[name] = None
            self._streams.add(name, self)
        self.count_subscribed(len(names), new=len(new))

    def _refuse(self, code: int, sentence: str, request_id: object) -> None:
        error = {"code": code, "msg": sentence}
        if self._settings.wrapped_errors or code == _TOO_MANY:
            self.say_control({"error": error, "id": request_id})
        else:
            self.say_control({**error, "id": request_id})

    def _confirm(self, request_id: object, result: object = None) -> None:
        wrong = request_id + 1_000 if isinstance(request_id, int) else "other"
        self.acknowledge(
            {"result": result, "id": request_id}, {"result": result, "id": wrong}
        )

    def _on_subscribe(self, params: object, request_id: object) -> None:
        names = self._stream_names(params, request_id)
        if names is None or len(names) > _NAMES_MOST:
            return
        if len({*names, *self._names}) > self._settings.streams:
            self.account.breach("streams")
            self._refuse(_TOO_MANY, "Too many subscriptions", request_id)
            return
        self._subscribe(names)
        self._confirm(request_id)

    def _on_unsubscribe(self, params: object, request_id: object) -> None:
        names = self._stream_names(params, request_id)
        if names is None:
            return
        gone = [name for name in dict.fromkeys(names) if name in self._names]
        for name in gone:
            del self._names[name]
            self._streams.remove(name, self)
        self.count_unsubscribed(len(gone))
        self._confirm(request_id)

    def _stream_names(self, params: object, request_id: object) -> list[str] | None:
        names = text_list(params)
        if names is not None and names and all(map(_STREAM.fullmatch, names)):
            return names
        self._refuse(2, "Invalid request: invalid stream", request_id)
        return None

    def _on_list(self, params: object, request_id: object) -> None:
        if params:
            self._refuse(2, "Invalid request: too many parameters", request_id)
        else:
            self._confirm(request_id, list(self._names))

    def _on_set(self, params: object, request_id: object) -> None:
        match params:
            case ["combined", bool(combined)]:
                self.combined = combined
                self._confirm(request_id)
            case ["combined", _]:
                self._refuse(1, "Invalid value type: expected Boolean", request_id)
            case _:
                self._refuse(0, "Unknown property", request_id)

    def _on_get(self, params: object, request_id: object) -> None:
        if params == ["combined"]:
            self._confirm(request_id, self.combined)
        else:
            self._refuse(0, "Unknown property", request_id)

    _METHODS: Final[dict[str, Callable[["StreamTalk", Any, object], None]]] = {
        "SUBSCRIBE": _on_subscribe,
        "UNSUBSCRIBE": _on_unsubscribe,
        "LIST_SUBSCRIPTIONS": _on_list,
        "SET_PROPERTY": _on_set,
        "GET_PROPERTY": _on_get,
    }


_TOO_MANY: Final = 4


def _is_id(request_id: object) -> bool:
    if request_id is None or isinstance(request_id, bool):
        return request_id is None
    if isinstance(request_id, int):
        return -(2**63) <= request_id < 2**63
    return isinstance(request_id, str) and bool(_ID_TEXT.fullmatch(request_id))
