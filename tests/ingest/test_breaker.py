"""Closed, open, half-open: who is let through, and what becomes of it."""

import pytest

from relay.ingest.breaker import Breaker


def fail(breaker: Breaker, times: int, now_ms: int = 0) -> None:
    """Let attempts fail one after the other."""
    for _ in range(times):
        breaker.failed("HTTP 503", now_ms)


def test_a_few_failures_are_an_accident() -> None:
    """The stream's own back-off sees to those."""
    breaker = Breaker()
    fail(breaker, 4)
    assert breaker.wait_ms(0) == 0
    assert breaker.circuit(0).state == "closed"


def test_a_success_forgets_the_failures_before_it() -> None:
    """Only failures in a row are a pattern."""
    breaker = Breaker()
    fail(breaker, 4)
    breaker.passed()
    fail(breaker, 4)
    assert breaker.wait_ms(0) == 0


def test_an_open_breaker_lets_nobody_through() -> None:
    """It says when, and what the matter is."""
    breaker = Breaker()
    fail(breaker, 5)
    assert breaker.wait_ms(500) == 1_500
    circuit = breaker.circuit(500)
    assert (circuit.state, circuit.failures) == ("open", 5)
    assert (circuit.cause, circuit.probe_in_ms) == ("HTTP 503", 1_500)


def test_half_open_it_lets_one_probe_through() -> None:
    """Ten lines must not all try whether the exchange is back."""
    breaker = Breaker()
    fail(breaker, 5)
    assert breaker.circuit(2_000).state == "half-open"
    assert breaker.wait_ms(2_000) == 0
    assert breaker.wait_ms(2_000) > 0
    breaker.passed()
    assert breaker.wait_ms(2_000) == 0
    assert breaker.circuit(2_000).state == "closed"


def test_a_probe_that_was_never_sent_leaves_its_place_to_the_next() -> None:
    """Cancelled, or without a budget: nobody has learnt anything."""
    breaker = Breaker()
    fail(breaker, 5)
    assert breaker.wait_ms(2_000) == 0
    breaker.undone()
    assert breaker.wait_ms(2_000) == 0


@pytest.mark.parametrize(
    ("failures", "open_ms"), [(5, 2_000), (6, 4_000), (8, 16_000), (40, 30_000)]
)
def test_each_probe_that_fails_keeps_it_open_for_longer(
    failures: int, open_ms: int
) -> None:
    """Up to a bound, so that prices are back soon after the exchange is."""
    breaker = Breaker()
    fail(breaker, failures, 1_000)
    assert breaker.wait_ms(1_000) == open_ms
