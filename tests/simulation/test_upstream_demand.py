"""What clients ask for, by the thousand: spread over what the limits allow."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from relay.config import Group, Settings
from relay.model import Listing
from relay.simulator.settings import Settings as SimulatorSettings
from relay.store.tables import Tables
from tests.harness import eventually, until
from tests.simulation.rig import Rig, hurried, rigged, working

MANY = SimulatorSettings(instruments=2_300, updates_per_second=300, burst_every_ms=0)


def roomy(settings: Settings) -> Settings:
    """Return settings whose board takes as many instruments as there are."""
    settings = hurried(settings)
    return replace(settings, board=replace(settings.board, demand_max=5_000))


async def _listed(rig: Rig, most: int) -> list[str]:
    """Return what Binance alone lists, once its table is there."""
    names: list[str] = []

    async def listed() -> bool:
        symbols = await rig.reader.symbols()
        names[:] = [name for name, by in symbols.items() if by == ["binance"]]
        return len(names) >= most

    await until(listed)
    return sorted(names)[:most]


async def _burst(most: int, within_s: float) -> None:
    async with rigged(roomy, MANY) as rig, working(rig):
        await rig.shows("coinbase")
        wanted = await _listed(rig, most)
        assert await rig.reader.ask(wanted, most=5_000) == most

        async def shown() -> bool:
            rows = (await rig.reader.read(wanted)).tickers
            return sum(b'"price":' in row for row in rows.values()) == most

        await until(shown, within_s=within_s)
        await rig.moves()
        total = rig.simulator.counts().exchanges["binance"].total
        assert rig.breaches() == {}
        assert (total.connections.cut, total.connections.refused) == (0, 0)


@pytest.mark.faults
@pytest.mark.timeout(60)
async def test_a_burst_of_new_instruments_breaks_no_connection() -> None:
    """Within the limits on messages, on names in one, and on names in all."""
    await _burst(400, within_s=20)


@pytest.mark.faults
@pytest.mark.timeout(120)
async def test_two_thousand_at_once_break_none_either() -> None:
    """Over as many connections as their names need."""
    await _burst(2_000, within_s=60)


# Traded by all three, and on by default at none.
OTHERS = ("ENS", "INJ", "SEI", "TIA", "JUP")


@pytest.mark.timeout(60)
async def test_a_name_that_is_refused_is_remembered_and_reported() -> None:
    """A table may be older than the exchange; its other names stream all the same."""
    async with rigged() as rig:
        listings = [
            Listing(symbol=f"{base}/USD", base=base, quote="USD")
            for base in ("BTC", "FOO", *OTHERS)
        ]
        now_ms = rig.client.clock.wall_ms()
        await Tables(rig.client).save_listings(
            "kraken", listings, now_ms=now_ms, life_ms=60_000
        )
        async with working(rig):
            await rig.shows("coinbase")
            wanted = ["FOO-USD", *(f"{base}-USD" for base in OTHERS)]
            assert await rig.reader.ask(wanted, most=500) == len(wanted)
            await rig.says(r'"unsupported":\{"kraken":\{"FOO/USD":"[^"]')
            await until(lambda: _all_but_one_stream(rig))
            unsupported = (await rig.health())["unsupported"]["kraken"]
            assert unsupported.keys() == {"FOO/USD"}, "nobody else is to blame"
        kraken = rig.simulator.counts().exchanges["kraken"].total
        assert kraken.subscriptions.unknown == 1, "it was asked for once"
        assert rig.breaches() == {}


async def _all_but_one_stream(rig: Rig) -> bool:
    (line,) = (await rig.health())["streams"]["kraken"]
    return (line["wanted"], line["subscribed"]) == (len(OTHERS) + 1, len(OTHERS) + 1)


# Names that are in a table and that nobody streams, among those that are streamed. What
# Binance would acknowledge and never send is not among them, but what it refuses: each
# time without a word whose fault it was.
BAD = ("FOO", "BAR", "BAZ", "QUX")
SPELT = {
    "binance": ("USDT", "{}USDT", "{}-USDT"),
    "coinbase": ("USD", "{}-USD", "{}-USD"),
    "coinbase-exchange": ("USD", "{}-USD", "{}-USD"),
    "kraken": ("USD", "{}/USD", "{}/USD"),
}
# How often a bad name is asked for before it is given up: Advanced Trade says nothing,
# and is asked twice; the other dialect counts each of its two channels. Of all names
# Binance refuses each half in its turn.
ASKED = {"coinbase": 2, "coinbase-exchange": 2, "kraken": 1}


def _only(name: str) -> Callable[[Settings], Settings]:
    """Return the change after which clients may ask for what one exchange lists."""

    def only(settings: Settings) -> Settings:
        settings = hurried(settings)
        exchange = replace(settings.exchanges[name], enabled=True)
        return replace(
            settings,
            board=replace(settings.board, sources=(name,)),
            exchanges=settings.exchanges | {name: exchange},
        )

    return only


def _listings(name: str) -> list[Listing]:
    quote, good, bad = SPELT[name]
    spelt = dict.fromkeys(("BTC", *OTHERS), good) | dict.fromkeys(BAD, bad)
    return [
        Listing(symbol=spelling.format(base), base=base, quote=quote)
        for base, spelling in spelt.items()
    ]


async def _whole(rig: Rig, name: str, least: int) -> bool:
    lines = (await rig.health())["streams"][name]
    wanted = sum(line["wanted"] for line in lines)
    granted = sum(line["subscribed"] for line in lines)
    return bool(least <= wanted == granted)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", SPELT)
async def test_bad_names_among_good_ones_are_found_reported_and_left_alone(
    name: str,
) -> None:
    """However an exchange refuses them, and over the next connection as well."""
    async with rigged(_only(name)) as rig:
        quote, _, bad = SPELT[name]
        await Tables(rig.client).save_listings(
            name, _listings(name), now_ms=rig.client.clock.wall_ms(), life_ms=60_000
        )
        async with working(rig):
            await until(lambda: _whole(rig, name, 0))
            wanted = [f"{base}-{quote}" for base in (*BAD, *OTHERS)]
            assert await rig.reader.ask(wanted, most=500) == len(wanted)
            culprits = {bad.format(base) for base in BAD}

            async def reported() -> bool:
                said = (await rig.health())["unsupported"].get(name, {})
                assert said.keys() <= culprits, "nobody else is to blame"
                return len(said) == len(culprits) and all(said.values())

            await until(reported)
            await until(lambda: _whole(rig, name, len(OTHERS)))
            opened, asked = _counted(rig, name)
            assert opened == 1, "they cost no connection"
            if name in ASKED:
                assert asked == ASKED[name] * len(BAD)
            rig.simulator.fault(name.replace("-", "_"), "cut")
            await eventually(lambda: _counted(rig, name)[0] == opened + 1)
            await until(lambda: _whole(rig, name, len(OTHERS)))
            assert _counted(rig, name)[1] == asked, "remembered"
        assert rig.breaches() == {}


@pytest.mark.timeout(60)
async def test_a_name_that_binance_grants_and_does_not_know_is_reported() -> None:
    """Its stream is acknowledged and stays silent; its REST refuses all for its sake.

    That costs a few requests once, and the others are read and streamed all the same.
    """
    bases = (*BAD, *OTHERS)

    def often(settings: Settings) -> Settings:
        settings = _only("binance")(settings)
        binance = replace(settings.exchanges["binance"], snapshot_ms=500)
        exchanges = settings.exchanges | {"binance": binance}
        return replace(settings, exchanges=exchanges)

    async with rigged(often) as rig:
        listings = [
            Listing(symbol=f"{base}USDT", base=base, quote="USDT") for base in bases
        ]
        await Tables(rig.client).save_listings(
            "binance", listings, now_ms=rig.client.clock.wall_ms(), life_ms=60_000
        )
        async with working(rig):
            await until(lambda: _whole(rig, "binance", 0))
            wanted = [f"{base}-USDT" for base in bases]
            assert await rig.reader.ask(wanted, most=500) == len(wanted)
            culprits = {f"{base}USDT" for base in BAD}

            async def reported() -> bool:
                said = (await rig.health())["unsupported"].get("binance", {})
                assert said.keys() <= culprits, "nobody else is to blame"
                return set(said) == culprits

            await until(reported)
            await rig.says(r"does not know BARUSDT, .*Invalid symbol\. \(code -1121\)")
            await until(lambda: _whole(rig, "binance", len(OTHERS)))
            await rig.moves(f"{OTHERS[-1]}-USDT")
            health = await rig.health()
            assert "binance" not in health["refused"], "its snapshots are read"
            answered = rig.simulator.counts().exchanges["binance"].total.requests
            refused = answered.by_status["400"]
            assert refused < 4 * len(BAD), "halved, and not asked one by one"
            rig.simulator.reset_counts()
            await eventually(lambda: _statuses(rig).get("200", 0) > 2)
            assert _statuses(rig).keys() == {"200"}, "remembered"
        assert rig.breaches() == {}


@pytest.mark.timeout(60)
async def test_where_no_name_is_known_none_is_to_blame() -> None:
    """Then it is the exchange that is wrong, or all of us: no stream is left for it."""
    async with rigged(_only("binance")) as rig:
        listings = [
            Listing(symbol=f"{base}USDT", base=base, quote="USDT") for base in BAD
        ]
        await Tables(rig.client).save_listings(
            "binance", listings, now_ms=rig.client.clock.wall_ms(), life_ms=60_000
        )
        async with working(rig):
            await until(lambda: _whole(rig, "binance", 0))
            wanted = [f"{base}-USDT" for base in BAD]
            assert await rig.reader.ask(wanted, most=500) == len(wanted)
            await rig.says(r'"refused":\{[^}]*"binance":"request: [^"]*-1121')
            health = await rig.health()
            assert "binance" not in health["unsupported"]
            (line,) = health["streams"]["binance"]
            assert line["subscribed"] == len(BAD)
        assert rig.breaches() == {}


@pytest.mark.timeout(60)
async def test_a_configured_name_that_nobody_lists_is_reported() -> None:
    """Nobody is asked for it, so nobody else would say that it is misspelt."""

    def misspelt(settings: Settings) -> Settings:
        settings = hurried(settings)
        group = Group(instruments=("BTC-UDST",), sources=("binance", "coinbase"))
        board = replace(settings.board, groups=(*settings.board.groups, group))
        return replace(settings, board=board)

    async with rigged(misspelt) as rig, working(rig):
        await rig.says("no source lists BTC-UDST")
        await rig.shows("coinbase")
        assert rig.breaches() == {}


@pytest.mark.timeout(60)
async def test_an_empty_table_takes_nothing_off_the_board() -> None:
    """An exchange that lists nothing is broken, and not gone."""

    def often(settings: Settings) -> Settings:
        settings = _only("coinbase")(settings)
        coinbase = replace(settings.exchanges["coinbase"], symbols_ms=300)
        exchanges = settings.exchanges | {"coinbase": coinbase}
        return replace(settings, exchanges=exchanges)

    async with rigged(often) as rig, working(rig):
        await rig.shows("coinbase")
        rig.simulator.fault(
            "coinbase", "garbage", transport="rest", value='{"products":[]}'
        )
        await rig.says("cannot be read: its symbol table was empty")
        await rig.shows("coinbase")
        await rig.moves()
        assert "BTC-USD" in await rig.reader.symbols()
        rig.simulator.clear_faults()
        assert rig.breaches() == {}


def _statuses(rig: Rig) -> dict[str, int]:
    return rig.simulator.counts().exchanges["binance"].total.requests.by_status


def _counted(rig: Rig, name: str) -> tuple[int, int]:
    """Return the connections opened, and the unknown names asked for."""
    total = rig.simulator.counts().exchanges[name.replace("-", "_")].total
    return total.connections.opened, total.subscriptions.unknown


STREAMING = ("binance", "coinbase", "kraken")
SOON_MS = 2_000
# Ten minutes, scaled.
DEMAND_MS = 5_000


def _asked_for(base: str) -> list[str]:
    """Return what all three of them stream of an asset."""
    return [f"{base}-USD", f"{base}-USDT"]


def _streamed(rig: Rig) -> dict[str, int]:
    """Return how much each exchange is asked to stream."""
    return {
        name: sum(
            talk.subscribed for talk in rig.simulator.exchanges[name].conversations
        )
        for name in STREAMING
    }


async def _settled(rig: Rig) -> None:
    """Wait until everything that is always on is streamed."""

    async def granted() -> bool:
        streams = (await rig.health())["streams"]
        return all(
            streams[name]
            and streams[name][0]["wanted"] == streams[name][0]["subscribed"]
            for name in STREAMING
        )

    await until(granted)


def _one_connection_each(rig: Rig) -> bool:
    exchanges = rig.simulator.counts().exchanges
    opened = [exchanges[name].total.connections.opened for name in STREAMING]
    return opened == [1] * len(STREAMING)


@pytest.mark.timeout(60)
async def test_what_is_asked_for_is_streamed_within_two_seconds() -> None:
    """On the live connection of each exchange that lists it; and it is shown."""
    async with rigged() as rig, working(rig):
        await _settled(rig)
        took_ms = [
            await _asked_and_streamed(rig, _asked_for(base)) for base in OTHERS[:3]
        ]
        assert _one_connection_each(rig)
        assert rig.breaches() == {}
    # One of them may have met this machine at a bad moment.
    assert sorted(took_ms)[1] <= SOON_MS, took_ms


async def _asked_and_streamed(rig: Rig, names: list[str]) -> int:
    """Ask, and wait until it is streamed and shown; return how long streaming took."""
    before, began_ms = _streamed(rig), rig.simulator.now()
    assert await rig.reader.ask(names, most=500) == len(names)
    await eventually(
        lambda: all(many > before[name] for name, many in _streamed(rig).items())
    )
    took_ms = rig.simulator.now() - began_ms
    await until(lambda: _is_shown(rig, names))
    return took_ms


async def _is_shown(rig: Rig, names: list[str]) -> bool:
    tickers = [await rig.ticker(name) for name in names]
    return all(ticker is not None and ticker.price for ticker in tickers)


@pytest.mark.timeout(60)
async def test_what_nobody_asks_for_any_more_is_dropped_and_nothing_else() -> None:
    """In place, when its time is over; what is asked for again stays."""

    def forgetful(settings: Settings) -> Settings:
        return hurried(settings, demand_ms=DEMAND_MS)

    kept, left = _asked_for(OTHERS[0]), _asked_for(OTHERS[1])
    async with rigged(forgetful) as rig, working(rig):
        await _settled(rig)
        before = _streamed(rig)
        asked_ms = rig.simulator.now()
        assert await rig.reader.ask([*kept, *left], most=500) == 4
        await until(lambda: _is_shown(rig, [*kept, *left]))
        # What is shown may have been read by REST, before it streams.
        await eventually(
            lambda: all(
                many > before[name] + 1 for name, many in _streamed(rig).items()
            )
        )
        with_both = _streamed(rig)

        async def dropped() -> bool:
            await rig.reader.ask(kept, most=500)
            tickers = [await rig.ticker(name) for name in left]
            return all(ticker is not None and ticker.removed for ticker in tickers)

        await until(dropped)
        assert rig.simulator.now() - asked_ms >= DEMAND_MS
        await eventually(
            lambda: all(
                before[name] < many < with_both[name]
                for name, many in _streamed(rig).items()
            )
        )
        assert await _is_shown(rig, kept)
        assert _one_connection_each(rig)
        assert rig.breaches() == {}


@pytest.mark.timeout(60)
async def test_names_nobody_knows_and_whoever_charges_cost_nothing() -> None:
    """Not a request, not a message, and no credit, whatever is asked for."""
    charging = ("coincap", "coingecko")
    async with rigged() as rig, working(rig):
        await rig.shows("coinbase")
        await _settled(rig)
        await until(lambda: _is_read(rig, charging))
        before = _spent(rig, charging)
        unknown = [f"NO{number}-USD" for number in range(200)]
        # The two aggregators alone have a price of these in dollars.
        theirs = ["1000SATS-USD", "币安人生-USD"]
        assert await rig.reader.ask([*unknown, *theirs], most=500) == 0
        messages = _messages(rig)
        assert await rig.reader.ask(_asked_for("ENS"), most=500) == 2
        await until(lambda: _is_shown(rig, _asked_for("ENS")))
        assert _spent(rig, charging) == before
        # What is known is subscribed to, in a message or two; the others in none.
        assert all(
            after - messages[name] <= 3 for name, after in _messages(rig).items()
        )
        assert not any(
            one.total.subscriptions.unknown
            for one in rig.simulator.counts().exchanges.values()
        )


async def _is_read(rig: Rig, names: tuple[str, ...]) -> bool:
    sources = (await rig.health())["sources"]
    return all(sources[name]["alive"] for name in names)


def _spent(rig: Rig, names: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    totals = {name: rig.simulator.counts().exchanges[name].total for name in names}
    return {
        name: (total.requests.total, total.credits_spent)
        for name, total in totals.items()
    }


def _messages(rig: Rig) -> dict[str, int]:
    exchanges = rig.simulator.counts().exchanges
    return {name: exchanges[name].total.messages.received for name in STREAMING}
