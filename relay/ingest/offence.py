"""What an exchange's no means for all else that is sent to it, and for how long.

No I/O and no clock, and no counting: that is ``budget``'s.
"""

from collections.abc import Iterable
from typing import Final, Literal

from msgspec import Struct

from relay.errors import ExchangeError, RateLimited, Refused

# Repeated offences double the wait up to here: limits are an affair of minutes …
_LIMITED_MAX_MS: Final = 900_000
# … and what a person must see to is looked at again a few times a day.
_REFUSED_MAX_MS: Final = 21_600_000
_DOUBLINGS_MAX: Final = 16

Transport = Literal["rest", "ws"]
"""What an exchange may refuse by itself: REST has limits of its own, streams others."""

# The limits, by their names in the configuration, on what goes over streams.
_OF_STREAMS: Final = ("connect", "messages")


class Cooldown(Struct, frozen=True):
    """The exchange wants to be left alone until then.

    ``offences`` counts those that came one after the other.
    """

    until_ms: int
    reason: str
    offences: int = 1


class Offence(Struct, frozen=True, kw_only=True):
    """An answer that says stop, and for how long.

    ``wait_max_ms`` is how far repetitions may lengthen it; ``transport`` is what it
    stops, None for everything.
    """

    reason: str
    wait_ms: int
    wait_max_ms: int
    transport: Transport | None = None


def transport_of(limits: Iterable[str]) -> Transport:
    """Return what is sent under these limits."""
    return "ws" if any(name in _OF_STREAMS for name in limits) else "rest"


def offence_of(
    error: ExchangeError, *, refused_ms: int, transport: Transport
) -> Offence | None:
    """Return what an error means for all else that is sent to the exchange, if it does.

    A request that was wrong by itself says nothing of the others; a limit that was
    passed over one ``transport`` says nothing of the other, unless the error does.
    """
    if isinstance(error, RateLimited):
        wait_ms, wait_max_ms = error.retry_after_ms, _LIMITED_MAX_MS
    elif isinstance(error, Refused) and error.kind != "request":
        wait_ms, wait_max_ms = refused_ms, _REFUSED_MAX_MS
    else:
        return None
    # The budget's exchange is known to whoever reads this.
    words = str(error).removeprefix(f"{error.exchange} ")
    said = f"HTTP {error.status}, {words}" if error.status else words
    return Offence(
        reason=said,
        wait_ms=wait_ms,
        wait_max_ms=wait_max_ms,
        transport=None if error.everywhere else transport,
    )


def backed_off_ms(offence: Offence, offences: int) -> int:
    """Return how long to stay away after so many offences one after the other.

    Twice as long after each, up to a bound, and never less than was asked for.
    """
    doubled_ms = offence.wait_ms << min(offences - 1, _DOUBLINGS_MAX)
    return max(offence.wait_ms, min(doubled_ms, offence.wait_max_ms))
