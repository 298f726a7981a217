"""CoinGecko's REST: keys by plan, lists of ids, and errors in many shapes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from relay.errors import ExchangeDown, ExchangeError, FrameError, RateLimited, Refused
from relay.exchanges.coingecko import CoinGecko
from relay.model import Listing
from tests.exchanges.answers import answer_to, mangled, settings_of

SETTINGS = settings_of("coingecko")
COINGECKO = CoinGecko(SETTINGS)
(TABLE,) = COINGECKO.symbol_requests()

ROWS = b'[{"id":"bitcoin","symbol":"btc","current_price":61000,"market_cap_rank":1}]'


def _listing(coin: str, quote: str = "USD") -> Listing:
    symbol = coin if quote == "USD" else f"{coin}/{quote.lower()}"
    return Listing(symbol=symbol, base=coin.upper(), quote=quote)


def test_one_request_brings_the_table_and_prices() -> None:
    """Ranked pages of 250 are the cheapest: a request is a credit whatever its size."""
    assert TABLE.path == "/api/v3/coins/markets"
    assert dict(TABLE.query) == {
        "vs_currency": "usd",
        "order": "market_cap_desc",
        "per_page": "250",
        "page": "1",
        "precision": "full",
    }
    answer = answer_to(TABLE, ROWS)
    (listing,) = COINGECKO.read_symbols([answer])
    assert listing == Listing(symbol="bitcoin", base="BTC", quote="USD")
    (update,) = COINGECKO.read_snapshot(answer)
    assert (update.symbol, update.price) == ("bitcoin", "61000")


def test_a_refusal_names_nothing() -> None:
    """Recordings hold refusals among the answers that make the table."""
    refusal = answer_to(TABLE, b'{"error":"Missing parameter ids"}', status=422)
    symbols = COINGECKO.read_symbols([answer_to(TABLE, ROWS), refusal])
    assert set(symbols.by_instrument) == {"BTC-USD"}


def test_ids_are_sorted_and_asked_for_together() -> None:
    """Another order would be another entry of the edge's cache."""
    listings = [_listing("ethereum"), _listing("bitcoin"), _listing("bitcoin")]
    (request,) = COINGECKO.snapshot_requests(listings)
    assert request.path == "/api/v3/coins/markets"
    assert dict(request.query) == {
        "vs_currency": "usd",
        "ids": "bitcoin,ethereum",
        "per_page": "250",
        "precision": "full",
    }
    assert request.symbols == ("bitcoin", "ethereum")


def test_each_quote_is_a_request() -> None:
    """`/coins/markets` takes one currency."""
    listings = [_listing("bitcoin"), _listing("bitcoin", "EUR")]
    euro, dollar = COINGECKO.snapshot_requests(listings)
    assert dict(euro.query)["vs_currency"] == "eur"
    assert euro.symbols == ("bitcoin/eur",)
    assert dollar.symbols == ("bitcoin",)
    assert COINGECKO.snapshot_requests([]) == []


def test_a_list_of_ids_has_a_longest_length() -> None:
    """250 are known to be answered, and a URL has to stay below 4 KB."""
    short = [_listing(f"c{number:03}") for number in range(251)]
    requests = COINGECKO.snapshot_requests(short)
    assert [len(request.symbols) for request in requests] == [250, 1]
    long = [
        _listing(f"a-very-long-name-of-a-coin-{number:03}") for number in range(200)
    ]
    requests = COINGECKO.snapshot_requests(long)
    assert [len(request.symbols) for request in requests] == [106, 94]
    assert all(len(dict(request.query)["ids"]) < 3_500 for request in requests)


@pytest.mark.parametrize(
    ("key", "plan", "headers"),
    [
        ("", "keyless", ()),
        ("", "demo", ()),
        ("CG-1", "keyless", (("x-cg-demo-api-key", "CG-1"),)),
        ("CG-1", "demo", (("x-cg-demo-api-key", "CG-1"),)),
        ("CG-1", "analyst", (("x-cg-pro-api-key", "CG-1"),)),
    ],
)
def test_the_plan_tells_which_header_the_key_goes_into(
    key: str, plan: str, headers: tuple[tuple[str, str], ...]
) -> None:
    """Both kinds of key begin alike, and the other header is refused."""
    coingecko = CoinGecko(replace(SETTINGS, key=key, plan=plan))
    (request,) = coingecko.symbol_requests()
    assert request.headers == headers


def test_a_request_is_one_of_every_limit_that_is_configured() -> None:
    """Plans with a key have credits a month besides."""
    assert TABLE.costs == (("weight", 1), ("credits", 1))
    minute, month = SETTINGS.limits
    other = replace(month, name="elsewhere")
    limits = (other, minute)
    (request,) = CoinGecko(replace(SETTINGS, limits=limits)).symbol_requests()
    assert request.costs == (("weight", 1),)


