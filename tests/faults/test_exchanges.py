"""Exchanges that cut, stall, lie, repeat, reorder and send what nobody can read."""

import pytest

from tests.faults import strikes
from tests.faults.endure import Fault, Strike, endure
from tests.faults.fleet import Fleet
from tests.faults.strikes import exchanges, wire

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

# See ``test_links``: an exchange's silence is shown by age, and as stale later.
SILENT_S = 40.0
RECONNECTED_S = 25.0


def _fault(name: str, strike: Strike, hold_s: float = 3) -> Fault:
    return Fault(
        name=f"exchanges {name}",
        strike=strike,
        hold_s=hold_s,
        within_s=RECONNECTED_S,
        fresh_s=SILENT_S,
    )


FAULTS = [
    _fault("cut", exchanges("cut")),
    _fault("cut in mid-frame", exchanges("cut", "mid-frame")),
    _fault("fall silent", exchanges("silence"), 6),
    _fault("send garbage", exchanges("garbage")),
    _fault("send deeply nested frames", exchanges("garbage", strikes.DEEP, count=20)),
    _fault("send huge frames", exchanges("garbage", strikes.HUGE, count=2)),
    _fault("repeat", exchanges("repeat", 3)),
    _fault("reorder", exchanges("reorder", 6)),
    _fault("are late", exchanges("delay", 2000), 5),
    _fault("lose frames", exchanges("gap", 3)),
    _fault("answer 429", exchanges("status", 429, anew=True, retry_after_s=1), 5),
    _fault("answer 503", exchanges("status", 503, anew=True), 5),
    _fault("refuse", exchanges("refuse", anew=True), 5),
    _fault("do not acknowledge", exchanges("no_ack", anew=True), 5),
    _fault("have a clock 8 s ahead", exchanges("clock", 8_000)),
    _fault("drip byte by byte", wire(drip=True), 5),
    _fault("say more than comes", wire(down=strikes.TOO_LONG), 5),
    _fault("say less than comes", wire(down=strikes.TOO_SHORT), 5),
    _fault("give the wrong encoding", wire(down=strikes.WRONG_ENCODING), 5),
    _fault("send what is not UTF-8", wire(down=strikes.NOT_UTF_8), 5),
    _fault("send messages without end", wire(down=strikes.ENDLESS), 5),
    _fault("send prices below zero", wire(down=strikes.NEGATIVE), 5),
    _fault("contradict each other", strikes.exchange_lies, 5),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_nothing_is_lost_when_exchanges_fail(sound: Fleet, fault: Fault) -> None:
    """What cannot be read is dropped; what can is shown, in its order."""
    await endure(sound, fault)
