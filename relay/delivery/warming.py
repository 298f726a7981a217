"""Fetch the configured addresses through the edge, so that its cache is warm.

A client like any other, but that it asks for little at once and says who it is: it
knows nothing of what is behind the edge, and reports what each layer said.
"""

import asyncio
import re
from typing import Final

import httpx
from msgspec import Struct

from relay import __version__
from relay.config import Warm
from relay.errors import ConfigError
from relay.model import read_count

_OK: Final = 200
_TOO_MANY: Final = (429, 503)
# Addresses asked for at once: an edge that is cold asks the relay for each.
_AT_ONCE: Final = 2
_AGENT: Final = f"price-relay/{__version__} (warming)"
# Between the members of a list (RFC 9110, 5.6.1), whose texts may have commas.
_MEMBER: Final = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')


class Fetched(Struct, frozen=True, kw_only=True):
    """What became of one address; ``status`` is 0 where nobody answered.

    ``age_s`` is how old the edge's copy was, None where it does not say. ``layers`` is
    what each cache on the way said of it (RFC 9211), the one nearest to the relay
    first. ``reason`` is why there was no answer.
    """

    path: str
    status: int
    age_s: int | None = None
    layers: tuple[str, ...] = ()
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether the edge has it now."""
        return self.status == _OK


def shown(key: str) -> dict[str, str]:
    """Return the header that shows a key; empty for none."""
    return {"authorization": f"Bearer {key}"} if key else {}


async def warm(settings: Warm) -> list[Fetched]:
    """Fetch every address, a few at once, from the edge that is configured.

    An edge that says it has too much to do is asked for nothing more.

    Raises:
        ConfigError: no edge is configured.
    """
    if not settings.url:
        expected = "the edge's address, such as https://prices.example.org"
        raise ConfigError("the environment", "RELAY_WARM_URL", "", expected)
    waiting = list(enumerate(settings.paths))[::-1]
    fetched: dict[int, Fetched] = {}

    async def work(client: httpx.AsyncClient) -> None:
        while waiting:
            number, path = waiting.pop()
            fetched[number] = one = await _fetch(client, path)
            if one.status in _TOO_MANY:
                _leave_out(waiting, fetched, one.status)

    async with (
        httpx.AsyncClient(
            base_url=settings.url,
            timeout=settings.timeout_ms / 1000,
            trust_env=False,
            headers={"user-agent": _AGENT, **shown(settings.key)},
        ) as client,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(_AT_ONCE):
            tasks.create_task(work(client))
    return [fetched[number] for number in sorted(fetched)]


def _leave_out(
    waiting: list[tuple[int, str]], fetched: dict[int, Fetched], status: int
) -> None:
    reason = f"left out, since the edge has answered {status}"
    while waiting:
        number, path = waiting.pop()
        fetched[number] = Fetched(path=path, status=0, reason=reason)


async def _fetch(client: httpx.AsyncClient, path: str) -> Fetched:
    try:
        answer = await client.get(path)
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        return Fetched(path=path, status=0, reason=reason)
    return Fetched(
        path=path,
        status=answer.status_code,
        age_s=read_count(answer.headers.get("age", "")),
        layers=read_layers(answer.headers),
    )


def read_layers(headers: httpx.Headers) -> tuple[str, ...]:
    """Return what each cache said of an answer, the one nearest to its origin first.

    ``X-Cache`` stands in where nobody speaks RFC 9211: CloudFront and Fastly.
    """
    said = headers.get("cache-status") or headers.get("x-cache", "")
    return tuple(one.strip() for one in _MEMBER.findall(said) if one.strip())
