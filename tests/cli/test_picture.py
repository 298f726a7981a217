"""What the terminal shows fits 80 columns, and obeys nobody but us."""

import io

import pytest
from msgspec.structs import replace
from rich.console import Console, RenderableType

from relay.cli.picture import (
    Paper,
    Scene,
    age,
    change,
    draw_status,
    draw_top,
    line_of,
    span,
)
from relay.client import Prices, Status, Ticker, Unreachable
from relay.client.prices import Body
from relay.client.status import Board, Budget, Instance, Leader, Source, Stream

NOW_MS = 1_763_635_200_000
LONG = "0.00000000000012345678"

STATUS = Status(
    instance=Instance(live=True, ready=True, uptime_ms=90_000, clients={"sse": 2}),
    board=Board(name="spot", instruments=37, stale=1),
    store="reachable",
    leader=Leader(alive=True, holder="0123456789abcdef"),
    sources={
        "coinbase": Source(alive=True, age_ms=120, shown=15),
        "kraken": Source(alive=False, age_ms=95_000, reason="[b]no route[/b]\x1b[2J"),
    },
    budgets={
        "coinbase": [
            Budget(
                limit="weight",
                used=30,
                most=40,
                window_ms=60_000,
                cooling_until_ms=NOW_MS + 12_000,
                cooling_reason="429",
            )
        ],
        "kraken": [Budget(limit="weight", used=0, most=1, window_ms=1000)],
    },
    refused={"binance": "blocked here"},
    off={"coincap": "needs a key"},
)


def prices(**tickers: Ticker) -> Prices:
    """Return prices by name; an underscore stands for the dash."""
    named = {name.replace("_", "-"): ticker for name, ticker in tickers.items()}
    body = Body(cursor="k.s.1", as_of_ms=NOW_MS, live=True, prices=named)
    return Prices(body, named)


BOARD = prices(
    BTC_USD=Ticker(
        price="61000.10",
        change_24h_pct="-1.255",
        bid="60999",
        ask="61001",
        source="coinbase",
        received_ms=NOW_MS - 1500,
    ),
    ETH_USD=Ticker(price="2500", change_24h_pct="1.2", source="binance", via="USDT"),
    SHIB_USD=Ticker(price=LONG, bid=LONG, ask=LONG, source="coingecko", stale=True),
)


def paint(picture: RenderableType, width: int = 80) -> list[str]:
    """Return what a pipe of this width would get."""
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(picture)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def look(scene: Scene, width: int = 80, height: int | None = None) -> list[str]:
    """Return what ``relay top`` paints."""
    console = Console(file=io.StringIO(), width=width)
    paper = Paper(width, height, lambda one: len(console.render_lines(one)))
    return paint(draw_top(scene, paper), width)


def scene(**more: object) -> Scene:
    """Return a scene in which all is known."""
    known = {"state": "live", "way": "stream", "prices": BOARD, "status": STATUS}
    return Scene("http://h:1", NOW_MS, **{**known, **more})  # type: ignore[arg-type]


def test_a_price_is_shown_whole_with_its_change_and_its_source() -> None:
    """No digit is lost, and the sign stands beside the colour."""
    shown = look(scene())
    assert any(
        line.split() == ["BTC-USD", "61000.10", "-1.26%", "coinbase", "1.5", "s"]
        for line in shown
    )
    assert any("binance via USDT" in line for line in shown)
    assert any(LONG in line and "coingecko STALE" in line for line in shown)


def test_bid_and_ask_are_shown_where_there_is_room() -> None:
    """At 80 columns the longest prices leave none."""
    assert "60999" in "\n".join(look(scene(), width=120))
    assert "60999" not in "\n".join(look(scene()))


def test_nothing_is_wider_than_the_screen() -> None:
    """A line that wraps is two lines that nobody can read."""
    for picture in (look(scene()), paint(draw_status(STATUS, NOW_MS))):
        assert max(map(len, picture)) <= 80
        assert not any("…" in line for line in picture)


