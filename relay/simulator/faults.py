"""What goes wrong on request, for how long or how often. Pure state.

How each fault looks on the wire is decided by ``line`` and ``server``, and by the
exchange where it is a matter of its protocol.
"""

from collections.abc import Iterator
from typing import Final, Literal, get_args

from msgspec import Struct, structs

from relay.simulator.ledger import EXCHANGES
from relay.simulator.listing import is_number

FaultName = Literal[
    "cut",  # end the connection; value: "mid-frame", or a close code
    "silence",  # the connection stays, nothing is sent; REST hangs; or one symbol only
    "garbage",  # instead of the frame or body; value: what to send
    "delay",  # by value milliseconds
    "repeat",  # each frame value times more
    "reorder",  # in groups of value frames, turned around
    "gap",  # data frames are lost after they got their number; value: each how many
    "status",  # REST and upgrades answer value: 429, 418, 451, 403, 5xx …
    "no_ack",  # subscriptions are made but not acknowledged
    "wrong_ack",  # the acknowledgement is of something else
    "ignore",  # what the client says is not heard
    "refuse",  # no new connection, neither REST nor WebSocket
    "server_shutdown",  # Binance announces and closes; value: milliseconds between
    # Kraken announces and closes; REST is unavailable; or announced only, and closed
    # after value milliseconds.
    "maintenance",
    "unauthorized",  # CoinCap's text frame that is no JSON, then a close
    "break",  # the symbol is halted or delisted
    "listing",  # a new symbol; value: {"base": …, "quote": …, "price": …}
    "clock",  # the exchange's clock is value milliseconds ahead
]

# Faults that name themselves by a status: {"fault": "429"} is {"fault": "status",
# "value": 429}.
_STATUS: Final = range(300, 600)

FaultValue = int | str | dict[str, str] | None


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault as it was asked for.

    Without ``for_ms`` and ``count`` it holds until it is taken back, except the
    faults that end connections: those strike once.
    """

    exchange: str
    fault: str
    symbol: str | None = None
    transport: Literal["rest", "ws"] | None = None
    for_ms: int | None = None
    count: int | None = None
    value: FaultValue = None
    retry_after_s: int | None = None  # of a status; absent: none is sent


class FaultInvalid(ValueError):  # named like the relay's own errors
    """What was asked for is no fault; the sentence says what was expected."""


class Standing(Struct):
    """A fault that holds now."""

    id: int
    fault: Fault
    until_ms: int | None
    left: int | None
    struck: int = 0


_ONCE: Final = frozenset({"cut", "server_shutdown", "maintenance", "unauthorized"})
_NAMES: Final = frozenset(get_args(FaultName))


def normal_fault(fault: Fault) -> Fault:
    """Check a fault and give it its plain form.

    Raises:
        FaultInvalid: the exchange or the fault is unknown, or the value misfits.
    """
    exchange = fault.exchange.replace("-", "_")
    if exchange not in EXCHANGES:
        raise FaultInvalid(
            f"exchange was {fault.exchange!r}, expected one of {', '.join(EXCHANGES)}"
        )
    fault = structs.replace(fault, exchange=exchange)
    if fault.fault.isdigit():
        fault = structs.replace(fault, fault="status", value=int(fault.fault))
    if fault.fault not in _NAMES:
        raise FaultInvalid(
            f"fault was {fault.fault!r}, expected one of {', '.join(sorted(_NAMES))}"
        )
    if fault.fault == "status" and fault.value not in _STATUS:
        raise FaultInvalid(f"value was {fault.value!r}, expected an HTTP status")
    if fault.fault in {"break", "listing"} and not fault.symbol:
        raise FaultInvalid(f"symbol was {fault.symbol!r}, expected the symbol")
    if fault.fault == "listing" and not _has_price(fault.value):
        raise FaultInvalid(
            f"value was {fault.value!r}, expected an object with a price"
        )
    return fault


def _has_price(value: FaultValue) -> bool:
    return isinstance(value, dict) and is_number(value.get("price", ""))


class Faults:
    """The faults that hold, by exchange."""

    def __init__(self) -> None:
        self._standing: dict[str, list[Standing]] = {}
        self._next_id = 1
        self.revision = 0
        """Grows whenever the set of standing faults changes."""

    def add(self, fault: Fault, now_ms: int) -> Standing:
        """Let a fault hold from now on.

        Raises:
            FaultInvalid: it is no fault.
        """
        fault = normal_fault(fault)
        once = fault.fault in _ONCE and fault.for_ms is None and fault.count is None
        if once and fault.transport == "rest":  # there is nothing open to end
            fault, once = structs.replace(fault, count=1), False
        standing = Standing(
            id=self._next_id,
            fault=fault,
            until_ms=None if fault.for_ms is None else now_ms + fault.for_ms,
            left=0 if once else fault.count,
        )
        self._next_id += 1
        if not once:
            self._standing.setdefault(fault.exchange, []).append(standing)
            self.revision += 1
        return standing

    def clear(self, exchange: str | None = None, number: int | None = None) -> int:
        """Take back all faults, those of an exchange, or one; say how many."""
        before = sum(map(len, self._standing.values()))
        for name, standing in self._standing.items():
            if exchange in {None, name}:
                standing[:] = [one for one in standing if number not in {None, one.id}]
        self._standing = {name: one for name, one in self._standing.items() if one}
        self.revision += 1
        return before - sum(map(len, self._standing.values()))

    def expire(self, now_ms: int) -> None:
        """Forget faults whose time is over or whose count is used up."""
        if not self._standing:
            return
        for name, standing in list(self._standing.items()):
            kept = [one for one in standing if _holds(one, now_ms)]
            if len(kept) != len(standing):
                self.revision += 1
                self._standing[name] = kept
                if not kept:
                    del self._standing[name]

    def all(self) -> list[Standing]:
        """Give every fault that holds."""
        return [one for standing in self._standing.values() for one in standing]

    def of(self, exchange: str) -> bool:
        """Tell quickly whether anything is wrong with an exchange at all."""
        return exchange in self._standing

    def find(
        self,
        exchange: str,
        name: str,
        now_ms: int,
        *,
        transport: str | None = None,
        symbol: str | None = None,
    ) -> Standing | None:
        """Give a fault that holds for this transport and symbol, unused."""
        for standing in self._standing.get(exchange, ()):
            fault = standing.fault
            if (
                fault.fault == name
                and fault.transport in {None, transport}
                and fault.symbol in {None, symbol}
                and _holds(standing, now_ms)
            ):
                return standing
        return None

    def take(
        self,
        exchange: str,
        name: str,
        now_ms: int,
        *,
        transport: str | None = None,
        symbol: str | None = None,
    ) -> Fault | None:
        """Give such a fault and use it up by one."""
        standing = self.find(exchange, name, now_ms, transport=transport, symbol=symbol)
        if standing is None:
            return None
        standing.struck += 1
        if standing.left is not None:
            standing.left -= 1
        return standing.fault

    def named(self, exchange: str, name: str, now_ms: int) -> Iterator[Fault]:
        """Give all faults of that name, whatever their symbols."""
        for standing in self._standing.get(exchange, ()):
            if standing.fault.fault == name and _holds(standing, now_ms):
                yield standing.fault


def _holds(standing: Standing, now_ms: int) -> bool:
    in_time = standing.until_ms is None or now_ms < standing.until_ms
    return in_time and (standing.left is None or standing.left > 0)
