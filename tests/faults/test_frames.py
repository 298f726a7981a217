"""WebSocket clients that break the protocol, byte by byte, at a real instance."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from relay.config import Settings
from relay.store.keys import Keys
from tests.edge.stage import Stage, stage
from tests.faults.strangers import ANSWER_S, Door, say, statuses
from tests.harness import open_client

pytestmark = pytest.mark.timeout(90)

_HANDSHAKE = (
    b"GET /v1/ws HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%b\r\n"
)
_DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
FIN, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MESSAGE_MAX = 65_536


def frame(first: int, payload: bytes = b"", *, mask: bool = True) -> bytes:
    """Return one frame of a client's; with zeros for a mask it reads as it was."""
    size = len(payload)
    bit = 0x80 if mask else 0
    if size < 126:
        head = bytes((first, bit | size))
    elif size < 1 << 16:
        head = bytes((first, bit | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, bit | 127)) + size.to_bytes(8, "big")
    return head + (b"\0\0\0\0" if mask else b"") + payload


def _squeezed(octets: bytes) -> bytes:
    squeeze = zlib.compressobj(9, wbits=-12)
    return (squeeze.compress(octets) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]


_HUGE = b"\x81\xff\x3f" + b"\xff" * 7 + b"\0\0\0\0"
_NEGATIVE = b"\x81\xff" + b"\xff" * 8 + b"\0\0\0\0"

# What is sent, and the code that the connection is closed with (RFC 6455, 7.4.1).
ERRORS = {
    "RSV1 without an extension": (frame(FIN | RSV1 | TEXT, b"x"), 1002),
    "RSV2": (frame(FIN | RSV2 | TEXT, b"x"), 1002),
    "RSV3": (frame(FIN | RSV3 | TEXT, b"x"), 1002),
    "opcode 3": (frame(FIN | 3, b"x"), 1002),
    "opcode 11": (frame(FIN | 11), 1002),
    "not masked": (frame(FIN | TEXT, b"x", mask=False), 1002),
    "a ping in parts": (frame(PING, b"x"), 1002),
    "a long ping": (frame(FIN | PING, b"x" * 126), 1002),
    "a part of nothing": (frame(FIN | CONT, b"x"), 1002),
    "a message in a message": (frame(TEXT, b"x") + frame(FIN | TEXT, b"x"), 1002),
    "not UTF-8": (frame(FIN | TEXT, b"\xc3\x28"), 1007),
    "a surrogate": (frame(FIN | TEXT, b"\xed\xa0\x80"), 1007),
    "not UTF-8, in parts": (frame(TEXT, b"\xc3") + frame(FIN | CONT, b"("), 1007),
    "half a close": (frame(FIN | CLOSE, b"\x03"), 1002),
    "a close without a meaning": (frame(FIN | CLOSE, b"\x03\xe7"), 1002),
    "a close that is never sent": (frame(FIN | CLOSE, b"\x03\xed"), 1002),
    "a reason not UTF-8": (frame(FIN | CLOSE, b"\x03\xe8\xff"), 1007),
    "a length of exabytes": (_HUGE, 1009),
    "a length below zero": (_NEGATIVE, 1009),
    "a message too large": (frame(FIN | TEXT, b"x" * (MESSAGE_MAX + 1)), 1009),
    "parts too large": (
        frame(TEXT, b"x" * MESSAGE_MAX) + frame(FIN | CONT, b"x"),
        1009,
    ),
}
# What would go on for ever; a client that writes on may not hear why it was cut off.
FLOODS = {
    "pings": (frame(FIN | PING, b"x" * 125), 1008),
    "pongs": (frame(FIN | PONG), 1008),
    "parts": (frame(CONT), 1008),
    "messages": (frame(FIN | TEXT, b"ping"), 1008),
}
SQUEEZED = {
    "a bomb": (frame(FIN | RSV1 | TEXT, _squeezed(b" " * (50 << 20))), 1009),
    "no deflate": (frame(FIN | RSV1 | TEXT, b"\xff" * 50), 1002),
    "squeezed parts": (
        frame(RSV1 | TEXT, _squeezed(b" ")) + frame(FIN | RSV1 | CONT, b"x"),
        1002,
    ),
}


@pytest.fixture(scope="module")
async def stand(valkey_url: str, settings: Settings) -> AsyncIterator[Stage]:
    """Run instances for all errors; none of these is worth a trace in the log."""
    async with (
        open_client(valkey_url, settings) as client,
        stage(client, Keys("frames"), valkey_url) as stand,
    ):
        yield stand
        said = [line for one in stand.instances for line in one.process.said]
        assert not [line for line in said if "Traceback" in line], "\n".join(said)


@pytest.fixture
def door(stand: Stage) -> Door:
    """Return where one instance listens."""
    parts = urlsplit(stand.urls[0])
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


async def _closed_with(door: Door, octets: bytes, extensions: bytes = b"") -> int:
    """Shake hands, send, and read to the end; returns the close's code, 0 for a cut."""
    reader, writer = await asyncio.open_connection(*door)
    try:
        async with asyncio.timeout(ANSWER_S):
            writer.write(_HANDSHAKE % extensions)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101"), head
            writer.write(octets)
            return await _read_to_close(reader)
    except ConnectionResetError:
        return 0
    finally:
        writer.transport.abort()


async def _read_to_close(reader: asyncio.StreamReader) -> int:
    while True:
        first, size = await reader.readexactly(2)
        if size == 126:
            size = int.from_bytes(await reader.readexactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await reader.readexactly(8), "big")
        payload = await reader.readexactly(size)
        if first == FIN | CLOSE:
            return int.from_bytes(payload[:2], "big")


async def _is_well(door: Door) -> bool:
    heard = await say(door, b"GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n")
    return statuses(heard) == [200]


@pytest.mark.parametrize("name", ERRORS)
async def test_an_error_closes_the_connection_with_its_code(
    door: Door, name: str
) -> None:
    """Whoever breaks the protocol is told how, and nobody else feels it."""
    octets, code = ERRORS[name]
    assert await _closed_with(door, octets) == code
    assert await _is_well(door)


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_is_cut_off(door: Door, name: str) -> None:
    """Frames cost us more than they cost a client, messages or not."""
    octets, code = FLOODS[name]
    flood = frame(TEXT) + octets if octets == frame(CONT) else octets
    assert await _closed_with(door, flood + octets * 20_000) in (0, code)
    assert await _is_well(door)


@pytest.mark.parametrize("name", SQUEEZED)
async def test_what_is_squeezed_wrongly_is_an_error_as_well(
    door: Door, name: str
) -> None:
    """A bomb is defused at the size of a message."""
    octets, code = SQUEEZED[name]
    assert await _closed_with(door, octets, _DEFLATE) == code
    assert await _is_well(door)
