"""The nouns: instrument, ticker, update, batch, cursor, selection.

No I/O and no clock: what these need to know comes as an argument.
"""

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from hashlib import blake2b
from typing import Final, Self

import msgspec
from msgspec import Struct

from relay.errors import CursorInvalid, SelectionInvalid

_encoder: Final = msgspec.json.Encoder()

# An instrument's two halves. Exchanges list assets with names in any script
# (Binance has Chinese ones), so letters and digits are Unicode's; a blank, a comma or
# a control character never belongs to a name.
_HALF: Final = r"[^\W_][\w.$]{0,29}"
_INSTRUMENT: Final = re.compile(rf"({_HALF})[-/]({_HALF})")
_EPOCH: Final = re.compile(r"[0-9a-z]{1,12}")
_SELECTION: Final = re.compile(r"[0-9a-z]{1,13}")
_OFFSET: Final = re.compile(r"[0-9]{1,16}")
_COUNT: Final = re.compile(r"[0-9]{1,15}")
_BASE36: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


def base36(number: int) -> str:
    """Write a number that is not negative in base 36, lower case."""
    text = ""
    while True:
        number, digit = divmod(number, 36)
        text = _BASE36[digit] + text
        if not number:
            return text


def parse_instrument(text: str) -> str:
    """Return the canonical spelling, ``BASE-QUOTE`` in upper case.

    ``btc/usd`` and ``BTC-USD`` are one instrument.

    Raises:
        SelectionInvalid: the text is not base and quote.
    """
    match = _INSTRUMENT.fullmatch(text.strip())
    # Some letters become several in upper case, and one of them may be none.
    if match is None or not is_instrument(f"{match[1]}-{match[2]}".upper()):
        raise SelectionInvalid(
            f"{text[:80]!r} is not an instrument.",
            "Write base and quote, for example BTC-USD.",
        )
    return f"{match[1]}-{match[2]}".upper()


def is_instrument(text: str) -> bool:
    """Tell whether a text is an instrument in its canonical spelling."""
    match = _INSTRUMENT.fullmatch(text)
    return match is not None and text == f"{match[1]}-{match[2]}".upper()


