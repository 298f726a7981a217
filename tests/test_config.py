"""Settings: complete defaults, what wins, and errors that name their place."""

from pathlib import Path

import pytest

from relay.config import hide, load
from relay.errors import ConfigError

LIMIT = """
[[exchanges.coinbase.limits]]
name = "weight"
kind = "fixed"
scope = "address"
"""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Return the place of a file to write settings into."""
    return tmp_path / "mine.toml"


def test_the_defaults_are_complete() -> None:
    """A default lives in the files and nowhere else."""
    settings = load(environ={}).settings
    assert settings.board.name == "spot"
    assert set(settings.exchanges) >= {"binance", "coinbase", "kraken"}


def test_a_file_wins_over_the_defaults_and_a_variable_over_both(written: Path) -> None:
    """Later wins, and each value says who set it."""
    written.write_text('[board]\nname = "mine"\n[http]\nport = 9000\n')
    loaded = load(written, environ={"RELAY_BOARD": "other"})
    assert loaded.settings.board.name == "other"
    assert loaded.settings.http.port == 9000
    assert loaded.origins["board.name"] == "RELAY_BOARD"
    assert loaded.origins["http.port"] == str(written)
    assert loaded.origins["http.host"] == "config/default.toml"


def test_variables_give_one_exchange_another_address() -> None:
    """A proxy, a regional twin, a test double."""
    environ = {
        "RELAY_KRAKEN_WS_URL": "ws://127.0.0.1:9",
        "RELAY_COINBASE_EXCHANGE_REST_URL": "http://127.0.0.1:8",
        "RELAY_COINCAP_KEY": "secret",
    }
    exchanges = load(environ=environ).settings.exchanges
    assert exchanges["kraken"].ws_url == "ws://127.0.0.1:9"
    assert exchanges["coinbase-exchange"].rest_url == "http://127.0.0.1:8"
    assert exchanges["coincap"].key == "secret"


def test_a_simulator_replaces_every_address() -> None:
    """The option wins over the variable, and both over an exchange's own address."""
    environ = {
        "RELAY_SIM_URL": "http://127.0.0.1:1",
        "RELAY_KRAKEN_WS_URL": "ws://127.0.0.1:2",
        "RELAY_COINCAP_KEY": "mine",
    }
    loaded = load(environ=environ, sim_url="http://127.0.0.1:3")
    exchanges = loaded.settings.exchanges
    assert exchanges["binance"].rest_url == "http://127.0.0.1:3"
    assert exchanges["binance"].ws_url == "ws://127.0.0.1:3"
    assert exchanges["kraken"].ws_url == "ws://127.0.0.1:3"
    assert exchanges["coingecko"].ws_url == ""
    assert exchanges["coincap"].key == "mine"
    assert loaded.unused == ("RELAY_KRAKEN_WS_URL",)
    assert load(environ={"RELAY_KRAKEN_WS_URL": "ws://127.0.0.1:2"}).unused == ()


def test_the_port_is_a_setting_like_any_other(written: Path) -> None:
    """Whoever starts several servers says so, with a platform's name or without."""
    written.write_text("[http]\nport = 9000\n")
    for platform in ("", "fly"):
        environ = {"PORT": "8155", "RELAY_PLATFORM": platform}
        loaded = load(written, environ=environ)
        assert loaded.settings.http.port == 8155
        assert loaded.origins["http.port"] == "PORT"
    assert load(written, environ={"PORT": ""}).settings.http.port == 9000


@pytest.mark.parametrize("platform", ["", "fly"])
@pytest.mark.parametrize("text", ["abc", "70000", "-1", "8000.0", "9" * 5000])
def test_a_wrong_port_is_refused(text: str, platform: str) -> None:
    """It would listen elsewhere without a word."""
    with pytest.raises(ConfigError, match=r"PORT: http\.port was"):
        load(environ={"PORT": text, "RELAY_PLATFORM": platform})


