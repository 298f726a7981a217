"""A connection whose endless answer goes on after the application has returned.

Who writes to it then stands in ``rank``; what is kept of it is what is needed to write:
no task, no request, no parser.
"""

from collections.abc import Callable
from typing import Any, Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from relay.delivery.line import AFTER, WIRE, Lent, reset
from relay.rank import Line

_LAST: Final = b"0\r\n\r\n"
# In which an answer of unknown length ends with its connection (RFC 9112, section 6.1).
_WITHOUT_CHUNKS: Final = "1.0"


class Lending(HttpToolsProtocol):
    """A connection that can be handed over to a line, and comes back from it."""

    _line: Line | None = None
    _keep_alive = True
    _after: tuple[Callable[[], None], ...] = ()
    _early = b""
    # Whether all was sent, and nothing more is read before it is closed.
    _over = False
    chunks = True
    write: Callable[[bytes], None]

    def offers(self) -> dict[Any, Any]:
        """Return the extensions by which this is offered."""
        return {WIRE: self._offer, AFTER: self._call_after}

    @property
    def lent(self) -> bool:
        """Whether the connection belongs to a line, or did until its end."""
        return self._over or self._line is not None

    def _offer(self) -> Lent | None:
        cycle = self.cycle
        fit = (
            cycle.scope["headers"] is self.headers  # no other request has begun
            and not (cycle.more_body or self.pipeline or self.flow.write_paused)
            and not self.transport.is_closing()
        )
        if fit and cycle.scope["http_version"] == _WITHOUT_CHUNKS:
            # What uvicorn would do, a client of HTTP/1.0 takes for a part of the body.
            self.chunks = cycle.chunked_encoding = False
        return self if fit else None

    def take(self, line: Line) -> bool:
        """Belong to a line; the request is forgotten, and its task ends."""
        cycle = self.cycle
        if cycle.disconnected or self._offer() is None:
            return False
        self._line, self._keep_alive = line, cycle.keep_alive
        self.write = self.transport.write
        # To the server the application is done; all else waits for ``finish``.
        cycle.response_complete = True
        none = cast("Any", None)
        self.cycle = self.scope = self.headers = self.parser = none
        # Whatever the kernel does not take at once is on its way.
        self.transport.set_write_buffer_limits(0)
        return True

    def finish(self, last: bytes) -> None:
        """Send the last bytes, and serve the next request."""
        transport = self.transport
        transport.set_write_buffer_limits()
        transport.write(last + _LAST if self.chunks else last)
        self._give_back()
        if not self._keep_alive:
            # Not at once: this may be the transport's own step, at whose end it would
            # close itself once more.
            self._over = True
            self.loop.call_soon(self._close)
            return
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.on_response_complete()
        early, self._early = self._early, b""
        if early:
            self.data_received(early)

    def _close(self) -> None:
        """Close after the last bytes, unless the client was quicker."""
        if not self.transport.is_closing():
            self.transport.close()
            self.on_response_complete()

    def cut(self) -> None:
        """Reset the connection."""
        self._give_back()
        reset(self.transport)

    def _give_back(self) -> None:
        self._line = None
        del self.write
        after, self._after = self._after, ()
        for call in after:
            call()

    def _call_after(self, call: Callable[[], None]) -> bool:
        if self._line is None:
            return False
        self._after = (*self._after, call)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the line."""
        super().connection_lost(exc)
        line = self._line
        if line is not None:
            self._give_back()
            line.leave()

    def data_received(self, data: bytes) -> None:
        """Leave what comes before the answer has ended for later."""
        if not self.lent:
            super().data_received(data)
        else:
            self._early += data
            self.flow.pause_reading()

    def pause_writing(self) -> None:
        """Tell the line that something stays here."""
        if self._line is None:
            super().pause_writing()
        else:
            self._line.hold()

    def resume_writing(self) -> None:
        """Tell the line that it has gone."""
        if self._line is None:
            super().resume_writing()
        else:
            self._line.drained()

    def shutdown(self) -> None:
        """Leave the end of a line to who drains them all."""
        if self._line is None:
            super().shutdown()
        else:
            self._keep_alive = False
