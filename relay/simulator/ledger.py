"""What each client did, as the exchanges would count it. Pure: the time is told.

Its picture is what ``GET /_sim/counts`` answers; other people's tests lean on the
names here, so they stay. The rules of a breach are each exchange's own.
"""

from collections.abc import Callable
from typing import Final

from msgspec import Struct, field

from relay.simulator.limits import Limit

EXCHANGES: Final = (
    "binance",
    "coinbase",
    "coinbase_exchange",
    "kraken",
    "coincap",
    "coingecko",
)


class Client(Struct, frozen=True):
    """Who asked: the limits see the address, the counts the rest as well."""

    address: str
    instance: str = ""  # the header X-Relay-Instance, if sent
    agent: str = ""  # the product in User-Agent

    @property
    def label(self) -> str:
        """Name the client in the counts."""
        return f"{self.address} {self.instance or self.agent}".strip()


class Connections(Struct):
    """WebSocket connections."""

    attempts: int = 0  # upgrades asked for
    refused: int = 0  # … and not granted
    opened: int = 0
    open: int = 0  # now
    open_peak: int = 0
    cut: int = 0  # ended by the exchange, for whatever reason
    left: int = 0  # ended by the client


class Messages(Struct):
    """Text, ping and pong frames, from the client and to it."""

    received: int = 0
    sent: int = 0
    sent_bytes: int = 0


class Subscriptions(Struct):
    """Streams, or products and symbols of a channel."""

    asked: int = 0
    open: int = 0  # now
    open_peak: int = 0
    duplicate: int = 0  # asked for again on the same connection
    unknown: int = 0  # of a symbol or channel that does not exist


class Requests(Struct):
    """REST."""

    total: int = 0
    by_path: dict[str, int] = field(default_factory=dict)
    by_status: dict[str, int] = field(default_factory=dict)
    sent_bytes: int = 0


class Refusals(Struct):
    """Answers that said stop: earned by a breach, or injected as a fault."""

    earned: dict[str, int] = field(default_factory=dict)
    injected: dict[str, int] = field(default_factory=dict)


class Counts(Struct):
    """Everything counted of one client, or of all clients of an exchange."""

    connections: Connections = field(default_factory=Connections)
    messages: Messages = field(default_factory=Messages)
    subscriptions: Subscriptions = field(default_factory=Subscriptions)
    requests: Requests = field(default_factory=Requests)
    refusals: Refusals = field(default_factory=Refusals)
    weight_spent: int = 0
    credits_spent: int = 0
    breaches: dict[str, int] = field(default_factory=dict)
    breaches_total: int = 0
    bans: int = 0
    missed_pongs: int = 0
    faults: dict[str, int] = field(default_factory=dict)  # injected, by name


def _bump(table: dict[str, int], key: str, by: int = 1) -> None:
    table[key] = table.get(key, 0) + by


class Account:
    """One client's counts and the exchange's, written together."""

    def __init__(self, client: Client, *counts: Counts) -> None:
        self.client = client
        self._counts = counts

    def attempt(self) -> None:
        """Count an upgrade that was asked for."""
        for counts in self._counts:
            counts.connections.attempts += 1

    def refuse(self) -> None:
        """Count an upgrade that was not granted."""
        for counts in self._counts:
            counts.connections.refused += 1

    def open(self) -> None:
        """Count a connection that opened."""
        for counts in self._counts:
            connections = counts.connections
            connections.opened += 1
            connections.open += 1
            connections.open_peak = max(connections.open_peak, connections.open)

    def close(self, *, by_exchange: bool) -> None:
        """Count a connection that ended."""
        for counts in self._counts:
            counts.connections.open -= 1
            if by_exchange:
                counts.connections.cut += 1
            else:
                counts.connections.left += 1

    def receive(self) -> None:
        """Count a frame from the client."""
        for counts in self._counts:
            counts.messages.received += 1

    def send(self, frames: int, size: int) -> None:
        """Count frames to the client and their bytes."""
        for counts in self._counts:
            counts.messages.sent += frames
            counts.messages.sent_bytes += size

    def subscribe(self, asked: int, *, duplicate: int, unknown: int) -> None:
        """Count what a subscription asked for and what of it was in vain."""
        for counts in self._counts:
            subscriptions = counts.subscriptions
            subscriptions.asked += asked
            subscriptions.duplicate += duplicate
            subscriptions.unknown += unknown
            subscriptions.open += asked - duplicate - unknown
            subscriptions.open_peak = max(subscriptions.open_peak, subscriptions.open)

    def unsubscribe(self, number: int) -> None:
        """Count subscriptions that ended."""
        for counts in self._counts:
            counts.subscriptions.open -= number

    def request(self, path: str, status: int, size: int) -> None:
        """Count an answered REST request."""
        for counts in self._counts:
            counts.requests.total += 1
            counts.requests.sent_bytes += size
            _bump(counts.requests.by_path, path)
            _bump(counts.requests.by_status, str(status))

    def weigh(self, weight: int) -> None:
        """Count weight."""
        for counts in self._counts:
            counts.weight_spent += weight

    def charge(self, credits_spent: int) -> None:
        """Count credits."""
        for counts in self._counts:
            counts.credits_spent += credits_spent

    def breach(self, limit: str) -> None:
        """Count that a limit was passed."""
        for counts in self._counts:
            _bump(counts.breaches, limit)
            counts.breaches_total += 1

    def earn(self, status: int) -> None:
        """Count a refusal that a breach deserved."""
        for counts in self._counts:
            _bump(counts.refusals.earned, str(status))

    def inject(self, fault: str, status: int | None = None) -> None:
        """Count a fault, and the refusal it was if it was one."""
        for counts in self._counts:
            _bump(counts.faults, fault)
            if status is not None:
                _bump(counts.refusals.injected, str(status))

    def ban(self) -> None:
        """Count a ban."""
        for counts in self._counts:
            counts.bans += 1

    def miss_pong(self) -> None:
        """Count a connection that was cut for want of a pong."""
        for counts in self._counts:
            counts.missed_pongs += 1


