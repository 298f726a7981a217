"""CoinGecko: requests, keys, limits and errors. REST only, no sockets, no clock.

What the answers say is read in ``coingecko_bodies``.
"""

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Final, Literal

import msgspec
from msgspec import Struct

from relay.config import Exchange
from relay.errors import ExchangeError, Refused
from relay.exchanges.adapter import Answer, Request, Session, Usage
from relay.exchanges.coingecko_bodies import (
    EXCHANGE,
    kind_of,
    list_coins,
    read_coins,
    read_prices,
    symbol_of,
)
from relay.exchanges.failures import (
    UNREADABLE,
    Advice,
    bad_request,
    by_status,
    limited,
)
from relay.model import Listing, Symbols, Update

_MARKETS: Final = "/api/v3/coins/markets"

# The longest list that is known to be answered; `per_page` goes no further either.
_IDS_MAX: Final = 250
# The URL stays below 4 KB with room for the rest of it.
_IDS_LENGTH_MAX: Final = 3500

# The public root's plans. Both kinds of key begin alike, so only the plan tells.
_PUBLIC: Final = ("", "keyless", "demo")

# One request is one credit and counts once for the minute, whatever its size.
_LIMITS: Final = ("weight", "credits")

_KEYS: Final = ("x_cg_demo_api_key", "x_cg_pro_api_key")

# The codes that errors carry, beside the status; the message can mislead [errors].
_CODE_LIMITED: Final = 429
_CODES: Final = {
    10002: "the key is missing or wrong: set RELAY_COINGECKO_KEY",
    10005: "the plan does not include this endpoint",
    10010: "a paid key wants rest_url https://pro-api.coingecko.com",
    10011: "a demo key wants rest_url https://api.coingecko.com and plan demo",
}

# An error is short; a longer 200 is what was asked for.
_ERROR_MAX: Final = 2_000


class _Status(Struct, frozen=True, kw_only=True):
    error_code: int = 0
    error_message: str = ""


class _Nested(Struct, frozen=True, kw_only=True):
    status: _Status = _Status()


class _Error(Struct, frozen=True, kw_only=True):
    """Every documented shape at once; ``status`` is a plain number beside a 500."""

    error_code: int = 0
    status: _Status | int = _Status()
    error: _Nested | str = ""


_error: Final = msgspec.json.Decoder(_Error)


