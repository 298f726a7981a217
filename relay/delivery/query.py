"""What a client asks for: instruments by any of their names, and the fields of them.

Pure. What is answered stands in ``rest``, ``poll``, ``sse`` and ``ws``.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl, quote

import msgspec
from msgspec import Struct

from relay.config import Board, Http
from relay.errors import RequestError, SelectionInvalid
from relay.model import Selection, Ticker, is_instrument, parse_instrument

# A bare asset is quoted in this.
_QUOTE: Final = "USD"

# They say what a value is worth, so nobody can leave them out: where it stands in the
# published sequence, that it is old, that it is quoted in another currency.
ALWAYS: Final = frozenset({"offset", "stale", "via"})

FIELDS: Final = tuple(
    name for name in Ticker.__struct_fields__ if name not in ALWAYS | {"removed"}
)
"""What ``fields=`` may name, in the order of the published JSON."""

# Tickers kept in their trimmed form: a few field sets of a large board.
_TRIMMED_MAX: Final = 8192
# Parameters in one query: more than any route has.
_PARAMETERS_MAX: Final = 20


class QueryInvalid(RequestError):
    """A parameter that is unknown, repeated or not what it must be."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__("query_invalid", reason, hint)


class Names:
    """Every spelling of an instrument that clients use, and the lists by name."""

    def __init__(self, board: Board) -> None:
        self.lists = board.lists
        self._assets = {name.casefold(): asset for name, asset in board.names.items()}

    def resolve(self, text: str) -> str:
        """Return the canonical instrument of ``bitcoin``, ``BTC`` or ``btc/usd``.

        Raises:
            SelectionInvalid: the text cannot be an instrument's name.
        """
        text = text.strip()
        asset = self._assets.get(text.casefold())
        if asset is not None:
            return f"{asset}-{_QUOTE}"
        quoted = f"{text}-{_QUOTE}".upper()
        if "-" in text or "/" in text or not is_instrument(quoted):
            quoted = parse_instrument(text)
        base, _, currency = quoted.partition("-")
        base = self._assets.get(base.casefold(), base)
        if base == currency:
            raise SelectionInvalid(
                f"{text[:80]!r} would be priced in itself.",
                "Name what it is to be priced in, for example USD-EUR.",
            )
        return f"{base}-{currency}"

    def list(self, name: str) -> tuple[str, ...]:
        """Return the instruments of a named list.

        Raises:
            SelectionInvalid: there is no such list.
        """
        if name not in self.lists:
            raise SelectionInvalid(
                f"There is no list {name[:80]!r}.",
                f"The lists are: {', '.join(sorted(self.lists)) or 'none'}.",
            )
        return self.lists[name]


class Ask(Struct, frozen=True):
    """What one request asks for.

    ``fields`` is empty for all of them. ``canonical`` is the one spelling of the query,
    without ``more``; ``more`` are the route's other parameters as they came.
    """

    selection: Selection
    fields: tuple[str, ...]
    canonical: str
    more: dict[str, str]


def read_ask(
    query: bytes | Mapping[str, str],
    names: Names,
    http: Http,
    *,
    also: Iterable[str] = (),
) -> Ask:
    """Read the selection and the fields of a query.

    ``also`` are the other parameters that the route knows.

    Raises:
        RequestError: a parameter is unknown or repeated, or a field does not exist.
        SelectionInvalid: what is selected is malformed, unknown or too much.
    """
    given = read_query(query, ("symbols", "list", "fields", *also))
    symbols, name = given.pop("symbols", None), given.pop("list", None)
    fields = _read_fields(given.pop("fields", None))
    selection = select(names, http, symbols=symbols, name=name)
    return Ask(selection, fields, _canonical(selection, name, fields), given)


