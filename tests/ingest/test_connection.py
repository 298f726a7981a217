"""One socket: what is heard over it, what is said, and how it ends."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from msgspec.structs import replace
from websockets.frames import Frame, Opcode

from relay.clock import Clock
from relay.config import Settings
from tests.harness import eventually
from tests.ingest.peer import Bench, Peer, listening, open_sockets
from tests.ingest.toy import CERTIFICATE, RULES, Toy, toy_tls


@pytest.fixture
def settings(settings: Settings, valkey_url: str) -> Settings:
    """Return the settings with a store in them: what is spent is taken from there."""
    return replace(settings, store=replace(settings.store, url=valkey_url))


@pytest.fixture(
    scope="module",
    params=[{"use_uvloop": False}, {"use_uvloop": True}],
    ids=["asyncio", "uvloop"],
)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Run them on both loops: sockets are where the two differ."""
    return "asyncio", request.param


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
    """Wait until so many connections were made and the newest is granted its all."""
    await eventually(lambda: len(peer.callers) == connections)
    await eventually(
        lambda: all(
            state.state == "open" and state.subscribed == state.wanted
            for state in bench.stream.states
        )
    )


async def test_a_connection_says_who_we_are_and_what_its_session_wants(
    bench: Bench, peer: Peer
) -> None:
    """Some exchanges refuse clients without a name, some take a key in a header."""
    async with bench.running("A"):
        await met(bench, peer)
    assert peer.paths == ["/feed"]
    assert peer.headers[0]["user-agent"].startswith("price-relay/")
    assert peer.headers[0]["x-toy"] == "1"


async def test_a_prefix_goes_before_the_target(
    settings: Settings, peer: Peer, clock: Clock
) -> None:
    """A proxy may serve several exchanges, each under a path of its own."""
    bench = Bench(settings, f"{peer.url}/proxy/toy/", clock, Toy(by_url=True))
    async with bench.running("B", "A"):
        await met(bench, peer)
    assert peer.paths == ["/proxy/toy/feed?symbols=A,B"]


async def test_frames_go_straight_to_the_sink(bench: Bench, peer: Peer) -> None:
    """What came is there when the callback is over, times and all."""
    async with bench.running("A", "B"):
        await met(bench, peer)
        await peer.caller.tell("price A 1.50 1", "price B 0.00001200 2")
        await eventually(lambda: len(bench.sink.prices) == 2)
        assert bench.sink.prices == [("A", "1.50"), ("B", "0.00001200")]
        # The acknowledgement is a frame, too.
        assert bench.sink.heard_times == 3
        assert bench.stream.states[0].frames == 3


async def test_a_burst_loses_nothing_and_is_not_gathered(
    bench: Bench, peer: Peer
) -> None:
    """There is no queue that could overflow, and none that grows with a stall."""
    async with bench.running("A"):
        await met(bench, peer)
        frames = [Frame(Opcode.TEXT, b"price A %d 1" % n) for n in range(20_000)]
        raw = b"".join(frame.serialize(mask=False) for frame in frames)
        peer.caller.socket.transport.write(raw)
        await eventually(lambda: len(bench.sink.prices) == 20_000)
        assert [int(price) for _, price in bench.sink.prices] == list(range(20_000))
        assert max(bench.sink.sizes) <= 256


async def test_pings_are_answered_in_the_midst_of_a_burst(
    bench: Bench, peer: Peer
) -> None:
    """Binance closes a connection whose pong does not echo the ping within a minute."""
    async with bench.running("A"):
        await met(bench, peer)
        price = Frame(Opcode.TEXT, b"price A 1 1").serialize(mask=False) * 2_000
        pongs = []
        for number in range(5):
            peer.caller.socket.transport.write(price)
            pongs.append(await peer.caller.socket.ping(f"payload {number}"))
        async with asyncio.timeout(10):
            for pong in pongs:
                await pong
        assert len(bench.sink.prices) == 10_000
        # Pings are signs of life, too: the acknowledgement, the prices, and they.
        assert bench.sink.heard_times == 10_006


async def test_a_message_in_pieces_is_put_together(bench: Bench, peer: Peer) -> None:
    """Proxies may cut a message anywhere; a ping may come in between."""
    async with bench.running("A"):
        await met(bench, peer)
        pieces = (
            Frame(Opcode.TEXT, b"price A ", fin=False),
            Frame(Opcode.PING, b"x"),
            Frame(Opcode.CONT, b"1.2", fin=False),
            Frame(Opcode.CONT, b"5 7"),
        )
        for piece in pieces:
            peer.caller.socket.transport.write(piece.serialize(mask=False))
        await eventually(lambda: bench.sink.prices == [("A", "1.25")])
        assert not bench.sink.drops


