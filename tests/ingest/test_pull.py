"""REST towards the exchanges: what is sent, what it costs, what a failure is called."""

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress

import httpx
import pytest
import respx
from msgspec.structs import replace

from relay.clock import ManualClock
from relay.config import Exchange, Limit, Settings
from relay.errors import ExchangeDown, LeftAlone, RateLimited, Refused
from relay.exchanges.adapter import Answer, Request, Usage
from relay.ingest.budget import Priority, Wait
from relay.ingest.pull import USER_AGENT, Pull, at_least, join, open_client
from relay.ingest.purse import Purse
from relay.store.client import Client
from tests.harness import eventually
from tests.ingest.purses import REFUSED_MS, open_purse
from tests.ingest.toy import ADVICE, Toy, toy_tls

URL = "https://api.toy.example"
REQUEST = Request(
    exchange="toy",
    purpose="snapshot",
    path="/v1/all",
    query=(("symbols", '["A","B"]'),),
    costs=(("weight", 4),),
)
TOY = Toy()
CHEAP = replace(REQUEST, costs=(("weight", 1),))


class Desk:
    """A pull with everything around it."""

    def __init__(self, pull: Pull, clock: ManualClock) -> None:
        self.pull, self.purse, self.clock = pull, pull.purse, clock

    @property
    def used(self) -> int:
        """What the ledger counts as spent now."""
        return self.purse.gauges()[0].used

    @property
    def reserved(self) -> int:
        """The same before anything was asked of the ledger: none."""
        return sum(gauge.used for gauge in self.purse.gauges())

    async def fetch(self, request: Request = REQUEST) -> Answer:
        """Fetch, as for a new instrument."""
        return await self.pull.fetch(request, priority=Priority.SEED)


class Desks:
    """Pulls of the toy, each of which may spend 18 a minute, and 2 in reserve."""

    def __init__(
        self, settings: Settings, http: httpx.AsyncClient, store: Client
    ) -> None:
        self.settings, self.http, self._store = settings, http, store

    async def open(self, url: str = URL, **ingest: int) -> Desk:
        """Return a pull of the toy at ``url``."""
        limit = Limit(
            name="weight",
            weight_max=20,
            window_ms=60_000,
            kind="rolling",
            scope="address",
        )
        exchange: Exchange = replace(
            self.settings.exchanges["kraken"], rest_url=url, limits=(limit,)
        )
        clock = ManualClock()
        purse = await open_purse(self._store, exchange.limits, clock)
        rules = replace(self.settings.ingest, **ingest)
        return Desk(Pull(TOY, exchange, rules, purse, clock, self.http), clock)


@pytest.fixture
async def desks(settings: Settings, client: Client) -> AsyncIterator[Desks]:
    """Return what opens pulls, with the HTTP client that a worker has."""
    async with open_client(settings.ingest) as http:
        yield Desks(settings, http, client)


@pytest.fixture
async def desk(desks: Desks) -> Desk:
    """Return a pull whose exchange is mocked."""
    return await desks.open()


@pytest.fixture
def web() -> Iterator[respx.MockRouter]:
    """Return what answers in the exchange's place."""
    with respx.mock(base_url=URL) as router:
        yield router


async def test_an_answer_holds_what_came_and_when(
    desk: Desk, web: respx.MockRouter
) -> None:
    """Its age decides whether it may replace a streamed value."""

    def answer(_: httpx.Request) -> httpx.Response:
        desk.clock.advance(120)
        return httpx.Response(200, headers={"Age": "3", "X-Two": "b"}, content=b"[1]")

    web.get("/v1/all").mock(side_effect=answer)
    sent_ms = desk.clock.wall_ms()
    got = await desk.fetch()
    assert (got.status, got.body, got.headers["x-two"]) == (200, b"[1]", "b")
    assert (got.sent_ms, got.received_ms) == (sent_ms, sent_ms + 120)
    assert got.as_of_ms == sent_ms - 3_000


