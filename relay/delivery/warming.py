"""Fetch the configured addresses through the edge, so that its cache is warm.

A client like any other: it knows nothing of what is behind the edge.
"""

import asyncio
from typing import Final

import httpx
from msgspec import Struct

from relay.config import Warm
from relay.errors import ConfigError
from relay.model import read_count

_OK: Final = 200


class Fetched(Struct, frozen=True, kw_only=True):
    """What became of one address; ``status`` is 0 where nobody answered.

    ``age_s`` is how old the edge's copy was, ``reason`` why there was no answer.
    """

    path: str
    status: int
    age_s: int = 0
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether the edge has it now."""
        return self.status == _OK


async def warm(settings: Warm) -> list[Fetched]:
    """Fetch every address at once, each from the edge that is configured.

    Raises:
        ConfigError: no edge is configured.
    """
    if not settings.url:
        expected = "the edge's address, such as https://prices.example.org"
        raise ConfigError("the environment", "RELAY_WARM_URL", "", expected)
    async with (
        httpx.AsyncClient(
            base_url=settings.url, timeout=settings.timeout_ms / 1000, trust_env=False
        ) as client,
        asyncio.TaskGroup() as tasks,
    ):
        fetching = [tasks.create_task(_fetch(client, path)) for path in settings.paths]
    return [one.result() for one in fetching]


async def _fetch(client: httpx.AsyncClient, path: str) -> Fetched:
    try:
        answer = await client.get(path)
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        return Fetched(path=path, status=0, reason=reason)
    age_s = read_count(answer.headers.get("age", "")) or 0
    return Fetched(path=path, status=answer.status_code, age_s=age_s)
