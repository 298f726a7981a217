"""Every exchange we read, on one port: the independent referee of the tests.

Written from the exchanges' documents; it shares no code with the adapters or the
budget, and imports nothing of the relay but the clock.

::

    settings   what the exchanges allow, how quickly they beat
    assets     the table of what is traded                      pure
    market     prices that move, with bursts, from one seed     pure
    listing    one symbol of one exchange, quoted               pure
    limits     windows, buckets and bans                        pure
    ledger     what each client did; the picture of the counts  pure
    faults     what goes wrong on request                       pure
    wire       requests, answers, frames, conversations         pure
    iso        instants as text                                 pure
    routes     which exchange a path belongs to                 pure

    binance  coinbase  coinbase_exchange  kraken  coincap  coingecko
               one exchange each: symbols, REST and limits      pure
    binance_streams  coinbase_talk  coinbase_exchange_talk  kraken_talk
               their WebSockets, without the socket             pure
    binance_payloads  binance_entries  coinbase_products  coingecko_coins
               what those are made of                           pure

    line       one WebSocket on its socket, through the faults
    desk       where every request arrives
    control    orders, counts and the page under /_sim
    page       that page
    server     the port, and the pulse that moves the market
"""
