"""Reads and polls behind the platform's gateway; buffered, so nothing streams here.

What stays between two requests stands in ``relay.delivery.function``.
"""

import gc
from typing import Any, Final, cast

from mangum import Mangum

from functions.settings import read
from relay.config import require_store
from relay.delivery.function import Function

_settings: Final = read()
require_store(_settings)

app: Final = Function(_settings)
"""The same for platforms that take an ASGI application."""

# Start-up and shutdown would run for every request.
handler: Final = Mangum(cast("Any", app), lifespan="off")

# What has been imported stays; from now on it is not looked through again.
gc.freeze()
gc.enable()
