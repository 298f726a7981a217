"""What passes between an exchange and its clients, before any socket is touched.

Requests and answers of REST, frames and conversations of WebSocket, and what every
exchange offers the server. No exchange's protocol and no waiting.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from relay.simulator.faults import Faults
from relay.simulator.ledger import Account, Ledger
from relay.simulator.limits import Limit
from relay.simulator.listing import BROKEN, TRADING, Listing, Symbol
from relay.simulator.market import Asset, Market
from relay.simulator.settings import Settings

JSON: Final = "application/json; charset=utf-8"
HTML: Final = "text/html; charset=utf-8"


class Request(Struct, frozen=True, kw_only=True):
    """A REST request or an upgrade, as its exchange sees it."""

    path: str  # without the exchange's prefix
    query: tuple[tuple[str, str], ...] = ()
    query_text: str = ""
    headers: Mapping[str, str]  # names in lower case
    account: Account
    now_ms: int

    def value(self, name: str) -> str | None:
        """Give the first value of a query parameter."""
        return next((value for key, value in self.query if key == name), None)

    def values(self, name: str) -> list[str]:
        """Give all values of a repeated query parameter."""
        return [value for key, value in self.query if key == name]

    @property
    def address(self) -> str:
        """Whom the limits count."""
        return self.account.client.address


class Answer(Struct, kw_only=True):
    """What a request is answered with."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: dict[str, str] = {}


