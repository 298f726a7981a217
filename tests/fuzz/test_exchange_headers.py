"""Whatever stands in an exchange's headers, it is counted or left alone."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.config import load
from relay.errors import ExchangeError
from relay.exchanges import ADAPTERS, open_adapter
from relay.exchanges.adapter import Answer, Request
from relay.ingest.dial import read_head
from relay.model import read_count

SETTINGS = load(environ={}, sim_url="http://sim").settings
_NAMES = [
    "x-mbx-used-weight-1m",
    "x-mbx-used-weight",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-credits-used",
    "retry-after",
    "age",
    "date",
    "content-type",
]
_VALUES = st.one_of(
    st.integers().map(str),
    st.text(max_size=30),
    st.sampled_from(["10", "9" * 5000, "٣", "²", "nan", "1e400", "-0", "0x10", ""]),
)


@pytest.mark.parametrize("name", sorted(ADAPTERS))
@given(
    headers=st.dictionaries(st.sampled_from(_NAMES), _VALUES),
    status=st.integers(100, 599),
    body=st.one_of(st.just(b"{}"), st.binary(max_size=60)),
)
@example(headers={"x-mbx-used-weight-1m": "9" * 5000}, status=200, body=b"{}")
@example(
    headers={"x-ratelimit-limit": "10", "x-ratelimit-remaining": "9" * 5000},
    status=200,
    body=b"{}",
)
@example(headers={"retry-after": "9" * 5000}, status=429, body=b"{}")
def test_any_headers_are_counted_or_left_alone(
    name: str, headers: dict[str, str], status: int, body: bytes
) -> None:
    """A header is a stranger's text: it may be of thousands of digits."""
    adapter = open_adapter(name, SETTINGS.exchanges[name])
    request = Request(exchange=name, purpose="snapshot", path="/x")
    answer = Answer(
        request=request,
        status=status,
        headers=headers,
        body=body,
        sent_ms=1_763_635_200_000,
        received_ms=1_763_635_200_100,
    )
    for usage in adapter.read_usage(answer):
        assert usage.limit
    failure = adapter.read_failure(answer)
    assert failure is None or isinstance(failure, ExchangeError)


@given(st.text(max_size=40))
@example("9" * 5000)
@example("٣")
@example("-1")
@example("")
def test_any_text_is_a_count_or_none(text: str) -> None:
    """Plain digits, and no more of them than any count of ours has."""
    count = read_count(text)
    assert count is None or f"{count:0{len(text)}d}" == text


@given(st.binary(max_size=200))
@example(b"HTTP/1.1 " + b"9" * 5000 + b" OK")
@example("HTTP/1.1 ² OK".encode("latin-1"))
def test_any_head_of_an_answer_is_read(head: bytes) -> None:
    """What is no HTTP has status 0."""
    status, _ = read_head(head)
    assert status >= 0
