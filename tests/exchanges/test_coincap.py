"""CoinCap's REST: credits by the byte, nulls, and a retired version that says 429."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from relay.config import Limit
from relay.errors import ExchangeDown, ExchangeError, FrameError, RateLimited, Refused
from relay.exchanges.adapter import Request, Usage
from relay.exchanges.coincap import CoinCap
from relay.exchanges.coincap_session import CoinCapSession
from relay.model import Listing, Symbols, Update
from tests.exchanges.answers import SENT_MS, answer_to, mangled, settings_of

SETTINGS = replace(settings_of("coincap"), key="k")
COINCAP = CoinCap(SETTINGS)
(TABLE,) = COINCAP.symbol_requests()

ASSETS_BODY = (
    b'{"timestamp":1760000000000,"data":[{"id":"bitcoin","rank":"1","symbol":"BTC",'
    b'"name":"Bitcoin","supply":"19900000.000000000000000000","maxSupply":null,'
    b'"marketCapUsd":"1213900000000.1","volumeUsd24Hr":"12345678901.2",'
    b'"priceUsd":"61000.123456789012345678","changePercent24Hr":"-1.25",'
    b'"vwap24Hr":null,"explorer":"https://blockchain.info/","tokens":{}},'
    b'{"id":"bitcoin-clone","rank":"900","symbol":"BTC","priceUsd":"1"},'
    b'{"id":"xrp","rank":"4","symbol":"XRP","priceUsd":"0.5","volumeUsd24Hr":null,'
    b'"changePercent24Hr":null},'
    b'{"id":"dead","rank":null,"symbol":"DEAD","priceUsd":null},'
    b'{"id":"odd","rank":"2000","symbol":"$ odd","priceUsd":"2"}]}'
)
FAREWELL = (
    b'{"data":{"message":"We are deprecating this version of the CoinCap API on '
    b'March 31, 2025. Sign up for our new V3 API at \\u2026"},'
    b'"timestamp":1743000000000}'
)


def _recognise(path: str, query: tuple[tuple[str, str], ...] = ()) -> Request:
    request = COINCAP.recognise(path, query)
    assert request is not None
    return request


def _symbols() -> Symbols:
    return COINCAP.read_symbols([answer_to(TABLE, ASSETS_BODY)])


def test_the_best_rank_has_the_symbol() -> None:
    """Clones share it; a symbol that cannot be an instrument has none."""
    assert list(_symbols()) == [
        Listing(symbol=slug, base=symbol, quote="USD", answers_as=(symbol,))
        for slug, symbol in (("bitcoin", "BTC"), ("xrp", "XRP"), ("dead", "DEAD"))
    ]


def test_a_refusal_names_nothing() -> None:
    """Recordings hold refusals among the answers that make the table."""
    assert len(COINCAP.read_symbols([answer_to(V2, FAREWELL, status=429)])) == 0


def test_prices_keep_the_noise_they_came_with() -> None:
    """Digit for digit: rounding is for those who show it."""
    updates = COINCAP.read_snapshot(answer_to(TABLE, ASSETS_BODY))
    assert updates[0] == Update(
        exchange="coincap",
        channel="rest:assets",
        symbol="bitcoin",
        received_ms=SENT_MS,
        event_ms=1_760_000_000_000,
        snapshot=True,
        price="61000.123456789012345678",
        change_24h_pct="-1.25",
        volume_24h_quote="12345678901.2",
    )
    assert [update.symbol for update in updates[1:]] == ["bitcoin-clone", "xrp", "odd"]


def test_one_asset_is_a_snapshot_too() -> None:
    """Its data is the row itself."""
    row = msgspec.json.decode(ASSETS_BODY)["data"][0]
    answer = answer_to(
        _recognise("/v3/assets/bitcoin"), msgspec.json.encode({"data": row})
    )
    (update,) = COINCAP.read_snapshot(answer)
    assert (update.symbol, update.event_ms) == ("bitcoin", 0)
    assert "BTC-USD" in COINCAP.read_symbols([answer]).by_instrument


def test_prices_by_symbol_are_told_by_their_place() -> None:
    """The answer has no names, and a null where there is no price."""
    request = _recognise("/v3/price/bysymbol/btc%2CFOO,ETH")
    body = b'{"timestamp":1760000000000,"data":["61000.1",null,"2500"]}'
    updates = COINCAP.read_snapshot(answer_to(request, body))
    assert [(update.symbol, update.price) for update in updates] == [
        ("BTC", "61000.1"),
        ("ETH", "2500"),
    ]
    assert updates[0].channel == "rest:price"
    (listing,) = _symbols().listings_of("BTC")
    assert listing.symbol == "bitcoin"
    assert len(COINCAP.read_symbols([answer_to(request, body)])) == 0


def test_the_table_is_as_long_as_the_plan_affords() -> None:
    """2,500 credits a month have to last for snapshots as well."""
    assert TABLE.query == (("limit", "100"),)
    assert dict(TABLE.costs) == {"weight": 1, "credits": 33}
    (paid,) = CoinCap(replace(SETTINGS, plan="growth")).symbol_requests()
    assert paid.query == (("limit", "2000"),)


def test_a_snapshot_asks_for_what_is_wanted_alone() -> None:
    """Bytes cost; 100 ids are what the default limit does not cut off."""
    slugs = [f"asset-{number:03}" for number in range(150)]
    listings = [Listing(symbol=slug, base="X", quote="USD") for slug in reversed(slugs)]
    first, second = COINCAP.snapshot_requests(listings)
    assert first.symbols == tuple(slugs[:100])
    assert second.query == (("ids", ",".join(slugs[100:])),)
    assert dict(second.costs)["credits"] == 17
    assert COINCAP.snapshot_requests([]) == []


def test_the_key_travels_in_a_header() -> None:
    """In the query it would end in logs."""
    assert TABLE.headers == (("authorization", "Bearer k"),)
    session = COINCAP.session(["bitcoin"])
    assert session.headers == TABLE.headers
    assert "k" not in session.target.replace("bitcoin", "")
    (request,) = CoinCap(replace(SETTINGS, key="")).symbol_requests()
    assert request.headers == ()


def test_only_limits_that_are_configured_are_charged() -> None:
    """A plan without a monthly limit must not need one."""
    minute = Limit(
        name="weight", weight_max=600, window_ms=60_000, kind="rolling", scope="address"
    )
    coincap = CoinCap(replace(SETTINGS, limits=(minute,)))
    (request,) = coincap.symbol_requests()
    assert request.costs == (("weight", 1),)
    assert coincap.read_usage(answer_to(request, b"{}")) == []


@pytest.mark.parametrize(
    ("size", "cost"), [(0, 1), (1, 2), (2_500, 2), (2_501, 3), (55_000, 23)]
)
def test_an_answer_costs_by_its_bytes(size: int, cost: int) -> None:
    """A credit, and one for each 2,500 bytes that were begun."""
    (usage,) = COINCAP.read_usage(answer_to(TABLE, b"x" * size))
    assert usage == Usage(limit="credits", cost=cost)


@pytest.mark.parametrize(
    ("headers", "usages"),
    [
        (("600", "590"), [Usage(limit="weight", used=10)]),
        (("2500", "2600"), [Usage(limit="credits", used=0)]),
        (("200", "190"), []),
        (("600", "plenty"), []),
    ],
)
def test_headers_are_believed_when_they_fit_a_limit(
    headers: tuple[str, str], usages: list[Usage]
) -> None:
    """They are not documented: one that fits no limit is about something else."""
    named = dict(
        zip(("x-ratelimit-limit", "x-ratelimit-remaining"), headers, strict=True)
    )
    assert COINCAP.read_usage(answer_to(TABLE, b"", headers=named))[1:] == usages


V2 = _recognise("/v2/assets", (("limit", "2"), ("apiKey", "secret")))


@pytest.mark.parametrize(
    ("request_", "status", "body", "kind"),
    [
        (TABLE, 200, ASSETS_BODY, None),
        (V2, 200, ASSETS_BODY, None),
        (V2, 429, FAREWELL, "retired"),
        (TABLE, 429, FAREWELL, "retired"),
        (V2, 429, b"", "retired"),
        (V2, 530, b"<html>error code: 1016</html>", "retired"),
        (TABLE, 530, b"<html>", ExchangeDown),
        (TABLE, 429, b'{"error":"Too many","timestamp":1}', RateLimited),
        (TABLE, 429, b'{"data":{"message":"slow down"}}', RateLimited),
        (TABLE, 401, b"", "key"),
        (TABLE, 403, b'{"error":"Forbidden","timestamp":1}', "key"),
        (TABLE, 403, b"credits exhausted", "key"),
        (TABLE, 403, b"<html>", "blocked"),
        (TABLE, 451, b"", "blocked"),
        (TABLE, 404, b'{"error":"not found"}', "request"),
        (TABLE, 429, b"x" * 3_000, RateLimited),
        (TABLE, 500, b"", ExchangeDown),
        (TABLE, 200, b"<html>", ExchangeDown),
        (TABLE, 200, b'{"data":', ExchangeDown),
        (TABLE, 200, b'{"error":"Unauthorized key","timestamp":1}', "key"),
        (TABLE, 200, b'{"error":"asset not found","timestamp":1}', "request"),
    ],
)
def test_what_is_wrong_is_told_apart(
    request_: Request, status: int, body: bytes, kind: str | type[ExchangeError] | None
) -> None:
    """A retired version must not be waited for, as its 429 would suggest."""
    failure = COINCAP.read_failure(answer_to(request_, body, status=status))
    if kind is None:
        assert failure is None
    elif isinstance(kind, str):
        assert isinstance(failure, Refused)
        assert failure.kind == kind
    else:
        assert type(failure) is kind


def test_a_limit_is_waited_for() -> None:
    """The minute is the key's; Retry-After goes before it."""
    failure = COINCAP.read_failure(answer_to(TABLE, b"", status=429))
    assert isinstance(failure, RateLimited)
    assert (failure.scope, failure.retry_after_ms) == ("key", 60_000)


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("/v3/assets", True),
        ("/v2/assets", True),
        ("/v2/assets/bitcoin", True),
        ("/v3/price/bysymbol/BTC", True),
        ("/v3/assets/bitcoin/history", False),
        ("/v3/assets/bitcoin/markets", False),
        ("/v3/rates", False),
        ("/v3/", False),
        ("/", False),
    ],
)
def test_recorded_addresses_are_recognised(path: str, known: bool) -> None:  # noqa: FBT001  a column of the table
    """Of both versions: a recording keeps what an exchange has dropped."""
    assert (COINCAP.recognise(path, ()) is not None) is known