@pytest.mark.parametrize(
    ("text", "key", "sentence"),
    [
        ("[hub]\nx = 1", "hub", "no such key"),
        ("[http]\nprot = 1", "http.prot", "was 1, expected no such key"),
        ('[http]\nport = "x"', "http.port", "was 'x', expected `int`"),
        ("[http]\nport = 70000", "http.port", "was 70000, expected `int` <= 65535"),
        ("[ingest]\nlease_ms = 0", "ingest.lease_ms", "was 0, expected `int` >= 1"),
        (
            "[ingest]\nlease_renew_ms = 9000",
            "ingest.lease_renew_ms",
            "at most half of ingest.lease_ms",
        ),
        ('[board]\nsources = ["kraken", "foo"]', "board", "'foo', expected one of"),
        ('[board]\nname = "Ä"', "board.name", "small letters, digits, - and _"),
        ('[[board.groups]]\ninstruments = ["x"]\nsources = []', "board", "BTC-USD"),
        ('[store]\nurl = "host:1"', "store.url", "expected valkey://host:port"),
        (
            '[exchanges.kraken]\nws_url = "https://a"',
            "exchanges.kraken.ws_url",
            "expected wss://host:port",
        ),
        (
            '[exchanges.kraken]\nrest_url = "https://a:b"',
            "exchanges.kraken.rest_url",
            "expected https://host:port",
        ),
        ("[http", "file", "expected valid TOML"),
        # Of what has names for keys, the name is part of the path, too.
        (
            '[exchanges.kraken]\nsnapshot_ms = "soon"',
            "exchanges.kraken.snapshot_ms",
            "was 'soon', expected `int`, got `str`",
        ),
        (
            "[exchanges.kraken.rest]\nweight = 3",
            "exchanges.kraken.rest",
            "was {'weight': 3}, expected no such key: did you mean rest_url?",
        ),
        (
            f"{LIMIT}weight_max = 0\nwindow_ms = 1000",
            "exchanges.coinbase.limits[0].weight_max",
            "was 0, expected `int` >= 1",
        ),
        (
            f"{LIMIT}weight_max = 1",
            "exchanges.coinbase.limits[0].window_ms",
            "was absent, expected a value",
        ),
        ("[board.lists]\nx = [1]", "board.lists.x[0]", "was 1, expected `str`"),
        ("[board.names]\nx = 1", "board.names.x", "was 1, expected `str`"),
        ("[warm]\nx = 1", "warm.x", "no such key, only url, key, paths, timeout_ms"),
        # A limit that nothing is charged to would hold nothing back.
        (
            LIMIT.replace('"weight"', '"wieght"') + "weight_max = 1\nwindow_ms = 1",
            "exchanges.coinbase.limits[0].name",
            "was 'wieght', expected weight, requests, connect, messages or credits",
        ),
        # Of two of one name, one would not count.
        (
            f"{LIMIT}weight_max = 1\nwindow_ms = 1\n" * 2,
            "exchanges.coinbase.limits",
            "was ['weight', 'weight'], expected different names",
        ),
        (
            "[ingest]\nreconnect_min_ms = 40000",
            "ingest.reconnect_min_ms",
            "at most ingest.reconnect_max_ms, which is 30000",
        ),
        # What is live would seem not to be, between any two marks.
        (
            "[ingest]\nalign_ms = 9000",
            "ingest.align_ms",
            "at most half of ingest.beat_ms, which is 5000",
        ),
        (
            "[exchanges.bitstamp]\nenabled = true",
            "exchanges.bitstamp",
            "was 'bitstamp', expected one of binance",
        ),
    ],
)
def test_a_bad_setting_names_file_key_value_and_what_was_expected(
    written: Path, text: str, key: str, sentence: str
) -> None:
    """The message alone must be enough to mend it."""
    written.write_text(text)
    with pytest.raises(ConfigError) as wrong:
        load(written, environ={})
    assert wrong.value.file == str(written)
    assert wrong.value.key.startswith(key)
    assert sentence in str(wrong.value)


@pytest.mark.parametrize(
    ("variable", "text", "sentence"),
    [
        ("RELAY_READING", "nobody", "was 'nobody', expected open or keys"),
        ("RELAY_KEYS", "foo", "expected NAME:SCOPES:DIGEST"),
        ("RELAY_BOARD", "a b}", "expected 1 to 32 small letters, digits, - and _"),
        ("RELAY_EGRESS", "a b", "expected 1 to 64 letters, digits, and any of"),
        ("RELAY_SIM_URL", "ftp://x", "was 'ftp://x', expected http://host:port"),
    ],
)
def test_a_bad_variable_is_told_in_words(
    variable: str, text: str, sentence: str
) -> None:
    """Who starts a relay need not read patterns, nor settings he has not set."""
    with pytest.raises(ConfigError) as wrong:
        load(environ={variable: text})
    assert wrong.value.file == variable
    assert sentence in str(wrong.value)