async def test_what_is_no_text_is_counted(bench: Bench, peer: Peer) -> None:
    """No exchange of ours sends binary; the connection goes on."""
    async with bench.running("A"):
        await met(bench, peer)
        await peer.caller.socket.send(b"\x00\x01")
        await peer.caller.socket.send([b"\x00", b"\x01"])
        peer.caller.socket.transport.write(
            Frame(Opcode.CONT, b"tail").serialize(mask=False)
        )
        await peer.caller.tell("price A 1 1")
        await eventually(lambda: bool(bench.sink.prices))
        expected = ["frame: binary", "frame: binary", "frame: continues nothing"]
        assert bench.sink.drops == expected
        assert len(peer.callers) == 1


async def test_an_unreadable_frame_changes_nothing(bench: Bench, peer: Peer) -> None:
    """It is counted by its reason, and the next one is read."""
    async with bench.running("A"):
        await met(bench, peer)
        await peer.caller.tell("gibberish", "price A 1 1", "price A", "price A 2 2")
        await eventually(lambda: len(bench.sink.prices) == 2)
        expected = ["frame: unknown word 'gibberish'", "reader failed: ValueError"]
        assert bench.sink.drops == expected
        assert len(peer.callers) == 1
        # No sign of life either: the acknowledgement was one, and the two prices.
        assert bench.sink.heard_times == 3


async def test_a_flood_of_unreadable_frames_ends_the_connection(
    bench: Bench, peer: Peer
) -> None:
    """Then it is not the frames that are broken."""
    async with bench.running("A"):
        await met(bench, peer)
        good = Frame(Opcode.TEXT, b"price A 1 1").serialize(mask=False)
        bad = Frame(Opcode.TEXT, b"what").serialize(mask=False)
        first = peer.caller
        first.socket.transport.write((good + bad) * 2_000)
        await eventually(lambda: len(bench.sink.drops) == 2_000)
        assert len(peer.callers) == 1
        first.socket.transport.write((good + bad * 3) * 500)
        await met(bench, peer, 2)
        assert "frames could not be read" in bench.sink.downs[0]


@pytest.mark.parametrize("in_pieces", [False, True])
async def test_too_large_a_message_ends_the_connection(
    settings: Settings, peer: Peer, clock: Clock, *, in_pieces: bool
) -> None:
    """Everything has a limit, in one piece or in many."""
    bench = Bench(settings, peer.url, clock, frame_max=1_000)
    async with bench.running("A"):
        await met(bench, peer)
        half = "x" * 600
        await peer.caller.socket.send([half, half] if in_pieces else half + half)
        await met(bench, peer, 2)
        assert "1000" in bench.sink.downs[0]


async def test_a_close_is_answered_and_its_reason_told(
    bench: Bench, peer: Peer
) -> None:
    """`Too many requests` must reach the operator."""
    async with bench.running("A"):
        await met(bench, peer)
        first = peer.caller
        await first.socket.close(1008, "Too many requests")
        assert first.socket.close_code == 1008
        await met(bench, peer, 2)
        assert bench.sink.downs == ["closed by the exchange: 1008 Too many requests"]


@pytest.mark.parametrize("code", [b"", struct.pack("!H", 4_001)])
async def test_any_close_is_understood(bench: Bench, peer: Peer, code: bytes) -> None:
    """Without a code, or with one of the exchange's own."""
    async with bench.running("A"):
        await met(bench, peer)
        frame = Frame(Opcode.CLOSE, code).serialize(mask=False)
        peer.caller.socket.transport.write(frame)
        await met(bench, peer, 2)
        assert bench.sink.downs[0].startswith("closed by the exchange: ")


@pytest.mark.parametrize("beginning", [b"", b"\x81\x7e\x01\x00price A"])
async def test_a_cut_in_mid_frame_is_no_frame(
    bench: Bench, peer: Peer, beginning: bytes
) -> None:
    """Half a frame must not be read as a whole one."""
    async with bench.running("A"):
        await met(bench, peer)
        peer.caller.cut(beginning)
        await met(bench, peer, 2)
        assert bench.sink.downs == ["connection broke off"]
        assert not bench.sink.prices
        assert not bench.sink.drops


async def test_a_silent_socket_is_dead(
    settings: Settings, peer: Peer, clock: Clock
) -> None:
    """A socket can stay open for hours with nobody at the other end."""
    rules = replace(RULES, silent_after_ms=300)
    bench = Bench(settings, peer.url, clock, Toy(rules))
    async with bench.running("A"):
        await met(bench, peer)
        first = peer.caller
        await met(bench, peer, 2)
        assert bench.sink.downs[0] == "nothing was heard for 0.3 s"
        assert peer.caller.opened_ms - first.opened_ms >= 300
        await eventually(lambda: first.closed)


async def test_any_frame_is_a_sign_of_life(
    settings: Settings, peer: Peer, clock: Clock
) -> None:
    """A quiet market on a living feed is not silent."""
    rules = replace(RULES, silent_after_ms=400)
    bench = Bench(settings, peer.url, clock, Toy(rules))
    async with bench.running("A"):
        await met(bench, peer)
        opened_ms = clock.monotonic_ms()
        while clock.monotonic_ms() < opened_ms + 1_000:
            await (await peer.caller.socket.ping())
            await asyncio.sleep(0.02)
        assert len(peer.callers) == 1
        assert not bench.sink.downs


