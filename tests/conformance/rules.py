"""What OpenAPI cannot say of a request, told to schemathesis; loaded by its command.

Each rule names a sentence of the description that no schema can hold.
"""

import re
import unicodedata
from typing import Any
from urllib.parse import unquote

from schemathesis import Case, HookContext, hook

_NUMERALS = {"No", "Nl"}
_PLANE = "\uffff"


@hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:  # noqa: ARG001 - its interface
    """Leave out ``list`` beside ``symbols``: a description cannot exclude a pair."""
    meta, query = case.meta, case.query
    if query and {"symbols", "list"} <= set(query) and not _is_wrong(meta):
        del query["list"]


@hook
def filter_case(context: HookContext, case: Case[Any]) -> bool:  # noqa: ARG001 - its interface
    """Leave out what a schema says too little of."""
    said = unquote(f"{case.path_parameters} {case.query}")
    # It takes \p{N} for decimal digits alone, and \p{L} for the letters of one plane;
    # a name has any.
    if any(unicodedata.category(one) in _NUMERALS or one > _PLANE for one in said):
        return False
    # Names are written in upper case, in which some letters become several.
    if any(len(one.upper()) > 1 for one in said):
        return False
    if any(_is_its_own_price(one) for one in _names(case)):
        return False
    return not _has_exponents(case.body) and len(_quotes(case)) < 2


def _is_wrong(meta: Any) -> bool:  # noqa: ANN401 - a private class of schemathesis
    return meta is not None and meta.generation.mode.is_negative


def _has_exponents(body: object) -> bool:
    """Tell whether an amount is a number that is not written in plain digits."""
    holdings = body.get("holdings") if isinstance(body, dict) else None
    amounts = holdings.values() if isinstance(holdings, dict) else ()
    return any(isinstance(one, float) and "e" in repr(one) for one in amounts)


def _halves(name: object) -> list[str]:
    """Return base and quote of a name, which may have an amount behind it."""
    halves = re.split("[-/]", f"{name}".partition(":")[0].strip().upper())
    return halves if len(halves) > 1 else [*halves, "USD"]


def _is_its_own_price(name: object) -> bool:
    base, quote = _halves(name)[:2]
    return base.strip() == quote.strip()


def _listed(value: object) -> list[object]:
    if isinstance(value, str):
        value = value.split(",")
    return list(value) if isinstance(value, (list, dict)) else []


def _names(case: Case[Any]) -> list[object]:
    """Return all the instruments that are asked for."""
    query, path = case.query or {}, case.path_parameters or {}
    asked = [query.get("symbols"), query.get("pairs"), query.get("holdings")]
    body = case.body.get("holdings") if isinstance(case.body, dict) else None
    one = [unquote(f"{path['symbol']}")] if "symbol" in path else []
    return one + [name for each in (*asked, body) for name in _listed(each)]


def _quotes(case: Case[Any]) -> set[str]:
    """Return the currencies that the instruments of a portfolio are quoted in."""
    asked = (case.query or {}).get("holdings")
    if isinstance(case.body, dict):
        asked = case.body.get("holdings")
    return {_halves(name)[1] for name in _listed(asked)}
