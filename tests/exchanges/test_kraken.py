"""Kraken's REST: its two tables, its tickers, and errors that come with a 200."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from relay.errors import ExchangeDown, ExchangeError, FrameError, RateLimited, Refused
from relay.exchanges.adapter import Answer
from relay.exchanges.kraken import Kraken
from relay.exchanges.kraken_session import KrakenSession
from relay.model import Listing, Symbols, Update
from tests.exchanges.answers import SENT_MS, answer_to, mangled, settings_of

KRAKEN = Kraken(settings_of("kraken"))
ASSETS, PAIRS = KRAKEN.symbol_requests()
(TICKER,) = KRAKEN.snapshot_requests([Listing(symbol="A/B", base="A", quote="B")])

ASSETS_BODY = (
    b'{"error":[],"result":{"XXBT":{"aclass":"currency","altname":"XBT","decimals":10},'
    b'"XXDG":{"altname":"XDG"},"ZUSD":{"altname":"USD"},"XETH":{"altname":"ETH"},'
    b'"XTZ":{"altname":"XTZ"},"ZEUR":{"altname":"EUR"}}}'
)
PAIRS_BODY = (
    b'{"error":[],"result":{'
    b'"XXBTZUSD":{"altname":"XBTUSD","wsname":"XBT/USD","base":"XXBT","quote":"ZUSD",'
    b'"lot_decimals":8,"status":"online"},'
    b'"XXBTZUSD.d":{"altname":"XBTUSD.d","base":"XXBT","quote":"ZUSD"},'
    b'"XDGEUR":{"altname":"XDGEUR","wsname":"XDG/EUR","base":"XXDG","quote":"ZEUR",'
    b'"status":"cancel_only"},'
    b'"XTZUSD":{"altname":"XTZUSD","wsname":"XTZ/USD","base":"XTZ","quote":"ZUSD",'
    b'"status":"delisted"}}}'
)
TICKER_BODY = (
    b'{"error":[],"result":{"XXBTZUSD":{"a":["30300.10000","1","1.000"],'
    b'"b":["30300.00000","1","1.000"],"c":["30303.20000","0.00067643"],'
    b'"v":["4083.67001100","4412.73601799"],"p":["30706.77771","30689.13205"],'
    b'"t":[34619,38907],"l":["29868.30000","29868.10000"],'
    b'"h":["31631.00000","31632.00000"],"o":"30502.80000"},'
    b'"DEADUSD":{"a":["0.00000","0","0"],"b":["1.0","0","0"],"c":["0.0000","0"]}}}'
)


def _symbols(assets: bytes = ASSETS_BODY, pairs: bytes = PAIRS_BODY) -> Symbols:
    return KRAKEN.read_symbols([answer_to(PAIRS, pairs), answer_to(ASSETS, assets)])


def _failure(body: bytes | str, status: int = 200) -> ExchangeError | None:
    return KRAKEN.read_failure(answer_to(TICKER, body, status=status))


def test_names_come_from_both_tables() -> None:
    """Letters are never stripped: XTZ is an asset, XXBT a code for one."""
    assert list(_symbols()) == [
        Listing(
            symbol="BTC/USD",
            base="BTC",
            quote="USD",
            answers_as=("XXBTZUSD", "XBTUSD", "XBT/USD"),
        ),
        Listing(
            symbol="DOGE/EUR",
            base="DOGE",
            quote="EUR",
            answers_as=("XDGEUR", "XDG/EUR"),
        ),
        Listing(
            symbol="XTZ/USD",
            base="XTZ",
            quote="USD",
            active=False,
            answers_as=("XTZUSD",),
        ),
    ]


@pytest.mark.parametrize("name", ["BTC/USD", "XBT/USD", "XXBTZUSD", "XBTUSD"])
def test_every_spelling_leads_to_the_instrument(name: str) -> None:
    """REST, the older socket and the newer one each have names of their own."""
    (listing,) = _symbols().listings_of(name)
    assert listing.instrument == "BTC-USD"


def test_modern_tables_are_understood() -> None:
    """With assetVersion=1 keys and codes are the modern names."""
    pair = {"altname": "XBTUSD", "base": "BTC", "quote": "USD"}
    pairs = msgspec.json.encode({"error": [], "result": {"BTC/USD": pair}})
    assets = b'{"error":[],"result":{"BTC":{"altname":"XBT"},"USD":{"altname":"USD"}}}'
    for table in (assets, b'{"error":[],"result":{}}'):
        (listing,) = _symbols(table, pairs)
        assert (listing.symbol, listing.answers_as) == ("BTC/USD", ("XBTUSD",))


def test_without_the_table_of_assets_a_pairs_own_name_has_to_do() -> None:
    """Recordings often hold only one of the two; a name without halves is not cut."""
    symbols = KRAKEN.read_symbols([answer_to(PAIRS, PAIRS_BODY)])
    assert set(symbols.by_instrument) == {"BTC-USD", "DOGE-EUR", "XTZ-USD"}
    nameless = PAIRS_BODY.replace(b"wsname", b"elsewhere")
    assert len(KRAKEN.read_symbols([answer_to(PAIRS, nameless)])) == 0


def test_all_tickers_are_one_request() -> None:
    """It costs what a single one costs, and no bad name can fail it."""
    listings = list(_symbols())
    (request,) = KRAKEN.snapshot_requests(listings)
    assert (request.path, request.query) == ("/0/public/Ticker", ())
    assert (request.costs, request.symbols) == ((("weight", 1),), ())
    assert KRAKEN.snapshot_requests([]) == []


def test_a_snapshot_has_the_day_but_no_time() -> None:
    """It is as old as the moment the request was sent, less the answer's age."""
    updates = KRAKEN.read_snapshot(answer_to(TICKER, TICKER_BODY, age_ms=1_000))
    assert updates == [
        Update(
            exchange="kraken",
            channel="rest:Ticker",
            symbol="XXBTZUSD",
            received_ms=SENT_MS - 1_000,
            snapshot=True,
            price="30303.20000",
            bid="30300.00000",
            ask="30300.10000",
            high_24h="31632.00000",
            low_24h="29868.10000",
            volume_24h="4412.73601799",
        )
    ]


