"""One line to an exchange: a connection at a time, and its successor beside it.

A line has a set of symbols, and keeps a connection for them up as long as there are
any. Which symbols those are is ``stream``'s to say.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Literal, Protocol
from urllib.parse import urlsplit

from msgspec import Struct

from relay.errors import (
    ExchangeDown,
    ExchangeError,
    Refused,
    StoreDown,
    left_alone,
    one_line,
)
from relay.exchanges.adapter import (
    Closing,
    Confirmed,
    Denied,
    Gap,
    Notice,
    Omitted,
    Rejected,
    Told,
)
from relay.ingest.backoff import Backoff
from relay.ingest.breaker import Breaker
from relay.ingest.budget import Priority, Reservation, Wait
from relay.ingest.causes import reached_nobody
from relay.ingest.connection import MESSAGES, SAY_MS, Connection, Ears, rest
from relay.ingest.dial import Dial
from relay.ingest.purse import Purse
from relay.ingest.report import logger
from relay.ingest.roll import ANSWER_MS, NEVER_MS, Roll
from relay.model import Update

CONNECT: Final = (("connect", 1), (MESSAGES, 1))
"""What one attempt to connect costs, by the limits' names in the configuration.

The first message is part of it: some exchanges close a connection that says nothing.
"""

# A store that is away is asked again so often for leave to connect.
_STORE_MS: Final = 1_000
# A cooldown may be lifted, or the clock be set: look again at least this often.
_WAIT_MAX_MS: Final = 60_000
# An exchange that ends connections after a time is left when this share is over, less
# something by chance, so that lines opened together are not replaced together.
_LIFE_SHARE: Final = 0.95
_LIFE_JITTER: Final = 0.05
# Two connections are kept side by side for so long, if nothing is acknowledged; then
# one looks again as often as that.
_OVERLAP_MS: Final = 1_000
_OVERLAP_LOOK_MS: Final = 100
# Shorter waits for the budget are nobody's business.
_WAIT_TELL_MS: Final = 1_000
# Where another set of symbols takes another connection, two are never closer than this.
_REPLACE_MS: Final = 2_000


class Sink(Protocol):
    """Where a stream's news go. Nothing here may wait."""

    def updates(self, exchange: str, updates: Sequence[Update]) -> None:
        """Take what a burst of frames said about prices, in order: signs of life, too.

        All of it was received at one instant.
        """
        ...

    def heard(self, exchange: str) -> None:
        """Note that the exchange lives: a frame came in, without updates."""
        ...

    def dropped(self, exchange: str, reason: str) -> None:
        """Count a frame that nobody can read."""
        ...

    def refresh(self, exchange: str, symbols: Sequence[str]) -> None:
        """Read these by REST: values may have been missed. Empty means all."""
        ...

    def refused(self, exchange: str, symbols: Sequence[str], reason: str) -> None:
        """Note that the exchange does not stream these."""
        ...

    def told(self, exchange: str, told: Told) -> None:
        """Note how the exchange says that it is."""
        ...

    def down(self, exchange: str, reason: str) -> None:
        """Note that a connection was lost or cannot be opened; it is tried on."""
        ...

    def replaced(self, exchange: str, reason: str) -> None:
        """Note why a connection is replaced that goes on meanwhile."""
        ...

    def up(self, exchange: str) -> None:
        """Note that every connection is open (again)."""
        ...


Phase = Literal["connecting", "open", "waiting"]


class State(Struct, frozen=True, kw_only=True):
    """How one line stands. ``since_ms`` is the wall clock's.

    ``subscribed`` counts the symbols that the exchange has granted, of ``wanted``;
    ``frames`` those received over the open connection; ``error`` is what went wrong
    last since it was opened, empty when nothing did: what was before is in the log.
    """

    host: str
    state: Phase
    since_ms: int
    frames: int
    wanted: int
    subscribed: int
    error: str


class House(Struct, frozen=True, kw_only=True):
    """What all lines to one exchange share.

    ``refuse`` is told which symbols the exchange will not stream, ``turned`` that a
    line has come up or gone down.
    """

    dial: Dial
    purse: Purse
    breaker: Breaker
    sink: Sink
    random: Callable[[], float]
    refuse: Callable[[Sequence[str], str], None]
    turned: Callable[[], None]


