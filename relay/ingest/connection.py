"""One open WebSocket: what is said over it and heard, until it ends.

Opening it is ``dial``'s; when to open another, ``stream``'s.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, cast

from msgspec import Struct
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from relay.errors import ExchangeDown, ExchangeError, FrameError, StoreDown
from relay.exchanges.adapter import Notice, Session
from relay.ingest.budget import Priority, Wait
from relay.ingest.dial import Dial
from relay.ingest.pace import LEAVE_MS, Pace
from relay.ingest.purse import Purse
from relay.ingest.roll import NEVER_MS, Roll
from relay.model import Update

MESSAGES: Final = "messages"
"""The limit on what all connections of an address say, as the configuration has it."""

SAY_MS: Final = LEAVE_MS + 1_000
"""What there is leave to say has arrived after so long: a second on its way is much."""

# A store that is away is asked again so often for leave to say something …
_STORE_MS: Final = 1_000
# … and a budget at least as often, since a cooldown may be lifted.
_WAIT_MAX_MS: Final = 60_000
# How long a peer may take to answer our close, in seconds, before it is cut off.
_CLOSE_S: Final = 1.0
# With most of so many frames unreadable, it is the connection that is broken.
_FLOOD_FRAMES: Final = 1_000
# What was heard is told as soon as it is so many updates. After a stall, tens of
# thousands come in one piece: to hold them all took a tenth of the time, for memory.
_BURST_MAX: Final = 256

# Longer rests are begun anew: "never" is too late for a timer.
_REST_MAX_MS: Final = 3_600_000

_TEXT: Final = WSMsgType.TEXT
_PING: Final = WSMsgType.PING
_PONG: Final = WSMsgType.PONG
_CLOSE: Final = WSMsgType.CLOSE
_CONTROL: Final = (_PING, _PONG, _CLOSE)


class Ears(Struct):
    """Who hears what a connection hears.

    ``heard`` is told of frames without updates; those are signs of life themselves.
    ``updates`` may be exchanged while the connection is open. ``changed`` tells that
    all wanted symbols are granted, or that the connection has ended.
    """

    updates: Callable[[Sequence[Update]], None]
    heard: Callable[[], None]
    dropped: Callable[[str], None]
    noticed: Callable[["Connection", Notice], None]
    changed: Callable[[], None]


class Connection(WSListener):
    """One socket and its conversation.

    A frame goes straight from the socket through the session to the ears, in the turn
    of the loop in which it arrives.
    """

    # Not for memory: of a class that extends the library's, Python finds attributes
    # slowly unless they are slots, and a frame asks for a dozen (a tenth of the time).
    __slots__ = ("_bad", "_binary", "_burst", "_burst_over", "_clock", "_dial",
                 "_flood_from", "_pace", "_parts", "_receive", "_received_ms",
                 "_session", "_transport", "_wake", "ears", "ended", "error", "frames",
                 "leave_ms", "opened_ms", "roll", "rules")  # fmt: skip

    def __init__(self, dial: Dial, session: Session, roll: Roll, ears: Ears) -> None:
        self.roll, self.ears = roll, ears
        self.rules = session.rules
        self.frames = 0
        self.opened_ms = 0
        self.leave_ms = NEVER_MS
        """When a successor is to be opened; whoever opens it sets this."""
        self.ended = False
        self.error: ExchangeError | None = None
        self._dial, self._session, self._clock = dial, session, dial.clock
        self._receive = session.receive
        self._pace = Pace(session.rules, dial.clock.monotonic_ms(), dial.gate)
        self._transport: WSTransport | None = None
        self._wake = asyncio.Event()
        self._parts: bytearray | None = None
        self._binary = False
        # Frames that came in one piece are a burst: received at one instant, by the
        # wall clock, and told before anybody else has a turn.
        self._received_ms, self._burst_over = 0, True
        self._burst: list[Update] = []
        # Frames read before the current count of bad ones began, and those.
        self._flood_from, self._bad = 0, 0

    async def open(self) -> None:
        """Connect.

        Raises:
            ExchangeError: the exchange cannot be reached, or refuses.
        """
        await self._dial.open(self._session, self)

    async def keep(self) -> None:
        """Say what is to be said until the connection ends; ``error`` is then why.

        Cancelled, it closes the socket first, within a second or so.
        """
        try:
            while not self.ended:
                self._wake.clear()
                await self._pay()
                due_ms = self._act(self._clock.monotonic_ms())
                await rest(self._wake, due_ms - self._clock.monotonic_ms())
        finally:
            await self._part()

    def end(self, error: ExchangeError | None = None) -> None:
        """Hear nothing more; ``keep`` closes the socket."""
        self._tell()
        if not self.ended:
            self.ended, self.error = True, error
            self._wake.set()
            self.ears.changed()

    def want(self, symbols: frozenset[str]) -> None:
        """Subscribe to these on the open connection, and to no others."""
        self.roll.want(symbols)
        self._wake.set()

    def renew(self, symbols: frozenset[str]) -> None:
        """Leave these and subscribe to them anew."""
        self.roll.renew(symbols)
        self._wake.set()

    # What the library calls.

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Say the first words, before the first frame is read."""
        self._transport = transport
        self.opened_ms = self._clock.monotonic_ms()
        self._pace = Pace(self.rules, self.opened_ms, self._dial.gate)
        if self._rationed() is not None:
            # Whoever has leave to connect has leave for the first message, which
            # must be said in time.
            self._pace.ration(1, self.opened_ms)
        frames = self._session.opened()
        self._pace.say(frames)
        # Asked for by the address alone, the symbols are there as soon as we are.
        if not frames:
            self.roll.grant_all()
        self._heed()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Hear one frame."""
        if self.ended:
            self._hear_farewell(transport, frame)
            return
        self.frames += 1
        if self._burst_over:
            self._pace.heard_ms = self._clock.monotonic_ms()
            self._received_ms = self._clock.wall_ms()
        self._burst_over = frame.last_in_buffer
        if frame.msg_type == _TEXT and frame.fin:
            self._read(frame.get_payload_as_bytes())
        else:
            self._hear_other(transport, frame)
        if self._burst_over:
            self._tell()

    def _hear_other(self, transport: WSTransport, frame: WSFrame) -> None:
        """Hear a frame that is no whole text."""
        kind = frame.msg_type
        if kind in _CONTROL:
            self.ears.heard()
        if kind == _PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif kind == _CLOSE:
            self._answer_close(transport, frame)
        elif kind != _PONG:
            self._assemble(frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Note that the socket is gone."""
        del transport
        self.end(ExchangeDown(self._dial.adapter.name, "connection broke off"))

    def pause_writing(self) -> None:
        """Go on: what we say is little, and the watch ends a socket that takes none."""

    def resume_writing(self) -> None:
        """Go on."""

    def _read(self, frame: bytes) -> None:
        try:
            updates = self._receive(frame, self._received_ms)
        except FrameError as error:
            self._drop(f"{error.channel}: {error.reason}")
            return
        except Exception as error:  # noqa: BLE001 - a reader's mistake over one frame must not cost the others
            self._drop(f"reader failed: {type(error).__name__}")
            return
        if updates:
            burst = self._burst
            burst += updates
            if len(burst) >= _BURST_MAX:
                self._tell()
        else:
            # Only now: of a feed that nobody can read, nobody can say that it lives.
            self.ears.heard()
        if self._session.notices:
            self._tell()
            self._heed()

    def _tell(self) -> None:
        """Tell what the burst has said so far; values are an acknowledgement, too.

        A real one may come later, or never.
        """
        if not self._burst:
            return
        updates, self._burst = self._burst, []
        self.ears.updates(updates)
        if self.roll.waiting:
            self.roll.grant([update.symbol for update in updates])
            if not self.roll.waiting:
                self.ears.changed()

    def _heed(self) -> None:
        notices = list(self._session.notices)
        self._session.notices.clear()
        for notice in notices:
            self.ears.noticed(self, notice)
        self._wake.set()
        if notices and not self.roll.waiting:
            self.ears.changed()

    def _drop(self, reason: str) -> None:
        self.ears.dropped(reason)
        self._bad += 1
        read = self.frames - self._flood_from
        if read < _FLOOD_FRAMES:
            return
        if self._bad * 2 > read:
            cause = f"{self._bad} of {read} frames could not be read"
            self.end(ExchangeDown(self._dial.adapter.name, cause))
        self._flood_from, self._bad = self.frames, 0

    def _assemble(self, frame: WSFrame) -> None:
        """Put a message together that came in several frames, or is no text."""
        if frame.msg_type != WSMsgType.CONTINUATION:
            self._parts, self._binary = bytearray(), frame.msg_type != _TEXT
        if self._parts is None:
            self._drop("frame: continues nothing")
            return
        self._parts += frame.get_payload_as_memoryview()
        frame_max = self._dial.ingest.frame_max
        if len(self._parts) > frame_max:
            cause = f"a message was larger than {frame_max} bytes"
            self.end(ExchangeDown(self._dial.adapter.name, cause))
        elif frame.fin:
            message, self._parts = bytes(self._parts), None
            if self._binary:
                self._drop("frame: binary")
            else:
                self._read(message)

    def _answer_close(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        code = int.from_bytes(payload[:2])
        reason = payload[2:].decode(errors="replace")
        cause = f"closed by the exchange: {code or 'no code'} {reason}".rstrip()
        self.end(ExchangeDown(self._dial.adapter.name, cause))
        # The code is echoed (RFC 6455, 5.5.1), whatever it is.
        transport.send_close(cast("WSCloseCode", code) if code else WSCloseCode.OK)
        transport.disconnect()

    def _hear_farewell(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == _CLOSE:
            transport.disconnect()

    # What is done in time.

    def _rationed(self) -> Purse | None:
        """Return whence leave to say something comes, None where none is needed."""
        purse = self._dial.purse
        by_address = self.rules.spacing_by == "address"
        return purse if purse and by_address and purse.counts(MESSAGES) else None

    async def _pay(self) -> None:
        """Get leave for what waits; without it, it waits on."""
        pace, purse = self._pace, self._rationed()
        count = pace.lacking(self._clock.monotonic_ms())
        if purse is None or not count:
            return
        priority = Priority.KEEP if pace.opening else Priority.SEED
        try:
            leave = await purse.reserve(
                ((MESSAGES, count),), priority=priority, flight_ms=SAY_MS
            )
        except StoreDown:
            pace.put_off(self._clock.monotonic_ms() + _STORE_MS)
            return
        now_ms, wall_ms = self._clock.monotonic_ms(), self._clock.wall_ms()
        if isinstance(leave, Wait):
            wait_ms = min(max(leave.until_ms - wall_ms, 1), _WAIT_MAX_MS)
            pace.put_off(now_ms + wait_ms)
        else:
            pace.granted(count, now_ms - (wall_ms - leave.sent_ms))

    def _act(self, now_ms: int) -> int:
        """Do what is due; return when to look again, by the steady clock."""
        if self.ended:
            return now_ms
        pace, roll = self._pace, self.roll
        if pace.silent(now_ms):
            silent_s = self.rules.silent_after_ms / 1000
            cause = f"nothing was heard for {silent_s:g} s"
            self.end(ExchangeDown(self._dial.adapter.name, cause))
        if pace.ping_due(now_ms):
            pace.ping(self._session.ping(), now_ms)
        self._send(now_ms)
        if not self.rules.in_place:
            return pace.due_ms()
        if pace.idle:
            roll.sent(now_ms)
            self._ask(now_ms)
        return min(pace.due_ms(), roll.due_ms())

    def _ask(self, now_ms: int) -> None:
        """Leave and ask for what the roll says, once all before it has gone."""
        step = self.roll.step(now_ms)
        if step.drop:
            self._pace.say(self._session.unsubscribe(step.drop))
        if step.add:
            self._pace.say(self._session.subscribe(step.add))
        if self._session.notices:
            self._heed()
        self._send(now_ms)
        if self._pace.idle:
            self.roll.sent(now_ms)

    def _send(self, now_ms: int) -> None:
        assert self._transport is not None, "the connection is open"
        while (message := self._pace.take(now_ms)) is not None:
            self._transport.send(_TEXT, message)

    async def _part(self) -> None:
        """Close politely, then for certain; what the library complained of is why."""
        transport = self._transport
        assert transport is not None, "the connection is open"
        self.end()
        transport.send_close(WSCloseCode.OK)
        try:
            async with asyncio.timeout(_CLOSE_S):
                await transport.wait_disconnected()
        except TimeoutError:
            pass
        except Exception as error:  # noqa: BLE001 - the library hands on what anybody raised
            if isinstance(self.error, ExchangeDown):
                # More telling than that the connection broke off.
                cause = f"{type(error).__name__}: {error}"
                self.error = ExchangeDown(self._dial.adapter.name, cause)
        finally:
            transport.disconnect(graceful=False)
            with suppress(Exception):
                await transport.wait_disconnected()


async def rest(event: asyncio.Event, most_ms: int) -> None:
    """Wait for an event, but not longer than this, and at most for an hour."""
    with suppress(TimeoutError):
        async with asyncio.timeout(min(most_ms, _REST_MAX_MS) / 1000):
            await event.wait()
