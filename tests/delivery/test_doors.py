"""Who comes in by which door, over real sockets: keys, tickets, scopes, and caches."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex

import anyio
import httpx
import pytest
from litestar.enums import HttpMethod
from msgspec.structs import replace
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from relay.clock import ManualClock
from relay.config import Doors as Settled
from relay.config import Settings
from relay.delivery.contract import OPERATIONS, PAGES
from relay.delivery.doors import (
    ADMIN,
    ANYBODY,
    NEEDS,
    OPERATOR,
    READER,
    TICKETED,
    Doors,
    Locked,
    make_key,
    needed,
    private,
    without_ticket,
)
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.linting import lint
from tests.delivery.live import Live, live
from tests.delivery.serving import make_app, make_hub
from tests.delivery.test_app import handlers

READ, READ_LINE = make_key("reader", "read")
NEXT, NEXT_LINE = make_key("successor", "read")
OPERATE, OPERATE_LINE = make_key("operator", "admin")
STRANGE, _ = make_key("stranger", "read+admin")
LINES = (READ_LINE, NEXT_LINE, OPERATE_LINE)
RESET = "/api/prices/metrics/reset"

# How each way is asked: without a key it is closed, with one it is open.
READS = [
    "/v1/prices",
    "/v1/prices/BTC-USD",
    "/v1/prices/BTC%2FUSD",
    "/v1/prices/BTC-USD/recent",
    "/v1/poll",
    "/v1/stream",
    "/v1/symbols",
    "/v1/value?holdings=BTC:1",
    "/v1/status",
    "/api/prices",
    "/api/prices/btc",
    "/api/prices/bulk/btc,eth",
    "/api/prices/status/health",
    "/api/prices/metrics",
    "/api/market-data/health",
    "/api/market-data/stream?pairs=BTC/USD",
]
SOCKETS = ["/v1/ws", "/ws/prices", "/ws/prices/btc", "/ws/prices/BTC%2FUSD"]
OPEN = ["/healthz", "/readyz", "/", "/docs", "/docs/openapi.json"]


def bearer(key: str) -> dict[str, str]:
    """Return the header that shows a key."""
    return {"authorization": f"Bearer {key}"}


def locked_by(settings: Settings, **changes: object) -> Settings:
    """Return settings whose reading needs a key."""
    doors = replace(settings.doors, reading="keys", keys=LINES)
    return replace(settings, doors=replace(doors, **changes))


@pytest.fixture
async def relay(client: Client, keys: Keys, settings: Settings) -> AsyncIterator[Live]:
    """Run an instance whose reading needs a key."""
    async with live(client, keys, locked_by(settings)) as relay:
        yield relay


@pytest.fixture
async def opened(client: Client, settings: Settings) -> AsyncIterator[Live]:
    """Run an instance as it comes, with a board of its own."""
    async with live(client, Keys(f"open-{token_hex(4)}"), settings) as relay:
        yield relay


async def head_of(relay: Live, path: str, **headers: str) -> httpx.Response:
    """Ask, and read no more than the answer's head; errors whole."""
    async with relay.asker.stream("GET", path, headers=headers) as answer:
        if answer.status_code >= 400:
            await answer.aread()
    return answer


async def refused(relay: Live, path: str, **headers: str) -> tuple[int, str, str]:
    """Open a WebSocket that is refused: the status, the code, the challenge."""
    url = relay.url.replace("http", "ws", 1) + path
    with pytest.raises(InvalidStatus) as wrong:
        async with connect(url, additional_headers=headers):
            pass
    response = wrong.value.response
    code = json.loads(response.body or b"")["error"]["code"]
    return response.status_code, code, response.headers.get("www-authenticate", "")


@asynccontextmanager
async def socket(relay: Live, path: str, **headers: str) -> AsyncIterator[None]:
    """Open a WebSocket."""
    url = relay.url.replace("http", "ws", 1) + path
    async with connect(url, additional_headers=headers):
        yield


async def ticket_of(relay: Live, key: str = READ) -> str:
    """Get a ticket for a key."""
    answer = await relay.asker.post("/v1/ticket", headers=bearer(key))
    assert answer.status_code == 200
    return str(answer.json()["ticket"])


