"""What a checkup reads off an exchange's answer, and how it writes times."""

import pytest

from relay.cli.checkup_exchange import clock_ahead_ms, written
from relay.exchanges.adapter import Answer, Request

AT_MS = 1_763_635_200_000
DATE = "Thu, 20 Nov 2025 10:40:00 GMT"


def answer(*, date: str = DATE, received_ms: int = AT_MS, age_s: int = 0) -> Answer:
    """Return an answer of an exchange."""
    request = Request(exchange="coingecko", purpose="snapshot", path="/")
    return Answer(
        request=request,
        status=200,
        headers={"date": date},
        body=b"",
        sent_ms=received_ms - 10,
        received_ms=received_ms,
        age_ms=age_s * 1000,
    )


def test_a_cache_that_writes_its_own_date_is_no_wrong_clock() -> None:
    """CoinGecko's does: the age beside it is the price's, and not the date's."""
    assert clock_ahead_ms(answer(age_s=40)) == 0


def test_a_cache_that_keeps_the_exchanges_date_is_no_wrong_clock() -> None:
    """So RFC 9111 has it: the date is as old as the answer."""
    assert clock_ahead_ms(answer(received_ms=AT_MS + 40_000, age_s=40)) == 0


@pytest.mark.parametrize("age_s", [0, 40])
def test_a_clock_that_is_wrong_is_seen_through_a_cache_as_well(age_s: int) -> None:
    """By as much as it is wrong at the least."""
    early, late = AT_MS - 3_600_000, AT_MS + 3_600_000
    assert clock_ahead_ms(answer(received_ms=early, age_s=age_s)) == 3_600_000
    behind_ms = clock_ahead_ms(answer(received_ms=late, age_s=age_s))
    assert behind_ms == -3_600_000 + 1000 * age_s


@pytest.mark.parametrize("date", ["", "soon"])
def test_an_answer_without_a_date_tells_nothing(date: str) -> None:
    """It is no wrong clock."""
    assert clock_ahead_ms(answer(date=date)) is None


def test_an_instant_that_is_not_near_has_its_day() -> None:
    """A month's credits come back on a day, and not at a time of every day."""
    near_ms, far_ms = AT_MS + 3_600_001, AT_MS + 30 * 86_400_000
    assert written(near_ms, now_ms=AT_MS) == "11:40:01 UTC"
    assert written(far_ms, now_ms=AT_MS) == "2025-12-20 10:40:00 UTC"
