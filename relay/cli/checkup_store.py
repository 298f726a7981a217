"""Checks the store by really using it: clock, version, memory, speed, scripts."""

import statistics
from secrets import token_hex
from typing import Final

from relay.cli.finding import Finding, Verdict
from relay.clock import Clock
from relay.errors import StoreDown
from relay.store.client import Client, address
from relay.store.keys import Keys
from relay.store.writer import Writer

_PINGS: Final = 20
# A batch takes one round trip; slower than this, prices are late by more.
_SLOW_MS: Final = 50
# Which of its keys a store that is full may throw away, and still keep ours.
_POLICIES: Final = ("noeviction", "volatile-ttl", "volatile-lru", "volatile-lfu")
_SKEW_MAX_MS: Final = 60_000


class StoreCheckup:
    """The store's checkup: ``findings`` fill up while ``run`` goes on."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self.findings: list[Finding] = []

    def _tell(self, check: str, verdict: Verdict, saw: str, advice: str = "") -> None:
        self.findings.append(
            Finding(
                subject="store", check=check, verdict=verdict, saw=saw, advice=advice
            )
        )

    async def run(self) -> bool:
        """Check one thing after the other; False when it cannot be used."""
        try:
            await self._reach()
            await self._inform()
            await self._time()
            await self._scripts()
        except StoreDown as down:
            advice = "is it running, and is RELAY_VALKEY_URL its address?"
            self._tell("reach", "wrong", str(down), advice)
            return False
        return True

    async def _reach(self) -> None:
        """Reach it, and compare its clock with this machine's."""
        machine_ms = self._clock.wall_ms()
        before_ms = self._clock.monotonic_ms()
        await self._client.read_clock()
        passed_ms = self._clock.monotonic_ms() - before_ms
        self._tell("reach", "ok", address(self._client.settings.url))
        ahead_ms = machine_ms + passed_ms - self._clock.wall_ms()
        if abs(ahead_ms) <= _SKEW_MAX_MS:
            self._tell("clock", "ok", f"this machine's is {ahead_ms:+} ms off")
            return
        said = f"this machine's is {ahead_ms / 1000:+.0f} s off; the store's counts"
        self._tell("clock", "note", said, "certificates may not be accepted: set it")

    async def _inform(self) -> None:
        with self._client.asked():
            found = await self._client.valkey.info()
        version = found.get("valkey_version") or found.get("redis_version", "unknown")
        self._tell("version", "ok", f"{version}")
        policy = str(found.get("maxmemory_policy", "unknown"))
        if int(found.get("maxmemory", 0)) == 0 or policy in _POLICIES:
            self._tell("memory", "ok", f"policy {policy}")
            return
        advice = "set maxmemory-policy to noeviction or a volatile one"
        said = f"policy {policy}: a full store would throw the board or a ledger away"
        self._tell("memory", "wrong", said, advice)

    async def _time(self) -> None:
        taken_ms: list[int] = []
        for _ in range(_PINGS):
            before_ms = self._clock.monotonic_ms()
            with self._client.asked():
                await self._client.valkey.ping()
            taken_ms.append(self._clock.monotonic_ms() - before_ms)
        median_ms = statistics.median(taken_ms)
        said = f"median {median_ms:g} ms, longest {max(taken_ms)} ms"
        if median_ms <= _SLOW_MS:
            self._tell("round trip", "ok", said)
        else:
            advice = "run workers and instances in the store's region"
            self._tell("round trip", "wrong", said, advice)

    async def _scripts(self) -> None:
        """Take a lease on a board of nobody's, and leave nothing behind."""
        keys = Keys(f"doctor-{token_hex(4)}")
        writer = Writer(self._client, keys, log_entries_max=1)
        lease = await writer.take("doctor", 1_000)
        held = lease is not None and await writer.release(lease)
        with self._client.asked():
            await self._client.valkey.delete(keys.head)
        if held:
            self._tell("scripts", "ok", "a lease was taken and given back")
        else:
            advice = "the relay needs EVAL and EVALSHA with several keys of one slot"
            self._tell("scripts", "wrong", "a script did not do its work", advice)
