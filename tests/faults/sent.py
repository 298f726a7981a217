"""What the exchanges have said: every number of every byte that came from them.

What clients are shown is compared with it by ``observers``.
"""

import re
from typing import Final

_NUMBER: Final = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
# A number may lie on the seam of two chunks: so much of the last is looked at again.
_SEAM: Final = 64


def plain(octets: bytes) -> bytes:
    """Ask for answers that are not compressed, in as many bytes."""
    return octets.replace(b"accept-encoding: gzip", b"accept-encoding: none")


class Sent:
    """The numbers that were sent so far, digit for digit.

    ``lies`` are prices that another exchange contradicts.
    """

    def __init__(self) -> None:
        self._numbers: set[bytes] = set()
        self.lies: set[str] = set()

    def __contains__(self, text: str) -> bool:
        return text.encode() in self._numbers

    def ear(self) -> "Ear":
        """Return a listener for one connection."""
        return Ear(self._numbers)


class Ear:
    """Hears chunk by chunk."""

    def __init__(self, numbers: set[bytes]) -> None:
        self._numbers = numbers
        self._seam = b""

    def __call__(self, chunk: bytes) -> bytes:
        """Note every number of a chunk, and of its seam with the last one."""
        self._numbers.update(_NUMBER.findall(self._seam + chunk))
        self._numbers.update(_NUMBER.findall(chunk))
        self._seam = chunk[-_SEAM:]
        return chunk
