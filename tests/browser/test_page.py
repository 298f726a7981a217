"""The page at / in a real browser: what people see, press and hear read out."""

from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, expect

from relay.config import Settings
from relay.store.client import Client
from relay.store.keys import Keys
from tests.browser.conftest import Watched
from tests.browser.site import Running, running
from tests.harness import eventually

# Counts what the browser itself counts as a shift that nobody asked for.
_SHIFTS = """() => {
    window.shifts = [];
    new PerformanceObserver((list) => {
        for (const one of list.getEntries()) {
            if (!one.hadRecentInput) {
                const at = one.sources.map(({ node, previousRect, currentRect }) =>
                    [node?.className, JSON.stringify([previousRect, currentRect])]);
                window.shifts.push([one.value, String(at)]);
            }
        }
    }).observe({ type: "layout-shift" });
}"""


async def opened(context: BrowserContext, run: Running) -> Watched:
    """Open the page and wait for the first price."""
    page = await context.new_page()
    watched = Watched(page, run.site.url)
    await page.goto(run.site.url)
    await expect(page.locator("#rows .amount").first).not_to_be_empty(timeout=15_000)
    return watched


async def state(page: Page, word: str) -> None:
    """Wait until the indicator says a word."""
    await expect(page.locator("#state-word")).to_have_text(word, timeout=20_000)


def row(name: str) -> str:
    """Return the selector of an instrument's price."""
    base, _, quote = name.partition("-")
    return (
        f"#rows .row:has(.base:text-is('{base}')):has(.quote:text-is('-{quote}')) "
        ".amount"
    )


async def serious(page: Page, packages: Path) -> list[object]:
    """Return what axe finds serious on a page as it stands."""
    # Evaluated by the debugger, which the page's own policy does not bind.
    await page.evaluate((packages / "axe-core/axe.min.js").read_text())
    found = await page.evaluate(
        """async () => (await axe.run()).violations
            .filter(({ impact }) => ["serious", "critical"].includes(impact))
            .map(({ id, nodes }) => [id, nodes.map((one) => one.html)])"""
    )
    return list(found)


async def test_prices_move_and_nothing_else_does(
    context: BrowserContext, run: Running
) -> None:
    """No error, no request to anywhere else, no shift of the layout meanwhile."""
    watched = await opened(context, run)
    page = watched.page
    await state(page, "live")
    await page.evaluate(_SHIFTS)
    before = await page.inner_text(row("BTC-USD"))
    run.move(["BTC-USD", "ETH-USD", "SOL-USD"])
    await expect(page.locator(row("BTC-USD"))).not_to_have_text(before)
    await expect(page.locator("#rows [data-flash]")).to_have_count(3)
    await expect(page.locator("#rows .sign").first).to_have_text("▲")
    await expect(page.locator("#latency-words b")).to_contain_text("s", timeout=10_000)
    await expect(page.locator("#sources li")).to_have_count(2)
    await expect(page.locator("#budgets .cooling")).to_contain_text("cools")
    await expect(page.locator("#instances")).to_contain_text("1 SSE")
    assert await page.evaluate("window.shifts") == []
    assert (watched.complaints, watched.foreign) == ([], [])
    assert len(watched.connections("stream")) == 1


async def test_a_price_shows_every_digit_it_has(
    context: BrowserContext, run: Running
) -> None:
    """Grouped as the reader is used to, never rounded."""
    long = "1234567.123456789012345678900"
    watched = await opened(context, run)
    await run.site.publish({"BTC-USD": long})
    price = watched.page.locator(row("BTC-USD"))
    await expect(price).to_have_text("1,234,567.123456789012345678900")


async def test_with_nobody_ingesting_no_source_is_called_alive(
    context: BrowserContext, run: Running
) -> None:
    """The leader's last word is not news for ever."""
    watched = await opened(context, run)
    words = watched.page.locator("#sources .word")
    await expect(words).to_have_text(["2 shown", "silent"])
    await run.silence()
    await expect(words).to_have_text(["unknown", "unknown"], timeout=10_000)
    more = watched.page.locator("#sources small").first
    await expect(more).to_contain_text("nobody ingests; last heard")


async def test_the_indicator_follows_a_server_that_stops_and_comes_back(
    context: BrowserContext, run: Running
) -> None:
    """Whoever looks away from the prices for a moment must not be misled by them."""
    watched = await opened(context, run)
    page = watched.page
    await state(page, "live")
    await run.site.stop()
    await state(page, "reconnecting")
    await run.restart()
    await state(page, "live")
    await run.site.publish({"BTC-USD": "1.25"})
    await expect(page.locator(row("BTC-USD"))).to_have_text("1.25")
    await run.silence()
    await state(page, "stale")
    await expect(page.locator("#state-more")).to_contain_text("nothing new")
    run.beat()
    await state(page, "live")
    await context.set_offline(offline=True)
    await state(page, "offline")
    await context.set_offline(offline=False)
    await state(page, "live")
    assert run.site.clients("sse") == 1