async def test_a_request_says_who_we_are_and_asks_in_one_order(
    desk: Desk, web: respx.MockRouter
) -> None:
    """Exchanges refuse clients without a name; keys go into headers as they stand."""
    route = web.get("/v1/all").respond(json=[])
    await desk.fetch(replace(REQUEST, headers=(("x-key", "k1"),)))
    sent = route.calls.last.request
    assert sent.headers["user-agent"] == USER_AGENT
    assert sent.headers["accept-encoding"] == "gzip"
    assert sent.headers["x-key"] == "k1"
    assert sent.url.params["symbols"] == '["A","B"]'


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("https://a.example", "https://a.example/v1/all"),
        ("https://a.example:81/", "https://a.example:81/v1/all"),
        ("http://a.example/proxy/x", "http://a.example/proxy/x/v1/all"),
    ],
)
def test_a_prefix_goes_before_the_path(url: str, whole: str) -> None:
    """A proxy may serve several exchanges, each under a path of its own."""
    assert join(url, "/v1/all") == whole


async def test_a_compressed_answer_is_read(desk: Desk, web: respx.MockRouter) -> None:
    """Ticker lists shrink to a tenth."""
    web.get("/v1/all").respond(
        content=gzip.compress(b'{"a":1}'), headers={"content-encoding": "gzip"}
    )
    assert (await desk.fetch()).body == b'{"a":1}'


async def test_an_answer_settles_what_was_reserved(
    desk: Desk, web: respx.MockRouter
) -> None:
    """The exchange's own count wins where it is higher."""
    web.get("/v1/all").respond(json=[], headers={"X-Used": "11"})
    await desk.fetch()
    assert desk.used == 11


async def test_nothing_is_sent_that_the_budget_does_not_bear(
    desk: Desk, web: respx.MockRouter
) -> None:
    """The promise is strict: reserve first, then send."""
    route = web.get("/v1/all").respond(json=[], headers={"X-Used": "18"})
    await desk.fetch()
    desk.clock.advance(10_000)
    with pytest.raises(RateLimited) as caught:
        await desk.fetch()
    assert route.call_count == 1
    assert caught.value.scope == "weight"
    # Nobody refused anything: the words must not accuse the exchange.
    assert "our own budget of weight is spent; next in 5" in str(caught.value)
    assert 49_000 <= caught.value.retry_after_ms <= 51_000


@pytest.mark.parametrize(
    ("status", "headers", "wait_ms"),
    [
        (429, {"retry-after": "31"}, 31_000),
        (429, {}, ADVICE.wait_ms),
        (418, {"retry-after": "120"}, 120_000),
    ],
)
async def test_being_limited_cools_all_of_rest(
    desk: Desk,
    web: respx.MockRouter,
    status: int,
    headers: dict[str, str],
    wait_ms: int,
) -> None:
    """Whoever goes on after a 429 is banned: so nobody does, for as long as told."""
    route = web.get("/v1/all").respond(status, headers=headers, json={})
    with pytest.raises(RateLimited) as caught:
        await desk.fetch()
    assert caught.value.retry_after_ms == wait_ms
    cooldown = desk.purse.cooling()
    assert cooldown is not None
    assert cooldown.until_ms == desk.clock.wall_ms() + wait_ms
    assert (desk.purse.cooling("ws") is not None) is (status == 418)
    words = {429: "limits us by", 418: "has banned this"}[status]
    with pytest.raises(LeftAlone, match=f": HTTP {status}, {words}") as alone:
        await desk.fetch()
    assert "toy is left alone until " in str(alone.value)
    assert alone.value.until_ms == cooldown.until_ms
    assert alone.value.retry_after_ms == wait_ms
    assert route.call_count == 1
    desk.clock.advance(wait_ms)
    route.respond(json=[])
    await desk.fetch()


async def test_a_refused_request_is_spent_all_the_same(
    desk: Desk, web: respx.MockRouter
) -> None:
    """Exchanges count what they refuse, and say so in the refusal's headers."""
    web.get("/v1/all").respond(429, headers={"x-used": "20"}, json={})
    with pytest.raises(RateLimited):
        await desk.fetch()
    assert desk.used == 20


