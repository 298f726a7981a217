"""Whatever a file says is read, or refused with the file's name."""

import gzip
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from relay.cli.recording import Answered, Received, RecordingError, Unreadable, read
from relay.config import load
from relay.errors import ConfigError

# One folder serves every example: each writes its file anew.
_ONE_FOLDER = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
_VALUES = st.sampled_from(
    ["3", "nan", "inf", "''", "[]", "{}", "true", "1e9", "[[1]]", "'x'", "-1", "0"]
)
_PATHS = st.sampled_from(
    [
        "board",
        "board.groups",
        "board.lists.x",
        "board.names.x",
        "exchanges",
        "exchanges.coinbase",
        "exchanges.coinbase.ws_url",
        "exchanges.coinbase.limits",
        "exchanges.new",
        "exchanges.new.plan",
        "ingest.lease_ms",
        "ingest.jump_pct",
        "http.port",
        "http.waits_ms",
        "store",
        "platform",
        "unknown",
    ]
)
_ENVIRONS = st.dictionaries(
    st.sampled_from(
        [
            "RELAY_VALKEY_URL",
            "RELAY_BOARD",
            "RELAY_SIM_URL",
            "RELAY_COINBASE_KEY",
            "RELAY_COINBASE_WS_URL",
            "RELAY_EGRESS",
            "RELAY_PLATFORM",
            "PORT",
        ]
    ),
    st.one_of(st.sampled_from(["http://x", "valkey://x", "1"]), st.text(max_size=20)),
    max_size=3,
)


@_ONE_FOLDER
@given(
    st.one_of(
        st.binary(max_size=100),
        st.builds(lambda path, value: f"{path} = {value}".encode(), _PATHS, _VALUES),
    ),
    _ENVIRONS,
)
@example(b"exchanges = 3", {})
@example(b"exchanges = 3", {"RELAY_SIM_URL": "http://x"})
@example(b"[exchanges]\ncoinbase = 3", {"RELAY_SIM_URL": "http://x"})
@example(b"[exchanges]\ncoinbase = 3", {"RELAY_COINBASE_KEY": "x"})
@example(b"board = 3", {"RELAY_BOARD": "x"})
@example(b"store = 3", {"RELAY_VALKEY_URL": "valkey://x"})
@example(b"a = " + b"[" * 5000, {})
@example(b"a = " + b"9" * 5000, {})
@example(b"", {"RELAY_PLATFORM": "lambda", "PORT": "9" * 5000})
def test_any_settings_are_read_or_refused(
    tmp_path: Path, text: bytes, environ: dict[str, str]
) -> None:
    """Somebody's first mistake is answered with a sentence and not with a trace."""
    file = tmp_path / "settings.toml"
    file.write_bytes(text)
    try:
        loaded = load(file, environ=environ)
    except ConfigError:
        return
    assert loaded.settings.ingest.lease_ms >= 2 * loaded.settings.ingest.lease_renew_ms


def _broken_gzip() -> bytes:
    whole = bytearray(gzip.compress(b"1.5: {}\n" * 1000))
    whole[20:22] = b"\x00\x00"
    return bytes(whole)


@_ONE_FOLDER
@given(
    st.sampled_from(["a.ws", "a.ws.gz", "a.rest", "a.jsonl", "a.json", "a.txt"]),
    st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=100).map(gzip.compress),
        st.builds(
            lambda instant, frame: f"{instant}: {frame}\n".encode(),
            st.one_of(st.floats(), st.integers(), st.text(max_size=9)),
            st.text(max_size=20),
        ),
    ),
)
@example("a.ws.gz", _broken_gzip())
@example("a.ws", b"9" * 5000 + b": {}")
@example("a.rest", b"https://x -> " + b"9" * 5000 + b": {}")
@example("a.jsonl", b"[" * 60_000)
@example(
    "a.jsonl",
    b'{"recorded_at":"Fri, 31 Dec 9999 23:59:59 -1400","request":{"method":"GET",'
    b'"url":"x"},"response":{"status":1,"headers":{},"body":""}}',
)
def test_any_recording_is_read_or_refused(
    tmp_path: Path, name: str, content: bytes
) -> None:
    """A line nobody can read is counted, a file nobody can read is named."""
    file = tmp_path / name
    file.write_bytes(content)
    try:
        items = list(read(file))
    except RecordingError:
        return
    assert all(isinstance(one, Received | Answered | Unreadable) for one in items)
