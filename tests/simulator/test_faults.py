"""Faults on request: whom they hold for, how long, how often."""

from typing import get_args

import pytest

from relay.simulator.faults import Fault, FaultInvalid, FaultName, Faults, normal_fault


def fault(name: str, **details: object) -> Fault:
    """Ask for a fault of Binance."""
    return Fault(exchange="binance", fault=name, **details)  # type: ignore[arg-type]


def test_a_fault_holds_for_its_time() -> None:
    """And is forgotten afterwards."""
    faults = Faults()
    faults.add(fault("silence", for_ms=1_000), 0)
    assert faults.find("binance", "silence", 999)
    assert not faults.find("binance", "silence", 1_000)
    faults.expire(1_000)
    assert not faults.of("binance")
    assert faults.all() == []


def test_a_fault_strikes_so_often() -> None:
    """Each taking uses it up by one."""
    faults = Faults()
    faults.add(fault("garbage", count=2), 0)
    taken = [faults.take("binance", "garbage", 0) is not None for _ in range(3)]
    assert taken == [True, True, False]


def test_a_fault_without_time_or_count_holds_until_it_is_taken_back() -> None:
    """By all, by exchange, or by its number."""
    faults = Faults()
    first = faults.add(fault("delay", value=5), 0)
    faults.add(fault("repeat"), 0)
    faults.add(Fault(exchange="kraken", fault="delay"), 0)
    assert faults.find("binance", "delay", 10**12)
    assert faults.clear(number=first.id) == 1
    assert not faults.find("binance", "delay", 0)
    assert faults.clear("kraken") == 1
    assert faults.clear() == 1
    assert faults.clear() == 0


@pytest.mark.parametrize(
    "name", ["cut", "server_shutdown", "maintenance", "unauthorized"]
)
def test_what_ends_connections_strikes_once(name: str) -> None:
    """Unless it was asked to go on."""
    faults = Faults()
    assert faults.add(fault(name), 0).left == 0
    assert not faults.of("binance")
    faults.add(fault(name, for_ms=10), 0)
    assert faults.of("binance")


def test_a_fault_concerns_its_symbol_and_transport() -> None:
    """And everything, when it names neither."""
    faults = Faults()
    faults.add(fault("delay", symbol="BTCUSDT", transport="ws"), 0)
    assert faults.find("binance", "delay", 0, transport="ws", symbol="BTCUSDT")
    assert not faults.find("binance", "delay", 0, transport="ws", symbol="ETHUSDT")
    assert not faults.find("binance", "delay", 0, transport="rest", symbol="BTCUSDT")
    assert not faults.find("binance", "delay", 0, transport="ws")
    assert [one.symbol for one in faults.named("binance", "delay", 0)] == ["BTCUSDT"]
    faults.add(fault("gap"), 0)
    assert faults.find("binance", "gap", 0, transport="ws", symbol="ETHUSDT")


def test_the_revision_tells_that_something_changed() -> None:
    """Exchanges look at the list only then."""
    faults = Faults()
    seen = [faults.revision]
    faults.add(fault("break", symbol="BTCUSDT", for_ms=1), 0)
    seen.append(faults.revision)
    faults.expire(1)
    seen.append(faults.revision)
    assert len(set(seen)) == 3


@pytest.mark.parametrize("status", ["429", "418", "451", "403", "503"])
def test_a_status_names_a_fault_by_itself(status: str) -> None:
    """It is shorter to write."""
    normal = normal_fault(fault(status))
    assert (normal.fault, normal.value) == ("status", int(status))


def test_an_exchange_may_be_written_with_a_hyphen() -> None:
    """As in its path."""
    plain = normal_fault(Fault(exchange="coinbase-exchange", fault="cut"))
    assert plain.exchange == "coinbase_exchange"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Fault(exchange="mtgox", fault="cut"), "exchange was 'mtgox'"),
        (fault("implode"), "fault was 'implode'"),
        (fault("status", value=200), "value was 200"),
        (fault("999"), "value was 999"),
        (fault("break"), "symbol was None"),
        (fault("listing", symbol="X"), "value was None"),
    ],
)
def test_what_is_no_fault_says_what_was_expected(wrong: Fault, said: str) -> None:
    """A test that misspells a fault must not pass for want of it."""
    with pytest.raises(FaultInvalid, match=said):
        Faults().add(wrong, 0)


def test_every_fault_has_a_name() -> None:
    """The list is what the page and the documents offer."""
    for name in get_args(FaultName):
        value = {"price": "1"} if name == "listing" else 500
        assert normal_fault(fault(name, symbol="X", value=value)).fault == name


def test_a_cut_of_rest_waits_for_the_next_request() -> None:
    """There is nothing open that could be ended at once."""
    faults = Faults()
    standing = faults.add(fault("cut", transport="rest"), 0)
    assert standing.left == 1
    assert faults.take("binance", "cut", 0, transport="rest")
    assert not faults.take("binance", "cut", 0, transport="rest")
