"""What can be done to each exchange, and what the status must say of it then.

Doing it, and looking on, is ``test_upstream_faults``'s.
"""

from typing import Any, Final, Literal

from msgspec import Struct

from tests.simulation.everyone import OWN, STREAMING

Shown = Literal["own", "second", "any"]


class Case(Struct, frozen=True, kw_only=True):
    """One fault: what is done to whom, what must be said, and who is shown meanwhile.

    ``words`` are a pattern for everybody, ``special`` those of one exchange; ``second``
    names exchanges that are not shown while it holds. ``breaches`` are what the fault
    itself has the exchange count against us.
    """

    name: str
    faults: tuple[dict[str, Any], ...]
    words: str
    to: tuple[str, ...] = tuple(OWN)
    shown: Shown = "own"
    special: dict[str, str] = {}
    second: tuple[str, ...] = ()
    breaches: frozenset[str] = frozenset()

    def said(self, exchange: str) -> str:
        """Return the words for one exchange."""
        return self.special.get(exchange, self.words)

    def source(self, exchange: str) -> str | None:
        """Return who is shown instead of an exchange, or it; None for either."""
        if self.shown == "any":
            return None
        second = self.shown == "second" or exchange in self.second
        return OWN[exchange][2] if second else exchange


def case(
    name: str,
    words: str,
    *faults: dict[str, Any],
    **more: Any,  # noqa: ANN401 - the fields of a case, which checks them itself
) -> Case:
    """Make a case."""
    return Case(name=name, words=words, faults=faults, **more)


CUT: Final[dict[str, Any]] = {"fault": "cut"}
WS: Final[dict[str, Any]] = {"transport": "ws"}
REST: Final[dict[str, Any]] = {"transport": "rest"}
# Who has nothing but REST is not shown while that does not work.
NO_STREAM: Final = ("coingecko",)
COINBASES: Final = ("coinbase", "coinbase-exchange")
_GRANTED: Final = r'"subscribed":[1-9]'
_MISREAD: Final = r'"[a-z]+: JSON is malformed[^"]*":\d+'
_LEFT_OUT: Final = "left out of the acknowledgement"

ENDING: Final = [
    case("cut", "not streaming: connection broke off", CUT, to=STREAMING),
    case(
        "cut in a frame",
        "not streaming: connection broke off",
        CUT | {"value": "mid-frame"},
        to=STREAMING,
    ),
    case(
        "closed",
        "not streaming: closed by the exchange: 1013",
        CUT | {"value": 1013},
        to=STREAMING,
    ),
    case(
        "server shutdown",
        "replacing its connection: the server is about to restart",
        {"fault": "server_shutdown", "value": 1_500},
        to=("binance",),
    ),
    case(
        "maintenance, over soon",
        "maintenance, as its status says|closed by the exchange: 1001 maintenance",
        {"fault": "maintenance"},
        to=("kraken",),
    ),
    case(
        "unauthorized, once",
        r"refuses us \(key\): the stream wants a key",
        {"fault": "unauthorized"},
        to=("coincap",),
    ),
]
"""Faults that end connections, and are over at once."""

BENT: Final = [
    case("garbage frames", _MISREAD, {"fault": "garbage"} | WS, to=STREAMING),
    case(
        "garbage bodies",
        "cannot be read: not JSON",
        {"fault": "garbage"} | REST,
        second=NO_STREAM,
    ),
    case(
        "bodies cut off",
        "cannot be read: the answer broke off|cannot be read: connection broke off",
        CUT | REST | {"for_ms": 60_000},
        second=NO_STREAM,
    ),
    case("no ack", _GRANTED, {"fault": "no_ack"}, CUT, to=STREAMING),
    case("delay", '"alive":true', {"fault": "delay", "value": 300}),
    case(
        "repeat",
        r'"repeated":\d+',
        {"fault": "repeat", "value": 2} | WS,
        to=STREAMING,
        # Nothing tells a repeated frame of CoinCap from a quiet market.
        special={"coincap": '"alive":true'},
    ),
    case(
        "reorder",
        r'"late":\d+',
        {"fault": "reorder", "value": 3} | WS,
        to=STREAMING,
        special={"coincap": '"alive":true'},
    ),
    case("gap", _GRANTED, {"fault": "gap", "value": 5} | WS, to=STREAMING),
    case(
        "clock an hour ahead",
        r'"event in the future":\d+',
        {"fault": "clock", "value": 3_600_000},
        to=("binance", "kraken", *COINBASES),
        shown="any",
    ),
]
"""Faults under which an exchange is still understood."""

LASTING: Final = [
    case(
        "garbage",
        f"{_MISREAD}.*cannot be read: not JSON",
        {"fault": "garbage"},
        shown="second",
        special={"coingecko": "cannot be read: not JSON"},
    ),
    case(
        "silence",
        "cannot be read: timed out after 1.5 s",
        {"fault": "silence"},
        shown="second",
    ),
    case(
        "refused",
        "cannot be read: connection (refused|broke off)",
        {"fault": "refuse"},
        CUT,
        shown="second",
    ),
    case(
        "429",
        "limits us by (address|key): wait 2 s",
        {"fault": "429", "retry_after_s": 2},
        CUT,
        shown="second",
    ),
    case(
        "418",
        "has banned this address: wait 2 s",
        {"fault": "418", "retry_after_s": 2},
        CUT,
        to=("binance",),
        shown="second",
    ),
    case(
        "403",
        r"refuses us \(blocked\)",
        {"fault": "403"},
        CUT,
        shown="second",
        special={"coincap": r"refuses us \(key\)"},
    ),
    case("451", r"refuses us \(blocked\)", {"fault": "451"}, CUT, shown="second"),
    case(
        "401",
        r"refuses us \(key\)",
        {"fault": "401"},
        CUT,
        to=("coincap", "coingecko"),
        shown="second",
    ),
    case("503", "cannot be read: HTTP 503", {"fault": "503"}, CUT, shown="second"),
    case(
        "maintenance",
        "maintenance, as its status says",
        {"fault": "maintenance", "for_ms": 60_000},
        to=("kraken",),
        shown="second",
    ),
    case(
        "unauthorized",
        r"refuses us \(key\): the stream wants a key",
        {"fault": "unauthorized", "for_ms": 60_000},
        to=("coincap",),
        shown="second",
    ),
    case(
        "wrong ack",
        _GRANTED,
        {"fault": "wrong_ack"},
        CUT,
        to=STREAMING,
        special={
            "kraken": '"unsupported":{".*Currency pair not supported',
            **dict.fromkeys(COINBASES, _LEFT_OUT),
        },
        shown="any",
    ),
    case(
        "not heard",
        '"state":"open",[^{}]*"subscribed":0',
        {"fault": "ignore"},
        CUT,
        to=("kraken", *COINBASES),
        shown="any",
        breaches=frozenset({"subscribe_deadline"}),
    ),
]
"""Faults that take an exchange away, for as long as they hold."""
