"""Both clients against a real relay: stopped, started again, and badly treated."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from relay.client import (
    AsyncClient,
    Client,
    Feed,
    Pacing,
    Prices,
    Refused,
    Unavailable,
    Unreachable,
    Way,
)
from relay.config import Settings
from relay.store import client as store
from relay.store.keys import Keys
from tests.client.stand import Harm, Market, Proxy, serving_at
from tests.delivery.serving import Leader
from tests.harness import eventually, open_client

TRIO = ["BTC-USD", "ETH-USD", "SOL-USD"]
QUICK = Pacing(pause_min_s=0.02, pause_max_s=0.1, silent_s=1, wait_s=5, polls=2)


class Stage:
    """A market, the store it is published in, and where to serve it."""

    def __init__(
        self, client: store.Client, keys: Keys, settings: Settings, port: int
    ) -> None:
        self._parts = client, keys, settings
        self.market = Market(Leader(client, keys))
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Run an instance, always at the same address."""
        async with serving_at(*self._parts, self.port) as url:
            yield url


@pytest.fixture
async def stage(
    client: store.Client, keys: Keys, settings: Settings, free_tcp_port: int
) -> AsyncIterator[Stage]:
    """Return a stage whose market moves."""
    stage = Stage(client, keys, settings, free_tcp_port)
    async with stage.market.running():
        yield stage


class Reader:
    """Reads a feed to its end, and remembers what must never be."""

    def __init__(self) -> None:
        self.seen: list[Prices] = []
        self.back: list[str] = []

    @property
    def newest(self) -> Prices:
        """What was read last."""
        return self.seen[-1]

    def take(self, prices: Prices) -> None:
        """Compare with what was there before."""
        for name, ticker in prices.items():
            held = self.newest.get(name) if self.seen else None
            if held is not None and held.offset > ticker.offset:
                self.back.append(f"{name}: {held.price} then {ticker.price}")
        self.seen.append(prices)

    async def read(self, client: AsyncClient) -> None:
        """Read for ever."""
        async with client.stream(TRIO) as feed:
            async for prices in feed:
                self.take(prices)

    def read_blocking(self, feed: Feed) -> None:
        """Read until the feed is closed."""
        for prices in feed:
            self.take(prices)

    async def shows(self, **prices: str) -> None:
        """Wait until these are the newest prices."""
        wanted = {name.replace("_", "-"): price for name, price in prices.items()}
        await eventually(
            lambda: (
                bool(self.seen)
                and all(
                    name in self.newest and self.newest[name].price == price
                    for name, price in wanted.items()
                )
            )
        )

    async def goes_on(self) -> None:
        """Wait until more has come."""
        count = len(self.seen)
        await eventually(lambda: len(self.seen) > count + 2)


async def test_a_read_returns_what_is_now(stage: Stage) -> None:
    """Typed, digit for digit, and a number where one is asked for."""
    async with stage.serving() as url, AsyncClient(url) as client:
        prices = await client.get("ETH-USD,FOO-USD")
        assert prices["ETH-USD"].price == "2000.0"
        assert prices["ETH-USD"].decimal() == Decimal("2000.0")
        assert prices.missing == ("FOO-USD",)
        assert prices.live
        assert set(await client.get()) >= set(TRIO)
        small = await client.get(["ETH-USD"], fields=["price"])
        assert small["ETH-USD"].event_ms == 0


async def test_a_job_goes_on_from_the_cursor_it_has_kept(
    stage: Stage, tmp_path: Path
) -> None:
    """In another process, a minute later."""
    kept = tmp_path / "cursor"
    async with stage.serving() as url:
        async with AsyncClient(url) as client:
            kept.write_text((await client.get("ETH-USD,SOL-USD")).cursor)
        stage.market.say(SOL_USD="31.5")
        async with AsyncClient(url) as client:
            news = await client.poll("SOL-USD,ETH-USD", since=kept.read_text())
    assert {name: one.price for name, one in news.items()} == {"SOL-USD": "31.5"}


async def test_a_poll_waits_for_a_change_and_keeps_the_rest(stage: Stage) -> None:
    """Prices that are handed in are brought up to date."""
    async with stage.serving() as url, AsyncClient(url) as client:
        held = await client.poll("ETH-USD,SOL-USD")
        stage.market.say(ETH_USD="2001.0")
        after = await client.poll("ETH-USD,SOL-USD", since=held)
        assert after.changed == ("ETH-USD",)
        assert (after["ETH-USD"].price, after["SOL-USD"].price) == ("2001.0", "30.0")