async def test_every_route_says_what_it_needs(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """One table; what has parameters is a reader's, by whichever name it comes."""
    app = make_app(client, keys, settings, make_hub(client, keys, settings))
    for _, path in handlers(app):
        assert path in NEEDS or path in PAGES or "{currency}" in path
        if "{" in path:
            assert needed(path) is READER
    assert set(NEEDS) == {one.path for one in OPERATIONS} | {
        path for path in PAGES if not path.startswith("/dashboard/")
    }
    assert all(needed(path) is ANYBODY for path in PAGES)
    assert {path for path in TICKETED if "{currency}" not in path} <= set(NEEDS)
    assert needed("/somewhere/else") is READER


@pytest.mark.parametrize("path", READS)
async def test_without_a_key_nothing_is_read(relay: Live, path: str) -> None:
    """The reason is JSON, the challenge a header, and nobody keeps either."""
    answer = await head_of(relay, path)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "key_missing"
    assert answer.headers["www-authenticate"] == 'Bearer realm="relay"'
    assert answer.headers["cache-control"] == "no-store"
    assert "61000" not in answer.text
    wrong = await head_of(relay, path, **bearer(STRANGE))
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "key_unknown")
    assert 'error="invalid_token"' in wrong.headers["www-authenticate"]
    less = await head_of(relay, path, **bearer(OPERATE))
    assert (less.status_code, less.json()["error"]["code"]) == (403, "scope_missing")
    assert 'scope="read"' in less.headers["www-authenticate"]


@pytest.mark.parametrize("path", READS)
async def test_with_a_key_everything_is_read(relay: Live, path: str) -> None:
    """Each of those that hold at once, in either header."""
    for headers in (bearer(READ), bearer(NEXT), {"x-api-key": READ}):
        assert (await head_of(relay, path, **headers)).status_code == 200


@pytest.mark.parametrize("path", SOCKETS)
async def test_a_websocket_needs_a_key_as_well(relay: Live, path: str) -> None:
    """Its handshake is refused like any request, and opens with a key or a ticket."""
    challenge = 'Bearer realm="relay"'
    assert await refused(relay, path) == (401, "key_missing", challenge)
    assert (await refused(relay, path, **bearer(STRANGE)))[:2] == (401, "key_unknown")
    assert (await refused(relay, path, **bearer(OPERATE)))[:2] == (403, "scope_missing")
    async with socket(relay, path, **bearer(READ)):
        pass
    async with socket(relay, f"{path}?ticket={await ticket_of(relay)}"):
        pass


@pytest.mark.parametrize("path", OPEN)
async def test_probes_and_pages_stay_open(relay: Live, path: str) -> None:
    """Whoever watches over us has no key, and a page holds no prices."""
    assert (await relay.asker.get(path)).status_code == 200


async def test_the_page_knows_whether_it_has_to_ask_for_a_key(
    relay: Live, opened: Live
) -> None:
    """Without being refused first, which a browser notes as an error."""
    shut, free = [await one.asker.get("/") for one in (relay, opened)]
    assert 'data-door="shut"' in shut.text
    assert 'data-door="open"' in free.text
    assert shut.headers["etag"] != free.headers["etag"]


async def test_the_numbers_of_an_instance_are_its_operators(
    relay: Live, opened: Live
) -> None:
    """Where strangers hold keys; where nobody does they are there without ado."""
    assert needed("/metrics") is OPERATOR
    assert (await opened.asker.get("/metrics")).status_code == 200
    assert (await relay.asker.get("/metrics")).status_code == 401
    less = await relay.asker.get("/metrics", headers=bearer(READ))
    assert (less.status_code, less.json()["error"]["code"]) == (403, "scope_missing")
    numbers = await relay.asker.get("/metrics", headers=bearer(OPERATE))
    assert numbers.status_code == 200
    assert 'relay_refused_total{reason="key_missing"} 1.0' in numbers.text


