"""``uv run python tests/bench NAME``: see ``command`` for what there is."""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path

# ``tests`` is our folder, whoever else has installed a package of that name.
_spec = ModuleSpec("tests", None, is_package=True)
_spec.submodule_search_locations = [str(Path(__file__).parents[1])]
sys.modules["tests"] = module_from_spec(_spec)
# Run as a folder, Python would find our modules a second time under other names.
sys.path[0] = str(Path(__file__).parents[2])

# What benchmarks start themselves, each in a process of its own; and ``page``, which
# takes minutes and compares with nobody. Each imports no more than it needs.
_PARTS = {
    "bridge": "tests.bench.bridge",
    "exchange": "tests.bench.exchange",
    "page": "tests.bench.page",
    "peer": "tests.bench.peers",
    "publish": "tests.bench.publisher",
    "read": "tests.bench.reader",
    "table": "tests.bench.table",
}

part = _PARTS.get("".join(sys.argv[1:2]))
if part is None:
    import_module("tests.bench.command").main()
else:
    import_module(part).main(sys.argv[2:])
