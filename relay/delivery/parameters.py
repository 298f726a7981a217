"""What may be said in a path, a query or a header: each parameter once.

Pure. Which route takes which stands in ``contract``.
"""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct, field

from relay.config import Settings
from relay.delivery.query import ALWAYS, FIELDS
from relay.delivery.value import NAME_PATTERN


class Parameter(Struct, frozen=True):
    """One parameter of a path, a query or a header.

    ``schema`` is JSON Schema; of an array the members are separated by commas. Those of
    a path are always needed.
    """

    name: str
    place: str
    means: str
    example: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    needed: bool = False


_CURSOR_TEXT: Final = r"[0-9a-z]{1,12}\.[0-9a-z]{1,13}\.[0-9]{1,16}(~.*)?"
_AMOUNT: Final = r"\s*[0-9]{1,20}(\.[0-9]{1,20})?\s*"


def _text(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^{pattern}$"}


def _several(pattern: str) -> dict[str, Any]:
    """Return the schema of texts in a row."""
    return {"type": "array", "items": _text(pattern), "minItems": 1}


SYMBOL: Final = Parameter(
    "symbol",
    "path",
    "An instrument by any of its names: BTC-USD, btc-usd, BTC%2FUSD, BTC, bitcoin.",
    "BTC-USD",
    _text(NAME_PATTERN),
)
SYMBOLS: Final = Parameter(
    "symbols",
    "query",
    "Instruments by any of their names, separated by commas; neither this nor a list "
    "is the whole board. At most some hundreds at once, and not together with list.",
    "BTC-USD,ETH-USD",
    _several(NAME_PATTERN),
)
LIST: Final = Parameter(
    "list", "query", "A named list in place of symbols; see /v1/symbols.", "majors"
)
ONLY_FIELDS: Final = Parameter(
    "fields",
    "query",
    f"Only these fields of each ticker: {', '.join(FIELDS)}. "
    "offset, stale and via always stay.",
    "price,change_24h_pct",
    {
        "type": "array",
        "items": {"type": "string", "enum": [*FIELDS, *sorted(ALWAYS)]},
        "minItems": 1,
    },
)
CURSOR: Final = Parameter(
    "cursor",
    "query",
    "A cursor from any earlier answer, of whichever route: only what changed since is "
    "answered. It is opaque.",
    "k3f9.7qx.1763635200123",
    _text(_CURSOR_TEXT),
)
WAIT: Final = Parameter(
    "wait",
    "query",
    "How long the answer may be held, for example 20s; rounded down to a few fixed "
    "values.",
    "20s",
    _text("[0-9]{1,9}(ms|s)?"),
)
ALIGN: Final = Parameter(
    "align",
    "query",
    "0 answers at once when something changes, for clients with no cache between; "
    "left out, all clients are answered on a common grid.",
    "0",
)
EVERY: Final = Parameter(
    "every", "query", "The pace, from a fixed set, for example 500ms or 2s.", "500ms"
)
NONE_MATCH: Final = Parameter(
    "If-None-Match",
    "header",
    "The ETag of an earlier answer, several, or *: 304 when one holds.",
    '"k3f9.7qx.1763635200123"',
)
LAST_ID: Final = Parameter(
    "Last-Event-ID",
    "header",
    "Where to go on from; it wins over cursor.",
    "k3f9.7qx.1763635200123",
    _text(f"({_CURSOR_TEXT})?"),
)
OLDER_ID: Final = Parameter(
    "symbol",
    "path",
    "An instrument by any of its names: bitcoin, BTC, BTC/USD, btc-usd.",
    "bitcoin",
    {"type": "string", "minLength": 1},
)
OLDER_IDS: Final = Parameter(
    "ids",
    "path",
    "Instruments by any of their names, in a row.",
    "btc,eth,sol",
    {
        "type": "array",
        "items": {"type": "string", "minLength": 1},
        "minItems": 1,
    },
)
PAIRS: Final = Parameter(
    "pairs",
    "query",
    "Instruments by any of their names.",
    "BTC/USD,ETH/USD",
    _several(NAME_PATTERN),
    needed=True,
)
HOLDINGS: Final = Parameter(
    "holdings",
    "query",
    "Instruments with amounts; all are quoted in one currency.",
    "BTC-USD:0.5,ETH-USD:2",
    _several(rf"{NAME_PATTERN}:{_AMOUNT}"),
    needed=True,
)


def choices(settings: Settings) -> dict[str, list[str]]:
    """Return the values of those parameters that take only some; settings say which."""
    http, align_ms = settings.http, settings.ingest.align_ms
    whole = [ms for ms in http.paces_ms if not ms % 1000]
    aligned = ["0", f"{align_ms}ms"]
    if not align_ms % 1000:
        aligned.append(f"{align_ms // 1000}s")
    return {
        "list": sorted(settings.board.lists),
        "every": [
            *(f"{ms}ms" for ms in http.paces_ms),
            *(f"{ms // 1000}s" for ms in whole),
        ],
        "align": aligned,
    }
