"""What the simulator's tests share: exchanges without sockets, and with them.

No test stands here.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType
from anyio import fail_after, sleep

from relay.clock import ManualClock
from relay.simulator.ledger import Client, Counts
from relay.simulator.server import Simulator, open_exchanges
from relay.simulator.settings import Settings
from relay.simulator.wire import Answer, Conversation, Frame, Request

START_MS = 1_763_635_200_000
"""A whole minute, so that windows of the clock begin here."""

AGENT = {"user-agent": "tests/1"}

_PATIENCE_S = 10
"""How long a condition may take on a busy machine before the test fails."""


class Bench:
    """Every exchange without a socket; the time is a number."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.now_ms = START_MS
        self.exchanges = open_exchanges(settings or Settings(), self.now_ms)
        self.world = self.exchanges["binance"].world

    def request(
        self,
        exchange: str,
        address: str,
        headers: dict[str, str] | None = None,
        by: str = "10.0.0.1",
    ) -> Request:
        """Make a request of an address with a query."""
        path, _, query = address.partition("?")
        return Request(
            path=path,
            query=tuple(parse_qsl(query, keep_blank_values=True)),
            query_text=query,
            headers=AGENT if headers is None else headers,
            account=self.world.ledger.account(exchange, Client(by)),
            now_ms=self.now_ms,
        )

    def ask(
        self,
        exchange: str,
        address: str,
        headers: dict[str, str] | None = None,
        by: str = "10.0.0.1",
    ) -> Answer:
        """Ask an exchange."""
        request = self.request(exchange, address, headers, by)
        return self.exchanges[exchange].answer(request)

    def body(
        self, exchange: str, address: str, headers: dict[str, str] | None = None
    ) -> Any:  # noqa: ANN401  # whatever the exchange says
        """Ask an exchange and read the answer, which must be a 200."""
        answer = self.ask(exchange, address, headers)
        assert answer.status == 200, answer
        return msgspec.json.decode(answer.body)

    def open(self, exchange: str, address: str, by: str = "10.0.0.1") -> Conversation:
        """Open a conversation."""
        request = self.request(exchange, address, None, by)
        talk = self.exchanges[exchange].greet(request)
        assert isinstance(talk, Conversation), talk
        talk.account.open()
        self.exchanges[exchange].join(talk)
        return talk

    def tell(self, talk: Conversation, message: object) -> list[Any]:
        """Say something and hear what is said back at once."""
        text = message if isinstance(message, str) else encode(message)
        talk.receive(text, self.now_ms)
        return said(talk)

    def wait(self, ms: int) -> None:
        """Let time pass and every exchange do what is due."""
        self.now_ms += ms
        for exchange in self.exchanges.values():
            exchange.beat(self.now_ms)

    def move(self, symbol: str, times: int = 1) -> None:
        """Let an asset be traded."""
        asset = self.world.market.find(symbol)
        assert asset is not None
        for _ in range(times):
            asset.move(500, self.now_ms)
            for exchange in self.exchanges.values():
                exchange.move(asset, self.now_ms)


def encode(message: object) -> str:
    """Write JSON."""
    return msgspec.json.encode(message).decode()


def frames(talk: Conversation) -> list[Frame]:
    """Take what a conversation has to say."""
    waiting = list(talk.outbox)
    talk.outbox.clear()
    return waiting


def said(talk: Conversation) -> list[Any]:
    """Take what a conversation has to say and read it."""
    return [
        msgspec.json.decode(frame.payload)
        for frame in frames(talk)
        if frame.opcode == WSMsgType.TEXT
    ]


class Port:
    """A running simulator, a client, and a clock that is moved by hand."""

    def __init__(
        self, simulator: Simulator, http: ClientSession, clock: ManualClock
    ) -> None:
        self.simulator = simulator
        self.http = http
        self.clock = clock

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """Ask and read JSON."""
        async with self.http.get(self.simulator.url + path, headers=headers) as answer:
            return answer.status, msgspec.json.decode(await answer.read())

    def counts(self, exchange: str) -> Counts:
        """Give what was counted of all clients of an exchange."""
        return self.simulator.counts().exchanges[exchange].total

    async def socket(self, path: str) -> ClientWebSocketResponse:
        """Open a WebSocket whose pings and pongs the test sees."""
        return await self.http.ws_connect(
            self.simulator.url + path, autoping=False, autoclose=False
        )

    async def until(self, met: Callable[[], object]) -> None:
        """Wait for a condition, with a deadline."""
        with fail_after(_PATIENCE_S):
            while not met():  # noqa: ASYNC110  # any condition, nothing announces it
                await sleep(0.002)


async def hear(socket: ClientWebSocketResponse) -> Any:  # noqa: ANN401  # JSON
    """Read the next text frame, with a deadline."""
    message = await socket.receive(timeout=_PATIENCE_S)
    assert message.type is WSMsgType.TEXT, message
    return msgspec.json.decode(message.data)


async def hear_until(
    socket: ClientWebSocketResponse, met: Callable[[Any], object]
) -> Any:  # noqa: ANN401  # JSON
    """Read text frames until one is as wanted, with a deadline."""
    with fail_after(_PATIENCE_S):
        while True:
            message = await hear(socket)
            if met(message):
                return message


@asynccontextmanager
async def running(settings: Settings | None = None) -> AsyncIterator[Port]:
    """Run a simulator whose time stands still until the test moves it."""
    quick = settings or Settings(step_ms=2, burst_every_ms=0)
    clock = ManualClock(START_MS)
    async with Simulator(quick, clock=clock) as simulator, ClientSession() as http:
        yield Port(simulator, http, clock)
