"""From hub and store to clients; any instance can answer any request.

The client's contract. Every answer carries a cursor, and any cursor from any answer
may be sent to any route: as ``If-None-Match`` of a read, as ``cursor=`` of a read, a
poll or a stream, as ``Last-Event-ID``, or in a message of a WebSocket. What comes back
is the newest value of every selected instrument that changed since, and never anything
older than what the client holds. Another selection is answered whole; another life of
the board is answered whole and marked ``reset``, and so is a cursor so far ahead that
nobody can have handed it out.

::

    query      what is asked for                                          pure
    contract   the table of routes; parameters and bodies are its parts,  pure
               examples has a body of each kind, describe writes it out
    answer     status, headers, body; when a 304 says it all
    newest     where a read comes from: the hub, or the store
    rest poll sse ws                                the four ways out
    events     how a stream of events is opened; carry takes it where the server
               keeps the connection
    compat compat_rest compat_sse compat_ws         the older names and payloads
    symbols value status metrics page               what else there is
    entrance   what every request comes through:
    gate         what one address may, and which address it is
    doors        who may ask for what: keys, tickets, scopes; ticket issues one
    cors         which pages of other origins may read from a browser     pure
    handshake    how the opening of a WebSocket is refused
    visit function                                  polls and life without a hub
    warming    what is fetched so that the edge is warm
    demand     what clients ask for, noted in the store
    line       what a connection of the server offers: its end, and its hand-over
    faults     what an error means: its status, words and headers         pure
    app        the routes, and what they are made of
    server     the sockets; refused is what is said to what is no request
      wire       a connection that a group writes to; rank does
      prompt     a connection that answers reads itself; quick knows with what
"""
