"""A connection that answers reads itself, in the step in which it reads them.

Which those are, and with what, stands in ``quick``.
"""

from typing import Final, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from relay.delivery.quick import Asked, Quick
from relay.delivery.wire import Lending

_GET: Final = b"GET"
_HTTP: Final = "1.1"

Headers = list[tuple[bytes, bytes]]


class Opening:
    """The first lines of an answer: its status, and the headers of the server."""

    def __init__(self) -> None:
        self._of: Headers | None = None
        self._lines = b""

    def lines(self, status: int, headers: Headers) -> bytes:
        """Write them; the headers are another list each second, with the new date."""
        if headers is not self._of:
            self._of = headers
            self._lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
        return STATUS_LINE[status] + self._lines


class Prompt(Lending):
    """Answers what ``quick`` answers; no task is made for it, and one write sends it.

    Only when no other answer is on its way over this connection. A request that came
    before in the same bytes is not parsed again.
    """

    quick: Quick | None = None
    opening = Opening()
    # Messages that have begun in what was read last; whether one is not complete, and
    # whether the last one was answered here.
    _begun = 0
    _within = False
    _answered = False

    def data_received(self, data: bytes) -> None:
        """Answer what is known, and parse what is not."""
        quick, within = self.quick, self._within
        if quick is None or within or self.lent:
            super().data_received(data)
            return
        asked = quick.asked.get(data)
        if asked is not None and self._answer(quick, asked):
            self._unset_keepalive_if_required()
            self.on_message_complete()
            return
        self._begun, before = 0, quick.answers
        super().data_received(data)
        if self._begun == quick.answers - before == 1 and not self._within:
            quick.remember(data, Asked.read(self.url, self.headers))

    def on_message_begin(self) -> None:
        """Begin with a request; what only the application needs of it comes later."""
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._begun += 1
        self._within = True

    def on_headers_complete(self) -> None:
        """Answer, or let the application do it."""
        parser, quick = self.parser, self.quick
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        plain = parser.get_method() == _GET and parser.get_http_version() == _HTTP
        if (
            quick is not None
            and plain
            and self._answer(quick, Asked.read(url, headers))
        ):
            return
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        self.scope["headers"] = headers
        self.scope["extensions"] = self.offers()
        super().on_headers_complete()

    def _answer(self, quick: Quick, asked: Asked) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and not cycle.response_complete:
            return False
        if self.flow.write_paused or self.transport.is_closing():
            return False
        ready = quick.answer(asked, self.client)
        if ready is None:
            return False
        first = self.opening.lines(ready.status, self.server_state.default_headers)
        self.transport.write(first + ready.rest)
        self._answered = True
        return True

    def on_message_complete(self) -> None:
        """Wait for the next request."""
        self._within = False
        if not self._answered:
            super().on_message_complete()
            return
        self._answered = False
        self.on_response_complete()
