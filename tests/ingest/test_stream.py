"""All connections of one exchange: made, spread, replaced, made again."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from websockets.exceptions import ConnectionClosed

from relay.clock import Clock, ManualClock
from relay.config import Limit, Settings
from relay.errors import RateLimited
from relay.exchanges.adapter import Rules, Told
from relay.ingest import line, roll
from relay.ingest.stream import spread
from tests.harness import eventually
from tests.ingest.peer import Bench, Caller, Peer, listening
from tests.ingest.toy import RULES, Toy


@pytest.fixture
def settings(settings: Settings, valkey_url: str) -> Settings:
    """Return the settings with a store in them: what is spent is taken from there."""
    return replace(settings, store=replace(settings.store, url=valkey_url))


@pytest.fixture
def clock() -> Clock:
    """Return a clock that runs."""
    return Clock()


@pytest.fixture
async def peer(clock: Clock) -> AsyncIterator[Peer]:
    """Run the other end."""
    async with listening(clock) as peer:
        yield peer


@pytest.fixture
def bench(settings: Settings, peer: Peer, clock: Clock) -> Bench:
    """Return a stream of the toy exchange."""
    return Bench(settings, peer.url, clock)


async def met(bench: Bench, peer: Peer, connections: int = 1) -> None:
    """Wait until so many connections were made and all is granted."""
    await eventually(lambda: len(peer.callers) == connections)
    await eventually(lambda: settled(bench))


def settled(bench: Bench) -> bool:
    """Tell whether every line is open and granted its all."""
    states = bench.stream.states
    return bool(states) and all(
        state.state == "open" and state.subscribed == state.wanted for state in states
    )


# What is wanted.


async def test_nothing_wanted_is_no_connection(bench: Bench, peer: Peer) -> None:
    """A connection without a subscription is closed by the exchange, and costs."""
    async with bench.running():
        bench.stream.want(())
        await asyncio.sleep(0.2)
        assert not bench.stream.states
        assert not peer.attempts_ms
        bench.stream.want("A")
        await met(bench, peer)
        bench.stream.want(())
        await eventually(lambda: peer.caller.closed)
        assert not bench.stream.states
        assert peer.caller.socket.close_code == 1000
        bench.stream.want("B")
        await met(bench, peer, 2)
        assert not bench.sink.downs


async def test_changes_are_gathered_and_made_in_place(bench: Bench, peer: Peer) -> None:
    """A page that loads asks for thirty instruments one after the other."""
    async with bench.running("A", "B"):
        await met(bench, peer)
        for symbols in ("ABC", "BC", "BCD"):
            bench.stream.want(symbols)
        await eventually(lambda: len(peer.caller.said) == 3)
        assert peer.caller.words == ["sub A,B", "unsub A", "sub C,D"]
        bench.stream.want("DCB")
        await peer.caller.tell("price C 1 1")
        await eventually(lambda: bool(bench.sink.prices))
        assert len(peer.caller.said) == 3
        assert len(peer.callers) == 1


async def test_symbols_are_spread_over_as_many_connections_as_it_takes(
    settings: Settings, peer: Peer, clock: Clock
) -> None:
    """Binance takes 1,024 streams a connection."""
    bench = Bench(settings, peer.url, clock, Toy(replace(RULES, symbols_max=2)))
    async with bench.running(*"ABCDE"):
        await met(bench, peer, 3)
        first = sorted(caller.words[0] for caller in peer.callers)
        assert first == ["sub A,B", "sub C,D", "sub E"]
        assert bench.sink.ups == 1
        bench.stream.want("ABEF")
        await eventually(lambda: len(peer.open_callers) == 2)
        await eventually(lambda: settled(bench))
        words = sorted(caller.words for caller in peer.open_callers)
        assert words == [["sub A,B"], ["sub E", "sub F"]]


@given(
    st.lists(st.frozensets(st.integers(0, 30), max_size=4), max_size=5),
    st.sets(st.integers(0, 40)),
    st.integers(1, 5),
)
def test_every_symbol_has_one_place_and_keeps_it(
    held: list[frozenset[int]], wanted: set[int], most: int
) -> None:
    """Moving a symbol to another connection would lose values on the way."""
    unique = list[frozenset[str]]()
    for some in held:
        names = {str(one) for one in some} - set().union(*unique)
        unique.append(frozenset(sorted(names)[:most]))
    names = {str(one) for one in wanted}
    shares = spread(unique, names, most)
    assert sorted(name for share in shares for name in share) == sorted(names)
    assert all(len(share) <= most for share in shares)
    for before, after in zip(unique, shares, strict=False):
        assert before & names <= after
    assert len(shares) >= len(unique)
    assert all(shares[len(unique) :])


# What the exchange says to it.


async def test_a_refused_symbol_is_told_once_and_not_asked_for_again(
    bench: Bench, peer: Peer
) -> None:
    """Each refusal counts against us; until somebody wants it anew."""
    peer.grants = False
    async with bench.running("A", "X"):
        await eventually(lambda: bool(peer.callers) and bool(peer.caller.said))
        await peer.caller.tell("ack A", "no X not supported")
        await eventually(lambda: settled(bench))
        assert bench.sink.refusals == [(("X",), "not supported")]
        await peer.caller.socket.close(1001)
        await eventually(lambda: len(peer.callers) == 2 and bool(peer.caller.said))
        assert peer.caller.words == ["sub A"]
        bench.stream.want("A")
        bench.stream.want("AX")
        await eventually(lambda: "sub X" in peer.caller.words)
        assert len(bench.sink.refusals) == 1


async def test_a_refused_symbol_is_asked_for_again_ever_more_rarely(
    settings: Settings,
) -> None:
    """It may be listed by then, or the exchange was in trouble and refused everything.

    Coinbase's "Failed to subscribe" names nobody: twelve seconds of it cost eleven
    instruments their stream for an hour.
    """
    clock = ManualClock()
    others = iter("CDEFGHIJKLMNOPQRSTUVWXYZ")
    async with listening(clock) as peer:
        toy = Toy(replace(RULES, silent_after_ms=10**9))
        bench = Bench(settings, peer.url, clock, toy)

        async def later(passed_ms: int) -> str:
            """Let time pass; return what is said when one more is wanted."""
            clock.advance(passed_ms)
            other = next(others)
            bench.stream.want({"A", "B", other})
            await eventually(lambda: other in peer.caller.words[-1])
            await eventually(lambda: settled(bench))
            return peer.caller.words[-1].replace(other, "-")

        async with bench.running("A", "B"):
            await met(bench, peer)
            for minutes in (1, 2, 4, 8, 16, 32, 60, 60):
                bench.sink.refusals.clear()
                await peer.caller.tell("no A Failed to subscribe")
                await eventually(lambda: bool(bench.sink.refusals))
                assert await later(minutes * 60_000 - 1_000) == "sub -"
                assert bench.stream.unsupported == {"A": "Failed to subscribe"}
                assert await later(1_001) == "sub A,-"
                assert not bench.stream.unsupported
            # Granted for an hour since, it is not the worse for what was long ago.
            assert await later(3_600_000) == "sub -"
            await peer.caller.tell("no A Failed to subscribe")
            await eventually(lambda: bool(bench.stream.unsupported))
            assert await later(60_001) == "sub A,-"
            assert len(peer.callers) == 1


async def test_the_culprit_in_a_refused_request_is_found(
    bench: Bench, peer: Peer
) -> None:
    """One bad name must not cost the other 199."""
    peer.grants = False
    answered: set[str] = set()

    async def answer(caller: Caller) -> None:
        for word in caller.words:
            if word not in answered:
                answered.add(word)
                names = word.removeprefix("sub ")
                await caller.tell("no - bad name" if "X" in names else f"ack {names}")

    async with bench.running(*"ABXC"):
        await eventually(lambda: bool(peer.callers))
        while not bench.sink.refusals:
            await answer(peer.caller)
            await asyncio.sleep(0.01)
        assert bench.sink.refusals == [(("X",), "bad name")]
        await eventually(lambda: settled(bench))
        assert bench.stream.states[0].wanted == 3
        assert len(peer.callers) == 1


async def test_what_is_left_out_again_and_again_is_given_up(
    bench: Bench, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Coinbase drops unknown names without a word, and would be asked for ever."""
    monkeypatch.setattr(roll, "ANSWER_MS", 100)
    peer.grants = False
    async with bench.running("A", "X"):
        await eventually(lambda: bool(peer.callers) and bool(peer.caller.said))
        await peer.caller.tell("ack A", "omitted X left out")
        await eventually(lambda: len(peer.caller.said) == 2)
        assert peer.caller.words == ["sub A,X", "sub X"]
        assert not bench.sink.refusals
        await peer.caller.tell("omitted X left out")
        await eventually(lambda: bench.sink.refusals == [(("X",), "left out")])
        assert bench.stream.unsupported == {"X": "left out"}
        await eventually(lambda: settled(bench))


