"""``/v1/ws``: subscribe, unsubscribe, resume and ping over one WebSocket.

What is sent and when is decided in ``group``; here it is read and written.

The client says, as JSON::

    {"type":"subscribe","symbols":["BTC-USD"]}      or "list":"top20"; what is added is
                                                    sent whole; neither: everything
    {"type":"subscribe",…,"fields":["price"]}       from now on, for all of them
    {"type":"subscribe",…,"cursor":"…"}             with what changed since the cursor
    {"type":"resume","cursor":"…","symbols":[…]}    that alone, since the cursor
    {"type":"unsubscribe","symbols":["BTC-USD"]}    neither symbols nor list: everything
    {"type":"ping"}                                 the text ``ping`` will do

The relay says: the body that all ways out share with ``"type":"update"`` put before its
other members, newest state only; ``{"type":"pong"}``; ``{"type":"heartbeat"}`` when it
was quiet; and ``{"type":"error","error":{"code":…,"sentence":…,"hint":…}}`` for a
message it does not understand, which closes nothing. After each change of the selection
comes an update with the cursor of the new selection, even if there is nothing else in
it. Too large a message closes with 1009, too many with 1008, and an instance that ends
or has too much to do closes with 1012 or 1013; each says why.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
from litestar import asgi
from litestar.enums import HttpMethod, ScopeType
from litestar.handlers import ASGIRouteHandler
from litestar.types import HTTPScope, Receive, Scope, Send
from msgspec import Struct, field
from msgspec.structs import replace

from relay.board import Board, Changes
from relay.config import Http
from relay.delivery.answer import Seen, answer_about, send_answer
from relay.delivery.bodies import Fault
from relay.delivery.demand import Demand
from relay.delivery.line import hang_up
from relay.delivery.query import Names, read_ask, trim
from relay.errors import RequestError, SelectionInvalid
from relay.group import Frame, Mailbox, Place, Wish
from relay.hub import Hub, Unready
from relay.model import Selection

PATH: Final = "/v1/ws"

# Close codes of RFC 6455 and of its registry at IANA.
_POLICY: Final = 1008
_TOO_BIG: Final = 1009
_RESTART: Final = 1012
_TRY_LATER: Final = 1013

_PONG: Final = '{"type":"pong"}'
_HEARTBEAT: Final = '{"type":"heartbeat"}'
_MINUTE_MS: Final = 60_000
# For a client to take the reason why it is closed.
_CLOSE_S: Final = 1


class Choice(Struct, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """Instruments, by their names or by a list's."""

    symbols: list[str] | None = None
    named: str | None = field(name="list", default=None)

    @property
    def everything(self) -> bool:
        """Whether nothing in particular was named."""
        return self.symbols is None and self.named is None


class Subscribe(Choice, kw_only=True, tag="subscribe"):
    """Add instruments; ``cursor`` is what the client holds of the result."""

    fields: list[str] | None = None
    cursor: str | None = None


class Resume(Choice, kw_only=True, tag="resume"):
    """Go on from a cursor, with this selection, or with the one there is."""

    cursor: str
    fields: list[str] | None = None


class Unsubscribe(Choice, kw_only=True, tag="unsubscribe"):
    """Take instruments away."""


class Ping(Struct, forbid_unknown_fields=True, tag_field="type", tag="ping"):
    """Ask for a pong."""


Said = Subscribe | Resume | Unsubscribe | Ping
"""What a client may say."""

_decoder: Final[msgspec.json.Decoder[Said]] = msgspec.json.Decoder(Said)


