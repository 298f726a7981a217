"""CoinGecko's answers, read: prices in any quote, and the coins they name.

Not here: which requests to send, and what a refusal means.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, TypeVar

import msgspec
from msgspec import Struct

from relay.errors import FrameError
from relay.exchanges.adapter import Answer
from relay.exchanges.decimals import price_of, text_of
from relay.exchanges.failures import UNREADABLE
from relay.exchanges.instants import millis_of
from relay.model import Listing, Update, is_instrument

T = TypeVar("T")

EXCHANGE: Final = "coingecko"

Kind = Literal["markets", "list", "simple", "coin"]

# Paths that look like a coin's and are not.
_NO_COINS: Final = ("categories", "top_gainers_losers")

# Behind every ranked coin.
_UNRANKED: Final = 1_000_000_000

Figures = dict[str, object]


class _Row(Struct, frozen=True, kw_only=True):
    """A row of ``/coins/markets``; one of ``/coins/list`` has only its names."""

    id: str
    symbol: str
    market_cap_rank: object = None
    current_price: object = None
    total_volume: object = None
    high_24h: object = None
    low_24h: object = None
    price_change_percentage_24h: object = None
    last_updated: object = None


class _Market(Struct, frozen=True, kw_only=True):
    """The part of ``/coins/{id}`` with a figure for each quote."""

    current_price: Figures = {}
    total_volume: Figures = {}
    high_24h: Figures = {}
    low_24h: Figures = {}
    price_change_percentage_24h_in_currency: Figures = {}
    last_updated: object = None


class _Coin(Struct, frozen=True, kw_only=True):
    id: str
    symbol: str
    market_cap_rank: object = None
    market_data: _Market | None = None
    last_updated: object = None


class Named(Struct, frozen=True, kw_only=True):
    """A coin as one answer names it; ``quotes`` are those it was priced in."""

    id: str
    symbol: str = ""
    rank: int = _UNRANKED
    quotes: tuple[str, ...] = ()


_rows: Final = msgspec.json.Decoder(list[_Row], float_hook=str)
_coin: Final = msgspec.json.Decoder(_Coin, float_hook=str)
_simple: Final = msgspec.json.Decoder(dict[str, Figures | None], float_hook=str)


def kind_of(path: str) -> Kind | None:
    """Tell which answer a path has, by the part after the version."""
    match path.partition("/v3/")[2].rstrip("/").split("/"):
        case ["simple", "price"]:
            return "simple"
        case ["coins", "markets"]:
            return "markets"
        case ["coins", "list"]:
            return "list"
        case ["coins", coin] if coin and coin not in _NO_COINS:
            return "coin"
    return None


def symbol_of(coin: str, quote: str) -> str:
    """Spell a coin's id and its quote as one symbol; the id alone is in USD."""
    return coin if quote == "usd" else f"{coin}/{quote}"


def read_prices(answer: Answer) -> list[Update]:
    """Read the prices of an answer of any kind; a list of coins has none.

    Raises:
        FrameError: the body cannot be read.
    """
    updates = _read(_reader(answer).prices, answer)
    return [update for update in updates if update.price]


def read_coins(answer: Answer) -> list[Named]:
    """Read which coins an answer names, in its order.

    Raises:
        FrameError: the body cannot be read.
    """
    return _read(_reader(answer).coins, answer)


def _reader(answer: Answer) -> "_Reader":
    kind = kind_of(answer.request.path)
    if kind is None:
        raise FrameError(EXCHANGE, answer.request.path, "no prices and no coins")
    return _READERS[kind]


def _read(read: Callable[[Answer], list[T]], answer: Answer) -> list[T]:
    try:
        return read(answer)
    except UNREADABLE as error:
        raise FrameError(EXCHANGE, answer.request.path, str(error)) from error


def list_coins(named: Sequence[Named]) -> Iterator[Listing]:
    """Yield the listings of coins, the best claim to a symbol first.

    Symbols are not unique. The best rank has the first claim, then a coin that was
    priced; among coins of ``/coins/list`` alone nothing tells which one is meant
    when several share a symbol, so none of them is listed.
    """
    coins = _merge(named)
    shared = Counter(coin.symbol.upper() for coin in coins)
    for coin in sorted(coins, key=lambda coin: (coin.rank, not coin.quotes)):
        claimed = coin.rank < _UNRANKED or coin.quotes
        if claimed or shared[coin.symbol.upper()] == 1:
            for quote in dict.fromkeys(("usd", *coin.quotes)):
                listing = _listing(coin, quote)
                if is_instrument(listing.instrument) and listing.base != listing.quote:
                    yield listing


