"""How long to stay away after a failure."""

from random import Random

import pytest

from relay.ingest.backoff import Backoff


def test_the_bound_doubles_from_the_least_to_the_most() -> None:
    """A second at first, half a minute in the end: for ever, but not in a storm."""
    backoff = Backoff(1_000, 30_000, lambda: 0.999_999)
    bounds = [round(backoff.failed(), -1) for _ in range(8)]
    assert bounds == [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]


def test_waits_are_spread_over_all_of_the_bound() -> None:
    """Whoever lost a peer together must not come back together."""
    random = Random(7).random
    waits = [Backoff(1_000, 30_000, random).failed() for _ in range(2_000)]
    assert min(waits) < 20
    assert max(waits) > 980
    assert sum(waits) / len(waits) == pytest.approx(500, rel=0.1)


def test_what_held_begins_anew() -> None:
    """One cut a day is no reason to wait half a minute."""
    backoff = Backoff(1_000, 30_000, lambda: 0.5)
    for _ in range(10):
        backoff.failed()
    backoff.steady()
    assert backoff.failed() == 500


def test_failing_for_weeks_keeps_to_the_bound() -> None:
    """Numbers do not grow without end."""
    backoff = Backoff(1_000, 30_000, lambda: 0.5)
    assert [backoff.failed() for _ in range(5_000)][-1] == 15_000
