"""What a client asks: the URL of a selection, spelled the one way that caches share.

Pure.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, urlsplit

from msgspec import Struct

from relay.client.errors import Refused

# A poll's answer may take this long beyond its wait: a step of the grid, and the way.
_MARGIN_S: Final = 10.0
# How long a plain read may take.
_READ_S: Final = 10.0
# Who an address says is asking: for the wire, and for nobody to read.
_LOGIN: Final = re.compile(r"//[^/?#]*@")


class Request(Struct, frozen=True, kw_only=True):
    """One request: where it goes, and how long nothing may come, in seconds."""

    place: str
    headers: dict[str, str] = {}
    silent_s: float = _READ_S


class Wanted(Struct, frozen=True):
    """A selection: instruments by any of their names, a list, or the whole board.

    ``every`` is the pace of a stream; empty for every change.
    """

    symbols: tuple[str, ...] = ()
    of_list: str = ""
    fields: tuple[str, ...] = ()
    every: str = ""

    @classmethod
    def of(
        cls,
        symbols: str | Iterable[str] | None,
        of_list: str = "",
        fields: str | Iterable[str] = (),
    ) -> "Wanted":
        """Make a selection; None and no list is the whole board.

        Raises:
            Refused: nothing is named, or both instruments and a list are.
        """
        asked = tuple(_texts(fields))
        if symbols is None:
            return cls((), of_list, asked)
        named = tuple(sorted(set(_texts(symbols))))
        if not named or of_list:
            raise Refused(
                "selection_invalid",
                "Both symbols and a list were given."
                if named
                else "No instrument was named.",
                "Name instruments or a list; neither is the whole board.",
            )
        return cls(named, "", asked)

    def place(self, path: str, **more: str) -> str:
        """Return the path with the query, in the order that everybody shares."""
        parts = {
            "list": self.of_list,
            "symbols": ",".join(self.symbols),
            "fields": ",".join(self.fields),
            **more,
        }
        query = "&".join(
            f"{name}={quote(value, safe=',$~')}"
            for name, value in parts.items()
            if value
        )
        return f"{path}?{query}" if query else path


def _texts(given: str | Iterable[str]) -> list[str]:
    """Return what is named one by one, or with commas between."""
    texts = given.split(",") if isinstance(given, str) else given
    return [text.strip() for text in texts if text.strip()]


def read(wanted: Wanted, cursor: str) -> Request:
    """Ask for what is now, or for what has changed since a cursor."""
    return Request(place=wanted.place("/v1/prices", cursor=cursor))


def poll(wanted: Wanted, cursor: str, wait_s: float) -> Request:
    """Ask to be answered when something changes, or when the wait is over."""
    ms = int(wait_s * 1000)
    wait = f"{ms}ms" if ms % 1000 else f"{ms // 1000}s"
    place = wanted.place("/v1/poll", cursor=cursor, wait=wait)
    return Request(place=place, silent_s=wait_s + _MARGIN_S)


def stream(wanted: Wanted, cursor: str, *, silent_s: float) -> Request:
    """Ask for every change, or for the newest at a pace."""
    headers = {"accept": "text/event-stream", "cache-control": "no-store"}
    if cursor:
        headers["last-event-id"] = cursor
    place = wanted.place("/v1/stream", every=wanted.every)
    return Request(place=place, headers=headers, silent_s=silent_s)


def read_url(url: str) -> str:
    """Return an address without what ends it.

    Raises:
        Refused: it is no address.
    """
    text = url.strip()
    if not _is_address(text):
        raise Refused(
            "url_invalid",
            f"{without_login(url)!r} is not a relay's address.",
            "Write it with its scheme, for example http://127.0.0.1:8000.",
        )
    return text.rstrip("/")


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # half a bracket, or a port that is no number or none there is
        return False
    whole = parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0
    # What is asked for is put behind it, and must not get into a query or a fragment.
    return whole and "?" not in text and "#" not in text


def without_login(url: str) -> str:
    """Return an address as people may read it: without a name and password in it."""
    return _LOGIN.sub("//…@", url)
