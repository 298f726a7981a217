"""CoinCap v3: requests, prices, credits and errors; the retired v2 is recognised.

Its stream is in ``coincap_session``. No sockets, no clock.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final, Literal
from urllib.parse import unquote

import msgspec
from msgspec import Raw, Struct, field

from relay.config import Exchange
from relay.errors import ExchangeError, FrameError, Refused
from relay.exchanges.adapter import Answer, Request, Session, Usage
from relay.exchanges.coincap_session import EXCHANGE, CoinCapSession
from relay.exchanges.decimals import price_of, text_of
from relay.exchanges.failures import (
    UNREADABLE,
    Advice,
    bad_request,
    by_status,
    down,
    refused,
)
from relay.exchanges.instants import millis_of
from relay.model import Listing, Symbols, Update, is_instrument, read_count

_ASSETS: Final = "/v3/assets"

# The table costs by its bytes: 100 rows are some 20 to 25 credits, which a free key can
# pay once a day and keep most of its 2,500 a month. 2,000 rows have been asked for.
_ROWS_FREE: Final = 100
_ROWS_PAID: Final = 2000

# The default `limit` of `/assets`, which holds for `ids` as well.
_IDS_MAX: Final = 100

_BYTES_PER_CREDIT: Final = 2500
# Reserved for each row: 500 to 600 have been seen, and long lists of tokens.
_BYTES_PER_ROW: Final = 800

# Whatever we know of the place of an asset in the table: behind all others.
_UNRANKED: Final = 1_000_000_000

_RETIRED: Final = (
    "version 2 ended on 2025-03-31: set rest_url to https://rest.coincap.io "
    "and RELAY_COINCAP_KEY to a version 3 key"
)
_KEY: Final = (
    "the key is missing or wrong, or its credits are spent: see RELAY_COINCAP_KEY"
)
_ADVICE: Final = Advice(
    scope="key",
    # The limit is 600 a minute; no pause is named.
    wait_ms=60_000,
    key=_KEY,
    blocked="the edge refuses this address: read from another region",
)

_NO_CONTENT: Final = Raw(b"null")


class _Asset(Struct, frozen=True, kw_only=True):
    """A row of ``/assets``; everything but its names can be null."""

    id: str
    symbol: str
    rank: object = None
    price: object = field(name="priceUsd", default=None)
    volume: object = field(name="volumeUsd24Hr", default=None)
    change: object = field(name="changePercent24Hr", default=None)


class _Envelope(Struct, frozen=True, kw_only=True):
    """What is around every answer; ``timestamp`` is the server's, in ms."""

    content: Raw = field(name="data", default=_NO_CONTENT)
    timestamp: object = None
    error: object = None


class _Farewell(Struct, frozen=True):
    """What version 2 answered before it fell silent, in place of rows."""

    message: str


_envelope: Final = msgspec.json.Decoder(_Envelope)
_rows: Final = msgspec.json.Decoder(list[_Asset], float_hook=str)
_row: Final = msgspec.json.Decoder(_Asset, float_hook=str)
_texts: Final = msgspec.json.Decoder(list[object], float_hook=str)
_farewell: Final = msgspec.json.Decoder(_Farewell)


