"""Doors in a real browser: tickets in place of keys, other origins, guarded pages."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace
from playwright.async_api import BrowserContext, Page, Route, expect

from relay.config import Settings
from relay.delivery.doors import make_key
from relay.store.client import Client
from relay.store.keys import Keys
from tests.browser.conftest import BLANK, Watched, blank
from tests.browser.site import Running, running
from tests.browser.test_client import holds, says, subscribe, uses
from tests.browser.test_page import row, serious, state
from tests.harness import eventually, until

KEY, LINE = make_key("shop", "read")
OTHER, OTHER_LINE = make_key("other", "read")
OPERATE, OPERATE_LINE = make_key("operator", "admin")
ELSEWHERE = "http://shop.example"

# What a page's own server would do, which alone has the key.
_ISSUE = """(key) => {
    window.issued = 0;
    window.issue = async () => {
        issued += 1;
        const answer = await fetch("/v1/ticket", {
            method: "POST", headers: { authorization: `Bearer ${key}` },
        });
        return (await answer.json()).ticket;
    };
}"""
_SUBSCRIBE = """([selection, way]) => {
    window.subs = { one: relay.subscribe(selection, { way, ticket: issue }) };
}"""


@asynccontextmanager
async def locked(
    client: Client, keys: Keys, settings: Settings, **changes: object
) -> AsyncIterator[Running]:
    """Run a relay whose reading needs a key."""
    doors = replace(settings.doors, reading="keys", keys=(LINE, OPERATE_LINE))
    settings = replace(settings, doors=replace(doors, **changes))
    prices = {"BTC-USD": "61000.10", "ETH-USD": "3000.00"}
    async with running(client, keys, settings, prices) as run:
        yield run


@pytest.fixture
async def closed(
    client: Client, keys: Keys, settings: Settings
) -> AsyncIterator[Running]:
    """Run such a relay."""
    async with locked(client, keys, settings) as run:
        yield run


async def read_with_tickets(page: Page, way: str) -> None:
    """Subscribe by a way, as a page that gets tickets does."""
    await page.evaluate(_ISSUE, KEY)
    await page.evaluate(_SUBSCRIBE, [["bitcoin", "ETH-USD"], way])
    await holds(page, "one", BTC_USD="61000.10", ETH_USD="3000.00")
    await uses(page, "one", way)


@pytest.mark.parametrize("way", ["stream", "poll", "ws"])
async def test_a_page_reads_with_a_ticket_by_every_way(
    context: BrowserContext, closed: Running, way: str
) -> None:
    """Names are looked up, streams opened and polls asked with one ticket."""
    watched = await blank(context, closed)
    page = watched.page
    await read_with_tickets(page, way)
    await closed.site.publish({"BTC-USD": "2"})
    await holds(page, "one", BTC_USD="2", ETH_USD="3000.00")
    assert await page.evaluate("issued") == 1
    assert not any(KEY in url for url in watched.opened)
    assert watched.complaints == []
    shown = [url for url in watched.opened if "ticket=" in url]
    assert len(shown) == (1 if way == "ws" else 0)


@pytest.mark.parametrize("way", ["poll", "ws"])
async def test_a_page_that_comes_back_late_gets_another_ticket(
    context: BrowserContext, client: Client, keys: Keys, settings: Settings, way: str
) -> None:
    """The old one is refused once, and nothing is missed."""
    async with locked(client, keys, settings, ticket_ms=300) as run:
        page = (await blank(context, run)).page
        await read_with_tickets(page, way)
        await run.site.stop()
        await says(page, "one", "reconnecting")
        await run.site.publish({"BTC-USD": "2"})
        await run.restart()
        await holds(page, "one", BTC_USD="2", ETH_USD="3000.00")
        assert await page.evaluate("issued") > 1


async def test_a_page_without_a_ticket_is_told_that_it_needs_a_key(
    context: BrowserContext, closed: Running
) -> None:
    """And does not ask again and again."""
    watched = await blank(context, closed)
    await subscribe(watched.page, "one", ["BTC-USD"])
    await says(watched.page, "one", "refused")
    error = await watched.page.evaluate("subs.one.status.error")
    assert error.startswith("This needs a key.")
    assert len(watched.opened) == 1


async def test_an_event_source_opens_with_a_ticket_in_its_address(
    context: BrowserContext, closed: Running
) -> None:
    """What browsers have of their own; it sends no header."""
    page = (await blank(context, closed)).page
    await page.evaluate(_ISSUE, KEY)
    told = await page.evaluate(
        """async () => {
            const source = new EventSource(`/v1/stream?ticket=${await issue()}`);
            const { data } = await new Promise((done) => (source.onmessage = done));
            source.close();
            return JSON.parse(data).prices["BTC-USD"].price;
        }"""
    )
    assert told == "61000.10"


@pytest.mark.parametrize("way", ["stream", "poll", "ws"])
async def test_a_page_of_another_origin_reads_with_the_relay_s_own_client(
    context: BrowserContext, run: Running, way: str
) -> None:
    """The module and the prices, as the settings let anybody's."""

    async def fulfill(route: Route) -> None:
        await route.fulfill(body=BLANK, content_type="text/html")

    page = await context.new_page()
    await page.route(f"{ELSEWHERE}/**", fulfill)
    watched = Watched(page, run.site.url)
    await page.goto(f"{ELSEWHERE}/page")
    url = f"{run.site.url}/"
    await page.evaluate(
        """async ([url, way]) => {
            const relay = await import(`${url}dashboard/relay.js`);
            window.subs = { one: relay.subscribe(["ethereum"], { url, way }) };
        }""",
        [url, way],
    )
    await holds(page, "one", ETH_USD="3000.00")
    await uses(page, "one", way)
    assert watched.complaints == []


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_pages_keep_to_their_own_policy(
    context: BrowserContext, run: Running, path: str
) -> None:
    """Nothing of theirs is inline or from elsewhere, so that nothing else may be."""
    page = await context.new_page()
    watched = Watched(page, run.site.url)
    answer = await page.goto(f"{run.site.url}{path}", wait_until="load")
    assert answer is not None
    assert "unsafe" not in (await answer.header_value("content-security-policy") or "")

    async def styled() -> bool:
        sheets = "[...document.styleSheets].every((one) => one.cssRules.length)"
        return bool(await page.evaluate(sheets))

    await until(styled)
    injected = """() => {
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        document.head.append(script);
        return window.ran === true;
    }"""
    assert watched.complaints == []
    assert watched.foreign == []
    assert await page.evaluate(injected) is False


