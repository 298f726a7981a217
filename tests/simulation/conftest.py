"""The table that a run of the exchanges' faults ends with."""

import pytest

ROW = "fault of an exchange"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was done to whom, what was said and shown, and when it was over."""
    rows = [
        value
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for name, value in report.user_properties
        if name == ROW and report.when == "call"
    ]
    if not rows:
        return
    terminalreporter.section("faults of exchanges")
    lines = [("fault", "exchange", "shown", "ms", "the status said"), *rows]
    widths = [max(len(str(line[place])) for line in lines) for place in range(4)]
    for line in lines:
        cells = [f"{line[place]!s:<{widths[place]}}" for place in range(4)]
        terminalreporter.write_line("  ".join([*cells, str(line[4])]).rstrip())
