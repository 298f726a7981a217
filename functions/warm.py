"""One warming of the edge for each event of the schedule.

What is fetched, and how, stands in ``relay.delivery.warming``.
"""

import asyncio
import gc
from typing import Any, Final

import msgspec

from functions.settings import read
from relay.delivery.warming import warm

_settings: Final = read().warm
gc.enable()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Warm once; returns what the edge answered.

    Raises:
        ConfigError: there is no edge to warm.
    """
    del event, context
    fetched = asyncio.run(warm(_settings))
    return {"fetched": msgspec.to_builtins(fetched)}
