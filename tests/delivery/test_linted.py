"""Every kind of answer is good HTTP, and is as it is described."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx
import pytest
from msgspec import Struct
from msgspec.structs import replace

from relay.clock import Clock
from relay.config import Settings
from relay.delivery.contract import NOW, OF_ERROR, OPERATIONS, Operation
from relay.delivery.doors import make_key
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.linting import lint, travelled
from tests.delivery.live import Live, live
from tests.delivery.serving import Leader, make_hub, serving

KEY, LINE = make_key("tester", "read+admin")
OTHER_KEY, OTHER_LINE = make_key("reader", "read")
ADMITTED = {"authorization": f"Bearer {KEY}"}
# Enough instruments for a body that is worth coding.
WIDE = {f"A{number}-USD": "1" for number in range(60)}


class Asked(Struct, frozen=True):
    """One question, and the status of its answer."""

    place: str
    status: int = 200
    method: str = "GET"
    headers: Mapping[str, str] = {}
    body: bytes | None = None


QUESTIONS = (
    Asked("/v1/prices"),
    Asked("/v1/prices", method="HEAD"),
    Asked("/v1/prices", headers={"accept-encoding": "gzip"}),
    Asked("/v1/prices", headers={"accept-encoding": "zstd"}),
    Asked("/v1/prices", headers={"accept-encoding": "identity"}),
    Asked("/v1/prices", 204, method="OPTIONS"),
    Asked("/v1/prices", 405, method="POST"),
    Asked("/v1/prices?symbols=eth,bitcoin&fields=price"),
    Asked("/v1/prices?list=majors"),
    Asked("/v1/prices?cursor=k3f9.7qx.1"),
    Asked("/v1/prices?x=1", 400),
    Asked("/v1/prices?cursor=nonsense", 400),
    Asked("/v1/prices/BTC%2FUSD"),
    Asked("/v1/prices/BTC-USD/recent"),
    Asked("/v1/poll?symbols=BTC-USD"),
    Asked("/v1/poll?symbols=BTC-USD&align=0"),
    Asked("/v1/poll?symbols=BTC-USD", method="HEAD"),
    Asked("/v1/poll?wait=long", 400),
    Asked("/v1/stream?symbols=BTC-USD"),
    Asked("/v1/stream?symbols=BTC-USD", method="HEAD"),
    Asked("/v1/stream?every=1h", 400),
    Asked("/v1/ws", 426),
    Asked("/v1/ws", 405, method="POST"),
    Asked("/v1/symbols"),
    Asked("/v1/value?holdings=BTC:1"),
    Asked("/v1/value", 415, method="POST"),
    Asked(
        "/v1/value",
        method="POST",
        headers={"content-type": "application/json"},
        body=b'{"holdings":{"BTC-USD":"2"}}',
    ),
    Asked(
        "/v1/value",
        400,
        method="POST",
        headers={"content-type": "application/json"},
        body=b"{",
    ),
    Asked(
        "/v1/value",
        413,
        method="POST",
        headers={"content-type": "application/json"},
        body=b" " * 70_000,
    ),
    Asked("/v1/ticket", method="POST", headers=ADMITTED),
    Asked("/v1/ticket", 401, method="POST"),
    Asked("/v1/status"),
    Asked("/metrics"),
    Asked("/healthz"),
    Asked("/readyz"),
    Asked("/"),
    Asked("/", method="HEAD"),
    Asked("/docs"),
    Asked("/docs/openapi.json"),
    Asked("/dashboard/relay.js"),
    Asked("/dashboard/style.css"),
    Asked("/nope", 404),
    Asked("/api/prices"),
    Asked("/api/prices/bitcoin"),
    Asked("/api/prices/nothing", 404),
    Asked("/api/prices/bulk/btc,eth,nothing"),
    Asked("/api/prices/status/health"),
    Asked("/api/prices/metrics"),
    Asked("/api/prices/metrics/reset", 401, method="POST"),
    Asked("/api/prices/metrics/reset", method="POST", headers=ADMITTED),
    Asked(
        "/api/prices/metrics/reset",
        403,
        method="POST",
        headers={"authorization": f"Bearer {OTHER_KEY}"},
    ),
    Asked("/api/market-data/health"),
    Asked("/api/market-data/stream?pairs=BTC/USD"),
    Asked("/api/market-data/stream", 400),
    Asked("/ws/prices", 426),
    Asked("/ws/prices/bitcoin", 426),
)


def operation_of(sent: httpx.Request) -> Operation | None:
    """Return the description of what was asked for, where there is one."""
    method = {"HEAD": "get"}.get(sent.method, sent.method.lower())
    path = sent.url.raw_path.decode().partition("?")[0]
    plain = [one for one in OPERATIONS if one.method == method]
    exact = next((one for one in plain if one.path == path), None)
    patterns = {re.sub(r"\{.*?\}", "[^/]+", one.path): one for one in plain}
    found = (one for text, one in patterns.items() if re.fullmatch(text, path))
    return exact or next(found, None)


# Of every answer, and nothing to describe: the server's own, and what CORS adds.
PLAIN = {
    "date",
    "content-type",
    "content-length",
    "transfer-encoding",
    "connection",
    "vary",
}


def undescribed(answer: httpx.Response) -> set[str]:
    """Return the headers that an answer has and its description has not."""
    operation = operation_of(answer.request)
    if operation is None or answer.status_code in (204, 405):
        return set()
    good = answer.status_code < 400
    headers = operation.headers if good else NOW
    headers += () if good else OF_ERROR.get(answer.status_code, ())
    told = {one.name.lower() for one in headers}
    came = {name for name in answer.headers if not name.startswith("access-control-")}
    return came - told - PLAIN


async def ask(asker: httpx.AsyncClient, asked: Asked) -> httpx.Response:
    """Ask, and say what is wrong with the answer."""
    sent = asker.build_request(
        asked.method, asked.place, headers=dict(asked.headers), content=asked.body
    )
    answer = await travelled(asker, sent)
    assert (asked, answer.status_code) == (asked, asked.status)
    assert (asked, lint(answer)) == (asked, set())
    assert (asked, undescribed(answer)) == (asked, set())
    # By nothing else does an answer vary: all the rest stands in the URL.
    assert answer.headers.get("vary", "accept-encoding") == "accept-encoding"
    return answer


@asynccontextmanager
async def open_instance(
    client: Client, keys: Keys, settings: Settings
) -> AsyncIterator[Live]:
    """Run an instance that has keys, but lets everybody read."""
    doors = replace(settings.doors, keys=(LINE, OTHER_LINE))
    leader = Leader(client, keys)
    await leader.publish({"BTC-USD": "61000.10", "ETH-USD": "3000", **WIDE})
    settings = replace(settings, doors=doors)
    async with live(client, keys, settings, leader=leader) as behind:
        yield behind


async def test_every_kind_of_answer_is_good_http(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Linted by somebody else; also the 304 of whatever has an ETag."""
    async with open_instance(client, keys, settings) as behind:
        for asked in QUESTIONS:
            answer = await ask(behind.asker, asked)
            if "etag" not in answer.headers or "/v1/poll" in asked.place:
                continue
            condition = {**asked.headers, "if-none-match": answer.headers["etag"]}
            await ask(behind.asker, replace(asked, headers=condition, status=304))
            condition["if-none-match"] = "*"
            await ask(behind.asker, replace(asked, headers=condition, status=304))


