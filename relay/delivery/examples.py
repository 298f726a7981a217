"""Bodies as they are answered, for those who read the description.

Pure. A test holds each against its schema, and the codes against those we answer.
"""

from collections.abc import Mapping
from typing import Any, Final

from relay.delivery import compat, compat_counts
from relay.delivery.bodies import Alive, Fault, Points, Prices, Ready
from relay.delivery.status import Page
from relay.delivery.symbols import Table
from relay.delivery.ticket import Ticket
from relay.delivery.value import Portfolio, Worth

_CURSOR: Final = "k3f9.7qx.1763635200123"
_AT_MS: Final = 1763635200123
_TICKER: Final = {
    "price": "61000.12",
    "bid": "61000.11",
    "ask": "61000.12",
    "change_24h_pct": "-1.25",
    "high_24h": "62000",
    "low_24h": "60000",
    "volume_24h": "9000.5",
    "source": "coinbase",
    "event_ms": 1763635200101,
    "received_ms": 1763635200119,
    "offset": _AT_MS,
}
_PRICES: Final = {
    "cursor": _CURSOR,
    "as_of_ms": _AT_MS,
    "live": True,
    "prices": {"BTC-USD": _TICKER},
    "missing": ["FOO-USD"],
    "gone": [],
}
_NOTHING_NEW: Final = {
    **_PRICES,
    "cursor": f"{_CURSOR}~1cgq9k",
    "prices": {},
    "missing": [],
}
_STALE: Final = {
    **_PRICES,
    "cursor": f"{_CURSOR}~dr",
    "live": False,
    "prices": {"BTC-USD": {**_TICKER, "stale": True}},
    "missing": [],
    "reset": True,
}
_INSTANT: Final = "2026-01-16T05:00:00.000Z"
_PAGE: Final = {
    "instance": {
        "id": "9f2c1e",
        "now_ms": _AT_MS,
        "version": "0.1.0",
        "uptime_ms": 3600000,
        "live": True,
        "ready": True,
        "epoch": "k3f9",
        "offset": _AT_MS,
        "mark": 1763635200,
        "mark_age_ms": 412,
        "clients": {"poll": 12, "sse": 340},
        "counts": {"deliveries": 91000, "encoded": 5400, "stalled": 0},
    },
    "board": {"name": "spot", "instruments": 42, "stale": 0, "removed": 0},
    "store": "reachable",
    "leader": {
        "alive": True,
        "holder": "h-8d41",
        "token": 17,
        "epoch": "k3f9",
        "offset": _AT_MS,
        "floor": 0,
    },
    "sources": {
        "coinbase": {
            "alive": True,
            "state": "alive",
            "age_ms": 120,
            "reason": "",
            "shown": 42,
        }
    },
    "streams": {
        "coinbase": [{"state": "open", "since_ms": 1763635100000, "error": ""}],
    },
    "budgets": {},
    "circuits": {},
    "instruments": {},
    "refused": {},
    "unsupported": {},
    "events": [],
    "off": {},
}

