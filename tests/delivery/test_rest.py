"""Reads: the newest values, and everything an ETag promises."""

import json
import signal
import tracemalloc
from pathlib import Path

import anyio
import httpx
import pytest
from msgspec.structs import replace

from relay.clock import Clock
from relay.config import Settings
from relay.model import Cursor, Selection, Ticker
from relay.store.client import Client
from relay.store.embedded import embedded
from relay.store.keys import Keys
from tests.delivery.serving import (
    EPOCH,
    Leader,
    asking,
    client_of,
    make_app,
    make_hub,
    serving,
)
from tests.faults.valkey import OwnValkey
from tests.harness import eventually, open_client

PAIR = Selection.of(["BTC-USD", "ETH-USD"])
PRICES = {"BTC-USD": "61000.1200", "ETH-USD": "3000.5"}


@pytest.fixture
async def leader(client: Client, keys: Keys) -> Leader:
    """Return a leader that has published two prices, and beats."""
    leader = Leader(client, keys)
    await leader.publish(PRICES)
    await leader.mark()
    return leader


def tag(answer: httpx.Response) -> str:
    """Return an answer's ETag without its quotes."""
    return answer.headers["etag"].strip('"')


def ahead(offset: int, selection: Selection = PAIR) -> str:
    """Return a cursor that no instance has reached."""
    return str(Cursor(EPOCH, selection.hash, offset + 1_000_000))


