"""How a relay stands, as ``/v1/status`` tells it. Pure.

What an older relay does not say has a default here; what a newer one says besides is
passed over.
"""

from typing import Final

import msgspec
from msgspec import Struct

from relay.client.errors import unreadable

PATH: Final = "/v1/status"


class Instance(Struct, frozen=True, kw_only=True):
    """The instance that answered; ``clients`` counts them by their way in.

    ``now_ms`` is the relay's clock, by which everything here is told; 0 for unsaid.
    """

    version: str = ""
    now_ms: int = 0
    uptime_ms: int = 0
    live: bool = False
    ready: bool = False
    mark_age_ms: int | None = None
    clients: dict[str, int] = {}


class Board(Struct, frozen=True, kw_only=True):
    """What is on the board."""

    name: str = ""
    instruments: int = 0
    stale: int = 0


class Leader(Struct, frozen=True, kw_only=True):
    """Who ingests."""

    alive: bool = False
    holder: str = ""


class Source(Struct, frozen=True, kw_only=True):
    """One exchange; ``age_ms`` is how long ago it was heard, None for never.

    ``state`` is alive, silent, or unknown while nobody reads; empty for unsaid.
    """

    alive: bool = False
    state: str = ""
    age_ms: int | None = None
    reason: str = ""
    shown: int = 0


class Stream(Struct, frozen=True, kw_only=True):
    """One connection to an exchange; ``error`` is what stands against it."""

    state: str = ""
    error: str = ""


class Budget(Struct, frozen=True, kw_only=True):
    """One limit of one exchange. Instants are the relay's clock, 0 for none."""

    limit: str = ""
    used: float = 0
    most: float = 0
    window_ms: int = 0
    cooling_until_ms: int = 0
    cooling_reason: str = ""


class Status(Struct, frozen=True, kw_only=True):
    """The page; ``leader`` is None while the store cannot be reached."""

    instance: Instance
    board: Board
    store: str = ""
    leader: Leader | None = None
    sources: dict[str, Source] = {}
    streams: dict[str, list[Stream]] = {}
    budgets: dict[str, list[Budget]] = {}
    refused: dict[str, str] = {}
    off: dict[str, str] = {}


_decode: Final = msgspec.json.Decoder(Status).decode


def read_status(body: bytes) -> Status:
    """Read the page.

    Raises:
        Unavailable: it is no relay's.
    """
    try:
        return _decode(body)
    except msgspec.MsgspecError as error:
        raise unreadable(str(error)) from error
