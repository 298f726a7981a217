"""What each variable of the environment sets, and which of them set nothing.

Reading the environment is ``config``'s.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from relay.errors import ConfigError

# Variables that set one value each: addresses, secrets, and who may read.
_VARIABLES: Final = {
    "RELAY_VALKEY_URL": ("store", "url"),
    "RELAY_BOARD": ("board", "name"),
    "RELAY_EGRESS": ("store", "egress"),
    "RELAY_READING": ("doors", "reading"),
    "RELAY_KEYS": ("doors", "keys"),
    "RELAY_TICKET_SECRET": ("doors", "ticket_secret"),
    "RELAY_WARM_URL": ("warm", "url"),
    "RELAY_API_KEY": ("warm", "key"),
    # Platforms say so where to listen, and whoever starts several servers.
    "PORT": ("http", "port"),
}

# What is read elsewhere than in the table above.
_OTHER_VARIABLES: Final = ("RELAY_SIM_URL", "RELAY_PLATFORM", "RELAY_CONFIG")
# Kubernetes sets these for every service, and one may well be called relay.
_STRANGE: Final = re.compile(r"RELAY_(SERVICE|PORT)(_.*)?")

# A port has no more digits; a longer number is refused as any that is no port is.
_PORT_DIGITS: Final = 5


def apply(
    tree: dict[str, Any], environ: Mapping[str, str], origins: dict[str, str]
) -> None:
    """Set what variables set, in a tree of settings; they are its values' origins.

    Raises:
        ConfigError: a variable is none that can be read.
    """
    places = _VARIABLES | _of_exchanges(tree.get("exchanges", {}))
    for variable, (section, rest) in places.items():
        value = environ.get(variable, "")
        if not value:
            continue
        branch: dict[str, Any] = tree.setdefault(section, {})
        *parents, key = rest.split(".")
        for parent in parents:
            branch = branch[parent]
        branch[key] = _understood(variable, value)
        origins[f"{section}.{rest}"] = variable


def _understood(variable: str, value: str) -> str | int | list[str]:
    """Read a variable's text as what it sets."""
    if variable == "RELAY_KEYS":
        return value.split(",")
    if variable != "PORT":
        return value
    if value.isascii() and value.isdecimal() and len(value) <= _PORT_DIGITS:
        return int(value)
    raise ConfigError("PORT", "http.port", value[:80], "a port from 0 to 65535")


def addressing(tree: dict[str, Any], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Name the variables there are that give an exchange an address of its own."""
    names = _of_exchanges(tree.get("exchanges", {}))
    return tuple(name for name in names if name.endswith("_URL") and environ.get(name))


def _of_exchanges(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return the variables of exchanges, and what they set."""
    return {
        # Three levels deep, so the exchange's name and its key share the second.
        f"RELAY_{name.upper().replace('-', '_')}_{key.upper()}": (
            "exchanges",
            f"{name}.{key}",
        )
        for name in names
        for key in ("rest_url", "ws_url", "key")
    }


def unheeded(environ: Mapping[str, str], exchanges: Iterable[str]) -> list[str]:
    """Name the variables that look like ours and set nothing, in a sentence each."""
    known = [*_VARIABLES, *_of_exchanges(exchanges), *_OTHER_VARIABLES]
    return [
        f"{name} sets nothing{nearest(name, known)}"
        for name in sorted(environ)
        if name.startswith("RELAY_")
        and name not in known
        and not _STRANGE.fullmatch(name)
    ]


def nearest(name: str, known: Iterable[str]) -> str:
    """Ask whether the one was meant that a name is most like; empty for none."""
    # Only for whoever needs it: functions pay for what they import.
    from difflib import get_close_matches  # noqa: PLC0415 - see above

    # What all have in common makes nothing alike.
    ends = {one.removeprefix("RELAY_"): one for one in known}
    alike = get_close_matches(name.removeprefix("RELAY_"), list(ends), n=1)
    return f": did you mean {ends[alike[0]]}?" if alike else ""
