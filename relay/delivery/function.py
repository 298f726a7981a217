"""An application that is frozen between requests, and thawed for the next one.

What the platform calls stands in ``functions``; what is answered, in ``app``.

Nothing runs between two requests: what was noted is sent before an answer is returned,
and whatever was read is of the request that reads it. Connections that have slept may
be dead without knowing, so they are closed on waking and made anew when first used.
"""

from collections.abc import MutableMapping
from typing import Any, Final, cast

from litestar.types import ASGIApp, Receive, Scope, Send

from relay.clock import Clock
from relay.config import Settings
from relay.delivery.app import Parts
from relay.delivery.visit import DEADLINE
from relay.errors import StoreDown
from relay.store.client import Client

# Where Mangum puts the platform's own object, which knows how much time is left.
_CONTEXT: Final = "aws.context"


class Function:
    """One application, its client of the store, and when it was last awake."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._clock = settings, Clock()
        self._client = Client(settings.store, self._clock)
        parts = Parts(
            settings=settings, clock=self._clock, client=self._client, hub=None
        )
        self._demand, self._app = parts.demand, cast("ASGIApp", parts.app())
        self._awake_ms = self._clock.monotonic_ms()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._wake()
        self._heed_deadline(cast("MutableMapping[str, Any]", scope))
        try:
            await self._app(scope, receive, send)
            await self._demand.flush()
        finally:
            self._awake_ms = self._clock.monotonic_ms()

    async def _wake(self) -> None:
        """Leave behind what may have died in our sleep, and read the clock again."""
        slept_ms = self._clock.monotonic_ms() - self._awake_ms
        try:
            if slept_ms > self._settings.http.quiet_ms:
                await self._client.forget_idle()
            await self._client.read_clock(
                at_most_every_ms=self._settings.store.clock_ms
            )
        except StoreDown:
            return  # whoever needs the store says so; some answers do without

    def _heed_deadline(self, scope: MutableMapping[str, Any]) -> None:
        """Say by when the platform wants its answer, where it says so itself."""
        context = scope.get(_CONTEXT)
        if context is not None:
            left_ms = context.get_remaining_time_in_millis()
            scope[DEADLINE] = self._clock.monotonic_ms() + left_ms