@pytest.mark.parametrize("status", [500, 502, 503, 520, 599])
async def test_an_exchange_in_trouble_is_down(
    desk: Desk, web: respx.MockRouter, status: int
) -> None:
    """An edge's own statuses are nothing special."""
    web.get("/v1/all").respond(status, text="<html>oops</html>")
    with pytest.raises(ExchangeDown, match=f"toy cannot be read: HTTP {status}"):
        await desk.fetch()
    assert desk.used == 4
    assert desk.purse.cooling() is None


async def test_a_block_says_what_to_do(desk: Desk, web: respx.MockRouter) -> None:
    """It is permanent for the address, and not a limit: but no less to be heeded."""
    web.get("/v1/all").respond(451, json={})
    with pytest.raises(Refused, match="go elsewhere"):
        await desk.fetch()
    cooldown = desk.purse.cooling()
    assert cooldown is not None
    assert cooldown.until_ms == desk.clock.wall_ms() + REFUSED_MS
    assert cooldown.reason.startswith("HTTP 451, ")
    assert "go elsewhere" in cooldown.reason


async def test_an_exchange_that_fails_again_and_again_is_left_alone(
    desk: Desk, web: respx.MockRouter
) -> None:
    """Then one probe tells whether it is back."""
    route = web.get("/v1/all").respond(503)
    for _ in range(5):
        with pytest.raises(ExchangeDown, match=r"HTTP 503$"):
            await desk.fetch(CHEAP)
    with pytest.raises(ExchangeDown, match=r"HTTP 503 \(5 times in a row\)"):
        await desk.fetch(CHEAP)
    assert route.call_count == 5
    desk.clock.advance(2_000)
    route.respond(json=[])
    await desk.fetch(CHEAP)
    assert desk.pull.breaker.circuit(desk.clock.monotonic_ms()).state == "closed"


async def test_a_page_instead_of_json_is_down(
    desk: Desk, web: respx.MockRouter
) -> None:
    """An edge shows its maintenance page with status 200."""
    web.get("/v1/all").respond(200, html="<html>back soon</html>")
    with pytest.raises(ExchangeDown, match="not JSON"):
        await desk.fetch()


@pytest.mark.parametrize(
    ("location", "target"),
    [("https://login.example/x?key=1", "login.example"), ("/elsewhere", "itself")],
)
async def test_a_redirect_is_not_followed(
    desk: Desk, web: respx.MockRouter, location: str, target: str
) -> None:
    """It would carry keys to strangers, and cost what nobody reserved."""
    web.get("/v1/all").respond(302, headers={"location": location})
    with pytest.raises(ExchangeDown, match=f"HTTP 302 sends us to {target},"):
        await desk.fetch()


@pytest.mark.parametrize(
    ("error", "cause", "used"),
    [
        (httpx.ReadTimeout("x"), "timed out after 10 s", 4),
        (httpx.RemoteProtocolError("x"), "connection broke off", 4),
        (httpx.ReadError("x"), "connection broke off", 4),
        (httpx.ConnectTimeout("x"), "timed out after 10 s", 0),
        (httpx.ConnectError("all attempts failed"), "ConnectError: all", 0),
    ],
)
async def test_only_what_was_certainly_not_sent_is_given_back(
    desk: Desk, web: respx.MockRouter, error: Exception, cause: str, used: int
) -> None:
    """An exchange counts a request when it arrives, answered or not."""
    web.get("/v1/all").mock(side_effect=error)
    with pytest.raises(ExchangeDown, match=cause):
        await desk.fetch()
    assert desk.used == used


async def test_what_timed_out_is_spent_for_seconds_longer_than_its_window(
    desk: Desk, web: respx.MockRouter
) -> None:
    """Of one request a second, a minute's doubt would cost sixty."""
    web.get("/v1/all").mock(side_effect=httpx.ReadTimeout("x"))
    with pytest.raises(ExchangeDown):
        await desk.fetch()
    # Until it was given up, what was on its way then, and a window from there.
    desk.clock.advance(10_000 + 5_000 + 60_000)
    assert desk.used == 4
    desk.clock.advance(1)
    assert desk.used == 0