def read_query(
    query: bytes | Mapping[str, str], known: Sequence[str]
) -> dict[str, str]:
    """Read a query's parameters, each at most once.

    Raises:
        RequestError: one is unknown, repeated or not UTF-8.
    """
    pairs = _pairs(query) if isinstance(query, bytes) else list(query.items())
    given: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise QueryInvalid(
                f"There is no parameter {name[:80]!r} here.",
                f"Leave it out; known are: {', '.join(known) or 'none'}.",
            )
        if name in given:
            raise QueryInvalid(
                f"The parameter {name!r} was given more than once.",
                "Give it once; several values are separated by commas.",
            )
        given[name] = value
    return given


def _pairs(query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_PARAMETERS_MAX,
        )
    except ValueError as error:  # UnicodeDecodeError is one
        raise QueryInvalid(
            "The query cannot be read.",
            f"Write at most {_PARAMETERS_MAX} parameters, percent-encoded as UTF-8.",
        ) from error


def select(
    names: Names, http: Http, *, symbols: str | None = None, name: str | None = None
) -> Selection:
    """Return the selection of a comma-separated text or of a list; neither is all.

    Raises:
        SelectionInvalid: it is malformed, unknown or too much.
    """
    if symbols is not None and name is not None:
        raise SelectionInvalid(
            "Both symbols= and list= were given.", "Give one of them."
        )
    if name is not None:
        return Selection.of(names.list(name))
    if symbols is None:
        return Selection.of(None)
    return select_all(names, http, symbols.split(","))


def select_all(names: Names, http: Http, texts: Sequence[str]) -> Selection:
    """Return the selection of these instruments, each by any of its names.

    Raises:
        SelectionInvalid: there is none, or too many, or one is malformed.
    """
    # Before anything is resolved, so that a large request costs little; spellings of
    # one instrument count as one below.
    if len(texts) > 4 * http.selection_max:
        raise _too_many(len(texts), http)
    selection = Selection.of(names.resolve(text) for text in texts if text.strip())
    if not selection.instruments:
        raise SelectionInvalid(
            "No instrument was named.",
            "Write symbols=BTC-USD,ETH-USD, or leave it out for the whole board.",
        )
    if len(selection.instruments) > http.selection_max:
        raise _too_many(len(selection.instruments), http)
    return selection


def _too_many(count: int, http: Http) -> SelectionInvalid:
    return SelectionInvalid(
        f"{count} instruments were asked for.",
        f"Ask for at most {http.selection_max} at once, or for a list.",
    )


def _read_fields(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    asked = {name for name in map(str.strip, text.split(",")) if name}
    unknown = sorted(asked - ALWAYS - set(FIELDS))
    if unknown or not asked:
        raise QueryInvalid(
            f"There is no field {unknown[0][:80]!r}."
            if unknown
            else "No field was named.",
            f"The fields are: {', '.join(FIELDS)}.",
        )
    fields = tuple(name for name in FIELDS if name in asked)
    # Only what always stays was named: that is a selection of fields as well.
    return () if fields == FIELDS else fields or tuple(sorted(asked & ALWAYS))


def _canonical(selection: Selection, name: str | None, fields: Sequence[str]) -> str:
    parts = []
    if name is not None:
        parts.append(f"list={quote(name, safe='')}")
    elif selection.instruments is not None:
        parts.append(f"symbols={quote(','.join(selection.instruments), safe=',$')}")
    if fields:
        parts.append(f"fields={','.join(fields)}")
    return "&".join(parts)


def trim(rows: dict[str, bytes], fields: tuple[str, ...]) -> dict[str, bytes]:
    """Return the tickers with these fields only; none named is all.

    ``offset``, ``stale`` and ``via`` stay.
    """
    if not fields:
        return rows
    return {name: trim_ticker(ticker, fields) for name, ticker in rows.items()}


_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder: Final = msgspec.json.Encoder()


@lru_cache(maxsize=_TRIMMED_MAX)
def trim_ticker(ticker: bytes, fields: tuple[str, ...]) -> bytes:
    """Return one ticker's JSON with these fields only, digit for digit."""
    keep = ALWAYS.union(fields)
    members = _members.decode(ticker)
    return _encoder.encode({k: v for k, v in members.items() if k in keep})
