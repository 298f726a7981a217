"""From exchanges to the store, one holder of the lease at a time. The map.

::

    what thinks                            what waits
    budget    what may still be spent      purse     spending it, with all others
    breaker   who fails again and again    pull      REST, paid for beforehand
    plan      what is to be read, when     stream    an exchange's WebSockets:
    conflate  the newest, cut in batches             line, connection, dial
    sources   whose value is shown         reading   tables and snapshots by REST
    probe     whose stream is dead         publish   batch after batch
    roll      a connection's symbols       lead      lease, batches, grid
    pace      a connection's messages      term      one term of leadership
    backoff   how long to stay away        worker    term after term, or one tick

    stream ─update─▶ conflate ─batch─▶ publish ─▶ store
    pull   ─update─▶    ▲
                     sources

``parts`` are what a process does it with, ``timetable`` rings the bells, ``report``
writes the log, ``events`` keeps the last changes for the status, ``causes`` finds words
for what the network says. Nothing here serves a client.
"""
