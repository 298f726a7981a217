"""The client in Python: read, poll or follow a relay's prices.

Usable without the rest of the relay: it imports nothing of it but the nouns and the
root of the errors.

::

    from relay.client import Client

    with Client("http://127.0.0.1:8000") as relay:
        prices = relay.get("BTC-USD,ETH-USD")
        print(prices["BTC-USD"].price, prices["BTC-USD"].decimal())
        with relay.stream(["BTC-USD"]) as feed:
            for prices in feed:
                print(feed.state, prices["BTC-USD"].price)

``AsyncClient`` is the same with ``await``, ``async with`` and ``async for``.
"""

from relay.client.asynchronous import AsyncClient, AsyncFeed
from relay.client.errors import ClientError, Refused, Unavailable, Unreachable
from relay.client.follow import Pacing, State, Way
from relay.client.prices import Prices, Ticker
from relay.client.status import Status
from relay.client.synchronous import Client, Feed

__all__ = [
    "AsyncClient",
    "AsyncFeed",
    "Client",
    "ClientError",
    "Feed",
    "Pacing",
    "Prices",
    "Refused",
    "State",
    "Status",
    "Ticker",
    "Unavailable",
    "Unreachable",
    "Way",
]