def _merge(named: Sequence[Named]) -> list[Named]:
    """Put together what several answers say of one coin; one without symbol falls."""
    coins: dict[str, Named] = {}
    for coin in named:
        known = coins.get(coin.id, coin)
        coins[coin.id] = Named(
            id=coin.id,
            symbol=known.symbol or coin.symbol,
            rank=min(known.rank, coin.rank),
            quotes=tuple(dict.fromkeys((*known.quotes, *coin.quotes))),
        )
    return [coin for coin in coins.values() if coin.symbol]


def _listing(coin: Named, quote: str) -> Listing:
    return Listing(
        symbol=symbol_of(coin.id, quote),
        base=coin.symbol.upper(),
        quote=quote.upper(),
    )


def _rank(value: object) -> int:
    return value if type(value) is int and value > 0 else _UNRANKED


def _quote(answer: Answer) -> str:
    """Return what the rows of ``/coins/markets`` are quoted in; the body is silent."""
    return dict(answer.request.query).get("vs_currency", "usd").strip().lower()


def _market_prices(answer: Answer) -> list[Update]:
    quote = _quote(answer)
    return [
        _update(
            answer,
            symbol_of(row.id, quote),
            millis_of(row.last_updated),
            price=price_of(row.current_price),
            change_24h_pct=text_of(row.price_change_percentage_24h),
            high_24h=price_of(row.high_24h),
            low_24h=price_of(row.low_24h),
            volume_24h_quote=text_of(row.total_volume),
        )
        for row in _rows.decode(answer.body)
        # A coin is quoted in itself as well.
        if row.symbol.lower() != quote
    ]


def _market_coins(answer: Answer) -> list[Named]:
    quote = _quote(answer)
    return [
        Named(
            id=row.id,
            symbol=row.symbol,
            rank=_rank(row.market_cap_rank),
            quotes=(quote,),
        )
        for row in _rows.decode(answer.body)
    ]


def _list_coins(answer: Answer) -> list[Named]:
    return [Named(id=row.id, symbol=row.symbol) for row in _rows.decode(answer.body)]


def _simple_prices(answer: Answer) -> list[Update]:
    return [
        _update(
            answer,
            symbol_of(coin, quote),
            millis_of(figures.get("last_updated_at")),
            price=price_of(figures[quote]),
            change_24h_pct=text_of(figures.get(f"{quote}_24h_change")),
            volume_24h_quote=text_of(figures.get(f"{quote}_24h_vol")),
        )
        for coin, figures in _simple.decode(answer.body).items()
        if figures
        for quote in _quotes(figures)
    ]


def _simple_coins(answer: Answer) -> list[Named]:
    return [
        Named(id=coin, quotes=_quotes(figures))
        for coin, figures in _simple.decode(answer.body).items()
        if figures
    ]


def _quotes(figures: Figures) -> tuple[str, ...]:
    # The other figures' names are a quote, an underscore and what they are.
    return tuple(name for name in figures if "_" not in name)


def _coin_prices(answer: Answer) -> list[Update]:
    coin = _coin.decode(answer.body)
    market = coin.market_data or _Market()
    quotes = (quote for quote in market.current_price if quote != coin.symbol.lower())
    changes = market.price_change_percentage_24h_in_currency
    return [
        _update(
            answer,
            symbol_of(coin.id, quote),
            millis_of(market.last_updated or coin.last_updated),
            price=price_of(market.current_price[quote]),
            change_24h_pct=text_of(changes.get(quote)),
            high_24h=price_of(market.high_24h.get(quote)),
            low_24h=price_of(market.low_24h.get(quote)),
            volume_24h_quote=text_of(market.total_volume.get(quote)),
        )
        for quote in quotes
    ]


def _coin_coins(answer: Answer) -> list[Named]:
    coin = _coin.decode(answer.body)
    market = coin.market_data or _Market()
    rank = _rank(coin.market_cap_rank)
    quotes = tuple(market.current_price)
    return [Named(id=coin.id, symbol=coin.symbol, rank=rank, quotes=quotes)]


def _update(answer: Answer, symbol: str, event_ms: int, **figures: str) -> Update:
    # A body from another edge's cache can be older than the one before: its own time
    # orders it, where it has one.
    return Update(
        exchange=EXCHANGE,
        channel=f"rest:{answer.request.path.partition('/v3/')[2]}",
        symbol=symbol,
        received_ms=answer.as_of_ms,
        event_ms=event_ms,
        # The time orders it, and may be that of two answers.
        sequence=0,
        snapshot=True,
        **figures,
    )


def _nothing(_answer: Answer) -> list[Update]:
    return []


class _Reader(Struct, frozen=True):
    prices: Callable[[Answer], list[Update]]
    coins: Callable[[Answer], list[Named]]


_READERS: Final[dict[Kind, _Reader]] = {
    "markets": _Reader(_market_prices, _market_coins),
    "list": _Reader(_nothing, _list_coins),
    "simple": _Reader(_simple_prices, _simple_coins),
    "coin": _Reader(_coin_prices, _coin_coins),
}
