"""Recorded frames cut off, changed, repeated and out of order: no price is made up."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import pytest

from relay.config import Board, Group, load
from relay.errors import FrameError
from relay.exchanges import open_adapter
from relay.exchanges.adapter import Adapter, Session
from relay.ingest.conflate import Merge
from relay.model import Listing, Symbols, Ticker, Update, decode_ticker
from tests.exchanges.answers import settings_of
from tests.exchanges.recordings import read_frames

Frames = Sequence[tuple[bytes, int]]

CAPTURES: Final = [
    ("binance", "binance/cryptofeed_spot_2021-10-12.ws.gz"),
    ("binance", "binance/cryptofeed_us_2021-10-12.ws.gz"),
    ("binance", "binance/cryptofeed_futures_2021-07-22.ws.gz"),
    ("coinbase-exchange", "coinbase/cryptofeed_exchange_2021-04-17.ws.gz"),
    ("kraken", "kraken/cryptofeed_ticker_2021-04-17.ws"),
]
RULES: Final = msgspec.structs.replace(
    load(environ={}).settings.ingest, jump_pct=1e9, silent_after_ms=10**12
)
SEED: Final = 20261120
# Of each kind of frame so many; longer ones are books, which are not ours.
OF_A_KIND: Final = 2
LENGTH_MAX: Final = 1_000
INSERTED: Final = [b"null", b"-1", b"1e400", b'"', b"[]", b"{}", b"9" * 30, b"\x00"]


def _adapter(name: str) -> Adapter:
    return open_adapter(name, settings_of(name))


def _kinds(path: Path) -> Iterator[bytes]:
    """Yield the first few frames of each kind, told by their keys."""
    seen: dict[object, int] = {}
    for frame, _ in read_frames(path):
        body = msgspec.json.decode(frame)
        data = body.get("data", body) if isinstance(body, dict) else body[1]
        kind = (tuple(data), data.get("e", data.get("type"))) if data else ()
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] <= OF_A_KIND and len(frame) <= LENGTH_MAX:
            yield frame


def _read(session: Session, frame: bytes) -> Sequence[Update]:
    try:
        return session.receive(frame, received_ms=1)
    except FrameError:
        return ()


@pytest.mark.parametrize(("name", "file"), CAPTURES)
def test_a_frame_that_is_cut_off_says_nothing(
    recorded: Path, name: str, file: str
) -> None:
    """Half a number would be another number."""
    session = _adapter(name).session(())
    for frame in _kinds(recorded / file):
        cut = [frame[:length] for length in range(len(frame))]
        assert [one for one in cut if _read(session, one)] == []


@pytest.mark.parametrize(("name", "file"), CAPTURES)
def test_a_frame_that_is_changed_is_read_or_named_unreadable(
    recorded: Path, name: str, file: str
) -> None:
    """Whatever becomes of it: nothing but the declared error comes out."""
    session, chance = _adapter(name).session(()), random.Random(SEED)
    for frame in _kinds(recorded / file):
        for _ in range(200):
            place = chance.randrange(len(frame))
            until = place + chance.randrange(4)
            put = chance.choice([*INSERTED, chance.randbytes(2), b""])
            for update in _read(session, frame[:place] + put + frame[until:]):
                assert update.symbol
                assert update.price or update.bid or update.ask


def _board(name: str, updates: Sequence[Sequence[Update]]) -> dict[str, Ticker]:
    """Merge what was heard, and return what would be published."""
    symbols = sorted({one.symbol for some in updates for one in some})
    names = {symbol: f"A{place}-USD" for place, symbol in enumerate(symbols)}
    group = Group(instruments=tuple(names.values()), sources=(name,))
    board = Board(
        name="test", sources=(), demand_max=0, groups=(group,), lists={}, names={}
    )
    merge = Merge(board, RULES, {name: 0})
    merge.list(
        name,
        Symbols(
            Listing(symbol=symbol, base=instrument.removesuffix("-USD"), quote="USD")
            for symbol, instrument in names.items()
        ),
    )
    for some in updates:
        merge.take(some, now_ms=max((one.received_ms for one in some), default=1))
    batch = merge.cut(epoch="e", previous=0, now_ms=1, most=len(names))
    assert batch is not None
    tickers = {key: decode_ticker(row) for key, row in batch.tickers.items()}
    return {
        key: msgspec.structs.replace(ticker, received_ms=0)
        for key, ticker in tickers.items()
    }


def _disorder(frames: Frames, chance: random.Random) -> Iterator[tuple[bytes, int]]:
    """Yield them in groups turned around, some of them again."""
    for start in range(0, len(frames), 3):
        group = list(frames[start : start + 3])
        yield from chance.sample(group, len(group))
        if chance.random() < 1 / 3:
            yield chance.choice(group)


@pytest.mark.parametrize(("name", "file"), CAPTURES)
def test_frames_in_disorder_end_where_they_would_have_ended(
    recorded: Path, name: str, file: str
) -> None:
    """Late and repeated ones change nothing: each symbol ends with its newest."""
    frames = list(read_frames(recorded / file))

    def board(some: Frames) -> dict[str, Ticker]:
        session = _adapter(name).session(())
        heard = [session.receive(frame, received_ms=at_ms) for frame, at_ms in some]
        return _board(name, heard)

    disorder = list(_disorder(frames, random.Random(SEED)))
    assert len(disorder) > len(frames)
    assert board(disorder) == board(frames)