def test_a_pair_without_one_side_costs_nobody_else_anything() -> None:
    """Whatever stands for a side that is not there."""
    body = b"""{"error":[],"result":{"AB":{"a":null,"b":[],"c":["1.5","1"],"v":null},
        "CD":{"a":null,"c":null,"o":null},"EF":{"c":["2.5","1"],"h":["1"]}}}"""
    updates = KRAKEN.read_snapshot(answer_to(TICKER, body))
    assert [(one.symbol, one.price) for one in updates] == [
        ("AB", "1.5"),
        ("EF", "2.5"),
    ]
    assert {(one.bid, one.ask, one.high_24h) for one in updates} == {("", "", "")}


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"error":["EGeneral:x"]}', TICKER_BODY[:-1]]
)
def test_an_unreadable_body_names_what_was_asked(body: bytes) -> None:
    """The message alone must tell an operator which answer went wrong."""
    with pytest.raises(FrameError, match=r"^kraken Ticker: "):
        KRAKEN.read_snapshot(answer_to(TICKER, body))
    with pytest.raises(FrameError, match=r"^kraken AssetPairs: "):
        KRAKEN.read_symbols([answer_to(PAIRS, body)])


@pytest.mark.parametrize(
    ("text", "wait_ms"),
    [
        ("EGeneral:Too many requests", 5_000),
        ("EAPI:Rate limit exceeded", 5_000),
        ("EService:Throttled", 5_000),
        ("EService: Throttled", 5_000),
        (f"EService:Throttled: {SENT_MS // 1000 + 30}", 29_960),
        (f"EService: Throttled:{SENT_MS // 1000 + 30}", 29_960),
        ("EService:Throttled: 1", 5_000),
        ("EService:Throttled: 99999999999", 3_600_000),
        ("EGeneral:Temporary lockout", 900_000),
    ],
)
def test_a_limit_comes_with_http_200(text: str, wait_ms: int) -> None:
    """Continuing extends the restriction, so each pause is the documented one."""
    failure = _failure(msgspec.json.encode({"error": [text]}))
    assert isinstance(failure, RateLimited)
    assert (failure.scope, failure.retry_after_ms) == ("address", wait_ms)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, TICKER_BODY, None),
        (200, b'{"error":["WGeneral:Careful"],"result":{}}', None),
        (200, b'{"error":["EQuery:Unknown asset pair"]}', Refused),
        (200, b'{"error":["EGeneral:Invalid arguments"]}', Refused),
        (200, b'{"error":["EService:Unavailable"]}', ExchangeDown),
        (200, b'{"error":["EService:Busy"]}', ExchangeDown),
        (200, b'{"error":["EGeneral:Internal error"]}', ExchangeDown),
        (200, b'{"error":', ExchangeDown),
        (200, b"<html>", ExchangeDown),
        (414, b"<html>", Refused),
        (429, b'{"error":', RateLimited),
        (403, b"<html>", Refused),
        (502, b"<html>", ExchangeDown),
        (520, b'{"error":["EGeneral:Too many requests"]}', ExchangeDown),
    ],
)
def test_what_is_wrong_is_told_apart(
    status: int, body: bytes, error: type[ExchangeError] | None
) -> None:
    """An error array inside a 200 is the rule here, HTML comes from the edge."""
    assert type(_failure(body, status)) is (error or type(None))


