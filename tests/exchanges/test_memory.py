"""An exchange that names ever more symbols fills no memory."""

import sys

import pytest

from relay.exchanges import open_adapter
from relay.exchanges.adapter import SYMBOLS_MAX, Session
from tests.exchanges.answers import settings_of

FRAMES = {
    "binance": (
        b'{"stream":"x@bookTicker","data":{"u":1,"s":"S%d","b":"1","B":"1","a":"2",'
        b'"A":"1"}}'
    ),
    "coinbase": (
        b'{"channel":"ticker","timestamp":"2026-10-01T10:00:00Z","sequence_num":0,'
        b'"events":[{"type":"update","tickers":[{"product_id":"S%d","price":"1"}]}]}'
    ),
    "coinbase-exchange": (
        b'{"type":"ticker","product_id":"S%d","trade_id":1,"price":"1"}'
    ),
    "kraken": (
        b'{"channel":"ticker","data":[{"symbol":"S%d","last":1,'
        b'"timestamp":"2026-10-01T10:00:00Z"}]}'
    ),
}


def _held(session: Session) -> int:
    """Return how much the largest thing holds that a session remembers."""
    found, waiting = 0, [vars(session)]
    while waiting:
        for value in waiting.pop().values():
            if isinstance(value, dict | set | list | tuple):
                found = max(found, len(value))
            elif type(value).__module__.startswith("relay.") and hasattr(
                value, "__dict__"
            ):
                waiting.append(vars(value))
    return found


@pytest.mark.parametrize("name", FRAMES)
def test_a_session_remembers_no_more_symbols_than_there_are(name: str) -> None:
    """Names are a stranger's text, and each was a price."""
    session = open_adapter(name, settings_of(name)).session(())
    for number in range(SYMBOLS_MAX + 10):
        (update,) = session.receive(FRAMES[name] % number, 1)
        assert update.symbol == f"S{number}"
    assert _held(session) <= SYMBOLS_MAX + 1
    assert sys.getsizeof(session.notices) < 10_000
