"""``/api/prices`` and ``/api/market-data/health``: the older reads.

What they answer is written down in ``compat``; the older streams are ``compat_sse`` and
``compat_ws``. Parameters are ignored: some clients add one that keeps caches away.
"""

from typing import Final

import msgspec
from litestar.handlers import ASGIRouteHandler, HTTPRouteHandler
from litestar.types import HTTPScope, Receive

from relay.config import Http
from relay.delivery.answer import (
    NO_STORE,
    READ,
    Answer,
    Freshness,
    Seen,
    digest,
    json_answer,
    negotiated,
    route,
    route_with_symbol,
)
from relay.delivery.compat import (
    CIRCUITS,
    AllPrices,
    Bulk,
    Circuit,
    Condition,
    OnePrice,
    Priced,
    iso,
    priced_of,
    resolve,
)
from relay.delivery.compat_counts import Counted
from relay.delivery.compat_scene import Parts
from relay.delivery.query import select_all
from relay.delivery.rest import read_symbol
from relay.errors import RequestError, SelectionInvalid
from relay.hub import Hub

_BULK: Final = "/api/prices/bulk/"


class PriceUnknown(RequestError):
    """There is no price by this id."""

    def __init__(self, asked: str) -> None:
        super().__init__(
            "price_unknown",
            f"There is no price of {asked[:80]!r}.",
            "See /v1/symbols for what exists; what nobody has asked for lately has "
            "one a few seconds after it was asked for.",
        )


class Reads:
    """Answers the reads of prices."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def everything(self, scope: HTTPScope, _receive: Receive) -> Answer:
        """Answer ``/api/prices``.

        Raises:
            StoreDown: there is nothing to answer with.
        """
        parts = self._parts
        sight, _ = await parts.scene.read()
        prices = {parts.slugs[name]: one.price for name, one in sight.priced.items()}
        parts.meter.count(asked=1, found=int(bool(prices)))
        timestamp = iso(sight.as_of_ms or parts.clock.wall_ms())
        everything = AllPrices(prices, timestamp, sight.source, len(prices))
        return _fresh(scope, everything, parts.http)

    async def one(self, scope: HTTPScope, _receive: Receive) -> Answer:
        """Answer ``/api/prices/{id}``.

        Raises:
            PriceUnknown: there is none.
            StoreDown: there is nothing to answer with.
        """
        asked = read_symbol(scope["path_params"])
        priced, streams = await self._find([asked])
        if asked not in priced:
            raise PriceUnknown(asked)
        found = priced[asked]
        price = OnePrice(
            symbol=asked,
            price=found.price,
            source=found.source,
            timestamp=iso(found.at_ms),
            cached=found.stale or not streams,
        )
        return _fresh(scope, price, self._parts.http)

    async def bulk(self, scope: HTTPScope, _receive: Receive) -> Answer:
        """Answer ``/api/prices/bulk/{ids}``.

        Raises:
            SelectionInvalid: too many are asked for.
            StoreDown: there is nothing to answer with.
        """
        texts = scope["path"].removeprefix(_BULK).split(",")
        ids = list(dict.fromkeys(one.strip() for one in texts if one.strip()))
        most = self._parts.http.selection_max
        if len(ids) > most:
            raise SelectionInvalid(
                f"{len(ids)} prices were asked for.",
                f"Ask for at most {most} at once, or for all.",
            )
        priced, _ = await self._find(ids)
        newest_ms = max((one.at_ms for one in priced.values()), default=0)
        bulk = Bulk(
            prices={one: priced[one].price for one in ids if one in priced},
            missing=[one for one in ids if one not in priced],
            timestamp=iso(newest_ms or self._parts.clock.wall_ms()),
        )
        return _fresh(scope, bulk, self._parts.http)

    async def _find(self, ids: list[str]) -> tuple[dict[str, Priced], bool]:
        """Return the prices by the ids that have one, and whether anything streams."""
        parts = self._parts
        known = resolve(ids, parts.names)
        if not known:
            parts.meter.count(asked=len(ids), found=0)
            return {}, False
        selection = select_all(parts.names, parts.http, list(known))
        parts.demand.note(selection)
        board, live = await parts.newest.board(selection)
        found = priced_of(board, selection.instruments or ())
        priced = {one: found[name] for one, name in known.items() if name in found}
        parts.meter.count(asked=len(ids), found=len(priced))
        return priced, parts.scene.phase(live=live) == "connected"


def _fresh(scope: HTTPScope, body: AllPrices | OnePrice | Bulk, http: Http) -> Answer:
    """Answer with what caches may keep for a moment."""
    text = msgspec.json.encode(body)
    answer = json_answer(text, Freshness.of(http).headers())
    return negotiated(answer, digest(text), scope)


class Conditions:
    """Answers the reads of how things are, and what was counted."""

    def __init__(self, parts: Parts, hub: Hub | None) -> None:
        self._parts, self._hub = parts, hub

    async def health(self, _scope: HTTPScope, _receive: Receive) -> Answer:
        """Answer ``/api/prices/status/health``."""
        sight, phase = await self._parts.scene.read_or_nothing()
        count = len(sight.priced)
        healthy = phase == "connected" and count > 0
        return _now(Condition(healthy, phase, sight.source, count))

    async def circuit(self, _scope: HTTPScope, _receive: Receive) -> Answer:
        """Answer ``/api/market-data/health``."""
        sight, phase = await self._parts.scene.read_or_nothing()
        age_ms = None
        if sight.newest_ms:
            age_ms = max(self._parts.clock.wall_ms() - sight.newest_ms, 0)
        clients = 0 if self._hub is None else self._hub.counts.clients.total()
        circuit = Circuit(phase, sight.source, clients, CIRCUITS[phase], age_ms)
        return _now(circuit)

    async def metrics(self, _scope: HTTPScope, _receive: Receive) -> Answer:
        """Answer ``/api/prices/metrics``."""
        return _now(self._parts.meter.read())

    async def reset(self, _scope: HTTPScope, _receive: Receive) -> Answer:
        """Answer ``/api/prices/metrics/reset`` with the counters as they are then."""
        self._parts.meter.reset()
        return _now(self._parts.meter.read())


def _now(body: Condition | Circuit | Counted) -> Answer:
    """Answer with what is true only now."""
    return json_answer(msgspec.json.encode(body), [NO_STORE])


def routes(
    parts: Parts, hub: Hub | None, seen: Seen
) -> list[ASGIRouteHandler | HTTPRouteHandler]:
    """Return the handlers of the older reads."""
    reads, conditions = Reads(parts), Conditions(parts, hub)
    one = ["/api/prices/{symbol:str}", "/api/prices/{symbol:str}/{currency:str}"]
    plain = {
        "/api/prices": reads.everything,
        "/api/prices/status/health": conditions.health,
        "/api/prices/metrics": conditions.metrics,
        "/api/market-data/health": conditions.circuit,
    }
    return [
        *(route(path, READ, read, seen=seen) for path, read in plain.items()),
        route("/api/prices/metrics/reset", ("POST",), conditions.reset, seen=seen),
        route_with_symbol(one, READ, reads.one, seen=seen),
        route_with_symbol([f"{_BULK}{{ids:path}}"], READ, reads.bulk, seen=seen),
    ]
