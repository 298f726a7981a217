"""What the operator is told: changes at once, repetitions now and then."""

import logging

import pytest

from relay.clock import ManualClock
from relay.ingest.report import Report


def _said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that waits."""
    return ManualClock()


@pytest.fixture
def report(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> Report:
    """Return a report whose lines can be read."""
    caplog.set_level(logging.INFO, logger="relay.ingest")
    return Report(clock, every_ms=1_000)


def test_the_same_warning_is_given_now_and_then(
    report: Report, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A thousand bad frames a second must not fill a disk."""
    for _ in range(5):
        report.warn("kraken", "frame", "cannot be read")
        clock.advance(400)
    assert _said(caplog) == ["kraken: cannot be read"] * 2


def test_another_kind_is_said_at_once(
    report: Report, caplog: pytest.LogCaptureFixture
) -> None:
    """One exchange's trouble must not hide another's."""
    report.warn("kraken", "frame", "a")
    report.warn("kraken", "stream", "b")
    report.warn("binance", "frame", "c")
    assert _said(caplog) == ["kraken: a", "kraken: b", "binance: c"]


def test_after_it_went_well_the_next_warning_is_said_at_once(
    report: Report, caplog: pytest.LogCaptureFixture
) -> None:
    """It is news again."""
    report.warn("kraken", "stream", "gone")
    report.forget("kraken")
    report.say("kraken: streaming")
    report.warn("kraken", "stream", "gone")
    assert _said(caplog) == ["kraken: gone", "kraken: streaming", "kraken: gone"]


def test_what_is_remembered_is_bounded(
    report: Report, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever an exchange sends ends up in a reason."""
    for number in range(3_000):
        report.warn("kraken", f"kind {number}", "x")
    assert len(report._said_ms) <= 1_000  # noqa: SLF001 - the bound is the promise
    assert len(_said(caplog)) == 3_000
