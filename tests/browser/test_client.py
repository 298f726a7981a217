"""relay.js in a real browser: one connection, whatever a page does with it."""

import asyncio
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page, Route

from tests.browser.conftest import Watched, blank
from tests.browser.site import Running
from tests.harness import until

# What a test's page keeps: subscriptions, and what each was told.
_SUBSCRIBE = """([name, selection, options]) => {
    window.told ??= {};
    window.subs ??= {};
    const log = (told[name] = { changes: [], states: [] });
    subs[name] = relay.subscribe(selection, {
        ...options,
        onChange: ({ changed, gone }) => log.changes.push([changed, gone]),
        onStatus: ({ state }) => log.states.push(state),
    });
}"""
_HELD = """(name) => Object.fromEntries(
    [...subs[name].prices].map(([one, { price }]) => [one, price]))"""
_HIDE = """(which) => {
    const hidden = which === "hidden";
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""
# Timers that have not rung, and channels that were not closed.
_COUNT = """
    window.counted = { timers: new Set(), channels: 0 };
    for (const kind of ["Timeout", "Interval"]) {
        const [set, clear] = [window[`set${kind}`], window[`clear${kind}`]];
        window[`set${kind}`] = (call, ms) => {
            const timer = set(() => {
                if (kind === "Timeout") counted.timers.delete(timer);
                call();
            }, ms);
            counted.timers.add(timer);
            return timer;
        };
        window[`clear${kind}`] = (timer) => {
            counted.timers.delete(timer);
            clear(timer);
        };
    }
    window.BroadcastChannel = class extends BroadcastChannel {
        constructor(name) {
            super(name);
            counted.channels += 1;
        }
        close() {
            super.close();
            counted.channels -= 1;
        }
    };
"""


async def subscribe(
    page: Page, name: str, selection: object, **options: object
) -> None:
    """Subscribe in the page, under a name of the test's."""
    await page.evaluate(_SUBSCRIBE, [name, selection, options])


async def holds(page: Page, name: str, **wanted: str) -> None:
    """Wait until a subscription holds exactly these prices, dashes written as _."""
    expected = {one.replace("_", "-"): price for one, price in wanted.items()}
    held: dict[str, str] = {}

    async def held_now() -> bool:
        nonlocal held
        held = await page.evaluate(_HELD, name)
        return held == expected

    try:
        await until(held_now)
    except TimeoutError:
        message = f"{name} holds {held}, not {expected}"
        raise AssertionError(message) from None


async def says(page: Page, name: str, state: str) -> None:
    """Wait until a subscription's connection is in a state."""

    async def said() -> bool:
        return bool(
            await page.evaluate("(name) => subs[name].status.state", name) == state
        )

    await until(said)


async def uses(page: Page, name: str, way: str) -> None:
    """Wait until a subscription is read over a way."""

    async def used() -> bool:
        return bool(await page.evaluate("(name) => subs[name].status.way", name) == way)

    await until(used)


async def counted(run: Running, way: str, count: int) -> None:
    """Wait until the relay holds so many clients of a way."""

    async def held() -> bool:
        return run.site.clients(way) == count

    await until(held)


async def test_all_subscriptions_of_a_page_share_one_connection(
    visit: Watched, run: Running
) -> None:
    """Fifty components must not be fifty clients of the relay."""
    page = visit.page
    await page.evaluate(
        """() => {
            window.subs = {};
            for (let i = 0; i < 50; i++) {
                subs[i] = relay.subscribe([i % 2 ? "BTC-USD" : "ETH-USD"]);
            }
        }"""
    )
    await holds(page, "0", ETH_USD="3000.00")
    await holds(page, "49", BTC_USD="61000.10")
    assert len(visit.connections("stream")) == 1
    assert run.site.clients("sse") == 1