async def test_the_way_out_switches_in_mid_stream(
    context: BrowserContext, run: Running
) -> None:
    """Each goes on from the cursor of the one before."""
    watched = await opened(context, run)
    page = watched.page
    await state(page, "live")
    ways = [("ws", "ws"), ("poll", "poll"), ("stream", "sse"), ("auto", "sse")]
    for turn, (way, counted) in enumerate(ways):
        price = f"{turn + 1}.5"
        await page.locator(f"#way input[value={way}]").check()
        await run.site.publish({"ETH-USD": price})
        await expect(page.locator(row("ETH-USD"))).to_have_text(price)
        await expect(page.locator("#way [data-used]")).to_have_count(1)
        await eventually(lambda counted=counted: run.site.clients(counted) == 1)  # type: ignore[misc]
        await state(page, "live")
    assert all("cursor=" in url for url in watched.connections("poll"))
    assert all("cursor=" in url for url in watched.connections("stream")[1:])
    assert watched.complaints == []


async def test_search_sort_and_keys_find_an_instrument(
    context: BrowserContext, run: Running
) -> None:
    """No mouse is needed for any of it."""
    page = (await opened(context, run)).page
    await page.keyboard.press("/")
    await page.keyboard.type("eth/u")
    await expect(page.locator("#rows .row")).to_have_count(1)
    await expect(page.locator("#counts")).to_have_text("1 of 3 instruments")
    await page.keyboard.press("Escape")
    await expect(page.locator("#rows .row")).to_have_count(3)
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowDown")
    await expect(page.locator("#rows .active .base")).to_have_text("ETH")
    active = await page.get_attribute("#grid", "aria-activedescendant")
    assert await page.get_attribute("#rows .active", "id") == active
    await page.keyboard.press("End")
    await expect(page.locator("#rows .active .base")).to_have_text("SOL")
    await page.locator("[data-sort=price]").press("Enter")
    await expect(page.locator("#rows .base")).to_have_text(["BTC", "ETH", "SOL"])
    await page.locator("[data-sort=price]").press("Enter")
    await expect(page.locator("#rows .base")).to_have_text(["SOL", "ETH", "BTC"])
    header = page.locator("[aria-sort]")
    await expect(header).to_have_attribute("aria-sort", "ascending")
    await page.select_option("#list", "majors")
    await expect(page.locator("#rows .row")).to_have_count(3)


@pytest.mark.parametrize(
    ("scheme", "width"),
    [
        ("light", 1280),
        pytest.param("light", 390, marks=pytest.mark.browser),
        pytest.param("dark", 1280, marks=pytest.mark.browser),
        pytest.param("dark", 390, marks=pytest.mark.browser),
    ],
)
async def test_an_accessibility_checker_finds_nothing_serious(
    context: BrowserContext, run: Running, packages: Path, width: int, scheme: str
) -> None:
    """By axe, on both views, in both colours, on a desk and on a phone."""
    watched = await opened(context, run)
    page = watched.page
    await page.set_viewport_size({"width": width, "height": 800})
    await page.emulate_media(color_scheme="light" if scheme == "light" else "dark")
    await expect(page.locator("#sources li")).to_have_count(2)
    for view in ("prices", "system"):
        if width < 900:
            await page.locator(f"#view input[value={view}]").check()
        assert await serious(page, packages) == []


