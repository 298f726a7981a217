"""``relay replay``: recordings through the same pipeline into a real store."""

import gzip
import json
import signal
import subprocess
from pathlib import Path

import pytest

from relay.config import Settings
from relay.model import decode_ticker
from relay.store.client import Client
from relay.store.keys import Keys
from relay.store.reader import Reader
from tests.cli.commands import relay
from tests.harness import until
from tests.simulation.processes import relay as running

# The last price of each instrument as the recordings hold it, read off them by hand:
# Kraken's ticker frames (`c`), Coinbase Exchange's tickers and matches, Binance's
# trades.
KRAKEN = {
    "WAVES-EUR": "13.253900",
    "XMR-USD": "353.81000000",
    "KSM-BTC": "0.00758800",
    "GRT-ETH": "0.000839800",
    "SC-EUR": "0.043040",
    "ETH-CHF": "2191.22000",
    "OCEAN-BTC": "0.000027800",
    "OMG-USD": "9.608415",
    "BTC-CHF": "56218.30000",
    "ADA-BTC": "0.000022930",
}
COINBASE = {
    "BAND-GBP": "14.7646",
    "SKL-GBP": "0.5762",
    "NU-GBP": "0.4393",
    "SKL-BTC": "0.00001304",
    "CRV-EUR": "3.2981",
    "BAND-BTC": "0.00033396",
    "SKL-USD": "0.7902",
}
BINANCE = {"NKN-USDT": "0.35280000", "LRC-BTC": "0.00000638"}
BINANCE_US = {"OMG-BUSD": "13.76040000"}

CASES = [
    (
        [
            "kraken/cryptofeed_ticker_2021-04-17.ws",
            "kraken/cryptofeed_2021-04-17.assetpairs.rest.gz",
        ],
        KRAKEN,
        "kraken",
    ),
    (
        [
            "coinbase/cryptofeed_exchange_2021-04-17.products.rest.gz",
            "coinbase/cryptofeed_exchange_2021-04-17.ws.gz",
        ],
        COINBASE,
        "coinbase-exchange",
    ),
    (
        [
            "binance/cryptofeed_spot_2021-10-12.exchangeInfo.rest.gz",
            "binance/cryptofeed_spot_2021-10-12.ws.gz",
        ],
        BINANCE,
        "binance",
    ),
    (
        [
            "binance/cryptofeed_us_2021-10-12.exchangeInfo.rest.gz",
            "binance/cryptofeed_us_2021-10-12.ws.gz",
        ],
        BINANCE_US,
        "binance",
    ),
    (["coingecko/cassettes_2021-05-15.jsonl.gz"], {}, "coingecko"),
]


@pytest.mark.parametrize(("files", "prices", "source"), CASES)
async def test_recordings_give_the_last_prices_that_they_hold(  # noqa: PLR0913 - fixtures
    recorded: Path,
    valkey_url: str,
    client: Client,
    keys: Keys,
    *,
    files: list[str],
    prices: dict[str, str],
    source: str,
) -> None:
    """The store keeps the result, digit for digit, for ``relay serve``."""
    paths = [str(recorded / name) for name in files]
    played = relay(
        *("replay", "--speed", "0", "--all", *paths),
        RELAY_VALKEY_URL=valkey_url,
        RELAY_BOARD=keys.board,
    )
    assert played.returncode == 0, played.stderr
    view = await Reader(client, keys).read(None)
    tickers = {name: decode_ticker(row) for name, row in view.tickers.items()}
    assert {name: one.price for name, one in tickers.items()} | prices == {
        name: one.price for name, one in tickers.items()
    }
    assert {one.source for one in tickers.values()} == {source}
    for name, price in prices.items():
        assert f"{name} " in played.stdout
        assert f"{price} " in played.stdout


def test_the_whole_table_of_2019_is_read_but_for_its_dead_symbols(
    recorded: Path,
) -> None:
    """595 rows, 51 of them dead: a zero price is never published."""
    played = relay(
        *("replay", "--speed", "0"),
        str(recorded / "binance/cassettes_spot_2019-08-22.jsonl.gz"),
    )
    assert "544 instruments" in played.stdout
    assert "and 504 more: --all lists them" in played.stdout