async def front(context: BrowserContext, run: Running) -> Watched:
    """Open the page at / and see that it asks for a key, and for nothing else."""
    page = await context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    watched = Watched(page, run.site.url)
    await page.goto(run.site.url)
    await state(page, "locked")
    await expect(page.get_by_role("heading", name="needs a key")).to_be_visible()
    await expect(page.locator("#grid")).to_be_hidden()
    await expect(page.locator("#forget")).to_be_hidden()
    assert not any("/v1/" in url for url in asked)
    return watched


async def show_key(page: Page, key: str) -> None:
    """Type a key and send it with the keyboard."""
    await page.get_by_label("Key", exact=True).fill(key)
    await page.keyboard.press("Enter")


async def kept(page: Page) -> list[str]:
    """Return whatever the browser keeps for the page beyond its life."""
    found = await page.evaluate(
        """async () => [
            ...Object.values(sessionStorage), ...Object.values(localStorage),
            document.cookie, ...(await caches.keys()), location.href,
        ].filter((one) => one && !one.startsWith("http"))"""
    )
    return [str(one) for one in found]


async def test_the_page_reads_by_every_way_once_a_key_is_entered(
    context: BrowserContext, closed: Running
) -> None:
    """Lists, sparklines and the status with the key, what is held with tickets."""
    watched = await front(context, closed)
    page = watched.page
    await show_key(page, KEY)
    await state(page, "live")
    await expect(page.locator(row("BTC-USD"))).to_have_text("61,000.10")
    ways = [("stream", "sse"), ("poll", "poll"), ("ws", "ws")]
    for turn, (way, counted) in enumerate(ways):
        await page.locator(f"#way input[value={way}]").check()
        await eventually(
            lambda counted=counted: closed.site.clients(counted) == 1  # type: ignore[misc]
        )
        await closed.site.publish({"ETH-USD": f"{turn + 1}.5"})
        await expect(page.locator(row("ETH-USD"))).to_have_text(f"{turn + 1}.5")
        await state(page, "live")
    await expect(page.locator("#sources li")).to_have_count(2)
    assert await page.locator("#list option").count() > 1
    assert not any(KEY in url for url in watched.opened)
    assert (watched.complaints, watched.foreign) == ([], [])
    assert await kept(page) == [KEY]
    # As long as the tab is there, and nowhere else.
    await page.reload()
    await state(page, "live")
    await expect(page.locator("#door")).to_be_hidden()
    other = await front(context, closed)
    assert other.complaints == []