async def listeners(page: Page) -> list[str]:
    """Return what the page listens to on its window and its document."""
    session = await page.context.new_cdp_session(page)
    found: list[str] = []
    for thing in ("window", "document"):
        asked = await session.send("Runtime.evaluate", {"expression": thing})
        told = await session.send(
            "DOMDebugger.getEventListeners",
            {"objectId": asked["result"]["objectId"]},
        )
        found += [f"{thing} {one['type']}" for one in told["listeners"]]
    await session.detach()
    return sorted(found)


@pytest.mark.parametrize("way", ["stream", "poll", "ws", "nobody answers"])
async def test_close_leaves_nothing_behind(
    context: BrowserContext, run: Running, way: str
) -> None:
    """No connection, no timer, no listener, no channel, no lock."""
    await context.add_init_script(_COUNT)
    visit = await blank(context, run)
    page = visit.page
    before = await listeners(page)
    if way == "nobody answers":
        await run.site.stop()
        await subscribe(page, "one", ["BTC-USD"])
        await says(page, "one", "reconnecting")
    else:
        await subscribe(page, "one", ["BTC-USD"], way=way)
        await holds(page, "one", BTC_USD="61000.10")
    assert await listeners(page) != before
    held = await page.evaluate(_HELD, "one")
    await page.evaluate("subs.one.close()")
    if way == "nobody answers":
        await run.restart()
    for one in ("sse", "poll", "ws"):
        await counted(run, one, 0)
    await run.site.publish({"BTC-USD": "2"})
    locks = "navigator.locks.query().then(({ held, pending }) => [held, pending])"
    assert await page.evaluate(locks) == [[], []]
    assert await page.evaluate("[counted.timers.size, counted.channels]") == [0, 0]
    assert await listeners(page) == before
    assert await page.evaluate(_HELD, "one") == held
    assert await page.evaluate("subs.one.status.state") == "closed"
    opened = len(visit.opened)
    await page.evaluate(_HIDE, "hidden")
    await page.evaluate(_HIDE, "shown")
    assert len(visit.opened) == opened


async def test_changing_the_selection_opens_nothing_twice(
    visit: Watched, run: Running
) -> None:
    """An earlier system leaked a connection with every change and every status."""
    page = visit.page
    await subscribe(page, "one", ["BTC-USD"])
    await holds(page, "one", BTC_USD="61000.10")
    # To and fro within one turn of the page: only where it ends is asked for.
    await page.evaluate(
        """() => {
            const both = ["BTC-USD", "ETH-USD"];
            for (let i = 0; i < 100; i++) subs.one.select(both.slice(i % 2));
            subs.one.select(both);
        }"""
    )
    await holds(page, "one", BTC_USD="61000.10", ETH_USD="3000.00")
    assert len(visit.connections("stream")) == 2
    # The same again in another array, and a part that another one still wants.
    await subscribe(page, "two", ["ETH-USD"])
    await page.evaluate("subs.one.select(['BTC-USD', 'ETH-USD'])")
    await page.evaluate("subs.two.select(['BTC-USD'])")
    await page.evaluate("subs.two.close()")
    await run.site.publish({"ETH-USD": "3001"})
    await holds(page, "one", BTC_USD="61000.10", ETH_USD="3001")
    assert len(visit.connections("stream")) == 2
    await counted(run, "sse", 1)


async def test_what_cannot_be_asked_for_leaves_nothing_behind(visit: Watched) -> None:
    """A mistake of a page's is told to its author, and holds no connection."""
    page = visit.page
    told = await page.evaluate(
        """() => [
            () => relay.subscribe(["BTC-USD"], { way: "pigeon" }),
            () => relay.subscribe("BTC-USD"),
            () => relay.subscribe(undefined),
            () => relay.subscribe({}),
        ].map((call) => { try { call(); } catch (error) { return String(error); } })"""
    )
    assert told[0] == 'TypeError: There is no way "pigeon".'
    assert all("A selection is an array of names" in one for one in told[1:])
    await subscribe(page, "one", ["BTC-USD"])
    await holds(page, "one", BTC_USD="61000.10")
    await page.evaluate("subs.one.close()")
    await says(page, "one", "closed")


