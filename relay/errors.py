"""Every error the relay raises, and whose fault it was.

Nothing here decides what an error means to a client: ``delivery/faults.py`` does.

::

    RelayError
    ├── ConfigError            ours: file, key, value, what was expected
    ├── ExchangeError          theirs: exchange
    │   ├── FrameError         channel, reason
    │   ├── RateLimited        scope, retry_after_ms
    │   │   ├── Banned         the address as a whole
    │   │   ├── Spent          ours: the limit whose budget is used up
    │   │   └── LeftAlone      reason, until_ms
    │   ├── ExchangeDown       status or cause
    │   └── Refused            kind (blocked, retired, key, request), what to do
    │       └── UnknownSymbol  one of those that were asked for, but not which
    ├── StoreError             Valkey's
    │   ├── LeaseLost          token, newest token
    │   ├── LeaseTaken         board
    │   ├── OutOfStep          the offset the batch builds on, the store's offset
    │   └── StoreDown          cause
    └── RequestError           the client's: code, what was wrong, what to do
        ├── CursorInvalid      not one of ours
        └── SelectionInvalid   malformed, or more instruments than allowed
"""

import os
from datetime import UTC, datetime
from typing import Final, Literal


class RelayError(Exception):
    """The root of the tree; never raised itself."""


def plain_reason(error: OSError) -> str:
    """Say why the machine would not, without the event loop's sentence around it."""
    # Names that cannot be resolved have numbers of their own, and words with them.
    number = error.errno or 0
    words = os.strerror(number) if number > 0 else error.strerror or str(error)
    return words[:1].lower() + words[1:]


# As long as a line in a log may be.
_WORDS_MAX: Final = 300


def one_line(words: str) -> str:
    """Return what a stranger wrote as one line: not endless, and without signs."""
    line = words if len(words) <= _WORDS_MAX else f"{words[:_WORDS_MAX]}…"
    return "".join(sign if sign.isprintable() else "?" for sign in line)


class ConfigError(RelayError):
    """A setting is not what it must be."""

    def __init__(self, file: str, key: str, value: object, expected: str) -> None:
        super().__init__(file, key, value, expected)
        self.file, self.key, self.value, self.expected = file, key, value, expected

    def __str__(self) -> str:
        was = "absent" if self.value is None else repr(self.value)
        return f"{self.file}: {self.key} was {was}, expected {self.expected}"


class ExchangeError(RelayError):
    """An exchange did not do what its documents say, or said no.

    ``status`` is the HTTP status that said so, 0 where none did. ``everywhere`` tells
    that it is said to everything we send, not only over the way that was answered.
    """

    status = 0
    everywhere = False

    def __init__(self, exchange: str, *facts: object) -> None:
        super().__init__(exchange, *facts)
        self.exchange = exchange


class FrameError(ExchangeError):
    """A frame or a body that cannot be read."""

    def __init__(self, exchange: str, channel: str, reason: str) -> None:
        super().__init__(exchange, channel, reason)
        self.channel, self.reason = one_line(channel), one_line(reason)

    def __str__(self) -> str:
        return f"{self.exchange} {self.channel}: {self.reason}"


class RateLimited(ExchangeError):
    """The exchange wants to be left alone for a while."""

    def __init__(self, exchange: str, scope: str, retry_after_ms: int) -> None:
        super().__init__(exchange, scope, retry_after_ms)
        self.scope, self.retry_after_ms = scope, retry_after_ms

    def __str__(self) -> str:
        wait_s = self.retry_after_ms / 1000
        return f"{self.exchange} limits us by {self.scope}: wait {wait_s:g} s"


class Banned(RateLimited):
    """The exchange answers nothing more from this address for a while."""

    everywhere = True

    def __str__(self) -> str:
        wait_s = self.retry_after_ms / 1000
        return f"{self.exchange} has banned this {self.scope}: wait {wait_s:g} s"


