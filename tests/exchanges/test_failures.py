"""Statuses and headers, whatever the exchange."""

import pytest
from msgspec.structs import replace

from relay.errors import (
    Banned,
    ExchangeDown,
    ExchangeError,
    RateLimited,
    Refused,
)
from relay.exchanges.adapter import Request
from relay.exchanges.failures import Advice, by_status, retry_after_ms
from tests.exchanges.answers import answer_to

REQUEST = Request(exchange="x", purpose="snapshot", path="/prices")
ADVICE = Advice(scope="address", wait_ms=7_000, key="get a key", blocked="go elsewhere")


@pytest.mark.parametrize(
    ("headers", "wait_ms"),
    [
        ({}, None),
        ({"retry-after": "119"}, 119_000),
        ({"retry-after": "1.5"}, 1_500),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": " 5 "}, 5_000),
        ({"retry-after": "999999999999"}, 30 * 24 * 3_600_000),
        # No seconds: some overflow a number, some take half a minute to write out.
        ({"retry-after": "1e12"}, None),
        ({"retry-after": "1e999990"}, None),
        ({"retry-after": "1e999999"}, None),
        ({"retry-after": "9" * 5000}, None),
        ({"retry-after": "NaN"}, None),
        ({"retry-after": "soon"}, None),
        # 40 s after the answer's own date, which is years from our clock.
        (
            {
                "retry-after": "Tue, 03 Oct 2017 04:05:58 GMT",
                "date": "Tue, 03 Oct 2017 04:05:18 GMT",
            },
            40_000,
        ),
        # Without a date our clock has to do: 2025-11-20 10:40:00.
        ({"retry-after": "Thu, 20 Nov 2025 10:41:00 GMT"}, 60_000),
        ({"retry-after": "Thu, 20 Nov 2025 10:41:00 -0000"}, 60_000),
        ({"retry-after": "Thu, 20 Nov 2025 10:39:00 GMT", "date": "never"}, 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(
    headers: dict[str, str], wait_ms: int | None
) -> None:
    """A date is judged by the answer's own clock: ours need not be right."""
    answer = answer_to(REQUEST, "", status=429, headers=headers)
    assert retry_after_ms(answer) == wait_ms


@pytest.mark.parametrize(
    ("headers", "wait_ms"),
    [
        ({}, 0),
        ({"retry-after": "120"}, 120_000),
        ({"retry-after": "Thu, 20 Nov 2025 10:41:00 GMT"}, 60_000),
        ({"retry-after": "soon"}, 0),
        # Three days: they may be up again sooner.
        ({"retry-after": "259200"}, 900_000),
    ],
)
def test_who_is_down_may_say_for_how_long(
    headers: dict[str, str], wait_ms: int
) -> None:
    """A maintenance's 503 does (RFC 9110, 10.2.3)."""
    answer = answer_to(REQUEST, "<html>", status=503, headers=headers)
    failure = by_status(answer, ADVICE)
    assert isinstance(failure, ExchangeDown)
    assert failure.retry_after_ms == wait_ms


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (200, " {}", None, ""),
        (200, "[]", None, ""),
        (200, "<html>", ExchangeDown, "x cannot be read: not JSON"),
        (200, "", ExchangeDown, "x cannot be read: not JSON"),
        (301, "", ExchangeDown, "x cannot be read: HTTP 301"),
        (400, "", Refused, "x refuses us (request): /prices was answered with HTTP"),
        (401, "", Refused, "x refuses us (key): get a key"),
        (403, "<html>", Refused, "x refuses us (blocked): go elsewhere"),
        (404, "", Refused, "x refuses us (request)"),
        (408, "", ExchangeDown, "x cannot be read: HTTP 408"),
        (410, "", Refused, "x refuses us (retired): /prices is gone"),
        (418, "", Banned, "x has banned this address: wait 7 s"),
        (422, "", Refused, "x refuses us (request)"),
        (429, "<html>", RateLimited, "x limits us by address: wait 7 s"),
        (451, "", Refused, "x refuses us (blocked): go elsewhere"),
        (500, "", ExchangeDown, "x cannot be read: HTTP 500"),
        (530, "<html>", ExchangeDown, "x cannot be read: HTTP 530"),
    ],
)
def test_a_status_says_whose_turn_it_is(
    status: int, body: str, error: type[ExchangeError] | None, words: str
) -> None:
    """Wait, ask again, change the request, or call a person: never guessed wrong."""
    failure = by_status(answer_to(REQUEST, body, status=status), ADVICE)
    assert type(failure) is (error or type(None))
    assert str(failure or "").startswith(words)


@pytest.mark.parametrize(
    ("status", "shared", "everywhere"),
    [
        (429, False, False),
        (429, True, True),
        (418, False, True),
        (401, False, True),
        (403, False, True),
        (451, False, True),
        (404, True, False),
        (410, True, False),
        (503, True, False),
    ],
)
def test_a_refusal_says_whether_it_is_about_one_limit_or_the_address(
    status: int, *, shared: bool, everywhere: bool
) -> None:
    """What passes one limit must not cost the stream, which has the first priority."""
    advice = replace(ADVICE, shared=shared)
    failure = by_status(answer_to(REQUEST, "", status=status), advice)
    assert failure is not None
    assert failure.everywhere is everywhere


def test_a_named_wait_goes_before_the_usual_one() -> None:
    """Retry-After is obeyed."""
    answer = answer_to(REQUEST, "", status=429, headers={"retry-after": "2"})
    failure = by_status(answer, ADVICE)
    assert isinstance(failure, RateLimited)
    assert failure.retry_after_ms == 2_000
