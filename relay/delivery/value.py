"""``/v1/value``: what a portfolio is worth now, to the last digit.

What one instrument is worth stands in ``rest``.
"""

import re
from collections.abc import Iterable, Mapping
from decimal import Context, Decimal, Inexact
from typing import Annotated, Final

import msgspec
from litestar.types import HTTPScope, Receive
from msgspec import Meta, Struct

from relay.board import Board
from relay.config import Http
from relay.delivery.answer import PRIVATE, Answer, header, json_answer, read_body
from relay.delivery.demand import Demand
from relay.delivery.newest import Newest
from relay.delivery.query import Names, read_query, select_all
from relay.errors import RequestError
from relay.model import Cursor, Selection, decode_ticker

# Twenty digits before the point and twenty behind are more than any coin has; a price
# has fewer, and so have a few hundred products together.
_AMOUNT: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
# Every sum and product of such numbers fits, so nothing is ever rounded: a result that
# would be is an error of ours.
_EXACT: Final = Context(prec=200, traps=[Inexact])


# For the description alone; ``add_up`` and ``Names`` say what is wrong, and what to do.
_DIGITS: Final = Meta(
    extra_json_schema={
        "type": ["string", "number"],
        "pattern": f"^{_AMOUNT.pattern}$",
        "minimum": 0,
        "exclusiveMaximum": 1e20,
    }
)
_HALF: Final = r"[\p{L}\p{N}][\p{L}\p{N}_.$]{0,29}"
NAME_PATTERN: Final = rf"\s*{_HALF}([-/]{_HALF})?\s*"
"""What a name looks like, for JSON Schema: an asset, or base and quote.

Letters and digits are those of any script; blanks around it do not count.
"""
_NAMED: Final = Meta(
    extra_json_schema={
        "minProperties": 1,
        "propertyNames": {"pattern": f"^{NAME_PATTERN}$"},
    }
)


class Held(Struct, frozen=True, omit_defaults=True):
    """One holding: how much of it, at which price, worth what."""

    amount: str
    price: str
    value: str
    stale: bool = False
    via: str = ""


class Worth(Struct, frozen=True):
    """The body. ``missing`` are holdings without a price; they count for nothing."""

    value: str
    quote: str
    holdings: dict[str, Held]
    missing: list[str]
    as_of_ms: int
    cursor: str
    live: bool


class Portfolio(Struct, frozen=True):
    """The body of a POST. Amounts are decimal text, or JSON numbers in plain digits."""

    holdings: Annotated[dict[str, Annotated[msgspec.Raw, _DIGITS]], _NAMED]


_portfolio: Final = msgspec.json.Decoder(Portfolio)
_text: Final = msgspec.json.Decoder(str)


class Value:
    """Answers ``/v1/value``."""

    def __init__(
        self, newest: Newest, demand: Demand, names: Names, http: Http
    ) -> None:
        self._newest, self._demand = newest, demand
        self._names, self._http = names, http

    async def answer(self, scope: HTTPScope, receive: Receive) -> Answer:
        """Answer one question; nobody but the client keeps what was asked.

        Raises:
            RequestError: the holdings cannot be read, or not be added up.
            StoreDown: there is nothing to answer with.
        """
        pairs = await self._read(scope, receive)
        amounts = add_up(pairs, self._names, self._http)
        selection = select_all(self._names, self._http, list(amounts))
        quote = one_quote(amounts)
        self._demand.note(selection)
        board, live = await self._newest.board(selection)
        worth = value(amounts, quote, board, selection, live=live)
        return json_answer(msgspec.json.encode(worth), [PRIVATE])

    async def _read(self, scope: HTTPScope, receive: Receive) -> list[tuple[str, str]]:
        if scope["method"] != "POST":
            given = read_query(scope["query_string"], ("holdings",))
            return read_holdings(given.get("holdings", ""))
        read_query(scope["query_string"], ())
        kind = header(scope, b"content-type").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            raise RequestError(
                "media_type",
                "The body is not marked as JSON.",
                "Send it with Content-Type: application/json.",
            )
        return read_portfolio(await read_body(receive, most=self._http.message_max))


