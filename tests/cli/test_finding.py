"""What the doctor advises, by what went wrong."""

from relay.cli.finding import advise
from relay.errors import LeftAlone, RateLimited, Spent


def test_our_own_budget_is_nobody_elses_fault() -> None:
    """Who reads that somebody shares his address would look for him in vain."""
    found = advise("kraken", Spent("kraken", "weight", 700), streams=True)
    assert found.startswith("wait 1 s and try again: nothing is wrong, the relay's own")
    assert "somebody else" not in found


def test_a_cooldown_is_what_the_exchange_has_asked_for() -> None:
    """Nothing was sent, so nobody else can have been counted just now."""
    left = LeftAlone("kraken", "HTTP 429", until_ms=5_000, retry_after_ms=5_000)
    found = advise("kraken", left, streams=True)
    assert found.startswith("wait 5 s and try again: it has asked for that")
    assert "somebody else" not in found


def test_a_limit_that_the_exchange_counts_may_be_shared() -> None:
    """Ours was not spent, by its own count it was."""
    limited = RateLimited("kraken", "address", 77_000)
    found = advise("kraken", limited, streams=True)
    assert found.startswith("wait 77 s and try again; if it stays so, somebody else")
