"""An exchange of nobody's: an adapter and a session in a language of a few words.

The frames of ``ToySession``, words apart by blanks, symbols by commas::

    sub A,B    unsub A,B    ping                        from us
    ack A,B    no A reason…    no - reason…             granted, refused, all refused
    later A reason…                                     refused for now
    price A 1.5 7                                       symbol, price, sequence
    gap A,B    gap -    closing    denied    limited    notices
"""

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from relay.errors import ExchangeError, FrameError, RateLimited, Refused
from relay.exchanges.adapter import (
    Answer,
    Closing,
    Confirmed,
    Denied,
    Gap,
    Notice,
    Omitted,
    Rejected,
    Request,
    Rules,
    Session,
    Told,
    Usage,
)
from relay.exchanges.failures import Advice, by_status
from relay.model import Listing, Symbols, Update

ADVICE: Final = Advice(
    scope="address", wait_ms=7_000, key="set a key", blocked="go elsewhere"
)
RULES: Final = Rules(spacing_ms=0, symbols_max=1_000, silent_after_ms=60_000)


CERTIFICATE: Final = Path(__file__).with_name("toy.pem")
"""Key and certificate of 127.0.0.1, signed by itself; made for these tests."""


def toy_tls() -> ssl.SSLContext:
    """Return what a server needs to speak TLS, if nobody minds who it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


class Toy:
    """An adapter that reads statuses, and a header that tells the weight used."""

    name = "toy"
    streams = True
    hosts: tuple[str, ...] = ()

    def __init__(self, rules: Rules = RULES, *, by_url: bool = False) -> None:
        self.rules, self.by_url = rules, by_url

    def read_failure(self, answer: Answer) -> ExchangeError | None:
        """Go by the status."""
        return by_status(answer, ADVICE)

    def read_usage(self, answer: Answer) -> list[Usage]:
        """Read ``X-Used``; with ``X-By-Size``, ten bytes cost one."""
        used = answer.headers.get("x-used", "")
        cost = len(answer.body) // 10 + 1 if "x-by-size" in answer.headers else None
        if not used and cost is None:
            return []
        return [Usage(limit="weight", used=int(used) if used else None, cost=cost)]

    def session(self, symbols: Sequence[str]) -> Session:
        """Begin a conversation."""
        return ToySession(self.rules, symbols, by_url=self.by_url)

    def symbol_requests(self) -> list[Request]:
        """There is no table."""
        return []

    def read_symbols(self, answers: Sequence[Answer]) -> Symbols:  # noqa: ARG002 - the protocol's
        """There is none."""
        return Symbols()

    def snapshot_requests(self, listings: Sequence[Listing]) -> list[Request]:  # noqa: ARG002 - the protocol's
        """There is nothing but the stream."""
        return []

    def read_snapshot(self, answer: Answer) -> list[Update]:  # noqa: ARG002 - the protocol's
        """There is nothing but the stream."""
        return []

    def recognise(self, path: str, query: Sequence[tuple[str, str]]) -> Request | None:  # noqa: ARG002 - the protocol's
        """It was never recorded."""
        return None

    def listing_of(self, symbol: str) -> Listing | None:  # noqa: ARG002 - the protocol's
        """Its symbols are nobody's."""
        return None


class ToySession:
    """One connection's conversation; ``by_url`` subscribes by the address alone."""

    headers: tuple[tuple[str, str], ...] = (("X-Toy", "1"),)

    def __init__(self, rules: Rules, symbols: Sequence[str], *, by_url: bool) -> None:
        self.rules = rules
        self.notices: list[Notice] = []
        self._first = () if by_url else symbols
        self.target = f"/feed?symbols={','.join(symbols)}" if by_url else "/feed"

    def opened(self) -> list[bytes]:
        """Subscribe to the first symbols."""
        return self.subscribe(self._first) if self._first else []

    def subscribe(self, symbols: Sequence[str]) -> list[bytes]:
        """Say ``sub``."""
        return [b"sub " + ",".join(symbols).encode()]

    def unsubscribe(self, symbols: Sequence[str]) -> list[bytes]:
        """Say ``unsub``."""
        return [b"unsub " + ",".join(symbols).encode()]

    def ping(self) -> list[bytes]:
        """Say ``ping``."""
        return [b"ping"]

    def receive(self, frame: bytes, received_ms: int) -> Sequence[Update]:
        """Read one frame.

        Raises:
            FrameError: it is none of ours.
        """
        try:
            word, *rest = frame.decode().split(" ")
        except UnicodeDecodeError as error:
            raise FrameError("toy", "frame", "not UTF-8") from error
        if word == "price":
            return [_update(rest, received_ms)]
        notice = _notice(word, rest)
        if notice is None:
            raise FrameError("toy", "frame", f"unknown word {word[:20]!r}")
        self.notices.append(notice)
        return ()


def _update(rest: Sequence[str], received_ms: int) -> Update:
    symbol, price, sequence = rest[:3]
    return Update(
        exchange="toy",
        channel="price",
        symbol=symbol,
        received_ms=received_ms,
        sequence=int(sequence),
        price=price,
    )


def _notice(word: str, rest: Sequence[str]) -> Notice | None:
    named = rest[0] if rest else "-"
    symbols = () if named == "-" else tuple(named.split(","))
    reason = " ".join(rest[1:])
    made: dict[str, Notice] = {
        "ack": Confirmed(symbols),
        "no": Rejected(symbols, reason),
        "whole": Rejected(symbols, reason, whole=True),
        "omitted": Omitted(symbols, reason),
        "later": Rejected(symbols, reason, retry=True),
        "gap": Gap(symbols),
        "closing": Closing("about to restart"),
        "denied": Denied(Refused("toy", "key", "set a key")),
        "limited": Denied(RateLimited("toy", "address", 60_000)),
        "told": Told(reason, halts=named == "halts"),
    }
    return made.get(word)
