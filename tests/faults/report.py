"""The table that a run of the faults ends with. Measuring is ``endure``'s."""

from pathlib import Path

from msgspec import Struct

ROWS: list["Row"] = []
"""What was measured so far in this run."""
KINDS: dict[str, list["Row"]] = {}
"""The same by kind: one for each file of tests."""


class Row(Struct, frozen=True, kw_only=True):
    """One fault: what was promised and what was seen.

    ``promised_s`` bounds ``recovery_s``: from the end of the fault until every observer
    held the newest of everything. ``fresh_s`` bounds ``worst_age_ms``: the oldest price
    that was shown as live; 0 where it is not the matter. ``lost`` counts values that
    one of them never got; ``errors`` are answers and connections that failed and were
    tried again.
    """

    fault: str
    promised_s: float
    recovery_s: float
    fresh_s: float
    worst_age_ms: int
    lost: int
    errors: int
    seed: int

    @property
    def cells(self) -> list[str]:
        """What stands in the table."""
        return [
            self.fault.replace("|", "\\|"),
            f"{self.promised_s:g} s",
            f"{self.recovery_s:.1f} s",
            f"{self.fresh_s:g} s" if self.fresh_s else "",
            f"{self.worst_age_ms / 1000:.1f} s",
            f"{self.lost}",
            f"{self.errors}",
            f"{self.seed}",
        ]


_HEAD = [
    "fault",
    "promised: all have the newest within",
    "measured",
    "promised: live is no older than",
    "measured",
    "values lost",
    "errors seen",
    "seed",
]


_KIND_HEAD = [
    "faults of",
    "how many",
    "all had the newest after",
    "live was no older than",
    "values lost",
    "errors seen",
]


def table() -> list[str]:
    """Write what was promised and measured, fault by fault."""
    return _lines(_HEAD, [row.cells for row in ROWS])


def summary() -> list[str]:
    """Write the worst of each kind, as the README quotes it."""
    return _lines(_KIND_HEAD, [_worst(kind, rows) for kind, rows in KINDS.items()])


def _worst(kind: str, rows: list[Row]) -> list[str]:
    return [
        kind,
        f"{len(rows)}",
        f"{max(row.recovery_s for row in rows):.1f} s",
        f"{max(row.worst_age_ms for row in rows) / 1000:.1f} s",
        f"{sum(row.lost for row in rows)}",
        f"{sum(row.errors for row in rows)}",
    ]


def _lines(head: list[str], rows: list[list[str]]) -> list[str]:
    rule = ["---", *["--:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def save(file: Path) -> None:
    """Write both tables into a file."""
    file.write_text("\n".join([*table(), "", *summary(), ""]), encoding="utf-8")