@pytest.mark.parametrize(
    "key", ["rk_wrong", "naïve key", OPERATE], ids=["unknown", "none", "operator's"]
)
async def test_a_wrong_key_is_said_to_be_wrong_and_not_kept(
    context: BrowserContext, closed: Running, key: str
) -> None:
    """Beside where it was typed, read out, and with what was typed to be mended."""
    watched = await front(context, closed)
    page = watched.page
    await show_key(page, key)
    alert = page.get_by_role("alert")
    await expect(alert).to_have_text(
        "This needs a key with the scope read, which yours has not."
        if key == OPERATE
        else "This key is not known here."
        if key == "rk_wrong"
        else "This is no key."
    )
    field = page.get_by_label("Key", exact=True)
    await expect(field).to_be_focused()
    await expect(field).to_have_attribute("aria-invalid", "true")
    await expect(page.locator("#grid")).to_be_hidden()
    assert await kept(page) == []
    # What the browser itself notes of any refusal, and nothing else.
    assert all("Failed to load" in one for one in watched.complaints)
    await show_key(page, f" {KEY} ")
    await state(page, "live")
    await expect(alert).to_be_hidden()


async def test_forgetting_the_key_takes_away_what_was_read_with_it(
    context: BrowserContext, closed: Running
) -> None:
    """The connection, the prices and the key itself; another one opens again."""
    watched = await front(context, closed)
    page = watched.page
    await show_key(page, KEY)
    await state(page, "live")
    await page.get_by_role("button", name="Forget key").click()
    await state(page, "locked")
    await expect(page.get_by_label("Key", exact=True)).to_be_focused()
    await expect(page.get_by_label("Key", exact=True)).to_have_value("")
    await expect(page.locator("#rows .row")).to_have_count(0)
    assert await kept(page) == []
    await eventually(lambda: not any(map(closed.site.clients, ("sse", "poll", "ws"))))
    await page.reload()
    await state(page, "locked")
    await show_key(page, KEY)
    await state(page, "live")
    assert watched.complaints == []


async def test_every_sign_of_a_key_can_be_typed(
    context: BrowserContext, closed: Running
) -> None:
    """Elsewhere on the page a slash means the search."""
    page = await context.new_page()
    await page.goto(closed.site.url)
    await page.focus("#key")
    await page.keyboard.type("a/b")
    assert await page.input_value("#key") == "a/b"


async def test_a_list_that_was_chosen_is_still_what_is_shown(
    context: BrowserContext, client: Client, keys: Keys, settings: Settings
) -> None:
    """What the switch says and what the table shows are one."""
    board = replace(settings.board, lists={"one": ("BTC-USD",)})
    async with locked(client, keys, replace(settings, board=board)) as run:
        page = await context.new_page()
        await page.goto(run.site.url)
        for _ in range(2):
            await page.fill("#key", KEY)
            await page.click("#open")
            await state(page, "live")
            await expect(page.locator("#list option")).to_have_count(2)
            await page.select_option("#list", "one")
            await expect(page.locator("#rows .row")).to_have_count(1)
            await page.click("#forget")
            await state(page, "locked")
        await page.fill("#key", KEY)
        await page.click("#open")
        await expect(page.locator(row("BTC-USD"))).to_have_text("61,000.10")
        await expect(page.locator("#list")).to_have_value("one")
        await expect(page.locator("#rows .row")).to_have_count(1)


async def test_a_key_that_is_taken_away_is_asked_for_anew(
    context: BrowserContext, client: Client, keys: Keys, settings: Settings
) -> None:
    """When the page comes back with it; nobody is left before old prices."""
    async with locked(client, keys, settings) as run:
        page = (await front(context, run)).page
        await show_key(page, KEY)
        await state(page, "live")
        await run.site.stop()
        run.site.lock((OTHER_LINE,))
        await run.restart()
        await state(page, "locked")
        await expect(page.get_by_role("alert")).to_have_text(
            "This key is not known here."
        )
        await expect(page.locator("#rows .row")).to_have_count(0)
        assert await kept(page) == []
        await show_key(page, OTHER)
        await state(page, "live")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 320])
async def test_the_door_is_for_everybody(
    context: BrowserContext, closed: Running, packages: Path, width: int, scheme: str
) -> None:
    """By axe; asked, refused and let in; nothing leaves the screen."""
    page = (await front(context, closed)).page
    await page.set_viewport_size({"width": width, "height": 800})
    await page.emulate_media(color_scheme="light" if scheme == "light" else "dark")
    sideways = "document.documentElement.scrollWidth > innerWidth"
    for key in ("", "rk_wrong", KEY):
        if key:
            await show_key(page, key)
        if key == "rk_wrong":
            await expect(page.get_by_role("alert")).not_to_be_empty()
        if key == KEY:
            await state(page, "live")
            await expect(page.locator("#forget")).to_be_visible()
        assert await serious(page, packages) == []
        assert await page.evaluate(sideways) is False
