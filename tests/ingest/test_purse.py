"""Spending together: many purses, one ledger in a real store that may fail."""

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

import msgspec
import pytest
from msgspec.structs import replace

from relay.clock import ManualClock
from relay.config import Limit, Settings, load
from relay.errors import RateLimited, Refused, StoreDown
from relay.exchanges.adapter import Usage
from relay.ingest.book import Book
from relay.ingest.budget import Priority, Reservation, Wait
from relay.ingest.purse import Purse, Terms, terms_of
from relay.store.client import Client
from relay.store.embedded import embedded
from relay.store.ledger import ledger_key
from tests.harness import open_client
from tests.ingest.purses import fresh_terms, lay_open

DAY_MS = 86_400_000
WEIGHT = Limit(
    name="weight", weight_max=100, window_ms=60_000, kind="rolling", scope="address"
)
COSTS = (("weight", 10),)
MOST = 95


class Till:
    """One ledger, and as many purses over it as anybody wants."""

    def __init__(self, client: Client, terms: Terms) -> None:
        self.client, self.terms, self.clock = client, terms, ManualClock()
        self.key = ledger_key("toy", terms.scopes["address"])

    def purse(self) -> Purse:
        """Open another instance's purse."""
        return Purse("toy", self.terms, self.client, self.clock)

    async def laid_open(self) -> "Till":
        """Have nothing spent."""
        await lay_open(self.client, "toy", self.terms, self.clock.wall_ms())
        return self


@pytest.fixture
async def till(client: Client) -> Till:
    """Return a ledger of which nothing is spent."""
    return await Till(client, fresh_terms([WEIGHT])).laid_open()


async def take(purse: Purse, cost: int = 10) -> Reservation | Wait:
    """Ask for weight, as whoever keeps a stream up."""
    return await purse.reserve((("weight", cost),), priority=Priority.KEEP)


async def granted(purse: Purse, cost: int = 10) -> Reservation:
    """Insist on being granted."""
    leave = await take(purse, cost)
    assert isinstance(leave, Reservation)
    return leave


async def test_fifty_purses_at_once_never_pass_the_limit(
    till: Till, settings: Settings
) -> None:
    """Reserved atomically: whoever was slower counts anew over what there is."""
    url = till.client.settings.url
    async with open_client(url, settings) as other:
        purses = [
            Purse("toy", till.terms, client, till.clock)
            for client in (till.client, other)
            for _ in range(25)
        ]
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(take(purse, 3)) for purse in purses]
    leaves = [task.result() for task in asked]
    granted = [one for one in leaves if isinstance(one, Reservation)]
    assert len(granted) == MOST // 3
    assert len({one.id for one in granted}) == len(granted)


async def test_what_one_settles_and_cancels_all_see(till: Till) -> None:
    """The exchange's count wins for everybody who shares the address."""
    first, other = till.purse(), till.purse()
    leave, unsent = await granted(first), await granted(first)
    await first.settle(
        leave, [Usage(limit="weight", used=60)], now_ms=till.clock.wall_ms()
    )
    await first.cancel(unsent)
    assert isinstance(await take(other, 36), Wait)
    assert isinstance(await take(other, 35), Reservation)


async def test_a_limit_that_the_exchange_changes_is_everybodys_at_once(
    till: Till,
) -> None:
    """Its table lowers it and raises it again; ours stays the bound."""
    purse, other = till.purse(), till.purse()
    for most, left in ((40, 38), (70, 67), (1_000, MOST)):
        leave = await granted(purse, 1)
        told = [Usage(limit="weight", most=most)]
        await purse.settle(leave, told, now_ms=till.clock.wall_ms())
        assert isinstance(await take(other, left), Wait), "one is spent"
        await granted(other, left - 1)
        till.clock.advance(120_001)


async def test_a_cooldown_is_everybodys_at_once(till: Till) -> None:
    """The exchange knows an address, not an instance."""
    first, other = till.purse(), till.purse()
    await granted(other)
    await first.heed(RateLimited("toy", "address", 40_000), "rest")
    leave = await take(other)
    assert isinstance(leave, Wait)
    assert leave.until_ms == till.clock.wall_ms() + 40_000
    assert other.cooling() is not None


async def test_a_mistaken_request_cools_nobody(till: Till) -> None:
    """Its neighbours are as welcome as before."""
    purse = till.purse()
    await purse.heed(Refused("toy", "request", "no such symbol"), "rest")
    assert isinstance(await take(purse), Reservation)


async def test_a_forgotten_script_is_sent_again(till: Till) -> None:
    """A store that restarted, or was told to forget its scripts, knows none."""
    purse = till.purse()
    await granted(purse)
    await till.client.valkey.script_flush()
    await granted(purse)