def _code(code: int) -> bytes:
    return b'{"timestamp":"x","error_code":%d,"status":{"error_message":"m"}}' % code


LIMITED = (
    b'{"status":{"error_code":429,"error_message":"You\'ve exceeded the Rate Limit."}}'
)


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (200, ROWS, None, ""),
        (200, b"{}", None, ""),
        (200, b'{"status":{"usd":0.02}}', None, ""),
        (200, b'{"error":{"usd":0.02}}', None, ""),
        (200, b'{"bitcoin":' + b" " * 2_000 + b"{}}", None, ""),
        (200, LIMITED, RateLimited, "60 s"),
        (200, b'{"error":"coin not found"}', "request", "coin not found"),
        (200, b"<html>", ExchangeDown, "not JSON"),
        (400, _code(10010), "key", "pro-api.coingecko.com"),
        (400, _code(10011), "key", "plan demo"),
        (400, b"", "request", "HTTP 400"),
        (401, b'{"status":{"error_code":10002}}', "key", "RELAY_COINGECKO_KEY"),
        (401, b'{"error":{"status":{"error_code":10005}}}', "key", "the plan"),
        (401, b"", "key", "RELAY_COINGECKO_KEY"),
        (403, _code(10005), "key", "the plan"),
        (403, b"<html>error code: 1020</html>", "blocked", "firewall"),
        (404, b'{"error":"coin not found"}', "request", "coin not found"),
        (408, b"", ExchangeDown, "408"),
        (422, b'{"error":"Missing parameter ids"}', "request", "Missing parameter ids"),
        (422, b'{"error":{"status":{"error_message":"odd"}}}', "request", "odd"),
        (429, LIMITED, RateLimited, "60 s"),
        (429, b"<html>", RateLimited, "60 s"),
        (
            500,
            b'{"status":500,"error":"Internal Server Error"}',
            ExchangeDown,
            "HTTP 500",
        ),
        (503, b"<html>", ExchangeDown, "HTTP 503"),
    ],
)
def test_what_is_wrong_is_told_apart(
    status: int, body: bytes, kind: str | type[ExchangeError] | None, words: str
) -> None:
    """By the status first; the code is trusted where the message misleads."""
    failure = COINGECKO.read_failure(answer_to(TABLE, body, status=status))
    assert words in str(failure or "")
    if isinstance(kind, str):
        assert isinstance(failure, Refused)
        assert failure.kind == kind
    else:
        assert type(failure) is (kind or type(None))


@pytest.mark.parametrize(("key", "scope"), [("", "address"), ("CG-1", "key")])
def test_a_limit_is_waited_for_as_long_as_is_asked(key: str, scope: str) -> None:
    """Asking again at once counts as well; without a key the address is counted."""
    coingecko = CoinGecko(replace(SETTINGS, key=key))
    answer = answer_to(TABLE, LIMITED, status=429, headers={"retry-after": "119"})
    failure = coingecko.read_failure(answer)
    assert isinstance(failure, RateLimited)
    assert (failure.scope, failure.retry_after_ms) == (scope, 119_000)


@pytest.mark.parametrize(
    ("path", "purpose"),
    [
        ("/api/v3/coins/markets", "snapshot"),
        ("/api/v3/simple/price", "snapshot"),
        ("/api/v3/coins/bitcoin", "snapshot"),
        ("/api/v3/coins/list", "symbols"),
        ("/api/v3/global", ""),
    ],
)
def test_recorded_addresses_are_recognised(path: str, purpose: str) -> None:
    """Without the key, which may be somebody's own."""
    query = (("ids", "bitcoin"), ("x_cg_demo_api_key", "CG-1"))
    request = COINGECKO.recognise(path, query)
    assert (request.purpose if request else "") == purpose
    assert request is None or request.query == query[:1]


def test_it_has_no_stream() -> None:
    """The stream is in beta and for the largest plans alone."""
    assert not COINGECKO.streams
    with pytest.raises(Refused, match="REST only"):
        COINGECKO.session(["bitcoin"])
    assert COINGECKO.listing_of("bitcoin") is None
    assert COINGECKO.read_usage(answer_to(TABLE, ROWS)) == []


@given(st.binary() | mangled([ROWS, LIMITED, _code(10010)]), st.integers(100, 599))
def test_any_body_is_read_or_named_unreadable(body: bytes, status: int) -> None:
    """Whatever an exchange answers, only our own errors leave the adapter."""
    answer = answer_to(TABLE, body, status=status)
    COINGECKO.read_failure(answer)
    try:
        COINGECKO.read_snapshot(answer)
        COINGECKO.read_symbols([answer])
    except FrameError:
        return