async def test_of_several_requests_only_the_refused_one_is_searched(
    bench: Bench, peer: Peer
) -> None:
    """The others will be answered in their turn."""
    peer.grants = False
    async with bench.running(*"ABCX"):
        await eventually(lambda: bool(peer.callers) and bool(peer.caller.said))
        await peer.caller.tell("whole C,X bad name")
        await eventually(lambda: len(peer.caller.said) == 2)
        await peer.caller.tell("ack A,B", "ack C")
        await eventually(lambda: len(peer.caller.said) == 3)
        await peer.caller.tell("whole X bad name")
        await eventually(lambda: bench.sink.refusals == [(("X",), "bad name")])
        assert peer.caller.words == ["sub A,B,C,X", "sub C", "sub X"]
        await eventually(lambda: settled(bench))


async def test_what_is_not_answered_is_asked_for_again(
    bench: Bench, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above its rate Kraken makes no subscription, and may not even say so."""
    monkeypatch.setattr(roll, "ANSWER_MS", 100)
    peer.grants = False
    async with bench.running("A", "B", "C"):
        await eventually(lambda: bool(peer.callers) and bool(peer.caller.said))
        await peer.caller.tell("ack A", "price B 1 1", "later C Exceeded msg rate")
        await eventually(lambda: len(peer.caller.said) >= 3)
        assert peer.caller.words[:3] == ["sub A,B,C", "sub C", "sub C"]
        times = [at_ms for at_ms, _ in peer.caller.said]
        assert times[1] - times[0] >= 95
        assert times[2] - times[1] >= 195
        await peer.caller.tell("ack C")
        await eventually(lambda: settled(bench))
        assert not bench.sink.refusals


async def test_a_gap_is_read_anew(bench: Bench, peer: Peer) -> None:
    """Lost frames are lost; REST has the newest values."""
    async with bench.running("A", "B"):
        await met(bench, peer)
        await peer.caller.tell("gap A", "gap -")
        await eventually(lambda: bench.sink.refreshes == [("A",), ()])


async def test_a_denied_connection_is_not_tried_in_a_loop(
    bench: Bench, peer: Peer
) -> None:
    """Somebody has to set a key first."""
    async with bench.running("A"):
        await met(bench, peer)
        await peer.caller.tell("denied")
        await eventually(lambda: bool(bench.sink.downs))
        why = "toy refuses us (key): set a key"
        assert bench.sink.downs[0] == why
        await eventually(lambda: peer.caller.closed)
        await asyncio.sleep(0.3)
        assert len(peer.attempts_ms) == 1
        said = re.escape(why.removeprefix("toy "))
        alone = re.compile(rf"is left alone until \d\d:\d\d:\d\d UTC: {said}")
        await eventually(lambda: bool(alone.fullmatch(bench.stream.states[0].error)))
        assert bench.stream.states[0].state == "waiting"


async def test_a_limit_that_the_stream_meets_cools_streams_and_not_rest(
    bench: Bench, peer: Peer
) -> None:
    """It is the limit on connections and messages that was passed."""
    async with bench.running("A"):
        await met(bench, peer)
        await peer.caller.tell("limited")
        # The line is given up first, and then it is written down for everybody.
        await eventually(lambda: bench.stream.purse.cooling("ws") is not None)
        cooldown = bench.stream.purse.cooling("ws")
        assert cooldown is not None
        assert cooldown.until_ms > bench.clock.wall_ms() + 50_000
        assert bench.stream.purse.cooling("rest") is None


async def test_what_the_exchange_says_of_itself_is_handed_on(
    bench: Bench, peer: Peer
) -> None:
    """Its own word tells better than any close why nothing comes."""
    async with bench.running("A"):
        await met(bench, peer)
        await peer.caller.tell("told halts in maintenance", "told")
        await eventually(lambda: len(bench.sink.tolds) == 2)
        assert bench.sink.tolds == [Told("in maintenance", halts=True), Told()]


async def test_a_limit_that_rest_meets_does_not_hold_up_the_stream(
    bench: Bench, peer: Peer
) -> None:
    """Keeping the live stream up comes first: it has limits of its own."""
    async with bench.running("A"):
        await met(bench, peer)
        error = RateLimited("toy", "address", 40_000)
        await bench.stream.purse.heed(error, "rest")
        peer.caller.cut()
        await eventually(lambda: len(peer.attempts_ms) >= 2)
        assert bench.stream.purse.cooling("rest") is not None


# Connecting, and again.


@pytest.mark.parametrize(
    ("refusal", "words", "again"),
    [
        ((401, {}), "refuses us (key): set a key", False),
        ((403, {}), "refuses us (blocked): go elsewhere", False),
        ((451, {}), "refuses us (blocked): go elsewhere", False),
        ((429, {"Retry-After": "40"}), "limits us by address: wait 40 s", False),
        ((503, {}), "HTTP 503", True),
        ((520, {}), "HTTP 520", True),
        ((200, {}), "the upgrade was answered with HTTP 200", True),
        ((302, {"Location": "ws://x.example"}), "answered with HTTP 302", True),
    ],
)
async def test_a_refused_upgrade_says_why(
    bench: Bench,
    peer: Peer,
    refusal: tuple[int, dict[str, str]],
    words: str,
    *,
    again: bool,
) -> None:
    """A block, a missing key and a limit are no reason to knock on and on."""
    peer.refusal = refusal
    async with bench.running("A"):
        await eventually(lambda: bool(bench.sink.downs))
        assert words in bench.sink.downs[0]
        if again:
            await eventually(lambda: len(peer.attempts_ms) >= 3)
        else:
            await asyncio.sleep(0.2)
            assert len(peer.attempts_ms) == 1
        # The cooldown is everybody's: other instances are as unwelcome.
        assert (bench.stream.purse.cooling("ws") is None) is again
        # Whom an exchange turns away it turns away from REST too; a limit is the
        # stream's own.
        turned_away = refusal[0] in (401, 403, 451)
        assert (bench.stream.purse.cooling("rest") is not None) is turned_away
        assert bench.connects == len(peer.attempts_ms)


async def test_an_exchange_that_appears_is_found(
    settings: Settings, clock: Clock
) -> None:
    """Without internet the relay goes on trying, and fills when it is back."""
    async with listening(clock) as gone:
        url = gone.url
    bench = Bench(settings, url, clock)
    async with bench.running("A"):
        await eventually(lambda: len(bench.sink.downs) >= 2)
        assert set(bench.sink.downs) == {"connection refused"}
        assert bench.stream.states[0].state == "waiting"
        bench.stream.want(())
        await eventually(lambda: not bench.stream.states)


async def test_an_unknown_name_costs_no_attempt(
    settings: Settings, clock: Clock
) -> None:
    """Nobody has counted it."""
    bench = Bench(settings, "ws://no-such-host.invalid", clock)
    async with bench.running("A"):
        await eventually(lambda: bool(bench.sink.downs))
        assert bench.sink.downs[0] == "name cannot be resolved"
        bench.stream.want(())
        await eventually(lambda: not bench.stream.states)
        await eventually(lambda: bench.connects == 0)


async def test_attempts_come_from_the_budget(
    settings: Settings, peer: Peer, clock: Clock
) -> None:
    """Ten workers restarting in a loop must not get the address banned."""
    bench = Bench(settings, peer.url, clock)
    limit = Limit(
        name="connect", weight_max=3, window_ms=60_000, kind="rolling", scope="address"
    )
    bench.allow(limit)
    peer.refusal = (503, {})
    async with bench.running("A"):
        spent = "our own budget of connect is spent: 3 of 3 used, 1 asked for"
        await eventually(lambda: spent in bench.sink.downs)
        await asyncio.sleep(0.2)
        assert len(peer.attempts_ms) == 3
        assert bench.stream.states[0].state == "waiting"


async def test_who_says_how_long_it_is_down_is_left_alone_for_so_long(
    settings: Settings,
) -> None:
    """However short our own patience is."""
    clock = ManualClock()
    async with listening(clock) as peer:
        peer.refusal = (503, {"Retry-After": "1"})
        bench = Bench(
            settings, peer.url, clock, reconnect_min_ms=40, reconnect_max_ms=200
        )
        async with bench.running("A"):
            while len(peer.attempts_ms) < 2:
                await asyncio.sleep(0.002)
                clock.advance(1)
    first, second = peer.attempts_ms[:2]
    assert second - first >= 1_000


async def test_attempts_are_ever_further_apart(settings: Settings) -> None:
    """By the bounds of the configuration: a storm helps nobody."""
    clock = ManualClock()
    async with listening(clock) as peer:
        peer.refusal = (503, {})
        bench = Bench(
            settings, peer.url, clock, reconnect_min_ms=40, reconnect_max_ms=200
        )
        async with bench.running("A"):
            while len(peer.attempts_ms) < 7:
                await asyncio.sleep(0.002)
                clock.advance(1)
        waits = [after - before for before, after in pairwise(peer.attempts_ms)]
    # Chance says a half. After five failures the breaker is open, for two seconds and
    # then for four. The clock goes on while the store and the peer are asked, for as
    # long as this machine takes: that comes on top.
    expected = [20, 40, 80, 100, 2_000, 4_000]
    for wait_ms, expected_ms in zip(waits, expected, strict=True):
        assert wait_ms >= expected_ms


async def test_everything_wanted_is_subscribed_again_and_read_anew(
    bench: Bench, peer: Peer
) -> None:
    """What was added in place, too; what was missed is asked for by REST."""
    async with bench.running("A"):
        await met(bench, peer)
        bench.stream.want("ABC")
        await eventually(lambda: "sub B,C" in peer.caller.words)
        assert not bench.sink.refreshes
        peer.caller.cut()
        await met(bench, peer, 2)
        assert peer.caller.words == ["sub A,B,C"]
        await eventually(lambda: bench.sink.refreshes == [("A", "B", "C")])
        assert (len(bench.sink.downs), bench.sink.ups) == (1, 2)


async def test_one_line_that_is_lost_does_not_disturb_the_others(
    settings: Settings, peer: Peer, clock: Clock
) -> None:
    """Down and up are told of the whole exchange, values go on."""
    bench = Bench(settings, peer.url, clock, Toy(replace(RULES, symbols_max=1)))
    async with bench.running("A", "B"):
        await met(bench, peer, 2)
        lost = next(one for one in peer.callers if one.words == ["sub A"])
        lost.cut()
        await met(bench, peer, 3)
        assert peer.caller.words == ["sub A"]
        assert len(peer.open_callers) == 2
        await eventually(lambda: bench.sink.refreshes == [("A",)])
        assert (len(bench.sink.downs), bench.sink.ups) == (1, 2)


async def test_what_went_wrong_before_a_connection_is_not_said_of_it(
    bench: Bench, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream that is open again has nothing wrong with it; the log keeps the rest."""
    caplog.set_level("INFO")
    async with bench.running("A"):
        await met(bench, peer)
        peer.refusal = (503, {})
        await peer.caller.tell("closing")
        await eventually(lambda: "503" in bench.stream.states[0].error)
        assert bench.stream.states[0].state == "open"
        peer.refusal = None
        await eventually(lambda: len(peer.callers) == 2)
        await eventually(lambda: not bench.stream.states[0].error)
        await eventually(lambda: len(peer.open_callers) == 1)
        peer.caller.cut()
        await eventually(lambda: bool(bench.stream.states[0].error))
        await met(bench, peer, 3)
        assert not bench.stream.states[0].error
    assert bench.sink.replacements == ["about to restart"]
    assert "toy: replacing its connection: about to restart" in caplog.messages
    assert any("toy: no successor" in one and "503" in one for one in caplog.messages)
    assert len(bench.sink.downs) == 1


async def test_a_lost_line_that_nobody_wants_any_more_keeps_nothing_down(
    settings: Settings, peer: Peer, clock: Clock
) -> None:
    """Else the exchange would be read by REST for ever, as if it did not stream."""
    bench = Bench(settings, peer.url, clock, Toy(replace(RULES, symbols_max=1)))
    async with bench.running("A", "B"):
        await met(bench, peer, 2)
        lost = next(one for one in peer.callers if one.words == ["sub A"])
        peer.refusal = (503, {})
        lost.cut()
        await eventually(lambda: bool(bench.sink.downs))
        bench.stream.want("B")
        await eventually(lambda: bench.sink.ups == 2)
        assert len(peer.open_callers) == 1


async def test_a_sink_that_fails_is_told_and_tried_again(
    bench: Bench, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own mistakes must be loud, and not end the exchange for good."""

    def fail(exchange: str, updates: object) -> None:
        raise KeyError(exchange, updates)

    monkeypatch.setattr(bench.sink, "updates", fail)
    async with bench.running("A"):
        await met(bench, peer)
        await peer.caller.tell("price A 1 1")
        await met(bench, peer, 2)
        assert bench.sink.downs[0].startswith("KeyError: ")


# Make before break.


async def tick(peer: Peer, until: Callable[[], bool]) -> int:
    """Tell every subscribed connection a growing price of A; return the last one."""
    price = 0
    async with asyncio.timeout(15):
        while not until():
            price += 1
            for caller in peer.open_callers:
                if (
                    any("A" in word for word in caller.words)
                    or peer.paths[0] != "/feed"
                ):
                    # It may be leaving just now.
                    with suppress(ConnectionClosed):
                        await caller.tell(f"price A {price} {price}")
            await asyncio.sleep(0.005)
    return price


def unbroken(bench: Bench, last: int) -> bool:
    """Tell whether every price came, in order, and none later than a newer one."""
    prices = [int(price) for _, price in bench.sink.prices]
    return sorted(prices) == prices and set(prices) == set(range(prices[0], last + 1))


async def test_a_connection_at_the_end_of_its_life_is_replaced_without_a_gap(
    settings: Settings, peer: Peer, clock: Clock
) -> None:
    """Binance ends every connection after a day; nobody is to notice."""
    bench = Bench(settings, peer.url, clock, Toy(replace(RULES, life_ms=1_200)))
    async with bench.running("A"):
        last = await tick(
            peer, lambda: len(peer.callers) == 3 and len(peer.open_callers) == 1
        )
        await eventually(lambda: bool(bench.sink.prices) and unbroken(bench, last))
        first, second, third = peer.callers
        assert first.closed
        assert second.closed
        assert first.socket.close_code == 1000
        # Left before its life is over, so that the exchange need not end it.
        assert 1_050 <= second.opened_ms - first.opened_ms <= 1_400
        assert third.words == ["sub A"]
        assert not bench.sink.downs
        assert not bench.sink.refreshes


async def test_a_closing_exchange_is_left_before_it_closes(
    bench: Bench, peer: Peer
) -> None:
    """`serverShutdown`: open the next, move over, and only then close the old one."""
    async with bench.running("A"):
        await met(bench, peer)
        await peer.caller.tell("closing", "closing")
        last = await tick(
            peer, lambda: len(peer.callers) == 2 and len(peer.open_callers) == 1
        )
        await eventually(lambda: unbroken(bench, last))
        assert peer.callers[0].closed
        assert not bench.sink.downs


async def test_another_set_takes_another_connection_where_it_must(
    settings: Settings, peer: Peer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CoinCap's symbols stand in the address."""
    monkeypatch.setattr(line, "_REPLACE_MS", 300)
    toy = Toy(replace(RULES, in_place=False), by_url=True)
    bench = Bench(settings, peer.url, clock, toy)
    async with bench.running("A"):
        await met(bench, peer)
        bench.stream.want("AB")
        last = await tick(
            peer, lambda: len(peer.callers) == 2 and len(peer.open_callers) == 1
        )
        await eventually(lambda: unbroken(bench, last))
        assert peer.paths == ["/feed?symbols=A", "/feed?symbols=A,B"]
        assert not peer.caller.said
        assert not bench.sink.downs


async def test_a_replacement_that_fails_leaves_the_old_one_in_place(
    bench: Bench, peer: Peer
) -> None:
    """Better an announced end than one of our own making."""
    async with bench.running("A"):
        await met(bench, peer)
        peer.refusal = (503, {})
        await peer.caller.tell("closing")
        await eventually(lambda: len(peer.attempts_ms) >= 3)
        await peer.caller.tell("price A 1 1")
        await eventually(lambda: bool(bench.sink.prices))
        assert not bench.sink.downs
        assert bench.stream.states[0].state == "open"
        peer.refusal = None
        await met(bench, peer, 2)
        await eventually(lambda: len(peer.open_callers) == 1)


async def test_a_replacement_that_dies_at_once_leaves_the_old_one_in_place(
    bench: Bench, peer: Peer
) -> None:
    """It is only left for one that has everything."""
    async with bench.running("A"):
        await met(bench, peer)
        first = peer.caller
        peer.grants = False
        await first.tell("closing")
        await eventually(lambda: len(peer.callers) == 2)
        peer.caller.cut()
        await eventually(lambda: len(peer.callers) == 3)
        await first.tell("price A 5 5")
        await eventually(lambda: bench.sink.prices == [("A", "5")])
        assert not bench.sink.downs
        await peer.caller.tell("ack A")
        await eventually(lambda: first.closed)
        await peer.caller.tell("price A 6 6")
        await eventually(lambda: bench.sink.prices[1:] == [("A", "6")])


async def test_an_old_connection_that_dies_during_the_change_is_read_anew(
    bench: Bench, peer: Peer
) -> None:
    """What it did not tell any more, the new one may not have told yet."""
    async with bench.running("A"):
        await met(bench, peer)
        first = peer.caller
        peer.grants = False
        await first.tell("closing")
        await eventually(lambda: len(peer.callers) == 2)
        first.cut()
        await eventually(lambda: first.closed)
        await peer.caller.tell("ack A")
        await eventually(lambda: bench.sink.refreshes == [("A",)])
        assert settled(bench)


async def test_the_old_one_is_not_believed_after_the_new_one(
    settings: Settings,
) -> None:
    """Without a sequence the later frame wins, and the older connection may be late."""
    toy = Toy(Rules(spacing_ms=0, symbols_max=9, silent_after_ms=90_000), by_url=True)
    # How long both are kept is the clock's to say, not this machine's.
    clock = ManualClock()
    async with listening(clock) as peer:
        bench = Bench(settings, peer.url, clock, toy)
        async with bench.running("A", "B"):
            await met(bench, peer)
            first = peer.caller
            await first.tell("closing")
            await passing(clock, lambda: len(peer.callers) == 2)
            await peer.caller.tell("price A 2 0")
            await eventually(lambda: len(bench.sink.prices) == 1)
            await first.tell("price A 1 0", "price B 1 0")
            await eventually(lambda: len(bench.sink.prices) == 2)
            assert bench.sink.prices == [("A", "2"), ("B", "1")]
            assert not first.closed
            await passing(clock, lambda: first.closed)


async def passing(clock: ManualClock, done: Callable[[], bool]) -> None:
    """Let time pass until something is done."""
    async with asyncio.timeout(20):
        while not done():
            await asyncio.sleep(0.002)
            clock.advance(1)