def test_a_simulator_that_cannot_be_is_the_options_whose_address_it_is() -> None:
    """Not the fault of a variable that nobody has set."""
    with pytest.raises(ConfigError) as wrong:
        load(environ={}, sim_url="ftp://x")
    assert str(wrong.value).startswith("--sim-url: the simulator's address was 'ftp")


def test_a_choice_among_words_names_them(written: Path) -> None:
    """What there is to choose from is what somebody needs who chose wrongly."""
    limit = 'name = "weight"\nweight_max = 1\nwindow_ms = 1\nkind = "x"\nscope = "key"'
    written.write_text(f"[[exchanges.kraken.limits]]\n{limit}")
    with pytest.raises(ConfigError, match="expected fixed or rolling"):
        load(written, environ={})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A path with a slip in it is the commonest mistake of all."""
    with pytest.raises(ConfigError, match=r"nowhere\.toml: file was 'No such file"):
        load(tmp_path / "nowhere.toml", environ={})


CANARY = "c4n4ry"
DIGEST = "0" * 64


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f'[store]\nurl = "http://u:{CANARY}@h:1"', "store.url"),
        (f'[store]\nurl = "u:{CANARY}@h:1"', "store.url"),
        (f'[store]\nurl = "valkey://h:x?password={CANARY}"', "store.url"),
        (f'[exchanges.kraken]\nrest_url = "ftp://u:{CANARY}@h"', "rest_url"),
        (f'[exchanges]\nkey = "{CANARY}"', "exchanges.key"),
        (f'[doors]\nkeys = ["{CANARY}"]', "doors.keys"),
        (f'[doors]\nkeys = ["shop:read:{CANARY}"]', "doors.keys"),
        (f'[doors]\nkeys = "{CANARY}"', "doors.keys"),
        (f'[doors]\nticket_secrets = "{CANARY}"', "doors.ticket_secrets"),
        (f'[http]\nadmin_key = "{CANARY}"', "http.admin_key"),
    ],
)
def test_what_is_wrong_with_a_secret_is_said_without_it(
    written: Path, text: str, key: str
) -> None:
    """The message goes into logs, and to whoever looks over a shoulder."""
    written.write_text(text)
    with pytest.raises(ConfigError) as wrong:
        load(written, environ={})
    assert key in wrong.value.key
    assert CANARY not in str(wrong.value) + repr(wrong.value)


def test_keys_come_from_a_variable_with_commas_between() -> None:
    """Where a platform has no files."""
    lines = (f"shop:read:{DIGEST}", f"me:read+admin:{DIGEST}")
    environ = {"RELAY_KEYS": ",".join(lines), "RELAY_READING": "keys"}
    doors = load(environ=environ).settings.doors
    assert (doors.reading, doors.keys) == ("keys", lines)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ("", "a key with the scope read"),
        (f"me:admin:{DIGEST}", "a key with the scope read"),
        (f"a:read:{DIGEST},a:read:{DIGEST}", "different names"),
        (f"a:write:{DIGEST}", "with read, admin or read"),
    ],
)
def test_nobody_locks_himself_out(keys: str, sentence: str) -> None:
    """Reading that needs a key needs one that may read; and each has its name."""
    with pytest.raises(ConfigError, match=sentence):
        load(environ={"RELAY_KEYS": keys, "RELAY_READING": "keys"})


def test_what_is_no_secret_is_shown_whole() -> None:
    """Of a key's line all but its digest."""
    assert hide("warm.paths", ("/v1/prices?list=a",)) == ["/v1/prices?list=a"]
    assert hide("board.names", {"basic-attention-token": "BAT"}) == {
        "basic-attention-token": "BAT"
    }
    assert hide("doors.keys", (f"shop:read:{DIGEST}",)) == ["shop:read:…"]
    assert hide("http.port", 1) == 1
