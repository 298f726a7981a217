"""relay-react.js in React's strict mode: connections and renders are counted."""

import subprocess
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, Route, expect

from tests.browser.conftest import Watched, blank
from tests.browser.site import Running
from tests.harness import until

pytestmark = pytest.mark.browser

_ENTRY = """
import React from "react";
export { createRoot } from "react-dom/client";
export default React;
export const { createElement, useEffect, useMemo, useRef, useState } = React;
export const { useSyncExternalStore, StrictMode } = React;
"""

_HTML = """<!doctype html><html lang="en"><title>React</title>
<script type="importmap">{"imports": {"react": "/vendor.js"}}</script>
<main id="root"></main>"""

# Each component counts how often it was rendered; strict mode renders everything twice.
_APP = """async () => {
    const react = await import("react");
    const { LivePrice, StatusIndicator, usePrices } = await import(
        "/dashboard/relay-react.js");
    const { createElement: h, useState } = react;
    window.renders = {};
    window.shown = {};
    const count = (name) => { renders[name] = (renders[name] ?? 0) + 1; };
    function List({ name, symbols }) {
        count(name);
        // Written inline: another array with every render, as components do.
        const prices = usePrices([...symbols]);
        (shown[name] ??= new Set()).add(prices);
        return h("ul", { id: name }, symbols.map((one) =>
            h("li", { key: one }, `${one} ${prices[one]?.price ?? "?"}`)));
    }
    function App() {
        count("app");
        const [symbols, setSymbols] = useState(["BTC-USD"]);
        const [on, setOn] = useState(true);
        Object.assign(window, { setSymbols, setOn });
        return on && h("div", null,
            h(List, { name: "first", symbols }),
            h(List, { name: "second", symbols: ["ETH-USD", "bitcoin"] }),
            h(LivePrice, { symbol: "BTC-USD", className: "live" }),
            h(StatusIndicator, { className: "status" }));
    }
    window.root = react.createRoot(document.getElementById("root"));
    root.render(h(react.StrictMode, null, h(App)));
}"""


@pytest.fixture(scope="session")
def vendor(packages: Path) -> str:
    """Bundle React's development build as one module."""
    entry = packages.parent / "entry.js"
    entry.write_text(_ENTRY)
    command = [
        str(packages / ".bin/esbuild"),
        str(entry),
        "--bundle",
        "--format=esm",
        '--define:process.env.NODE_ENV="development"',
    ]
    built = subprocess.run(command, capture_output=True, check=True, timeout=60)
    return built.stdout.decode()


@pytest.fixture
async def app(context: BrowserContext, run: Running, vendor: str) -> Watched:
    """Show an application in strict mode, with three prices on it."""

    async def fulfill(route: Route) -> None:
        await route.fulfill(body=vendor, content_type="text/javascript")

    await context.route("**/vendor.js", fulfill)
    watched = await blank(context, run, _HTML)
    await watched.page.evaluate(_APP)
    await expect(watched.page.locator("#first")).to_have_text("BTC-USD 61000.10")
    await expect(watched.page.locator("#second")).to_contain_text("bitcoin 61000.10")
    await expect(watched.page.locator("#second")).to_contain_text("ETH-USD 3000.00")
    return watched


async def renders(page: Page, name: str) -> int:
    """Return how often a component was rendered."""
    return int(await page.evaluate("(name) => renders[name]", name))


async def gone(run: Running) -> None:
    """Wait until the relay holds nobody."""

    async def nobody() -> bool:
        return run.site.clients("sse") == 0

    await until(nobody)


async def test_strict_mode_opens_one_connection_for_all_components(
    app: Watched, run: Running
) -> None:
    """Its mounting twice must not reach the relay."""
    assert len(app.connections("stream")) == 1
    assert run.site.clients("sse") == 1
    await app.page.evaluate("root.unmount()")
    await gone(run)
    assert len(app.connections("stream")) == 1
    assert app.complaints == []


async def test_a_change_renders_once_and_only_where_it_shows(
    app: Watched, run: Running
) -> None:
    """Strict mode renders twice for each, and no more than that."""
    page = app.page
    first, second = await renders(page, "first"), await renders(page, "second")
    app_before = await renders(page, "app")
    await run.site.publish({"ETH-USD": "3001"})
    await expect(page.locator("#second")).to_contain_text("ETH-USD 3001")
    await run.site.publish({"SOL-USD": "151"})
    await run.site.publish({"ETH-USD": "3002"})
    await expect(page.locator("#second")).to_contain_text("ETH-USD 3002")
    assert await renders(page, "first") == first
    assert await renders(page, "second") == second + 2 * 2
    assert await renders(page, "app") == app_before