@pytest.mark.parametrize("width", [40, 50, 60, 79])
def test_a_narrow_screen_gets_fewer_columns_and_every_digit(width: int) -> None:
    """A number that is cut is another number."""
    tickers = dict(BOARD)
    del tickers["SHIB-USD"]
    few = prices(**{name.replace("-", "_"): one for name, one in tickers.items()})
    seen = scene(prices=few, status=replace(STATUS, budgets={"kraken": [COOLING]}))
    for picture in (look(seen, width), paint(draw_status(STATUS, NOW_MS), width)):
        assert max(map(len, picture)) <= width
        assert not any("…" in line for line in picture), picture
    assert any("61000.10" in line and "coinbase" in line for line in look(seen, width))
    assert "silent" in "\n".join(look(seen, width))


def test_a_screen_too_narrow_for_anything_says_where_it_cuts() -> None:
    """And is no reason to end."""
    assert any("…" in line for line in look(scene(), 12))
    assert any("…" in line for line in paint(draw_status(STATUS, NOW_MS), 12))


def test_what_is_old_says_so_on_a_narrow_screen_as_well() -> None:
    """Its age may go, and the word may not."""
    old = prices(BTC_USD=Ticker(price="61000.10", source="coinbase", stale=True))
    assert "coinbase STALE" in "\n".join(look(scene(prices=old), 40))


def test_instruments_without_a_value_are_named() -> None:
    """A name that was misspelt must be seen as such."""
    body = Body(
        cursor="k.s.1",
        as_of_ms=NOW_MS,
        live=True,
        prices={},
        missing=("BITCON-USD", "X\x1b[2J-USD", "C-USD", "D-USD", "E-USD"),
    )
    shown = look(scene(prices=Prices(body, {}), status=None), 120)[0]
    assert "without a value: BITCON-USD, X?[2J-USD, C-USD, 2 more" in shown


def test_the_address_is_shown_without_its_password() -> None:
    """Others see the screen as well."""
    shown = look(Scene("http://me:secret@h:1", NOW_MS))[0]
    assert "http://…@h:1" in shown


def test_what_others_have_written_is_shown_and_not_obeyed() -> None:
    """A reason comes from an exchange, a name from anybody."""
    shown = "\n".join(paint(draw_status(STATUS, NOW_MS)))
    assert "[b]no route[/b]?[2J" in shown
    assert shown.replace("\n", "").isprintable()


def test_the_status_names_what_somebody_should_look_at() -> None:
    """Silence, refusals, cooldowns, and what is off."""
    shown = "\n".join(paint(draw_status(STATUS, NOW_MS)))
    for words in (
        "live; up 2 min, clients: 2 sse",
        "board spot: 37 instruments, 1 stale; led by 01234567; store reachable",
        "cooling for 12 s: 429",
        "########..",
        "binance refuses us: blocked here",
        "coincap is off: needs a key",
    ):
        assert words in shown
    kraken = next(line for line in shown.splitlines() if line.startswith("kraken"))
    assert "silent" in kraken


BLOCKED = (
    "coinbase-exchange refuses us (blocked): HTTP 451, Service unavailable from a "
    "restricted location according to 'b. Eligibility' in the terms: read another "
    "exchange, or from another region"
)
COOLING = Budget(
    limit="requests-public",
    used=12.5,
    most=6000,
    window_ms=60_000,
    cooling_until_ms=NOW_MS + 60_000,
    cooling_reason=BLOCKED,
)


def test_a_long_reason_takes_no_room_from_the_limits() -> None:
    """Just then they are needed: it stands beneath its row, whole."""
    status = replace(STATUS, budgets={"coinbase-exchange": [COOLING, COOLING]})
    shown = paint(draw_status(status, NOW_MS))
    rows = [line.split() for line in shown if line.startswith("coinbase-exchange")]
    limit = ["coinbase-exchange", "requests-public", "12.5", "6000", "1", "min"]
    assert rows == [[*limit, ".........."]] * 2
    assert max(map(len, shown)) <= 80
    words = " ".join(" ".join(shown).split())
    assert words.count(f"cooling for 1 min: {BLOCKED}") == 2


