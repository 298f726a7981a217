"""What a stranger may write at a door: requests that mean two things, and none at all.

What must become of each stands in ``test_strangers``.
"""

import asyncio
import re
from typing import Final

from msgspec import Struct

Door = tuple[str, int]

ANSWER_S: Final = 20
"""For one answer, on a machine that does other things besides."""
# For whatever else a door might still say.
_QUIET_S: Final = 0.1

SMUGGLED: Final = b"GET /v1/symbols HTTP/1.1\r\nHost: relay\r\n\r\n"
"""What nobody may have answered who has hidden it in another request."""

_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})")


class Trick(Struct, frozen=True):
    """A request, and how often it may be answered with success."""

    name: str
    octets: bytes
    good: int = 0


def _get(*lines: bytes, path: bytes = b"/healthz") -> bytes:
    head = b"\r\n".join((b"GET %b HTTP/1.1" % path, b"Host: relay", *lines))
    return head + b"\r\n\r\n"


def _post(*lines: bytes, body: bytes) -> bytes:
    head = (b"POST /v1/value HTTP/1.1", b"Host: relay", *lines)
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def _chunk(octets: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(octets), octets)


def _length(octets: bytes) -> bytes:
    return b"Content-Length: %d" % len(octets)


_CHUNKED: Final = b"Transfer-Encoding: chunked"
_ENDED: Final = b"0\r\n\r\n" + SMUGGLED

