"""The page: it stands at both places and asks for nothing from elsewhere."""

import re

import pytest

from relay.simulator.page import PAGE
from tests.simulator.driver import Port


@pytest.mark.parametrize("path", ["/", "/_sim", "/_sim/"])
async def test_the_page_is_where_a_person_looks(port: Port, path: str) -> None:
    """At the root as well, since that is what a browser opens first."""
    async with port.http.get(port.simulator.url + path) as answer:
        assert answer.content_type == "text/html"
        assert "Exchange simulator" in await answer.text()


def test_the_page_asks_for_nothing_from_elsewhere() -> None:
    """It has to work without any network but this port."""
    assert "//" not in re.sub(r"data:,|//.*$", "", PAGE, flags=re.MULTILINE)
    assert not re.findall(r"(?:src|href)=\"(?!data:)", PAGE)
    assert not re.findall(r"https?:", PAGE)


def test_the_page_is_for_phones_and_for_the_night() -> None:
    """Light and dark, and no wider than the screen."""
    assert "prefers-color-scheme: dark" in PAGE
    assert "width=device-width" in PAGE
