"""The contract of the routes: one table of what may be asked and is answered.

Pure. What the routes do stands in their own modules, and a test compares the two;
``describe`` writes the table out, ``parameters`` and ``bodies`` are what it is made of,
``examples`` has a body of each kind.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from relay.delivery import compat, compat_counts, parameters
from relay.delivery.bodies import Alive, Points, Prices, Ready
from relay.delivery.parameters import Parameter
from relay.delivery.status import Page
from relay.delivery.symbols import Table
from relay.delivery.ticket import Ticket
from relay.delivery.value import Portfolio, Worth


class Header(Struct, frozen=True):
    """One header of an answer; not ``always`` is now and then, as ``means`` says."""

    name: str
    means: str
    example: str
    always: bool = True


class Operation(Struct, frozen=True, kw_only=True):
    """One method of one path.

    ``kind``, ``body`` and ``headers`` are of its answer with 200.
    """

    path: str
    method: str = "get"
    summary: str
    means: str
    parameters: tuple[Parameter, ...] = ()
    headers: tuple[Header, ...] = ()
    errors: tuple[int, ...] = ()
    kind: str = "application/json"
    body: type | None = None
    sent: type | None = None
    status: int = 200
    conditional: bool = False
    head: bool = True


# The headers of answers.
_NOSNIFF: Final = Header(
    "X-Content-Type-Options", "Browsers take our word for what a body is.", "nosniff"
)
_ETAG: Final = Header(
    "ETag",
    "Of a read of prices and of a poll it is the cursor. Each coding has its own.",
    '"k3f9.7qx.1763635200123"',
)
_CACHED: Final = Header(
    "Cache-Control",
    "For everybody: how long it is fresh, and may be shown after that.",
    "public, max-age=1, stale-while-revalidate=2, stale-if-error=600",
)
_CDN_CACHED: Final = Header(
    "CDN-Cache-Control",
    "The same for shared caches alone (RFC 9213).",
    "max-age=1, stale-while-revalidate=2, stale-if-error=600",
)
_VARY: Final = Header(
    "Vary",
    "There where a body is large enough to be coded.",
    "accept-encoding",
    always=False,
)
_CODED: Final = Header(
    "Content-Encoding", "zstd or gzip, of a large body.", "zstd", always=False
)
_PLACE: Final = Header(
    "Content-Location",
    "There when the same has another, canonical URL.",
    "/v1/prices?symbols=BTC-USD,ETH-USD",
    always=False,
)
_NO_STORE: Final = Header("Cache-Control", "Nobody keeps it.", "no-store")
_RETRY_AFTER: Final = Header("Retry-After", "When to ask again, in seconds.", "1")

SHARED: Final = (_ETAG, _CACHED, _CDN_CACHED, _VARY, _CODED, _NOSNIFF)
"""Of what caches may keep for a moment; older routes are called by one name only."""
PLACED: Final = (*SHARED, _PLACE)
HELD: Final = (
    _ETAG,
    Header(
        "Cache-Control",
        "Shared caches keep it for a second, so that all who wait for one answer get "
        "one; with align=0 nobody keeps it.",
        "public, max-age=0, s-maxage=1",
    ),
    Header(
        "X-Grid-Ttl",
        "How long until the next mark, for edges; not with align=0.",
        "0.412s",
        always=False,
    ),
    _NOSNIFF,
)
NOW: Final = (_NO_STORE, _NOSNIFF)
"""Of what is true only now."""
PRIVATE: Final = (
    Header("Cache-Control", "Nobody keeps it.", "private, no-store"),
    _NOSNIFF,
)
STREAMED: Final = (
    _NO_STORE,
    _NOSNIFF,
    Header("X-Accel-Buffering", "nginx passes each event on as it comes.", "no"),
)

# What describes a body that is not sent: not in a 304.
OF_BODY: Final = frozenset({"Content-Encoding", "X-Content-Type-Options"})

OF_ERROR: Final[Mapping[int, tuple[Header, ...]]] = {
    426: (
        Header("Upgrade", "What it takes.", "websocket"),
        Header("Connection", "Upgrade is of this connection.", "Upgrade"),
    ),
    401: (Header("WWW-Authenticate", "How to come in.", 'Bearer realm="relay"'),),
    403: (
        Header(
            "WWW-Authenticate",
            "Which scope is needed; not where no key has it.",
            'Bearer realm="relay", error="insufficient_scope", scope="admin"',
            always=False,
        ),
    ),
    429: (_RETRY_AFTER,),
    503: (_RETRY_AFTER,),
}
"""What errors carry besides ``NOW``."""

OPERATIONS: Final = (
    Operation(
        path="/v1/prices",
        summary="Current values",
        means="The newest ticker of each selected instrument. The ETag is the cursor; "
        "with cursor= only what changed since is answered, at once.",
        parameters=(
            parameters.SYMBOLS,
            parameters.LIST,
            parameters.ONLY_FIELDS,
            parameters.CURSOR,
            parameters.NONE_MATCH,
        ),
        errors=(400, 429, 503),
        body=Prices,
        conditional=True,
        headers=PLACED,
    ),
    Operation(
        path="/v1/prices/{symbol}",
        summary="Current value of one instrument",
        means="The same body with one instrument. One that is well-formed and unknown "
        "is missing, which is no error.",
        parameters=(
            parameters.SYMBOL,
            parameters.ONLY_FIELDS,
            parameters.CURSOR,
            parameters.NONE_MATCH,
        ),
        errors=(400, 429, 503),
        body=Prices,
        conditional=True,
        headers=PLACED,
    ),
    Operation(
        path="/v1/prices/{symbol}/recent",
        summary="The last minutes of one instrument",
        means="A point each ten seconds, for sparklines.",
        parameters=(parameters.SYMBOL, parameters.NONE_MATCH),
        errors=(400, 429, 503),
        body=Points,
        conditional=True,
        headers=PLACED,
    ),
    Operation(
        path="/v1/poll",
        summary="Wait for a change",
        means="Answers when something selected has changed since the cursor, or when "
        "the wait is over; always with a cursor to ask again with.",
        parameters=(
            parameters.SYMBOLS,
            parameters.LIST,
            parameters.ONLY_FIELDS,
            parameters.CURSOR,
            parameters.WAIT,
            parameters.ALIGN,
        ),
        errors=(400, 429, 503),
        body=Prices,
        headers=HELD,
    ),
    Operation(
        path="/v1/stream",
        summary="Changes as Server-Sent Events",
        means="Each event's data is the body of a read, its id the cursor. An event "
        "named status says which sources live, when that changes. The stream ends "
        "after some minutes and says when to come back.",
        parameters=(
            parameters.SYMBOLS,
            parameters.LIST,
            parameters.ONLY_FIELDS,
            parameters.CURSOR,
            parameters.EVERY,
            parameters.LAST_ID,
        ),
        errors=(400, 429, 503),
        kind="text/event-stream",
        headers=STREAMED,
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
        parameters=(parameters.NONE_MATCH,),
        errors=(400, 429, 503),
        body=Table,
        conditional=True,
        headers=SHARED,
    ),
    Operation(
        path="/v1/value",
        summary="What holdings are worth",
        means="Exact decimal arithmetic on the newest prices. Kept by nobody.",
        parameters=(parameters.HOLDINGS,),
        errors=(400, 429, 503),
        body=Worth,
        headers=PRIVATE,
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
        headers=PRIVATE,
    ),
    Operation(
        path="/v1/ticket",
        method="post",
        summary="A ticket for a browser",
        means="For a key that may read: what to show in its place, for a minute at "
        "most: as ?ticket= of a stream or a WebSocket, whose EventSource and WebSocket "
        "send no header, or as Authorization: Bearer of any read. What is open stays "
        "open; to come back takes a new one. A body is not needed.",
        headers=PRIVATE,
        errors=(400, 429),
        body=Ticket,
        head=False,
    ),
    Operation(
        path="/v1/status",
        summary="How things stand",
        means="This instance, the leader, its sources and budgets, what is stale.",
        errors=(400,),
        headers=NOW,
        body=Page,
    ),
    Operation(
        path="/healthz",
        summary="Alive",
        means="200 while the process answers.",
        headers=NOW,
        body=Alive,
    ),
    Operation(
        path="/readyz",
        summary="Able to serve",
        means="200 while the instance holds a board, 503 before and while it ends.",
        errors=(503,),
        headers=NOW,
        body=Ready,
    ),
    Operation(
        path="/metrics",
        summary="Prometheus",
        means="Counters and gauges of this instance.",
        kind="text/plain; version=0.0.4; charset=utf-8",
        headers=NOW,
        errors=(400,),
    ),
    # The older names and payloads; what is new speaks /v1.
    Operation(
        path="/api/prices",
        summary="All prices, in the older shape",
        means="Assets under their lower-case names where they have one. The source is "
        "where most prices come from.",
        parameters=(parameters.NONE_MATCH,),
        errors=(503,),
        body=compat.AllPrices,
        conditional=True,
        headers=SHARED,
    ),
    Operation(
        path="/api/prices/{symbol}",
        summary="One price, in the older shape",
        means="Under the id that was asked for. cached is true when the price is old, "
        "and while nothing streams.",
        parameters=(parameters.OLDER_ID, parameters.NONE_MATCH),
        errors=(404, 429, 503),
        body=compat.OnePrice,
        conditional=True,
        headers=SHARED,
    ),
    Operation(
        path="/api/prices/bulk/{ids}",
        summary="Some prices, in the older shape",
        means="Under the ids that were asked for; ids without a price are missing.",
        parameters=(parameters.OLDER_IDS, parameters.NONE_MATCH),
        errors=(400, 429, 503),
        body=compat.Bulk,
        conditional=True,
        headers=SHARED,
    ),
    Operation(
        path="/api/prices/status/health",
        summary="How the prices are, in the older shape",
        means="disconnected: nobody reads the exchanges; reconnecting: none of them "
        "answers. The status is 200 either way.",
        body=compat.Condition,
        headers=NOW,
    ),
    Operation(
        path="/api/prices/metrics",
        summary="Counters, in the older shape",
        means="What this instance has seen since it began, or since the reset; what it "
        "has not seen is 0 or null. The hit rate counts asked ids that had a price.",
        body=compat_counts.Counted,
        headers=NOW,
    ),
    Operation(
        path="/api/prices/metrics/reset",
        method="post",
        summary="Set the older counters back",
        means="Needs a key with the scope admin. Answers the counters.",
        errors=(429,),
        body=compat_counts.Counted,
        head=False,
        headers=NOW,
    ),
    Operation(
        path="/api/market-data/health",
        summary="How the streams are, in the older shape",
        means="The circuit is closed while sources live, half-open while they are "
        "tried again, open while nobody reads them.",
        body=compat.Circuit,
        headers=NOW,
    ),
    Operation(
        path="/api/market-data/stream",
        summary="Prices as Server-Sent Events, in the older shape",
        means="One event for each pair and change, the newest known price first. price "
        "is the decimal text as a JSON number, priceText the same as text.",
        parameters=(parameters.PAIRS,),
        errors=(400, 429, 503),
        kind="text/event-stream",
        headers=STREAMED,
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
        parameters=(parameters.OLDER_ID,),
        errors=(426, 429),
        status=101,
        head=False,
    ),
)

# Pages for people, which are not part of the interface.
PAGES: Final = (
    "/",
    "/dashboard/docs.css",
    "/dashboard/door.js",
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
    401: "It needs a key, or another one; the code says why.",
    403: "The key may not, or there is none that might.",
    404: "There is no price by this id.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    426: "It is no WebSocket.",
    429: "Your address asks too often or holds too much open; Retry-After says for how "
    "long.",
    503: "There is nothing to answer with; ask again after Retry-After seconds.",
}
