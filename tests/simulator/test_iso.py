"""Instants as text: each exchange's own number of decimals."""

import pytest

from relay.simulator.iso import iso_ms, iso_ns, iso_s, iso_us

AT_MS = 1_763_635_200_007


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (iso_s(AT_MS), "2025-11-20T10:40:00Z"),
        (iso_ms(AT_MS), "2025-11-20T10:40:00.007Z"),
        (iso_us(AT_MS, 12), "2025-11-20T10:40:00.007012Z"),
        (iso_ns(AT_MS, 120), "2025-11-20T10:40:00.00700012Z"),
        (iso_ns(AT_MS - 7), "2025-11-20T10:40:00Z"),
    ],
)
def test_an_instant_is_written_with_its_decimals(written: str, text: str) -> None:
    """Coinbase cuts zeros at the end, so parsers must take 0 to 9 decimals."""
    assert written == text
