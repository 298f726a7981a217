"""A machine's clock that is set while its processes run, by Debian's faketime.

Only the wall clock: a steady one does not jump on any machine.
"""

from pathlib import Path

import pytest


def faketime() -> str:
    """Return where the library is; skips where it is not installed."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("libfaketime is not installed")
    return str(found[0])


class WrongClock:
    """What a process believes the time to be, once it was started with ``environ``."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.environ = {
            "LD_PRELOAD": faketime(),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.set(0)

    def set(self, ahead_s: int) -> None:
        """Let it be ahead of the machine's by so much from now on, or behind it."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{ahead_s:+d}")
        fresh.replace(self._file)