@pytest.mark.parametrize("way", ["stream", "poll"])
async def test_a_server_that_is_stopped_and_started_costs_no_news(
    stage: Stage, way: Way
) -> None:
    """What changed meanwhile comes, nothing steps back, nothing comes twice."""
    reader = Reader()
    async with (
        AsyncClient(stage.url, way=way, pacing=QUICK) as client,
        asyncio.TaskGroup() as tasks,
    ):
        async with stage.serving():
            reading = tasks.create_task(reader.read(client))
            await reader.shows(ETH_USD="2000.0")
        before = len(reader.seen)
        stage.market.say(ETH_USD="2002.5")
        async with stage.serving():
            await reader.shows(ETH_USD="2002.5")
            await reader.goes_on()
            counted = [int(float(one["BTC-USD"].price)) for one in reader.seen]
            reading.cancel()
    assert reader.back == []
    assert counted == sorted(counted)
    assert not any(one.reset for one in reader.seen)
    # The cursor came along: what had not changed was not sent again.
    assert not any("SOL-USD" in one.changed for one in reader.seen[before:])


async def test_a_line_that_breaks_in_the_middle_of_an_event_costs_no_news(
    stage: Stage,
) -> None:
    """Half an event is no event; the next connection brings the whole one."""
    reader = Reader()
    proxy = Proxy(stage.port)
    proxy.harm = Harm(cuts_after=1500)
    async with (
        stage.serving(),
        proxy.running(),
        AsyncClient(proxy.url, way="stream", pacing=QUICK) as client,
        asyncio.TaskGroup() as tasks,
    ):
        reading = tasks.create_task(reader.read(client))
        await reader.shows(ETH_USD="2000.0")
        await eventually(lambda: len(proxy.paths) > 3)
        stage.market.say(ETH_USD="2003.0")
        await reader.shows(ETH_USD="2003.0")
        reading.cancel()
    assert reader.back == []


@pytest.mark.parametrize("harm", [Harm(refuses=True), Harm(holds=True)])
async def test_where_streams_cannot_pass_it_polls_and_streams_again_later(
    stage: Stage, harm: Harm
) -> None:
    """Without being told, and without a gap."""
    reader = Reader()
    proxy = Proxy(stage.port)
    proxy.harm = harm
    async with (
        stage.serving(),
        proxy.running(),
        AsyncClient(proxy.url, pacing=QUICK) as client,
        client.stream(TRIO) as feed,
    ):
        async for prices in feed:
            reader.take(prices)
            if len(reader.seen) == 1:
                assert feed.way == "poll"
                proxy.harm = Harm()
            if feed.way == "stream" and feed.state == "live" and len(reader.seen) > 4:
                break
    assert reader.back == []
    assert [path.startswith("/v1/poll") for path in proxy.paths].count(True) >= 2
    assert proxy.paths[-1].startswith("/v1/stream")


async def test_events_that_cannot_be_read_are_asked_for_again(stage: Stage) -> None:
    """Something between has changed them; it may be mended."""
    proxy = Proxy(stage.port)
    proxy.harm = Harm(garbles=True)
    async with (
        stage.serving(),
        proxy.running(),
        AsyncClient(proxy.url, pacing=QUICK) as client,
        client.stream(TRIO) as feed,
        asyncio.TaskGroup() as tasks,
    ):
        first = tasks.create_task(feed.__anext__())
        await eventually(lambda: feed.error is not None)
        assert feed.error is not None
        assert feed.error.code == "unreadable"
        proxy.harm = Harm()
        assert (await first)["ETH-USD"].price == "2000.0"


async def test_a_wait_that_is_cancelled_loses_nothing(stage: Stage) -> None:
    """A loop may look at other things between."""
    async with (
        stage.serving() as url,
        AsyncClient(url, pacing=QUICK) as client,
        client.stream("ETH-USD") as feed,
    ):
        first = await anext(feed)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(feed), 0.05)
        stage.market.say(ETH_USD="2004.0")
        second = await asyncio.wait_for(anext(feed), 10)
        assert first["ETH-USD"].price == "2000.0"
        assert second["ETH-USD"].price == "2004.0"


async def test_a_feed_that_was_closed_has_ended(stage: Stage) -> None:
    """And asks nothing more."""
    async with stage.serving() as url, AsyncClient(url) as client:
        feed = client.stream("BTC-USD")
        await anext(feed)
        await feed.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(feed)


async def test_what_the_relay_refuses_is_raised_by_every_way(stage: Stage) -> None:
    """With its code, its sentence and what to do."""
    async with stage.serving() as url, AsyncClient(url) as client:
        for asking in (
            client.get("/x/x/"),
            client.poll("/x/x/"),
            client.stream("/x/x/").__anext__(),
        ):
            with pytest.raises(Refused) as raised:
                await asking
            error = raised.value
            assert (error.status, error.code) == (400, "selection_invalid")
            assert error.hint


async def test_nobody_at_the_address_is_said_after_a_few_attempts(
    free_tcp_port: int,
) -> None:
    """A scheduled job must end."""
    url = f"http://127.0.0.1:{free_tcp_port}"
    async with AsyncClient(url, pacing=QUICK) as client:
        with pytest.raises(Unreachable, match=str(free_tcp_port)):
            await client.get()
        with pytest.raises(Unavailable):
            await client.status()