class CoinCap:
    """The adapter."""

    name = EXCHANGE
    hosts: tuple[str, ...] = (
        "rest.coincap.io",
        "wss.coincap.io",
        "api.coincap.io",
        "ws.coincap.io",
    )

    def __init__(self, settings: Exchange) -> None:
        self.streams = "prices" in settings.channels
        self._rows = _ROWS_FREE if settings.plan in ("", "free") else _ROWS_PAID
        self._limits = {limit.name: limit.weight_max for limit in settings.limits}
        # In the query it would end in logs.
        bearer = ("authorization", f"Bearer {settings.key}")
        self._headers = (bearer,) if settings.key else ()

    def symbol_requests(self) -> list[Request]:
        """Return the request for the best ranked assets that the plan affords."""
        query = (("limit", str(self._rows)),)
        return [self._request("symbols", _ASSETS, query, rows=self._rows)]

    def read_symbols(self, answers: Sequence[Answer]) -> Symbols:
        """Read the table, the best rank first; prices by symbol have no rows.

        Refusals, which recordings hold among them, name nothing.

        Raises:
            FrameError: a body cannot be read.
        """
        good = (answer for answer in answers if answer.status == HTTPStatus.OK)
        assets = [asset for answer in good for asset in _read_assets(answer)]
        assets.sort(key=_rank)
        listings = (
            Listing(
                symbol=asset.id,
                base=asset.symbol.upper(),
                quote="USD",
                # `/price/bysymbol` answers by it.
                answers_as=(asset.symbol.upper(),),
            )
            for asset in assets
        )
        return Symbols(one for one in listings if is_instrument(one.instrument))

    def snapshot_requests(self, listings: Sequence[Listing]) -> list[Request]:
        """Return requests for these assets alone, since the bytes are what costs."""
        slugs = sorted({listing.symbol for listing in listings})
        chunks = (
            tuple(slugs[start : start + _IDS_MAX])
            for start in range(0, len(slugs), _IDS_MAX)
        )
        return [
            self._request(
                "snapshot", _ASSETS, (("ids", ",".join(some)),), rows=len(some)
            )
            for some in chunks
        ]

    def read_snapshot(self, answer: Answer) -> list[Update]:
        """Read the prices of assets, or those of ``/price/bysymbol``.

        Raises:
            FrameError: the body cannot be read.
        """
        if _tail(answer.request.path)[:1] == ["price"]:
            return _read_by_symbol(answer)
        event_ms = _event_ms(_open(answer))
        return [
            _update(
                answer,
                asset.id,
                event_ms,
                price=price_of(asset.price),
                change_24h_pct=text_of(asset.change),
                volume_24h_quote=text_of(asset.volume),
            )
            for asset in _read_assets(answer)
            if price_of(asset.price)
        ]

    def read_failure(self, answer: Answer) -> ExchangeError | None:
        """Say what is wrong; the end of version 2 first, which looks like a limit."""
        failure = by_status(answer, _ADVICE)
        old = "v2" in answer.request.path.split("/")
        if _is_farewell(answer) or (old and failure is not None):
            return Refused(self.name, "retired", _RETIRED)
        if answer.status == HTTPStatus.FORBIDDEN and not _is_page(answer):
            return refused(answer, _ADVICE, "key")
        return _read_error(answer) if failure is None else failure

    def recognise(self, path: str, query: Sequence[tuple[str, str]]) -> Request | None:
        """Return the request that a recorded address of v2 or v3 stands for.

        Prices name their assets too: ``read_symbols`` reads any of these answers.
        """
        match _tail(path):
            case ["assets"] | ["assets", _] | ["price", "bysymbol", _]:
                public = tuple(pair for pair in query if pair[0] != "apiKey")
                return self._request("snapshot", path, public, rows=1)
        return None

    def listing_of(self, symbol: str) -> Listing | None:  # noqa: ARG002  the protocol's
        """Return None: a slug does not tell the asset's symbol."""
        return None

    def read_usage(self, answer: Answer) -> list[Usage]:
        """Return the credits the answer's bytes cost, and what headers tell if any.

        Whether CoinCap counts compressed bytes is not known; these are not.
        """
        usages = []
        if "credits" in self._limits:
            cost = _credits(len(answer.body))
            usages.append(Usage(limit="credits", cost=cost))
        most = _count(answer, "x-ratelimit-limit")
        left = _count(answer, "x-ratelimit-remaining")
        if most is not None and left is not None:
            # The header does not say which limit it is about; its size does.
            usages += [
                Usage(limit=name, used=max(0, most - left))
                for name, weight_max in self._limits.items()
                if weight_max == most
            ]
        return usages

    def session(self, symbols: Sequence[str]) -> Session:
        """Begin the conversation of a new connection that wants these symbols."""
        return CoinCapSession(self._headers, symbols)

    def _request(
        self,
        purpose: Literal["symbols", "snapshot"],
        path: str,
        query: tuple[tuple[str, str], ...],
        *,
        rows: int,
    ) -> Request:
        costs = {"weight": 1, "credits": _credits(rows * _BYTES_PER_ROW)}
        listed = dict(query).get("ids", "")
        return Request(
            exchange=self.name,
            purpose=purpose,
            path=path,
            query=query,
            headers=self._headers,
            costs=tuple(pair for pair in costs.items() if pair[0] in self._limits),
            symbols=tuple(slug for slug in listed.split(",") if slug),
        )