async def test_a_wiped_ledger_counts_as_spent_for_whoever_remembers(
    till: Till,
) -> None:
    """Until what flew has landed and its window is over, but for the spare."""
    purse = till.purse()
    await granted(purse)
    await till.client.valkey.delete(till.key)
    assert isinstance(await take(purse, 5), Wait)
    await granted(purse, 4)
    # Others may have used it: lost once more, nothing is left.
    await till.client.valkey.delete(till.key)
    assert isinstance(await take(purse, 1), Wait)
    till.clock.advance(60_000 + 60_000)
    assert isinstance(await take(purse, 1), Wait)
    till.clock.advance(1)
    assert isinstance(await take(purse, MOST), Reservation)


async def test_a_wiped_ledger_leaves_the_spare_to_whoever_knows_nothing(
    till: Till,
) -> None:
    """All of it may have been spent: spare and brim together are the limit."""
    await granted(till.purse(), MOST)
    await till.client.valkey.delete(till.key)
    newcomer = till.purse()
    assert isinstance(await take(newcomer, 6), Wait)
    assert isinstance(await take(newcomer, 5), Reservation)
    assert isinstance(await take(newcomer, 1), Wait)


async def test_a_ledger_begun_anew_by_another_counts_as_spent(till: Till) -> None:
    """The other did not know what this one had under way; the spare is for both."""
    purse, newcomer = till.purse(), till.purse()
    await granted(purse)
    await till.client.valkey.delete(till.key)
    till.clock.advance(1)
    await granted(newcomer, 1)
    assert isinstance(await take(purse, 4), Wait)
    await granted(purse, 3)
    assert isinstance(await take(newcomer, 1), Wait)


async def test_an_older_copy_counts_as_spent(till: Till) -> None:
    """A store restored from yesterday's copy must not give the weight back."""
    purse = till.purse()
    await granted(purse)
    copy = await till.client.valkey.get(till.key)
    await granted(purse, 80)
    assert copy is not None
    await till.client.valkey.set(till.key, copy)
    assert isinstance(await take(purse, 5), Wait)
    await granted(purse, 4)
    assert isinstance(await take(till.purse(), 1), Wait)


async def test_an_older_copy_that_somebody_went_on_with_is_noticed_as_well(
    till: Till,
) -> None:
    """Its number is newer than any that was seen; what it lacks tells."""
    purse, other = till.purse(), till.purse()
    await granted(other, 1)
    copy = await till.client.valkey.get(till.key)
    leave = await granted(purse, 60)
    await purse.settle(leave, (), now_ms=till.clock.wall_ms())
    await granted(purse, 20)
    assert copy is not None
    await till.client.valkey.set(till.key, copy)
    till.clock.advance(1)
    await granted(other, 1)
    assert isinstance(await take(purse, 5), Wait)
    assert isinstance(await take(other, 5), Wait)


async def test_what_was_spent_counts_although_the_clock_has_leapt(till: Till) -> None:
    """By a store's clock that was set ahead a window is over; not by the exchange's."""
    purse, clock = till.purse(), till.clock
    await granted(purse, MOST)
    clock.set_wall(clock.wall_ms() + 3_600_000, at_ms=clock.monotonic_ms())
    assert isinstance(await take(purse, MOST), Wait)
    clock.advance(WEIGHT.window_ms + till.terms.flight_ms + 1)
    assert isinstance(await take(purse, MOST), Reservation)


@pytest.mark.parametrize("kind", ["fixed", "rolling"])
@pytest.mark.parametrize("leap_ms", [1_001, 44 * DAY_MS])
async def test_a_leap_of_the_clock_brings_no_new_day_of_credits(
    client: Client, leap_ms: int, kind: Literal["fixed", "rolling"]
) -> None:
    """They are paced by the day; so many credits a month are not bought back.

    Several processes that see it one after the other come to the same.
    """
    credit = replace(WEIGHT, name="credits", weight_max=300, window_ms=30 * DAY_MS)
    credit = replace(credit, kind=kind)
    till = Till(client, fresh_terms([credit]))
    clock = till.clock = ManualClock(wall_ms=680 * 30 * DAY_MS + 1_000)
    await till.laid_open()
    purses = [till.purse(), till.purse()]

    async def spend() -> int:
        spent = 0
        while True:
            leave = await purses[spent % 2].reserve(
                (("credits", 1),), priority=Priority.KEEP
            )
            if not isinstance(leave, Reservation):
                return spent
            await purses[spent % 2].settle(leave, (), now_ms=clock.wall_ms())
            spent += 1

    assert await spend() == 10
    clock.advance(60_000)
    clock.set_wall(clock.wall_ms() + leap_ms, at_ms=clock.monotonic_ms())
    assert await spend() == 0
    clock.advance(DAY_MS)
    assert 0 < await spend() <= 10


