"""One WebSocket on its socket: frames out through the faults, messages in.

What is said is the conversation's; here is how it gets there, or does not. Frames are
written straight to the transport, because a fault may cut one in the middle.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from aiohttp import WSMsgType, web

from relay.simulator.faults import Fault
from relay.simulator.wire import (
    ACK,
    CLOSE,
    DATA,
    PING,
    TEXT,
    Conversation,
    Ending,
    Exchange,
    Frame,
)

_LENGTH_7: Final = 126  # RFC 6455, section 5.2: what fits the first length byte
_LENGTH_16: Final = 1 << 16
_GARBAGE: Final = b'{"\xef\xbf\xbd":[[[,"s":"BTC'  # UTF-8, but nobody's JSON
_CLOSE_S: Final = 0.5  # how long a broken connection may take to close
_MESSAGE_BYTES_MOST: Final = 1 << 20


def encode_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Write one unmasked, unfragmented frame (RFC 6455, section 5.2)."""
    length = len(payload)
    head = 0x80 | opcode
    if length < _LENGTH_7:
        return bytes((head, length)) + payload
    if length < _LENGTH_16:
        return bytes((head, 126)) + length.to_bytes(2) + payload
    return bytes((head, 127)) + length.to_bytes(8) + payload


class Line:
    """One open WebSocket."""

    def __init__(self, exchange: Exchange, talk: Conversation) -> None:
        self.talk = talk
        self.exchange = exchange
        self._faults = exchange.world.faults
        self._settings = exchange.world.settings
        self._socket = web.WebSocketResponse(
            autoping=False,
            autoclose=False,
            compress=False,
            timeout=_CLOSE_S,
            max_msg_size=_MESSAGE_BYTES_MOST,
        )
        self.choose: Callable[[str], tuple[Exchange, Conversation] | None] | None = None
        """Asked once, with the first message: whose conversation is this really?"""
        self._request: web.Request | None = None
        self._ended_ms: int | None = None
        self._cut_by_us = False
        self._late: deque[tuple[int, list[bytes]]] = deque()
        self._held: list[bytes] = []
        self._lost = 0

    async def serve(
        self, request: web.Request, now: Callable[[], int]
    ) -> web.WebSocketResponse:
        """Shake hands and listen until the connection is gone."""
        await self._socket.prepare(request)
        self._request = request
        self.talk.account.open()
        self.exchange.join(self.talk)
        try:
            self.flush(now())
            await self._listen(now)
        finally:
            self.exchange.part(self.talk)
            self.talk.account.close(by_exchange=self._cut_by_us)
        self._hang_up()
        return self._socket

    async def _listen(self, now: Callable[[], int]) -> None:
        while True:
            message = await self._socket.receive()
            now_ms = now()
            if message.type is WSMsgType.CLOSE and self._ended_ms is None:
                code = message.data or 1000
                self._write(encode_frame(int(code).to_bytes(2), CLOSE))
            if message.type not in _HEARD:
                return
            self._hear(message.type, message.data, now_ms)
            self.flush(now_ms)

    def _hear(self, kind: WSMsgType, content: str | bytes, now_ms: int) -> None:
        self.talk.account.receive()
        if kind is WSMsgType.PONG:
            self.talk.pong(bytes(content), now_ms)  # type: ignore[arg-type]
        elif kind is WSMsgType.PING:
            self.talk.ping(bytes(content), now_ms)  # type: ignore[arg-type]
        elif self._fault("ignore", now_ms) is None:
            text = content if isinstance(content, str) else content.decode()
            self._hand_over(text)
            self.talk.receive(text, now_ms)

    def _hand_over(self, text: str) -> None:
        """Give the connection to another exchange, if the first message says so."""
        choose, self.choose = self.choose, None
        chosen = choose(text) if choose is not None else None
        if chosen is None:
            return
        self.exchange.part(self.talk)
        self.talk.account.close(by_exchange=False)
        self.exchange, self.talk = chosen
        self.talk.account.open()
        self.talk.account.receive()
        self.exchange.join(self.talk)

    # Outwards.

    def flush(self, now_ms: int) -> None:
        """Write what the conversation has to say, then end it if it wants to."""
        outbox = self.talk.outbox
        if not outbox and not self._late and self.talk.ending is None:
            return
        if self._ended_ms is not None:
            outbox.clear()
            if now_ms - self._ended_ms >= self._settings.close_ms:
                self._hang_up()
            return
        if self._late or self._held or self._faults.of(self.exchange.name):
            chunks = self._through_faults(now_ms)
        else:
            chunks = [encode_frame(frame.payload, frame.opcode) for frame in outbox]
            outbox.clear()
        if chunks:
            self.talk.said_ms = now_ms
            self._write(b"".join(chunks), frames=len(chunks))
        if self.talk.ending is not None:
            self._end(self.talk.ending, now_ms)

    def _write(self, octets: bytes, *, frames: int = 1) -> None:
        transport = self._request.transport if self._request is not None else None
        if transport is None or transport.is_closing():
            return
        transport.write(octets)
        self.talk.account.send(frames, len(octets))
        if transport.get_write_buffer_size() > self._settings.slow_bytes:
            self.talk.account.breach("slow_reader")
            self.cut()

    def _end(self, ending: Ending, now_ms: int) -> None:
        self._cut_by_us = True
        self._ended_ms = now_ms
        self._late.clear()
        if ending.code is None:
            self.cut()
        else:
            reason = ending.reason.encode()
            self._write(encode_frame(ending.code.to_bytes(2) + reason, CLOSE))

    def cut(self) -> None:
        """End the TCP connection at once."""
        self._cut_by_us = True
        transport = self._request.transport if self._request is not None else None
        if transport is not None:
            transport.abort()

    def _hang_up(self) -> None:
        transport = self._request.transport if self._request is not None else None
        if transport is not None:
            transport.close()

    # Faults.

    def _fault(self, name: str, now_ms: int, symbol: str | None = None) -> Fault | None:
        if not self._faults.of(self.exchange.name):
            return None
        fault = self._faults.take(
            self.exchange.name, name, now_ms, transport="ws", symbol=symbol
        )
        if fault is not None:
            self.talk.account.inject(name)
        return fault

    def strike(self, fault: Fault, now_ms: int) -> None:
        """End this connection in the way that a fault asks for."""
        self.talk.account.inject(fault.fault)
        if fault.value == "mid-frame":
            waiting = [frame.payload for frame in self.talk.outbox]
            frame = encode_frame(waiting[0] if waiting else _GARBAGE * 8)
            self._write(frame[: max(1, len(frame) // 2)])
            self._cut_by_us = True
            self._ended_ms = now_ms
            self._hang_up()
        else:
            self.talk.outbox.clear()
            code = fault.value if isinstance(fault.value, int) else None
            self.talk.end(code, "fault")
            self.flush(now_ms)

    def _through_faults(self, now_ms: int) -> list[bytes]:
        chunks: list[bytes] = []
        outbox = self.talk.outbox
        if self._fault_holds("silence", now_ms):
            self._keep_silent()
            return chunks
        while outbox:
            chunks += self._one_through_faults(outbox.popleft(), now_ms)
        chunks = self._reordered(chunks, now_ms)
        return self._delayed(chunks, now_ms)

    def _keep_silent(self) -> None:
        """Drop what was to be said; nobody can answer a ping that never came."""
        for frame in self.talk.outbox:
            if frame.opcode == PING:
                self.talk.unsay_ping(frame.payload)
        self.talk.outbox.clear()

    def _fault_holds(self, name: str, now_ms: int) -> bool:
        standing = self._faults.find(self.exchange.name, name, now_ms, transport="ws")
        return standing is not None

    def _one_through_faults(self, frame: Frame, now_ms: int) -> list[bytes]:
        """Give what becomes of one frame: nothing, itself, or something else."""
        if frame.kind == ACK:
            if self._fault("no_ack", now_ms) is not None:
                return []
            if self._fault("wrong_ack", now_ms) is not None:
                return [encode_frame(frame.wrong)]
        if frame.kind == DATA and self._is_lost(frame, now_ms):
            return []
        if frame.opcode != TEXT:
            return [encode_frame(frame.payload, frame.opcode)]
        fault = self._fault("garbage", now_ms, frame.symbol)
        if fault is not None:
            value = fault.value
            said = value.encode() if isinstance(value, str) else _GARBAGE
            return [encode_frame(said)]
        fault = self._fault("repeat", now_ms, frame.symbol)
        times = 1 if fault is None else 1 + _number(fault, 1)
        return [encode_frame(frame.payload, frame.opcode)] * times

    def _is_lost(self, frame: Frame, now_ms: int) -> bool:
        if self._fault_holds_for(frame, now_ms):
            return True
        standing = self._faults.find(
            self.exchange.name, "gap", now_ms, transport="ws", symbol=frame.symbol
        )
        if standing is None:
            return False
        self._lost += 1
        if self._lost % _number(standing.fault, 1):
            return False
        return self._fault("gap", now_ms, frame.symbol) is not None

    def _fault_holds_for(self, frame: Frame, now_ms: int) -> bool:
        """Tell whether this frame's symbol alone is silenced."""
        standing = self._faults.find(
            self.exchange.name, "silence", now_ms, transport="ws", symbol=frame.symbol
        )
        return standing is not None

    def _reordered(self, chunks: list[bytes], now_ms: int) -> list[bytes]:
        standing = self._faults.find(
            self.exchange.name, "reorder", now_ms, transport="ws"
        )
        if standing is None:
            held, self._held = self._held, []
            return held + chunks
        group = max(2, _number(standing.fault, 2))
        waiting = self._held + chunks
        whole = len(waiting) // group * group
        turned: list[bytes] = []
        for start in range(0, whole, group):
            if self._fault("reorder", now_ms) is None:
                turned += waiting[start : start + group]
            else:
                turned += reversed(waiting[start : start + group])
        self._held = waiting[whole:]
        return turned

    def _delayed(self, chunks: list[bytes], now_ms: int) -> list[bytes]:
        fault = self._fault("delay", now_ms) if chunks else None
        wait_ms = 0 if fault is None else _number(fault, 1_000)
        if chunks and (wait_ms or self._late):
            self._late.append((now_ms + wait_ms, chunks))
            chunks = []
        due: list[bytes] = []
        while self._late and self._late[0][0] <= now_ms:
            due += self._late.popleft()[1]
        return due + chunks


def _number(fault: Fault, default: int) -> int:
    return fault.value if isinstance(fault.value, int) and fault.value else default


_HEARD: Final = frozenset(
    {WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG}
)
