"""From hub and store to clients; any instance can answer any request.

The client's contract. Every answer carries a cursor, and any cursor from any answer
may be sent to any route: as ``If-None-Match`` of a read, as ``cursor=`` of a read, a
poll or a stream, as ``Last-Event-ID``, or in a message of a WebSocket. What comes back
is the newest value of every selected instrument that changed since, and never anything
older than what the client holds. Another selection is answered whole; another life of
the board is answered whole and marked ``reset``.

::

    query      what is asked for                                          pure
    contract   the table of routes; describe writes it out                pure
    answer     status, headers, body; when a 304 says it all
    newest     where a read comes from: the hub, or the store
    rest poll sse ws                                the four ways out
    compat compat_rest compat_sse compat_ws         the older names and payloads
    symbols value status metrics page               what else there is
    gate       what one address may, and which address it is
    visit function                                  polls and life without a hub
    warming    what is fetched so that the edge is warm
    demand     what clients ask for, noted in the store
    line       how a connection of the server ends
    app        the routes, and the status of every error
    server     the sockets
"""