class CoinGecko:
    """The adapter."""

    name = EXCHANGE
    streams = False
    hosts: tuple[str, ...] = ("api.coingecko.com", "pro-api.coingecko.com")

    def __init__(self, settings: Exchange) -> None:
        self._headers: tuple[tuple[str, str], ...] = ()
        if settings.key:
            kind = "demo" if settings.plan in _PUBLIC else "pro"
            self._headers = ((f"x-cg-{kind}-api-key", settings.key),)
        named = (limit.name for limit in settings.limits)
        self._costs = tuple((name, 1) for name in named if name in _LIMITS)
        self._advice = Advice(
            scope="key" if settings.key else "address",
            wait_ms=60_000,
            key=_CODES[10002],
            blocked="the firewall refuses this address: wait long, or use another",
        )

    def symbol_requests(self) -> list[Request]:
        """Return the request for the 250 largest coins; it brings prices as well."""
        query = (
            ("vs_currency", "usd"),
            ("order", "market_cap_desc"),
            ("per_page", str(_IDS_MAX)),
            ("page", "1"),
            ("precision", "full"),
        )
        return [self._request("symbols", _MARKETS, query)]

    def read_symbols(self, answers: Sequence[Answer]) -> Symbols:
        """Read the table from answers of any kind, ranked before unranked.

        Refusals, which recordings hold among them, name nothing.

        Raises:
            FrameError: a body cannot be read.
        """
        good = (answer for answer in answers if answer.status == HTTPStatus.OK)
        named = [coin for answer in good for coin in read_coins(answer)]
        return Symbols(list_coins(named))

    def snapshot_requests(self, listings: Sequence[Listing]) -> list[Request]:
        """Return one request for each quote and 250 coins, the ids sorted.

        Another order of the same ids would be another entry of the edge's cache.
        """
        return [
            self._request("snapshot", _MARKETS, _markets_query(quote, ids), ids)
            for quote in sorted({listing.quote for listing in listings})
            for ids in _chunk(_ids(listings, quote))
        ]

    def read_snapshot(self, answer: Answer) -> list[Update]:
        """Read the prices of one answer, of any kind that has some.

        Raises:
            FrameError: the body cannot be read.
        """
        return read_prices(answer)

    def read_failure(self, answer: Answer) -> ExchangeError | None:
        """Say what is wrong: by the status first, then by the code in the body."""
        failure = by_status(answer, self._advice)
        if failure is None and len(answer.body) > _ERROR_MAX:
            return None
        try:
            error = _error.decode(answer.body)
        except UNREADABLE:
            # A list, prices that are shaped like no error, or an edge's own page.
            return failure
        code, message = _read_error(error)
        if code in _CODES:
            return Refused(self.name, "key", _CODES[code])
        if code == _CODE_LIMITED:
            return limited(answer, self._advice)
        ours = isinstance(failure, Refused) and failure.kind == "request"
        if message and (ours or answer.status == HTTPStatus.OK):
            return bad_request(answer, message)
        return failure

    def recognise(self, path: str, query: Sequence[tuple[str, str]]) -> Request | None:
        """Return the request that a recorded address stands for, without its key.

        Prices name their coins too: ``read_symbols`` reads any of these answers.
        """
        kind = kind_of(path)
        if kind is None:
            return None
        public = tuple((name, value) for name, value in query if name not in _KEYS)
        return self._request("symbols" if kind == "list" else "snapshot", path, public)

    def listing_of(self, symbol: str) -> Listing | None:  # noqa: ARG002  the protocol's
        """Return None: an id does not tell the coin's symbol."""
        return None

    def read_usage(self, answer: Answer) -> list[Usage]:  # noqa: ARG002  the protocol's
        """Return nothing: no header tells what was spent."""
        return []

    def session(self, symbols: Sequence[str]) -> Session:  # noqa: ARG002  the protocol's
        """Refuse: the stream is for the largest plans, and in beta.

        Raises:
            Refused: always.
        """
        raise Refused(self.name, "request", "CoinGecko is read by REST only")

    def _request(
        self,
        purpose: Literal["symbols", "snapshot"],
        path: str,
        query: tuple[tuple[str, str], ...],
        symbols: tuple[str, ...] = (),
    ) -> Request:
        quote = dict(query).get("vs_currency", "usd")
        return Request(
            exchange=self.name,
            purpose=purpose,
            path=path,
            query=query,
            headers=self._headers,
            costs=self._costs,
            symbols=tuple(symbol_of(coin, quote) for coin in symbols),
        )


def _read_error(error: _Error) -> tuple[int, str]:
    """Return the code, 0 without one, and what else was said."""
    nested = error.error.status if isinstance(error.error, _Nested) else _Status()
    said = error.error if isinstance(error.error, str) else nested.error_message
    status = error.status if isinstance(error.status, _Status) else _Status()
    code = error.error_code or status.error_code or nested.error_code
    return code, said or status.error_message


def _markets_query(quote: str, ids: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return (
        ("vs_currency", quote.lower()),
        ("ids", ",".join(ids)),
        # The default of 100 would cut the rest off.
        ("per_page", str(_IDS_MAX)),
        ("precision", "full"),
    )


def _ids(listings: Sequence[Listing], quote: str) -> list[str]:
    own = (listing.symbol for listing in listings if listing.quote == quote)
    return sorted({symbol.partition("/")[0] for symbol in own})


def _chunk(ids: Sequence[str]) -> Iterator[tuple[str, ...]]:
    some: list[str] = []
    length = 0
    for coin in ids:
        if len(some) == _IDS_MAX or length + len(coin) > _IDS_LENGTH_MAX:
            yield tuple(some)
            some, length = [], 0
        some.append(coin)
        # The comma between two takes three characters once it is encoded.
        length += len(coin) + 3
    yield tuple(some)
