"""Why an exchange cannot be reached, in words for people."""

import errno
import socket
import ssl

import httpx
import pytest
from picows import WSError

from relay.ingest.causes import plain_cause, reached_nobody


def behind(root: BaseException) -> BaseException:
    """Return an error as a library raises it over another."""
    error = httpx.ConnectError("All connection attempts failed")
    error.__cause__ = BaseExceptionGroup("attempts", [OSError("one"), root])
    return error


def certificate_error() -> ssl.SSLCertVerificationError:
    """Return what an expired certificate raises."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "certificate has expired"
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "name cannot be resolved"),
        (UnicodeError("label too long"), "name cannot be resolved"),
        (ConnectionRefusedError(111, "Connection refused"), "connection refused"),
        (ConnectionResetError(104, "reset by peer"), "connection broke off"),
        (TimeoutError(), "timed out after 2.5 s"),
        (httpx.ReadTimeout(""), "timed out after 2.5 s"),
        (certificate_error(), "certificate not accepted: certificate has expired"),
        (ssl.SSLError(1, "[SSL: WRONG] wrong version"), "TLS failed: "),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "network is unreach"),
        (OSError("Multiple failures"), "multiple failures"),
        (OSError(), "OSError"),
        (WSError("isn't a valid URL"), "isn't a valid URL"),
        (WSError(), "WSError"),
        (ValueError("odd"), "ValueError: odd"),
        (ValueError(), "ValueError"),
    ],
)
def test_a_cause_is_told_plainly(error: BaseException, words: str) -> None:
    """An operator should know where to look without knowing our libraries."""
    assert plain_cause(error, timeout_ms=2_500).startswith(words)


def test_the_root_of_an_error_is_told_and_not_its_wrapping() -> None:
    """Libraries wrap what happened in words of their own, several deep."""
    refused = ConnectionRefusedError(111, "Connection refused")
    assert plain_cause(behind(refused), timeout_ms=1) == "connection refused"


def test_an_error_that_was_being_handled_is_no_cause() -> None:
    """Whatever the caller was busy with has nothing to do with it."""
    error = TimeoutError()
    error.__context__ = ConnectionRefusedError()
    assert plain_cause(error, timeout_ms=1_000) == "timed out after 1 s"


def test_errors_in_a_circle_come_to_an_end() -> None:
    """A mocking library raises an error from one that holds it."""
    error = httpx.ConnectError("x")
    error.__cause__ = RuntimeError(error)
    assert plain_cause(error, timeout_ms=1).endswith("x")


@pytest.mark.parametrize(
    ("error", "nobody"),
    [
        (socket.gaierror(-2, "unknown"), True),
        (UnicodeError("label too long"), True),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), True),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), False),
        (TimeoutError(), False),
        (ConnectionResetError(), False),
    ],
)
def test_only_what_never_left_this_network_reached_nobody(
    error: BaseException, *, nobody: bool
) -> None:
    """An exchange may count an attempt that it refuses, and its edge one it drops."""
    assert reached_nobody(behind(error)) is nobody