async def test_a_body_that_cannot_be_unpacked_is_down(
    desk: Desk, web: respx.MockRouter
) -> None:
    """A broken proxy is no reason to fall over."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"no gzip"

    web.get("/v1/all").respond(
        stream=Body(parts()), headers={"content-encoding": "gzip", "x-used": "9"}
    )
    with pytest.raises(ExchangeDown, match="answer cannot be decompressed"):
        await desk.fetch()
    assert desk.used == 9


async def test_too_large_a_body_is_not_read_to_its_end(
    desks: Desks, web: respx.MockRouter
) -> None:
    """Everything has a limit; what came before it has been paid for."""
    desk = await desks.open(body_max=50)
    read: list[int] = []

    async def parts() -> AsyncIterator[bytes]:
        for number in range(10):
            read.append(number)
            yield b"x" * 30

    web.get("/v1/all").respond(stream=Body(parts()), headers={"x-by-size": "1"})
    with pytest.raises(ExchangeDown, match="larger than 50 bytes"):
        await desk.fetch()
    assert read == [0, 1]
    assert desk.used == 7


class Body(httpx.AsyncByteStream):
    """A body that is made while it is read."""

    def __init__(self, parts: AsyncIterator[bytes]) -> None:
        self._parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._parts:
            yield part


def test_half_an_answer_costs_no_less_than_a_whole_one() -> None:
    """A bill by size is not over when the line breaks off."""
    usages = [
        Usage(limit="credits", cost=2),
        Usage(limit="weight", used=40),
        Usage(limit="other", cost=3),
    ]
    raised = at_least(usages, (("credits", 9), ("weight", 4)))
    assert [usage.cost for usage in raised] == [9, None, 3]
    assert raised[1].used == 40


# Over real sockets.


@asynccontextmanager
async def peer(
    reply: bytes | None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Listen; answer each request with these bytes and close, or never with None."""
    requests: list[bytes] = []
    done = asyncio.Event()
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            requests.append(await reader.readuntil(b"\r\n\r\n"))
            if reply is None:
                await done.wait()
            else:
                writer.write(reply)
        except (asyncio.IncompleteReadError, OSError):
            # Somebody who spoke no HTTP, or hung up before.
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        scheme = "https" if tls else "http"
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests
        done.set()
        for writer in writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def test_a_cut_body_is_down_and_spent(desks: Desks) -> None:
    """Half a list of prices must not pass for a whole one."""
    reply = b'HTTP/1.1 200 OK\r\nX-Used: 12\r\nContent-Length: 99\r\n\r\n{"BTC'
    async with peer(reply) as (url, _):
        desk = await desks.open(url)
        with pytest.raises(ExchangeDown, match="connection broke off"):
            await desk.fetch()
        assert desk.used == 12


@pytest.mark.parametrize(
    ("status", "kind"), [(429, RateLimited), (418, RateLimited), (451, Refused)]
)
async def test_a_refusal_that_breaks_off_is_heeded_all_the_same(
    desks: Desks, status: int, kind: type[Exception]
) -> None:
    """Its first line has said all there is to know; who goes on is banned."""
    reply = b"HTTP/1.1 %d No\r\nRetry-After: 9\r\nContent-Length: 99\r\n\r\n{" % status
    async with peer(reply) as (url, _):
        desk = await desks.open(url)
        with pytest.raises(kind):
            await desk.fetch()
        assert desk.used == 4
        assert desk.purse.cooling() is not None
        assert desk.pull.breaker.circuit(0).failures == 0, "it did answer"


async def test_a_refusal_that_breaks_off_is_everybodys_at_once(
    desks: Desks, client: Client
) -> None:
    """Not only when whoever heard it has something else to write down."""
    reply = b"HTTP/1.1 429 No\r\nRetry-After: 9\r\nContent-Length: 99\r\n\r\n{"
    async with peer(reply) as (url, _):
        desk = await desks.open(url)
        terms = desk.purse._terms  # noqa: SLF001 - the same books, by another process
        other = Purse("toy", terms, client, desk.clock)
        with pytest.raises(RateLimited):
            await desk.fetch()
        leave = await other.reserve((("weight", 1),), priority=Priority.SEED)
        assert isinstance(leave, Wait)


