"""One connection pool to Valkey, and its failures as ours.

What is sent over it stands in ``writer`` and ``reader``.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final

from valkey.asyncio.retry import Retry
from valkey.backoff import NoBackoff
from valkey.exceptions import ConnectionError as ValkeyConnectionError
from valkey.exceptions import NoScriptError, ValkeyError

from relay.clock import Clock
from relay.config import Store, hide_in_url
from relay.errors import StoreDown
from relay.store.nodes import Routed

_SCRIPTS: Final = files("relay.store") / "scripts"
# What uvloop says, as a RuntimeError, of a connection that the other side has closed
# while it was being made.
_CLOSED: Final = "the handler is closed"
# Between two tries to reach a store that is not there yet, in seconds.
_TRY_AGAIN_S: Final = 0.5
_FENCE: Final = (_SCRIPTS / "fence.lua").read_text(encoding="utf-8")


class Client:
    """A pool of connections to the store, which know its clock."""

    def __init__(self, settings: Store, clock: Clock) -> None:
        self.settings, self.clock = settings, clock
        timeout_s = settings.timeout_ms / 1000
        # A pooled connection may have died while it lay idle, so once more on a new
        # one; every script of ours may be sent twice.
        self.valkey = Routed.from_url(
            _scheme(settings.url),
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 1),
            retry_on_error=[ValkeyConnectionError],
            health_check_interval=30,
        )
        self._clock_read_ms: int | None = None

    async def close(self) -> None:
        """Close every connection."""
        await self.valkey.aclose()

    async def forget_idle(self) -> None:
        """Close idle connections: whoever has slept does not know which are dead."""
        await self.valkey.forget_idle()

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Turn the store's failures into ours, and let no cancellation get lost.

        Raises:
            StoreDown: the store cannot be reached, or cannot do what was asked.
        """
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        try:
            yield
        except (ValkeyError, OSError, TimeoutError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and _CLOSED not in str(error):
                raise
            _heed_cancelling(task, before)
            place = address(self.settings.url)
            raise StoreDown(place, _cause(error)) from error
        _heed_cancelling(task, before)

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Turn what nobody can read into a failure of the store's, which it is.

        Raises:
            StoreDown: the store holds what is not ours.
        """
        try:
            yield
        except (ValueError, KeyError, TypeError) as error:
            raise StoreDown(
                address(self.settings.url), f"what it holds cannot be read: {error!r}"
            ) from error

    async def read_clock(self, *, at_most_every_ms: int = 0) -> None:
        """Set the clock by the store's, unless that was done lately.

        Raises:
            StoreDown: the store cannot be reached.
        """
        before_ms = self.clock.monotonic_ms()
        last_ms = self._clock_read_ms
        if last_ms is not None and before_ms - last_ms < at_most_every_ms:
            return
        with self.asked():
            seconds, micros = await self.valkey.time()
        wall_ms, after_ms = self.clock.wall_ms(), self.clock.monotonic_ms()
        store_ms, took_ms = seconds * 1000 + micros // 1000, after_ms - before_ms
        # It was read at some moment on the way: what may be right is left as it is, so
        # that a slow answer sets nothing back.
        if last_ms is None or not wall_ms - took_ms <= store_ms <= wall_ms:
            # Half of the way there and back is the best guess.
            self.clock.set_wall(store_ms, at_ms=(before_ms + after_ms) // 2)
        self._clock_read_ms = after_ms

    async def reach(self, tell: Callable[[str], None]) -> None:
        """Wait until the store can be reached, and set the clock by it.

        ``tell`` is told of each try that failed, and why.
        """
        while True:
            try:
                return await self.read_clock()
            except StoreDown as down:
                tell(str(down))
            await asyncio.sleep(_TRY_AGAIN_S)

    def script(self, name: str, *, fenced: bool) -> "Script":
        """Return a script by its file's name; it survives a restarted store."""
        text = (_SCRIPTS / f"{name}.lua").read_text(encoding="utf-8")
        return Script(self, _FENCE + text if fenced else text)


class Script:
    """One script; sent by its digest, and whole where the store does not know it."""

    def __init__(self, client: Client, text: str) -> None:
        self._client, self._text = client, text
        self._digest = sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, keys: list[str], *arguments: str | bytes | int) -> Any:  # noqa: ANN401 - each script answers in its own shape
        """Run it.

        Raises:
            StoreDown: the store cannot be reached, or cannot do what was asked.
        """
        with self._client.asked():
            return await self._run(len(keys), *keys, *arguments)

    async def _run(self, count: int, *values: str | bytes | int) -> Any:  # noqa: ANN401 - as above
        # No LOAD in between: in a cluster that would reach a node of its own choice.
        valkey = self._client.valkey
        try:
            return await valkey.execute_command("EVALSHA", self._digest, count, *values)
        except NoScriptError:
            return await valkey.execute_command("EVAL", self._text, count, *values)


@asynccontextmanager
async def connect(settings: Store, clock: Clock) -> AsyncIterator[Client]:
    """Hold a client whose clock was set by the store.

    Raises:
        StoreDown: the store cannot be reached.
    """
    async with hold(settings, clock) as client:
        await client.read_clock()
        yield client


@asynccontextmanager
async def hold(settings: Store, clock: Clock) -> AsyncIterator[Client]:
    """Hold a client of a store that may not be there yet."""
    client = Client(settings, clock)
    try:
        yield client
    finally:
        await client.close()


def _heed_cancelling(task: "asyncio.Task[object] | None", before: int) -> None:
    """Raise a cancellation that came meanwhile, and that nobody has raised.

    The library sends with ``asyncio.wait_for``, which in Python 3.11 returns a result
    that is there in place of the cancellation that came with it.
    """
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError


def _scheme(url: str) -> str:
    """Return the URL under the names the client library knows."""
    for ours, theirs in (("redis://", "valkey://"), ("rediss://", "valkeys://")):
        if url.startswith(ours):
            return theirs + url.removeprefix(ours)
    return url


def address(url: str) -> str:
    """Return a store's URL without its password."""
    return hide_in_url(url)


def _cause(error: Exception) -> str:
    return str(error).strip() or type(error).__name__
