"""A question is spelled the one way that caches share."""

import pytest

from relay.client import question
from relay.client.errors import Refused
from relay.client.question import Wanted, read_url, without_login


def test_the_same_instruments_are_the_same_url() -> None:
    """Whoever asks for them, in whatever order."""
    places = {
        Wanted.of(symbols).place("/v1/prices")
        for symbols in ("ETH-USD,BTC-USD", ["BTC-USD", "ETH-USD"], " BTC-USD , ETH-USD")
    }
    assert places == {"/v1/prices?symbols=BTC-USD,ETH-USD"}


def test_nothing_named_is_the_whole_board() -> None:
    """As on every route."""
    assert Wanted.of(None).place("/v1/stream") == "/v1/stream"
    assert Wanted.of(None, "majors").place("/v1/prices") == "/v1/prices?list=majors"


@pytest.mark.parametrize(
    ("symbols", "of_list", "says"),
    [("", "", "No instrument"), ([], "", "No instrument"), ("BTC", "majors", "Both")],
)
def test_a_selection_that_is_none_is_refused(
    symbols: str | list[str], of_list: str, says: str
) -> None:
    """An empty list must not become the whole board by accident."""
    with pytest.raises(Refused, match=says):
        Wanted.of(symbols, of_list)


def test_what_needs_quoting_is_quoted() -> None:
    """Names may be in any script, and hold a slash."""
    wanted = Wanted.of(["BTC/USD", "币-USDT"], fields=["price"])
    assert wanted.place("/v1/prices", cursor="k.s.1~d") == (
        "/v1/prices?symbols=BTC%2FUSD,%E5%B8%81-USDT&fields=price&cursor=k.s.1~d"
    )


@pytest.mark.parametrize(
    ("wait_s", "wait"), [(20, "20s"), (0.25, "250ms"), (1.5, "1500ms")]
)
def test_a_poll_is_waited_for_longer_than_its_wait(wait_s: float, wait: str) -> None:
    """The answer comes on the grid, after the wait."""
    request = question.poll(Wanted(), "k.s.1", wait_s)
    assert request.place == f"/v1/poll?cursor=k.s.1&wait={wait}"
    assert request.silent_s > wait_s + 1


def test_a_stream_resumes_where_it_was() -> None:
    """As a browser's own EventSource does."""
    wanted = Wanted(("BTC-USD",), every="500ms")
    request = question.stream(wanted, "k.s.1", silent_s=9)
    assert request.place == "/v1/stream?symbols=BTC-USD&every=500ms"
    assert request.headers["last-event-id"] == "k.s.1"
    assert "last-event-id" not in question.stream(wanted, "", silent_s=9).headers


def test_fields_may_be_one_text_as_well() -> None:
    """Whoever writes them like symbols must not ask for single letters."""
    place = Wanted.of(None, fields="price, bid").place("/v1/prices")
    assert place == "/v1/prices?fields=price,bid"
    assert Wanted.of(["BTC"], fields=["bid"]).fields == ("bid",)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "127.0.0.1:8000",
            "ftp://h",
            "http://",
            "h?x=1",
            "http://h?",
            "http://h#a",
        ),
        *("http://[::1", "http://h:x", "http://h:99999", "http://h:0"),
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    """With what one looks like."""
    with pytest.raises(Refused, match=r"http://127\.0\.0\.1:8000"):
        read_url(url)


def test_an_address_is_shown_without_the_password_in_it() -> None:
    """Errors stand in logs, and what is painted on a screen is seen by others."""
    assert without_login("https://me:secret@h.example/a") == "https://…@h.example/a"
    assert without_login("https://h.example/a@b") == "https://h.example/a@b"
    with pytest.raises(Refused) as raised:
        read_url("ftp://me:secret@h")
    assert "secret" not in str(raised.value)


def test_an_address_may_have_a_path() -> None:
    """A gateway may have put the relay there."""
    assert read_url(" https://h.example/relay/ ") == "https://h.example/relay"