def test_the_summary_says_what_was_read_and_dropped_and_why(tmp_path: Path) -> None:
    """By exchange and reason, with what the reader may do about it."""
    capture = tmp_path / "mine.ws"
    ticker = {
        "channel": "ticker",
        "type": "update",
        "data": [{"symbol": "BTC/USD", "bid": 1.10, "ask": 1.2, "last": 1.150}],
    }
    lines = [
        "wss://ws.kraken.com/v2 <-> 1700000000.1",
        f"1700000000.2: {json.dumps(ticker).replace('1.15', '1.150')}",
        "1700000000.3: {nonsense",
        "wss://ws.mtgox.com <-> 1700000001.1",
        "1700000001.2: {}",
    ]
    capture.write_text("\n".join(lines))
    played = relay("replay", "--speed", "0", str(capture))
    assert played.returncode == 0, played.stderr
    assert "BTC-USD" in played.stdout
    assert "1.150" in played.stdout
    assert "dropped 1: unknown: ws.mtgox.com is no exchange that is read here" in (
        played.stdout
    )
    assert "dropped 1: kraken:" in played.stdout


def test_a_recording_is_replayed_at_its_own_pace(tmp_path: Path) -> None:
    """Twice as fast takes half as long."""
    capture = tmp_path / "mine.ws"
    frame = '{"channel":"heartbeat"}'
    lines = [f"{1700000000 + second}: {frame}" for second in range(3)]
    capture.write_text("\n".join(["wss://ws.kraken.com/v2 <-> 1700000000", *lines]))
    played = relay("replay", "--speed", "2", str(capture))
    assert "0:00:01" in played.stderr or "0:00:02" in played.stderr


EMPTY = {
    "empty.ws": b"",
    "empty.ws.gz": b"",
    "packed.ws.gz": gzip.compress(b""),
    "junk.ws": b"no line of a recording\n" * 3,
    "strange.ws": b"wss://ws.okx.com:8443/ws <-> 1700000000.1\n1700000000.2: {}\n",
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_file_of_which_nothing_comes_is_a_failure(tmp_path: Path, name: str) -> None:
    """A script that goes on would think that it had replayed something."""
    capture = tmp_path / name
    capture.write_bytes(EMPTY[name])
    played = relay("replay", "--speed", "0", str(capture))
    assert played.returncode == 1
    assert "no price and no symbol table was found" in played.stderr


def test_a_recording_that_is_cut_off_is_played_as_far_as_it_goes(
    tmp_path: Path, recorded: Path
) -> None:
    """A capture ends with its machine; what it has is worth having."""
    whole = (recorded / "coinbase/cryptofeed_exchange_2021-04-17.ws.gz").read_bytes()
    capture = tmp_path / "cut.ws.gz"
    capture.write_bytes(whole[: len(whole) // 2])
    played = relay("replay", "--speed", "0", str(capture))
    assert played.returncode == 0, played.stderr
    assert "SKL-USD" in played.stdout
    assert "cut.ws.gz, line" in played.stderr
    assert played.stderr.count("the file ends early") == 1


def test_prices_that_no_table_lists_say_what_to_give_besides(recorded: Path) -> None:
    """Binance writes base and quote together."""
    capture = recorded / "binance/cryptofeed_spot_2021-10-12.ws.gz"
    played = relay("replay", "--speed", "0", str(capture))
    assert played.returncode == 1
    assert "a symbol that no table lists" in played.stdout
    assert "recording of its symbol table too (/api/v3/exchangeInfo)" in played.stdout


@pytest.mark.timeout(60)
async def test_a_replay_that_is_interrupted_says_so(
    tmp_path: Path, valkey_url: str, client: Client, keys: Keys
) -> None:
    """Half a recording must not look like a whole one."""
    capture = tmp_path / "mine.ws"
    frame = '{"channel":"heartbeat"}'
    lines = [f"{1700000000 + minute * 60}: {frame}" for minute in range(9)]
    capture.write_text("\n".join(["wss://ws.kraken.com/v2 <-> 1700000000", *lines]))
    environ = {"RELAY_VALKEY_URL": valkey_url, "RELAY_BOARD": keys.board}

    async def is_playing() -> bool:
        return bool(await client.valkey.exists(keys.lease))

    async with running("replay", str(capture), **environ) as process:
        await until(is_playing)
        process.send(signal.SIGINT)
        assert await process.ended(within_s=10) == 130
        assert any("interrupted" in line for line in process.said)


async def test_nothing_is_replayed_into_a_board_that_somebody_leads(
    tmp_path: Path, valkey_url: str, client: Client, keys: Keys, settings: Settings
) -> None:
    """Two leaders would overwrite each other."""
    del settings
    await client.valkey.set(keys.lease, f"someone 1 {client.clock.wall_ms() + 60_000}")
    capture = tmp_path / "mine.ws"
    capture.write_text("")
    failed: subprocess.CompletedProcess[str] = relay(
        "replay", str(capture), RELAY_VALKEY_URL=valkey_url, RELAY_BOARD=keys.board
    )
    assert failed.returncode == 1
    assert "somebody else ingests" in failed.stderr
