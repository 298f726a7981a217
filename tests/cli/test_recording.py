"""Reading recordings: every format, and files that are none."""

import gzip
from pathlib import Path

import pytest

from relay.cli.recording import (
    Answered,
    EndsEarly,
    Received,
    RecordingError,
    Unreadable,
    read,
    size,
)


def _write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(
        gzip.compress(text.encode()) if name.endswith(".gz") else text.encode()
    )
    return path


@pytest.mark.parametrize("name", ["a.ws", "a.ws.gz"])
def test_a_capture_gives_its_frames(tmp_path: Path, name: str) -> None:
    """What was sent is not received; a frame may hold the separator itself."""
    text = (
        "wss://h/p?a=b <-> 1633998511.159679\n"
        'wss://h/p?a=b <- 1633998512.1: {"sent": 1}\n'
        '1633998512.0633569: {"a": 1}\n'
        "1633998513: x: y\n"
        "nonsense\n"
        "\n"
    )
    path = _write(tmp_path, name, text)
    assert list(read(path)) == [
        Received("wss://h/p?a=b", 1633998512063, b'{"a": 1}'),
        Received("wss://h/p?a=b", 1633998513000, b"x: y"),
        Unreadable(5),
    ]
    assert size(path) == 6


def test_a_rest_capture_gives_its_answers(tmp_path: Path) -> None:
    """The recorder's own last line is skipped."""
    text = 'https://h/p -> 12.5: {"a": 1}\nconfiguration: {}\nbroken\n'
    path = _write(tmp_path, "a.rest", text)
    assert list(read(path)) == [
        Answered("https://h/p", 12500, b'{"a": 1}'),
        Unreadable(3),
    ]


def test_a_cassette_gives_status_and_headers(tmp_path: Path) -> None:
    """A limit that was reached is in the recording as well."""
    line = (
        '{"cassette":"c","recorded_at":"Thu, 22 Aug 2019 03:38:26 GMT",'
        '"request":{"method":"GET","url":"https://h/p","headers":{}},'
        '"response":{"status":429,"reason":"no","headers":{"retry-after":["5"]},'
        '"body":"{}"}}'
    )
    path = _write(tmp_path, "a.jsonl", f"{line}\n\n{{}}\n")
    assert list(read(path)) == [
        Answered("https://h/p", 1566445106000, b"{}", 429, {"retry-after": "5"}),
        Unreadable(3),
    ]


def test_a_fixture_of_a_socket_gives_what_was_received(tmp_path: Path) -> None:
    """Answers and pushed messages, over as many lines as they take."""
    path = _write(tmp_path, "a.txt", '> {"s":1}\n< {"ack":1}\n=\n{\n  "a": 1\n}\n')
    assert list(read(path)) == [
        Received("", 0, b'{"ack":1}'),
        Received("", 0, b'{\n  "a": 1\n}'),
    ]


def test_a_fixture_of_a_request_gives_its_answer(tmp_path: Path) -> None:
    """Method, path, whether a key is needed, and the body."""
    path = _write(tmp_path, "a.txt", 'GET\n/api/v3/ping\nfalse\n{\n"a":1}')
    assert list(read(path)) == [Answered("/api/v3/ping", 0, b'{\n"a":1}')]


def test_one_body_is_one_item(tmp_path: Path) -> None:
    """Nobody wrote down when or from where."""
    path = _write(tmp_path, "a.json", '{\n"a":1}')
    assert list(read(path)) == [Received("", 0, b'{\n"a":1}')]


@pytest.mark.parametrize("name", ["a.csv", "a", "a.gz"])
def test_a_file_of_another_kind_says_which_are_read(tmp_path: Path, name: str) -> None:
    """The error is the manual."""
    path = _write(tmp_path, name, "")
    with pytest.raises(RecordingError, match=r"\.ws, \.rest, \.jsonl, \.txt, \.json"):
        list(read(path))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Gone, cut off in the middle of its compression, or not compressed at all."""
    with pytest.raises(RecordingError, match=r"a\.ws: No such file"):
        list(read(tmp_path / "a.ws"))
    cut = tmp_path / "b.ws.gz"
    cut.write_bytes(gzip.compress(b"1: x\n" * 1000)[:30])
    with pytest.raises(EndsEarly, match=r"b\.ws\.gz: the file ends early"):
        list(read(cut))
    cut.write_bytes(b"1: x")
    with pytest.raises(RecordingError, match=r"b\.ws\.gz: Not a gzipped file"):
        size(cut)