def _credits(size: int) -> int:
    """Return what an answer of so many bytes costs: one, and one each 2,500 begun."""
    return 1 - (-size // _BYTES_PER_CREDIT)


def _tail(path: str) -> list[str]:
    """Return the parts of a path after the version."""
    parts = [part for part in path.split("/") if part]
    versions = [place for place, part in enumerate(parts) if part in ("v2", "v3")]
    return parts[versions[0] + 1 :] if versions else []


def _open(answer: Answer) -> _Envelope:
    try:
        return _envelope.decode(answer.body)
    except UNREADABLE as error:
        raise FrameError(EXCHANGE, answer.request.path, str(error)) from error


def _event_ms(envelope: _Envelope) -> int:
    return millis_of(envelope.timestamp)


def _read_assets(answer: Answer) -> list[_Asset]:
    content = _open(answer).content
    try:
        match _tail(answer.request.path):
            case ["assets"]:
                return _rows.decode(content)
            case ["assets", _]:
                return [_row.decode(content)]
    except UNREADABLE as error:
        raise FrameError(EXCHANGE, answer.request.path, str(error)) from error
    return []


def _read_by_symbol(answer: Answer) -> list[Update]:
    """Read texts and nulls, which stand in the order in which was asked."""
    asked = unquote(_tail(answer.request.path)[-1]).upper().split(",")
    envelope = _open(answer)
    try:
        texts = _texts.decode(envelope.content)
    except UNREADABLE as error:
        raise FrameError(EXCHANGE, answer.request.path, str(error)) from error
    if len(texts) != len(asked):
        reason = f"{len(texts)} prices for {len(asked)} symbols"
        raise FrameError(EXCHANGE, answer.request.path, reason)
    event_ms = _event_ms(envelope)
    return [
        _update(answer, symbol.strip(), event_ms, price=price_of(text))
        for symbol, text in zip(asked, texts, strict=True)
        if price_of(text)
    ]


def _update(answer: Answer, symbol: str, event_ms: int, **figures: str) -> Update:
    return Update(
        exchange=EXCHANGE,
        channel=f"rest:{_tail(answer.request.path)[0]}",
        symbol=symbol,
        received_ms=answer.as_of_ms,
        event_ms=event_ms,
        # The time orders it, and may be that of two answers.
        sequence=0,
        snapshot=True,
        **figures,
    )


def _rank(asset: _Asset) -> int:
    rank = read_count(text_of(asset.rank))
    return _UNRANKED if rank is None else rank


def _is_page(answer: Answer) -> bool:
    """Tell an edge's HTML page from CoinCap's own words."""
    return answer.body.lstrip().startswith(b"<")


def _is_farewell(answer: Answer) -> bool:
    """Tell the retirement of version 2, which comes as a 429, from a limit."""
    # Rows are not searched for it.
    if len(answer.body) > _BYTES_PER_CREDIT:
        return False
    try:
        farewell = _farewell.decode(_envelope.decode(answer.body).content)
    except UNREADABLE:
        return False
    return "deprecat" in farewell.message.lower()


def _read_error(answer: Answer) -> ExchangeError | None:
    """Say what is wrong with an answer whose status says that nothing is."""
    try:
        envelope = _envelope.decode(answer.body)
    except UNREADABLE as error:
        return down(answer, str(error))
    if envelope.error is None:
        return None
    words = text_of(envelope.error)
    if any(word in words.lower() for word in ("unauthorized", "key", "credit")):
        return refused(answer, _ADVICE, "key")
    return bad_request(answer, words)


def _count(answer: Answer, header: str) -> int | None:
    return read_count(answer.headers.get(header, ""))
