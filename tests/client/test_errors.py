"""Every error carries a code, a sentence and what to do."""

import pytest

from relay.client.errors import (
    ClientError,
    Refused,
    Unavailable,
    Unreachable,
    read_error,
    unreadable,
)

TOLD = b'{"error":{"code":"not_ready","sentence":"Not yet.","hint":"Ask again."}}'


def test_what_the_relay_says_is_what_is_raised() -> None:
    """Its code for programs, its words for people."""
    error = read_error(400, {}, TOLD)
    assert isinstance(error, Refused)
    facts = (error.code, error.sentence, error.hint, error.status)
    assert facts == ("not_ready", "Not yet.", "Ask again.", 400)
    assert str(error) == "Not yet. Ask again."


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_told_from_what_will_not(status: int) -> None:
    """A program asks again, or does not."""
    assert isinstance(read_error(status, {}, b""), Unavailable)
    assert isinstance(read_error(404, {}, b""), Refused)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), ("", 0), ("soon", 0), ("²", 0), ("86400", 3600), ("9" * 5000, 3600)],
)
def test_retry_after_is_kept(header: str, seconds: float) -> None:
    """The relay knows best when it can answer; nobody is sent away for ever."""
    error = read_error(503, {"retry-after": header}, TOLD)
    assert isinstance(error, Unavailable)
    assert error.retry_after_s == seconds


@pytest.mark.parametrize(
    ("status", "says"), [(502, "502 Bad Gateway"), (599, "599"), (302, "302 Found")]
)
def test_somebody_elses_answer_is_named_as_such(status: int, says: str) -> None:
    """A gateway's page of HTML is not shown to anybody."""
    error = read_error(status, {}, b"<html>nginx</html>")
    assert says in error.sentence
    assert error.code == f"http_{status}"
    assert "nginx" not in str(error)


@pytest.mark.parametrize(
    "error", [Unreachable("http://h", "no route"), unreadable("a list")]
)
def test_an_error_without_an_answer_says_what_to_do_as_well(error: ClientError) -> None:
    """Programs find a code in each, people a hint."""
    assert error.code in {"unreachable", "unreadable"}
    assert error.sentence.endswith(".")
    assert error.hint.endswith("?")
    assert error.status == 0
