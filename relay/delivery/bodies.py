"""The bodies that several routes answer, or none has a module for, as structs.

Pure. They describe what is written elsewhere as bytes; only errors are made of them.
"""

from typing import Annotated

from msgspec import Meta, Struct

from relay.model import Ticker


class Fault(Struct, frozen=True):
    """What a client is told of an error: a stable code, a sentence, what to do."""

    code: str
    sentence: str
    hint: str


class Told(Struct, frozen=True):
    """The body of every error."""

    error: Fault


class Prices(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body that reads, polls, stream events and WebSocket updates share.

    ``missing`` names well-formed instruments without a value, ``gone`` those removed
    since the cursor. ``reset`` is there, true, when everything is sent anew and what
    the client holds is to be thrown away.
    """

    cursor: str
    as_of_ms: int
    live: bool
    prices: dict[str, Ticker]
    missing: list[str]
    gone: list[str]
    reset: bool = False


class Points(Struct, frozen=True):
    """The last minutes of one instrument, oldest first.

    A point is two things: Unix milliseconds, and the price then.
    """

    symbol: str
    points: list[Annotated[list[int | str], Meta(min_length=2, max_length=2)]]


class Alive(Struct, frozen=True):
    """The body of ``/healthz``."""

    alive: bool


class Ready(Struct, frozen=True):
    """The body of ``/readyz``."""

    ready: bool
