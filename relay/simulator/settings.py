"""What the simulated exchanges allow and how quickly they beat. No state.

Every number is the exchange's own as its public documents gave it in 2026; tests
shorten the durations. Also not here: faults, which come and go while it runs.
"""

from msgspec import Struct, field


class BinanceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Binance spot; source: binance-spot-api-docs of 2026-07-21."""

    ping_ms: int = 20_000  # web-socket-streams.md: a ping frame every 20 s
    pong_ms: int = 60_000  # … and its pong within a minute
    life_ms: int = 86_400_000  # … and no connection longer than 24 h
    messages: int = 5  # … and 5 incoming messages a second
    messages_ms: int = 1_000
    streams: int = 1_024  # … and 1,024 streams a connection
    url_bytes: int = 8_000  # of a URL, as client libraries found out
    attempts: int = 300  # … and 300 attempts per 5 minutes and address
    attempts_ms: int = 300_000
    weight: int = 6_000  # rest-api.md: REQUEST_WEIGHT, by the clock minute
    weight_ms: int = 60_000
    raw_requests: int = 300_000  # CHANGELOG.md, 2026-04-02
    raw_requests_ms: int = 300_000
    # Requests forgiven between a 429 and the end of its Retry-After; those already
    # under way when the 429 arrived. The number itself is not published.
    forgiven: int = 3
    ban_ms: int = 120_000  # rest-api.md: bans of 2 minutes …
    ban_max_ms: int = 259_200_000  # … to 3 days
    # Closes with 1008 within ten minutes before the address is banned, as users saw.
    closes_before_ban: int = 3
    second_ms: int = 1_000  # how often the one-second streams send
    shutdown_ms: int = 5_000  # from serverShutdown to the close; not promised
    wrapped_errors: bool = False  # deployed servers were seen to wrap them
    clock_ahead_ms: int = 40  # captures ran 4 to 74 ms ahead of the client


class CoinbaseSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Both dialects; source: docs.cdp.coinbase.com of June to August 2026."""

    subscribe_ms: int = 5_000  # a first subscribe within 5 s
    heartbeat_ms: int = 1_000
    batch_ms: int = 5_000  # ticker_batch
    candles_ms: int = 1_000
    trades_ms: int = 250  # market_trades
    idle_ms: int = 75_000  # 60 to 90 s without an update
    attempts: int = 8  # Advanced Trade: connections a second and address
    messages: int = 8  # Advanced Trade: messages a second and address
    requests: int = 10  # both: REST requests a second and address
    level2_products: int = 31  # above 16 to 31 it fails
    client_id: bool = False  # in the envelope until about 2025
    exchange_attempts: int = 8  # Exchange: requests a second …
    exchange_attempts_burst: int = 20  # … with a burst
    exchange_messages: int = 100  # Exchange: messages a second and address
    exchange_requests_burst: int = 15


class KrakenSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Kraken spot v2; source: docs.kraken.com of 2025 and 2026."""

    heartbeat_ms: int = 1_000
    idle_ms: int = 60_000
    attempts: int = 150  # connection attempts per rolling 10 minutes and address
    attempts_ms: int = 600_000
    refused_ms: int = 600_000
    messages: int = 20  # a second; not published, third parties keep below 20
    bucket: int = 5  # REST requests at once …
    bucket_ms: int = 1_000  # … and one more each second
    query_bytes: int = 8_192  # longer lists of names get 414


class CoincapSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """CoinCap v3; source: pro.coincap.io/api-docs as clients quoted it in 2025."""

    keys: tuple[str, ...] = ()  # accepted keys; empty: any key not refused
    refused_keys: tuple[str, ...] = ("wrong",)
    credits_month: int = 2_500
    credit_bytes: int = 2_500  # one more credit for each so many bytes of answer
    requests: int = 600
    requests_ms: int = 60_000
    push_ms: int = 250
    credit_ms: int = 60_000  # the WebSocket costs a credit a minute
    version_2_gone: bool = False  # 530 instead of the 429 of spring 2025
    refuse_with_text: bool = False  # a text frame instead of 401 on the upgrade


class CoingeckoSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """CoinGecko v3; source: docs.coingecko.com of 2026."""

    keyless_requests: int = 15  # a minute and address; not stated today
    demo_requests: int = 100  # a minute and key
    demo_credits: int = 10_000  # a month
    paid_requests: int = 500
    paid_credits: int = 500_000
    window_ms: int = 60_000
    demo_keys: tuple[str, ...] = ("CG-demo",)
    paid_keys: tuple[str, ...] = ("CG-paid",)
    refresh_ms: int = 60_000  # how long the edge keeps an answer
    edges: int = 1  # 2: every other request meets an edge that lags
    edge_lag_ms: int = 15_000


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it, and how the market moves."""

    seed: int = 1
    # Symbols on Binance at least; 0 leaves the table of assets as it stands.
    instruments: int = 0
    updates_per_second: int = 500  # changed symbols, over all exchanges together
    lead_ms: int = 100  # Bitcoin moves at least this often
    step_ms: int = 20  # how often the market is moved
    burst_every_ms: int = 10_000  # on average; 0: never
    burst_updates: int = 3_000  # changed symbols of one burst
    slow_bytes: int = 16_000_000  # unread bytes after which a reader is cut
    close_ms: int = 500  # how long a closed client has to answer the close frame
    binance: BinanceSettings = field(default_factory=BinanceSettings)
    coinbase: CoinbaseSettings = field(default_factory=CoinbaseSettings)
    kraken: KrakenSettings = field(default_factory=KrakenSettings)
    coincap: CoincapSettings = field(default_factory=CoincapSettings)
    coingecko: CoingeckoSettings = field(default_factory=CoingeckoSettings)