def test_a_recorded_key_is_forgotten() -> None:
    """It may be somebody's own."""
    assert V2.query == (("limit", "2"),)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v3/assets", b""),
        ("/v3/assets", b'{"data":{}}'),
        ("/v3/assets", b'{"timestamp":1}'),
        ("/v3/assets/bitcoin", b'{"data":[]}'),
        ("/v3/price/bysymbol/BTC", b""),
        ("/v3/price/bysymbol/BTC", b'{"data":{}}'),
        ("/v3/price/bysymbol/BTC", b'{"data":["1","2"]}'),
    ],
)
def test_an_unreadable_body_names_what_was_asked(path: str, body: bytes) -> None:
    """The message alone must tell an operator which answer went wrong."""
    with pytest.raises(FrameError, match=rf"^coincap {path}: "):
        COINCAP.read_snapshot(answer_to(_recognise(path), body))


def test_it_streams_only_where_the_settings_say_so() -> None:
    """A credit a minute is out of a free key's reach."""
    assert not COINCAP.streams
    assert CoinCap(replace(SETTINGS, channels=("prices",))).streams
    assert isinstance(COINCAP.session([]), CoinCapSession)
    assert COINCAP.listing_of("bitcoin") is None


@given(st.binary() | mangled([ASSETS_BODY, FAREWELL]))
def test_any_body_is_read_or_named_unreadable(body: bytes) -> None:
    """Whatever an exchange answers, only our own errors leave the adapter."""
    for path in ("/v3/assets", "/v3/assets/x", "/v3/price/bysymbol/BTC"):
        answer = answer_to(_recognise(path), body)
        COINCAP.read_failure(answer)
        for read in (COINCAP.read_snapshot, lambda one: COINCAP.read_symbols([one])):
            try:
                read(answer)
            except FrameError:
                continue
