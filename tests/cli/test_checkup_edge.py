"""What ``relay doctor --edge`` says of addresses that are no edge, or a poor one."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import pytest

from relay.cli.checkup_edge import EdgeCheckup
from relay.cli.finding import Finding
from relay.clock import Clock
from tests.cli.commands import relay

PRICES = b'{"cursor":"k3f9.7qx.1763635200123","as_of_ms":1,"live":true,"prices":{}}'
STREAM = b":\nretry: 1000\n\n"


@asynccontextmanager
async def standing(answers: Mapping[str, bytes]) -> AsyncIterator[str]:
    """Answer each path with this body, and break off whatever else is asked."""

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].partition(b"?")[0].decode()
            if path in answers:
                length = b"content-length: %d\r\n" % len(answers[path])
                writer.write(b'HTTP/1.1 200 OK\r\netag: "1"\r\nconnection: close\r\n')
                writer.write(length + b"\r\n" + answers[path])
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"


async def check(answers: Mapping[str, bytes]) -> dict[str, Finding]:
    """Return what is found at an address that answers like this."""
    async with standing(answers) as url:
        checkup = EdgeCheckup(url, Clock())
        await checkup.run()
    return {one.check: one for one in checkup.findings}


@pytest.mark.parametrize(
    "body", [b"<html>Sign in</html>", b"[]", b"{}", b'{"cursor":"anything"}', b""]
)
async def test_a_page_in_the_place_of_prices_is_told_as_one(body: bytes) -> None:
    """A hotel's portal says 200 to everything."""
    found = await check({"/v1/prices": body})
    assert found.keys() == {"prices"}
    assert found["prices"].verdict == "wrong"
    assert "portal" in found["prices"].advice


async def test_polls_that_break_off_are_counted_and_the_rest_is_checked() -> None:
    """An edge that cannot hold a request is the very thing to be found."""
    found = await check({"/v1/prices": PRICES, "/v1/stream": STREAM})
    assert found["polls"].verdict == "wrong"
    assert found["polls"].saw == "10 alike, 0 answered"
    assert found["stream"].verdict == "ok"


@pytest.mark.parametrize("status", [None, b"<html>No</html>"])
async def test_an_edge_that_keeps_the_status_to_itself_is_checked_all_the_same(
    status: bytes | None,
) -> None:
    """Only how many polls came through cannot be told."""
    answers = {"/v1/prices": PRICES, "/v1/poll": PRICES, "/v1/stream": STREAM}
    found = await check(
        answers if status is None else {**answers, "/v1/status": status}
    )
    assert found["polls"].verdict == "note"
    assert "10 answered; how many" in found["polls"].saw
    assert "/v1/status" in found["polls"].advice
    assert found["stream"].verdict == "ok"


async def test_nobody_at_the_address_is_said_without_its_password(
    free_tcp_port: int,
) -> None:
    """What is found is handed on to others."""
    checkup = EdgeCheckup(f"http://me:secret@127.0.0.1:{free_tcp_port}", Clock())
    await checkup.run()
    (one,) = checkup.findings
    assert (one.check, one.verdict) == ("reach", "wrong")
    assert "connection refused" in one.saw
    assert "secret" not in one.saw


@pytest.mark.parametrize(
    "command", [("doctor", "--edge"), ("warm", "--url"), ("status", "--url")]
)
@pytest.mark.parametrize("url", ["http://[::1", "http://h:x", "prices.example.org"])
def test_what_is_no_address_is_one_sentence(command: tuple[str, str], url: str) -> None:
    """Before anything is asked of anybody."""
    failed = relay(*command, url)
    assert failed.returncode == 1
    assert f"{url!r} is not a relay's address" in failed.stderr
    assert "Traceback" not in failed.stderr