BODIES: Final[Mapping[type, Mapping[str, Any]]] = {
    Prices: {
        "prices": _PRICES,
        "nothing_new": _NOTHING_NEW,
        "everything_anew_and_old": _STALE,
    },
    Ticket: {
        "ticket": {
            "ticket": "rt_page.lq3k9f2a.0f4c2f9e0d5b4d1c8c3e7a1b2f6d9e80",
            "expires_ms": 1763635260123,
        }
    },
    Points: {
        "points": {
            "symbol": "BTC-USD",
            "points": [[1763635190000, "60990"], [1763635200000, "61000.12"]],
        }
    },
    Table: {
        "symbols": {
            "symbols": {"BTC-USD": ["coinbase", "kraken"]},
            "core": ["BTC-USD"],
            "lists": {"majors": ["BTC-USD", "ETH-USD"]},
            "names": {"bitcoin": "BTC-USD"},
        }
    },
    Worth: {
        "worth": {
            "value": "30500.06",
            "quote": "USD",
            "holdings": {
                "BTC-USD": {"amount": "0.5", "price": "61000.12", "value": "30500.06"}
            },
            "missing": ["FOO-USD"],
            "as_of_ms": _AT_MS,
            "cursor": _CURSOR,
            "live": True,
        }
    },
    Portfolio: {"portfolio": {"holdings": {"BTC-USD": "0.5", "ETH-USD": 2}}},
    Page: {"status": _PAGE},
    Alive: {"alive": {"alive": True}},
    Ready: {"ready": {"ready": True}},
    compat.AllPrices: {
        "all": {
            "prices": {"bitcoin": "45000.50"},
            "timestamp": _INSTANT,
            "source": "coincap",
            "count": 1,
        }
    },
    compat.OnePrice: {
        "one": {
            "symbol": "bitcoin",
            "price": "45000.50",
            "source": "coincap",
            "timestamp": _INSTANT,
            "cached": False,
        }
    },
    compat.Bulk: {
        "some": {
            "prices": {"btc": "45000.50", "eth": "3000"},
            "missing": ["nothing"],
            "timestamp": _INSTANT,
        }
    },
    compat.Condition: {
        "connected": {
            "healthy": True,
            "state": "connected",
            "source": "coincap",
            "prices_cached": 1247,
        }
    },
    compat.Circuit: {
        "closed": {
            "state": "connected",
            "source": "binance",
            "activeConnections": 340,
            "circuitState": "closed",
            "newestPriceAgeMs": 180,
        }
    },
    compat_counts.Counted: {
        "counted": {
            "updates": {
                "total": 125647,
                "per_second": 12.5,
                "last_timestamp": "2026-01-16T05:00:00Z",
            },
            "connections": {
                "total": 3,
                "reconnect_attempts": 1,
                "last_connected": "2026-01-16T05:00:00Z",
                "last_duration_seconds": 3600,
            },
            "errors": {
                "total": 2,
                "recent": [["CONNECTION_RESET", "Timeout", "2026-01-16T04:59:00Z"]],
            },
            "performance": {
                "avg_processing_time_ms": 0.234,
                "cache_hit_rate_percent": 99.87,
            },
        }
    },
}
"""Examples of each body, by a name."""

TEXTS: Final[Mapping[str, str]] = {
    "/v1/stream": (
        f":\nretry: 1000\n\nid: {_CURSOR}\n"
        f'data: {{"cursor":"{_CURSOR}","as_of_ms":{_AT_MS},"live":true,'
        '"prices":{"BTC-USD":{"price":"61000.12","source":"coinbase",'
        f'"offset":{_AT_MS}}}}},"missing":[],"gone":[]}}\n\n'
        'event: status\ndata: {"sources":{"coinbase":true,"kraken":false}}\n\n'
    ),
    "/api/market-data/stream": (
        ':\nretry: 1000\n\ndata: {"pair":"BTC/USD","price":45000.50,'
        '"priceText":"45000.50","timestamp":1768539600000,"source":"binance",'
        '"cached":false}\n\n'
    ),
    "/v1/ws": (
        '{"type":"subscribe","symbols":["BTC-USD"],"fields":["price"]}\n'
        f'{{"type":"update","cursor":"{_CURSOR}","as_of_ms":{_AT_MS},"live":true,'
        f'"prices":{{"BTC-USD":{{"price":"61000.12","offset":{_AT_MS}}}}},'
        '"missing":[],"gone":[]}\n'
        '{"type":"unsubscribe","symbols":["BTC-USD"]}\n'
        f'{{"type":"resume","cursor":"{_CURSOR}","list":"majors"}}\n'
        '{"type":"ping"}\n{"type":"pong"}\n'
    ),
    "/ws/prices": (
        f'{{"type":"connection","status":"connected","timestamp":"{_INSTANT}"}}\n'
        '{"type":"price_update","prices":{"bitcoin":"45000.50"},'
        f'"timestamp":"{_INSTANT}","source":"coincap"}}\n'
        '{"type":"status","state":"connected","source":"coincap",'
        f'"prices_cached":1247,"timestamp":"{_INSTANT}"}}\nping\npong\n'
    ),
    "/metrics": (
        "# HELP relay_ready 1 while the instance can serve.\n"
        "# TYPE relay_ready gauge\nrelay_ready 1.0\n"
    ),
}
"""The beginning of an answer that is not JSON, by its route."""

_AGAIN: Final = "Ask again after Retry-After seconds."
_ELSEWHERE: Final = "Ask another instance, or this one again after Retry-After seconds."
_LESS: Final = "Ask less often, or again after Retry-After seconds."
_HOW: Final = (
    "Send a key as Authorization: Bearer or X-API-Key, or a ticket as Authorization: "
    "Bearer. Streams and WebSockets of browsers take ?ticket=, from POST /v1/ticket."
)
_ANOTHER: Final = "Get another with POST /v1/ticket, and open a new stream with it."

