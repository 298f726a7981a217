"""Where every request arrives: faults first, then its exchange. No protocol.

Connections that upgrade are handed to a ``Line``.
"""

from asyncio import sleep
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl
from zlib import compress

from aiohttp import web
from msgspec import structs

from relay.simulator.faults import Fault
from relay.simulator.ledger import Client
from relay.simulator.line import Line
from relay.simulator.page import PAGE
from relay.simulator.routes import resolve
from relay.simulator.wire import Answer, Conversation, Exchange, Request, decode_json

if TYPE_CHECKING:
    from relay.simulator.server import Simulator

_GZIP_BYTES_LEAST: Final = 2_048
_HANG_S: Final = 0.05  # how often a silent request looks whether it may speak
_GARBAGE: Final = b'<html><body>{"symbol":"BTC'
_PATHS_MOST: Final = 200
_HEADERS_HIDDEN: Final = frozenset({"content-type", "content-length"})


class Desk:
    """The one handler of everything but ``/_sim``."""

    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator
        self._paths: set[str] = set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer a request or open a WebSocket."""
        upgrade = request.headers.get("upgrade", "").lower() == "websocket"
        if request.path == "/" and not upgrade:
            return web.Response(text=PAGE, content_type="text/html")
        found = resolve(request.path, upgrade=upgrade)
        if found is None:
            return web.json_response({"error": "no exchange here"}, status=404)
        exchange = self._simulator.exchanges[found[0]]
        account = exchange.world.ledger.account(exchange.name, client_of(request))
        ask = Request(
            path=found[1],
            query=tuple(parse_qsl(request.query_string, keep_blank_values=True)),
            query_text=request.query_string,
            headers={name.lower(): value for name, value in request.headers.items()},
            account=account,
            now_ms=self._simulator.now(),
        )
        if upgrade:
            return await self._upgrade(request, exchange, ask)
        return await self._rest(request, exchange, ask)

    # WebSocket.

    async def _upgrade(
        self, request: web.Request, exchange: Exchange, ask: Request
    ) -> web.StreamResponse:
        ask.account.attempt()
        refused = self._refused(exchange, ask, "ws")
        if refused is not None:
            ask.account.refuse()
            return _cut(request) if refused is _CUT else _response(refused, ask)
        talk = exchange.greet(ask)
        if talk is None:
            ask.account.refuse()
            return _cut(request)
        if isinstance(talk, Answer):
            ask.account.refuse()
            return _response(talk, ask)
        line = Line(exchange, talk)
        if request.path == "/":
            line.choose = partial(self._dialect, request, ask)
        self._simulator.lines.add(line)
        try:
            return await line.serve(request, self._simulator.now)
        finally:
            self._simulator.lines.discard(line)

    def _dialect(
        self, request: web.Request, ask: Request, text: str
    ) -> tuple[Exchange, Conversation] | None:
        """Tell Coinbase's two dialects apart where they share the root path.

        Advanced Trade says ``channel``, Exchange says ``channels``.
        """
        message = decode_json(text)
        if not isinstance(message, dict) or "channels" not in message:
            return None
        exchange = self._simulator.exchanges["coinbase_exchange"]
        account = exchange.world.ledger.account(exchange.name, client_of(request))
        account.attempt()
        talk = exchange.greet(structs.replace(ask, account=account))
        return (exchange, talk) if isinstance(talk, Conversation) else None

    def _take(
        self, exchange: Exchange, ask: Request, name: str, transport: str
    ) -> Fault | None:
        faults = exchange.world.faults
        if not faults.of(exchange.name):
            return None
        fault = faults.take(exchange.name, name, ask.now_ms, transport=transport)
        if fault is not None and name != "status":
            ask.account.inject(name)
        return fault

    def _refused(
        self, exchange: Exchange, ask: Request, transport: str
    ) -> Answer | None:
        """Refuse for a fault's sake: with an answer, or by cutting the socket."""
        if self._take(exchange, ask, "refuse", transport) is not None:
            return _CUT
        fault = self._take(exchange, ask, "status", transport)
        if fault is None:
            return None
        assert isinstance(fault.value, int)
        ask.account.inject("status", fault.value)
        return exchange.refusal(fault.value, ask, fault.retry_after_s or 0)

    # REST.

    async def _rest(
        self, request: web.Request, exchange: Exchange, ask: Request
    ) -> web.StreamResponse:
        if request.method != "GET":
            return web.json_response({"error": "method not allowed"}, status=405)
        await self._wait(request, exchange, ask)
        answer = self._refused(exchange, ask, "rest")
        if answer is _CUT:
            return _cut(request)
        if answer is None:
            answer = exchange.answer(ask)
        path = self._known_path(ask.path)
        ask.account.request(path, answer.status, len(answer.body))
        if self._take(exchange, ask, "cut", "rest") is not None:
            return _cut_in_body(request, answer)
        fault = self._take(exchange, ask, "garbage", "rest")
        if fault is not None:
            said = fault.value
            answer.body = said.encode() if isinstance(said, str) else _GARBAGE
        return _response(answer, ask)

    async def _wait(
        self, request: web.Request, exchange: Exchange, ask: Request
    ) -> None:
        """Hang while the exchange is silent, and as long as a delay says."""
        fault = self._take(exchange, ask, "delay", "rest")
        if fault is not None:
            wait_ms = fault.value if isinstance(fault.value, int) else 1_000
            await sleep(wait_ms / 1_000)
        if self._take(exchange, ask, "silence", "rest") is None:
            return
        # A manual clock moves without waking anybody, so this looks again and again.
        while self._is_silent(exchange) and request.transport is not None:  # noqa: ASYNC110  # as said
            await sleep(_HANG_S)

    def _is_silent(self, exchange: Exchange) -> bool:
        now_ms = self._simulator.now()
        return bool(
            exchange.world.faults.find(
                exchange.name, "silence", now_ms, transport="rest"
            )
        )

    def _known_path(self, path: str) -> str:
        """Give the path for the counts; a flood of different ones is one line."""
        if path not in self._paths and len(self._paths) >= _PATHS_MOST:
            return "others"
        self._paths.add(path)
        return path


