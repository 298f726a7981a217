"""Kraken spot: symbols, snapshots, limits and errors of its REST. No sockets, no clock.

What goes over the WebSocket is in ``kraken_session`` and ``kraken_v1``.
"""

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from relay.config import Exchange
from relay.errors import ExchangeError, FrameError
from relay.exchanges.adapter import Answer, Request, Session, Usage
from relay.exchanges.decimals import price_of, text_of
from relay.exchanges.failures import (
    UNREADABLE,
    Advice,
    bad_request,
    by_status,
    down,
    limited,
    looks_like_json,
)
from relay.exchanges.kraken_session import CHANNELS, KrakenSession
from relay.exchanges.kraken_v1 import Letters, item
from relay.model import Listing, Symbols, Update, is_instrument

T = TypeVar("T")

_ROOT: Final = "/0/public"

# REST speaks of assets by codes of its own, and its short names differ from those of
# WebSocket v2 in these two.
_MODERN: Final = {"XBT": "BTC", "XDG": "DOGE"}

# A pair in any other state (post_only, maintenance …) is still quoted.
_GONE: Final = ("delisted", "work_in_progress")

# Books for large hidden orders, closed since; they shared their pair's names.
_DARK: Final = ".d"

_ADVICE: Final = Advice(
    scope="address",
    # A 429 in HTTP's own sense comes from the edge, which refuses WebSocket and REST
    # alike for 10 minutes once 150 connections were tried in 10 minutes [K1].
    wait_ms=600_000,
    key="public data needs no key: is rest_url Kraken's own address?",
    blocked="Kraken's edge does not serve this address: read from another region",
    shared=True,
)

_LOCKOUT: Final = "EGeneral:Temporary lockout"
# What the error array says, by how it begins, and how long to stay away. Continuing
# extends the restriction; no figure but that of the lockout is published. All but the
# lockout speak of REST's own limit.
_LIMITED: Final = {
    "EGeneral:Too many requests": 5_000,
    "EAPI:Rate limit exceeded": 5_000,
    "EService:Throttled": 5_000,
    _LOCKOUT: 900_000,
}

# A throttle that names an instant further away than this is not believed.
_THROTTLE_MAX_MS: Final = 3_600_000

_OURS: Final = (
    "EQuery:",
    "EGeneral:Invalid arguments",
    "EGeneral:Unknown method",
)


class _Verdict(Struct, frozen=True):
    error: list[str] = []


class _Pair(Struct, frozen=True, kw_only=True):
    altname: str = ""
    wsname: str | None = None
    base: str = ""
    quote: str = ""
    status: str = "online"


class _Asset(Struct, frozen=True):
    altname: str


class _Pairs(Struct, frozen=True):
    result: dict[str, _Pair]


class _Assets(Struct, frozen=True):
    result: dict[str, _Asset]


class _Tickers(Struct, frozen=True):
    result: dict[str, Letters]


_verdict: Final = msgspec.json.Decoder(_Verdict)
_pairs: Final = msgspec.json.Decoder(_Pairs)
_assets: Final = msgspec.json.Decoder(_Assets)
_tickers: Final = msgspec.json.Decoder(_Tickers, float_hook=str)