FAULTS: Final[Mapping[int, tuple[Fault, ...]]] = {
    400: (
        Fault(
            "query_invalid",
            "There is no parameter 'symbol' here.",
            "Leave it out; known are: symbols, list, fields, cursor.",
        ),
        Fault(
            "selection_invalid",
            "'BTC USD' is not an instrument.",
            "Write base and quote, for example BTC-USD.",
        ),
        Fault(
            "cursor_invalid",
            "'nonsense' is not a cursor.",
            "Leave it out to be answered with everything.",
        ),
        Fault(
            "holdings_invalid",
            "The amount 'two' is not a plain number.",
            "Write holdings=BTC-USD:0.5,ETH-USD:2.",
        ),
        Fault(
            "quotes_differ",
            "The holdings are quoted in EUR and USD.",
            "Ask for one quote currency at a time.",
        ),
        Fault(
            "key_in_url",
            "A key was sent in the URL, where logs and histories keep it.",
            "Take this key out of use, and send its successor in a header.",
        ),
        Fault("body_cut", "The body ended too early.", "Send it again."),
        Fault(
            "request_malformed",
            "What was sent is no HTTP request.",
            "Percent-encode the URL, and send one of the methods that /docs names.",
        ),
        Fault("request_invalid", "The request cannot be read.", "See /docs."),
    ),
    401: (
        Fault("key_missing", "This needs a key.", _HOW),
        Fault("key_unknown", "This key is not known here.", _HOW),
        Fault("ticket_invalid", "This is no ticket of ours.", _ANOTHER),
        Fault("ticket_expired", "This ticket has expired.", _ANOTHER),
    ),
    403: (
        Fault(
            "scope_missing",
            "This needs a key with the scope admin, which yours has not.",
            "Ask whoever runs this relay for one that has it.",
        ),
        Fault(
            "forbidden",
            "This needs a key with the scope admin, and there is none.",
            "Whoever runs this relay makes one with relay key new.",
        ),
    ),
    404: (
        Fault(
            "price_unknown",
            "There is no price of 'nothing'.",
            "See /v1/symbols for what exists; what nobody has asked for lately has "
            "one a few seconds after it was asked for.",
        ),
        Fault("not_found", "There is nothing at this address.", "See /docs."),
    ),
    405: (
        Fault(
            "method_not_allowed",
            "This address does not take this method.",
            "The Allow header says which it takes.",
        ),
    ),
    413: (
        Fault("body_too_large", "The body is too large.", "Send at most 65536 bytes."),
    ),
    414: (
        Fault(
            "url_too_long",
            "The URL is longer than 65535 bytes.",
            "Ask for less at once, or for a list.",
        ),
    ),
    415: (
        Fault(
            "media_type",
            "The body is not marked as JSON.",
            "Send it with Content-Type: application/json.",
        ),
    ),
    426: (
        Fault(
            "upgrade_required",
            "This address speaks WebSocket.",
            "Open it with a WebSocket client.",
        ),
    ),
    429: (
        Fault("rate", "Your address may send 100 requests in 10000 ms.", _LESS),
        Fault("crowd", "Your address holds 100 answers open, all it may.", _LESS),
    ),
    431: (
        Fault(
            "head_too_large",
            "The head of the request is too large.",
            "Send fewer headers, or smaller cookies.",
        ),
    ),
    500: (Fault("internal", "Something went wrong here.", "Ask again in a moment."),),
    503: (
        Fault("behind", "This instance has not caught up with the store.", _ELSEWHERE),
        Fault("busy", "This instance serves as many clients as it may.", _ELSEWHERE),
        Fault("draining", "This instance is about to end.", _ELSEWHERE),
        Fault("not_ready", "This instance has no prices to serve.", _ELSEWHERE),
        Fault(
            "store_down",
            "The store cannot be reached, and nothing is held here.",
            _AGAIN,
        ),
        Fault("edge_down", "No instance answers.", _AGAIN),
    ),
}
"""What may be wrong, by the status that it is answered with."""

MESSAGES: Final = (
    Fault(
        "message_invalid",
        "The message cannot be understood: JSON is malformed.",
        "Send an object whose type is subscribe, resume, unsubscribe or ping.",
    ),
)
"""What else may be wrong with what is said over a WebSocket."""
