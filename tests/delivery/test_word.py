"""What the leader said last grows older, whoever reads it."""

from typing import Any

import msgspec
import pytest

from relay.delivery.word import read_word

SAID_MS = 1_763_635_200_000
WORD = {
    "leader": {"as_of_ms": SAID_MS},
    "sources": {
        "kraken": {"alive": True, "age_ms": 100, "reason": "", "shown": 2},
        "coinbase": {"alive": False, "age_ms": None, "reason": "never heard"},
    },
    "streams": {"kraken": [{"state": "open", "since_ms": 5, "error": ""}]},
    "off": {"coincap": "needs a key"},
}


def read(late_ms: int, doubt: str = "", word: object = WORD) -> dict[str, Any]:
    """Return the word as it is read so long after it was said."""
    text = msgspec.Raw(msgspec.json.encode(word))
    sections = read_word(text, SAID_MS + late_ms, doubt=doubt)
    return {name: msgspec.json.decode(one) for name, one in sections.items()}


def test_an_age_grows_from_when_it_was_written() -> None:
    """A leader's last word stays in the store; its sources grow older all the same."""
    kraken = {"alive": True, "age_ms": 400, "reason": "", "shown": 2, "state": "alive"}
    found = read(300)
    assert found["sources"]["kraken"] == kraken
    assert found["sources"]["coinbase"]["state"] == "silent"
    assert found["sources"]["coinbase"]["age_ms"] is None
    assert {name: found[name] for name in ("streams", "off")} == {
        name: WORD[name] for name in ("streams", "off")
    }


def test_a_clock_that_goes_back_makes_nothing_younger() -> None:
    """The store's may be set."""
    assert read(-5000)["sources"]["kraken"]["age_ms"] == 100


@pytest.mark.parametrize(
    ("late_ms", "heard"),
    [(400, "500 ms"), (4900, "5 s"), (180_000, "3 min"), (7_200_000, "2 h")],
)
def test_with_nobody_ingesting_a_source_is_unknown(late_ms: int, heard: str) -> None:
    """Neither alive nor silent: nobody listens."""
    found = read(late_ms, "nobody ingests")
    kraken, coinbase = found["sources"]["kraken"], found["sources"]["coinbase"]
    assert (kraken["alive"], kraken["state"]) == (False, "unknown")
    assert kraken["reason"] == f"nobody ingests; last heard {heard} ago"
    assert kraken["age_ms"] == 100 + late_ms
    assert coinbase["reason"] == "nobody ingests; never heard"
    assert found["streams"]["kraken"][0]["state"] == "unknown"


@pytest.mark.parametrize("word", [[], {"leader": 5}, {"sources": 1}, {"streams": [1]}])
def test_another_versions_word_breaks_nothing(word: object) -> None:
    """What cannot be understood is left out."""
    found = read(5, "nobody ingests", word)
    assert not found.keys() & {"sources", "streams"}


def test_a_word_without_an_instant_stays_as_old_as_it_was() -> None:
    """Nobody can tell by how much."""
    found = read(9000, word={"sources": WORD["sources"]})
    assert found["sources"]["kraken"]["age_ms"] == 100
    assert read_word(msgspec.Raw(b"nonsense"), SAID_MS, doubt="") == {}
