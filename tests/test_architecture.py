"""Imports point down, and what thinks does not wait; read with ``ast``."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GROUND = {"errors", "model", "config", "clock"}

# room → what it may import of the relay. A room's own modules are always allowed.
ALLOWED = {
    "__init__": set[str](),
    "errors": set[str](),
    "clock": set[str](),
    "model": {"errors"},
    "variables": {"errors"},
    "config": {"errors", "model", "variables"},
    "board": {"errors", "model"},
    "exchanges": {"errors", "model", "config"},
    "store": GROUND,
    "ingest": {
        *GROUND,
        "exchanges",
        "store.client",
        "store.keys",
        "store.ledger",
        "store.tables",
        "store.writer",
    },
    "group": {*GROUND, "board"},
    "rank": {*GROUND, "board", "group"},
    "hub": {*GROUND, "board", "group", "store.client", "store.keys", "store.reader"},
    "delivery": {
        *GROUND,
        "__init__",
        "board",
        "group",
        "hub",
        "rank",
        "dashboard",
        "store.client",
        "store.keys",
        "store.reader",
    },
    # The referee shares no code with what it judges.
    "simulator": {"errors", "clock"},
    "dashboard": set[str](),
    # It is usable without the rest.
    "client": {"errors", "model"},
}

# Higher than everything; nothing imports them.
TOP = {"cli", "__main__"}

PURE = {
    "relay/model.py",
    "relay/board.py",
    "relay/ingest/conflate.py",
    "relay/ingest/doubts.py",
    "relay/ingest/jumps.py",
    "relay/ingest/sources.py",
    "relay/ingest/breaker.py",
    "relay/ingest/budget.py",
    "relay/ingest/book.py",
    "relay/ingest/ledger.py",
    "relay/ingest/offence.py",
    "relay/ingest/plan.py",
    "relay/ingest/backoff.py",
    "relay/ingest/pace.py",
    "relay/ingest/probe.py",
    "relay/ingest/roll.py",
    *(
        f"relay/client/{name}.py"
        for name in ("errors", "events", "follow", "prices", "question", "status")
    ),
    *(f"relay/exchanges/{path.name}" for path in ROOT.glob("relay/exchanges/*.py")),
}

WAITING = {
    "asyncio",
    "anyio",
    "httpx",
    "picows",
    "valkey",
    "litestar",
    "uvicorn",
    "apscheduler",
    "aiohttp",
    "socket",
    "time",
    "random",
}


def _modules() -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("relay/**/*.py"))


def _imports(module: str) -> Iterator[str]:
    """Yield every name imported, as written out in full.

    ``from relay import hub`` imports ``relay.hub``, although it names only ``relay``.
    """
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _room(module: str) -> str:
    parts = module.removesuffix(".py").split("/")[1:]
    return parts[0]


def _allows(allowed: set[str], imported: str) -> bool:
    return any(f"{imported}.".startswith(f"{name}.") for name in allowed)


@pytest.mark.parametrize("module", _modules())
def test_imports_point_down(module: str) -> None:
    """Reading and writing meet in the store, and nowhere else."""
    room = _room(module)
    if room in TOP:
        return
    for name in _imports(module):
        imported = name.removeprefix("relay.")
        if imported in (name, "__version__") or _allows({room}, imported):
            continue
        assert _allows(ALLOWED[room], imported), f"{module} imports {name}"


@pytest.mark.parametrize("module", sorted(PURE))
def test_what_thinks_does_not_wait(module: str) -> None:
    """It takes bytes, numbers and times, and returns what must be done."""
    imported = {name.partition(".")[0] for name in _imports(module)}
    assert not imported & WAITING


def test_every_pure_module_is_there() -> None:
    """A renamed file must not slip out of the rule."""
    assert set(_modules()) >= PURE


def test_functions_are_imported_by_nobody() -> None:
    """The platform calls them."""
    for module in _modules():
        assert not any(name.startswith("functions") for name in _imports(module))