# Of each row, what is drawn where: cells that cut their text are as wide as they are,
# others as wide as what they say.
_CROWDED = """() => {
    const seen = (one) => one && one.getClientRects().length &&
        getComputedStyle(one).visibility !== "hidden";
    const told = [];
    for (const row of document.querySelectorAll("#rows .row")) {
        const name = row.querySelector(".name").textContent;
        const frame = row.getBoundingClientRect();
        const drawn = [".name", ".amount", ".sign", ".change", ".spark", ".track",
            ".sides", ".source", ".age"].map((kind) => [kind, row.querySelector(kind)])
            .filter(([kind, one]) => seen(one) &&
                (one.textContent || [".spark", ".track"].includes(kind)))
            .map(([kind, one]) => {
                const range = document.createRange();
                range.selectNodeContents(one);
                const cuts = getComputedStyle(one).overflow === "hidden";
                const box = kind === ".change" || kind === ".age" ? range : one;
                if (cuts && kind !== ".sides" && one.scrollWidth > one.clientWidth) {
                    const long = row.dataset.size || one.textContent.length > 12;
                    if (!long) told.push(`${one.textContent} is cut`);
                }
                return [kind, box.getBoundingClientRect()];
            });
        drawn.forEach(([kind, a], index) => {
            if (a.left < frame.left - 1 || a.right > frame.right + 1) {
                told.push(`${name}: ${kind} leaves the row`);
            }
            for (const [other, b] of drawn.slice(index + 1)) {
                const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
                const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
                if (x > 1 && y > 1) told.push(`${name}: ${kind} and ${other}`);
            }
        });
    }
    const sideways = document.documentElement.scrollWidth > innerWidth;
    return sideways ? [...told, "it scrolls sideways"] : told;
}"""
_OUTSIDE = """() => [...document.querySelectorAll("#system .card")].map((card) => {
    const { left, right, width } = card.getBoundingClientRect();
    return width > 200 && left >= 0 && right <= innerWidth ? "" : card.innerText;
}).filter(Boolean)"""
# Named as they really are; the last ones are as long as exchanges make them.
_NAMES = {
    "BTC-USD": "61000.10",
    "1INCH-USDT": "0.45120000",
    "BTC-USDT": "61150.68000000",
    "DOGE-USDT": "0.12346000",
    "ETC-USD": "18.410363188456544470",
    "SHIB-IDR": "999999999999.99",
    "1000000MOG-USDT": "0.000001234567890123456789",
    "BTC-IDR": "1023456789.123456789012345678",
}


@pytest.mark.browser
async def test_nothing_covers_anything_at_any_width(
    context: BrowserContext, client: Client, keys: Keys, settings: Settings
) -> None:
    """Every cell can be read on every screen, and every digit of every price."""
    async with running(client, keys, settings, _NAMES) as run:
        page = (await opened(context, run)).page
        await expect(page.locator("#rows .row")).to_have_count(len(_NAMES))
        found = {}
        for width in (320, 360, 375, 390, 430, 600, 704, 720, 768, 900, 1024, 1280):
            await page.set_viewport_size({"width": width, "height": 800})
            found[width] = await page.evaluate(_CROWDED)
        for width in (1366, 1440, 1600, 1920):
            await page.set_viewport_size({"width": width, "height": 800})
            found[width] = await page.evaluate(_CROWDED)
        await expect(page.locator("#sources li")).to_have_count(2)
        for width in (320, 390, 768, 1024):
            await page.set_viewport_size({"width": width, "height": 600})
            await page.locator("#view input[value=system]").check()
            found[-width] = await page.evaluate(_OUTSIDE)
    assert {width: told for width, told in found.items() if told} == {}


@pytest.mark.browser
async def test_a_thousand_instruments_are_a_few_rows_on_the_page(
    context: BrowserContext, client: Client, keys: Keys, settings: Settings
) -> None:
    """Only what is visible is drawn, wherever the reader scrolls."""
    names = [f"A{number:04}-USD" for number in range(1000)]
    async with running(client, keys, settings, dict.fromkeys(names, "1.50")) as run:
        page = (await opened(context, run)).page
        await expect(page.locator("#counts")).to_have_text("1000 instruments")
        assert await page.locator("#rows .row").count() < 60
        await page.focus("#grid")
        await page.keyboard.press("End")
        await expect(page.locator("#rows .active .base")).to_have_text("A0999")
        assert await page.locator("#rows .row").count() < 60
        await run.site.publish({"A0999-USD": "2.50"})
        await expect(page.locator(row("A0999-USD"))).to_have_text("2.50")
        bases = await page.locator("#rows .base").all_inner_texts()
        assert bases == sorted(bases)


async def test_a_sparkline_knows_what_was_before(
    context: BrowserContext, run: Running, client: Client
) -> None:
    """Who has just arrived sees the last minutes as well as who was here."""
    now_ms = client.clock.wall_ms()
    points = [(now_ms - 10_000 * (30 - step), f"{step}") for step in range(30)]
    await run.site.remember("ETH-USD", points)
    page = (await opened(context, run)).page
    lines = page.locator("#rows polyline[points]:not([points=''])")
    await expect(lines).to_have_count(1, timeout=10_000)
    drawn = (await lines.get_attribute("points") or "").split()
    assert len(drawn) >= 30
    assert drawn[0].startswith("0.0,")