async def test_admin_routes_are_closed_until_there_is_a_key(
    opened: Live, client: Client, keys: Keys, settings: Settings
) -> None:
    """And then for everybody who has not that one, reading being open or not."""
    assert needed(RESET) is ADMIN
    for headers in ({}, bearer(OPERATE)):
        answer = await opened.asker.post(RESET, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (
            403,
            "forbidden",
        )
        answer = await opened.asker.post("/v1/ticket", headers=headers)
        assert answer.status_code == 403
    doors = replace(settings.doors, keys=LINES)
    async with live(client, keys, replace(settings, doors=doors)) as relay:
        assert (await relay.asker.get("/v1/prices")).status_code == 200
        assert (await relay.asker.post(RESET)).status_code == 401
        answer = await relay.asker.post(RESET, headers=bearer(READ))
        assert answer.status_code == 403
        answer = await relay.asker.post(RESET, headers=bearer(OPERATE))
        assert answer.status_code == 200
        # A page that shows tickets goes on when reading is opened.
        shown = f"/v1/stream?ticket={await ticket_of(relay)}"
        assert (await head_of(relay, shown)).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "api_key={key}",
        "apikey={key}",
        "X-API-Key={key}",
        "key={key}",
        "access_token={key}",
        "token={key}",
        "symbols=BTC-USD&Authorization=Bearer%20{key}",
        "symbols={key}",
        "ticket={key}",
        "symbols=BTC&x=rk%5F{rest}",
    ],
)
async def test_a_key_in_a_url_is_refused_and_told_to_nobody(
    relay: Live, caplog: pytest.LogCaptureFixture, query: str
) -> None:
    """It would be in every log on the way; even a right one beside it helps nothing."""
    caplog.set_level(logging.DEBUG)
    asked = query.format(key=READ, rest=READ.removeprefix("rk_"))
    for path in ("/v1/prices", "/v1/stream", "/api/prices"):
        for headers in ({}, bearer(READ)):
            answer = await head_of(relay, f"{path}?{asked}", **headers)
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == "key_in_url"
            assert READ.removeprefix("rk_") not in answer.text
    assert (await refused(relay, f"/v1/ws?{asked}"))[:2] == (400, "key_in_url")
    ours = [
        one.getMessage()
        for one in caplog.records
        if one.name.startswith(("relay", "uvicorn", "litestar"))
    ]
    assert not any(READ.removeprefix("rk_") in line for line in ours)


async def test_answers_are_private_unless_the_edge_asks_for_keys(
    relay: Live, client: Client, settings: Settings
) -> None:
    """A shared cache that asks nobody must not hand out what was asked with a key."""
    paths = ("/v1/prices", "/v1/poll", "/v1/symbols", "/api/prices")
    whole = await relay.asker.get("/v1/prices", headers=bearer(READ))
    for path in paths:
        plain = {"accept-encoding": "identity", **bearer(READ)}
        answer = await relay.asker.get(path, headers=plain)
        kept = "no-store" if path == "/v1/poll" else "max-age="
        assert answer.headers["cache-control"].startswith(f"private, {kept}")
        assert "cdn-cache-control" not in answer.headers
        assert lint(answer) == set()
    condition = {"if-none-match": whole.headers["etag"], **bearer(READ)}
    again = await relay.asker.get("/v1/prices", headers=condition)
    assert again.status_code == 304
    assert again.headers["cache-control"].startswith("private")
    page = await relay.asker.get("/")
    assert page.headers["cache-control"] == "no-cache"
    checked = locked_by(settings, edge_checks_keys=True)
    async with live(client, Keys("checked"), checked) as other:
        for path in paths:
            assert (await other.asker.get(path)).status_code == 401
            answer = await other.asker.get(path, headers=bearer(READ))
            assert answer.headers["cache-control"].startswith("public, max-age=")


def test_only_what_was_public_becomes_private() -> None:
    """What nobody may keep at all stays so."""
    for given, then in (
        (b"no-store", b"no-store"),
        (b"public, max-age=0, s-maxage=1", b"private, no-store"),
        (
            b"public, max-age=1, stale-if-error=9",
            b"private, max-age=1, stale-if-error=9",
        ),
    ):
        head = [
            (b"cache-control", given),
            (b"cdn-cache-control", b"x"),
            (b"etag", b"y"),
        ]
        assert private(head) == [(b"cache-control", then), (b"etag", b"y")]


async def test_a_wrong_method_is_told_so_and_no_more(relay: Live) -> None:
    """Closed or not, the routes and what they take are no secret."""
    for path in (*READS, *SOCKETS, "/v1/ticket", RESET, "/metrics"):
        answer = await relay.asker.request(HttpMethod.DELETE.value, path)
        assert answer.status_code == 405
        assert "61000" not in answer.text
    assert (await relay.asker.options("/v1/prices")).status_code == 204