async def test_only_the_indicator_renders_while_the_status_changes(
    app: Watched, run: Running
) -> None:
    """An earlier system rendered for ever while it was reconnecting."""
    page = app.page
    await expect(page.locator(".status")).to_have_text("live")
    await page.evaluate("relay.patience.offline = 600")
    before = [await renders(page, name) for name in ("app", "first", "second")]
    await run.site.stop()
    for word in ("reconnecting", "offline"):
        await expect(page.locator(".status")).to_have_text(word)
    await run.restart()
    await expect(page.locator(".status")).to_have_text("live")
    after = [await renders(page, name) for name in ("app", "first", "second")]
    assert after == before
    assert run.site.clients("sse") == 1
    await run.site.publish({"BTC-USD": "5"})
    await expect(page.locator("#first")).to_have_text("BTC-USD 5")


async def test_other_symbols_open_one_connection_more(
    app: Watched, run: Running
) -> None:
    """And none when what is asked for is already there, whatever renders."""
    page = app.page
    await page.evaluate("setSymbols(['ETH-USD'])")
    await expect(page.locator("#first")).to_have_text("ETH-USD 3000.00")
    assert len(app.connections("stream")) == 1
    await page.evaluate("setSymbols(['ETH-USD', 'SOL-USD'])")
    await expect(page.locator("#first")).to_contain_text("SOL-USD 150.5")
    assert len(app.connections("stream")) == 2
    before = await renders(page, "first")
    await page.evaluate("setSymbols(['ETH-USD', 'SOL-USD'])")
    await run.site.publish({"SOL-USD": "152"})
    await expect(page.locator("#first")).to_contain_text("SOL-USD 152")
    assert await renders(page, "first") <= before + 4
    assert len(app.connections("stream")) == 2
    assert run.site.clients("sse") == 1
    await page.evaluate("setOn(false)")
    await gone(run)


async def test_a_live_price_flashes_the_way_it_went(app: Watched, run: Running) -> None:
    """By colour and by sign; every digit is there."""
    live = app.page.locator(".live")
    await expect(live).to_have_text("61,000.10")
    await run.site.publish({"BTC-USD": "61000.20"})
    await expect(live).to_have_text("▲61,000.20")
    flashing = "document.querySelector('.live').getAnimations().length"
    assert await app.page.evaluate(flashing) == 1
    await run.site.publish({"BTC-USD": "60999.9900"})
    await expect(live).to_have_text("▼60,999.9900")
    await expect(live).to_have_attribute("data-direction", "down")


_TYPED = """
import {
  Refused, compareDecimals, formatDecimal, patience, peek, subscribe, type Ticker,
} from "./relay.js";
import { LivePrice, StatusIndicator, usePrices, useStatus } from "./relay-react.js";

const subscription = subscribe(["BTC-USD"], {
  way: "poll",
  fields: ["price"],
  onChange: ({ changed, prices }) => changed.map((name) => prices.get(name)?.price),
  onStatus: ({ state, way }) => `${state} ${way ?? ""}`,
});
subscription.select({ list: "majors" });
const ticker: Ticker | undefined = subscription.get("bitcoin");
export const text: string = formatDecimal(ticker?.price, "de-DE");
export const order: -1 | 0 | 1 = compareDecimals("1", ticker?.bid ?? "2");
patience.retry = 500;
const ending = new AbortController();
const { signal } = ending;
subscribe("all", { every: "500ms", tabs: false, signal, ticket: async () => "t" });
export const held = [...peek(["BTC-USD"]).values()].map(({ via }) => via ?? "");
export const why = (error: unknown) => (error instanceof Refused ? error.code : "");
export function Shown() {
  const prices = usePrices(["BTC-USD"]);
  const { state } = useStatus({ url: "https://prices.example/" });
  const live = LivePrice({ symbol: "BTC-USD" });
  return [prices["BTC-USD"]?.price, state, live, StatusIndicator({})];
}
// @ts-expect-error there is no such way
subscription.use("pigeon");
// @ts-expect-error what is held is not the page's to change
subscription.prices.clear();
// @ts-expect-error a selection is names, a list or everything
subscribe({ names: ["BTC-USD"] });
"""


def test_the_types_say_what_the_modules_do(packages: Path, tmp_path: Path) -> None:
    """Who writes TypeScript finds them, and they refuse what is not there."""
    dashboard = Path(__file__).parents[2] / "relay" / "dashboard"
    for name in ("relay.d.ts", "relay-react.d.ts"):
        (tmp_path / name).write_text((dashboard / name).read_text())
    (tmp_path / "typed.ts").write_text(_TYPED)
    (tmp_path / "node_modules").symlink_to(packages)
    command = [
        str(packages / ".bin/tsc"),
        *("--noEmit", "--strict", "--target", "es2022"),
        *("--module", "esnext", "--moduleResolution", "bundler"),
        *("--lib", "es2022,dom", str(tmp_path / "typed.ts")),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60
    )
    assert (done.stdout, done.returncode) == ("", 0)
