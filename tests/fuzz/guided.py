"""Feed one target with whatever reaches new code: ``python tests/fuzz/guided.py NAME``.

What libFuzzer takes may follow, such as ``-max_total_time=60 -seed=1``, and a folder
for what is found. Which targets there are stands in ``targets``.
"""

import importlib
import sys

# It is no dependency of the project: who searches installs it.
atheris = importlib.import_module("atheris")

with atheris.instrument_imports(include=["relay"]):
    # Beside this file, which is run and not imported.
    targets = importlib.import_module("targets")


def main() -> None:
    """Begin with the target's corpus, and go on until something is raised."""
    program, name, *rest = sys.argv
    atheris.Setup([program, *rest, str(targets.CORPUS / name)], targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
