"""The server that holds the connections: uvicorn, told when to start and to stop.

It takes no signals; whoever runs it calls ``stop``. What is served stands in ``app``.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from email.utils import formatdate
from functools import partial
from typing import Any, Final, cast

import uvicorn
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import (
    WebSocketsSansIOProtocol,
)
from websockets.frames import Frame

from relay.clock import Clock
from relay.config import Http
from relay.delivery import refused
from relay.delivery.line import ABORT, GONE, reset
from relay.delivery.prompt import Prompt
from relay.delivery.quick import Quick, quick_of
from relay.delivery.refused import Refusal
from relay.delivery.ws import Allowance
from relay.errors import ConfigError, plain_reason

Addresses = list[tuple[str, int]]

# Connections that wait to be accepted, while a whole room of clients comes back.
_BACKLOG: Final = 2048
# An edge keeps its connections to us open for longer than it leaves them idle: nginx a
# minute, Varnish the same. Closing first would cost it an error now and then.
_KEEP_ALIVE_S: Final = 75
# Of the time a shutdown may take, the share for clients to leave on their own; what is
# left is for cutting off the rest and for closing the application.
_LEAVE_SHARE: Final = 0.75
# Requests that may wait on one connection for those before them. No browser and no edge
# sends any ahead; each would cost some kilobytes.
_AHEAD_MAX: Final = 32
# A client may ping, and cut its messages in parts: so many frames to each message that
# it may send.
_FRAMES_A_MESSAGE: Final = 10
# What is read of a WebSocket at once, so that a flood of tiny frames is cut off before
# it has all been read.
_SLICE: Final = 4096
# How often uvicorn ticks.
_TICKS_A_SECOND: Final = 10
# What the parser of URLs takes.
_URL_MAX: Final = 65535
# RFC 6455, section 7.4.1.
_NOT_UTF_8: Final = 1007
_POLICY: Final = 1008

# Streams cut off, and count, whoever takes nothing until the write deadline; whoever is
# then still there, with any other answer, is cut off here.
_LONGER: Final = 1.5


class _Patience:
    """Cuts a connection whose client has taken nothing for too long."""

    def __init__(self, transport: asyncio.Transport, deadline_s: float) -> None:
        self._transport, self._deadline_s = transport, deadline_s
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait from now on for the client to take something."""
        if self._timer is None:
            self._timer = loop.call_later(self._deadline_s, reset, self._transport)

    def end(self) -> None:
        """It has, or it is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Http(Prompt):
    """A connection that can be cut, tells when it is lost, and must ask in time."""

    connections_max: int
    head_deadline_s: float
    log: logging.Logger

    url = b""
    head_max: int
    write_deadline_s: float

    _gone: Callable[[], None] | None = None
    # Of a request that has begun and is not complete, whatever is not its body.
    _asking = False
    _octets = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection in, or refuse it when there are too many."""
        self.logger = self.log
        super().connection_made(transport)
        self._patience = _Patience(transport, self.write_deadline_s)
        if len(self.connections) > self.connections_max:
            transport.write(refused.FULL.written(self.server_state.default_headers))
            transport.close()
            self._patience.begin(self.loop)
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever still writes an answer."""
        super().connection_lost(exc)
        self._forget_deadline()
        self._patience.end()
        if self._gone is not None and not self.cycle.response_complete:
            self._gone()
        self._gone = None

    def data_received(self, data: bytes) -> None:
        """Read on; a request that is not complete must soon be, and not be large."""
        if self.transport.is_closing():
            return
        self._octets += 0 if self.lent else len(data)
        super().data_received(data)
        if len(self.pipeline) > _AHEAD_MAX:
            self.transport.abort()
        elif self._asking:
            self._expect_head()
            if self._octets > self.head_max:
                self._refuse(refused.TOO_LARGE)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - we have our own
        """Refuse what is no request."""
        too_long = len(self.url) > _URL_MAX
        self._refuse(refused.TOO_LONG if too_long else refused.MALFORMED)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer and close, unless that would fall into another's answer."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and not cycle.response_complete:
            self.transport.abort()
            return
        self.transport.write(refusal.written(self.server_state.default_headers))
        self.transport.close()

    def on_message_begin(self) -> None:
        """Begin to count what the client asks."""
        super().on_message_begin()
        self._asking = True
        self._gone = None

    def offers(self) -> dict[Any, Any]:
        """Return what the application may ask of the connection."""
        return {ABORT: self._cut, GONE: self._tell, **super().offers()}

    def pause_writing(self) -> None:
        """Let the application wait for the client, and the client not for ever."""
        super().pause_writing()
        if not self.lent:
            self._patience.begin(self.loop)

    def resume_writing(self) -> None:
        """Go on: the client takes what it is sent."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._patience.end()

    def on_response_complete(self) -> None:
        """Begin with the next request, or end: the rest must soon be taken."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._patience.begin(self.loop)

    def on_body(self, body: bytes) -> None:
        """Hand on a part of the body; how large it may be is the application's."""
        self._octets -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take the request as asked."""
        self._asking, self._octets = False, 0
        self._forget_deadline()
        super().on_message_complete()

    def _cut(self) -> None:
        reset(self.transport)

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


def _is_text(parts: list[bytes]) -> bool:
    """Tell whether a message is UTF-8."""
    try:
        b"".join(parts).decode()
    except UnicodeDecodeError:
        return False
    return True


class _WebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that can be cut, and that the application ends in its own time.

    How many messages a client may send is the application's to say, and how many frames
    is ours: pings, pongs and parts of messages are none of its business.
    """

    frames_per_minute: int
    write_deadline_s: float

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to count."""
        super().connection_made(transport)
        self._patience = _Patience(self.transport, self.write_deadline_s)
        now_ms = int(self.loop.time() * 1000)
        self._allowance = Allowance(self.frames_per_minute, now_ms)
        # Whatever the kernel does not take at once is on its way.
        self.transport.set_write_buffer_limits(0)

    async def send(self, message: ASGISendEvent) -> None:
        """Send, and wait until it has gone: what is chosen next is the newest then."""
        await super().send(message)
        if message["type"] == "websocket.send":
            await self.writable.wait()

    def data_received(self, data: bytes) -> None:
        """Read on, as long as the client keeps to its limits."""
        for start in range(0, len(data), _SLICE):
            if self.transport.is_closing():
                return
            super().data_received(data[start : start + _SLICE])

    def handle_ping(self) -> None:
        """Answer, and hear no more of a client that takes no answers."""
        super().handle_ping()
        if not self.writable.is_set():
            self.transport.pause_reading()
        self._count()

    def pause_writing(self) -> None:
        """Let the application wait for the client, and the client not for ever."""
        super().pause_writing()
        self._patience.begin(self.loop)

    def resume_writing(self) -> None:
        """Write again, and read again what ``handle_ping`` has left unread."""
        super().resume_writing()
        if self.transport.is_closing():
            return
        self._patience.end()
        if not self.read_paused:
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        super().connection_lost(exc)
        self._patience.end()

    def handle_pong(self, event: Frame) -> None:
        """Hear that the client is there."""
        super().handle_pong(event)
        self._count()

    def handle_cont(self, event: Frame) -> None:
        """Take a part of a message."""
        super().handle_cont(event)
        self._count()

    def send_receive_event_to_app(self) -> None:
        """Hand on a message; one that is no text is the client's mistake, not ours."""
        if self.curr_msg_data_type == "text" and not _is_text(self.frames):
            self._fail(_NOT_UTF_8, "a message is not UTF-8")
            return
        super().send_receive_event_to_app()

    def _count(self) -> None:
        """Count a frame, and close on a client that sends too many."""
        if not self._allowance.take(int(self.loop.time() * 1000)):
            most = self.frames_per_minute
            self._fail(_POLICY, f"{most} frames a minute are allowed")

    def _fail(self, code: int, reason: str) -> None:
        if not self.close_sent:
            self.frames = []
            self.conn.fail(code, reason)
            self.handle_parser_exception()

    async def run_asgi(self) -> None:
        """Offer to cut it, and run the application."""
        offers: dict[Any, Any] = self.scope["extensions"]
        offers[ABORT] = partial(reset, self.transport)
        await super().run_asgi()
        if not self.disconnected:
            self._patience.begin(self.loop)

    def shutdown(self) -> None:
        """Leave it to the application, which ends all of them spread over the time."""
        if not self.handshake_complete or self.close_sent:
            super().shutdown()