async def test_messages_are_kept_apart_pings_among_them(
    settings: Settings, peer: Peer, clock: Clock
) -> None:
    """At the sixth message in a second Binance closes."""
    rules = replace(RULES, spacing_ms=60, ping_ms=100)
    bench = Bench(settings, peer.url, clock, Toy(rules))
    async with bench.running("A"):
        await met(bench, peer)
        bench.stream.want("AB")
        await eventually(lambda: "sub B" in peer.caller.words)
        bench.stream.want("BC")
        await eventually(lambda: "sub C" in peer.caller.words)
        assert "unsub A" in peer.caller.words
        await eventually(lambda: len(peer.caller.said) >= 10)
        times = [at_ms for at_ms, _ in peer.caller.said]
        # Measured on arrival, where one gap may be shorter than it was; all are not.
        assert times[-1] - times[0] >= (len(times) - 1) * 60 - 30
        assert min(after - before for before, after in pairwise(times)) >= 30
        assert "ping" in peer.caller.words


async def test_pings_go_out_as_often_as_asked(
    settings: Settings, peer: Peer, clock: Clock
) -> None:
    """Kraken closes after a minute without traffic from us."""
    bench = Bench(settings, peer.url, clock, Toy(replace(RULES, ping_ms=50)))
    async with bench.running("A"):
        await met(bench, peer)
        await eventually(lambda: peer.caller.words.count("ping") >= 4)


async def test_tls_is_spoken_where_the_address_says_so(
    settings: Settings,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every exchange is behind it, and a stranger's certificate is refused."""
    async with listening(clock, toy_tls()) as peer:
        bench = Bench(settings, peer.url, clock)
        async with bench.running("A"):
            await eventually(lambda: bool(bench.sink.downs))
        expected = "certificate not accepted: self-signed certificate"
        assert bench.sink.downs[0] == expected
        assert not peer.callers
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        async with bench.running("B"):
            await met(bench, peer)
            await peer.caller.tell("price B 1 1")
            await eventually(lambda: bool(bench.sink.prices))


async def test_a_peer_that_does_not_answer_the_close_is_cut_off(
    bench: Bench, peer: Peer
) -> None:
    """Shutting down must not wait for the other end's goodwill."""
    async with bench.running("A"):
        await met(bench, peer)
        peer.caller.socket.transport.pause_reading()
        both_ends = open_sockets()
        left_ms = bench.clock.monotonic_ms()
        bench.stream.want(())
        await eventually(lambda: open_sockets() == both_ends - 1)
        assert 1_000 <= bench.clock.monotonic_ms() - left_ms < 5_000
        peer.caller.socket.transport.resume_reading()


# Opening it.


async def test_a_peer_that_closes_instead_of_answering_is_told_so(
    settings: Settings, clock: Clock
) -> None:
    """A load balancer without a server behind it takes the connection and drops it."""

    async def drop(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(drop, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        bench = Bench(settings, f"ws://127.0.0.1:{port}", clock)
        async with bench.running("A"):
            await eventually(lambda: len(bench.sink.downs) >= 2)
            assert set(bench.sink.downs) == {"connection broke off"}


async def test_an_address_that_is_none_is_told(
    settings: Settings, clock: Clock
) -> None:
    """One exchange's wrong setting must not end all of them."""
    bench = Bench(settings, "", clock)
    async with bench.running("A"):
        await eventually(lambda: bool(bench.sink.downs))
        assert "isn't a valid URL" in bench.sink.downs[0]


@asynccontextmanager
async def mute(scheme: str) -> AsyncIterator[tuple[str, Callable[[], int]]]:
    """Listen, take connections, and say nothing."""
    taken: set[asyncio.StreamWriter] = set()
    calls = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        taken.add(writer)
        await reader.read()
        taken.discard(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"{scheme}://127.0.0.1:{port}", lambda: calls
        await eventually(lambda: not taken)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_connecting_and_upgrading_have_one_deadline(
    settings: Settings, clock: Clock, scheme: str
) -> None:
    """A half-open firewall takes connections and says nothing."""
    async with mute(scheme) as (url, calls):
        bench = Bench(settings, url, clock, request_timeout_ms=150)
        async with bench.running("A"):
            await eventually(lambda: len(bench.sink.downs) >= 2)
            assert bench.sink.downs[0] == "timed out after 0.15 s"
            assert calls() >= 2


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_cancelled_in_mid_upgrade_no_socket_is_left(
    settings: Settings, clock: Clock, scheme: str
) -> None:
    """Shutting down while an exchange is slow must not hang or leak."""
    async with mute(scheme) as (url, calls):
        bench = Bench(settings, url, clock)
        async with bench.running("A"):
            await eventually(lambda: calls() == 1)
        # The bench has looked for tasks and sockets.
        assert not bench.sink.downs
