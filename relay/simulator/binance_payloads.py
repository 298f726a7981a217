"""Binance's stream payloads as JSON text. No connections.

Source: binance-spot-api-docs of 2026-07-21, web-socket-streams.md. Every function
takes ``event_ms``, the exchange's own time, and ``unit``, the time units in a
millisecond that the connection asked for (1 or 1,000).
"""

from typing import Final

import msgspec

from relay.simulator.listing import Quote

DAY_MS: Final = 86_400_000

WINDOWS_MS: Final = {"1h": 3_600_000, "4h": 14_400_000, "1d": DAY_MS}
"""Windows of the rolling-window streams."""

INTERVALS_MS: Final = {
    "1s": 1_000,
    "1m": 60_000,
    "5m": 300_000,
    "15m": 900_000,
    "1h": 3_600_000,
    "4h": 14_400_000,
    "1d": DAY_MS,
}
"""Intervals of klines, the usual ones."""


def book_ticker(quote: Quote) -> bytes:
    """Write ``bookTicker``, which has neither a time nor an event type."""
    return (
        f'{{"u":{quote.sequence},"s":"{quote.symbol.name}"'
        f',"b":"{quote.price(quote.bid)}","B":"{quote.size(quote.bid_size)}"'
        f',"a":"{quote.price(quote.ask)}","A":"{quote.size(quote.ask_size)}"}}'
    ).encode()


def mini_ticker(quote: Quote, event_ms: int, unit: int) -> bytes:
    """Write ``miniTicker``."""
    return (
        f'{{"e":"24hrMiniTicker","E":{event_ms * unit},"s":"{quote.symbol.name}"'
        f',"c":"{quote.price(quote.last)}",{_range(quote)}}}'
    ).encode()


def _range(quote: Quote) -> str:
    return (
        f'"o":"{quote.price(quote.open)}","h":"{quote.price(quote.high)}"'
        f',"l":"{quote.price(quote.low)}","v":"{quote.size(quote.volume)}"'
        f',"q":"{quote.volume_quote()}"'
    )


def _window(quote: Quote, event_ms: int, window_ms: int, unit: int) -> str:
    return (
        f'"O":{(event_ms - window_ms) * unit},"C":{event_ms * unit}'
        f',"F":{quote.trades - 100_000},"L":{quote.trades},"n":100001'
    )


def ticker(quote: Quote, event_ms: int, unit: int) -> bytes:
    """Write ``ticker``."""
    return (
        f'{{"e":"24hrTicker","E":{event_ms * unit},"s":"{quote.symbol.name}"'
        f',"p":"{quote.change()}","P":"{quote.change_pct(3)}","w":"{quote.average()}"'
        f',"x":"{quote.price(quote.open)}","c":"{quote.price(quote.last)}"'
        f',"Q":"{quote.size(quote.last_size)}","b":"{quote.price(quote.bid)}"'
        f',"B":"{quote.size(quote.bid_size)}","a":"{quote.price(quote.ask)}"'
        f',"A":"{quote.size(quote.ask_size)}",{_range(quote)}'
        f",{_window(quote, event_ms, DAY_MS, unit)}}}"
    ).encode()


def window_ticker(quote: Quote, event_ms: int, unit: int, window: str) -> bytes:
    """Write ``ticker_1h``, ``_4h`` or ``_1d``; the window starts on a whole minute."""
    width_ms = WINDOWS_MS[window] + event_ms % 60_000
    return (
        f'{{"e":"{window}Ticker","E":{event_ms * unit},"s":"{quote.symbol.name}"'
        f',"p":"{quote.change()}","P":"{quote.change_pct(2)}","w":"{quote.average()}"'
        f',"c":"{quote.price(quote.last)}",{_range(quote)}'
        f",{_window(quote, event_ms, width_ms, unit)}}}"
    ).encode()


def trade(quote: Quote, event_ms: int, unit: int) -> bytes:
    """Write ``trade``."""
    return (
        f'{{"e":"trade","E":{event_ms * unit},"s":"{quote.symbol.name}"'
        f',"t":{quote.trades},{_trade(quote, event_ms, unit)}}}'
    ).encode()


def agg_trade(quote: Quote, event_ms: int, unit: int) -> bytes:
    """Write ``aggTrade``."""
    return (
        f'{{"e":"aggTrade","E":{event_ms * unit},"s":"{quote.symbol.name}"'
        f',"a":{quote.trades - 1_000_000},"f":{quote.trades},"l":{quote.trades}'
        f",{_trade(quote, event_ms, unit)}}}"
    ).encode()


def _trade(quote: Quote, event_ms: int, unit: int) -> str:
    return (
        f'"p":"{quote.price(quote.last)}","q":"{quote.size(quote.last_size)}"'
        f',"T":{(event_ms - 1) * unit},"m":{"false" if quote.rising else "true"}'
        f',"M":true'
    )


def average_price(quote: Quote, event_ms: int, unit: int) -> bytes:
    """Write ``avgPrice``."""
    return (
        f'{{"e":"avgPrice","E":{event_ms * unit},"s":"{quote.symbol.name}","i":"5m"'
        f',"w":"{quote.price(quote.last)}","T":{(event_ms - 1) * unit}}}'
    ).encode()


def reference_price(quote: Quote, event_ms: int, unit: int) -> bytes:
    """Write ``referencePrice``; only symbols against USDT have one here."""
    has_one = quote.symbol.quote == "USDT"
    price = f'"{quote.price(quote.last)}"' if has_one else "null"
    return (
        f'{{"e":"referencePrice","s":"{quote.symbol.name}","r":{price}'
        f',"t":{event_ms * unit}}}'
    ).encode()


def kline(quote: Quote, event_ms: int, unit: int, interval: str) -> bytes:
    """Write ``kline_<interval>``, still open."""
    width_ms = INTERVALS_MS[interval]
    start_ms = event_ms // width_ms * width_ms
    last, size = quote.price(quote.last), quote.size(quote.last_size)
    return (
        f'{{"e":"kline","E":{event_ms * unit},"s":"{quote.symbol.name}","k":{{'
        f'"t":{start_ms * unit},"T":{(start_ms + width_ms) * unit - 1}'
        f',"s":"{quote.symbol.name}","i":"{interval}","f":{quote.trades}'
        f',"L":{quote.trades},"o":"{last}","c":"{last}","h":"{last}","l":"{last}"'
        f',"v":"{size}","n":1,"x":false,"q":"{quote.volume_quote()}","V":"{size}"'
        f',"Q":"{quote.volume_quote()}","B":"0"}}}}'
    ).encode()


def partial_depth(quote: Quote, event_ms: int, unit: int, depth: int) -> bytes:
    """Write ``depth5``, ``10`` or ``20``, which names no symbol."""
    del event_ms, unit
    bids, asks = levels(quote, depth)
    return msgspec.json.encode(
        {"lastUpdateId": quote.sequence, "bids": bids, "asks": asks}
    )


def levels(quote: Quote, depth: int) -> tuple[list[list[str]], list[list[str]]]:
    """Give the best ``depth`` bids and asks, each a price and a size."""
    bids = [
        [quote.price(max(1, quote.bid - step)), quote.size(quote.bid_size + step)]
        for step in range(depth)
    ]
    asks = [
        [quote.price(quote.ask + step), quote.size(quote.ask_size + step)]
        for step in range(depth)
    ]
    return bids, asks