async def test_who_wants_nothing_is_not_told_that_it_is_live(
    visit: Watched, run: Running
) -> None:
    """Nothing is read then; what is wanted again is there as before."""
    page = visit.page
    await subscribe(page, "one", ["BTC-USD"])
    await says(page, "one", "live")
    await page.evaluate("subs.one.select([])")
    await counted(run, "sse", 0)
    await says(page, "one", "connecting")
    assert await page.evaluate("subs.one.status.way") is None
    await page.evaluate(_HIDE, "hidden")
    await says(page, "one", "paused")
    await page.evaluate(_HIDE, "visible")
    await says(page, "one", "connecting")
    await page.evaluate("subs.one.select(['BTC-USD'])")
    await says(page, "one", "live")
    await holds(page, "one", BTC_USD="61000.10")


async def test_a_name_whose_meaning_nobody_tells_is_asked_for_again(
    visit: Watched,
) -> None:
    """A line that fell silent must not keep a page waiting for ever."""
    page, asked = visit.page, 0

    async def silent_at_first(route: Route) -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            await route.continue_()

    await page.evaluate("relay.patience.pollExtra = 100")
    await page.route("**/v1/prices?symbols=bitcoin*", silent_at_first)
    await subscribe(page, "one", ["bitcoin"])
    await holds(page, "one", BTC_USD="61000.10")
    assert asked == 2
    assert "reconnecting" in await page.evaluate("told.one.states")