def _protocol(http: Http, reads: Quick | None) -> type[_Http]:
    """Return the connections of a server with these settings."""

    class Connection(_Http):
        quick = reads
        log = refused.seldom_log(f"{__name__}.http", Clock())
        connections_max = http.connections_max
        head_deadline_s = http.head_deadline_ms / 1000
        head_max = http.head_max
        write_deadline_s = http.write_deadline_ms / 1000 * _LONGER

    return Connection


def _websocket(http: Http) -> type[_WebSocket]:
    """Return the WebSockets of a server with these settings."""

    class Connection(_WebSocket):
        frames_per_minute = http.messages_per_minute * _FRAMES_A_MESSAGE
        write_deadline_s = http.write_deadline_ms / 1000 * _LONGER

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
        self.clock = Clock()

    async def on_tick(self, counter: int) -> bool:
        """Do what is done ten times a second; ``Date`` is by the relay's clock."""
        ends = await super().on_tick(counter)
        if counter % _TICKS_A_SECOND == 0:
            date = formatdate(self.clock.wall_ms() / 1000, usegmt=True)
            self.server_state.default_headers = [(b"date", date.encode())]
        return ends

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
        # Lines have no task that is cancelled when the time is over.
        for connection in list(self.server_state.connections):
            if isinstance(connection, _Http) and connection.lent:
                connection.transport.abort()


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
            http=_protocol(http, quick_of(app)),
            ws=_websocket(http),
            lifespan="on",
            log_config=None,
            access_log=False,
            # Below that it tells each URL, of which a ticket may be part.
            log_level="warning",
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

    def go_by(self, clock: Clock) -> None:
        """Take the answers' ``Date`` from a clock that is not the machine's own.

        Caches and clients reckon by it how old an answer is.
        """
        self._uvicorn.clock = clock

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
        raise ConfigError(
            "the address to listen at",
            "http.host and http.port",
            f"{host}:{port}",
            f"one that is free on this machine ({plain_reason(error)})",
        ) from error
