"""The ASGI server on ``$PORT``: behind a streaming function URL, or in any container.

``run.sh`` starts it there. What is served stands in ``relay.delivery``.
"""

import asyncio
import gc
import signal

from functions.settings import read
from relay.clock import Clock
from relay.config import Settings, require_store
from relay.delivery.app import create_app
from relay.delivery.server import Server
from relay.hub import Hub
from relay.store.client import connect
from relay.store.keys import Keys
from relay.store.reader import Reader


async def serve(settings: Settings) -> None:
    """Serve until the platform sends SIGTERM."""
    clock = Clock()
    async with connect(settings.store, clock) as client:
        reader = Reader(client, Keys(settings.board.name))
        hub = Hub(reader, clock, settings.http, settings.ingest)
        app = create_app(settings=settings, clock=clock, client=client, hub=hub)
        server = Server(app, settings.http, drain=hub.drain)
        server.go_by(clock)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop)
        await server.run()


if __name__ == "__main__":
    loaded = read()
    require_store(loaded)
    gc.freeze()
    gc.enable()
    asyncio.run(serve(loaded))
