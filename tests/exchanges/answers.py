"""What the tests of adapters lean on: settings of an exchange, answers to requests."""

from collections.abc import Mapping, Sequence

from hypothesis import strategies as st

from relay.config import Exchange, load
from relay.exchanges.adapter import Answer, Request

SENT_MS = 1_763_635_200_000
"""When every answer's request was sent; it came back 40 ms later."""


def settings_of(exchange: str) -> Exchange:
    """Return an exchange's settings as they come."""
    return load(environ={}).settings.exchanges[exchange]


def answer_to(
    request: Request,
    body: bytes | str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    age_ms: int = 0,
) -> Answer:
    """Return what an exchange may answer to a request."""
    return Answer(
        request=request,
        status=status,
        headers=headers or {},
        body=body.encode() if isinstance(body, str) else body,
        sent_ms=SENT_MS,
        received_ms=SENT_MS + 40,
        age_ms=age_ms,
    )


_PIECES = (b"", b"null", b"[]", b"{}", b'""', b'"x"', b"-1", b"1e999999999", b"0", b"[")


@st.composite
def mangled(draw: st.DrawFn, frames: Sequence[bytes]) -> bytes:
    """Draw a frame with a piece cut out and another one put into its place."""
    frame = draw(st.sampled_from(frames))
    start = draw(st.integers(0, len(frame)))
    end = draw(st.integers(start, min(len(frame), start + 40)))
    piece = draw(st.sampled_from(_PIECES) | st.binary(max_size=8))
    return frame[:start] + piece + frame[end:]
