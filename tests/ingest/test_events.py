"""The last transitions: what is told of, and what is not news."""

from collections import Counter

import msgspec
import pytest

from relay.exchanges.adapter import Told
from relay.ingest.events import Events, drop_reason

NOW_MS = 1_763_635_200_000
MAINTENANCE = Told("maintenance, as its status says", halts=True)


def words(events: Events) -> list[str]:
    """Return what was noted, oldest first."""
    return [event.what for event in events.last]


def test_saying_the_same_again_is_no_transition() -> None:
    """A source that cannot be reached for an hour must not push out the others."""
    events = Events()
    for _ in range(3):
        events.note("kraken", "not streaming", now_ms=NOW_MS)
    assert words(events) == ["not streaming"]


def test_later_errors_do_not_hide_that_it_is_maintenance() -> None:
    """They all come of it, until the exchange says that it is over."""
    events = Events()
    assert events.tell("kraken", MAINTENANCE, now_ms=NOW_MS)
    assert not events.tell("kraken", MAINTENANCE, now_ms=NOW_MS)
    events.note("kraken", "not streaming: HTTP 503", now_ms=NOW_MS)
    events.note("kraken rest", "EService:Unavailable", now_ms=NOW_MS)
    events.note("binance", "streaming", now_ms=NOW_MS)
    assert events.tell("kraken", Told(), now_ms=NOW_MS)
    events.note("kraken", "streaming", now_ms=NOW_MS)
    assert words(events) == [
        "maintenance, as its status says",
        "streaming",
        "online again",
        "streaming",
    ]


def test_a_note_of_a_source_that_goes_on_hides_nothing() -> None:
    """Prices flow while nobody may place an order."""
    events = Events()
    events.tell("kraken", Told("post_only, as its status says"), now_ms=NOW_MS)
    events.note("kraken", "not streaming", now_ms=NOW_MS)
    assert words(events) == ["post_only, as its status says", "not streaming"]


def test_all_being_well_from_the_beginning_is_not_told() -> None:
    """Every connection is greeted with it."""
    events = Events()
    assert not events.tell("kraken", Told(), now_ms=NOW_MS)
    assert words(events) == []


def test_a_new_leader_begins_with_what_the_last_one_noted() -> None:
    """What led to the takeover is what somebody wants to know just then."""
    old, new = Events(), Events()
    old.moved("kraken", "nothing was heard for 30 s: 12 instruments from coinbase",
              now_ms=NOW_MS)  # fmt: skip
    new.restore(msgspec.json.encode({"leader": {}, "events": list(old.last)}))
    new.note("kraken", "streaming", now_ms=NOW_MS + 1)
    assert words(new) == [*words(old), "streaming"]
    for number in range(100):
        new.moved("kraken", f"{number} instruments from coinbase", now_ms=NOW_MS)
    assert len(new.last) == 20


@pytest.mark.parametrize("health", [b"{}", b"", b"5", b'{"events":[{}]}', b"\xff"])
def test_what_cannot_be_read_is_no_beginning(health: bytes) -> None:
    """Another version may have written it."""
    events = Events()
    events.restore(health)
    assert words(events) == []


def test_a_source_that_says_why_it_stopped_is_left_all_the_same() -> None:
    """Maintenance hides errors, and not whose prices are shown."""
    events = Events()
    events.tell("kraken", MAINTENANCE, now_ms=NOW_MS)
    events.moved("kraken", "maintenance: 2 instruments from coinbase", now_ms=NOW_MS)
    assert words(events)[-1] == "maintenance: 2 instruments from coinbase"


def test_an_exchange_cannot_fill_the_store_with_its_mistakes() -> None:
    """Each frame may be wrong in words of its own, or at another of its bytes."""
    drops: Counter[tuple[str, str]] = Counter()
    for number in range(1_000):
        reason = drop_reason(drops, "toy", f"stream: bad byte {number}" + "x" * 5_000)
        drops["toy", reason] += 1
    assert drop_reason(drops, "other", "frame: binary") == "frame: binary"
    assert drop_reason(drops, "toy", next(iter(drops))[1]) == next(iter(drops))[1]
    assert len(drops) == 51
    assert drops["toy", "other frames nobody can read"] == 950
    assert max(len(reason) for _, reason in drops) == 120