class MessageInvalid(RequestError):
    """A message that is no JSON of ours."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            "message_invalid",
            f"The message cannot be understood: {reason}.",
            "Send an object whose type is subscribe, resume, unsubscribe or ping.",
        )


def read_message(text: str | bytes) -> Said:
    """Read what a client says; the bare text ``ping`` is one too.

    Raises:
        MessageInvalid: it is not JSON, or not one of ours.
    """
    if text in ("ping", b"ping"):
        return Ping()
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageInvalid(str(error)) from error


class _Error(Struct, tag_field="type", tag="error"):
    """What a client hears when it was not understood."""

    error: Fault


def error_message(error: RequestError) -> str:
    """Return the message that tells a client what was wrong."""
    told = _Error(Fault(error.code, error.reason, error.hint))
    return msgspec.json.encode(told).decode()


class Allowance:
    """How many messages a client may still send: so many at once, refilled steadily."""

    __slots__ = ("_left", "_most", "_when_ms")

    def __init__(self, most: int, now_ms: int) -> None:
        """Allow ``most`` in a minute."""
        self._most, self._when_ms = most, now_ms
        # In parts of a message, so that no fraction is lost.
        self._left = most * _MINUTE_MS

    def take(self, now_ms: int) -> bool:
        """Take one; False when there is none left."""
        grown = (now_ms - self._when_ms) * self._most
        self._left = min(self._left + grown, self._most * _MINUTE_MS)
        self._when_ms = now_ms
        if self._left < _MINUTE_MS:
            return False
        self._left -= _MINUTE_MS
        return True


def add(board: Board, old: Selection, new: Selection, place: Place) -> Changes | None:
    """Return what a client is told when its selection grows or shrinks.

    What is added is whole, of what stays only what has changed since its place. None
    when the board cannot tell yet, because the client is ahead of it.
    """
    since = place.cursor
    if since is not None and board.is_behind(since):
        return None
    if since is None or since.selection != old.hash:
        return board.changes(new, since)
    kept = board.changes(old, since)
    if kept.reset:
        return replace(board.changes(new), reset=True)
    whole = board.changes(new)
    rows = {
        name: ticker
        for name, ticker in whole.rows.items()
        if name in kept.rows or name not in old
    }
    gone = [name for name in kept.gone if name in new]
    missing = [name for name in whole.missing if name not in gone]
    return replace(whole, rows=rows, gone=gone, missing=missing)


def _of_no_selection(place: Place) -> Place:
    """Return a place from which any selection is answered whole, and nothing older."""
    if place.cursor is None:
        return place
    return Place(replace(place.cursor, selection=""), place.live)


def joined(one: Selection, other: Selection) -> Selection:
    """Return the instruments of both."""
    if one.instruments is None or other.instruments is None:
        return Selection.of(None)
    return Selection.of((*one.instruments, *other.instruments))


def without(one: Selection, other: Selection) -> Selection:
    """Return the instruments of the first that are not of the second.

    Raises:
        SelectionInvalid: the first is the whole board, and the second is not.
    """
    if other.instruments is None:
        return Selection.of(())
    if one.instruments is None:
        raise SelectionInvalid(
            "The whole board is subscribed, and a part of it cannot be taken away.",
            "Unsubscribe without symbols first, then subscribe to what you want.",
        )
    return Selection.of(set(one.instruments) - set(other.instruments))


class Closed(Exception):
    """The relay closes the connection: the code, and why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


class Stalled(Exception):
    """The client takes nothing, so that it cannot even be told why."""


_NOTHING_YET: Final = Wish(Selection.of(()))


class Parts(Struct, frozen=True):
    """What every session needs, once for all."""

    hub: Hub
    names: Names
    http: Http
    demand: Demand