def read_holdings(text: str) -> list[tuple[str, str]]:
    """Read ``BTC-USD:0.5,ETH-USD:2``.

    Raises:
        RequestError: it is not of that form.
    """
    pairs = []
    for part in filter(None, map(str.strip, text.split(","))):
        name, colon, amount = part.rpartition(":")
        if not colon:
            raise _invalid(f"{part[:80]!r} has no amount.")
        pairs.append((name, amount.strip()))
    return pairs


def read_portfolio(body: bytes) -> list[tuple[str, str]]:
    """Read ``{"holdings":{"BTC-USD":"0.5"}}``.

    Raises:
        RequestError: it is not of that form.
    """
    try:
        holdings = _portfolio.decode(body).holdings
        return [(name, _amount_text(bytes(raw))) for name, raw in holdings.items()]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid("The body is not JSON of holdings.") from error


def _amount_text(raw: bytes) -> str:
    """Return an amount's digits; those of a JSON number as they stand there."""
    return _text.decode(raw) if raw.startswith(b'"') else raw.decode()


def add_up(
    pairs: Iterable[tuple[str, str]], names: Names, http: Http
) -> dict[str, Decimal]:
    """Return how much of each instrument is held; one named twice counts twice.

    Raises:
        RequestError: there are none or too many, or an amount is not a number.
    """
    amounts: dict[str, Decimal] = {}
    for count, (name, text) in enumerate(pairs):
        if count >= http.selection_max:
            raise _invalid(f"More than {http.selection_max} holdings were given.")
        if not _AMOUNT.fullmatch(text):
            raise _invalid(f"The amount {text[:80]!r} is not a plain number.")
        instrument = names.resolve(name)
        before = amounts.get(instrument, Decimal(0))
        amounts[instrument] = _EXACT.add(before, Decimal(text))
    if not amounts:
        raise _invalid("No holdings were given.")
    return amounts


def one_quote(instruments: Iterable[str]) -> str:
    """Return the currency that all of these are quoted in.

    Raises:
        RequestError: they are quoted in several.
    """
    quotes = sorted({name.rpartition("-")[2] for name in instruments})
    if len(quotes) > 1:
        raise RequestError(
            "quotes_differ",
            f"The holdings are quoted in {' and '.join(quotes)[:80]}.",
            "Ask for one quote currency at a time.",
        )
    return quotes[0]


def value(
    amounts: Mapping[str, Decimal],
    quote: str,
    board: Board,
    selection: Selection,
    *,
    live: bool,
) -> Worth:
    """Return what the holdings are worth on a board."""
    changes = board.changes(selection)
    total, holdings = Decimal(0), {}
    missing = list(changes.missing)
    for name, row in changes.rows.items():
        ticker = decode_ticker(row)
        if not ticker.price:
            missing.append(name)
            continue
        worth = _EXACT.multiply(amounts[name], Decimal(ticker.price))
        total = _EXACT.add(total, worth)
        holdings[name] = Held(
            _plain(amounts[name]),
            ticker.price,
            _plain(worth),
            ticker.stale,
            ticker.via,
        )
    cursor: Cursor = changes.cursor
    text = str(cursor) if live else f"{cursor}~d"
    as_of_ms = cursor.offset
    return Worth(_plain(total), quote, holdings, sorted(missing), as_of_ms, text, live)


def _plain(number: Decimal) -> str:
    """Write a number without an exponent and without zeros at its end."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _invalid(reason: str) -> RequestError:
    return RequestError(
        "holdings_invalid",
        reason,
        "Write holdings=BTC-USD:0.5,ETH-USD:2, with plain decimal numbers that are "
        'not negative, or POST {"holdings":{"BTC-USD":"0.5"}}.',
    )
