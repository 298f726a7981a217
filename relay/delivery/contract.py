"""The contract of the routes: one table of what may be asked and is answered.

Pure. What the routes do stands in their own modules, and a test compares the two;
``describe`` writes the table out.
"""

from typing import Final

from msgspec import Struct

from relay.delivery import compat, compat_counts
from relay.delivery.query import FIELDS
from relay.delivery.symbols import Table
from relay.delivery.value import Portfolio, Worth
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
    """The last minutes of one instrument: Unix milliseconds and price, oldest first."""

    symbol: str
    points: list[tuple[int, str]]


class Parameter(Struct, frozen=True):
    """One parameter of a path, a query or a header."""

    name: str
    place: str
    means: str
    example: str


class Operation(Struct, frozen=True, kw_only=True):
    """One method of one path. ``kind`` and ``body`` are of its answer with 200."""

    path: str
    method: str = "get"
    summary: str
    means: str
    parameters: tuple[Parameter, ...] = ()
    errors: tuple[int, ...] = ()
    kind: str = "application/json"
    body: type | None = None
    sent: type | None = None
    status: int = 200
    conditional: bool = False
    head: bool = True


_SYMBOL: Final = Parameter(
    "symbol",
    "path",
    "An instrument by any of its names: BTC-USD, btc-usd, BTC%2FUSD, BTC, bitcoin.",
    "BTC-USD",
)
_SYMBOLS: Final = Parameter(
    "symbols",
    "query",
    "Instruments, separated by commas; neither this nor a list is the whole board.",
    "BTC-USD,ETH-USD",
)
_LIST: Final = Parameter("list", "query", "A named list in place of symbols.", "majors")
_FIELDS: Final = Parameter(
    "fields",
    "query",
    f"Only these fields of each ticker: {', '.join(FIELDS)}. "
    "offset, stale and via always stay.",
    "price,change_24h_pct",
)
_CURSOR: Final = Parameter(
    "cursor",
    "query",
    "A cursor from any earlier answer, of whichever route: only what changed since is "
    "answered. It is opaque.",
    "",
)
_WAIT: Final = Parameter(
    "wait",
    "query",
    "How long the answer may be held, for example 20s; rounded down to a few fixed "
    "values.",
    "20s",
)
_ALIGN: Final = Parameter(
    "align",
    "query",
    "0 answers at once when something changes, for clients with no cache between; "
    "left out, all clients are answered on a common grid.",
    "0",
)
_EVERY: Final = Parameter(
    "every", "query", "The pace, from a fixed set, for example 500ms or 2s.", "500ms"
)
_NONE_MATCH: Final = Parameter(
    "If-None-Match", "header", "The ETag of an earlier answer: 304 when it holds.", ""
)
_LAST_ID: Final = Parameter(
    "Last-Event-ID", "header", "Where to go on from; it wins over cursor.", ""
)
_OLDER_ID: Final = Parameter(
    "symbol",
    "path",
    "An instrument by any of its names: bitcoin, BTC, BTC/USD, btc-usd.",
    "bitcoin",
)
_OLDER_IDS: Final = Parameter(
    "ids", "path", "Instruments by any of their names, in a row.", "btc,eth,sol"
)
_PAIRS: Final = Parameter(
    "pairs", "query", "Instruments by any of their names.", "BTC/USD,ETH/USD"
)
_AUTHORIZATION: Final = Parameter(
    "Authorization", "header", "Bearer and the admin key.", ""
)
_HOLDINGS: Final = Parameter(
    "holdings",
    "query",
    "Instruments with amounts; all are quoted in one currency.",
    "BTC-USD:0.5,ETH-USD:2",
)

