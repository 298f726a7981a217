"""The server that holds the connections: uvicorn, told when to start and to stop.

It takes no signals; whoever runs it calls ``stop``. What is served stands in ``app``.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import uvicorn

from relay.config import Http
from relay.errors import ConfigError

Addresses = list[tuple[str, int]]

# Connections that wait to be accepted, while a whole room of clients comes back.
_BACKLOG: Final = 2048
# An edge keeps its connections to us open for longer than it leaves them idle: nginx a
# minute, Varnish the same. Closing first would cost it an error now and then.
_KEEP_ALIVE_S: Final = 75
# Of the time a shutdown may take, the share for clients to leave on their own; what is
# left is for cutting off the rest and for closing the application.
_LEAVE_SHARE: Final = 0.75


class _Uvicorn(uvicorn.Server):
    """A server without signal handlers, that says when it listens and when it ends."""

    def __init__(
        self,
        config: uvicorn.Config,
        started: Callable[[], None],
        ending: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        super().__init__(config)
        self._say_started, self._ending = started, ending

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to the process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        try:
            await super().startup(sockets)
        except SystemExit as error:
            # It would leave the whole process from within a task.
            raise RuntimeError("the application did not start") from error
        if self.started:
            self._say_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: the application hears of it before its connections are waited for."""
        async with asyncio.TaskGroup() as tasks:
            ending = tasks.create_task(self._ending())
            await super().shutdown(sockets)
            ending.cancel()


class Server:
    """One application on its sockets."""

    def __init__(
        self,
        app: Callable[..., Any],
        http: Http,
        *,
        sockets: Sequence[socket.socket] | None = None,
        started: Callable[[Addresses], None] | None = None,
        drain: Callable[[int], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """Prepare; nothing listens yet.

        ``sockets`` are used in place of the configured address. ``started`` hears where
        it listens, ``drain`` is told in how many milliseconds clients are to be gone.
        """
        self._http, self._sockets = http, list(sockets or ())
        self._started, self._drain = started, drain
        self._ended = False
        self._leave_ms = int(http.drain_ms * _LEAVE_SHARE)
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="websockets-sansio",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_S,
            ws_max_size=http.message_max,
        )
        # Typed as whole seconds; it is handed to asyncio, which takes parts of them.
        config.timeout_graceful_shutdown = self._leave_ms / 1000  # type: ignore[assignment]
        self._uvicorn = _Uvicorn(config, self._say_started, self._send_away)

    async def run(self) -> None:
        """Serve until ``stop``; cancelled, it stops as well, and then re-raises.

        Raises:
            ConfigError: the address is taken, or is not one of this machine's.
            RuntimeError: the application did not start; the log says why.
        """
        sockets = self._sockets or [await listen_at(self._http.host, self._http.port)]
        self._sockets = sockets
        try:
            await self._run(sockets)
        finally:
            self._ended = True
            for one in sockets:
                one.close()

    async def _run(self, sockets: list[socket.socket]) -> None:
        # Its own task, so that a cancellation ends it in order and not in its middle.
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(self._serve(sockets))
            try:
                failed = await asyncio.shield(serving)
            except asyncio.CancelledError:
                self.stop()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._http.drain_ms / 1000):
                        await asyncio.shield(serving)
                serving.cancel()
                raise
        if failed is not None:
            raise failed

    async def _serve(self, sockets: list[socket.socket]) -> RuntimeError | None:
        """Serve; returns why it could not begin, which a group would wrap."""
        try:
            await self._uvicorn.serve(sockets)
        except RuntimeError as error:
            return error
        return None

    def stop(self) -> None:
        """Begin to end; ``run`` returns within ``http.drain_ms``."""
        self._uvicorn.should_exit = True

    @property
    def ended(self) -> bool:
        """Whether ``run`` has ended, or is about to."""
        return self._ended

    def _say_started(self) -> None:
        if self._started is not None:
            self._started([one.getsockname()[:2] for one in self._sockets])

    async def _send_away(self) -> None:
        if self._drain is not None:
            await self._drain(self._leave_ms)


async def serve(
    app: Callable[..., Any],
    http: Http,
    *,
    sockets: Sequence[socket.socket] | None = None,
    started: Callable[[Addresses], None] | None = None,
    drain: Callable[[int], Coroutine[Any, Any, None]] | None = None,
) -> None:
    """Serve until cancelled.

    Raises:
        ConfigError: the address is taken, or is not one of this machine's.
    """
    server = Server(app, http, sockets=sockets, started=started, drain=drain)
    await server.run()


async def listen_at(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address; connections wait until somebody serves.

    Raises:
        ConfigError: the address is taken, or is not one of this machine's.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, *_, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            "the address to listen at",
            "http.host and http.port",
            f"{host}:{port}",
            f"one that is free on this machine ({reason})",
        ) from error