async def test_a_poll_that_ran_out_of_time_is_good_http(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """A kind of its own: nothing in it, and a cursor that differs."""
    async with live(client, keys, settings) as behind:
        first = await behind.poll("symbols=BTC-USD")
        cursor = first.json()["cursor"]
        place = f"/v1/poll?symbols=BTC-USD&wait=0&cursor={cursor}"
        answer = await ask(behind.asker, Asked(place))
    assert answer.headers["etag"] != first.headers["etag"]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (Asked("/v1/prices"), 401),
        (Asked("/v1/prices", headers={"authorization": "Bearer nobody's"}), 401),
        (Asked("/v1/poll"), 401),
        (Asked("/v1/stream?ticket=rt_x"), 401),
        (Asked("/v1/prices?api_key=x"), 400),
        (Asked("/v1/prices", headers=ADMITTED), 200),
        (Asked("/v1/prices", 204, method="OPTIONS"), 204),
    ],
)
async def test_a_closed_doors_answers_are_good_http(
    client: Client, keys: Keys, settings: Settings, asked: Asked, status: int
) -> None:
    """They say which key is wanted, and nobody keeps them for others."""
    doors = replace(settings.doors, keys=(LINE,), reading="keys")
    settings = replace(settings, doors=doors)
    hub = make_hub(client, keys, settings)
    await Leader(client, keys).publish({"BTC-USD": "1"})
    async with serving(client, keys, settings, hub=hub) as asker:
        answer = await ask(asker, replace(asked, status=status))
    if status != 204:
        assert "public" not in answer.headers["cache-control"]


async def test_a_refusal_for_asking_too_often_is_good_http(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """It says for how long."""
    http = replace(settings.http, address_requests_max=1, address_window_ms=60_000)
    async with live(client, keys, replace(settings, http=http)) as behind:
        await ask(behind.asker, Asked("/v1/prices"))
        answer = await ask(behind.asker, Asked("/v1/prices", 429))
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("place", ["/v1/prices", "/v1/symbols", "/api/prices"])
async def test_an_answer_without_a_store_is_good_http(
    keys: Keys, settings: Settings, place: str
) -> None:
    """503, and when to ask again."""
    client = Client(replace(settings.store, url="valkey://127.0.0.1:1"), Clock())
    async with serving(client, keys, settings) as asker:
        await ask(asker, Asked(place, 503))
    await client.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"BREW /v1/prices HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /v1/prices/\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /v1/prices HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET /v1/prices?symbols=%b HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /v1/prices HTTP/1.1\r\nHost: x\r\nCookie: %b", 431),
    ],
)
async def test_what_is_no_http_is_refused_as_everything_else_is(
    client: Client, keys: Keys, settings: Settings, sent: bytes, status: int
) -> None:
    """JSON with a code, and the connection ends: who knows what comes after it."""
    if b"%b" in sent:
        sent %= b"A" * 65_600
    most = 1_000_000 if status == 414 else settings.http.head_max
    settings = replace(settings, http=replace(settings.http, head_max=most))
    async with live(client, keys, settings) as behind:
        place = urlsplit(behind.url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        writer.write(sent)
        came = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    head, _, body = came.partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    answer = httpx.Response(
        int(line.split()[1]),
        headers=dict(one.split(": ", 1) for one in lines),
        content=body,
        request=httpx.Request("GET", behind.url),
    )
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "sentence", "hint"}
    assert lint(answer) == set()
    assert answer.headers["connection"] == "close"
