"""What every exchange offers: requests to send, and readers for what comes back.

No I/O and no clock: ``ingest.pull`` and ``ingest.stream`` do the sending and waiting.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol

from msgspec import Struct

from relay.errors import ExchangeError
from relay.model import Listing, Symbols, Update


class Request(Struct, frozen=True, kw_only=True):
    """One REST request, before it is sent: all of them are GET.

    ``path`` begins with a slash and comes after scheme, host and port.
    ``costs`` is what the exchange charges for it, by the name of the limit as it
    stands in the configuration; ``symbols`` are those asked for, empty where the
    answer covers everything.
    """

    exchange: str
    purpose: Literal["symbols", "snapshot", "probe"]
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    costs: tuple[tuple[str, int], ...] = (("weight", 1),)
    symbols: tuple[str, ...] = ()


class Answer(Struct, frozen=True, kw_only=True):
    """What came back for a request.

    ``headers`` have lower-case names. ``sent_ms`` and ``received_ms`` are the
    store's clock. ``age_ms`` is the answer's ``Age`` header, 0 without one.
    """

    request: Request
    status: int
    headers: Mapping[str, str]
    body: bytes
    sent_ms: int
    received_ms: int
    age_ms: int = 0

    @property
    def as_of_ms(self) -> int:
        """When its values were true at the latest, by the store's clock."""
        return self.sent_ms - self.age_ms


class Usage(Struct, frozen=True, kw_only=True):
    """What an answer tells about a limit, by its name in the configuration.

    ``used`` is the exchange's own count for the current window; ``cost`` what this
    answer turned out to cost; ``most`` the limit itself, where the exchange publishes
    it. None where the answer does not tell.
    """

    limit: str
    used: int | None = None
    cost: int | None = None
    most: int | None = None


class Confirmed(Struct, frozen=True):
    """The exchange acknowledged these symbols."""

    symbols: tuple[str, ...]


class Rejected(Struct, frozen=True):
    """The exchange will not stream these symbols; empty: one of all that wait.

    ``whole`` tells that a request for these was refused without a word whose fault it
    was: one of them is to blame, or several.
    """

    symbols: tuple[str, ...]
    reason: str
    # Worth asking again after a while ("Exceeded msg rate"), or never.
    retry: bool = False
    whole: bool = False


class Omitted(Struct, frozen=True):
    """The exchange acknowledged a request, and these are not in what it grants.

    It may be a passing state; whoever is omitted again is not streamed.
    """

    symbols: tuple[str, ...]
    reason: str


class Gap(Struct, frozen=True):
    """Frames were lost: the symbols must be read anew; empty means all of them."""

    symbols: tuple[str, ...]


class Closing(Struct, frozen=True):
    """The exchange announced that it will close: open a replacement first."""

    reason: str


class Denied(Struct, frozen=True):
    """The exchange refuses this connection as a whole; do not reconnect in a loop."""

    error: ExchangeError


class Told(Struct, frozen=True):
    """The exchange says how it is; without words all is well again.

    ``halts`` tells that it serves nobody meanwhile; otherwise it is a note.
    """

    words: str = ""
    halts: bool = False


SYMBOLS_MAX: Final = 20_000
"""A session remembers no more symbols: no exchange has as many, and a liar might."""

Notice = Confirmed | Rejected | Omitted | Gap | Closing | Denied | Told


class Rules(Struct, frozen=True, kw_only=True):
    """The rules of one connection, from the exchange's documents.

    ``spacing_ms``: least time between two messages from us, ``spacing_by`` what it is
    counted by: the connection, or all of an address's together. ``symbols_max``: most
    symbols one connection takes. ``silent_after_ms``: without any frame for so long
    the socket is dead. ``ping_ms``: how often ``Session.ping`` wants to be sent,
    0 for never. ``life_ms``: the exchange ends connections after so long, 0 for never.
    ``in_place``: whether subscriptions change on the open connection.
    """

    spacing_ms: int
    symbols_max: int
    silent_after_ms: int
    ping_ms: int = 0
    life_ms: int = 0
    in_place: bool = True
    spacing_by: Literal["connection", "address"] = "connection"


class Session(Protocol):
    """One connection's conversation, without the socket.

    ``target`` is path and query to connect to, ``headers`` go with the upgrade.
    The driver sends what the methods return, spaced by the rules, and hands in every
    text frame; after each it takes the ``notices``.
    """

    rules: Rules
    target: str
    headers: tuple[tuple[str, str], ...]
    notices: list[Notice]

    def opened(self) -> list[bytes]:
        """Return the frames to send first; the session was made with its symbols."""
        ...

    def subscribe(self, symbols: Sequence[str]) -> list[bytes]:
        """Return the frames that add these symbols."""
        ...

    def unsubscribe(self, symbols: Sequence[str]) -> list[bytes]:
        """Return the frames that drop these symbols."""
        ...

    def ping(self) -> list[bytes]:
        """Return the frames that keep the connection alive."""
        ...

    def receive(self, frame: bytes, received_ms: int) -> Sequence[Update]:
        """Read one text frame.

        Returns what it says about prices; anything else is appended to ``notices``.

        Raises:
            FrameError: the frame cannot be read. The session goes on.
        """
        ...


class Adapter(Protocol):
    """One exchange, as it stands in the table of exchanges.

    ``name`` is the source's name in the configuration and in every value.
    ``streams`` tells whether ``session`` may be called. ``hosts`` are the host names
    its present and past addresses had, by which a recording is recognised.
    """

    name: str
    streams: bool
    hosts: tuple[str, ...]

    def symbol_requests(self) -> list[Request]:
        """Return the requests whose answers together make the symbol table."""
        ...

    def read_symbols(self, answers: Sequence[Answer]) -> Symbols:
        """Read the symbol table.

        Raises:
            FrameError: a body cannot be read.
        """
        ...

    def snapshot_requests(self, listings: Sequence[Listing]) -> list[Request]:
        """Return the cheapest requests that cover these listings."""
        ...

    def read_snapshot(self, answer: Answer) -> list[Update]:
        """Read the prices of one answer; rows without a price are left out.

        Raises:
            FrameError: the body cannot be read.
        """
        ...

    def read_failure(self, answer: Answer) -> ExchangeError | None:
        """Say what is wrong with an answer, None when nothing is.

        Of ``UnknownSymbol`` the other symbols are asked for again, without it.
        """
        ...

    def recognise(self, path: str, query: Sequence[tuple[str, str]]) -> Request | None:
        """Return the request that a recorded address stands for.

        None when its answer is neither a symbol table nor prices of this source.
        """
        ...

    def listing_of(self, symbol: str) -> Listing | None:
        """Read a symbol without a table, where its spelling alone tells the halves.

        None where it does not: only the exchange's own table may then be used.
        """
        ...

    def read_usage(self, answer: Answer) -> list[Usage]:
        """Return what the answer tells about spending; empty where it tells nothing."""
        ...

    def session(self, symbols: Sequence[str]) -> Session:
        """Begin the conversation of a new connection that wants these symbols."""
        ...
