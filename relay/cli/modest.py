"""A checkup's purse: it asks for less than the leader does, and remembers who said no.

The books are the deployment's own: ``relay.ingest.purse``.
"""

from collections.abc import Sequence
from typing import Final

from relay.errors import ExchangeError, RateLimited, Refused
from relay.ingest.budget import Priority, Reservation, Wait
from relay.ingest.offence import Transport
from relay.ingest.purse import Purse

# What is left of a limit for the leader: half of the spare over a lost book.
_LEFT_PART: Final = 40


class Modest(Purse):
    """Spends only what nobody else needs: whatever is asked for, as warming may.

    ``held`` is why the last request of leave was put off, None when it was granted;
    ``refusal`` is the last no of the exchange itself. Beside a leader it is ``shy``: of
    a book that nobody knew, whose spare is for whoever comes first, it leaves a part.
    """

    shy = False
    held: Wait | None = None
    refusal: ExchangeError | None = None

    async def reserve(
        self,
        costs: Sequence[tuple[str, int]],
        *,
        priority: Priority,
        flight_ms: int = 0,
    ) -> Reservation | Wait:
        """Reserve what the leader can spare, whatever priority is asked for.

        Raises:
            StoreDown: the store cannot be reached, so nothing may be spent.
        """
        del priority
        outcome = await super().reserve(
            costs, priority=Priority.WARM, flight_ms=flight_ms
        )
        if isinstance(outcome, Reservation) and self.shy:
            outcome = await self._leave_some(outcome)
        self.held = outcome if isinstance(outcome, Wait) else None
        return outcome

    async def _leave_some(self, reservation: Reservation) -> Reservation | Wait:
        """Give back what would be nearly the last of a limit.

        Raises:
            StoreDown: the store cannot be reached.
        """
        costs = dict(reservation.costs)
        for gauge in self.gauges():
            cost, left = costs.get(gauge.limit, 0), gauge.most - gauge.used
            begun = gauge.used > max(cost, gauge.most // 2)
            if cost and begun and left < gauge.most // _LEFT_PART:
                await self.cancel(reservation)
                reason = f"{left + cost} left, which the leader may need"
                return Wait(gauge.frees_ms, gauge.limit, reason)
        return reservation

    def mind(self, error: ExchangeError, transport: Transport) -> None:
        """Leave the exchange alone for as long as an answer of it asks for."""
        if isinstance(error, RateLimited | Refused):
            self.refusal = error
        super().mind(error, transport)
