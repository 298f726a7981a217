"""The commands as a person calls them: help, and one sentence when it goes wrong."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import relay

COMMANDS = [
    *("up", "serve", "worker", "tick", "warm", "sim", "replay"),
    *("doctor", "top", "status", "check-config", "key"),
]


@pytest.fixture
def taken() -> Iterator[int]:
    """Return a port that somebody else has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    """The example is what people copy."""
    shown = relay(command, "--help")
    assert shown.returncode == 0
    assert "Example:" in shown.stdout
    assert f"relay {command}" in shown.stdout


def test_the_help_names_every_command() -> None:
    """In the order a newcomer needs them."""
    shown = relay("--help").stdout
    places = [shown.index(f" {command} ") for command in COMMANDS]
    assert places == sorted(places)


def test_every_effective_setting_is_shown_with_its_origin(tmp_path: Path) -> None:
    """What is in force is never a guess, and no secret is printed."""
    file = tmp_path / "mine.toml"
    file.write_text("[http]\nport = 9000\n")
    shown = relay(
        "check-config",
        "--config",
        str(file),
        RELAY_COINCAP_KEY="hidden",
        RELAY_VALKEY_URL="valkey://u:hidden@h:1",
    )
    assert shown.returncode == 0
    assert f"http.port = 9000  # {file}" in shown.stdout
    assert "ingest.lease_ms = 10000  # config/default.toml" in shown.stdout
    assert "exchanges.coincap.key" in shown.stdout
    assert "hidden" not in shown.stdout


@pytest.mark.parametrize("command", ["up", "serve", "worker", "tick", "check-config"])
def test_a_bad_setting_is_one_sentence_and_status_2(
    tmp_path: Path, command: str
) -> None:
    """File, key, value, and what was expected."""
    file = tmp_path / "mine.toml"
    file.write_text("[ingest]\nlease_msec = 5\n")
    failed = relay(command, "--config", str(file))
    assert failed.returncode == 2
    sentence = f"{file}: ingest.lease_msec was 5, expected no such key"
    assert sentence in failed.stderr.replace("\n", " ")
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize("command", ["serve", "worker", "tick"])
def test_a_store_that_nobody_named_is_asked_for(command: str) -> None:
    """Half of the relay is nothing without one."""
    failed = relay(command)
    assert failed.returncode == 2
    assert "RELAY_VALKEY_URL" in failed.stderr


@pytest.mark.parametrize("command", ["tick", "up"])
def test_a_store_that_cannot_be_reached_is_named(command: str) -> None:
    """Without its password. Who stays waits for it instead: ``test_start.py``."""
    arguments = ["--port", "0"] if command == "up" else []
    failed = relay(command, *arguments, RELAY_VALKEY_URL="valkey://:secret@127.0.0.1:1")
    assert failed.returncode == 1
    assert "the store at valkey://127.0.0.1:1 cannot be reached" in failed.stderr
    assert "secret" not in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize("command", ["up", "sim"])
def test_a_port_in_use_is_named(command: str, taken: int) -> None:
    """The commonest mistake of all."""
    failed = relay(command, "--port", str(taken))
    assert failed.returncode == 2
    assert str(taken) in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_misspelt_command_is_answered_with_the_one_it_is_like() -> None:
    """As a misspelt option is; what is like nothing gets no guess."""
    failed = relay("statu")
    assert failed.returncode == 2
    assert "No such command 'statu'. Did you mean 'status'?" in failed.stderr
    assert "Did you mean" not in relay("xyzzy").stderr


@pytest.mark.parametrize(
    "option", [("--port", "-1"), ("--rate", "-4"), ("--instruments", "-1")]
)
def test_a_simulator_that_cannot_be_is_not_begun(option: tuple[str, str]) -> None:
    """With the option and what it may be."""
    failed = relay("sim", *option)
    assert failed.returncode == 2
    assert option[0] in failed.stderr
    assert "range" in failed.stderr


@pytest.mark.parametrize("name", ["nowhere.ws", "a.csv", "."])
def test_a_recording_that_is_none_is_said_before_anything_is_begun(
    tmp_path: Path, name: str
) -> None:
    """One sentence, and no progress of nothing."""
    (tmp_path / "a.csv").write_text("")
    failed = relay("replay", str(tmp_path / name))
    assert failed.returncode == 1
    assert failed.stdout == ""
    (line,) = failed.stderr.replace("\n", " ").strip().split("replaying")
    assert line.startswith("relay: ")


def test_an_unknown_exchange_is_answered_with_those_there_are() -> None:
    """In the settings and on the command line."""
    failed = relay("replay", "--exchange", "mtgox", "x.ws")
    assert failed.returncode == 2
    assert "kraken" in failed.stderr


def test_an_exchange_without_an_adapter_is_refused(tmp_path: Path) -> None:
    """A misspelt name must not be read as a new exchange."""
    file = tmp_path / "mine.toml"
    file.write_text('[board]\nsources = ["krakn"]\n')
    failed = relay("check-config", "--config", str(file))
    assert failed.returncode == 2
    assert "krakn" in failed.stderr
    assert "kraken" in failed.stderr


def test_a_file_that_is_no_recording_is_named(tmp_path: Path) -> None:
    """With what is one."""
    file = tmp_path / "a.csv"
    file.write_text("")
    failed = relay("replay", str(file))
    assert failed.returncode == 1
    assert ".jsonl" in failed.stderr