class Session:
    """One client's WebSocket: what it has asked for, and what it was told.

    Reading is the connection's own task, writing a second one beside it. The reader
    only says what is wanted; the writer, when its last write has drained, brings the
    client there in one step, however often it has changed its mind.
    """

    __slots__ = ("_allowance", "_box", "_owed", "_parts", "_resumed", "_told", "_wish")

    def __init__(self, parts: Parts, mailbox: Mailbox) -> None:
        self._parts, self._box = parts, mailbox
        now_ms = parts.hub.clock.monotonic_ms()
        self._allowance = Allowance(parts.http.messages_per_minute, now_ms)
        self._wish = self._told = _NOTHING_YET
        self._resumed: Place | None = None
        # Pongs and errors: as many as the allowance lets a client cause.
        self._owed: list[str] = []

    async def run(self, receive: Receive, send: Send) -> None:
        """Serve until the client leaves.

        Raises:
            ExceptionGroup: of one ``Closed``, where it is the relay that closes.
        """
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(self._write(send))
            await self._read(receive)
            writing.cancel()

    async def _read(self, receive: Receive) -> None:
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                return
            if event["type"] == "websocket.receive":
                self.hear(event.get("text") or event.get("bytes") or b"")

    def hear(self, text: str | bytes) -> None:
        """Take in one message.

        Raises:
            Closed: it is too large, or one too many.
        """
        http, now_ms = self._parts.http, self._parts.hub.clock.monotonic_ms()
        counts = self._parts.hub.counts
        if len(text if isinstance(text, bytes) else text.encode()) > http.message_max:
            counts.cut_off["message_size"] += 1
            raise Closed(_TOO_BIG, f"a message may have {http.message_max} bytes")
        if not self._allowance.take(now_ms):
            counts.cut_off["message_rate"] += 1
            most = http.messages_per_minute
            raise Closed(_POLICY, f"{most} messages a minute are allowed")
        try:
            self.answer(text)
        except RequestError as error:
            self._owed.append(error_message(error))
        self._box.answer(None)

    def answer(self, text: str | bytes) -> None:
        """Do what one message says.

        Raises:
            RequestError: it cannot be understood, or not be done.
        """
        said = read_message(text)
        match said:
            case Ping():
                self._owed.append(_PONG)
            case Unsubscribe():
                self._want(without(self._wish.selection, self._chosen(said)))
            case Subscribe(cursor=cursor):
                chosen = joined(self._wish.selection, self._chosen(said))
                self._want(chosen, said.fields, cursor)
            case Resume(cursor=cursor):
                # What is subscribed stays, where nothing in particular was named.
                same = said.everything and self._wish is not _NOTHING_YET
                chosen = self._wish.selection if same else self._chosen(said)
                self._want(chosen, said.fields, cursor)

    def _chosen(self, choice: Choice) -> Selection:
        query: dict[str, str] = {}
        if choice.symbols is not None:
            query["symbols"] = ",".join(choice.symbols)
        if choice.named is not None:
            query["list"] = choice.named
        return read_ask(query, self._parts.names, self._parts.http).selection

    def _want(
        self,
        selection: Selection,
        fields: list[str] | None = None,
        cursor: str | None = None,
    ) -> None:
        """Note what the client wants from now on; nothing is noted of what is wrong."""
        parts = self._parts
        most, count = parts.http.selection_max, len(selection.instruments or ())
        if count > most:
            raise SelectionInvalid(
                f"{count} instruments would be subscribed.",
                f"Subscribe to at most {most}, or unsubscribe from some before.",
            )
        kept = self._wish.fields
        if fields is not None:
            query = {"fields": ",".join(fields)}
            kept = read_ask(query, parts.names, parts.http).fields
        if cursor is not None:
            self._resumed = Place.read(cursor)
        elif self._resumed is not None and kept != self._wish.fields:
            self._resumed = _of_no_selection(self._resumed)
        parts.demand.note(selection)
        # A new object even if it is the same: the client is told that it was heard.
        self._wish = Wish(selection, kept)

    async def _write(self, send: Send) -> None:
        box, clock = self._box, self._parts.hub.clock
        try:
            async with asyncio.timeout(None) as box.limit:
                while True:
                    text = await self._next()
                    box.begin(clock.monotonic_ms())
                    await send({"type": "websocket.send", "bytes": None, "text": text})
                    box.writing = False
        except TimeoutError as error:
            raise Stalled from error
        except OSError:
            return  # the client has left; the reader hears it
        finally:
            box.limit = None

    async def _next(self) -> str:
        """Wait for the next message to send."""
        box, clock = self._box, self._parts.hub.clock
        while True:
            if self._owed:
                return self._owed.pop(0)
            self._heed_end()
            if self._wish is not self._told:
                frame = self._move()
                if frame is not None:
                    return frame.update
            frame = await box.listen()
            if frame is not None:
                return frame.update
            if box.is_idle(clock.monotonic_ms(), self._parts.http.heartbeat_ms):
                self._parts.demand.note(self._wish.selection)
                return _HEARTBEAT

    def _heed_end(self) -> None:
        if self._box.due_ms <= self._parts.hub.clock.monotonic_ms():
            raise Closed(_RESTART, "this instance ends, come back to another one")

    def _move(self) -> Frame | None:
        """Bring the client to the selection that it wants, if the board can tell."""
        hub, box, told = self._parts.hub, self._box, self._told
        self._told, wish = self._wish, self._wish
        resumed, self._resumed = self._resumed, None
        place, held = box.place, told.selection
        if resumed is not None:
            place, held = hub.heed(resumed), wish.selection
        elif wish.fields != told.fields:
            place = _of_no_selection(place)  # what was left out is to be sent now
        group = hub.groups.find(wish, trim)
        box.join(group, place)
        board, live = hub.newest()
        if board is None:
            return None
        changes = add(board, held, wish.selection, place)
        if changes is None:
            hub.nudge()
            return None
        frame = group.encode(changes, live=live, news=True)
        box.join(group, frame.place)
        return frame


