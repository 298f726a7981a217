"""Instants as exchanges write them."""

import pytest

from relay.exchanges.instants import micros_of_iso, micros_of_seconds, millis_of


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2026-09-25T09:04:31.742648Z", 1_790_327_071_742_648),
        ("2026-09-25T09:04:31.742648999Z", 1_790_327_071_742_648),
        ("2021-05-15T15:59:43.867Z", 1_621_094_383_867_000),
        ("2024-04-08T04:02:01+00:00", 1_712_548_921_000_000),
        ("2024-04-08T06:02:01+02:00", 1_712_548_921_000_000),
        ("2024-04-08T04:02:01", 1_712_548_921_000_000),
        ("0001-01-01T00:00:00Z", 0),
        ("yesterday", 0),
        ("", 0),
        (None, 0),
        (1_790_327_071, 0),
    ],
)
def test_an_iso_instant_is_read_to_the_microsecond(text: object, micros: int) -> None:
    """Kraken orders its frames by microseconds; a damaged time is no time."""
    assert micros_of_iso(text) == micros


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1618678133.481570", 1_618_678_133_481_570),
        ("1618678133", 1_618_678_133_000_000),
        ("-1", 0),
        ("1e30", 0),
        ("NaN", 0),
        ("soon", 0),
        ("", 0),
    ],
)
def test_seconds_with_a_fraction_lose_nothing(text: str, micros: int) -> None:
    """A float of this size no longer holds the last microsecond."""
    assert micros_of_seconds(text) == micros


@pytest.mark.parametrize(
    ("value", "millis"),
    [
        (1_760_000_000, 1_760_000_000_000),
        (1_760_000_000_000, 1_760_000_000_000),
        ("2021-05-15T15:59:43.867Z", 1_621_094_383_867),
        (-5, 0),
        (10**30, 0),
        (None, 0),
        (True, 0),
    ],
)
def test_seconds_and_milliseconds_are_told_by_their_size(
    value: object, millis: int
) -> None:
    """CoinGecko writes seconds, ISO and milliseconds for one and the same thing."""
    assert millis_of(value) == millis
