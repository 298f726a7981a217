"""Errors: what they say, whoever's words are in them."""

import pytest

from relay.errors import ExchangeDown, ExchangeError, FrameError, Refused


@pytest.mark.parametrize(
    "error",
    [
        FrameError("toy", "x\ny" * 999, "ab\x1b[31m\n" * 9_999),
        ExchangeDown("toy", "closed: \r\n2026 WARNING all is lost " * 999),
        Refused("toy", "request", "no\nway" * 99_999),
    ],
)
def test_a_strangers_words_are_one_line_of_a_log(error: ExchangeError) -> None:
    """They go into the log, the status and the store, with every mark."""
    assert str(error).isprintable()
    assert len(str(error)) < 1_000
