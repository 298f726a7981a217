"""Running the relay's commands to their end, as a person does."""

import subprocess
import sys


def relay(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run ``relay`` to its end, with nothing but these variables of ours set."""
    return subprocess.run(
        [sys.executable, "-m", "relay", *arguments],
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "80", **environ},
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