@pytest.mark.parametrize("status", [400, 503])
async def test_trouble_that_breaks_off_is_no_refusal(desks: Desks, status: int) -> None:
    """It may be tried again soon: what was meant has not arrived."""
    reply = b"HTTP/1.1 %d No\r\nContent-Length: 99\r\n\r\n{" % status
    async with peer(reply) as (url, _):
        desk = await desks.open(url)
        with pytest.raises(ExchangeDown, match="connection broke off"):
            await desk.fetch()
        assert desk.purse.cooling() is None


async def test_a_ban_is_known_though_whoever_was_told_has_gone(
    desk: Desk, web: respx.MockRouter
) -> None:
    """Shut down while it is written down, nobody would heed it after the restart."""
    asked = asyncio.Event()
    turn = desk.purse._ledgers.turn  # noqa: SLF001 - it stands for a store that is slow

    async def ban(_: httpx.Request) -> httpx.Response:
        # From now on the books are somebody else's to change.
        await turn.acquire()
        asked.set()
        return httpx.Response(418, headers={"retry-after": "60"}, json={})

    web.get("/v1/all").mock(side_effect=ban)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(desk.fetch())
        await asked.wait()
        await eventually(lambda: desk.purse.cooling() is not None)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    turn.release()
    await desk.purse.pay()
    assert desk.purse.cooling() is not None
    assert desk.used == 4


async def test_the_whole_request_has_one_deadline(desks: Desks) -> None:
    """A server that says nothing must not hold up the plan."""
    async with peer(None) as (url, _):
        desk = await desks.open(url, request_timeout_ms=150)
        with pytest.raises(ExchangeDown, match=r"timed out after 0\.15 s"):
            await desk.fetch()
        assert desk.used == 4


async def test_cancelled_in_flight_it_stays_spent(desks: Desks) -> None:
    """The exchange has counted it, whoever is still waiting for the answer."""
    async with peer(None) as (url, requests), asyncio.TaskGroup() as tasks:
        desk = await desks.open(url)
        task = tasks.create_task(desk.fetch())
        await eventually(lambda: bool(requests))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert desk.used == 4


@contextmanager
def crowded() -> Iterator[str]:
    """Listen where nobody gets in any more: whoever connects waits."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as door:
        address = door.getsockname()
        crowd = [socket.socket() for _ in range(4)]
        for one in crowd:
            one.settimeout(0)
            one.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}"
        for one in crowd:
            one.close()


async def test_cancelled_before_it_left_it_is_given_back(desks: Desks) -> None:
    """Nobody has counted it."""
    with crowded() as url:
        desk = await desks.open(url)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(desk.fetch())
            await eventually(lambda: desk.reserved == 4)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert desk.used == 0


async def test_a_closed_port_is_a_refused_connection(desks: Desks) -> None:
    """The first thing to look for when a proxy or a simulator is not up."""
    async with peer(b"") as (url, _):
        pass
    desk = await desks.open(url)
    with pytest.raises(ExchangeDown, match=r"^toy cannot be read: connection refused$"):
        await desk.fetch()
    assert desk.used == 0


async def test_an_unknown_name_is_said_so(desks: Desks) -> None:
    """Without internet this is what every exchange looks like."""
    desk = await desks.open("http://no-such-host.invalid")
    with pytest.raises(ExchangeDown, match=r"name cannot be resolved$"):
        await desk.fetch()
    assert desk.used == 0


async def test_a_certificate_problem_is_named(desks: Desks) -> None:
    """A proxy that opens TLS wants its certificate installed: say so."""
    async with peer(b"", tls=toy_tls()) as (url, requests):
        desk = await desks.open(url)
        with pytest.raises(ExchangeDown, match=r"certificate not accepted: self-sig"):
            await desk.fetch()
    assert not requests
    assert desk.used == 0
