"""Why an exchange cannot be reached, in a few plain words without address or key.

Nothing here waits or opens anything; what an answer means is the adapters' matter.
"""

import errno
import socket
import ssl
from collections.abc import Callable
from typing import Final

import httpx
from picows import WSError


def plain_cause(error: BaseException, *, timeout_ms: int) -> str:
    """Say what went wrong; ``timeout_ms`` is the time that was allowed."""
    for one in _chain(error):
        for kind, words in _WORDS:
            if isinstance(one, kind):
                return words(one, timeout_ms)
    return f"{type(error).__name__}: {error}".rstrip(": ")


def reached_nobody(error: BaseException) -> bool:
    """Tell whether an attempt ended before anything left this machine's network."""
    return any(
        isinstance(one, socket.gaierror | UnicodeError)
        or (isinstance(one, OSError) and one.errno in _UNREACHABLE)
        for one in _chain(error)
    )


_UNREACHABLE: Final = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and what lies behind it, roots first: they say it best."""
    found = [error]
    # What is found is looked into in turn; a circle is walked once.
    for one in found:
        wrapped = one.exceptions if isinstance(one, BaseExceptionGroup) else one.args
        # Contexts are left alone: they hold whatever else was being handled just then.
        for other in (one.__cause__, *wrapped):
            if isinstance(other, BaseException) and other not in found:
                found.append(other)
    return found[::-1]


def _timed_out(_: BaseException, timeout_ms: int) -> str:
    return f"timed out after {timeout_ms / 1000:g} s"


def _certificate(error: BaseException, _: int) -> str:
    return f"certificate not accepted: {getattr(error, 'verify_message', error)}"


def _tls(error: BaseException, _: int) -> str:
    return f"TLS failed: {getattr(error, 'reason', '') or _text(error, _)}"


def _system(error: BaseException, _: int) -> str:
    words = getattr(error, "strerror", "") or str(error)
    return words[:1].lower() + words[1:] or type(error).__name__


def _text(error: BaseException, _: int) -> str:
    return str(error) or type(error).__name__


def _always(words: str) -> Callable[[BaseException, int], str]:
    return lambda _error, _timeout_ms: words


# First match wins, so subclasses stand before their classes.
_WORDS: Final[
    tuple[tuple[type[BaseException], Callable[[BaseException, int], str]], ...]
] = (
    (ssl.SSLCertVerificationError, _certificate),
    (ssl.SSLError, _tls),
    (socket.gaierror, _always("name cannot be resolved")),
    (UnicodeError, _always("name cannot be resolved")),
    (TimeoutError, _timed_out),
    (httpx.TimeoutException, _timed_out),
    (ConnectionRefusedError, _always("connection refused")),
    (ConnectionError, _always("connection broke off")),
    (httpx.DecodingError, _always("answer cannot be decompressed")),
    (httpx.RemoteProtocolError, _always("connection broke off")),
    (httpx.ReadError, _always("connection broke off")),
    (httpx.WriteError, _always("connection broke off")),
    (OSError, _system),
    (WSError, _text),
)