TRICKS: Final = [
    # Two lengths, of which each side may believe another.
    Trick("CL.TE", _post(_length(_ENDED), _CHUNKED, body=_ENDED)),
    Trick("TE.CL", _post(_CHUNKED, b"Content-Length: 4", body=_chunk(SMUGGLED))),
    Trick("CL.CL", _post(b"Content-Length: 0", _length(SMUGGLED), body=SMUGGLED)),
    Trick("CL, CL", _post(b"Content-Length: 0, 43", body=SMUGGLED)),
    *(
        Trick(f"TE {one!r}", _post(_length(_ENDED), one, body=_ENDED))
        for one in (
            b"Transfer-Encoding: xchunked",
            b"Transfer-Encoding : chunked",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            b"Transfer-Encoding: identity, chunked",
            b"Transfer-Encoding:\x0bchunked",
            b"Transfer-Encoding:\r\n chunked",
            b"X: x\nTransfer-Encoding: chunked",
            b"Transfer\x00-Encoding: chunked",
        )
    ),
    *(
        Trick(f"length {one!r}", _post(b"Content-Length: " + one, body=SMUGGLED))
        for one in (b"+0", b"-1", b"0x0", b"0 43", b"\xd9\xa0", b"9" * 30, b"")
    ),
    *(
        Trick(f"chunk {one!r}", _post(_CHUNKED, body=one + b"\r\n" + SMUGGLED))
        for one in (b"F" * 17, b"-1", b"0x0", b"", b"1;" + b"x" * 70_000)
    ),
    # A body is no request, where none was expected either.
    Trick("GET with a body", _get(_length(SMUGGLED)) + SMUGGLED, good=1),
    Trick("GET with chunks", _get(_CHUNKED) + _chunk(SMUGGLED), good=1),
    # What only looks like a head.
    Trick("NUL in a value", _get(b"X: a\x00b")),
    Trick("CR in a value", _get(b"X: a\rGET /v1/symbols HTTP/1.1")),
    Trick("a name with a space", _get(b"X y: a")),
    Trick("a name with nothing", _get(b": a")),
    # Some doors pass over these, which is as good.
    Trick("a line without a colon", _get(b"nothing"), good=1),
    Trick("a space before the first line", b" " + _get(), good=1),
    Trick("two spaces in the first line", _get(path=b" /healthz"), good=1),
    Trick("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64),
    Trick("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    Trick("HTTP/9.9", b"GET /healthz HTTP/9.9\r\nHost: relay\r\n\r\n"),
    Trick("a method of our own", b"SMUGGLE / HTTP/1.1\r\nHost: relay\r\n\r\n"),
    Trick("CONNECT", b"CONNECT relay:80 HTTP/1.1\r\nHost: relay\r\n\r\n"),
    Trick("TRACE", b"TRACE / HTTP/1.1\r\nHost: relay\r\nCookie: secret\r\n\r\n"),
    # Places that are none.
    *(
        Trick(f"path {one[:30]!r}", _get(path=one))
        for one in (
            b"//evil.example/%2e%2e",
            b"/\\evil.example//",
            b"///%5cevil.example",
            b"/%09/evil.example//",
            b"/dashboard/../../config/default.toml",
            b"/dashboard/..%2f..%2fconfig%2fdefault.toml",
            b"/dashboard/%2e%2e/%2e%2e/pyproject.toml",
            b"/dashboard//etc/passwd",
            b"/v1/prices/%00",
            b"/v1/prices/%0d%0aSet-Cookie:%20a=b",
            b"/v1/prices/evil%0aINFO%20evil%1b%5b31m",
            b"/evil%0aINFO%20evil%1b%5b31m%e2%80%ae",
            b"/v1/prices\xff",
            b"/" + b"a" * 200_000,
            b"/v1/prices?symbols=" + b"BTC-USD," * 4_000,
            b"/v1/prices?cursor=%0d%0aSet-Cookie:%20a=b",
        )
    ),
    # Headers without an end.
    Trick("a huge header", _get(b"X: " + b"a" * 400_000)),
    Trick("many headers", _get(*(b"X%d: a" % n for n in range(40_000)))),
]

# Not in the key of any cache; each names what would be seen if it had an effect.
UNKEYED: Final = [
    (b"X-Forwarded-Host", b"evil.example"),
    (b"X-Forwarded-Proto", b"evil"),
    (b"X-Forwarded-Prefix", b"/evil"),
    (b"X-Original-URL", b"/v1/symbols"),
    (b"X-Rewrite-URL", b"/v1/symbols"),
    (b"X-HTTP-Method-Override", b"DELETE"),
    (b"X-Method-Override", b"POST"),
    (b"Forwarded", b"for=evil.example;host=evil.example"),
    (b"Origin", b"https://evil.example"),
    (b"Referer", b"https://evil.example"),
    (b"Range", b"bytes=0-3"),
    (b"If-Range", b'"evil"'),
    (b"If-Match", b'"evil"'),
    (b"If-Modified-Since", b"Fri, 31 Dec 9999 23:59:59 GMT"),
    (b"If-None-Match", b"*"),
    (b"Accept", b"text/evil"),
    (b"Accept-Language", b"evil"),
    (b"Accept-Encoding", b"evil, gzip;q=9"),
    (b"Cookie", b"evil=1"),
    (b"Cache-Control", b"no-cache"),
    (b"Pragma", b"no-cache"),
    (b"Last-Event-ID", b"evil"),
    (b"X-Any-Age", b"1"),
    (b"Connection", b"close, X-Forwarded-For, Host"),
    (b"TE", b"trailers"),
    (b"Expect", b"evil"),
]


async def say(door: Door, octets: bytes, *, more: bytes = b"") -> bytes:
    """Write something, and return everything that is said to it.

    ``more`` is written on the same connection when the first has been answered.
    """
    reader, writer = await asyncio.open_connection(*door)
    try:
        heard = await _exchange(reader, writer, octets)
        if more:
            heard += await _exchange(reader, writer, more)
    except OSError:
        return b""  # cut off in the middle of it: as good an answer as any
    else:
        return heard
    finally:
        writer.transport.abort()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, octets: bytes
) -> bytes:
    writer.write(octets)
    # A door that has refused already reads no more of it.
    heard = b""
    async with asyncio.timeout(ANSWER_S):
        heard = await reader.read(65_536)
    while heard:
        try:
            async with asyncio.timeout(_QUIET_S):
                chunk = await reader.read(65_536)
        except TimeoutError:
            break
        if not chunk:
            break
        heard += chunk
    return heard


def statuses(heard: bytes) -> list[int]:
    """Return the status of every answer in what was heard."""
    return [int(one) for one in _STATUS.findall(heard)]
