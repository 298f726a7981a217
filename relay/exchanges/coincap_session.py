"""One connection to CoinCap's price stream: no messages from us, flat objects back.

Not here: REST, from which the first picture comes, since the stream sends none.
"""

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

import msgspec

from relay.errors import FrameError, Refused
from relay.exchanges.adapter import Denied, Notice, Rules
from relay.exchanges.decimals import price_of, text_of
from relay.exchanges.failures import UNREADABLE
from relay.exchanges.instants import millis_of
from relay.model import Update, is_positive

EXCHANGE: Final = "coincap"

# A URL longer than this is not safe everywhere; beyond it we ask for every asset, which
# costs the same credit a minute.
_ASSETS_LENGTH_MAX: Final = 4000

RULES: Final = Rules(
    spacing_ms=0,
    symbols_max=2000,
    # Nothing is documented; a published client gives up after 30 s without anything.
    silent_after_ms=30_000,
    in_place=False,
)

_ADVICE: Final = (
    "the stream wants a key whose plan includes it: set RELAY_COINCAP_KEY, "
    "or take prices out of the channels"
)

_prices: Final = msgspec.json.Decoder(dict[str, object], float_hook=str)

# A frame of the trade stream that version 2 had, told by keys that no asset has.
_TRADE_KEYS: Final = frozenset({"exchange", "base", "quote"})


class CoinCapSession:
    """One connection's conversation: the URL says everything we have to say."""

    rules = RULES

    def __init__(
        self, headers: tuple[tuple[str, str], ...], symbols: Sequence[str]
    ) -> None:
        self.notices: list[Notice] = []
        self.headers = headers
        assets = ",".join(quote(slug) for slug in sorted(set(symbols)))
        everything = len(assets) > _ASSETS_LENGTH_MAX
        self.target = f"/prices?assets={'ALL' if everything else assets}"
        # Of everything, only what was asked for is worth an update.
        self._wanted = frozenset(symbols) if everything else frozenset()

    def opened(self) -> list[bytes]:
        """Return nothing: the URL has subscribed."""
        return []

    def subscribe(self, symbols: Sequence[str]) -> list[bytes]:  # noqa: ARG002  the protocol's
        """Return nothing: another set takes another connection."""
        return []

    def unsubscribe(self, symbols: Sequence[str]) -> list[bytes]:  # noqa: ARG002  the protocol's
        """Return nothing: another set takes another connection."""
        return []

    def ping(self) -> list[bytes]:
        """Return nothing: no message of ours is documented."""
        return []

    def receive(self, frame: bytes, received_ms: int) -> Sequence[Update]:
        """Read one text frame: the prices in USD that changed, by slug.

        Raises:
            FrameError: the frame cannot be read.
        """
        try:
            prices = _prices.decode(frame)
        except UNREADABLE as error:
            if self._is_denied(frame.decode(errors="replace")):
                return ()
            raise FrameError(EXCHANGE, "prices", str(error)) from error
        if prices.keys() >= _TRADE_KEYS:
            return _read_trade(prices, received_ms)
        words = text_of(prices.get("error")) or text_of(prices.get("message"))
        if not words or is_positive(words):
            return self._read_prices(prices, received_ms)
        if self._is_denied(words):
            return ()
        raise FrameError(EXCHANGE, "prices", words[:80])

    def _is_denied(self, words: str) -> bool:
        """Note that the connection is refused, where the exchange says so."""
        denied = words.lstrip().lower().startswith("unauthorized")
        if denied:
            self.notices.append(Denied(Refused(EXCHANGE, "key", _ADVICE)))
        return denied

    def _read_prices(
        self, prices: dict[str, object], received_ms: int
    ) -> Sequence[Update]:
        return [
            Update(
                exchange=EXCHANGE,
                channel="prices",
                symbol=slug,
                received_ms=received_ms,
                price=price,
            )
            for slug, value in prices.items()
            if (price := price_of(value)) and (not self._wanted or slug in self._wanted)
        ]


def _read_trade(trade: dict[str, object], received_ms: int) -> Sequence[Update]:
    # The price itself is in whatever the trade was quoted in, on one exchange.
    price = price_of(trade.get("priceUsd"))
    update = Update(
        exchange=EXCHANGE,
        channel="trades",
        symbol=text_of(trade["base"]),
        received_ms=received_ms,
        event_ms=millis_of(trade.get("timestamp")),
        price=price,
    )
    return (update,) if price else ()