async def test_a_point_that_comes_while_the_past_is_read_is_kept(
    context: BrowserContext, run: Running
) -> None:
    """The answer is older than what came before it."""
    page = (await opened(context, run)).page
    kept = await page.evaluate(
        """async () => {
            const { Sparks } = await import("/dashboard/spark.js");
            const sparks = new Sparks();
            const fetched = window.fetch;
            let read;
            const done = new Promise((over) => { read = over; });
            window.fetch = async () => ({ ok: true, async json() {
                sparks.note("BTC-USD", 900000, "2");
                setTimeout(read);
                return { points: [[600000, "1"]] };
            } });
            sparks.of("BTC-USD");
            await done;
            window.fetch = fetched;
            return sparks.of("BTC-USD");
        }"""
    )
    assert kept == [[600000, "1"], [900000, "2"]]


async def test_a_price_that_does_not_move_is_a_line_in_the_middle(
    context: BrowserContext, run: Running
) -> None:
    """At the edge it would be as low as it ever was."""
    page = (await opened(context, run)).page
    drawn = await page.evaluate(
        """async () => (await import("/dashboard/spark.js")).shape(
            [[0, "5.0"], [60000, "5.00"], [120000, "5"]])"""
    )
    assert drawn == "0.0,50.0 50.0,50.0 100.0,50.0"


async def test_a_clock_that_was_set_is_noticed_on_a_slower_line(
    context: BrowserContext, run: Running
) -> None:
    """The quickest answer of a morning must not be the measure of the whole day."""
    page = (await opened(context, run)).page
    off_ms = await page.evaluate(
        """async () => {
            const { Latency } = await import("/dashboard/latency.js");
            const element = () => document.createElement("p");
            const [bars, words, clock] = [element(), element(), element()];
            const latency = new Latency({ bars, words, clock });
            latency.compare(1000, 1000, 1000);
            for (let turn = 0; turn < 60; turn++) latency.compare(1000, 6000, 6080);
            return latency.offMs;
        }"""
    )
    assert off_ms == 5040


@pytest.mark.parametrize("width", [320, 360, 412])
async def test_the_smallest_screens_begin_with_prices(
    context: BrowserContext, run: Running, width: int
) -> None:
    """Title, colours and view share a line, and words beneath it are not covered."""
    page = (await opened(context, run)).page
    await page.set_viewport_size({"width": width, "height": 640})
    middles = await page.evaluate(
        """() => ["h1", "#theme", "#view"].map((one) => {
            const { top, height } = document.querySelector(one).getBoundingClientRect();
            return top + height / 2;
        })"""
    )
    assert max(middles) - min(middles) < 3
    await page.get_by_role("radio", name="System").check()
    covered = await page.evaluate(
        """() => {
            const words = document.getElementById("latency-words");
            words.innerHTML = "<b>1,234 ms</b> typical · 95 % within 12.3 s and more";
            const range = document.createRange();
            range.selectNodeContents(words);
            const bars = document.getElementById("latency").getBoundingClientRect();
            return range.getBoundingClientRect().bottom - bars.top;
        }"""
    )
    assert covered <= 0


async def test_a_search_finds_what_people_call_it(
    context: BrowserContext, run: Running
) -> None:
    """As every route understands it."""
    page = (await opened(context, run)).page
    await expect(page.locator("#list option")).not_to_have_count(1)
    for text in ("bitcoin", "Bitco", "btc", "btc/u"):
        await page.fill("#search", text)
        await expect(page.locator("#rows .row")).to_have_count(1)
        await expect(page.locator(row("BTC-USD"))).to_have_count(1)
    await page.fill("#search", "bit coin")
    await expect(page.locator("#empty")).to_contain_text("No instrument")


async def test_colours_are_chosen_and_remembered(
    context: BrowserContext, run: Running
) -> None:
    """As the system has them, until somebody says otherwise."""
    page = (await opened(context, run)).page
    await page.emulate_media(color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(ground)
    for name in ("light", "dark"):
        await page.click("#theme")
        await expect(page.locator("html")).to_have_attribute("data-theme", name)
    assert await page.evaluate(ground) != light
    await page.reload()
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")


@pytest.mark.browser
async def test_reduced_motion_moves_nothing(
    context: BrowserContext, run: Running
) -> None:
    """The sign and the colour still say where a price went."""
    page = (await opened(context, run)).page
    await page.emulate_media(reduced_motion="reduce")
    await run.site.publish({"BTC-USD": "62000"})
    await expect(page.locator("#rows .sign.up")).to_have_count(1)
    running_animations = (
        "document.getAnimations().filter((one) => one.playState === 'running').length"
    )
    assert await page.evaluate(running_animations) == 0