async def test_a_ticket_opens_streams_on_any_instance(
    relay: Live, client: Client, keys: Keys, settings: Settings
) -> None:
    """By EventSource, which goes on from its last event with another ticket."""
    ticket = await ticket_of(relay)
    async with (
        live(client, keys, locked_by(settings), leader=relay.leader) as other,
        other.stream(f"ticket={ticket}") as source,
    ):
        first = await source.next()
        assert first["prices"]["BTC-USD"]["price"] == "61000.10"
        older = f"/api/market-data/stream?pairs=BTC/USD&ticket={ticket}"
        assert (await head_of(other, older)).status_code == 200
    await relay.leader.publish({"BTC-USD": "7"})
    another = await ticket_of(relay)
    async with relay.stream(f"ticket={another}", last=source.id) as source:
        assert list((await source.next())["prices"]) == ["BTC-USD"]


async def test_a_ticket_reads_for_its_time_and_does_nothing_else(relay: Live) -> None:
    """In a header it reads anything, in a URL it opens what browsers open."""
    ticket = await ticket_of(relay)
    for path in READS:
        assert (await head_of(relay, path, **bearer(ticket))).status_code == 200
    for path in ("/v1/prices", "/v1/poll", "/v1/status"):
        assert (await head_of(relay, f"{path}?ticket={ticket}")).status_code == 401
    for path in ("/v1/ticket", RESET):
        answer = await relay.asker.post(path, headers=bearer(ticket))
        assert (answer.status_code, answer.json()["error"]["code"]) == (
            403,
            "scope_missing",
        )
    assert (
        await relay.asker.get("/metrics", headers=bearer(ticket))
    ).status_code == 403


async def test_a_ticket_is_issued_to_a_reader_and_kept_by_nobody(relay: Live) -> None:
    """For a minute at most, by the store's clock."""
    answer = await relay.asker.post("/v1/ticket", headers=bearer(READ))
    now_ms = relay.hub.clock.wall_ms()
    assert 0 < answer.json()["expires_ms"] - now_ms <= 60_000
    assert answer.headers["cache-control"] == "private, no-store"
    assert lint(answer) == set()
    assert (await relay.asker.post("/v1/ticket")).status_code == 401
    less = await relay.asker.post("/v1/ticket", headers=bearer(OPERATE))
    assert less.status_code == 403
    more = await relay.asker.post("/v1/ticket?x=1", headers=bearer(READ))
    assert more.status_code == 400


