"""The table that a run of the faults ends with. Measuring is ``endure``'s."""

from msgspec import Struct

ROWS: list["Row"] = []
"""What was measured so far in this run."""


class Row(Struct, frozen=True, kw_only=True):
    """One fault: what was promised and what was seen.

    ``worst_age_ms`` is the oldest price that was shown as live; ``recovery_s`` is from
    the end of the fault until every observer held the newest of everything; ``lost``
    counts values that one of them never got; ``errors`` are answers and connections
    that failed and were tried again.
    """

    fault: str
    promised_s: float
    recovery_s: float
    worst_age_ms: int
    lost: int
    errors: int
    seed: int


def table() -> list[str]:
    """Write the table, as the README quotes it."""
    lines = [
        "| fault | promised | recovered | oldest shown live | lost | errors | seed |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.fault} | {row.promised_s:g} s | {row.recovery_s:.1f} s"
        f" | {row.worst_age_ms / 1000:.1f} s | {row.lost} | {row.errors}"
        f" | {row.seed} |"
        for row in ROWS
    ]
    return lines