async def test_the_body_is_that_of_the_contract(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """One body for all ways out; the ETag is its cursor."""
    async with serving(client, keys, settings) as asker:
        answer = await asker.get("/v1/prices?symbols=BTC-USD,ETH-USD,FOO-USD")
    body = answer.json()
    assert body["as_of_ms"] == leader.offset
    assert body["live"] is True
    assert body["prices"]["BTC-USD"] == {
        "price": "61000.1200",
        "offset": leader.offset,
    }
    assert (body["missing"], body["gone"]) == (["FOO-USD"], [])
    assert tag(answer) == body["cursor"]
    assert answer.headers["content-type"] == "application/json"


async def test_an_instance_with_a_hub_answers_the_same(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """Function or server: every byte is a function of URL and ETag."""
    hub = make_hub(client, keys, settings)
    async with serving(client, keys, settings, hub=hub) as asker:
        await eventually(lambda: hub.board.offset == leader.offset and hub.live)
        held = await asker.get("/v1/prices")
    async with serving(client, keys, settings) as asker:
        read = await asker.get("/v1/prices")
    assert held.content == read.content
    assert held.headers == read.headers


@pytest.mark.usefixtures("leader")
async def test_every_spelling_answers_the_same_and_names_the_canonical_one(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Caches that see one URL hold one answer."""
    async with serving(client, keys, settings) as asker:
        plain = await asker.get("/v1/prices?symbols=BTC-USD,ETH-USD&fields=price")
        spelled = await asker.get("/v1/prices?fields=price&symbols=eth,bitcoin")
    assert "content-location" not in plain.headers
    place = "/v1/prices?symbols=BTC-USD,ETH-USD&fields=price"
    assert spelled.headers["content-location"] == place
    assert spelled.content == plain.content


@pytest.mark.usefixtures("leader")
@pytest.mark.parametrize(
    "name", ["BTC-USD", "btc-usd", "BTC", "bitcoin", "BTC%2FUSD", "BTC/USD"]
)
async def test_one_instrument_answers_to_all_of_its_names(
    client: Client, keys: Keys, settings: Settings, name: str
) -> None:
    """The same body with one instrument, under its canonical name."""
    async with serving(client, keys, settings) as asker:
        answer = await asker.get(f"/v1/prices/{name}")
    assert list(answer.json()["prices"]) == ["BTC-USD"]
    place = answer.headers.get("content-location")
    assert place == (None if name == "BTC-USD" else "/v1/prices/BTC-USD")


@pytest.mark.usefixtures("leader")
async def test_an_unknown_instrument_is_missing_and_no_error(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """It may come; the question was well-formed."""
    async with serving(client, keys, settings) as asker:
        answer = await asker.get("/v1/prices/NOPE-USD")
    assert answer.status_code == 200
    assert answer.json()["missing"] == ["NOPE-USD"]


@pytest.mark.parametrize(
    ("wrap", "status"),
    [
        ('"{}"', 304),
        ('W/"{}"', 304),
        ('"other", "{}"', 304),
        ('"a","b" , W/"{}"', 304),
        ("*", 304),
        ('"{}x"', 200),
        ('"other"', 200),
        ("{}", 200),
        ("", 200),
    ],
)
@pytest.mark.usefixtures("leader")
async def test_if_none_match_is_compared_weakly_and_as_a_list(
    client: Client, keys: Keys, settings: Settings, wrap: str, status: int
) -> None:
    """Proxies weaken strong tags and join several into a list."""
    async with serving(client, keys, settings) as asker:
        first = await asker.get("/v1/prices?list=majors")
        condition = {"if-none-match": wrap.format(tag(first))}
        again = await asker.get("/v1/prices?list=majors", headers=condition)
    assert again.status_code == status


@pytest.mark.usefixtures("leader")
async def test_a_304_carries_what_the_200_would_for_caches(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """A cache refreshes what it holds with these headers."""
    place = "/v1/prices?symbols=btc"
    async with serving(client, keys, settings) as asker:
        full = await asker.get(place)
        condition = {"if-none-match": full.headers["etag"]}
        empty = await asker.get(place, headers=condition)
    assert empty.status_code == 304
    assert empty.content == b""
    of_body = {"content-type", "content-length", "x-content-type-options"}
    kept = {name: value for name, value in full.headers.items() if name not in of_body}
    assert dict(empty.headers) == kept


@pytest.mark.usefixtures("leader")
async def test_head_answers_as_get_without_the_body(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Monitors ask like that, and caches may."""
    async with serving(client, keys, settings) as asker:
        for place in ("/v1/prices", "/v1/prices/BTC", "/v1/prices/BTC/recent"):
            full, head = await asker.get(place), await asker.head(place)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers == full.headers


async def test_the_etag_changes_only_when_something_selected_does(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """Another instrument's change costs nobody else a download."""
    async with serving(client, keys, settings) as asker:
        first = await asker.get("/v1/prices/BTC-USD")
        await leader.publish({"ETH-USD": "3001"})
        same = await asker.get("/v1/prices/BTC-USD")
        await leader.publish({"BTC-USD": "61001"})
        other = await asker.get("/v1/prices/BTC-USD")
    assert (same.headers["etag"], same.content) == (
        first.headers["etag"],
        first.content,
    )
    assert other.headers["etag"] != first.headers["etag"]
    assert other.json()["prices"]["BTC-USD"]["price"] == "61001"


async def test_a_conditional_read_ahead_of_the_instance_gets_304(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """What the client holds is newer than anything we could send."""
    newer = ahead(leader.offset)
    async with serving(client, keys, settings) as asker:
        for condition in (f'"{newer}"', f'"old", W/"{newer}~7"'):
            answer = await asker.get(
                "/v1/prices?symbols=BTC,ETH", headers={"if-none-match": condition}
            )
            assert answer.status_code == 304
            assert tag(answer).partition("~")[0] == newer
        foreign = {"if-none-match": f'"{newer}"'}
        of_another = await asker.get("/v1/prices/BTC-USD", headers=foreign)
        assert of_another.status_code == 200


async def test_a_cursor_gets_what_changed_since_at_once(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """A client that was away long reads instead of polling."""
    place = "/v1/prices?symbols=BTC-USD,ETH-USD"
    async with serving(client, keys, settings) as asker:
        cursor = (await asker.get(place)).json()["cursor"]
        nothing = await asker.get(f"{place}&cursor={cursor}")
        await leader.publish({"ETH-USD": "3001"})
        changed = await asker.get(f"{place}&cursor={cursor}~x")
    assert (nothing.status_code, nothing.json()["prices"]) == (200, {})
    assert nothing.json()["cursor"] == cursor
    assert list(changed.json()["prices"]) == ["ETH-USD"]
    assert "reset" not in changed.json()


async def test_a_cursor_of_another_epoch_is_reset(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """What the client holds is of another life; and the tag says so as well."""
    foreign = Cursor("k3f8", PAIR.hash, leader.offset)
    async with serving(client, keys, settings) as asker:
        answer = await asker.get(f"/v1/prices?symbols=BTC,ETH&cursor={foreign}")
    body = answer.json()
    assert body["reset"] is True
    assert list(body["prices"]) == ["BTC-USD", "ETH-USD"]
    assert tag(answer) == body["cursor"] == f"{EPOCH}.{PAIR.hash}.{leader.offset}~r"


async def test_a_cursor_ahead_of_the_instance_is_handed_back(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """Nothing older answers it, and its tag is not that of a later body."""
    newer = ahead(leader.offset)
    async with serving(client, keys, settings) as asker:
        answer = await asker.get(f"/v1/prices?symbols=BTC,ETH&cursor={newer}")
    body = answer.json()
    assert answer.status_code == 200
    assert (body["cursor"], body["prices"]) == (f"{newer}~w", {})
    assert tag(answer) == body["cursor"]


async def test_a_removed_instrument_is_gone_since_and_missing_after(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """A client with a cursor takes it off its screen, one without never sees it."""
    place = "/v1/prices?symbols=BTC-USD,ETH-USD"
    async with serving(client, keys, settings) as asker:
        cursor = (await asker.get(place)).json()["cursor"]
        await leader.publish({"ETH-USD": Ticker(removed=True)})
        since = (await asker.get(f"{place}&cursor={cursor}")).json()
        whole = (await asker.get(place)).json()
    assert (since["gone"], since["missing"]) == (["ETH-USD"], [])
    assert (whole["gone"], whole["missing"]) == ([], ["ETH-USD"])


@pytest.mark.parametrize("with_hub", [False, True])
async def test_nobody_ingesting_is_told_in_body_and_tag(
    client: Client,
    keys: Keys,
    settings: Settings,
    with_hub: bool,  # noqa: FBT001 - both ways of reading
) -> None:
    """A cached answer that says live must not stand for one that does not."""
    leader = Leader(client, keys)
    await leader.publish(PRICES)
    hub = make_hub(client, keys, settings) if with_hub else None
    async with serving(client, keys, settings, hub=hub) as asker:
        if hub is not None:
            await eventually(lambda: hub.board.offset == leader.offset)
        answer = await asker.get("/v1/prices?symbols=BTC,ETH")
        condition = {"if-none-match": f'"{EPOCH}.{PAIR.hash}.{leader.offset}"'}
        told = await asker.get("/v1/prices?symbols=BTC,ETH", headers=condition)
    assert answer.json()["live"] is False
    assert tag(answer) == f"{EPOCH}.{PAIR.hash}.{leader.offset}~d"
    assert told.status_code == 200


async def test_a_board_on_which_nothing_was_published_says_so(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Before the first price everything is missing, and the cursor is a good one."""
    async with serving(client, keys, settings) as asker:
        answer = await asker.get("/v1/prices?symbols=BTC,ETH")
        body = answer.json()
        assert (body["live"], body["prices"]) == (False, {})
        assert body["missing"] == ["BTC-USD", "ETH-USD"]
        leader = Leader(client, keys)
        await leader.publish(PRICES)
        after = await asker.get(f"/v1/prices?symbols=BTC,ETH&cursor={body['cursor']}")
    assert list(after.json()["prices"]) == ["BTC-USD", "ETH-USD"]


@pytest.mark.usefixtures("leader")
async def test_fields_are_those_asked_for_digit_for_digit(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Small screens read less."""
    async with serving(client, keys, settings) as asker:
        answer = await asker.get("/v1/prices/BTC-USD?fields=price")
    ticker = answer.json()["prices"]["BTC-USD"]
    assert list(ticker) == ["price", "offset"]
    assert ticker["price"] == "61000.1200"


@pytest.mark.usefixtures("leader")
async def test_reads_say_how_long_they_keep(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Everything that varies an answer stands in the URL, so nothing varies."""
    async with serving(client, keys, settings) as asker:
        answer = await asker.get("/v1/prices")
    rules = answer.headers["cache-control"]
    assert rules.startswith("public, max-age=1, stale-while-revalidate=")
    assert "stale-if-error=" in rules
    assert answer.headers["cdn-cache-control"] == rules.removeprefix("public, ")
    assert "vary" not in answer.headers
    assert "set-cookie" not in answer.headers


@pytest.mark.usefixtures("leader")
async def test_the_bodies_that_are_kept_are_the_newest(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """More URLs than an instance keeps bodies of, each read twice."""
    async with serving(client, keys, settings) as asker:
        for _ in range(2):
            for number in range(200):
                answer = await asker.get(f"/v1/prices?symbols=BTC,X{number}")
                assert answer.json()["missing"] == [f"X{number}-USD"]


async def test_long_queries_are_answered_and_not_remembered(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Anybody can make up thousands of them."""
    held: list[int] = []
    async with serving(client, keys, settings) as asker:
        tracemalloc.start()
        try:
            for number in range(300):
                long = f"/v1/prices?cursor=a.b.1~{number:050000d}"
                assert (await asker.get(long)).status_code == 200
                held.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    # The client library remembers 128 of them.
    assert held[-1] - held[149] < 75 * 50_000


async def test_recent_is_the_last_minutes_oldest_first(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """What a sparkline draws."""
    lease = await leader.lease()
    for number in (1, 2, 3):
        point = json.dumps([number, f"{number}.50"]).encode()
        points = {"BTC-USD": point}
        await leader.writer.remember(lease, points, most=2, life_ms=60_000)
    async with serving(client, keys, settings) as asker:
        answer = await asker.get("/v1/prices/bitcoin/recent")
        again = await asker.get(
            "/v1/prices/BTC/USD/recent",
            headers={"if-none-match": answer.headers["etag"]},
        )
        none = await asker.get("/v1/prices/NOPE-USD/recent")
    assert answer.json() == {"symbol": "BTC-USD", "points": [[2, "2.50"], [3, "3.50"]]}
    assert answer.headers["content-location"] == "/v1/prices/BTC-USD/recent"
    assert again.status_code == 304
    assert none.json() == {"symbol": "NOPE-USD", "points": []}


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("/v1/prices?symbols=%3Cb%3E", "selection_invalid"),
        ("/v1/prices?list=nope", "selection_invalid"),
        ("/v1/prices?symbol=BTC", "query_invalid"),
        ("/v1/prices?cursor=nonsense", "cursor_invalid"),
        ("/v1/prices/a%20b", "selection_invalid"),
        ("/v1/prices/A,B", "selection_invalid"),
        ("/v1/prices/BTC?symbols=ETH", "query_invalid"),
        ("/v1/prices/BTC?list=majors", "query_invalid"),
        ("/v1/prices/BTC/recent?fields=price", "query_invalid"),
        ("/v1/prices/a%20b/recent", "selection_invalid"),
    ],
)
async def test_a_malformed_read_is_400_with_a_code(
    client: Client, keys: Keys, settings: Settings, place: str, code: str
) -> None:
    """A code for programs, a sentence and a hint for people."""
    async with serving(client, keys, settings) as asker:
        answer = await asker.get(place)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == code
    assert error["sentence"]
    assert error["hint"]


async def test_a_hub_that_is_not_ready_reads_the_store(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """The first request after a start is answered like any other."""
    hub = make_hub(client, keys, settings)  # and nobody runs it
    async with client_of(make_app(client, keys, settings, hub)) as asker:
        answer = await asker.get("/v1/prices")
    assert answer.json()["as_of_ms"] == leader.offset
    assert answer.json()["live"] is True


async def test_reads_are_noted_as_demand(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """What clients read is what the leader subscribes to."""
    await leader.writer.list_symbols(await leader.lease(), {"WIF-USD": ["kraken"]})
    app = make_app(client, keys, settings, None)
    async with asking(app) as asker:
        await asker.get("/v1/prices/wif")
        noted: list[str] = []
        with anyio.fail_after(10):
            while not noted:
                noted = await leader.writer.demand(0)
    assert noted == ["WIF-USD"]


async def test_an_instance_that_lost_the_store_serves_what_it_holds(
    settings: Settings, keys: Keys
) -> None:
    """Old prices that say so are better than none; what must be read is 503."""
    async with embedded() as url, open_client(url, settings) as client:
        leader, hub = Leader(client, keys), make_hub(client, keys, settings)
        await leader.publish(PRICES)
        app = make_app(client, keys, settings, hub)
        async with asking(app) as asker:
            await leader.mark_until(lambda: hub.ready and bool(hub.mark))
            assert (await asker.get("/v1/prices")).json()["live"] is True
            await client.valkey.shutdown(nosave=True)
            await eventually(lambda: not hub.live)
            answer = await asker.get("/v1/prices")
            recent = await asker.get("/v1/prices/BTC-USD/recent")
            ready = await asker.get("/readyz")
    body = answer.json()
    assert (body["live"], list(body["prices"])) == (False, list(PRICES))
    assert tag(answer).endswith("~d")
    assert recent.status_code == 503
    assert ready.status_code == 200


async def test_a_hub_that_cannot_catch_up_serves_what_it_holds(
    settings: Settings, keys: Keys
) -> None:
    """Frozen, then woken without a store: neither fresh nor an error."""
    async with embedded() as url, open_client(url, settings) as client:
        soon = replace(settings, http=replace(settings.http, quiet_ms=200))
        leader, hub = Leader(client, keys), make_hub(client, keys, soon)
        await leader.publish(PRICES)
        async with asking(make_app(client, keys, settings, hub)) as asker:
            await leader.mark_until(lambda: hub.ready)
        async with client_of(make_app(client, keys, settings, hub)) as asker:
            await client.valkey.shutdown(nosave=True)
            await eventually(lambda: not hub.ready)
            answer = await asker.get("/v1/prices")
    assert answer.json()["live"] is False
    assert list(answer.json()["prices"]) == list(PRICES)


@pytest.mark.parametrize("later", [{}, {"ETH-USD": "3"}], ids=["quiet", "passed"])
async def test_a_hub_that_has_slept_takes_nobody_back_to_an_older_copy(
    client: Client, keys: Keys, settings: Settings, later: dict[str, str]
) -> None:
    """Before it has read the board again, it looks into the store for each read."""
    soon = replace(settings, http=replace(settings.http, quiet_ms=200))
    leader, hub = Leader(client, keys), make_hub(client, keys, soon)
    copied = await leader.publish(PRICES)
    rows = await client.valkey.hgetall(keys.tickers)
    await leader.publish({"BTC-USD": "61001"})
    async with asking(make_app(client, keys, settings, hub)) as asker:
        await leader.mark_until(lambda: hub.ready)
    async with client_of(make_app(client, keys, settings, hub)) as asker:
        await eventually(lambda: not hub.ready)
        await client.valkey.hset(keys.head, "offset", str(copied))
        await client.valkey.hset(keys.tickers, mapping=rows)
        await client.valkey.delete(keys.log)
        leader.offset = copied
        if later:
            await leader.publish(later)
        prices = (await asker.get("/v1/prices?symbols=BTC-USD,ETH-USD")).json()
    shown = {name: one["price"] for name, one in prices["prices"].items()}
    assert shown == {**PRICES, "BTC-USD": "61001", **later}


async def test_a_large_read_is_compressed_and_its_tag_is_a_cursor_all_the_same(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """The tag goes into a poll, a stream or a read, whatever the coding was."""
    wide = {f"A{number}-USD": "1" for number in range(60)}
    offset = await leader.publish(wide)
    async with serving(client, keys, settings) as asker:
        answers = {
            coding: await asker.get("/v1/prices", headers={"accept-encoding": coding})
            for coding in ("identity", "gzip", "zstd")
        }
        tags = {coding: tag(answer) for coding, answer in answers.items()}
        assert len(set(tags.values())) == 3
        assert len({answer.content for answer in answers.values()}) == 1
        for coding, held in tags.items():
            sent = {"if-none-match": f'"{held}"', "accept-encoding": coding}
            again = await asker.get("/v1/prices", headers=sent)
            assert (again.status_code, tag(again)) == (304, held)
            since = (await asker.get(f"/v1/prices?cursor={held}")).json()
            assert (since["prices"], since["as_of_ms"]) == ({}, offset)


async def test_how_long_caches_keep_a_read_is_a_setting(
    client: Client, keys: Keys, settings: Settings, leader: Leader
) -> None:
    """Written in milliseconds like every other, and told in seconds."""
    http = replace(
        settings.http, fresh_ms=2000, revalidate_ms=5000, stale_error_ms=60_000
    )
    async with serving(client, keys, replace(settings, http=http)) as asker:
        answer = await asker.get("/v1/prices")
    assert leader.offset
    rules = "max-age=2, stale-while-revalidate=5, stale-if-error=60"
    assert answer.headers["cache-control"] == f"public, {rules}"
    assert answer.headers["cdn-cache-control"] == rules


async def test_a_read_does_not_wait_for_a_store_that_says_nothing(
    settings: Settings, keys: Keys, tmp_path: Path
) -> None:
    """What is held is answered soon, as no longer live: stopped is not yet lost."""
    soon = replace(settings, http=replace(settings.http, quiet_ms=300))
    store = OwnValkey(tmp_path / "store")
    await store.start()
    url, clock, took_ms = f"valkey://127.0.0.1:{store.port}", Clock(), []
    try:
        async with open_client(url, settings) as client:
            leader, hub = Leader(client, keys), make_hub(client, keys, soon)
            await leader.publish(PRICES)
            async with asking(make_app(client, keys, soon, hub)) as asker:
                await leader.mark_until(lambda: hub.ready and bool(hub.mark))
                store.send(signal.SIGSTOP)
                answers: list[httpx.Response] = []
                while not answers or answers[-1].json()["live"]:
                    began_ms = clock.monotonic_ms()
                    answers.append(await asker.get("/v1/prices"))
                    took_ms.append(clock.monotonic_ms() - began_ms)
                store.send(signal.SIGCONT)
    finally:
        store.send(signal.SIGCONT)
        await store.kill()
    assert max(took_ms) < 1500
    assert list(answers[-1].json()["prices"]) == list(PRICES)