async def test_a_browsers_reconnect_with_an_old_ticket_is_told_what_to_do(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """It repeats the old address for ever; the page must open a new stream."""
    brief = locked_by(settings, ticket_ms=1)
    async with live(client, keys, brief) as relay:
        ticket = await ticket_of(relay)
        await anyio.sleep(0.002)
        late = await head_of(relay, f"/v1/stream?ticket={ticket}")
        assert (await refused(relay, f"/v1/ws?ticket={ticket}"))[0] == 401
    assert late.status_code == 401
    error = late.json()["error"]
    assert error["code"] == "ticket_expired"
    assert "POST /v1/ticket" in error["hint"]
    assert "cursor=" in error["hint"]


def doors_of(clock: ManualClock, settings: Settings, **changes: object) -> Doors:
    """Return the doors of one instance."""
    return Doors(locked_by(settings, **changes).doors, clock)


def shown(ticket: str) -> list[tuple[bytes, bytes]]:
    """Return the head of a request that shows a ticket."""
    return [(b"authorization", f"Bearer {ticket}".encode("latin-1"))]


def code_of(doors: Doors, ticket: str) -> str:
    """Return why a ticket is refused, empty when it is not."""
    try:
        doors.check("/v1/stream", shown(ticket), b"")
    except Locked as locked:
        return locked.code
    return ""


def test_a_ticket_ends_to_the_millisecond(settings: Settings) -> None:
    """By the store's clock, which all instances share."""
    clock = ManualClock()
    doors = doors_of(clock, settings)
    ticket, until_ms = doors.issue(shown(READ))
    assert until_ms == clock.wall_ms() + 60_000
    clock.advance(59_999)
    assert code_of(doors, ticket) == ""
    clock.advance(1)
    assert code_of(doors, ticket) == "ticket_expired"


def test_no_other_text_is_a_ticket(settings: Settings) -> None:
    """Not one with a letter changed, cut or added, and none of another key's."""
    doors = doors_of(ManualClock(), settings)
    ticket, _ = doors.issue(shown(READ))
    name, expiry, mac = ticket.split(".")
    changed = [
        ticket[:place] + ("0" if ticket[place] != "0" else "1") + ticket[place + 1 :]
        for place in range(len("rt_"), len(ticket))
    ]
    made = [
        *changed,
        *(f"rt_{text}" for text in ("", ".", "..", "...", "é.é.é", "reader..", ".1.1")),
        f"rt_successor.{expiry}.{mac}",
        f"rt_nobody.{expiry}.{mac}",
        f"{name}.zzzzzzzzzzz.{mac}",
        f"{name}.{expiry}.",
        f"{name}.{expiry}",
        f"{ticket}0",
        ticket.upper().replace("RT_", "rt_"),
    ]
    assert code_of(doors, ticket) == ""
    assert {code_of(doors, one) for one in made} == {"ticket_invalid"}


def test_a_ticket_is_void_with_its_key_and_not_with_another(settings: Settings) -> None:
    """A key that is taken away takes its tickets along; its successor has its own."""
    clock = ManualClock()
    ticket, _ = doors_of(clock, settings).issue(shown(READ))
    kept = doors_of(clock, settings, keys=(READ_LINE, OPERATE_LINE))
    gone = doors_of(clock, settings, keys=(NEXT_LINE, OPERATE_LINE))
    less = READ_LINE.replace(":read:", ":admin:")
    lowered = doors_of(clock, settings, keys=(less, NEXT_LINE))
    again = doors_of(clock, settings, keys=(make_key("reader", "read")[1],))
    assert code_of(kept, ticket) == ""
    assert {code_of(one, ticket) for one in (gone, lowered, again)} == {
        "ticket_invalid"
    }


def test_with_a_secret_the_digests_alone_make_no_ticket(settings: Settings) -> None:
    """Whoever has read the settings' keys still lacks what the tickets hang on."""
    clock = ManualClock()
    ticket, _ = doors_of(clock, settings).issue(shown(READ))
    secret = doors_of(clock, settings, ticket_secret="s3cret")
    assert code_of(secret, ticket) == "ticket_invalid"
    own, _ = secret.issue(shown(READ))
    assert code_of(doors_of(clock, settings, ticket_secret="s3cret"), own) == ""


def test_nothing_is_looked_at_while_reading_is_open(settings: Settings) -> None:
    """A header that some proxy adds, or a query of one's own, is no error then."""
    doors = Doors(settings.doors, ManualClock())
    assert (doors.locked, doors.private) == (False, False)
    doors.check(
        "/v1/prices", shown("whatever"), b"key=rk_aaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    )
    doors.check("/metrics", [], b"")


def test_a_key_is_shown_in_a_header_and_only_as_it_is(settings: Settings) -> None:
    """Schemes are spelled as people do; an empty key is none."""
    doors = doors_of(ManualClock(), settings)
    for head in (
        [(b"authorization", f"bearer  {READ} ".encode())],
        [(b"authorization", b"Basic eDp5"), (b"x-api-key", READ.encode())],
    ):
        doors.check("/v1/prices", head, b"")
    for head, code in (
        ([(b"authorization", READ.encode())], "key_missing"),
        ([(b"authorization", b"Bearer ")], "key_missing"),
        ([(b"x-api-key", b" ")], "key_missing"),
        ([(b"authorization", f"Bearer {READ[:-1]}".encode())], "key_unknown"),
        ([(b"authorization", "Bearer é".encode())], "key_unknown"),
    ):
        with pytest.raises(Locked) as locked:
            doors.check("/v1/prices", head, b"")
        assert locked.value.code == code


def test_a_ticket_is_taken_out_of_the_query() -> None:
    """What reads the query behind the door knows nothing of it."""
    for given, left in (
        (b"ticket=rt_x", b""),
        (b"symbols=BTC&ticket=rt_x&cursor=a", b"symbols=BTC&cursor=a"),
        (b"symbols=BTC", b"symbols=BTC"),
        (b"xticket=1", b"xticket=1"),
    ):
        assert without_ticket(given) == left


def test_a_key_s_line_holds_no_key(settings: Settings) -> None:
    """And is one that the settings take."""
    key, line = make_key("shop", "read+admin")
    assert key not in line
    assert len(key) >= 40
    assert isinstance(locked_by(settings, keys=(line,)).doors, Settled)


async def test_every_refusal_is_good_http(relay: Live) -> None:
    """Linted by somebody else."""
    for path, headers in (
        ("/v1/prices", {}),
        ("/v1/prices", bearer(STRANGE)),
        ("/v1/prices", bearer(OPERATE)),
        ("/v1/prices?key=rk_", {}),
    ):
        answer = await relay.asker.get(path, headers=headers)
        assert answer.status_code in {400, 401, 403}
        assert lint(answer) == set()