async def test_what_its_owner_gave_back_is_not_missed(till: Till) -> None:
    """Neither by the owner nor by whoever saw it before."""
    purse, other = till.purse(), till.purse()
    leave = await granted(purse, 60)
    await granted(other, 1)
    await purse.cancel(leave)
    await granted(other, 1)
    await granted(purse, 80)


async def test_a_book_that_nobody_can_read_is_a_lost_one(till: Till) -> None:
    """Another version wrote it; nothing is known, so nothing but the spare is left."""
    await till.client.valkey.set(till.key, b"\x00 not ours")
    assert isinstance(await take(till.purse(), 6), Wait)
    assert isinstance(await take(till.purse(), 5), Reservation)


async def test_books_tidy_themselves_away(till: Till) -> None:
    """A name that nobody uses any more leaves nothing behind."""
    await granted(till.purse())
    assert 0 < await till.client.valkey.pttl(till.key) <= 86_400_000


@pytest.fixture
async def doomed(settings: Settings) -> AsyncIterator[tuple[Till, "asyncio.Event"]]:
    """Return a ledger in a store that is gone once the event is set."""
    gone, ready = asyncio.Event(), asyncio.Event()
    tills: list[Till] = []

    async def host() -> None:
        async with embedded() as url, open_client(url, settings) as client:
            tills.append(await Till(client, fresh_terms([WEIGHT])).laid_open())
            ready.set()
            await gone.wait()
            await client.valkey.shutdown(nosave=True)
            gone.clear()
            await gone.wait()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(host())
        await ready.wait()
        yield tills[0], gone
        task.cancel()


async def test_without_a_store_nothing_new_is_spent(
    doomed: tuple[Till, asyncio.Event],
) -> None:
    """Whoever cannot count must not send; what it learns, it writes down later."""
    till, gone = doomed
    purse = till.purse()
    leave = await granted(purse)
    gone.set()
    while gone.is_set():  # noqa: ASYNC110 - the store's end is another task's
        await asyncio.sleep(0.01)
    with pytest.raises(StoreDown):
        await take(purse)
    await purse.settle(
        leave, [Usage(limit="weight", used=33)], now_ms=till.clock.wall_ms()
    )
    await purse.heed(RateLimited("toy", "address", 5_000), "rest")
    assert purse.gauges()[0].used == 33
    assert purse.cooling() is not None


async def test_what_was_owed_is_written_with_the_next_change(till: Till) -> None:
    """Whoever was cancelled may not wait for the store."""
    purse, other = till.purse(), till.purse()
    leave = await granted(purse, 90)
    purse.owe(lambda budget: budget.cancel(leave))
    assert purse.gauges()[0].used == 0
    assert isinstance(await take(other, 10), Wait)
    await granted(purse, 1)
    assert isinstance(await take(other, 90), Reservation)


async def test_a_ledger_is_json_that_a_person_can_read(till: Till) -> None:
    """Who looks into the store wants to see what is spent."""
    await granted(till.purse())
    value = await till.client.valkey.get(till.key)
    assert value is not None
    book = msgspec.json.decode(value, type=Book)
    assert [entry.cost for entry in book.ledgers["weight"].entries] == [10]


def test_limits_count_by_address_or_by_key() -> None:
    """Two deployments with one key share its credits, wherever they are."""
    exchange = load(environ={"RELAY_COINCAP_KEY": "k"}).settings.exchanges["coincap"]
    here = terms_of(exchange, egress="here", refused_ms=1)
    there = terms_of(exchange, egress="there", refused_ms=1)
    assert here.scopes["key"] == there.scopes["key"]
    assert here.scopes["address"] != there.scopes["address"]
    assert "k" not in here.scopes["key"].partition(":")[2].split()


def test_without_a_key_nothing_counts_by_it() -> None:
    """CoinGecko's credits are a key's; whoever has none is counted by address."""
    exchange = load(environ={}).settings.exchanges["coingecko"]
    terms = terms_of(exchange, egress="here", refused_ms=1)
    assert terms.scopes == {"address": "address:here"}
    assert [limit.name for limit in terms.limits] == ["weight"]
    keyed = terms_of(replace(exchange, key="k"), egress="here", refused_ms=1)
    assert [limit.name for limit in keyed.limits] == ["weight", "credits"]
