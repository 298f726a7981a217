"""The application as a whole: its routes, its errors, its headers."""

import json
from collections import Counter
from collections.abc import Iterator

import pytest
from litestar import Litestar
from litestar.enums import HttpMethod
from litestar.exceptions import ClientException, NotFoundException
from litestar.routes import ASGIRoute, HTTPRoute, WebSocketRoute
from msgspec.structs import replace

from relay.clock import Clock
from relay.config import Settings
from relay.delivery.contract import OPERATIONS, PAGES
from relay.delivery.describe import describe
from relay.delivery.faults import fault_of, status_of
from relay.delivery.parameters import choices
from relay.errors import CursorInvalid, RequestError, SelectionInvalid, StoreDown
from relay.hub import Unready
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.serving import (
    Leader,
    client_of,
    make_app,
    make_hub,
    serving,
)


@pytest.fixture
async def leader(client: Client, keys: Keys) -> Leader:
    """Return a leader that has published a price, and beats."""
    leader = Leader(client, keys)
    await leader.publish({"BTC-USD": "61000.12"})
    await leader.mark()
    return leader


@pytest.fixture
def app(client: Client, keys: Keys, settings: Settings) -> Litestar:
    """Return an application with all its routes."""
    return make_app(client, keys, settings, make_hub(client, keys, settings))


def handlers(app: Litestar) -> Iterator[tuple[str, str]]:
    """Yield each method and path, once for each handler that takes it."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                for method in handler.http_methods:
                    yield HttpMethod(method).value, route.path_format
        elif isinstance(route, ASGIRoute):
            for method in route.route_handler.opt["methods"]:
                yield HttpMethod(method).value, route.path_format
        else:
            # It has a GET beside it, for those who do not open a WebSocket.
            assert isinstance(route, WebSocketRoute)
            yield "WEBSOCKET", route.path_format


async def test_each_method_and_path_has_exactly_one_handler(app: Litestar) -> None:
    """Nobody has to guess which of two answers."""
    for handler, count in Counter(handlers(app)).items():
        assert count == 1, handler


async def test_the_description_names_every_route_and_no_other(app: Litestar) -> None:
    """What is written by hand must not part from what is served."""
    described = {
        (method.upper(), operation.path)
        for operation in OPERATIONS
        for method in (operation.method, *(["head"] if operation.head else []))
    }
    described |= {(method, path) for path in PAGES for method in ("GET", "HEAD")}
    served = {
        (method, path)
        for method, path in handlers(app)
        if method not in {"OPTIONS", "WEBSOCKET"} and "{currency}" not in path
    }
    assert served == described


def test_the_description_is_openapi_without_loose_ends(settings: Settings) -> None:
    """Each reference leads somewhere, each operation has a name of its own."""
    text = describe(choices(settings))
    document = json.loads(text)
    names = document["components"]["schemas"]
    for reference in text.decode().split('"$ref":"')[1:]:
        assert reference.partition('"')[0].rpartition("/")[2] in names
    ids = [
        one["operationId"]
        for path in document["paths"].values()
        for one in path.values()
    ]
    assert len(ids) == len(set(ids))
    assert document["openapi"].startswith("3.1")


ERRORS: list[tuple[Exception, int, str]] = [
    (CursorInvalid("x"), 400, "cursor_invalid"),
    (SelectionInvalid("a", "b"), 400, "selection_invalid"),
    (RequestError("query_invalid", "a", "b"), 400, "query_invalid"),
    (RequestError("body_too_large", "a", "b"), 413, "body_too_large"),
    (RequestError("media_type", "a", "b"), 415, "media_type"),
    (StoreDown("valkey://secret", "secret"), 503, "store_down"),
    (Unready("busy", "a", 5), 503, "busy"),
    (NotFoundException(), 404, "not_found"),
    (ClientException("Invalid host header"), 400, "request_invalid"),
    (ZeroDivisionError("secret"), 500, "internal"),
]


@pytest.mark.parametrize(("error", "status", "code"), ERRORS)
def test_every_error_has_its_status_and_its_code(
    error: Exception, status: int, code: str
) -> None:
    """One table; and of our own failures nothing is told but that they are ours."""
    fault = fault_of(error)
    assert (status_of(error), fault.code) == (status, code)
    assert fault.sentence
    assert fault.hint
    assert "secret" not in fault.sentence + fault.hint


@pytest.mark.parametrize(
    ("method", "place", "status", "code"),
    [
        ("GET", "/nope", 404, "not_found"),
        ("GET", "/v1/prices/a/b/c/d", 404, "not_found"),
        ("GET", "/v1/ws", 426, "upgrade_required"),
        ("GET", "/ws/prices", 426, "upgrade_required"),
        ("GET", "/ws/prices/BTC%2FUSD", 426, "upgrade_required"),
        ("POST", "/v1/prices", 405, "method_not_allowed"),
        ("DELETE", "/v1/prices/BTC-USD", 405, "method_not_allowed"),
        ("PUT", "/v1/value", 405, "method_not_allowed"),
    ],
)
async def test_the_routers_errors_have_the_same_shape(
    app: Litestar, method: str, place: str, status: int, code: str
) -> None:
    """A client reads one kind of error."""
    async with client_of(app) as asker:
        answer = await asker.request(method, place)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["cache-control"] == "no-store"
    if status == 405:
        assert "GET" in answer.headers["allow"]


async def test_options_says_what_a_path_takes(app: Litestar) -> None:
    """It changes nothing, and needs no body."""
    async with client_of(app) as asker:
        for operation in OPERATIONS:
            place = operation.path.replace("{symbol}", "BTC-USD")
            answer = await asker.options(place.replace("{ids}", "btc"))
            assert (place, answer.status_code) == (place, 204)
            takes = answer.headers["allow"].split(", ")
            named = {operation.method.upper(), "OPTIONS"}
            assert named | ({"HEAD"} if operation.head else set()) <= set(takes)


async def test_a_store_that_cannot_be_reached_is_503_and_says_when_to_come_back(
    settings: Settings, keys: Keys
) -> None:
    """Nothing is held, so nothing can be served; where the store is stays ours."""
    nowhere = replace(settings.store, url="valkey://:secret@127.0.0.1:1")
    client = Client(nowhere, Clock())
    async with serving(client, keys, settings) as asker:
        for place in ("/v1/prices", "/v1/symbols", "/v1/value?holdings=BTC:1"):
            answer = await asker.get(place)
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert "127.0.0.1" not in answer.text
        status = await asker.get("/v1/status")
    await client.close()
    assert status.status_code == 200
    assert status.json()["store"] == "unreachable"
    assert status.json()["leader"] is None


@pytest.mark.parametrize("place", ["/", "/docs"])
async def test_a_page_takes_nothing_from_elsewhere(app: Litestar, place: str) -> None:
    """No outside request, no inline script, no frame around it."""
    async with client_of(app) as asker:
        answer = await asker.get(place)
        again = await asker.get(
            place, headers={"if-none-match": answer.headers["etag"]}
        )
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "http" not in answer.text.replace("http://www.w3.org/2000/svg", "")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert again.status_code == 304


async def test_what_a_page_is_made_of_is_there(app: Litestar) -> None:
    """Each file it names, under its content type."""
    async with client_of(app) as asker:
        for page in ("/", "/docs"):
            text = (await asker.get(page)).text
            for name in text.split('="/dashboard/')[1:]:
                path = "/dashboard/" + name.partition('"')[0]
                answer = await asker.get(path)
                kind = "text/css" if path.endswith("css") else "text/javascript"
                assert answer.headers["content-type"].startswith(kind)
