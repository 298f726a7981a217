"""Every parser of a stranger's bytes, as a function that may raise nothing.

What is fed to them stands in ``guided`` and in the corpus beside it.
"""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from relay.cli.recording import RecordingError, read
from relay.config import load
from relay.delivery.poll import read_question
from relay.delivery.query import Names, read_ask
from relay.delivery.sse import read_request
from relay.delivery.value import add_up, one_quote, read_holdings, read_portfolio
from relay.delivery.ws import error_message, read_message
from relay.errors import ConfigError, FrameError, RequestError
from relay.exchanges import open_adapter
from relay.exchanges.adapter import Adapter, Answer, Request
from relay.ingest.dial import read_head
from relay.model import Cursor, read_count

Target = Callable[[bytes], None]

CORPUS: Final = Path(__file__).parent / "corpus"

_SETTINGS: Final = load(environ={}, sim_url="http://sim").settings
_NAMES, _HTTP = Names(_SETTINGS.board), _SETTINGS.http
_NOW_MS: Final = 1_763_635_200_000
_SYMBOLS: Final = {
    "binance": "BTCUSDT",
    "coinbase": "BTC-USD",
    "coinbase-exchange": "BTC-USD",
    "kraken": "BTC/USD",
    "coincap": "bitcoin",
    "coingecko": "bitcoin",
}


def _frames(adapter: Adapter, octets: bytes) -> None:
    """Feed the frames of one connection, each on a line of its own."""
    session = adapter.session([_SYMBOLS[adapter.name]])
    session.opened()
    for frame in octets.split(b"\n"):
        with suppress(FrameError):
            session.receive(frame, received_ms=_NOW_MS)


def _answer(request: Request, octets: bytes) -> Answer:
    """Read a status and a header off the first line; the rest is the body."""
    first, _, body = octets.partition(b"\n")
    status, _, value = first.partition(b" ")
    text = value.decode("latin-1")
    return Answer(
        request=request,
        status=read_count(status.decode("latin-1")[:3]) or 200,
        headers={"x-mbx-used-weight-1m": text, "retry-after": text, "age": text},
        body=body,
        sent_ms=_NOW_MS,
        received_ms=_NOW_MS + 100,
    )


def _bodies(adapter: Adapter, octets: bytes) -> None:
    listed = adapter.listing_of(_SYMBOLS[adapter.name])
    symbols = adapter.symbol_requests()
    snapshots = adapter.snapshot_requests([listed] if listed else [])
    for request in (*symbols, *snapshots):
        answer = _answer(request, octets)
        adapter.read_usage(answer)
        adapter.read_failure(answer)
        with suppress(FrameError):
            adapter.read_snapshot(answer)
        with suppress(FrameError):
            adapter.read_symbols([answer])


def _cursor(octets: bytes) -> None:
    with suppress(RequestError):
        cursor = Cursor.parse(octets.decode("latin-1"))
        assert Cursor.parse(str(cursor)) == cursor


def _query(octets: bytes) -> None:
    with suppress(RequestError):
        read_question(octets, _NAMES, _HTTP, align_ms=1000)
    with suppress(RequestError):
        read_request(octets, octets, _NAMES, _HTTP)
    with suppress(RequestError):
        ask = read_ask(octets, _NAMES, _HTTP)
        again = read_ask(ask.canonical.encode(), _NAMES, _HTTP)
        assert again.canonical == ask.canonical


def _holdings(octets: bytes) -> None:
    with suppress(RequestError):
        text = octets.decode("utf-8", "replace")
        one_quote(add_up(read_holdings(text), _NAMES, _HTTP))
    with suppress(RequestError):
        add_up(read_portfolio(octets), _NAMES, _HTTP)


def _message(octets: bytes) -> None:
    for message in (octets, octets.decode("utf-8", "replace")):
        try:
            read_message(message)
        except RequestError as error:
            error_message(error)


def _settings(octets: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(octets)
        file.flush()
        with suppress(ConfigError):
            load(Path(file.name), environ={})


def _recording(octets: bytes) -> None:
    """Read it as each of the formats that a name may promise."""
    for suffix in (".ws", ".ws.gz", ".rest", ".jsonl"):
        with tempfile.NamedTemporaryFile(suffix=suffix) as file:
            file.write(octets)
            file.flush()
            with suppress(RecordingError):
                list(read(Path(file.name)))


def _heads(octets: bytes) -> None:
    status, _ = read_head(octets)
    assert status >= 0


def _targets() -> dict[str, Target]:
    found: dict[str, Target] = {
        "cursor": _cursor,
        "query": _query,
        "holdings": _holdings,
        "message": _message,
        "settings": _settings,
        "recording": _recording,
        "head": _heads,
    }
    for name, exchange in _SETTINGS.exchanges.items():
        # CoinCap's stream is for some plans only.
        channels = exchange.channels or ("prices",)
        adapter = open_adapter(name, replace(exchange, channels=channels))
        found[f"{name}-body"] = partial(_bodies, adapter)
        if adapter.streams:
            found[f"{name}-frame"] = partial(_frames, adapter)
    return found


TARGETS: Final = _targets()
