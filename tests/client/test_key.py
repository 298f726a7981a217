"""Both clients at a relay that wants a key: shown with each request, or refused."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread
import pytest
from msgspec.structs import replace

from relay.cli.checkup_edge import EdgeCheckup
from relay.client import AsyncClient, Client, Refused
from relay.clock import Clock
from relay.config import Settings
from relay.delivery.doors import make_key
from relay.store import client as store
from relay.store.keys import Keys
from tests.cli.commands import relay as command
from tests.delivery.live import Live, live
from tests.edge.edges import SHIPPED, running
from tests.functions.events import schedule
from tests.functions.runtime import function

KEY, LINE = make_key("notebook", "read")


@pytest.fixture
async def relay(
    client: store.Client, keys: Keys, settings: Settings
) -> AsyncIterator[Live]:
    """Run an instance whose reading needs a key."""
    doors = replace(settings.doors, reading="keys", keys=(LINE,))
    async with live(client, keys, replace(settings, doors=doors)) as relay:
        yield relay


async def test_a_key_is_shown_with_each_request(relay: Live) -> None:
    """By reads, polls, streams and the status alike."""
    async with AsyncClient(relay.url, api_key=KEY) as client:
        assert (await client.get("BTC"))["BTC-USD"].price == "61000.10"
        assert (await client.poll("BTC"))["BTC-USD"].price == "61000.10"
        assert (await client.status()).instance.live
        async with client.stream("BTC") as feed:
            assert (await anext(feed))["BTC-USD"].price == "61000.10"


async def test_the_other_client_shows_it_as_well(relay: Live) -> None:
    """From a thread, as in a notebook."""

    def read() -> list[str | None]:
        with Client(relay.url, api_key=KEY) as client:
            prices = [client.get("BTC"), client.poll("BTC")]
            with client.stream("BTC") as feed:
                prices.append(next(feed))
        return [one["BTC-USD"].price for one in prices]

    assert await anyio.to_thread.run_sync(read) == ["61000.10"] * 3


@pytest.mark.parametrize(
    ("key", "code"), [("", "key_missing"), ("rk_wrong", "key_unknown")]
)
async def test_without_the_right_one_asking_again_would_not_help(
    relay: Live, key: str, code: str
) -> None:
    """The reason is the relay's own, and the key is not in it."""
    async with AsyncClient(relay.url, api_key=key) as client:
        with pytest.raises(Refused) as read:
            await client.get("BTC")
        async with client.stream("BTC") as feed:
            with pytest.raises(Refused) as streamed:
                await anext(feed)
    for refused in (read.value, streamed.value):
        assert (refused.status, refused.code) == (401, code)
        assert "rk_wrong" not in str(refused)


async def test_the_commands_take_it_from_a_variable(relay: Live) -> None:
    """Where a list of processes does not show it."""

    def ask(**environ: str) -> tuple[int, str]:
        done = command("top", "--once", "--url", relay.url, **environ)
        return done.returncode, done.stdout + done.stderr

    status, said = await anyio.to_thread.run_sync(lambda: ask(RELAY_API_KEY=KEY))
    assert status == 0
    assert "61000.10" in said
    status, said = await anyio.to_thread.run_sync(ask)
    assert status == 1
    assert "needs a key" in said


async def test_the_edge_is_warmed_with_it(relay: Live) -> None:
    """From the variable, as where the schedule of a platform does it."""

    def ask(**environ: str) -> tuple[int, str]:
        done = command("warm", RELAY_WARM_URL=relay.url, **environ)
        return done.returncode, done.stdout + done.stderr

    status, said = await anyio.to_thread.run_sync(lambda: ask(RELAY_API_KEY=KEY))
    assert (status, "/v1/prices: 200" in said) == (0, True)
    assert KEY not in said
    status, said = await anyio.to_thread.run_sync(lambda: ask(RELAY_API_KEY="rk_x"))
    assert (status, "/v1/prices: 401" in said, "rk_x" in said) == (1, True, False)
    assert relay.hub.counts.refused["key_in_url"] == 0


async def test_the_warming_function_shows_it_as_well(relay: Live) -> None:
    """Its platform hands it over in the same variable."""
    environ = {"RELAY_WARM_URL": relay.url, "RELAY_API_KEY": KEY}
    async with function("functions.warm.handler", environ) as runtime:
        outcome = await runtime.invoke(schedule(0))
    assert {one["status"] for one in outcome.answer["fetched"]} == {200}
    assert KEY not in str(outcome)


@pytest.mark.timeout(60)
async def test_an_edge_is_examined_with_it(relay: Live) -> None:
    """Without it, or with a wrong one, the advice says which is missing."""
    found = {}
    for key in ("", "rk_wrong", KEY):
        checkup = EdgeCheckup(relay.url, Clock(), key)
        await checkup.run()
        found[key] = {one.check: one for one in checkup.findings}
        assert "rk_" not in str(checkup.findings)
    assert (found[""]["prices"].verdict, found[""]["prices"].saw) == (
        "wrong",
        "HTTP 401",
    )
    assert "RELAY_API_KEY" in found[""]["prices"].advice
    assert "another key" in found["rk_wrong"]["prices"].advice
    verdicts = {check: one.verdict for check, one in found[KEY].items()}
    assert verdicts == {
        "prices": "ok",
        "conditional": "ok",
        "polls": "note",
        "stream": "ok",
        "door": "ok",
    }
    assert "edge_checks_keys" in found[KEY]["polls"].advice


@pytest.mark.parametrize("name", ["status", "top", "warm", "doctor"])
def test_what_no_header_takes_is_refused_and_not_shown(name: str) -> None:
    """A line's end, from a file that a secret was read from, is the commonest."""
    for key in ("rk_secret\n", "rk_secret x", "rk_secret\u00e9"):
        done = command(name, RELAY_API_KEY=key)
        assert done.returncode == 2
        assert "no key" in done.stderr
        assert "rk_secret" not in done.stdout + done.stderr


@pytest.mark.timeout(60)
async def test_a_key_that_nobody_asks_for_is_told_of(
    client: store.Client, keys: Keys, settings: Settings
) -> None:
    """Whoever has set one takes the relay for locked."""
    async with live(client, keys, settings) as free:
        checkup = EdgeCheckup(free.url, Clock(), KEY)
        await checkup.run()
    found = {one.check: one for one in checkup.findings}
    assert found["door"].verdict == "note"
    assert "reading is open" in found["door"].saw


@pytest.mark.edge
@pytest.mark.timeout(90)
@pytest.mark.parametrize("careless", [True, False])
async def test_an_edge_that_hands_out_what_it_keeps_to_anybody_is_found(
    client: store.Client,
    keys: Keys,
    settings: Settings,
    tmp_path: Path,
    *,
    careless: bool,
) -> None:
    """The relay was told that the edge checks keys; the shipped one keeps nothing."""
    text = (SHIPPED / "nginx.conf").read_text()
    if careless:
        text, count = re.subn(r".* \$http_authorization .*;\n", "", text)
        assert count == 2
    (tmp_path / "nginx.conf").write_text(text)
    doors = replace(settings.doors, reading="keys", keys=(LINE,), edge_checks_keys=True)
    async with (
        live(client, keys, replace(settings, doors=doors)) as relay,
        running("nginx", [relay.url] * 2, tmp_path, shipped=tmp_path) as edge,
    ):
        checkup = EdgeCheckup(edge, Clock(), KEY)
        await checkup.run()
    found = {one.check: one for one in checkup.findings}
    assert found["door"].verdict == ("wrong" if careless else "ok")
