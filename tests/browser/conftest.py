"""A real Chromium, a relay for it to read, and what must never happen on a page."""

import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Route,
    async_playwright,
)

from relay.config import Settings
from relay.store.client import Client
from relay.store.keys import Keys
from tests.browser.site import Running, running

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
_FLAGS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    # A page that a test makes up comes from nowhere, and nowhere counts as far away.
    "--disable-features=LocalNetworkAccessChecks",
]
_PACKAGES = Path(__file__).with_name("package.json")
_NPM_S = 180

BLANK = "<!doctype html><html lang=en><title>blank</title><main id=root></main>"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests that start a browser the time that takes."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(90))


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """Run one browser for the whole run."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here; Debian's package is called chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=_FLAGS
        )
        yield browser
        await browser.close()


class Watched:
    """A page, and what it did that is worth a complaint or a count."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        self.opened: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._see)
        page.on("websocket", lambda socket: self.opened.append(socket.url))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _see(self, request: Request) -> None:
        if not request.url.startswith((self.url, "data:")):
            self.foreign.append(request.url)
        if "/v1/stream" in request.url or "/v1/poll" in request.url:
            self.opened.append(request.url)

    def connections(self, way: str) -> list[str]:
        """Return the addresses of what was opened by one way: stream, poll or ws."""
        return [url for url in self.opened if f"/v1/{way}" in url]


@pytest.fixture
async def context(chromium: Browser) -> AsyncIterator[BrowserContext]:
    """Hold a profile of its own: nothing is left of other tests."""
    context = await chromium.new_context(
        viewport={"width": 1280, "height": 800}, locale="en-GB"
    )
    yield context
    await context.close()


@pytest.fixture
async def run(client: Client, keys: Keys, settings: Settings) -> AsyncIterator[Running]:
    """Run a relay with three prices."""
    prices = {"BTC-USD": "61000.10", "ETH-USD": "3000.00", "SOL-USD": "150.5"}
    async with running(client, keys, settings, prices) as run:
        yield run


async def blank(context: BrowserContext, run: Running, text: str = BLANK) -> Watched:
    """Open a page of the relay's own origin with nothing on it but its client."""

    async def fulfill(route: Route) -> None:
        await route.fulfill(body=text, content_type="text/html")

    page = await context.new_page()
    await page.route("**/blank", fulfill)
    watched = Watched(page, run.site.url)
    await page.goto(f"{run.site.url}/blank")
    await page.evaluate(
        """async () => {
            window.relay = await import("/dashboard/relay.js");
            Object.assign(relay.patience, { retry: 50, retryMax: 200 });
        }"""
    )
    return watched


@pytest.fixture
async def visit(context: BrowserContext, run: Running) -> Watched:
    """Open a page with nothing on it but the client."""
    return await blank(context, run)


@pytest.fixture(scope="session")
def packages(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Install what only these tests need, once; returns the folder of packages."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm here, which brings React and the checker")
    cache = getattr(pytestconfig, "cache", None)
    folder = Path(cache.mkdir("npm")) if cache else tmp_path_factory.mktemp("npm")
    wanted, done = _PACKAGES.read_bytes(), folder / "package.json"
    modules = folder / "node_modules"
    if not (done.exists() and done.read_bytes() == wanted and modules.is_dir()):
        done.write_bytes(wanted)
        reason = _install(npm, folder)
        if reason:
            done.unlink()
            pytest.skip(f"npm cannot install here: {reason}")
    return modules


def _install(npm: str, folder: Path) -> str:
    """Install exactly what is locked; returns why that cannot be, if so."""
    lock = _PACKAGES.with_name("package-lock.json")
    shutil.copy(lock, folder / lock.name)
    command = [npm, "ci", "--no-audit", "--no-fund", "--prefix", str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_NPM_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it was not done after {_NPM_S} s"
    return done.stderr[-300:] if done.returncode else ""