class NoSocket(RequestError):
    """A plain request where only a WebSocket is; ``instead`` is what to read then."""

    def __init__(self, instead: str) -> None:
        super().__init__(
            "upgrade_required",
            "This route is a WebSocket.",
            f"Open it with a WebSocket client, or read {instead}.",
        )


async def answer_plainly(
    scope: HTTPScope, send: Send, instead: str, seen: Seen
) -> None:
    """Answer a plain request where only a WebSocket is.

    Raises:
        MethodNotAllowedException: it is by a method that opens no WebSocket.
        NoSocket: it opens none.
    """
    if scope["method"] == HttpMethod.GET:
        raise NoSocket(instead)
    about = answer_about(scope["method"], ("GET",))
    seen[(scope["path_template"], about.status)] += 1
    await send_answer(about, send, head=False)


Begin = Callable[[Mailbox], Session]
"""Begins a session for a client; may raise ``Closed``."""


class Socket:
    """Serves WebSockets from the hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def serve(
        self, scope: Scope, receive: Receive, send: Send, begin: Begin
    ) -> None:
        """Serve one client until it leaves, or there is a reason to close."""
        await receive()  # the handshake
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        try:
            with self._open() as mailbox:
                await begin(mailbox).run(receive, send)
        except* Stalled:
            await hang_up(scope)
        except* Closed as group:
            closed = group.exceptions[0]
            assert isinstance(closed, Closed)
            await self._close(scope, send, closed)

    def _open(self) -> Mailbox:
        try:
            return self._hub.open("ws")
        except Unready as unready:
            raise Closed(_TRY_LATER, unready.reason) from unready

    async def _close(self, scope: Scope, send: Send, closed: Closed) -> None:
        """Say why, if the client listens; a close that cannot be said is a cut."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                await send(
                    {
                        "type": "websocket.close",
                        "code": closed.code,
                        "reason": closed.reason,
                    }
                )
        except TimeoutError:
            await hang_up(scope)
        except OSError:
            return  # it has left meanwhile


def route(
    hub: Hub, names: Names, http: Http, *, demand: Demand, seen: Seen
) -> ASGIRouteHandler:
    """Return the handler of ``/v1/ws``."""
    parts, socket = Parts(hub, names, http, demand), Socket(hub)

    def begin(mailbox: Mailbox) -> Session:
        return Session(parts, mailbox)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.WEBSOCKET:
            seen[(PATH, 101)] += 1
            await socket.serve(scope, receive, send, begin)
            return
        assert scope["type"] == ScopeType.HTTP
        await answer_plainly(scope, send, "/v1/stream", seen)

    return asgi(PATH, copy_scope=False, methods=(HttpMethod.GET,))(serve)