OPERATIONS: Final = (
    Operation(
        path="/v1/prices",
        summary="Current values",
        means="The newest ticker of each selected instrument. The ETag is the cursor; "
        "with cursor= only what changed since is answered, at once.",
        parameters=(_SYMBOLS, _LIST, _FIELDS, _CURSOR, _NONE_MATCH),
        errors=(400, 429, 503),
        body=Prices,
        conditional=True,
    ),
    Operation(
        path="/v1/prices/{symbol}",
        summary="Current value of one instrument",
        means="The same body with one instrument. One that is well-formed and unknown "
        "is missing, which is no error.",
        parameters=(_SYMBOL, _FIELDS, _CURSOR, _NONE_MATCH),
        errors=(400, 429, 503),
        body=Prices,
        conditional=True,
    ),
    Operation(
        path="/v1/prices/{symbol}/recent",
        summary="The last minutes of one instrument",
        means="A point each ten seconds, for sparklines.",
        parameters=(_SYMBOL, _NONE_MATCH),
        errors=(400, 429, 503),
        body=Points,
        conditional=True,
    ),
    Operation(
        path="/v1/poll",
        summary="Wait for a change",
        means="Answers when something selected has changed since the cursor, or when "
        "the wait is over; always with a cursor to ask again with.",
        parameters=(_SYMBOLS, _LIST, _FIELDS, _CURSOR, _WAIT, _ALIGN),
        errors=(400, 429, 503),
        body=Prices,
    ),
    Operation(
        path="/v1/stream",
        summary="Changes as Server-Sent Events",
        means="Each event's data is the body of a read, its id the cursor. An event "
        "named status says which sources live, when that changes. The stream ends "
        "after some minutes and says when to come back.",
        parameters=(_SYMBOLS, _LIST, _FIELDS, _CURSOR, _EVERY, _LAST_ID),
        errors=(400, 429, 503),
        kind="text/event-stream",
    ),
    Operation(
        path="/v1/ws",
        summary="Changes over a WebSocket",
        means="Opens a WebSocket (101). Messages are JSON: subscribe, unsubscribe, "
        "resume and ping; updates are the body of a read.",
        errors=(426, 429),
        status=101,
        head=False,
    ),
    Operation(
        path="/v1/symbols",
        summary="What exists",
        means="Every instrument that a source lists, the named lists, and what else "
        "instruments may be called.",
        parameters=(_NONE_MATCH,),
        errors=(400, 429, 503),
        body=Table,
        conditional=True,
    ),
    Operation(
        path="/v1/value",
        summary="What holdings are worth",
        means="Exact decimal arithmetic on the newest prices. Kept by nobody.",
        parameters=(_HOLDINGS,),
        errors=(400, 429, 503),
        body=Worth,
    ),
    Operation(
        path="/v1/value",
        method="post",
        summary="What holdings are worth",
        means="The same, with the holdings in the body.",
        errors=(400, 413, 415, 429, 503),
        body=Worth,
        sent=Portfolio,
        head=False,
    ),
    Operation(
        path="/v1/status",
        summary="How things stand",
        means="This instance, the leader, its sources and budgets, what is stale.",
        errors=(400,),
    ),
    Operation(
        path="/healthz",
        summary="Alive",
        means="200 while the process answers.",
    ),
    Operation(
        path="/readyz",
        summary="Able to serve",
        means="200 while the instance holds a board, 503 before and while it ends.",
        errors=(503,),
    ),
    Operation(
        path="/metrics",
        summary="Prometheus",
        means="Counters and gauges of this instance.",
        kind="text/plain; version=0.0.4; charset=utf-8",
    ),
    # The older names and payloads; what is new speaks /v1.
    Operation(
        path="/api/prices",
        summary="All prices, in the older shape",
        means="Assets under their lower-case names where they have one. The source is "
        "where most prices come from.",
        parameters=(_NONE_MATCH,),
        errors=(503,),
        body=compat.AllPrices,
        conditional=True,
    ),
    Operation(
        path="/api/prices/{symbol}",
        summary="One price, in the older shape",
        means="Under the id that was asked for. cached is true when the price is old, "
        "and while nothing streams.",
        parameters=(_OLDER_ID, _NONE_MATCH),
        errors=(404, 429, 503),
        body=compat.OnePrice,
        conditional=True,
    ),
    Operation(
        path="/api/prices/bulk/{ids}",
        summary="Some prices, in the older shape",
        means="Under the ids that were asked for; ids without a price are missing.",
        parameters=(_OLDER_IDS, _NONE_MATCH),
        errors=(400, 429, 503),
        body=compat.Bulk,
        conditional=True,
    ),
    Operation(
        path="/api/prices/status/health",
        summary="How the prices are, in the older shape",
        means="disconnected: nobody reads the exchanges; reconnecting: none of them "
        "answers. The status is 200 either way.",
        body=compat.Condition,
    ),
    Operation(
        path="/api/prices/metrics",
        summary="Counters, in the older shape",
        means="What this instance has seen since it began, or since the reset; what it "
        "has not seen is 0 or null. The hit rate counts asked ids that had a price.",
        body=compat_counts.Counted,
    ),
    Operation(
        path="/api/prices/metrics/reset",
        method="post",
        summary="Set the older counters back",
        means="Needs the admin key, as Authorization: Bearer. Answers the counters.",
        parameters=(_AUTHORIZATION,),
        errors=(403,),
        body=compat_counts.Counted,
        head=False,
    ),
    Operation(
        path="/api/market-data/health",
        summary="How the streams are, in the older shape",
        means="The circuit is closed while sources live, half-open while they are "
        "tried again, open while nobody reads them.",
        body=compat.Circuit,
    ),
    Operation(
        path="/api/market-data/stream",
        summary="Prices as Server-Sent Events, in the older shape",
        means="One event for each pair and change, the newest known price first. price "
        "is the decimal text as a JSON number, priceText the same as text.",
        parameters=(_PAIRS,),
        errors=(400, 429, 503),
        kind="text/event-stream",
    ),
    Operation(
        path="/ws/prices",
        summary="All prices over a WebSocket, in the older shape",
        means="Opens a WebSocket (101): connection, then price_update with everything, "
        "then what changes, once a second. The text ping is answered with pong.",
        errors=(426, 429),
        status=101,
        head=False,
    ),
    Operation(
        path="/ws/prices/{symbol}",
        summary="One price over a WebSocket, in the older shape",
        means="The same with one price, under the id that was asked for.",
        parameters=(_OLDER_ID,),
        errors=(405,),
        status=101,
        head=False,
    ),
)

# Pages for people, which are not part of the interface.
PAGES: Final = (
    "/",
    "/dashboard/docs.css",
    "/dashboard/latency.js",
    "/dashboard/page.js",
    "/dashboard/relay-react.d.ts",
    "/dashboard/relay-react.js",
    "/dashboard/relay.d.ts",
    "/dashboard/relay.js",
    "/dashboard/row.js",
    "/dashboard/spark.js",
    "/dashboard/style.css",
    "/dashboard/system.js",
    "/dashboard/table.js",
    "/docs",
    "/docs/openapi.json",
)

MEANING: Final = {
    400: "The request cannot be read; the code says what is wrong.",
    403: "It needs the admin key.",
    404: "There is no price by this id.",
    405: "It is no WebSocket.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    426: "It is no WebSocket.",
    429: "Your address asks too often or holds too much open; Retry-After says for how "
    "long.",
    503: "There is nothing to answer with; ask again after Retry-After seconds.",
}
