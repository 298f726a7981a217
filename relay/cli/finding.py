"""What a checkup found, one line each. No checks here: those are in ``checkup_…``."""

from typing import Literal

from msgspec import Struct

from relay.errors import ExchangeDown, ExchangeError, FrameError, RateLimited, Refused

Verdict = Literal["ok", "wrong", "note"]


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that was tried.

    ``saw`` is what came of it; ``advice`` what to do, empty where nothing is to be
    done. A ``note`` is worth knowing and nothing wrong.
    """

    subject: str
    check: str
    verdict: Verdict
    saw: str
    advice: str = ""
    took_ms: int = 0


def advise(name: str, error: ExchangeError) -> str:
    """Say what to do about an exchange's failure."""
    prefix = f"RELAY_{name.upper().replace('-', '_')}"
    if isinstance(error, Refused):
        return error.advice
    if isinstance(error, RateLimited):
        wait_s = error.retry_after_ms / 1000
        return (
            f"wait {wait_s:.0f} s and try again; if it stays so, somebody else uses "
            "this address or key: give it a name of its own (RELAY_EGRESS) or a plan"
        )
    if isinstance(error, FrameError):
        return "the exchange writes something new: update the relay"
    assert isinstance(error, ExchangeDown), "there are no other kinds"
    if "resolved" in error.cause:
        return (
            f"look at this machine's DNS, or set {prefix}_REST_URL and {prefix}_WS_URL"
        )
    if "certificate" in error.cause:
        return "install the proxy's certificate and name it in SSL_CERT_FILE"
    return f"look at the firewall and at the exchange's own status page; a proxy or a regional twin goes into {prefix}_REST_URL and {prefix}_WS_URL"  # noqa: E501 - a sentence for people