def test_the_edge_refuses_for_ten_minutes() -> None:
    """WebSocket and REST share that fate; knocking earlier makes it longer."""
    failure = _failure("<html>Too many requests</html>", 429)
    assert isinstance(failure, RateLimited)
    assert failure.retry_after_ms == 600_000
    again = _failure('{"error":["EGeneral:Too many requests"]}', 429)
    assert isinstance(again, RateLimited)
    assert again.retry_after_ms == 5_000
    assert failure.everywhere
    assert again.everywhere


@pytest.mark.parametrize(
    ("text", "everywhere"),
    [("EGeneral:Too many requests", False), ("EGeneral:Temporary lockout", True)],
)
def test_rests_own_limit_leaves_the_stream_alone(
    text: str, *, everywhere: bool
) -> None:
    """It comes from behind the edge; a lockout asks for a quarter of an hour of us."""
    failure = _failure(msgspec.json.encode({"error": [text]}))
    assert isinstance(failure, RateLimited)
    assert failure.everywhere is everywhere


@pytest.mark.parametrize(
    ("path", "purpose"),
    [
        ("/0/public/Ticker", "snapshot"),
        ("/0/public/Assets", "symbols"),
        ("/0/public/AssetPairs", "symbols"),
        ("/0/public/Depth", ""),
        ("/0/public/Time", ""),
    ],
)
def test_recorded_addresses_are_recognised(path: str, purpose: str) -> None:
    """Replaying needs to know which answers are tables and which are prices."""
    request = KRAKEN.recognise(path, [("pair", "BCHEUR")])
    assert (request.purpose if request else "") == purpose
    assert request is None or request.query == (("pair", "BCHEUR"),)


@pytest.mark.parametrize(
    ("symbol", "instrument"),
    [("BTC/USD", "BTC-USD"), ("XBT/USD", "BTC-USD"), ("ADA/XBT", "ADA-BTC")],
)
def test_a_symbol_with_a_slash_tells_its_halves(symbol: str, instrument: str) -> None:
    """A recording without tables can be replayed all the same."""
    listing = KRAKEN.listing_of(symbol)
    assert listing is not None
    assert listing.instrument == instrument
    assert symbol in (listing.symbol, *listing.answers_as)


@pytest.mark.parametrize("symbol", ["XXBTZUSD", "XBTUSD", "/", "A B/C"])
def test_a_symbol_without_halves_is_not_cut(symbol: str) -> None:
    """XXBTZUSD cannot be split by any rule that ZRXUSD would survive."""
    assert KRAKEN.listing_of(symbol) is None


def test_it_streams_only_channels_that_have_prices() -> None:
    """A connection without subscriptions would be closed again and again."""
    settings = settings_of("kraken")
    assert Kraken(settings).streams
    assert not Kraken(replace(settings, channels=("book",))).streams
    assert isinstance(KRAKEN.session(["BTC/USD"]), KrakenSession)
    assert KRAKEN.read_usage(answer_to(TICKER, b"{}")) == []


@given(st.binary() | mangled([TICKER_BODY, PAIRS_BODY, ASSETS_BODY]))
def test_any_body_is_read_or_named_unreadable(body: bytes) -> None:
    """Whatever an exchange answers, only our own errors leave the adapter."""

    def read(answer: Answer) -> None:
        KRAKEN.read_failure(answer)
        try:
            if answer.request is TICKER:
                KRAKEN.read_snapshot(answer)
            else:
                KRAKEN.read_symbols([answer])
        except FrameError:
            return

    for request in (TICKER, PAIRS, ASSETS):
        read(answer_to(request, body))
