"""The settings that follow from a platform's name keep to that platform's limits."""

from pathlib import Path

import pytest
from msgspec import Struct

from relay.config import FOLDER, load
from relay.errors import ConfigError


class Limits(Struct, frozen=True):
    """What a platform allows, in seconds: a hold, a stream, and silence on it."""

    hold_s: int
    stream_s: int
    idle_s: int


# As their documents said in November 2026. Lambda's are the HTTP API's, and those of
# the function behind its URL, which ``serverless.yml`` sets.
LIMITS = {
    "lambda": Limits(30, 300, 300),
    "cloud-run": Limits(300, 300, 300),
    "container": Limits(240, 3600, 240),
    "fly": Limits(3600, 3600, 60),
    "vercel": Limits(300, 300, 300),
}
# Waking and the way there take some of a hold; the last event some of a stream.
MARGIN_S = 5
# The longest gap between two ticks: one that was missed.
TICK_GAP_MS = 65_000


def test_every_platform_has_limits_here() -> None:
    """A new one is compared as well."""
    assert {path.stem for path in (FOLDER / "platforms").glob("*")} == set(LIMITS)


@pytest.mark.parametrize("name", LIMITS)
def test_holds_streams_and_beats_fit(name: str) -> None:
    """Ended by us in good order, and not by the platform in mid-word."""
    http = load(environ={"RELAY_PLATFORM": name}).settings.http
    limits = LIMITS[name]
    assert http.wait_max_ms / 1000 + MARGIN_S <= limits.hold_s
    longest_ms = http.stream_life_ms + http.stream_life_jitter_ms
    assert longest_ms / 1000 + MARGIN_S <= limits.stream_s
    assert http.heartbeat_ms / 1000 * 2 <= limits.idle_s
    assert http.host == "0.0.0.0"


@pytest.mark.parametrize("name", ["lambda", "vercel"])
def test_where_ticks_ingest_a_gap_between_two_is_still_live(name: str) -> None:
    """Nobody beats in between."""
    ingest = load(environ={"RELAY_PLATFORM": name}).settings.ingest
    assert ingest.beat_ms > TICK_GAP_MS
    assert ingest.tick_beat_ms > TICK_GAP_MS


def test_a_file_wins_over_its_platform_and_may_name_it(tmp_path: Path) -> None:
    """The nearer to the deployment, the later."""
    file = tmp_path / "mine.toml"
    file.write_text('platform = "fly"\n[http]\nhost = "127.0.0.1"\n')
    loaded = load(file, environ={})
    assert loaded.settings.platform == "fly"
    assert loaded.settings.http.host == "127.0.0.1"
    assert loaded.origins["http.drain_ms"] == "config/platforms/fly.toml"


def test_the_environment_names_the_file_where_nobody_can_give_one(
    tmp_path: Path,
) -> None:
    """A function has no command line."""
    file = tmp_path / "mine.toml"
    file.write_text('[board]\nname = "mine"\n')
    assert load(environ={"RELAY_CONFIG": str(file)}).settings.board.name == "mine"


def test_the_port_is_the_platforms_to_say() -> None:
    """Whatever listens elsewhere is never asked."""
    loaded = load(environ={"PORT": "8080", "RELAY_PLATFORM": "cloud-run"})
    assert loaded.settings.http.port == 8080
    assert loaded.origins["http.port"] == "PORT"


def test_a_platform_that_nobody_knows_is_refused_with_those_that_are() -> None:
    """A misspelt name would leave every limit out."""
    with pytest.raises(ConfigError, match="cloud-run"):
        load(environ={"RELAY_PLATFORM": "clodu-run"})