class Line:
    """One line. ``wanted`` are its symbols; ``run`` ends when there are none left.

    A connection whose time is over is left only when its successor has been granted
    everything: until then both are heard, and of what the successor has begun to
    tell, the older one is not believed any more.
    """

    def __init__(self, house: House, wanted: frozenset[str]) -> None:
        self.wanted = wanted
        self.over = False
        self._house, self._clock = house, house.dial.clock
        self._name, self._sink = house.dial.adapter.name, house.sink
        self._updates = partial(house.sink.updates, self._name)
        ingest = house.dial.ingest
        self._steady_ms = ingest.reconnect_steady_ms
        self._backoff = Backoff(
            ingest.reconnect_min_ms, ingest.reconnect_max_ms, house.random
        )
        self._wake = asyncio.Event()
        self._current: Connection | None = None
        # The predecessor, until the current connection has taken over from it.
        self._leaving: Connection | None = None
        # Until when the current connection may take to be granted its symbols.
        self._settle_ms = NEVER_MS
        self._retry_ms = self._clock.monotonic_ms()
        self._missed = False
        self._error = ""
        self._phase: Phase = "connecting"
        self._since_ms = self._clock.wall_ms()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._current is not None

    def state(self) -> State:
        """Tell how it stands."""
        current = self._current
        return State(
            host=urlsplit(self._house.dial.url).hostname or "",
            state=self._phase,
            since_ms=self._since_ms,
            frames=current.frames if current else 0,
            wanted=len(self.wanted),
            subscribed=len(current.roll.granted) if current else 0,
            error=self._error,
        )

    def want(self, symbols: frozenset[str]) -> None:
        """Have these from now on, and no others."""
        if symbols == self.wanted:
            return
        self.wanted = symbols
        if self._current is not None and self._current.rules.in_place:
            self._current.want(symbols)
        self._wake.set()

    @property
    def granted(self) -> set[str]:
        """The symbols that the exchange has granted."""
        return self._current.roll.granted if self._current is not None else set()

    def renew(self, symbols: frozenset[str], reason: str, *, replace: bool) -> None:
        """Subscribe to these anew, since nothing comes of them.

        ``replace`` does it by another connection, opened before this one is left.
        """
        current = self._current
        symbols &= self.granted
        if current is None or not symbols:
            return
        if replace or not current.rules.in_place:
            self._close_soon(current, reason)
        else:
            current.renew(symbols)

    async def run(self) -> None:
        """Keep a connection up until nothing is wanted.

        Cancelled, it leaves no socket behind.
        """
        async with asyncio.TaskGroup() as tasks:
            while self.wanted:
                self._wake.clear()
                now_ms = self._clock.monotonic_ms()
                self._settle(now_ms)
                if now_ms >= self._open_ms():
                    await self._open(tasks)
                else:
                    await rest(self._wake, self._look_ms(now_ms) - now_ms)
            self.over = True
            for connection in (self._current, self._leaving):
                if connection is not None:
                    connection.end()

    def _open_ms(self) -> int:
        """Return when to open a connection: the first, the next, or a successor."""
        current = self._current
        if current is None:
            return self._retry_ms
        if self._leaving is not None:
            return NEVER_MS
        due_ms = current.leave_ms
        if not current.rules.in_place and current.roll.wanted != self.wanted:
            due_ms = min(due_ms, current.opened_ms + _REPLACE_MS)
        return max(due_ms, self._retry_ms)

    def _look_ms(self, now_ms: int) -> int:
        """Return when to look again, if nothing happens before."""
        if self._leaving is not None:
            return min(now_ms + _OVERLAP_LOOK_MS, self._settle_ms)
        return min(self._open_ms(), self._settle_ms)

    async def _open(self, tasks: asyncio.TaskGroup) -> None:
        """Open a connection, if breaker and budget let us, and let it take over."""
        breaker = self._house.breaker
        wait_ms = breaker.wait_ms(self._clock.monotonic_ms())
        if wait_ms:
            self._retry_ms = self._clock.monotonic_ms() + wait_ms
            return
        leave = await self._reserve()
        if leave is None:
            breaker.undone()
            return
        connection = self._prepare()
        try:
            await connection.open()
        except ExchangeError as error:
            await self._settle_failed(leave, error)
            self._fail(error)
            return
        except BaseException:
            breaker.undone()
            raise
        # From here on somebody keeps the connection, whatever becomes of this task.
        self._take_over(connection)
        tasks.create_task(self._keep(connection))
        breaker.undone()
        now_ms = self._clock.wall_ms()
        await self._house.purse.settle(leave, (), now_ms=now_ms, late_ms=SAY_MS)

    async def _reserve(self) -> Reservation | None:
        """Get leave for one attempt, or put it off."""
        # As long as the store may take to answer, the attempt, and the first message.
        timeout_ms = self._house.dial.ingest.request_timeout_ms
        try:
            leave = await self._house.purse.reserve(
                CONNECT, priority=Priority.KEEP, flight_ms=2 * timeout_ms + SAY_MS
            )
        except StoreDown as down:
            self._retry_ms = self._clock.monotonic_ms() + _STORE_MS
            self._tell(str(down))
            return None
        if isinstance(leave, Wait):
            self._wait(leave, self._clock.wall_ms())
            return None
        return leave

    async def _settle_failed(self, leave: Reservation, error: ExchangeError) -> None:
        purse = self._house.purse
        # Before anything is waited for: whoever is cancelled meanwhile has heard it.
        purse.mind(error, "ws")
        if reached_nobody(error):
            await purse.cancel(leave)
        else:
            await purse.settle(leave, (), now_ms=self._clock.wall_ms())

    def _prepare(self) -> Connection:
        if self._current is None:
            self._turn("connecting")
        dial = self._house.dial
        session = dial.adapter.session(sorted(self.wanted))
        ears = Ears(
            updates=self._updates,
            heard=partial(self._sink.heard, self._name),
            dropped=partial(self._sink.dropped, self._name),
            noticed=self._notice,
            changed=self._wake.set,
        )
        return Connection(dial, session, Roll(self.wanted), ears)

    def _take_over(self, fresh: Connection) -> None:
        """Make a new connection the current one; the old one stays on for a while."""
        old, self._current = self._current, fresh
        self._error = ""
        self._settle_ms = fresh.opened_ms + ANSWER_MS
        if fresh.rules.life_ms:
            share = _LIFE_SHARE - _LIFE_JITTER * self._house.random()
            life_ms = int(fresh.rules.life_ms * share)
            fresh.leave_ms = min(fresh.leave_ms, fresh.opened_ms + life_ms)
        if fresh.rules.in_place:
            fresh.want(self.wanted)
        if old is not None:
            self._leaving = old
            _yield(old, fresh, self._updates)
            return
        self._turn("open")
        self._house.turned()

    def _settle(self, now_ms: int) -> None:
        """See whether the current connection stands, and close what went before."""
        current, leaving = self._current, self._leaving
        if current is None or self._settle_ms == NEVER_MS:
            return
        if now_ms < self._settle_ms and not self._stands(current, now_ms):
            return
        self._settle_ms = NEVER_MS
        if not current.roll.waiting:
            self._house.breaker.passed()
        current.ears.updates = self._updates
        if leaving is not None:
            self._leaving = None
            leaving.end()
        if self._missed:
            self._missed = False
            self._sink.refresh(self._name, sorted(self.wanted))

    def _stands(self, current: Connection, now_ms: int) -> bool:
        if current.roll.waiting:
            return False
        # What is subscribed by address is not acknowledged: frames must come first.
        flows = current.frames > 0 and now_ms - current.opened_ms >= _OVERLAP_MS
        return self._leaving is None or flows

    async def _keep(self, connection: Connection) -> None:
        await connection.keep()
        if connection is self._leaving:
            # Gone before its successor had everything.
            self._leaving, self._missed = None, True
        elif connection is self._current:
            self._lose(connection)
        self._wake.set()
        if connection.error is not None:
            await self._house.purse.heed(connection.error, "ws")

    def _lose(self, connection: Connection) -> None:
        """Go on without the current connection, with its predecessor if that lives."""
        self._current, self._leaving = self._leaving, None
        self._settle_ms = NEVER_MS
        if connection.error is None:
            return
        if self._clock.monotonic_ms() - connection.opened_ms >= self._steady_ms:
            self._backoff.steady()
            self._house.breaker.passed()
        if self._current is None:
            self._missed = True
        else:
            self._current.ears.updates = self._updates
            if self._current.rules.in_place:
                self._current.want(self.wanted)
        self._fail(connection.error)

    def _fail(self, error: ExchangeError) -> None:
        """Put off the next attempt, and say why it failed.

        Where the exchange asks to be left alone, the cooldown puts it off further.
        """
        now_ms = self._clock.monotonic_ms()
        self._retry_ms = now_ms + self._backoff.failed()
        if isinstance(error, ExchangeDown):
            self._retry_ms = max(self._retry_ms, now_ms + error.retry_after_ms)
            self._house.breaker.failed(error.cause, now_ms)
            self._tell(error.cause)
        else:
            self._house.breaker.passed()
            self._tell(str(error))
        if isinstance(error, Refused) and error.kind == "request":
            # No cooldown for everybody, but nothing to be had by asking again either.
            self._retry_ms = now_ms + self._house.dial.ingest.refused_ms

    def _wait(self, wait: Wait, wall_ms: int) -> None:
        """Put off the next attempt until the budget bears it."""
        wait_ms = min(max(wait.until_ms - wall_ms, 1), _WAIT_MAX_MS)
        self._retry_ms = self._clock.monotonic_ms() + wait_ms
        reason = left_alone(wait.reason, wait.until_ms)
        if wait.limit:
            reason = f"our own budget of {wait.limit} is spent: {wait.reason}"
        if wait_ms >= _WAIT_TELL_MS and reason != self._error:
            self._tell(reason)

    def _tell(self, reason: str) -> None:
        self._error = reason
        if self._current is None:
            self._turn("waiting")
            self._sink.down(self._name, reason)
        else:
            logger.info("%s: no successor of its connection: %s", self._name, reason)

    def _turn(self, phase: Phase) -> None:
        if phase != self._phase:
            self._phase, self._since_ms = phase, self._clock.wall_ms()

    def _notice(self, connection: Connection, notice: Notice) -> None:
        """Heed what a session noticed; called while its frame is read."""
        match notice:
            case Confirmed(symbols):
                connection.roll.grant(symbols)
            case Rejected():
                self._reject(connection, notice)
            case Omitted(symbols, reason):
                self._error = one_line(reason)
                self._give_up(connection.roll.omit(symbols), self._error)
            case Gap(symbols):
                self._sink.refresh(self._name, symbols)
            case Closing(reason):
                said = one_line(reason)
                self._close_soon(connection, said)
                self._sink.replaced(self._name, said)
            case Denied(error):
                connection.end(error)
            case Told():
                self._sink.told(self._name, notice)

    def _reject(self, connection: Connection, rejected: Rejected) -> None:
        self._error = reason = one_line(rejected.reason)
        if rejected.retry:
            # Asked again when its time to be answered is over.
            return
        roll, symbols = connection.roll, rejected.symbols
        named = symbols and not rejected.whole
        lost = roll.refuse(symbols) if named else roll.refuse_request(symbols)
        self._give_up(lost, reason)

    def _give_up(self, lost: Sequence[str], reason: str) -> None:
        if lost:
            self.wanted -= frozenset(lost)
            self._house.refuse(lost, reason)
            self._wake.set()

    def _close_soon(self, connection: Connection, reason: str) -> None:
        """Replace a connection that will be closed; young ones not all at once."""
        now_ms = self._clock.monotonic_ms()
        if connection.leave_ms <= now_ms:
            return
        connection.leave_ms = now_ms
        self._error = reason
        logger.info("%s: replacing its connection: %s", self._name, reason)
        if now_ms - connection.opened_ms < self._steady_ms:
            self._retry_ms = now_ms + self._backoff.failed()
        self._wake.set()


def _yield(
    old: Connection, fresh: Connection, updates: Callable[[Sequence[Update]], None]
) -> None:
    """Let both be heard, but of each channel and symbol never the old after the new."""
    told: set[tuple[str, str]] = set()

    def tell(some: Sequence[Update]) -> None:
        told.update((update.channel, update.symbol) for update in some)
        updates(some)

    def tell_rest(some: Sequence[Update]) -> None:
        rest = [one for one in some if (one.channel, one.symbol) not in told]
        if rest:
            updates(rest)

    fresh.ears.updates, old.ears.updates = tell, tell_rest
