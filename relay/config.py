"""Settings as frozen structs; the only reader of files and of the environment.

No default lives here: ``config/default.toml`` holds them all, with units and reasons.
What each variable sets stands in ``variables``.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from relay.errors import ConfigError
from relay.model import is_instrument
from relay.variables import addressing, apply, nearest, unheeded

Positive = Annotated[int, Meta(gt=0)]
Count = Annotated[int, Meta(ge=0)]
Percent = Annotated[float, Meta(gt=0)]
Port = Annotated[int, Meta(ge=0, le=65535)]

_HERE: Final = Path(__file__).parent
# An installed package carries its defaults with it; a checkout has them at the top.
FOLDER: Final = (
    _HERE / "_config" if (_HERE / "_config").is_dir() else _HERE.parent / "config"
)

KEYLESS: Final = ("", "keyless")
"""The plans that need no key."""

Tree = dict[str, Any]


class Group(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Instruments that are always on, and their sources in order."""

    instruments: tuple[str, ...]
    sources: tuple[str, ...]


class Board(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one deployment publishes."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9_-]{1,32}$")]
    sources: tuple[str, ...]
    demand_max: Count
    groups: tuple[Group, ...]
    lists: dict[str, tuple[str, ...]]
    names: dict[str, str]


class Store(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where Valkey is, and how it is used."""

    url: str
    log_entries_max: Positive
    timeout_ms: Positive
    clock_ms: Positive
    egress: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]


class Ingest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How exchanges are read and batches cut."""

    lease_ms: Positive
    lease_renew_ms: Positive
    publish_floor_ms: Count
    batch_tickers_max: Annotated[int, Meta(gt=0, le=3500)]
    align_ms: Positive
    beat_ms: Positive
    tick_beat_ms: Positive
    lease_ask_ms: Positive
    demand_every_ms: Positive
    silent_after_ms: Positive
    steady_ms: Count
    stale_after_ms: Positive
    future_max_ms: Positive
    crossed_max_pct: Percent
    jump_pct: Percent
    jump_wait_ms: Count
    reconnect_min_ms: Positive
    reconnect_max_ms: Positive
    reconnect_steady_ms: Positive
    refused_ms: Positive
    marker_ms: Positive
    recent_step_ms: Positive
    recent_points: Positive
    demand_ms: Positive
    request_timeout_ms: Positive
    frame_max: Positive
    body_max: Positive
    log_every_ms: Positive


class Http(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How clients are served."""

    host: str
    port: Port
    selection_max: Positive
    waits_ms: tuple[Count, ...]
    wait_ms: Count
    wait_max_ms: Positive
    paces_ms: tuple[Positive, ...]
    older_pace_ms: Count
    heartbeat_ms: Positive
    stream_life_ms: Positive
    stream_life_jitter_ms: Count
    retry_ms: Positive
    write_deadline_ms: Positive
    clients_max: Positive
    message_max: Positive
    messages_per_minute: Positive
    demand_renew_ms: Positive
    quiet_ms: Positive
    drain_ms: Count
    fresh_ms: Count
    revalidate_ms: Count
    stale_error_ms: Count
    trusted_proxies: Count
    address_open_max: Count
    address_requests_max: Count
    address_window_ms: Positive
    connections_max: Positive
    head_deadline_ms: Positive
    head_max: Positive


class Doors(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may ask for what, and which pages of other origins may.

    A key is written ``NAME:SCOPES:DIGEST``: what it is called, what it may, and the
    SHA-256 of its text.
    """

    reading: Literal["open", "keys"]
    keys: tuple[
        Annotated[
            str,
            Meta(pattern=r"^[a-z0-9_-]{1,32}:(read|admin|read\+admin):[0-9a-f]{64}$"),
        ],
        ...,
    ]
    edge_checks_keys: bool
    ticket_ms: Annotated[int, Meta(gt=0, le=60_000)]
    ticket_secret: str
    origins: tuple[Annotated[str, Meta(pattern=r"^(\*|https?://[^/\s]+)$")], ...]
    preflight_ms: Count


class Warm(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is fetched through the edge so that it is warm."""

    url: str
    # As a header takes it: a line's end from a file is none.
    key: Annotated[str, Meta(pattern=r"^[!-~]*\Z")]
    paths: tuple[Annotated[str, Meta(pattern=r"^/")], ...]
    timeout_ms: Positive


class Limit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One limit of an exchange.

    ``fixed`` windows begin at multiples of ``window_ms`` of the wall clock, ``rolling``
    ones end now. The budget never lets more than ``weight_max`` fall into a window.
    ``scope`` is what the exchange counts by: our egress address, or the API key.
    ``name`` is what requests are charged to; an exchange has one limit of each.
    """

    name: Annotated[str, Meta(pattern=r"^(weight|requests|connect|messages|credits)$")]
    weight_max: Positive
    window_ms: Positive
    kind: Literal["fixed", "rolling"]
    scope: Literal["address", "key"]


class Exchange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One exchange: where it is, what is read, what may be spent.

    ``rest_url`` and ``ws_url`` are scheme, host and port; a path in them is put before
    the exchange's own paths. ``charged`` exchanges cost by the request. A ``plan`` that
    is neither empty nor ``keyless`` needs a key, and without one the exchange is off.
    """

    enabled: bool
    rest_url: str
    ws_url: str
    channels: tuple[str, ...]
    snapshot_ms: Count
    symbols_ms: Positive
    charged: bool
    plan: str
    key: str
    limits: tuple[Limit, ...]

    @property
    def lacks_key(self) -> bool:
        """Whether it is off for want of a key."""
        return self.plan not in KEYLESS and not self.key


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything; each room receives its own section."""

    platform: str
    board: Board
    store: Store
    ingest: Ingest
    http: Http
    doors: Doors
    warm: Warm
    exchanges: dict[str, Exchange]


class Loaded(Struct, frozen=True):
    """The settings, and the file or variable that set each value by its path.

    ``unused`` names the variables that a simulator takes the place of.
    """

    settings: Settings
    origins: dict[str, str]
    unused: tuple[str, ...] = ()


def load(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    sim_url: str = "",
) -> Loaded:
    """Read the settings: defaults, exchanges, platform, ``file``, the environment.

    Without a ``file`` it is the one that RELAY_CONFIG names, where nobody can give one.
    ``sim_url`` reads every exchange from a simulator, as ``RELAY_SIM_URL`` does,
    whatever address of its own one is given.

    Raises:
        ConfigError: a file cannot be read, or a value is not what it must be.
    """
    tree: Tree = {}
    origins: dict[str, str] = {}
    for path in (FOLDER / "default.toml", *sorted((FOLDER / "exchanges").glob("*"))):
        _merge(tree, _read(path), _short(path), origins)
    environ = os.environ if environ is None else environ
    if file is None and environ.get("RELAY_CONFIG"):
        file = Path(environ["RELAY_CONFIG"])
    given = {} if file is None else _read(file)
    _apply_platform(tree, given, environ, origins)
    _merge(tree, given, str(file), origins)
    said_by = "--sim-url" if sim_url else "RELAY_SIM_URL"
    sim_url = sim_url or environ.get("RELAY_SIM_URL", "")
    unused = addressing(tree, environ) if sim_url else ()
    _simulate(tree, sim_url, said_by, origins)
    heeded = {name: text for name, text in environ.items() if name not in unused}
    apply(tree, heeded, origins)
    _check_names(tree, origins)
    settings = _convert(tree, origins)
    _check(settings, origins)
    return Loaded(settings, origins, unused)


def require_store(settings: Settings) -> None:
    """Make sure that there is an address of a store.

    Raises:
        ConfigError: there is none.
    """
    if not settings.store.url:
        expected = "the address of a Valkey, such as valkey://127.0.0.1:6379"
        raise ConfigError("the environment", "RELAY_VALKEY_URL", "", expected)


# What a setting is called whose value is nobody's business, misspelt ones as well.
_SECRET: Final = re.compile("key|secret|token|password", re.IGNORECASE)
_HIDDEN: Final = "…"


def hide(path: str, value: object) -> object:
    """Return a setting's value for people to read: without keys and passwords.

    Of a URL that leaves scheme, host, port and path; a key's line keeps all but its
    digest.
    """
    if isinstance(value, Mapping):
        return {key: hide(f"{path}.{key}", one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [hide(path, one) for one in value]
    if not isinstance(value, str) or not value:
        return value
    name = path.rpartition(".")[2]
    if name.startswith("keys") and value.count(":") == len(("name", "scopes")):
        return f"{value.rpartition(':')[0]}:{_HIDDEN}"
    secret = _SECRET.search(name) and not path.startswith("board.")
    return _HIDDEN if secret else hide_in_url(value)


def hide_in_url(url: str) -> str:
    """Return a URL without name and password, and without a query."""
    scheme, found, rest = url.rpartition("://")
    if not found and "@" not in url:
        return url
    return f"{scheme}{found}{rest.rpartition('@')[2].partition('?')[0]}"


def _wrong(origin: str, path: str, value: object, expected: str) -> ConfigError:
    """Return the error of a setting, whose message nobody need keep to himself."""
    return ConfigError(origin, path, hide(path, value), expected)


def _short(path: Path) -> str:
    return f"config/{path.relative_to(FOLDER)}"


def _read(path: Path) -> Tree:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(str(path), "file", reason, "a readable file") from error
    except (ValueError, RecursionError) as error:
        # Not TOML, not UTF-8, a number of thousands of digits, or nested beyond reason.
        raise ConfigError(str(path), "file", str(error), "valid TOML") from error


def _merge(
    tree: Tree, other: Tree, origin: str, origins: dict[str, str], path: str = ""
) -> None:
    for key, value in other.items():
        here = f"{path}.{key}" if path else key
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            _merge(tree[key], value, origin, origins, here)
        elif isinstance(value, dict):
            tree[key] = {}
            _merge(tree[key], value, origin, origins, here)
        elif isinstance(tree.get(key), dict) or path == "exchanges":
            raise _wrong(origin, here, value, "a table")
        else:
            tree[key] = value
            origins[here] = origin


_REST: Final = ("https", "http")
_WS: Final = ("wss", "ws")


def _simulate(tree: Tree, sim_url: str, origin: str, origins: dict[str, str]) -> None:
    if not sim_url:
        return
    if not _is_url(sim_url, _REST):
        raise _wrong(origin, "the simulator's address", sim_url, "http://host:port")
    ws_url = sim_url.replace("http", "ws", 1)
    # A simulator counts for itself: what is spent there is nobody else's.
    place = sim_url.rstrip("/").rpartition("/")[2]
    tree.setdefault("store", {})["egress"] = f"sim-{place}"
    origins["store.egress"] = origin
    for name, exchange in tree.get("exchanges", {}).items():
        if exchange.get("ws_url"):
            exchange["ws_url"] = ws_url
        exchange["rest_url"] = sim_url
        # The simulator asks for a key where the exchange does, and takes any.
        if exchange.get("plan") not in KEYLESS and not exchange.get("key"):
            exchange["key"] = f"simulated-{place}"
        for key in ("rest_url", "ws_url", "key"):
            origins[f"exchanges.{name}.{key}"] = origin


def _apply_platform(
    tree: Tree, given: Tree, environ: Mapping[str, str], origins: dict[str, str]
) -> None:
    """Merge what the platform calls for, which the rest of ``given`` wins over."""
    file_says = given.pop("platform", "")
    name = environ.get("RELAY_PLATFORM") or file_says
    if not name:
        return
    origin = "RELAY_PLATFORM" if environ.get("RELAY_PLATFORM") else "--config"
    folder = FOLDER / "platforms"
    known = sorted(path.stem for path in folder.glob("*.toml"))
    if name not in known:
        raise ConfigError(origin, "platform", name, f"one of {', '.join(known)}")
    path = folder / f"{name}.toml"
    _merge(tree, {"platform": name}, origin, origins)
    _merge(tree, _read(path), _short(path), origins)


def misspelt(environ: Mapping[str, str] | None = None) -> list[str]:
    """Name the variables that look like ours and set nothing, in a sentence each.

    They are no error, since others may have a relay of their own.
    """
    files = (FOLDER / "exchanges").glob("*.toml")
    environ = os.environ if environ is None else environ
    return unheeded(environ, [file.stem for file in files])


def _check_names(tree: Tree, origins: dict[str, str]) -> None:
    """Only what has a file of defaults is an exchange that the relay can read."""
    files = sorted((FOLDER / "exchanges").glob("*.toml"))
    known = [file.stem.replace("_", "-") for file in files]
    for name in tree.get("exchanges", {}):
        if name not in known:
            key, expected = f"exchanges.{name}", f"one of {', '.join(known)}"
            raise ConfigError(_origin(key, origins), key, name, expected)


def _convert(tree: Tree, origins: dict[str, str]) -> Settings:
    try:
        return msgspec.convert(tree, Settings)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `")
        key = place.removeprefix("$").removeprefix(".").rstrip("`") or "settings"
        key, reason = _name_unknown(tree, _name_entry(tree, key), reason)
        value, reason = _find(tree, key), _plain(key, reason)
        raise _wrong(_origin(key, origins), key, value, reason) from error


# The tables whose keys are names, and what stands under each.
_ENTRIES: Final[dict[str, Any]] = {
    "exchanges": Exchange,
    "board.lists": tuple[str, ...],
    "board.names": str,
}
_ANY_ENTRY: Final = "[...]"


def _name_entry(tree: Tree, key: str) -> str:
    """Put an entry's own name into a path where the library leaves it out."""
    table, found, rest = key.partition(_ANY_ENTRY)
    if not found:
        return key
    entries = _find(tree, table)
    assert isinstance(entries, dict), "an entry of it was wrong"
    wrong = (name for name, one in entries.items() if not _fits(one, _ENTRIES[table]))
    return f"{table}.{next(wrong)}{rest}"


def _fits(value: object, kind: Any) -> bool:  # noqa: ANN401 - whatever the library takes
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


_FIELD: Final = re.compile(r"Object (contains unknown|missing required) field `(.*)`")


def _name_unknown(tree: Tree, key: str, reason: str) -> tuple[str, str]:
    """Put a misspelt or a missing key's own name at the end of its path."""
    match = _FIELD.fullmatch(reason)
    if match is None:
        return key, reason.removeprefix("Expected ")
    name, section = match[2], tree if key == "settings" else _find(tree, key)
    path = name if key == "settings" else f"{key}.{name}"
    if match[1] == "missing required":
        return path, "a value"
    assert isinstance(section, dict), "it has an unknown field"
    known = [one for one in section if one != name]
    meant = nearest(name, known) or f", only {', '.join(known)}"
    return path, f"no such key{meant}"


# What a pattern or a choice of ours asks for, in words: by the setting's path without
# places, or by its last name where many have it.
_SPELLED: Final = {
    "board.name": "1 to 32 small letters, digits, - and _",
    "store.egress": "1 to 64 letters, digits, and any of _ . : -",
    "doors.keys": "NAME:SCOPES:DIGEST with read, admin or read+admin, "
    "as `relay key new` makes it",
    "doors.origins": "* or an origin, such as https://app.example.com",
    "doors.reading": "open or keys",
    "warm.key": "letters, digits and signs of ASCII, without spaces",
    "warm.paths": "a path that begins with /",
    "name": "weight, requests, connect, messages or credits",
    "kind": "fixed or rolling",
    "scope": "address or key",
}


def _plain(key: str, reason: str) -> str:
    """Say in words what was expected, where the library shows a pattern or no choice.

    Of another type it says so itself.
    """
    if "matching regex" in reason or reason.startswith("Invalid enum value"):
        last = key.rpartition(".")[2]
        return _SPELLED.get(key.partition("[")[0]) or _SPELLED.get(last, reason)
    return reason


def _find(tree: Tree, key: str) -> object:
    value: object = tree
    for part in key.replace("[", ".[").split("."):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list | tuple) and part.strip("[]").isdigit():
            value = value[int(part.strip("[]"))]
    return value


def _origin(key: str, origins: dict[str, str]) -> str:
    """Return the file that set a key, or the nearest one that its section has."""
    key = key.partition("[")[0]
    while key:
        for path, origin in origins.items():
            if path == key or path.startswith((f"{key}.", f"{key}[")):
                return origin
        key = key.rpartition(".")[0]
    return "config/default.toml"


class _Checked(Struct):
    """A value that types alone cannot hold, and what it must be."""

    key: str
    value: object
    expected: str
    holds: bool


def _check(settings: Settings, origins: dict[str, str]) -> None:
    checks = [
        *_board_checks(settings),
        *_url_checks(settings),
        *_key_checks(settings.doors),
        *_limit_checks(settings.exchanges),
        *_order_checks(settings.ingest),
    ]
    for check in checks:
        if not check.holds:
            origin = _origin(check.key, origins)
            raise _wrong(origin, check.key, check.value, check.expected)


def _board_checks(settings: Settings) -> list[_Checked]:
    board, known = settings.board, settings.exchanges
    sources = [("board.sources", name) for name in board.sources]
    listed: list[tuple[str, str]] = []
    for place, group in enumerate(board.groups):
        key = f"board.groups[{place}]"
        sources += [(f"{key}.sources", name) for name in group.sources]
        listed += [(f"{key}.instruments", name) for name in group.instruments]
    for key, names in board.lists.items():
        listed += [(f"board.lists.{key}", name) for name in names]
    one_of = f"one of {', '.join(known)}"
    spelling = "base and quote in upper case, for example BTC-USD"
    return [
        _Checked(key, name, one_of, name.partition(":")[0] in known)
        for key, name in sources
    ] + [_Checked(key, name, spelling, is_instrument(name)) for key, name in listed]


def _url_checks(settings: Settings) -> list[_Checked]:
    store = ("valkey", "valkeys", "redis", "rediss", "unix")
    urls: list[tuple[str, str, tuple[str, ...]]]
    urls = [
        ("store.url", settings.store.url, store),
        ("warm.url", settings.warm.url, _REST),
    ]
    for name, exchange in settings.exchanges.items():
        urls.append((f"exchanges.{name}.rest_url", exchange.rest_url, _REST))
        urls.append((f"exchanges.{name}.ws_url", exchange.ws_url, _WS))
    return [
        _Checked(
            key, url, f"{schemes[0]}://host:port", not url or _is_url(url, schemes)
        )
        for key, url, schemes in urls
    ]


def _key_checks(doors: Doors) -> list[_Checked]:
    names = [text.partition(":")[0] for text in doors.keys]
    readers = [text for text in doors.keys if "read" in text.split(":")[1]]
    locked = doors.reading == "keys"
    one = "a key with the scope read, such as `relay key new` makes"
    return [
        _Checked("doors.keys", names, "different names", len({*names}) == len(names)),
        _Checked("doors.keys", names, one, bool(readers) or not locked),
    ]


def _limit_checks(exchanges: Mapping[str, Exchange]) -> list[_Checked]:
    named = {
        f"exchanges.{name}.limits": [limit.name for limit in exchange.limits]
        for name, exchange in exchanges.items()
    }
    return [
        _Checked(key, names, "different names", len({*names}) == len(names))
        for key, names in named.items()
    ]


def _order_checks(ingest: Ingest) -> list[_Checked]:
    """Check what must not be longer than something else, or than half of it."""
    lease_ms, beat_ms = ingest.lease_ms, ingest.beat_ms
    most_ms = ingest.reconnect_max_ms
    pairs = (
        ("lease_renew_ms", 2, "half of ingest.lease_ms", lease_ms),
        ("align_ms", 2, "half of ingest.beat_ms", beat_ms),
        ("reconnect_min_ms", 1, "ingest.reconnect_max_ms", most_ms),
    )
    return [
        _Checked(
            f"ingest.{name}",
            getattr(ingest, name),
            f"at most {words}, which is {bound_ms}",
            getattr(ingest, name) * times <= bound_ms,
        )
        for name, times, words, bound_ms in pairs
    ]


def _is_url(url: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    named = bool(parts.hostname) or (parts.scheme == "unix" and bool(parts.path))
    return parts.scheme in schemes and named and port != 0
