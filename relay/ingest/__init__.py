"""From exchanges to the store, one holder of the lease at a time. The map.

::

    what thinks                            what waits
    budget    what may still be spent:     purse     spending it, with all others
              book, ledger, offence        pull      REST, paid for beforehand
    breaker   who fails again and again    stream    an exchange's WebSockets:
    plan      what is to be read, when               line, connection, dial
    conflate  the newest, cut in batches   reading   tables and snapshots by REST
    doubts    what is not believed         publish   batch after batch
    jumps     prices far from the last     lead      lease, batches, grid
    sources   whose value is shown         term      one term of leadership
    probe     whose stream is dead         worker    term after term, or one tick
    roll      a connection's symbols
    pace      a connection's messages
    backoff   how long to stay away

    stream ─update─▶ conflate ─batch─▶ publish ─▶ store
    pull   ─update─▶    ▲
                     sources

``parts`` are what a process does it with, ``timetable`` rings the bells, ``report``
writes the log, ``events`` keeps the last changes for the status, ``causes`` finds words
for what the network says. Nothing here serves a client.
"""
