"""What is no request is answered, and little is said of it."""

import asyncio
import logging
from urllib.parse import urlsplit

import pytest

from relay.clock import ManualClock
from relay.config import Settings
from relay.delivery.refused import Seldom, seldom_log
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.live import live
from tests.delivery.plain import plain


def record(level: int = logging.WARNING) -> logging.LogRecord:
    """Return a line for the log."""
    return logging.LogRecord("server", level, "", 0, "no HTTP.", (), None)


def test_a_warning_a_minute_says_how_many_there_were() -> None:
    """A stranger cannot fill a disk with lines."""
    clock = ManualClock()
    seldom = Seldom(clock)
    assert [seldom.filter(record()) for _ in range(4)] == [True, False, False, False]
    clock.advance(60_000)
    later = record()
    assert seldom.filter(later)
    assert later.getMessage() == "no HTTP. And 3 more such since the last line."
    clock.advance(60_000)
    alone = record()
    assert seldom.filter(alone)
    assert alone.getMessage() == "no HTTP."


def test_errors_are_all_said() -> None:
    """They are ours."""
    seldom = Seldom(ManualClock())
    assert all(seldom.filter(record(logging.ERROR)) for _ in range(3))


def test_a_log_is_filtered_once_however_many_servers_there_were() -> None:
    """In one process, one after the other."""
    logs = [seldom_log("relay.tests.refused", ManualClock()) for _ in range(3)]
    assert [len(log.filters) for log in logs] == [1, 1, 1]


async def test_a_flood_of_no_requests_is_one_line(
    client: Client,
    keys: Keys,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And each is answered all the same."""
    with caplog.at_level(logging.INFO, "relay.delivery.server"):
        async with live(client, keys, settings) as behind:
            place = urlsplit(behind.url)
            for _ in range(20):
                reader, writer = await asyncio.open_connection(
                    place.hostname, place.port
                )
                writer.write(b"\x00\x01\x02\r\n\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
                writer.close()
    assert len(caplog.records) == 1
    assert caplog.records[0].name.startswith("relay.")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x00\r\n\r\n", b"400 Bad Request"),
        (
            b"GET / HTTP/1.1\r\nX: %b\r\n" % (b"a" * 90_000),
            b"431 Request Header Fields Too Large",
        ),
    ],
)
async def test_what_is_refused_has_its_date(
    client: Client, keys: Keys, settings: Settings, sent: bytes, status: bytes
) -> None:
    """As every answer that names a mistake of the client's (RFC 9110, 6.6.1)."""
    async with live(client, keys, settings) as relay, plain(relay) as connection:
        connection.writer.write(sent)
        head = await connection.head()
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 " + status
    assert sum(line.startswith(b"date: ") for line in lines) == 1