def answer_json(body: object, status: int = 200, **headers: str) -> Answer:
    """Answer with JSON; header names have underscores for hyphens."""
    return Answer(
        body=msgspec.json.encode(body),
        status=status,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def answer_html(status: int, sentence: str) -> Answer:
    """Answer with a page of the edge in front of an exchange."""
    page = (
        f"<!DOCTYPE html><html><head><title>{status} {sentence}</title></head>"
        f"<body><center><h1>{status} {sentence}</h1></center></body></html>\n"
    )
    return Answer(body=page.encode(), status=status, content_type=HTML)


TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
"""WebSocket opcodes (RFC 6455, section 5.2)."""

DATA, ACK, CONTROL = "data", "ack", "control"
"""Kinds of frames, told apart by the faults."""


class Frame(Struct):
    """One frame to a client, before the faults have touched it."""

    payload: bytes
    kind: str = DATA
    symbol: str | None = None
    opcode: int = TEXT
    wrong: bytes = b""  # of an acknowledgement: what a fault says instead


class Ending(Struct, frozen=True):
    """How the exchange ends a conversation; without a code it cuts the socket."""

    code: int | None
    reason: str = ""


class Conversation(ABC):
    """One WebSocket connection as its exchange keeps it.

    It is told what was received and what time it is; what it has to say waits in
    ``outbox`` for the server, as does the wish to end.
    """

    def __init__(self, account: Account, now_ms: int) -> None:
        self.account = account
        self.outbox: deque[Frame] = deque()
        self.ending: Ending | None = None
        self.opened_ms = now_ms
        self.heard_ms = now_ms
        self.said_ms = now_ms
        self.subscribed = 0

    @abstractmethod
    def receive(self, text: str, now_ms: int) -> None:
        """Hear a text frame."""

    def pong(self, payload: bytes, now_ms: int) -> None:  # noqa: B027  # nothing to do for most
        """Hear a pong; most exchanges do not listen."""

    def ping(self, payload: bytes, now_ms: int) -> None:
        """Hear a ping and return it."""
        self.heard_ms = now_ms
        self.outbox.append(Frame(payload, CONTROL, opcode=PONG))

    def unsay_ping(self, payload: bytes) -> None:  # noqa: B027  # nothing to do for most
        """Hear that a ping never left; most exchanges send none."""

    @abstractmethod
    def beat(self, now_ms: int) -> None:
        """Do what is due at this time."""

    def leave(self) -> None:
        """Forget every subscription; the connection is gone."""
        self.account.unsubscribe(self.subscribed)
        self.subscribed = 0

    def end(self, code: int | None, reason: str = "") -> None:
        """Wish to end, after what still waits in the outbox."""
        self.ending = self.ending or Ending(code, reason)

    def say(self, payload: bytes, symbol: str | None = None) -> None:
        """Send market data."""
        self.outbox.append(Frame(payload, DATA, symbol))

    def say_control(self, body: object) -> None:
        """Send something that is neither data nor an acknowledgement."""
        self.outbox.append(Frame(msgspec.json.encode(body), CONTROL))

    def acknowledge(self, body: object, wrong: object) -> None:
        """Send an acknowledgement; ``wrong`` is what a fault makes of it."""
        encode = msgspec.json.encode
        self.outbox.append(Frame(encode(body), ACK, wrong=encode(wrong)))

    def count_subscribed(self, asked: int, *, new: int, unknown: int = 0) -> None:
        """Keep count of subscriptions: asked for, new among them, and unknown."""
        self.subscribed += new
        duplicate = asked - new - unknown
        self.account.subscribe(asked, duplicate=duplicate, unknown=unknown)

    def count_unsubscribed(self, number: int) -> None:
        """Keep count of subscriptions that ended."""
        self.subscribed -= number
        self.account.unsubscribe(number)


class World(Struct):
    """What all exchanges share: one market, one ledger, one set of faults."""

    settings: Settings
    market: Market
    ledger: Ledger
    faults: Faults


class Exchange(ABC):
    """What every exchange offers the server."""

    name: str

    def __init__(self, world: World, *, offset_ppm: int) -> None:
        self.world = world
        self.listing = Listing(world.market, offset_ppm=offset_ppm)
        self.conversations: set[Conversation] = set()
        self._revision = -1
        self._broken: set[str] = set()
        self._silent: frozenset[str] = frozenset()

    @abstractmethod
    def answer(self, request: Request) -> Answer:
        """Answer a REST request."""

    @abstractmethod
    def greet(self, request: Request) -> Conversation | Answer | None:
        """Open a conversation, refuse it with an answer, or cut it with None."""

    def move(self, asset: Asset, now_ms: int) -> None:
        """Tell the conversations that an asset has just moved."""
        if not self.conversations:
            return
        for symbol in self.listing.of_asset(asset):
            if symbol.state == TRADING and symbol.name not in self._silent:
                self.show(symbol, now_ms, traded=asset.traded)

    def show(self, symbol: Symbol, now_ms: int, *, traded: bool) -> None:  # noqa: B027  # nothing to do for most
        """Tell the conversations what one symbol shows now."""

    def beat(self, now_ms: int) -> None:
        """Do what is due at this time, conversations included."""
        self.heed_faults(now_ms)
        for conversation in self.conversations:
            conversation.beat(now_ms)

    def refusal(self, status: int, request: Request, retry_after_s: int) -> Answer:
        """Word a refusal as this exchange would; used when a fault asks for one."""
        del request, retry_after_s
        return answer_html(status, "Service refused")

    def clock_ms(self, now_ms: int) -> int:
        """Give this exchange's own time."""
        fault = self.world.faults.find(self.name, "clock", now_ms)
        ahead = fault.fault.value if fault else 0
        return now_ms + (ahead if isinstance(ahead, int) else 0)

    def limit(self, name: str, scope: str, make: Callable[[], Limit]) -> Limit:
        """Give one of this exchange's limits for an address or key."""
        return self.world.ledger.limit(self.name, name, scope, make)

    def find(self, name: str) -> Symbol | None:
        """Give the listed symbol of that name."""
        return self.listing.symbols.get(name)

    @abstractmethod
    def list_new(self, symbol: str, value: Mapping[str, str], now_ms: int) -> Symbol:
        """List a symbol that was not there before."""

    def listed(self, symbol: Symbol, now_ms: int) -> None:  # noqa: B027  # nothing to do for most
        """Tell the conversations that a symbol's state has changed."""

    def heed_faults(self, now_ms: int) -> None:
        """Halt and list symbols as the faults have it; undo what they no longer say."""
        faults = self.world.faults
        if faults.revision == self._revision:
            return
        self._revision = faults.revision
        self._silent = frozenset(
            fault.symbol
            for fault in faults.named(self.name, "silence", now_ms)
            if fault.symbol is not None
        )
        self._heed_listings(now_ms)
        broken = {fault.symbol for fault in faults.named(self.name, "break", now_ms)}
        for name in {*broken, *self._broken}:
            symbol = self.listing.symbols.get(name or "")
            state = BROKEN if name in broken else TRADING
            if symbol is not None and symbol.state != state:
                symbol.state = state
                self.listed(symbol, now_ms)
        self._broken = {name for name in broken if name is not None}

    def _heed_listings(self, now_ms: int) -> None:
        for fault in self.world.faults.named(self.name, "listing", now_ms):
            known = self.listing.symbols.get(fault.symbol or "")
            if known is None and isinstance(fault.value, dict):
                new = self.list_new(fault.symbol or "", fault.value, now_ms)
                self.listed(new, now_ms)

    def join(self, conversation: Conversation) -> None:
        """Keep a conversation that has opened."""
        self.conversations.add(conversation)

    def part(self, conversation: Conversation) -> None:
        """Forget a conversation that has ended."""
        self.conversations.discard(conversation)
        conversation.leave()


Handler = TypeVar("Handler")


def find_route(
    table: Mapping[str, Handler], path: str
) -> tuple[Handler, list[str]] | None:
    """Find the handler of a path; ``*`` in a pattern stands for one part of it.

    The parts that stood for a ``*`` come along.
    """
    parts = path.strip("/").split("/")
    for pattern, handler in table.items():
        wanted = pattern.split("/")
        if len(wanted) == len(parts) and all(
            want in {"*", part} for want, part in zip(wanted, parts, strict=True)
        ):
            stars = [
                part for want, part in zip(wanted, parts, strict=True) if want == "*"
            ]
            return handler, stars
    return None


def number_of(request: Request, name: str, default: int) -> int:
    """Read a query parameter that should be a whole number."""
    text = request.value(name)
    return int(text) if text and text.isdigit() else default


def decode_json(text: str) -> Any:  # noqa: ANN401  # whatever a client may send
    """Read a client's message; None when it is no JSON."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None


def text_list(value: object) -> list[str] | None:
    """Give a list of texts as such, or None when it is something else."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    return None