async def test_switching_ways_misses_nothing(visit: Watched, run: Running) -> None:
    """Each instrument moves once, somewhere in between; all must have arrived."""
    page = visit.page
    names = [f"N{number}-USD" for number in range(30)]
    await subscribe(page, "one", "all", tabs=False)
    await says(page, "one", "live")
    ways = ["ws", "poll", "stream", "poll", "ws", "auto"]
    way = ""
    for turn, name in enumerate(names):
        await run.site.publish({name: f"{turn}.5"})
        # One is published while nothing is connected, four while something is.
        if turn % 5 == 0:
            way = ways[turn // 5]
            await page.evaluate("(way) => subs.one.use(way)", way)
        elif turn % 5 == 1:
            await uses(page, "one", "stream" if way == "auto" else way)
    wanted = {name.replace("-", "_"): f"{turn}.5" for turn, name in enumerate(names)}
    await holds(
        page, "one", **wanted, BTC_USD="61000.10", ETH_USD="3000.00", SOL_USD="150.5"
    )
    later = visit.connections("stream")[1:] + visit.connections("poll")
    assert later
    assert all("cursor=" in url for url in later)
    changes = await page.evaluate("told.one.changes.flatMap(([changed]) => changed)")
    # Nothing was sent as a whole again: each name came when it changed, and only then.
    assert sorted(changes) == sorted([*names, "BTC-USD", "ETH-USD", "SOL-USD"])
    for one, count in (("sse", 1), ("ws", 0), ("poll", 0)):
        await counted(run, one, count)


async def test_a_websocket_changes_its_selection_in_place(
    visit: Watched, run: Running
) -> None:
    """It can say what is added and what is left out, and need not be opened again."""
    page = visit.page
    await subscribe(page, "one", ["BTC-USD"], way="ws")
    await holds(page, "one", BTC_USD="61000.10")
    await page.evaluate("subs.one.select(['ETH-USD', 'SOL-USD'])")
    await holds(page, "one", ETH_USD="3000.00", SOL_USD="150.5")
    await page.evaluate("subs.one.select('all')")
    await holds(page, "one", BTC_USD="61000.10", ETH_USD="3000.00", SOL_USD="150.5")
    await page.evaluate("subs.one.select(['SOL-USD'])")
    await run.site.publish({"SOL-USD": "151", "BTC-USD": "2"})
    await holds(page, "one", SOL_USD="151")
    assert len(visit.connections("ws")) == 1


async def test_names_and_lists_are_understood(visit: Watched) -> None:
    """The relay knows what an instrument is called; the client asks it once."""
    page = visit.page
    await subscribe(page, "zero", ["SOL-USD"], tabs=False)
    await subscribe(page, "one", ["bitcoin", "ETH/USD"], tabs=False)
    await holds(page, "one", BTC_USD="61000.10", ETH_USD="3000.00")
    assert len(visit.connections("stream")) <= 2
    assert await page.evaluate("subs.one.get('bitcoin').price") == "61000.10"
    await subscribe(page, "two", {"list": "majors"})
    await holds(page, "two", BTC_USD="61000.10", ETH_USD="3000.00", SOL_USD="150.5")
    assert await page.evaluate("[...subs.two.missing]") == ["XRP-USD"]
    await subscribe(page, "three", {"list": "nope"})
    await says(page, "three", "refused")


async def test_a_hidden_page_reads_nothing_and_catches_up(
    visit: Watched, run: Running
) -> None:
    """A phone in a pocket costs nobody anything."""
    page = visit.page
    await subscribe(page, "one", ["BTC-USD"])
    await holds(page, "one", BTC_USD="61000.10")
    await page.evaluate(_HIDE, "hidden")
    await says(page, "one", "paused")
    await counted(run, "sse", 0)
    await run.site.publish({"BTC-USD": "61001"})
    await page.evaluate(_HIDE, "shown")
    await holds(page, "one", BTC_USD="61001")
    assert "cursor=" in visit.connections("stream")[-1]
    assert len(visit.connections("stream")) == 2


async def test_decimals_keep_their_digits_in_every_locale(visit: Watched) -> None:
    """No float is wide enough for what exchanges send."""
    cases: list[tuple[str, str, str]] = [
        ("1234567.10", "en-GB", "1,234,567.10"),
        ("1234567.10", "de-DE", "1.234.567,10"),
        ("1234567.10", "en-IN", "12,34,567.10"),
        (
            "90071992547409931.000000000000000001",
            "en",
            "90,071,992,547,409,931.000000000000000001",
        ),
        ("-0.50", "en", "-0.50"),
        ("12.5", "ar-EG", "\u0661\u0662\u066b\u0665"),
        ("what", "en", "what"),
    ]
    for text, locale, wanted in cases:
        call = "([text, locale]) => relay.formatDecimal(text, locale)"
        assert await visit.page.evaluate(call, [text, locale]) == wanted
    compared: list[tuple[str, str, int]] = [
        ("10", "9.99", 1),
        ("0.10", "0.1", 0),
        ("9007199254740993", "9007199254740992", 1),
        ("-2", "-1", -1),
        ("-1", "1", -1),
        ("-0", "0.0", 0),
    ]
    for one, other, order in compared:
        call = "([a, b]) => relay.compareDecimals(a, b)"
        assert await visit.page.evaluate(call, [one, other]) == order


@pytest.mark.browser
async def test_tabs_share_one_connection_and_hand_it_on(
    context: BrowserContext, run: Running
) -> None:
    """The tab that reads may be closed or hidden at any time."""
    tabs = [await blank(context, run) for _ in range(3)]
    for tab, name in zip(tabs, ("BTC-USD", "ETH-USD", "ETH-USD"), strict=True):
        await subscribe(tab.page, "one", [name])
    await holds(tabs[0].page, "one", BTC_USD="61000.10")
    for tab in tabs[1:]:
        await holds(tab.page, "one", ETH_USD="3000.00")
    await counted(run, "sse", 1)
    for tab in tabs:
        await says(tab.page, "one", "live")
    roles = [await tab.page.evaluate("subs.one.status.role") for tab in tabs]
    assert sorted(roles) == ["follows", "follows", "leads"]
    leader = tabs.pop(roles.index("leads"))
    await leader.page.close()
    await run.site.publish({"ETH-USD": "3002", "BTC-USD": "3"})
    for tab in tabs[-1:]:
        await holds(tab.page, "one", ETH_USD="3002")
    await counted(run, "sse", 1)
    await tabs[0].page.evaluate(_HIDE, "hidden")
    await run.site.publish({"ETH-USD": "3003"})
    await holds(tabs[1].page, "one", ETH_USD="3003")
    await tabs[0].page.evaluate(_HIDE, "shown")
    await run.site.publish({"ETH-USD": "3004"})
    for tab in tabs:
        await holds(tab.page, "one", ETH_USD="3004")
    await counted(run, "sse", 1)


@pytest.mark.browser
async def test_a_tab_that_leads_and_says_nothing_is_replaced(
    context: BrowserContext, run: Running
) -> None:
    """A page that hangs must not take the others' prices with it."""
    first, second = await blank(context, run), await blank(context, run)
    for tab in (first, second):
        await tab.page.evaluate("relay.patience.tabs = 200")
    await subscribe(first.page, "one", ["BTC-USD"])
    await holds(first.page, "one", BTC_USD="61000.10")
    await subscribe(second.page, "one", ["BTC-USD"])
    await holds(second.page, "one", BTC_USD="61000.10")
    await first.page.evaluate("BroadcastChannel.prototype.postMessage = () => {}")
    await run.site.publish({"BTC-USD": "4"})
    await holds(second.page, "one", BTC_USD="4")
    assert await second.page.evaluate("subs.one.status.role") == "leads"


@pytest.mark.browser
async def test_a_stream_without_heartbeats_is_given_up(
    visit: Watched, run: Running
) -> None:
    """A connection may look open long after the other end is gone."""
    page = visit.page
    await page.evaluate("relay.patience.silent = 400")
    await subscribe(page, "one", ["BTC-USD"])
    await holds(page, "one", BTC_USD="61000.10")

    async def again() -> bool:
        return len(visit.connections("stream")) > 1

    await until(again)
    assert "cursor=" in visit.connections("stream")[1]
    await run.site.publish({"BTC-USD": "5"})
    await holds(page, "one", BTC_USD="5")
    assert "reconnecting" in await page.evaluate("told.one.states")


@pytest.mark.browser
@pytest.mark.parametrize("answer", ["held back", "something else", "refused"])
async def test_polls_take_over_where_streams_do_not_get_through(
    visit: Watched, run: Running, answer: str
) -> None:
    """Behind a proxy that buffers, or that knows no streams."""
    page = visit.page
    release = asyncio.Event()

    async def stand_in(route: Route) -> None:
        if answer == "held back":
            await release.wait()
            await route.abort()
        elif answer == "refused":
            await route.fulfill(status=404, body="{}")
        else:
            await route.fulfill(body="<h1>Welcome</h1>", content_type="text/html")

    await page.route("**/v1/stream*", stand_in)
    await page.evaluate(
        "relay.patience.firstWord = 300; relay.patience.streamAgain = 1500"
    )
    await subscribe(page, "one", ["BTC-USD"])
    await holds(page, "one", BTC_USD="61000.10")
    assert await page.evaluate("subs.one.status.way") == "poll"
    await run.site.publish({"BTC-USD": "6"})
    await holds(page, "one", BTC_USD="6")
    release.set()
    await page.unroute("**/v1/stream*")
    await uses(page, "one", "stream")
    await counted(run, "sse", 1)
    await run.site.publish({"BTC-USD": "7"})
    await holds(page, "one", BTC_USD="7")


@pytest.mark.browser
async def test_what_the_relay_refuses_is_not_asked_again(visit: Watched) -> None:
    """Asking again would be refused again, for ever."""
    page = visit.page
    await subscribe(page, "one", ["BTC-USD"], fields=["nonsense"])
    await says(page, "one", "refused")
    error: Any = await page.evaluate("subs.one.status.error")
    assert "nonsense" in error
    asked = len(visit.connections("stream"))
    await page.evaluate("new Promise((done) => setTimeout(done, 500))")
    assert len(visit.connections("stream")) == asked == 1