class Kraken:
    """The adapter."""

    name = "kraken"
    hosts: tuple[str, ...] = (
        "api.kraken.com",
        "ws.kraken.com",
        "beta-ws.kraken.com",
        "uws.kraken.com",
    )

    def __init__(self, settings: Exchange) -> None:
        self._channels = settings.channels
        self.streams = any(channel in CHANNELS for channel in settings.channels)

    def symbol_requests(self) -> list[Request]:
        """Return the requests for both tables: assets by code, and pairs."""
        return [self._request("symbols", name) for name in ("Assets", "AssetPairs")]

    def read_symbols(self, answers: Sequence[Answer]) -> Symbols:
        """Read both tables, in any order.

        Raises:
            FrameError: a body cannot be read.
        """
        assets: dict[str, str] = {}
        pairs: dict[str, _Pair] = {}
        for answer in answers:
            if answer.request.path.endswith("/Assets"):
                table = _decode(_assets, answer, "Assets").result
                assets |= {code: asset.altname for code, asset in table.items()}
            else:
                pairs |= _decode(_pairs, answer, "AssetPairs").result
        return Symbols(_list(assets, pairs))

    def snapshot_requests(self, listings: Sequence[Listing]) -> list[Request]:
        """Return one request for everything: it costs what one symbol would.

        A list of names would fail as a whole for one bad name, and a long one by
        the length of its URL.
        """
        return [self._request("snapshot", "Ticker")] if listings else []

    def read_snapshot(self, answer: Answer) -> list[Update]:
        """Read ``/Ticker``: no times, and the table's keys for names.

        Raises:
            FrameError: the body cannot be read.
        """
        rows = _decode(_tickers, answer, "Ticker").result
        updates = (_read_row(key, row, answer) for key, row in rows.items())
        return [update for update in updates if update.price]

    def read_failure(self, answer: Answer) -> ExchangeError | None:
        """Say what is wrong with an answer; errors usually come with HTTP 200."""
        failure = by_status(answer, _ADVICE)
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR or not looks_like_json(
            answer
        ):
            return failure
        try:
            verdict = _verdict.decode(answer.body)
        except UNREADABLE as error:
            return failure or down(answer, str(error))
        # A code that begins with W is a warning beside a result.
        errors = [text for text in verdict.error if text.startswith("E")]
        return _read_error(errors[0], answer) if errors else failure

    def recognise(self, path: str, query: Sequence[tuple[str, str]]) -> Request | None:
        """Return the request that a recorded address stands for."""
        name = path.rstrip("/").rpartition("/")[2]
        if name in ("Assets", "AssetPairs"):
            return self._request("symbols", name, query)
        if name == "Ticker":
            return self._request("snapshot", name, query)
        return None

    def listing_of(self, symbol: str) -> Listing | None:
        """Read ``BTC/USD`` or the older ``XBT/USD``; REST's keys tell nothing."""
        base, slash, quote = symbol.partition("/")
        if not slash:
            return None
        return _listing(_MODERN.get(base, base), _MODERN.get(quote, quote), (symbol,))

    def read_usage(self, answer: Answer) -> list[Usage]:  # noqa: ARG002  the protocol's
        """Return nothing: no header tells what was spent."""
        return []

    def session(self, symbols: Sequence[str]) -> Session:
        """Begin the conversation of a new connection that wants these symbols."""
        return KrakenSession(self._channels, symbols)

    def _request(
        self, purpose: str, name: str, query: Sequence[tuple[str, str]] = ()
    ) -> Request:
        return Request(
            exchange=self.name,
            purpose="symbols" if purpose == "symbols" else "snapshot",
            path=f"{_ROOT}/{name}",
            query=tuple(query),
        )


def _list(assets: dict[str, str], pairs: dict[str, _Pair]) -> Iterator[Listing]:
    for key, pair in pairs.items():
        if _DARK in (key[-2:], pair.altname[-2:]):
            continue
        # Without the table of assets the pair's own name still has both halves.
        name = pair.wsname or (key if "/" in key else "")
        base_too, _, quote_too = name.partition("/")
        base = assets.get(pair.base, base_too)
        quote = assets.get(pair.quote, quote_too)
        listing = _listing(
            _MODERN.get(base, base),
            _MODERN.get(quote, quote),
            (key, pair.altname, name),
            active=pair.status not in _GONE,
        )
        if listing is not None:
            yield listing


def _listing(
    base: str, quote: str, names: tuple[str, ...], *, active: bool = True
) -> Listing | None:
    symbol = f"{base}/{quote}"
    others = dict.fromkeys(name for name in names if name and name != symbol)
    listing = Listing(
        symbol=symbol, base=base, quote=quote, active=active, answers_as=tuple(others)
    )
    return listing if is_instrument(listing.instrument) else None


def _read_row(key: str, row: Letters, answer: Answer) -> Update:
    # `o` is the price at midnight, not that of 24 hours ago: no change is told.
    return Update(
        exchange=Kraken.name,
        channel="rest:Ticker",
        symbol=key,
        received_ms=answer.as_of_ms,
        snapshot=True,
        price=price_of(item(row.c, 0)),
        bid=price_of(item(row.b, 0)),
        ask=price_of(item(row.a, 0)),
        high_24h=price_of(item(row.h, 1)),
        low_24h=price_of(item(row.l, 1)),
        volume_24h=text_of(item(row.v, 1)),
    )


def _read_error(text: str, answer: Answer) -> ExchangeError:
    # The blank after the first colon comes and goes.
    text = text.replace(": ", ":", 1)
    for beginning, wait_ms in _LIMITED.items():
        if text.startswith(beginning):
            throttle_ms = _throttle_ms(text, answer.received_ms)
            failure = limited(answer, _ADVICE, max(wait_ms, throttle_ms))
            failure.everywhere = failure.everywhere or beginning == _LOCKOUT
            return failure
    if text.startswith(_OURS):
        return bad_request(answer, text)
    return down(answer, text)


def _throttle_ms(text: str, now_ms: int) -> int:
    """Return how far away the instant is that a throttle may name, in Unix seconds."""
    until = text.rpartition(":")[2].strip()
    if not (until.isascii() and until.isdigit()):
        return 0
    wait_ms = int(until[:12]) * 1000 - now_ms
    return min(max(wait_ms, 0), _THROTTLE_MAX_MS)


def _decode(decoder: msgspec.json.Decoder[T], answer: Answer, channel: str) -> T:
    try:
        return decoder.decode(answer.body)
    except UNREADABLE as error:
        raise FrameError(Kraken.name, channel, str(error)) from error
