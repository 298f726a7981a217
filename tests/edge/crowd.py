"""What a crowd of clients saw, judged against what the leader did and when."""

import asyncio
import sys
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import msgspec
from msgspec import Struct

from tests.edge import pollers
from tests.edge.pollers import Plan

Mark = tuple[int, int]
"""When a mark was written, and the offset it cut at."""


class Crowd:
    """A process of clients; what they noted can be read when it has ended."""

    def __init__(self, process: asyncio.subprocess.Process, plan: Plan) -> None:
        self._process, self._plan = process, plan

    async def leave(self) -> "Noted":
        """End it, and return what was noted."""
        said, _ = await self._process.communicate(b"")
        return Noted.read(Path(self._plan.noted), said.decode().splitlines())


@asynccontextmanager
async def crowd(plan: Plan) -> AsyncIterator[Crowd]:
    """Run clients; yields when all of them are there."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, pollers.__file__, msgspec.json.encode(plan)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            assert await process.stdout.readline() == b"here\n"
        yield Crowd(process, plan)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Noted:
    """Every answer of every client, oldest first."""

    def __init__(self, noted: Sequence[int], wrong: list[str]) -> None:
        self.wrong = wrong
        self.answers: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for place in range(0, len(noted), 3):
            client, when_ms, offset = noted[place : place + 3]
            self.answers[client].append((when_ms, offset))

    @classmethod
    def read(cls, path: Path, wrong: list[str]) -> "Noted":
        """Read what a process of clients has left."""
        noted = array("q")
        noted.frombytes(path.read_bytes())
        return cls(noted, wrong)

    def judge(
        self, marks: Sequence[Mark], *, from_ms: int, to_ms: int, late: int = 0
    ) -> "Verdict":
        """Say how well everybody was served in this time.

        The first ``late`` clients stayed away, so that they were behind by themselves.
        """
        kept = [
            [one for one in answers if from_ms <= one[0] <= to_ms]
            for client, answers in self.answers.items()
            if client >= late
        ]
        return Verdict(
            behind=max(_behind(answers, marks, to_ms) for answers in kept),
            backward=sum(_backward(answers) for answers in self.answers.values()),
            busiest=max(_busiest(answers) for answers in kept),
            answers=sum(map(len, kept)),
            late_ms=_late_ms(kept, marks),
        )


class Verdict(Struct, frozen=True):
    """How a crowd was served.

    ``behind`` is how many marks anybody was ever behind, ``backward`` counts offsets
    that went down, ``busiest`` is the most answers that one client got in one second,
    ``late_ms`` how long after its mark an answer came: half of them, 99 of 100, all.
    """

    behind: int
    backward: int
    busiest: int
    answers: int
    late_ms: tuple[int, int, int]


def _behind(
    answers: Sequence[tuple[int, int]], marks: Sequence[Mark], to_ms: int
) -> int:
    """Return how many newer cuts there were at most while something older was held."""
    until = [when_ms for when_ms, _ in answers[1:]] + [to_ms]
    return max(
        (
            len({cut for when_ms, cut in marks if cut > offset and when_ms < end_ms})
            for (_, offset), end_ms in zip(answers, until, strict=True)
        ),
        default=len(marks),
    )


def _backward(answers: Sequence[tuple[int, int]]) -> int:
    return sum(after < before for (_, before), (_, after) in pairwise(answers))


def _busiest(answers: Sequence[tuple[int, int]]) -> int:
    times = [when_ms for when_ms, _ in answers]
    return max(
        (place - bisect_left(times, when_ms - 999) + 1)
        for place, when_ms in enumerate(times)
    )


def _late_ms(
    kept: Sequence[Sequence[tuple[int, int]]], marks: Sequence[Mark]
) -> tuple[int, int, int]:
    """Return how long after the mark that released it an answer came."""
    when: dict[int, int] = {}
    for when_ms, cut in marks:
        when.setdefault(cut, when_ms)
    late = sorted(
        when_ms - when[offset]
        for answers in kept
        for when_ms, offset in answers
        if offset in when
    )
    most = len(late) - 1
    return late[most // 2], late[most * 99 // 100], late[most]
