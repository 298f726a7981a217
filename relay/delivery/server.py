"""The server that holds the connections: uvicorn, told when to start and to stop.

It takes no signals; whoever runs it calls ``stop``. What is served stands in ``app``.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import (
    WebSocketsSansIOProtocol,
)

from relay.config import Http
from relay.delivery.line import ABORT, GONE
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


_BODY: Final = (
    b'{"error":{"code":"busy","sentence":"This instance holds as many connections as '
    b'it may.","hint":"Ask another instance, or this one again after Retry-After '
    b'seconds."}}'
)
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n"
    b"cache-control: no-store\r\nretry-after: 5\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)


# Do not linger: what lies in the kernel's buffers for the client goes as well.
_AT_ONCE: Final = struct.pack("ii", 1, 0)


def _cut(transport: asyncio.Transport) -> None:
    """Reset a connection; what it was sent and did not take is lost."""
    own = transport.get_extra_info("socket")
    if own is not None and not transport.is_closing():
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    transport.abort()


class _Http(HttpToolsProtocol):
    """A connection that can be cut, tells when it is lost, and must ask in time."""

    connections_max: int
    head_deadline_s: float

    _gone: Callable[[], None] | None = None
    _in_head = False
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection in, or refuse it when there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.connections_max:
            transport.write(_FULL)
            transport.close()
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever still writes an answer."""
        super().connection_lost(exc)
        self._forget_deadline()
        if self._gone is not None and not self.cycle.response_complete:
            self._gone()
        self._gone = None

    def data_received(self, data: bytes) -> None:
        """Read on; a head that is not complete must soon be."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._in_head:
            self._expect_head()

    def on_message_begin(self) -> None:
        """Offer what the application may ask of the connection."""
        super().on_message_begin()
        self._in_head = True
        self._gone = None
        offers: dict[Any, Any] = {ABORT: self._cut, GONE: self._tell}
        self.scope["extensions"] = offers

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._in_head = False
        self._forget_deadline()
        super().on_headers_complete()

    def _cut(self) -> None:
        _cut(self.transport)

    def _tell(self, call: Callable[[], None]) -> None:
        self._gone = call

    def _expect_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(
                self.head_deadline_s, self.transport.abort
            )

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _WebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that can be cut, and that the application ends in its own time."""

    async def run_asgi(self) -> None:
        """Offer to cut it, and run the application."""
        offers: dict[Any, Any] = self.scope["extensions"]
        offers[ABORT] = partial(_cut, self.transport)
        await super().run_asgi()

    def shutdown(self) -> None:
        """Leave it to the application, which ends all of them spread over the time."""
        if not self.handshake_complete or self.close_sent:
            super().shutdown()


def _protocol(http: Http) -> type[_Http]:
    """Return the connections of a server with these settings."""

    class Connection(_Http):
        connections_max = http.connections_max
        head_deadline_s = http.head_deadline_ms / 1000

    return Connection


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
            http=_protocol(http),
            ws=_WebSocket,
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