class Ticker(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is published for one instrument.

    Prices, sizes and percentages are the decimal text the source sent. A field the
    source does not give is absent from the JSON. ``event_ms`` is the exchange's clock,
    ``received_ms`` the store's. A removed instrument is a ticker with ``removed``
    and nothing to show.
    """

    price: str = ""
    bid: str = ""
    ask: str = ""
    change_24h_pct: str = ""
    high_24h: str = ""
    low_24h: str = ""
    volume_24h: str = ""
    volume_24h_quote: str = ""
    source: str = ""
    via: str = ""
    event_ms: int = 0
    received_ms: int = 0
    stale: bool = False
    removed: bool = False
    offset: int = 0

    def encode(self) -> bytes:
        """Write the JSON that reaches every client as it stands."""
        return _encoder.encode(self)


decode_ticker: Final = msgspec.json.Decoder(Ticker).decode
"""Read a ticker's JSON back; raises ``msgspec.DecodeError``."""


class Update(Struct, frozen=True, kw_only=True, gc=False):
    """What one frame or one row of a snapshot says about one symbol.

    Partial: an empty text means that the frame did not say. ``received_ms`` is the
    store's clock; of a snapshot without times of its own it is the moment the request
    was sent, less the answer's ``Age``. ``event_ms`` is the exchange's clock, 0 where
    it gives none. ``sequence`` grows from one update to the next of one channel and
    symbol, across connections too; 0 where the channel has no such number.
    """

    exchange: str
    channel: str
    symbol: str
    received_ms: int
    event_ms: int = 0
    sequence: int = 0
    snapshot: bool = False
    price: str = ""
    bid: str = ""
    ask: str = ""
    change_24h_pct: str = ""
    high_24h: str = ""
    low_24h: str = ""
    volume_24h: str = ""
    volume_24h_quote: str = ""


def read_count(text: str) -> int | None:
    """Read a number that a stranger wrote in plain digits; None for anything else.

    Nothing we are told in digits has more than fifteen, and Python itself refuses to
    read thousands of them.
    """
    return int(text) if _COUNT.fullmatch(text) else None


def is_positive(text: str) -> bool:
    """Tell whether a decimal text is a finite number above zero."""
    if not text.isascii() or "_" in text:
        return False  # numbers to Python, but to nobody else
    try:
        number = Decimal(text)
    except InvalidOperation:
        return False
    return number.is_finite() and number > 0


def change_pct(opened: str, last: str) -> str:
    """Return the change from ``opened`` to ``last`` in percent, three decimals.

    Empty when either is not a number above zero.
    """
    if not (is_positive(opened) and is_positive(last)):
        return ""
    first = Decimal(opened)
    share = (Decimal(last) - first) / first * 100
    return f"{share:.3f}"


class Listing(Struct, frozen=True, kw_only=True):
    """One row of an exchange's own table: its symbol and what it stands for.

    ``answers_as`` are other spellings under which the exchange reports the same
    instrument: Kraken's REST keys, Coinbase's USD twin of a USDC product.
    """

    symbol: str
    base: str
    quote: str
    active: bool = True
    answers_as: tuple[str, ...] = ()

    @property
    def instrument(self) -> str:
        """Our spelling."""
        return f"{self.base}-{self.quote}".upper()


class Symbols:
    """An exchange's symbol table, in both directions. Never changed once made."""

    def __init__(self, listings: Iterable[Listing] = ()) -> None:
        self.by_instrument: dict[str, Listing] = {}
        self._by_symbol: dict[str, tuple[Listing, ...]] = {}
        for listing in listings:
            # Symbols need not be unique (CoinGecko): the first row, the best rank.
            if listing.instrument in self.by_instrument:
                continue
            self.by_instrument[listing.instrument] = listing
            for symbol in {listing.symbol, *listing.answers_as}:
                self._by_symbol[symbol] = (*self._by_symbol.get(symbol, ()), listing)

    def __len__(self) -> int:
        return len(self.by_instrument)

    def __iter__(self) -> Iterator[Listing]:
        return iter(self.by_instrument.values())

    def listings_of(self, symbol: str) -> tuple[Listing, ...]:
        """Return every listing that the exchange reports under this symbol."""
        return self._by_symbol.get(symbol, ())


class Batch(Struct, frozen=True, kw_only=True):
    """The tickers published together.

    ``previous`` is the offset it builds on; every ticker's bytes hold ``offset``.
    The offset is the publish instant by the store's clock in milliseconds, or
    one more than ``previous`` where the clock has not moved on.
    """

    epoch: str
    previous: int
    offset: int
    tickers: dict[str, bytes]


def next_offset(previous: int, now_ms: int) -> int:
    """Number a batch: more than the last, and never less than the store's clock."""
    return max(previous + 1, now_ms)


ALL: Final = "*"


class Selection(Struct, frozen=True):
    """The instruments a client asked for, resolved, sorted, without repeats.

    ``instruments`` is None for the whole board.
    """

    instruments: tuple[str, ...] | None
    hash: str

    @classmethod
    def of(cls, instruments: Iterable[str] | None) -> Self:
        """Make a selection; None is the whole board."""
        if instruments is None:
            return cls(None, _selection_hash(ALL))
        resolved = tuple(sorted(set(instruments)))
        return cls(resolved, _selection_hash("\n".join(resolved)))

    def __contains__(self, instrument: str) -> bool:
        return self.instruments is None or instrument in self.instruments


def _selection_hash(text: str) -> str:
    digest = blake2b(text.encode(), digest_size=5).digest()
    return base36(int.from_bytes(digest))


class Cursor(Struct, frozen=True):
    """A place in what is published: ``<epoch>.<selection>.<offset>``.

    Opaque to clients. ``offset`` is the newest offset among the selected instruments.
    """

    epoch: str
    selection: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.selection}.{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a cursor; a suffix ``~…`` is ours, and is ignored.

        Raises:
            CursorInvalid: the text is not one of ours.
        """
        parts = text.partition("~")[0].split(".")
        shapes = (_EPOCH, _SELECTION, _OFFSET)
        if len(parts) != len(shapes) or not all(
            shape.fullmatch(part) for shape, part in zip(shapes, parts, strict=True)
        ):
            raise CursorInvalid(text)
        return cls(parts[0], parts[1], int(parts[2]))
