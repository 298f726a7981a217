"""What an error means to a client: its status, what is said of it, and its headers.

Pure. Two tables; whoever answers an error asks here, so that each is answered alike.
"""

from typing import Final

from litestar.exceptions import (
    ClientException,
    MethodNotAllowedException,
    NotFoundException,
)
from msgspec import Struct

from relay.delivery.bodies import Fault
from relay.delivery.doors import Locked
from relay.delivery.gate import TooMany
from relay.errors import RequestError, StoreDown
from relay.hub import Unready


class Rule(Struct, frozen=True):
    """How an error is answered. Without a sentence the error brings its own words."""

    status: int
    code: str = ""
    sentence: str = ""
    hint: str = ""


# Errors of ours and of the router. The class nearest to the error's own counts.
RULES: Final[dict[type[Exception], Rule]] = {
    RequestError: Rule(400),
    Unready: Rule(
        503, hint="Ask another instance, or this one again after Retry-After seconds."
    ),
    TooMany: Rule(429, hint="Ask less often, or again after Retry-After seconds."),
    StoreDown: Rule(
        503,
        "store_down",
        "The store cannot be reached, and nothing is held here.",
        "Ask again after Retry-After seconds.",
    ),
    NotFoundException: Rule(
        404, "not_found", "There is nothing at this address.", "See /docs."
    ),
    MethodNotAllowedException: Rule(
        405,
        "method_not_allowed",
        "This address does not take this method.",
        "The Allow header says which it takes.",
    ),
    ClientException: Rule(
        400, "request_invalid", "The request cannot be read.", "See /docs."
    ),
    Exception: Rule(
        500, "internal", "Something went wrong here.", "Ask again in a moment."
    ),
}
# The codes of a RequestError that have a status of their own.
STATUS_OF_CODE: Final = {
    "body_too_large": 413,
    "forbidden": 403,
    "key_missing": 401,
    "key_unknown": 401,
    "price_unknown": 404,
    "media_type": 415,
    "scope_missing": 403,
    "ticket_expired": 401,
    "ticket_invalid": 401,
    "upgrade_required": 426,
}
# When a client may ask again after the store could not be reached.
_RETRY_AFTER_S: Final = 1


def rule_of(error: Exception) -> Rule:
    """Return how an error is answered."""
    return next(RULES[kind] for kind in type(error).__mro__ if kind in RULES)


def status_of(error: Exception) -> int:
    """Return the status that an error is answered with."""
    status = rule_of(error).status
    if isinstance(error, RequestError):
        return STATUS_OF_CODE.get(error.code, status)
    return status


def fault_of(error: Exception) -> Fault:
    """Return what the client is told; of our own failures only that they are ours."""
    rule = rule_of(error)
    match error:
        case RequestError():
            return Fault(error.code, error.reason, error.hint)
        case Unready() | TooMany():
            return Fault(error.code, error.reason, rule.hint)
    return Fault(rule.code, rule.sentence, rule.hint)


def headers_of(error: Exception) -> dict[str, str]:
    """Return the headers that go with an error."""
    match error:
        case StoreDown():
            return {"retry-after": str(_RETRY_AFTER_S)}
        case Unready() | TooMany():
            return {"retry-after": str(error.retry_after_s)}
        case Locked(challenge=challenge) if challenge:
            return {"www-authenticate": challenge}
        case RequestError(code="upgrade_required"):
            return {"upgrade": "websocket", "connection": "upgrade"}
        case MethodNotAllowedException():
            allow = (error.headers or {}).get("allow", "").split(", ")
            # The router counts the opening of a WebSocket among the methods.
            return {"allow": ", ".join(one for one in allow if one.isupper())}
    return {}
