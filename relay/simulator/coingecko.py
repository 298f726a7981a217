"""CoinGecko: plans, limits and the edge's cache. Its coins: ``coingecko_coins``.

Source: the OpenAPI files of 2026-06-22, documentation pages of 2026, and answers
recorded in 2021.
"""

from hashlib import md5
from typing import Final

from msgspec import Struct

from relay.simulator.aggregator import Aggregator
from relay.simulator.assets import AssetRow
from relay.simulator.coingecko_coins import Coins
from relay.simulator.iso import iso_ms
from relay.simulator.limits import MonthWindow, RollingWindow
from relay.simulator.listing import Symbol
from relay.simulator.wire import (
    Answer,
    Conversation,
    Request,
    World,
    answer_html,
    answer_json,
)

_PRO: Final = "/pro"
_ROOT: Final = "/api/v3/"

_CACHE_CONTROL: Final = "max-age=30, public, must-revalidate, s-maxage=60"


class _Refused(Exception):  # an answer on its way, not a fault of ours
    def __init__(self, answer: Answer) -> None:
        self.answer = answer


class _Kept(Struct):
    """One answer in the edge's cache."""

    answer: Answer
    made_ms: int


class Coingecko(Aggregator):
    """The aggregator as one key or address sees it; symbols are its ids."""

    name = "coingecko"
    finer = 4

    def __init__(self, world: World) -> None:
        super().__init__(world, offset_ppm=-10)
        self._settings = world.settings.coingecko
        self._kept: list[dict[str, _Kept]] = [{} for _ in range(self._settings.edges)]
        self._requests = 0
        self._coins = Coins(self.listing, world.market)

    def symbol_of(self, row: AssetRow) -> str:
        """Return its id."""
        return row.gecko

    def greet(self, request: Request) -> Conversation | Answer:
        """Refuse: the WebSocket is for the larger plans."""
        del request
        return answer_html(404, "Not Found")

    def show(self, symbol: Symbol, now_ms: int, *, traded: bool) -> None:
        """Forget what the edges keep; called when a price is set by hand."""
        del symbol, now_ms, traded
        for edge in self._kept:
            edge.clear()

    def listed(self, symbol: Symbol, now_ms: int) -> None:
        """Forget what the edges keep: a coin came or went."""
        self.show(symbol, now_ms, traded=False)

    # Keys, limits and the edge.

    def refusal(self, status: int, request: Request, retry_after_s: int) -> Answer:
        """Word 429 and 500 as CoinGecko does; the rest is its edge."""
        if status == 429:  # noqa: PLR2004  # Too Many Requests
            sentence = (
                "You've exceeded the Rate Limit. Please visit"
                " https://www.coingecko.com/en/api/pricing to subscribe to our API"
                " plans for higher rate limits."
            )
            error = {"error_code": 429, "error_message": sentence}
            answer = answer_json({"status": error}, status)
            if retry_after_s:
                answer.headers["retry-after"] = str(retry_after_s)
            return answer
        if status == 500:  # noqa: PLR2004  # Internal Server Error
            return answer_json({"status": 500, "error": "Internal Server Error"}, 500)
        return super().refusal(status, request, retry_after_s)

    def answer(self, request: Request) -> Answer:
        """Answer one request: key, minute, credits, then the edge."""
        if not request.headers.get("user-agent"):
            return answer_html(403, "Forbidden")
        try:
            plan, scope = self._plan(request)
            self._count_minute(plan, scope, request)
            self._check_credits(plan, scope, request)
            answer = self._from_edge(request, plan)
        except _Refused as refused:
            return refused.answer
        if answer.status in {200, 304} and plan != "keyless":
            self._credits(plan, scope).spend(1, request.now_ms)
            request.account.charge(1)
        return answer

    def _plan(self, request: Request) -> tuple[str, str]:
        """Give the plan and whom its limits count, or refuse the key."""
        demo = _key(request, "x-cg-demo-api-key", "x_cg_demo_api_key")
        paid = _key(request, "x-cg-pro-api-key", "x_cg_pro_api_key")
        settings, pro = self._settings, request.path.startswith(_PRO)
        key = paid or demo or ""
        if pro and (demo or key in settings.demo_keys):
            raise _Refused(_key_error(10011, request, 400, "use api.coingecko.com"))
        if not pro and (paid or key in settings.paid_keys):
            raise _Refused(_key_error(10010, request, 400, "use pro-api.coingecko.com"))
        if pro and key not in settings.paid_keys:
            raise _Refused(_key_error(10002, request, 401, "API Key Missing"))
        if key and not pro and not key.startswith("CG-"):
            raise _Refused(_key_error(10002, request, 401, "Invalid API Key"))
        if pro:
            return "paid", key
        return ("demo", key) if key else ("keyless", request.address)

    def _count_minute(self, plan: str, scope: str, request: Request) -> None:
        settings = self._settings
        most = {
            "keyless": settings.keyless_requests,
            "demo": settings.demo_requests,
            "paid": settings.paid_requests,
        }[plan]
        window = self.limit(
            f"requests_1m_{plan}",
            scope,
            lambda: RollingWindow(most, settings.window_ms),
        )
        if window.spend(1, request.now_ms):
            return
        request.account.breach("requests")
        request.account.earn(429)
        wait_s = max(1, -(-window.wait_ms(request.now_ms) // 1_000))
        raise _Refused(self.refusal(429, request, wait_s))

    def _credits(self, plan: str, scope: str) -> MonthWindow:
        settings = self._settings
        most = settings.paid_credits if plan == "paid" else settings.demo_credits
        window = self.limit(f"credits_month_{plan}", scope, lambda: MonthWindow(most))
        assert isinstance(window, MonthWindow)
        return window

    def _check_credits(self, plan: str, scope: str, request: Request) -> None:
        if plan == "keyless":
            return
        spent = self._credits(plan, scope)
        if spent.used(request.now_ms) >= spent.most:
            request.account.breach("credits")
            request.account.earn(429)
            raise _Refused(self.refusal(429, request, 3_600))

    def _from_edge(self, request: Request, plan: str) -> Answer:
        """Answer from the cache of one edge, filled when it is too old."""
        number = self._requests % len(self._kept)
        self._requests += 1
        key = f"{request.path}?{_cache_query(request)}"
        kept, status = self._kept_at(number, key, request, plan)
        age_s = max(0, (request.now_ms - kept.made_ms) // 1_000)
        if kept.answer.status != 200:  # noqa: PLR2004  # OK
            return kept.answer
        headers = {
            "cache-control": _CACHE_CONTROL,
            "etag": f'W/"{md5(kept.answer.body, usedforsecurity=False).hexdigest()}"',
            "age": str(age_s),
            "cf-cache-status": status,
            "vary": "Accept-Encoding, Origin",
        }
        if request.headers.get("if-none-match") == headers["etag"]:
            return Answer(body=b"", status=304, headers=headers)
        return Answer(body=kept.answer.body, headers=kept.answer.headers | headers)

    def _kept_at(
        self, number: int, key: str, request: Request, plan: str
    ) -> tuple[_Kept, str]:
        edge = self._kept[number]
        kept = edge.get(key)
        life_ms = self._settings.refresh_ms + number * self._settings.edge_lag_ms
        if kept is not None and request.now_ms - kept.made_ms < life_ms:
            return kept, "HIT"
        status = "MISS" if kept is None else "EXPIRED"
        first = self._kept[0].get(key)
        if kept is None and first is not None:
            edge[key] = first  # a later edge begins with what the first has
            return first, "HIT"
        made = _Kept(self._serve(request, plan), request.now_ms)
        if made.answer.status == 200:  # noqa: PLR2004  # OK
            if len(edge) > _KEPT_MOST:
                edge.clear()
            edge[key] = made
        return made, status

    def _serve(self, request: Request, plan: str) -> Answer:
        path = request.path.removeprefix(_PRO).removeprefix(_ROOT).strip("/")
        if path in _PAID_ONLY and plan != "paid":
            return _key_error(10005, request, 401, "not in your plan")
        if path == "key":
            return self._key_use(request)
        return self._coins.answer(path, request)

    def _key_use(self, request: Request) -> Answer:
        settings = self._settings
        key = _key(request, "x-cg-pro-api-key", "x_cg_pro_api_key") or ""
        used = self._credits("paid", key).used(request.now_ms)
        return answer_json(
            {
                "plan": "Analyst",
                "rate_limit_request_per_minute": settings.paid_requests,
                "monthly_call_credit": settings.paid_credits,
                "current_total_monthly_calls": used,
                "current_remaining_monthly_calls": settings.paid_credits - used,
            }
        )


_KEPT_MOST: Final = 500  # answers an edge keeps

_PAID_ONLY: Final = frozenset({"key", "coins/top_gainers_losers"})
"""Paths that the smaller plans do not hold."""


def _key(request: Request, header: str, query: str) -> str | None:
    return request.headers.get(header) or request.value(query)


def _cache_query(request: Request) -> str:
    return "&".join(
        f"{name}={value}" for name, value in request.query if "api_key" not in name
    )


def _key_error(code: int, request: Request, status: int, sentence: str) -> Answer:
    return answer_json(
        {
            "timestamp": iso_ms(request.now_ms),
            "error_code": code,
            "status": {"error_message": sentence},
        },
        status,
    )