class Spent(RateLimited):
    """We hold back ourselves, and nothing was sent: our budget is used up."""

    def __str__(self) -> str:
        # Rounded up: nothing is sent before that.
        wait_s = -(-self.retry_after_ms // 1000)
        said = f"our own budget of {self.scope} is spent; next in {wait_s} s"
        return f"{self.exchange} is not asked: {said}"


class LeftAlone(RateLimited):
    """An exchange is left alone until then, and for this reason: it asked for it."""

    def __init__(
        self, exchange: str, reason: str, *, until_ms: int, retry_after_ms: int
    ) -> None:
        super().__init__(exchange, scope="cooldown", retry_after_ms=retry_after_ms)
        self.reason, self.until_ms = reason, until_ms

    def __str__(self) -> str:
        return f"{self.exchange} {left_alone(self.reason, self.until_ms)}"


def left_alone(reason: str, until_ms: int) -> str:
    """Say until when somebody is left alone, and why."""
    # Rounded up: nothing is sent before that.
    until = datetime.fromtimestamp(-(-until_ms // 1000), UTC)
    return f"is left alone until {until:%H:%M:%S} UTC: {reason}"


class ExchangeDown(ExchangeError):
    """The exchange cannot be reached, or answers with an error of its own.

    ``retry_after_ms`` is how long it says that it needs, 0 where it does not.
    """

    retry_after_ms = 0

    def __init__(self, exchange: str, cause: str) -> None:
        super().__init__(exchange, cause)
        self.cause = one_line(cause)

    def __str__(self) -> str:
        return f"{self.exchange} cannot be read: {self.cause}"


class Refused(ExchangeError):
    """The exchange says no, and asking again would not help."""

    def __init__(
        self,
        exchange: str,
        kind: Literal["blocked", "retired", "key", "request"],
        advice: str,
    ) -> None:
        super().__init__(exchange, kind, advice)
        self.kind, self.advice = kind, one_line(advice)
        # Who is turned away is so at every door; what is gone is one path.
        self.everywhere = kind in ("blocked", "key")

    def __str__(self) -> str:
        return f"{self.exchange} refuses us ({self.kind}): {self.advice}"


class UnknownSymbol(Refused):
    """The exchange does not know one of the symbols that a request asked for.

    It does not say which: whoever asked for several finds it out by asking for fewer.
    """

    def __init__(self, exchange: str, advice: str) -> None:
        super().__init__(exchange, "request", advice)


class StoreError(RelayError):
    """Valkey did not do what was asked."""


class LeaseLost(StoreError):
    """Somebody else holds the lease, or nobody does."""

    def __init__(self, token: int, newest: int) -> None:
        super().__init__(token, newest)
        self.token, self.newest = token, newest

    def __str__(self) -> str:
        return f"the lease with token {self.token} is lost: the newest is {self.newest}"


class LeaseTaken(StoreError):
    """Somebody else ingests into the board, so nobody may besides."""

    def __init__(self, board: str) -> None:
        super().__init__(board)
        self.board = board

    def __str__(self) -> str:
        return f"somebody else ingests into the board {self.board!r}: stop it first"


class OutOfStep(StoreError):
    """A batch builds on an offset that is not the store's."""

    def __init__(self, previous: int, epoch: str, offset: int) -> None:
        super().__init__(previous, epoch, offset)
        self.previous, self.epoch, self.offset = previous, epoch, offset

    def __str__(self) -> str:
        return (
            f"the batch builds on offset {self.previous}, "
            f"the store is at {self.offset} of epoch {self.epoch or 'none'}"
        )


class StoreDown(StoreError):
    """Valkey cannot be reached."""

    def __init__(self, url: str, cause: str) -> None:
        super().__init__(url, cause)
        self.url, self.cause = url, cause

    def __str__(self) -> str:
        return f"the store at {self.url} cannot be reached: {self.cause}"


class RequestError(RelayError):
    """The client asked for something that cannot be answered.

    ``code`` is stable and meant for programs, ``reason`` and ``hint`` are
    sentences for people: what was wrong, and what to do.
    """

    def __init__(self, code: str, reason: str, hint: str) -> None:
        super().__init__(code, reason, hint)
        self.code, self.reason, self.hint = code, reason, hint

    def __str__(self) -> str:
        return f"{self.reason} {self.hint}"


class CursorInvalid(RequestError):
    """Text that is not one of our cursors."""

    def __init__(self, text: str) -> None:
        super().__init__(
            "cursor_invalid",
            f"The cursor {text[:80]!r} is not one of ours.",
            "Leave it out to get everything, or send back one that we gave you.",
        )


class SelectionInvalid(RequestError):
    """A selection that is malformed, unknown or too large."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__("selection_invalid", reason, hint)
