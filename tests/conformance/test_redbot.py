"""The reads as redbot sees them: it asks again, otherwise, and under conditions."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from msgspec import Struct

from relay.config import Settings
from relay.store.client import Client
from relay.store.keys import Keys
from tests.delivery.linting import KNOWN_NOTES
from tests.delivery.live import live
from tests.delivery.serving import Leader

CHECKER = Path(sys.executable).with_name("redbot")
# Enough instruments for a body that is worth coding.
WIDE = {f"A{number}-USD": "1" for number in range(120)}

NEGOTIATED, VALIDATED = "CONNEG_GZIP_GOOD", "INM_304"
READS = {
    "/v1/prices": {NEGOTIATED, VALIDATED},
    "/v1/prices?symbols=BTC-USD,ETH-USD": {VALIDATED},
    "/v1/prices/BTC-USD": {VALIDATED},
    "/v1/prices/BTC-USD/recent": {VALIDATED},
    "/v1/symbols": {VALIDATED},
    "/v1/value?holdings=BTC-USD:1": set(),
    "/api/prices": {NEGOTIATED, VALIDATED},
    "/api/prices/bulk/btc,eth": {VALIDATED},
    "/docs/openapi.json": {NEGOTIATED, VALIDATED},
}
"""What is read, and what redbot must have found good about it."""

# How long an answer was on its way where both cores are busy: it is fresh for a second.
OF_TIME = {"CURRENT_AGE", "FRESHNESS_STALE_ALREADY"}


class Note(Struct, frozen=True):
    """What redbot says of an answer."""

    note_id: str
    level: str
    summary: str


async def look(url: str) -> list[Note]:
    """Let redbot look at one address."""
    looking = await asyncio.create_subprocess_exec(
        *(str(CHECKER), "--output-format", "har", url),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        said, _ = await looking.communicate()
    finally:
        if looking.returncode is None:
            looking.kill()
    (entry,) = json.loads(said)["log"]["entries"]
    assert entry["response"]["status"] == 200
    told = entry["_red_messages"]
    return [Note(one["note_id"], one["level"], one["summary"]) for one in told]


async def look_while_live(url: str, leader: Leader) -> list[Note]:
    """Look; meanwhile somebody leads, so that no answer changes between two reads."""
    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(look(url))
        await leader.mark_until(looking.done)
    return looking.result()


@pytest.mark.timeout(60)
async def test_redbot_finds_nothing_wrong_with_a_read(
    client: Client, keys: Keys, settings: Settings
) -> None:
    """Conditions hold, codings are told apart, and each note has a reason."""
    leader = Leader(client, keys)
    await leader.publish({"BTC-USD": "61000.10", "ETH-USD": "3000", **WIDE})
    async with live(client, keys, settings, leader=leader) as behind:
        for place, praised in READS.items():
            notes = await look_while_live(behind.url + place, leader)
            wrong = [
                (place, note)
                for note in notes
                if note.level != "GOOD" and note.note_id not in {*KNOWN_NOTES, *OF_TIME}
            ]
            assert wrong == []
            good = {note.note_id for note in notes if note.level == "GOOD"}
            assert (place, praised - good) == (place, set())
