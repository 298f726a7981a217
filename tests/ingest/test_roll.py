"""Which symbols one connection asks for, has, and lacks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ingest.roll import ANSWER_MS, NEVER_MS, Roll, Step


def begun(*symbols: str) -> Roll:
    """Return the roll of a connection that has asked for these at 0."""
    roll = Roll(symbols)
    roll.sent(0)
    return roll


def ask(roll: Roll, now_ms: int) -> tuple[str, ...]:
    """Return what is asked for now, and have it sent at once."""
    step = roll.step(now_ms)
    assert not step.drop
    roll.sent(now_ms)
    return step.add


def test_what_a_connection_begins_with_is_asked_for_already() -> None:
    """The session was made with it."""
    roll = begun("A", "B")
    assert roll.step(0) == Step()
    assert roll.waiting
    roll.grant(["A"])
    assert roll.waiting
    roll.grant(["B"])
    assert not roll.waiting
    assert roll.due_ms() == NEVER_MS


def test_changes_are_asked_for_and_left() -> None:
    """In place: what stays is not touched."""
    roll = begun("A", "B")
    roll.grant(["A", "B"])
    roll.want({"B", "C"})
    assert roll.changed
    assert roll.step(10) == Step(drop=("A",), add=("C",))
    assert not roll.changed
    assert roll.granted == {"B"}


def test_who_is_left_before_the_answer_is_left_all_the_same() -> None:
    """Its subscription is on the way, and would go on for ever."""
    roll = begun("A")
    roll.want(())
    assert roll.step(0) == Step(drop=("A",))
    roll.grant(["A"])
    assert not roll.granted


def test_no_answer_is_asked_again_ever_more_rarely() -> None:
    """Kraken drops subscriptions above its rate and says so at best once."""
    roll = begun("A", "B")
    roll.grant(["A"])
    assert ask(roll, ANSWER_MS - 1) == ()
    asked, now_ms = [], 0
    for _ in range(10):
        now_ms = roll.due_ms()
        asked.append(now_ms)
        assert ask(roll, now_ms) == ("B",)
    waits = [after - before for before, after in zip([0, *asked], asked, strict=False)]
    assert waits == [
        5_000,
        10_000,
        20_000,
        40_000,
        80_000,
        160_000,
        320_000,
        *[600_000] * 3,
    ]


def test_the_time_to_answer_begins_when_the_question_has_left() -> None:
    """Two hundred messages at 300 ms apart take a minute to say."""
    roll = Roll(["A"])
    assert roll.due_ms() == NEVER_MS
    assert roll.step(100_000) == Step()
    roll.sent(100_000)
    assert roll.due_ms() == 100_000 + ANSWER_MS


def test_the_refused_are_given_up() -> None:
    """Whoever is refused is nobody's to ask for again on this connection."""
    roll = begun("A", "B", "C")
    assert roll.refuse(["A", "X"]) == ("A",)
    assert roll.wanted == {"B", "C"}
    roll.grant(["B", "C"])
    assert not roll.waiting
    assert ask(roll, 10**9) == ()


def test_a_culprit_is_found_by_halves() -> None:
    """One bad name fails the whole request, and the answer does not say which."""
    roll = begun("A", "B", "C", "D", "E")
    assert roll.refuse_request() == ()
    asked = []
    lost: tuple[str, ...] = ()
    while half := ask(roll, 1):
        asked.append("".join(half))
        if "D" in half:
            lost += roll.refuse_request()
        else:
            roll.grant(half)
    assert asked == ["AB", "CDE", "C", "DE", "D", "E"]
    assert lost == ("D",)
    assert roll.granted == {"A", "B", "C", "E"}
    assert not roll.waiting


def test_new_symbols_wait_until_the_culprit_is_found() -> None:
    """Otherwise a refusal could be anybody's."""
    roll = begun("A", "B")
    roll.refuse_request()
    roll.want({"A", "B", "C"})
    assert ask(roll, 1) == ("A",)
    roll.grant(["A"])
    assert ask(roll, 2) == ("B",)
    assert roll.refuse_request() == ("B",)
    assert ask(roll, 3) == ("C",)


