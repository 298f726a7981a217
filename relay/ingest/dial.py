"""Opening one WebSocket: name, socket, TLS, upgrade; failures as ours.

What is said over it, and when to try again, is ``connection``'s and ``stream``'s.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import httpx
from msgspec import Struct, field
from picows import WSError, WSHandshakeError, WSListener, ws_connect
from picows.url import WSParsedURL

from relay.clock import Clock
from relay.config import Ingest
from relay.errors import ExchangeDown, ExchangeError
from relay.exchanges.adapter import Adapter, Answer, Request, Session
from relay.ingest.causes import plain_cause
from relay.ingest.pace import Gate
from relay.ingest.pull import USER_AGENT, join
from relay.ingest.purse import Purse
from relay.model import read_count

# The library writes about each connection; what matters of it comes back as an error
# or through the listener, and is told once, by the relay.
_mute: Final = logging.Logger("relay.wire", logging.CRITICAL + 1)  # noqa: LOG001 - one that nobody can turn up by accident


# A socket that was shut down is closed by its transport in a turn or two of the loop.
_TURNS_MAX: Final = 20


class Dial(Struct, frozen=True, kw_only=True):
    """How one exchange is reached; ``tls`` is None where it is reached without.

    ``gate`` keeps messages apart that the exchange counts over all connections;
    ``purse`` has what all processes together may say, where that is counted.
    """

    adapter: Adapter
    url: str
    ingest: Ingest
    clock: Clock
    tls: ssl.SSLContext | None
    gate: Gate = field(default_factory=Gate)
    purse: Purse | None = None

    async def open(self, session: Session, listener: WSListener) -> None:
        """Connect; the listener has heard ``on_ws_connected`` when this returns.

        Cancelled or too late, no socket is left behind.

        Raises:
            ExchangeError: it cannot be reached, or refuses the upgrade.
        """
        timeout_ms = self.ingest.request_timeout_ms
        line = _Socket(timeout_ms)
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._connect(session, listener, line)
        except WSHandshakeError as error:
            raise self._refusal(session, error) from error
        except (OSError, UnicodeError, WSError) as error:
            cause = plain_cause(error, timeout_ms=timeout_ms)
            raise ExchangeDown(self.adapter.name, cause) from error
        finally:
            await line.leave()

    async def _connect(
        self, session: Session, listener: WSListener, line: "_Socket"
    ) -> None:
        _, heard = await ws_connect(
            lambda _request, _response: listener,
            join(self.url, session.target),
            ssl_context=self.tls,
            extra_headers=_headers(session),
            socket_factory=line.connect,
            max_frame_size=self.ingest.frame_max,
            max_redirects=0,
            # Both are seen to by us: pongs count as life, time-outs include the name.
            enable_auto_pong=False,
            websocket_handshake_timeout=None,
            logger_name=_mute,
        )
        # Closed before it answered, the library returns without a listener.
        if heard is None:
            raise ConnectionResetError
        line.keep()

    def _refusal(self, session: Session, error: WSHandshakeError) -> ExchangeError:
        """Read the refusal of an upgrade as the adapter reads any answer."""
        status, headers = read_head(error.raw_header or b"")
        name, now_ms = self.adapter.name, self.clock.wall_ms()
        if httpx.codes.is_error(status):
            path = session.target.partition("?")[0]
            answer = Answer(
                request=Request(exchange=name, purpose="probe", path=path),
                status=status,
                headers=headers,
                body=error.raw_body or b"",
                sent_ms=now_ms,
                received_ms=now_ms,
            )
            failure = self.adapter.read_failure(answer)
            if failure is not None:
                failure.status = status
                return failure
        words = f"HTTP {status}" if status else "no HTTP"
        return ExchangeDown(name, f"the upgrade was answered with {words}: {error}")


class _Socket:
    """The socket of one attempt, ours until the connection stands.

    The library leaves a socket open whose upgrade was cancelled, so we hold it as well.
    """

    def __init__(self, timeout_ms: int) -> None:
        self._timeout_ms = timeout_ms
        self._socket: socket.socket | None = None

    async def connect(self, url: WSParsedURL) -> socket.socket:
        """Connect to the first of the host's addresses that answers.

        Raises:
            OSError: the name has no address, or none of them can be reached.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
        # An address that swallows packets must leave time for the next one.
        share_s = self._timeout_ms / 1000 / len(found)
        errors: list[OSError] = []
        for family, kind, protocol, _, address in found:
            line = socket.socket(family, kind, protocol)
            try:
                line.setblocking(False)  # noqa: FBT003 - the socket's own signature
                async with asyncio.timeout(share_s):
                    await loop.sock_connect(line, address)
            except OSError as error:
                line.close()
                errors.append(error)
            except BaseException:
                line.close()
                raise
            else:
                self._socket = line
                return line
        raise errors[0]

    def keep(self) -> None:
        """Leave the socket to the connection: it stands."""
        self._socket = None

    async def leave(self) -> None:
        """End a socket that did not become a connection, and see it closed."""
        line, self._socket = self._socket, None
        if line is None:
            return
        # The transport closes it at the end of the stream, within a few turns.
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)
        for _ in range(_TURNS_MAX):
            if line.fileno() < 0:
                return
            await asyncio.sleep(0)


def _headers(session: Session) -> list[tuple[str, str]]:
    named = {name.lower() for name, _ in session.headers}
    ours = [] if "user-agent" in named else [("User-Agent", USER_AGENT)]
    return [*ours, *session.headers]


def read_head(head: bytes) -> tuple[int, Mapping[str, str]]:
    """Read an HTTP answer's status and headers, names in lower case.

    0 where it is no HTTP. The library itself gives up at statuses that the standard
    library has no name for, like an edge's 520 to 527.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    known = words[0].startswith("HTTP/") and len(words) > 1
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): text.strip() for name, _, text in pairs}
    return (read_count(words[1]) or 0) if known else 0, headers
