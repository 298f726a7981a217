"""What can go wrong between a client and the relay, as exceptions.

Pure: an answer's status, headers and body come as arguments.

::

    ClientError               code (for programs), sentence, hint (for people)
    ├── Refused               asking again would not help: status
    └── Unavailable           it may: status, retry_after_s
        └── Unreachable       there was no answer at all
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from msgspec import Struct

from relay.errors import RelayError

# What a later attempt may cure: time-outs, too many requests, and everything that is
# the server's own.
_PASSING: Final = frozenset({408, 425, 429})
_OURS: Final = 500
# Nobody is sent away for longer, whatever somebody between has written.
_RETRY_MAX_S: Final = 3600
_RETRY_DIGITS: Final = 7


class ClientError(RelayError):
    """What every error of the client carries.

    ``code`` is stable and meant for programs; ``sentence`` and ``hint`` are for people:
    what was wrong, and what to do. ``status`` is 0 where there was no answer.
    """

    def __init__(self, code: str, sentence: str, hint: str, status: int = 0) -> None:
        super().__init__(code, sentence, hint, status)
        self.code, self.sentence, self.hint = code, sentence, hint
        self.status = status

    def __str__(self) -> str:
        return f"{self.sentence} {self.hint}".strip()


class Refused(ClientError):
    """The relay says no, and asking again would not help."""


class Unavailable(ClientError):
    """The relay cannot answer now. ``retry_after_s`` is 0 where it does not say."""

    retry_after_s: float = 0


class Unreachable(Unavailable):
    """Nobody answers at the address; ``silent`` where somebody took the question."""

    def __init__(self, url: str, cause: str, *, silent: bool = False) -> None:
        super().__init__(
            "unreachable",
            f"{url} cannot be reached: {cause}.",
            "Is the relay running, and is this its address?",
        )
        self.silent = silent


def unreadable(what: str) -> Unavailable:
    """Return the error for an answer that is no relay's."""
    return Unavailable(
        "unreadable",
        f"What came is no answer of a relay: {what}.",
        "Is this the relay's address, and nothing between that changes answers?",
    )


class _Fault(Struct):
    code: str
    sentence: str
    hint: str


class _Told(Struct):
    error: _Fault


_told: Final = msgspec.json.Decoder(_Told).decode


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> ClientError:
    """Return the error that an answer other than 200 stands for."""
    try:
        fault = _told(body).error
    except msgspec.MsgspecError:
        fault = _fault_of(status)
    if status < _OURS and status not in _PASSING:
        return Refused(fault.code, fault.sentence, fault.hint, status)
    error = Unavailable(fault.code, fault.sentence, fault.hint, status)
    error.retry_after_s = _seconds(headers.get("retry-after", ""))
    return error


def _fault_of(status: int) -> _Fault:
    """Return what to say of an answer that somebody between has made."""
    try:
        phrase = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = str(status)
    return _Fault(
        f"http_{status}",
        f"The answer was {phrase}, and not the relay's own.",
        "Is this the relay's address, and what stands before it well?",
    )


def _seconds(text: str) -> float:
    """Read a ``Retry-After`` in seconds; a date is not obeyed but backed off from."""
    if not (text.isascii() and text.isdigit()):
        return 0.0
    return float(min(int(text[:_RETRY_DIGITS]), _RETRY_MAX_S))
