"""The settings of functions: what is misspelt is said where the platform shows it."""

import pytest

from functions.package import PACKAGES
from functions.startup import run_clean
from tests.functions.runtime import ROOT

# As the platform does it; without a store the ones that need one go no further.
_START = """
import logging, runpy, sys
logging.basicConfig(stream=sys.stdout)
try:
    runpy.run_module("functions.{name}", run_name="__main__")
except Exception as error:
    print(error)
"""


@pytest.mark.parametrize("name", list(PACKAGES))
def test_a_variable_that_sets_nothing_is_named_in_the_log_once(name: str) -> None:
    """With what it was meant to be, and without its value."""
    environ = {
        "RELAY_KEYZ": "shop:read:c4n4ry",
        "RELAY_READING": "open",
        "RELAY_PLATFORM": "lambda",
    }
    said = run_clean(ROOT, _START.format(name=name), environ, bare=False)
    assert said.count("RELAY_KEYZ sets nothing: did you mean RELAY_KEYS?") == 1
    assert "c4n4ry" not in said
    assert "RELAY_READING" not in said