def test_a_source_whose_stream_is_shut_says_so_and_why() -> None:
    """It may be alive by its snapshots all the same; an open stream's past is past."""
    streams = {
        "coinbase": [
            Stream(state="open", error="cut an hour ago"),
            Stream(state="waiting", error="HTTP 451"),
        ],
        "kraken": [Stream(state="connecting")],
    }
    shown = paint(draw_status(replace(STATUS, streams=streams), NOW_MS))
    row = next(i for i, line in enumerate(shown) if line.startswith("coinbase"))
    assert shown[row].split()[-4:] == ["1", "of", "2", "open"]
    assert shown[row + 1] == "  stream waiting: HTTP 451"
    assert "  stream connecting" in shown
    assert "an hour ago" not in "\n".join(shown)


def test_with_nobody_ingesting_no_source_is_alive_or_silent() -> None:
    """Nobody knows."""
    reason = "nobody ingests; last heard 3 min ago"
    unknown = Source(alive=False, state="unknown", age_ms=180_000, reason=reason)
    streams = {"kraken": [Stream(state="unknown", error="cut")]}
    status = replace(STATUS, sources={"kraken": unknown}, streams=streams)
    shown = paint(draw_status(status, NOW_MS))
    row = shown.index(f"  {reason}") - 1
    assert shown[row].split() == ["kraken", "unknown", "0", "3", "min", "unknown"]
    assert "cut" not in "\n".join(shown)
    assert any("unknown" in line for line in look(scene(status=status)))


def test_a_relay_without_a_leader_says_so() -> None:
    """With no store, there is nothing else to say."""
    status = Status(instance=Instance(), board=Board(), store="unreachable")
    shown = paint(draw_status(status, NOW_MS))
    assert shown[0].startswith("NOT LIVE, not ready;")
    assert "no leader; store unreachable" in shown[1]
    assert len(shown) == 2


def test_a_small_screen_shows_as_many_prices_as_fit_and_counts_the_rest() -> None:
    """Sources and budgets stay in sight."""
    whole = look(scene())
    small = look(scene(), height=len(whole) - 1)
    assert len(small) <= len(whole) - 1
    assert "+2 more" in "\n".join(small)
    assert "cooling for 12 s" in "\n".join(small)


def test_a_broken_line_is_told_and_the_prices_stay() -> None:
    """With what broke it."""
    error = Unreachable("http://h:1", "refused")
    shown = look(scene(state="reconnecting", error=error, status=None))
    assert shown[0] == "relay http://h:1  RECONNECTING by stream"
    assert "cannot be reached: refused" in shown[1]
    assert any(line.startswith("BTC-USD") for line in shown)


def test_before_the_first_price_it_says_so() -> None:
    """An empty table would look like an empty board."""
    shown = look(scene(state="connecting", prices=None, status=None))
    assert shown[0].endswith("CONNECTING by stream")
    assert "No prices yet." in shown


def test_a_line_for_a_pipe_has_everything_in_it() -> None:
    """One change, one line."""
    line = line_of(BOARD, "BTC-USD", "12:00:00Z")
    assert line == "12:00:00Z BTC-USD 61000.10 -1.26% coinbase"
    assert line_of(BOARD, "SHIB-USD", "x") == f"x SHIB-USD {LONG} coingecko STALE"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0.005", "+0.00%"),
        ("-0.006", "-0.01%"),
        ("12", "+12.00%"),
        ("", ""),
        ("n/a", ""),
        ("1e999", ""),
    ],
)
def test_a_change_is_rounded_and_signed(text: str, shown: str) -> None:
    """One that is no number is not shown."""
    assert str(change(Ticker(change_24h_pct=text))) == shown


@pytest.mark.parametrize(
    ("ms", "spoken", "old"),
    [
        (0, "0 ms", "0.0 s"),
        (1500, "2 s", "1.5 s"),
        (-5, "0 ms", "0.0 s"),
        (300_000, "5 min", "5 min"),
        (2_592_000_000, "30 d", "30 d"),
    ],
)
def test_times_are_written_in_their_unit(ms: float, spoken: str, old: str) -> None:
    """Short ones with a tenth where they are an age."""
    assert (span(ms), age(ms)) == (spoken, old)


def test_what_was_never_heard_has_no_age() -> None:
    """It is not zero."""
    assert age(None) == "never"
