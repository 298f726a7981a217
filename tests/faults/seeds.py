"""Seeds of runs that have failed, each with what was wrong; they are run again.

A seed decides the market, whom a fault strikes, and the order of faults.
"""

from typing import Final

from msgspec import Struct


class Kept(Struct, frozen=True):
    """The seed of a run in which a fault was not survived, and what was mended."""

    seed: int
    fault: str
    mended: str


KEPT: Final = (
    Kept(
        2,
        "exchanges have a clock 8 s ahead",
        "nothing was believed of an exchange whose clock was set right",
    ),
    Kept(4, "leader / store, refused", "a write to a closed socket ended the worker"),
    Kept(4, "server / store, refused", "a read was answered 500"),
    Kept(
        4,
        "clients / server, dark",
        "the promise left out how long a network may hold back what it passes on",
    ),
    Kept(
        11,
        "store restored, leader dead",
        "reads stepped back to rows of the older copy, and events with them",
    ),
)

ORDERS: Final = {
    77: "a leader had to connect while the store had forgotten what was spent",
}
"""The same of faults in any order, by seed."""
