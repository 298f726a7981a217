"""What the leader said last, as it has to be read now: older, and perhaps nobody's.

Pure. The page that shows it is ``status``'s.
"""

from typing import Any, Final

import msgspec
from msgspec import Struct

_UNITS: Final = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))


class _Leader(Struct, frozen=True):
    """When the leader said it, by the store's clock; 0 for unsaid."""

    as_of_ms: int = 0


class _Said(Struct, frozen=True):
    leader: _Leader = _Leader()


_sections: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_said: Final = msgspec.json.Decoder(_Said).decode
_sources: Final = msgspec.json.Decoder(dict[str, dict[str, Any]]).decode
_streams: Final = msgspec.json.Decoder(dict[str, list[dict[str, Any]]]).decode
# Another version's word, or nobody's.
_STRANGE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_word(word: msgspec.Raw, now_ms: int, *, doubt: str) -> dict[str, msgspec.Raw]:
    """Return the leader's JSON section by section, grown older until ``now_ms``.

    ``doubt`` says why nobody vouches for it any more, empty when somebody does: then
    no source is alive and no stream open, but ``unknown``.
    """
    try:
        sections = _sections(word)
    except _STRANGE:
        return {}
    try:
        at_ms = _said(word).leader.as_of_ms
        late_ms = max(now_ms - at_ms, 0) if at_ms else 0
        if "sources" in sections:
            sections["sources"] = _age_sources(sections["sources"], late_ms, doubt)
        if doubt and "streams" in sections:
            sections["streams"] = _doubt_streams(sections["streams"])
    except _STRANGE:
        sections.pop("sources", None)
        sections.pop("streams", None)
    return sections


def _age_sources(section: msgspec.Raw, late_ms: int, doubt: str) -> msgspec.Raw:
    sources = _sources(section)
    for source in sources.values():
        age_ms = source.get("age_ms")
        if isinstance(age_ms, int):
            source["age_ms"] = age_ms = age_ms + late_ms
        source["state"] = "alive" if source.get("alive") else "silent"
        if doubt:
            heard = "never heard"
            if isinstance(age_ms, int):
                heard = f"last heard {_span(age_ms)} ago"
            source |= {"alive": False, "state": "unknown"}
            source["reason"] = f"{doubt}; {heard}"
    return msgspec.Raw(msgspec.json.encode(sources))


def _doubt_streams(section: msgspec.Raw) -> msgspec.Raw:
    streams = _streams(section)
    for lines in streams.values():
        for line in lines:
            line["state"] = "unknown"
    return msgspec.Raw(msgspec.json.encode(streams))


def _span(ms: int) -> str:
    """Write a length of time in its largest fitting unit."""
    for unit_ms, unit in _UNITS:
        if ms >= unit_ms:
            return f"{ms // unit_ms} {unit}"
    return f"{max(ms, 0)} ms"
