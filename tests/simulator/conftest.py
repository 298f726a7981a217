"""Exchanges for the simulator's tests: without sockets, and on a port."""

from collections.abc import AsyncIterator

import pytest

from tests.simulator.driver import Bench, Port, running


@pytest.fixture
def bench() -> Bench:
    """Give every exchange without a socket."""
    return Bench()


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    """Give a running simulator whose time the test moves."""
    async with running() as open_port:
        yield open_port
