"""The counts: of a client and of an exchange, under names that stay."""

import msgspec

from relay.simulator.ledger import EXCHANGES, Client, Ledger
from relay.simulator.limits import RollingWindow

NAMES = {
    *("connections", "messages", "subscriptions", "requests", "refusals"),
    *("weight_spent", "credits_spent", "breaches", "breaches_total", "bans"),
    *("missed_pongs", "faults"),
}


def new_ledger() -> Ledger:
    """Open a ledger."""
    return Ledger(seed=7, started_ms=1_000)


def test_the_picture_has_the_names_that_others_read() -> None:
    """Benches and other people's tests lean on them."""
    ledger = new_ledger()
    ledger.account("binance", Client("10.0.0.1"))
    ledger.limit("binance", "weight_1m", "10.0.0.1", lambda: RollingWindow(5, 1_000))
    picture = msgspec.json.decode(msgspec.json.encode(ledger.picture(2_000)))
    assert set(picture) == {"seed", "started_ms", "now_ms", "exchanges"}
    assert tuple(picture["exchanges"]) == EXCHANGES
    binance = picture["exchanges"]["binance"]
    assert set(binance) == {"total", "clients", "limits"}
    assert set(binance["total"]) == NAMES
    assert set(binance["clients"]["10.0.0.1"]) == NAMES
    assert binance["limits"] == {
        "weight_1m": {"10.0.0.1": {"used": 0, "peak": 0, "most": 5}}
    }
    assert set(binance["total"]["connections"]) == {
        *("attempts", "refused", "opened", "open", "open_peak", "cut", "left"),
    }


def test_a_client_is_told_apart_by_instance_or_agent() -> None:
    """Limits count the address; people want to know which instance it was."""
    assert Client("10.0.0.1", "worker-1", "httpx/1").label == "10.0.0.1 worker-1"
    assert Client("10.0.0.1", "", "httpx/1").label == "10.0.0.1 httpx/1"
    ledger = new_ledger()
    ledger.account("kraken", Client("10.0.0.1", "a")).attempt()
    ledger.account("kraken", Client("10.0.0.1", "b")).attempt()
    counts = ledger.picture(0).exchanges["kraken"]
    assert counts.total.connections.attempts == 2
    assert {one.connections.attempts for one in counts.clients.values()} == {1}


def test_connections_and_subscriptions_have_a_peak() -> None:
    """One connection set for any number of instances is the claim to check."""
    ledger = new_ledger()
    account = ledger.account("coinbase", Client("10.0.0.1"))
    account.attempt()
    account.open()
    account.open()
    account.close(by_exchange=True)
    account.close(by_exchange=False)
    account.attempt()
    account.refuse()
    account.subscribe(5, duplicate=1, unknown=1)
    account.unsubscribe(2)
    total = ledger.picture(0).exchanges["coinbase"].total
    connections = total.connections
    assert (connections.attempts, connections.refused) == (2, 1)
    assert (connections.opened, connections.open, connections.open_peak) == (2, 0, 2)
    assert (connections.cut, connections.left) == (1, 1)
    assert (total.subscriptions.open, total.subscriptions.open_peak) == (1, 3)


def test_earned_and_injected_refusals_are_kept_apart() -> None:
    """A test fails for an earned one and asked for the other."""
    ledger = new_ledger()
    account = ledger.account("binance", Client("10.0.0.1"))
    account.earn(429)
    account.inject("status", 429)
    account.inject("cut")
    account.breach("weight")
    account.ban()
    account.miss_pong()
    account.weigh(80)
    account.charge(3)
    account.receive()
    account.send(2, 100)
    account.request("/x", 200, 10)
    total = ledger.picture(0).exchanges["binance"].total
    assert total.refusals.earned == total.refusals.injected == {"429": 1}
    assert total.faults == {"status": 1, "cut": 1}
    assert total.breaches == {"weight": 1}
    assert (total.breaches_total, total.bans, total.missed_pongs) == (1, 1, 1)
    assert (total.weight_spent, total.credits_spent) == (80, 3)
    assert (total.messages.received, total.messages.sent) == (1, 2)
    assert total.requests.by_path == {"/x": 1}


def test_counting_anew_keeps_what_is_open() -> None:
    """A bench resets between runs while connections stay."""
    ledger = new_ledger()
    account = ledger.account("kraken", Client("10.0.0.1"))
    account.open()
    account.subscribe(3, duplicate=0, unknown=0)
    account.breach("requests")
    ledger.reset()
    total = ledger.picture(0).exchanges["kraken"].total
    assert (total.connections.opened, total.connections.open) == (0, 1)
    assert (total.subscriptions.asked, total.subscriptions.open) == (0, 3)
    assert total.breaches == {}


def test_a_flood_of_clients_shares_one_line() -> None:
    """Everything has a limit, the page as well."""
    ledger = new_ledger()
    for number in range(600):
        ledger.account("binance", Client("10.0.0.1", f"i{number}")).attempt()
    clients = ledger.picture(0).exchanges["binance"].clients
    assert len(clients) == 501
    assert clients["others"].connections.attempts == 100