_CUT: Final = Answer(body=b"")
"""Stands for no answer at all: the socket is cut."""


def client_of(request: web.Request) -> Client:
    """Tell who asks, from the socket and the headers."""
    agent = request.headers.get("user-agent", "")
    return Client(
        address=request.remote or "",
        instance=request.headers.get("x-relay-instance", "")[:64],
        agent=agent.partition(" ")[0][:64],
    )


def _response(answer: Answer, ask: Request) -> web.Response:
    headers = {
        name: value
        for name, value in answer.headers.items()
        if name.lower() not in _HEADERS_HIDDEN
    }
    body = answer.body
    if not body and answer.status == 304:  # noqa: PLR2004  # Not Modified
        return web.Response(status=304, headers=headers)
    accepted = ask.headers.get("accept-encoding", "")
    if len(body) >= _GZIP_BYTES_LEAST and "gzip" in accepted:
        body = compress(body, 1, 31)  # 31: with gzip's head and tail
        headers["content-encoding"] = "gzip"
        headers.setdefault("vary", "Accept-Encoding")
    headers["content-type"] = answer.content_type
    return web.Response(body=body, status=answer.status, headers=headers)


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def _cut_in_body(request: web.Request, answer: Answer) -> web.Response:
    """Send half of what the head promises, then end the connection."""
    transport = request.transport
    if transport is not None:
        head = (
            f"HTTP/1.1 {answer.status} OK\r\ncontent-type: {answer.content_type}\r\n"
            f"content-length: {len(answer.body)}\r\n\r\n"
        )
        transport.write(head.encode() + answer.body[: len(answer.body) // 2])
        transport.close()
    return web.Response(status=500)
