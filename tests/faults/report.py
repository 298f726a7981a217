"""The tables that a run of the faults ends with. Measuring is ``endure``'s."""

from msgspec import Struct

ROWS: list["Row"] = []
"""What was measured so far in this run."""
KINDS: dict[str, list["Row"]] = {}
"""The same by kind: one for each file of tests."""
GROWN: dict[str, "Size"] = {}
"""The most that was held beyond what there was at the beginning, by process."""


class Row(Struct, frozen=True, kw_only=True):
    """One fault: what was promised and what was seen, whether it was kept or not.

    ``promised_s`` bounds ``recovery_s``: from the end of the fault until every observer
    held the newest of everything. ``fresh_s`` bounds ``worst_age_ms``: the oldest price
    that was shown as live. Either promise is 0 where it is not the matter. ``lost``
    counts values that one of them did not get in that time; ``errors`` are answers and
    connections that failed and were tried again.
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
            f"{self.promised_s:g} s" if self.promised_s else "",
            f"{self.recovery_s:.1f} s" if self.promised_s else "",
            f"{self.fresh_s:g} s" if self.fresh_s else "",
            f"{self.worst_age_ms / 1000:.1f} s",
            f"{self.lost}",
            f"{self.errors}",
            f"{self.seed}",
        ]


class Size(Struct, frozen=True):
    """Memory, descriptors and tasks that a process holds, or holds more than before."""

    octets: int = 0
    files: int = 0
    tasks: int = 0

    def largest(self, other: "Size") -> "Size":
        """Return the larger of each."""
        return Size(
            max(self.octets, other.octets),
            max(self.files, other.files),
            max(self.tasks, other.tasks),
        )

    def beyond(self, other: "Size") -> "Size":
        """Return how much more of each there is than of another's."""
        return Size(
            max(self.octets - other.octets, 0),
            max(self.files - other.files, 0),
            max(self.tasks - other.tasks, 0),
        )


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
    "promised: all have the newest within",
    "worst",
    "promised: live is no older than",
    "worst",
    "values lost",
    "errors seen",
]
_GROWN_HEAD = [
    "at the most, after a fault",
    "memory grown",
    "descriptors more",
    "tasks more",
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
        _span([row.promised_s for row in rows]),
        f"{max(row.recovery_s for row in rows):.1f} s",
        _span([row.fresh_s for row in rows]),
        f"{max(row.worst_age_ms for row in rows) / 1000:.1f} s",
        f"{sum(row.lost for row in rows)}",
        f"{sum(row.errors for row in rows)}",
    ]


def _span(promises_s: list[float]) -> str:
    """Write the least and the most that was promised, where anything was."""
    made_s = sorted({one for one in promises_s if one}) or [0]
    ends_s = made_s if len(made_s) == 1 else [made_s[0], made_s[-1]]
    return f"{' to '.join(f'{one:g}' for one in ends_s)} s"


def growth() -> list[str]:
    """Write what was held beyond the beginning, over all the faults."""
    rows = [
        [name, f"{one.octets / (1 << 20):.1f} MB", f"{one.files}", f"{one.tasks}"]
        for name, one in GROWN.items()
    ]
    return _lines(_GROWN_HEAD, rows)


def written(left_out: list[str]) -> list[str]:
    """Write all that there is to say, with what could not be tried here and why."""
    parts = [table(), summary(), growth() if GROWN else [], left_out]
    return [line for part in parts if part for line in (*part, "")]


def _lines(head: list[str], rows: list[list[str]]) -> list[str]:
    rule = ["---", *["--:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]