def test_a_half_without_an_answer_does_not_hold_up_the_rest() -> None:
    """It is asked again in its turn."""
    roll = begun("A", "B")
    roll.refuse_request()
    assert ask(roll, 0) == ("A",)
    assert ask(roll, ANSWER_MS - 1) == ()
    assert ask(roll, ANSWER_MS) == ("B",)
    roll.grant(["B"])
    assert ask(roll, ANSWER_MS + 1) == ("A",)


@pytest.mark.parametrize("named", [(), ("A", "X")])
def test_whoever_is_left_of_a_refused_request_is_asked_for_alone(
    named: tuple[str, ...],
) -> None:
    """Those that were left meanwhile may have been to blame."""
    roll = begun("A", "X")
    roll.want(["A"])
    assert roll.step(1) == Step(drop=("X",))
    assert roll.refuse_request(named) == ()
    assert ask(roll, 2) == ("A",)
    assert roll.refuse_request(("A",) if named else ()) == ("A",)


def test_a_refusal_that_names_its_request_blames_nobody_else() -> None:
    """Several requests are under way at first: those of a hundred names each."""
    roll = begun("A", "B", "C", "D")
    assert roll.refuse_request(["C", "D"]) == ()
    assert ask(roll, 1) == ("C",)
    assert roll.refuse_request(["A"]) == ("A",)
    assert roll.refuse_request(["A", "X"]) == ()
    roll.grant(["C"])
    assert ask(roll, 2) == ("D",)
    assert roll.refuse_request(["D"]) == ("D",)
    assert roll.wanted == {"B", "C"}


def test_who_is_left_out_of_an_acknowledgement_twice_is_given_up() -> None:
    """Once may be a passing state; asking for ever costs messages."""
    roll = begun("A", "B", "C")
    roll.grant(["A"])
    assert roll.omit(["B", "C"]) == ()
    assert roll.omit(["B"]) == (), "one request may be answered twice"
    assert ask(roll, ANSWER_MS) == ("B", "C")
    roll.grant(["C"])
    assert roll.omit(["A", "B", "C", "X"]) == ("B",)
    assert roll.wanted == roll.granted == {"A", "C"}
    assert ask(roll, 10**9) == ()


def test_what_was_heard_of_is_not_given_up() -> None:
    """Its values come, whatever the acknowledgements leave out."""
    roll = begun("A")
    for at_ms in (0, ANSWER_MS):
        roll.grant(["A"])
        assert roll.omit(["A"]) == ()
        assert ask(roll, at_ms) == ()
    assert roll.granted == {"A"}


@given(st.sets(st.sampled_from("ABCDEFGHIJ")), st.sets(st.sampled_from("ABCDEFGHIJ")))
def test_every_culprit_is_found_and_nobody_else(
    symbols: set[str], bad: set[str]
) -> None:
    """However many there are, and wherever they stand."""
    roll = begun(*symbols)
    lost: set[str] = set()
    half = tuple(sorted(symbols))
    rounds = 0
    while half:
        rounds += 1
        if bad.intersection(half):
            lost.update(roll.refuse_request())
        else:
            roll.grant(half)
        half = ask(roll, 1)
    assert lost == symbols & bad
    assert roll.granted == symbols - bad
    assert rounds <= 2 * max(len(symbols), 1)


def test_what_is_renewed_is_left_and_asked_for_in_one_step() -> None:
    """Only what was granted: the rest waits for its answer already."""
    roll = begun("A", "B", "C")
    roll.grant(["A", "B"])
    roll.renew(["A", "C", "X"])
    assert roll.step(10) == Step(drop=("A",), add=("A",))
    assert roll.waiting
    roll.grant(["A", "C"])
    assert not roll.waiting
    assert roll.step(20) == Step()