async def test_a_client_of_ones_own_is_used_and_not_closed(stage: Stage) -> None:
    """It may have a proxy, certificates, headers."""
    async with stage.serving() as url, httpx.AsyncClient() as http:
        async with AsyncClient(url, http=http) as client:
            await client.get("BTC-USD")
        assert not http.is_closed


async def test_how_the_relay_stands_can_be_asked(stage: Stage) -> None:
    """Typed as well."""
    async with stage.serving() as url, AsyncClient(url) as client:
        found = await client.status()
        assert found.instance.live
        assert found.board.instruments == 3
        assert found.leader is not None
        assert found.leader.alive


async def _in_thread(work: Callable[[], None]) -> None:
    await asyncio.get_running_loop().run_in_executor(None, work)


async def test_the_synchronous_client_does_the_same(stage: Stage) -> None:
    """For a script and a notebook."""

    def work() -> None:
        with Client(stage.url) as client:
            prices = client.get(TRIO)
            assert prices["ETH-USD"].decimal() == Decimal("2000.0")
            after = client.poll(TRIO, since=prices)
            assert after["BTC-USD"].offset > prices["BTC-USD"].offset
            assert client.status().instance.live
            with pytest.raises(Refused):
                client.get("/x/x/")
            with client.stream(TRIO) as feed:
                seen = [prices for _, prices in zip(range(3), feed, strict=False)]
            assert [one["BTC-USD"].offset for one in seen] == sorted(
                one["BTC-USD"].offset for one in seen
            )
            with pytest.raises(StopIteration):
                next(feed)

    async with stage.serving():
        await _in_thread(work)


async def test_the_synchronous_feed_resumes_as_well(stage: Stage) -> None:
    """Cut, garbled, stopped and started in the middle; stopped from outside."""
    reader = Reader()
    proxy = Proxy(stage.port)
    proxy.harm = Harm(garbles=True)
    async with proxy.running():
        await _read_through(stage, proxy, reader)
    assert reader.back == []
    assert not any(one.reset for one in reader.seen)


async def _read_through(stage: Stage, proxy: Proxy, reader: Reader) -> None:
    with Client(proxy.url, pacing=QUICK) as client:
        feed = client.stream(TRIO)
        async with asyncio.TaskGroup() as tasks:
            async with stage.serving():
                tasks.create_task(_in_thread(lambda: reader.read_blocking(feed)))
                await eventually(lambda: feed.error is not None)
                proxy.harm = Harm(cuts_after=1500)
                await reader.shows(ETH_USD="2000.0")
                await reader.goes_on()
                proxy.harm = Harm()
            stage.market.say(ETH_USD="2005.0")
            async with stage.serving():
                await reader.shows(ETH_USD="2005.0")
                await reader.goes_on()
                feed.stop()


@pytest.fixture
def apart(
    valkey_url: str, settings: Settings, keys: Keys, free_tcp_port: int
) -> Iterator[tuple[Stage, Callable[..., None]]]:
    """Serve in another thread; return the stage, and what speaks to it from here."""

    @asynccontextmanager
    async def serving() -> AsyncIterator[Stage]:
        async with open_client(valkey_url, settings) as client:
            stage = Stage(client, keys, settings, free_tcp_port)
            async with stage.market.running(), stage.serving():
                yield stage

    with start_blocking_portal("asyncio") as portal:  # noqa: SIM117 - the order matters
        with portal.wrap_async_context_manager(serving()) as stage:
            yield (
                stage,
                lambda **prices: portal.call(lambda: stage.market.say(**prices)),
            )


def test_the_synchronous_client_works_inside_a_running_loop(
    apart: tuple[Stage, Callable[..., None]],
) -> None:
    """As there is one under every cell of a notebook."""

    async def cell() -> Prices:
        with Client(apart[0].url) as client:
            return client.get("ETH-USD")

    assert asyncio.run(cell())["ETH-USD"].price == "2000.0"


def test_a_wait_that_is_interrupted_loses_nothing(
    apart: tuple[Stage, Callable[..., None]],
) -> None:
    """Ctrl-C stops a cell, and the next cell goes on."""
    stage, say = apart
    main = threading.get_ident()
    interrupt = threading.Timer(0.2, signal.pthread_kill, [main, signal.SIGINT])
    with Client(stage.url, pacing=QUICK) as client, client.stream("ETH-USD") as feed:
        assert next(feed)["ETH-USD"].price == "2000.0"
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            next(feed)
        interrupt.join()
        say(ETH_USD="2006.0")
        assert next(feed)["ETH-USD"].price == "2006.0"


def test_who_checks_types_is_told_that_there_are_some() -> None:
    """Without the marker every name of the package would be of no type (PEP 561)."""
    assert (files("relay") / "py.typed").is_file()


def test_the_synchronous_client_gives_up_as_well(free_tcp_port: int) -> None:
    """After its attempts, with what to do."""
    with (
        Client(f"http://127.0.0.1:{free_tcp_port}", pacing=QUICK) as client,
        pytest.raises(Unreachable) as raised,
    ):
        client.get("BTC-USD")
    assert raised.value.hint