class LimitCount(Struct):
    """One limit of one scope: an address or a key."""

    used: int
    peak: int
    most: int


class ExchangeCounts(Struct):
    """One exchange in the picture."""

    total: Counts
    clients: dict[str, Counts]
    limits: dict[str, dict[str, LimitCount]]  # limit → scope → count


class Picture(Struct):
    """All that was counted, at one moment."""

    seed: int
    started_ms: int
    now_ms: int
    exchanges: dict[str, ExchangeCounts]


# Clients told apart in the counts of one exchange; later ones share one line.
_CLIENTS_MOST: Final = 500


class Ledger:
    """The counts of all exchanges and the limits of all scopes."""

    def __init__(self, *, seed: int, started_ms: int) -> None:
        self._seed = seed
        self._started_ms = started_ms
        self._total: dict[str, Counts] = {name: Counts() for name in EXCHANGES}
        self._clients: dict[str, dict[str, Counts]] = {name: {} for name in EXCHANGES}
        self._limits: dict[str, dict[str, dict[str, Limit]]] = {
            name: {} for name in EXCHANGES
        }

    def account(self, exchange: str, client: Client) -> Account:
        """Give the account a client has at an exchange."""
        clients = self._clients[exchange]
        label = client.label
        if label not in clients and len(clients) >= _CLIENTS_MOST:
            label = "others"
        counts = clients.setdefault(label, Counts())
        return Account(client, self._total[exchange], counts)

    def limit(
        self, exchange: str, name: str, scope: str, make: Callable[[], Limit]
    ) -> Limit:
        """Give the limit of that name for an address or key, made at first use."""
        scopes = self._limits[exchange].setdefault(name, {})
        if scope not in scopes:
            scopes[scope] = make()
        return scopes[scope]

    def reset(self) -> None:
        """Forget counts that were summed up; what is open and limited stays."""
        for exchange in EXCHANGES:
            _reset(self._total[exchange])
            for counts in self._clients[exchange].values():
                _reset(counts)

    def picture(self, now_ms: int) -> Picture:
        """Give everything counted so far."""
        return Picture(
            seed=self._seed,
            started_ms=self._started_ms,
            now_ms=now_ms,
            exchanges={name: self._picture(name, now_ms) for name in EXCHANGES},
        )

    def _picture(self, exchange: str, now_ms: int) -> ExchangeCounts:
        limits = {
            name: {
                scope: LimitCount(limit.used(now_ms), limit.peak, limit.most)
                for scope, limit in scopes.items()
            }
            for name, scopes in self._limits[exchange].items()
        }
        return ExchangeCounts(
            self._total[exchange], dict(self._clients[exchange]), limits
        )


def _reset(counts: Counts) -> None:
    open_now, subscribed = counts.connections.open, counts.subscriptions.open
    fresh = Counts()
    for name in counts.__struct_fields__:
        setattr(counts, name, getattr(fresh, name))
    counts.connections.open = counts.connections.open_peak = open_now
    counts.subscriptions.open = counts.subscriptions.open_peak = subscribed
