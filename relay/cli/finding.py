"""What a checkup found, one line each. No checks here: those are in ``checkup_…``."""

from typing import Final, Literal

from msgspec import Struct

from relay.errors import (
    ExchangeDown,
    ExchangeError,
    FrameError,
    LeftAlone,
    RateLimited,
    Refused,
    Spent,
)

Verdict = Literal["ok", "wrong", "note", "held"]


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that was tried.

    ``saw`` is what came of it; ``advice`` what to do, empty where nothing is to be
    done. A ``note`` is worth knowing and nothing wrong; what is ``held`` was not tried,
    and nobody knows whether it works.
    """

    subject: str
    check: str
    verdict: Verdict
    saw: str
    advice: str = ""
    took_ms: int = 0


# What to do about a failure, by words of its cause; the first that fits counts.
_REMEDIES: Final = {
    "resolved": "look at this machine's DNS, or set {urls}",
    "certificate": "install the proxy's certificate and name it in SSL_CERT_FILE",
    "TLS": (
        "what answers there does not speak TLS as it should: is a proxy in between, or"
        " is http meant instead of https in {urls}?"
    ),
    "not JSON": (
        "something else answers in its place (a portal, a proxy's or a firewall's"
        " page): open the address in a browser, and look at {urls}"
    ),
    "empty": (
        "it lists nothing that trades: look at its own status page, and whether it is"
        " really its address that stands in {urls}"
    ),
    "HTTP 5": (
        "it is in trouble or in maintenance: look at its own status page, and try"
        " again later"
    ),
    "no price": (
        "it connects, and nothing comes: give it longer (--wait), and look for a proxy"
        " that holds WebSockets back"
    ),
    "timed out": (
        "it is slow, or a firewall swallows what is sent: where it is only slow, raise"
        " ingest.request_timeout_ms"
    ),
}
_OTHERWISE: Final = (
    "look at the firewall and at the exchange's own status page; a proxy or a regional"
    " twin goes into {urls}"
)


def advise(name: str, error: ExchangeError, *, streams: bool) -> str:
    """Say what to do about an exchange's failure; not all have a stream's address."""
    if isinstance(error, Refused):
        return error.advice
    if isinstance(error, RateLimited):
        return _advise_to_wait(error)
    if isinstance(error, FrameError):
        return "the exchange writes something new: update the relay"
    assert isinstance(error, ExchangeDown), "there are no other kinds"
    prefix = f"RELAY_{name.upper().replace('-', '_')}"
    words = (remedy for cause, remedy in _REMEDIES.items() if cause in error.cause)
    urls = f"{prefix}_REST_URL" + (f" and {prefix}_WS_URL" if streams else "")
    return next(words, _OTHERWISE).format(urls=urls)


def _advise_to_wait(error: RateLimited) -> str:
    """Say for how long, and who it was that has asked too much, as far as we know."""
    wait = f"wait {-(-error.retry_after_ms // 1000)} s and try again"
    if isinstance(error, Spent):
        return (
            f"{wait}: nothing is wrong, the relay's own budget holds, which all that"
            " share its store and RELAY_EGRESS spend from"
        )
    if isinstance(error, LeftAlone):
        return f"{wait}: it has asked for that, and the relay keeps to it"
    return (
        f"{wait}; if it stays so, somebody else reads by the same address or key: use"
        " one of your own, and name an address in RELAY_EGRESS"
    )


def seen(name: str, error: ExchangeError) -> str:
    """Say what was seen of a failure, without the name and the advice beside it."""
    said = str(error).removeprefix(f"{name} ")
    if isinstance(error, Refused):
        said = said.removesuffix(f": {error.advice}")
    return said
