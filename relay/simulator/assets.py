"""What is traded: one row an asset, its names and where it is listed. No prices move.

Also not here: how an exchange spells a symbol.
"""

from msgspec import Struct

# Columns: symbol | name | CoinGecko id | CoinCap slug | USD price | supply |
# daily USD volume in millions | Kraken's code | listed.
# Listed: B Binance USDT, C Binance USDC, E Binance EUR, X Coinbase USD (with its
# USDC alias), Y Coinbase EUR, K Kraken USD, L Kraken EUR, T Kraken USDT.
# Every asset is known to CoinGecko and CoinCap.
_TABLE = """
BTC|Bitcoin|bitcoin|bitcoin|61000.12|19900000|24000|XXBT|BCEXYKLT
ETH|Ethereum|ethereum|ethereum|2501.34|120400000|12000|XETH|BCEXYKLT
SOL|Solana|solana|solana|146.21|540000000|3100|SOL|BCEXYKLT
XRP|XRP|ripple|xrp|0.5312|59000000000|2100|XXRP|BCEXYKLT
BNB|BNB|binancecoin|binance-coin|571.4|145000000|1600|BNB|BCEXK
DOGE|Dogecoin|dogecoin|dogecoin|0.12345|147000000000|1400|XXDG|BCEXYKLT
ADA|Cardano|cardano|cardano|0.3561|35700000000|520|ADA|BCEXYKLT
TRX|TRON|tron|tron|0.1623|86000000000|480|TRX|BCKL
AVAX|Avalanche|avalanche-2|avalanche|27.41|410000000|390|AVAX|BCEXYKL
LINK|Chainlink|chainlink|chainlink|11.32|630000000|370|LINK|BCEXYKL
TON|Toncoin|the-open-network|toncoin|5.21|2540000000|310|TON|BCKL
SUI|Sui|sui|sui|1.842|2900000000|640|SUI|BCEXK
DOT|Polkadot|polkadot|polkadot|4.213|1500000000|210|DOT|BCEXYKL
BCH|Bitcoin Cash|bitcoin-cash|bitcoin-cash|341.2|19800000|240|BCH|BCEXYKL
LTC|Litecoin|litecoin|litecoin|66.81|75200000|330|XLTC|BCEXYKL
NEAR|NEAR Protocol|near|near-protocol|4.512|1210000000|220|NEAR|BCEXK
UNI|Uniswap|uniswap|uniswap|7.352|600000000|180|UNI|BCEXYKL
APT|Aptos|aptos|aptos|8.214|520000000|170|APT|BCEXK
ICP|ICP|internet-computer|internet-computer|7.812|473000000|90|ICP|BCXKL
ETC|ETC|ethereum-classic|ethereum-classic|18.41|149000000|140|XETC|BCEXYKL
XLM|Stellar|stellar|stellar|0.09421|29800000000|95|XXLM|BCEXYKL
FIL|Filecoin|filecoin|filecoin|3.712|590000000|160|FIL|BCEXYKL
ATOM|Cosmos Hub|cosmos|cosmos|4.412|391000000|120|ATOM|BCEXYKL
HBAR|Hedera|hedera-hashgraph|hedera-hashgraph|0.05612|37800000000|70|HBAR|BCEXK
ARB|Arbitrum|arbitrum|arbitrum|0.5412|4000000000|170|ARB|BCEXK
OP|Optimism|optimism|optimism|1.6021|1250000000|150|OP|BCEXK
VET|VeChain|vechain|vechain|0.02214|80900000000|40|VET|BCEX
MKR|Maker|maker|maker|1512.3|880000|60|MKR|BXK
AAVE|Aave|aave|aave|152.4|14900000|210|AAVE|BCEXYKL
GRT|The Graph|the-graph|the-graph|0.16021|9550000000|55|GRT|BCEXYKL
ALGO|Algorand|algorand|algorand|0.12451|8280000000|45|ALGO|BCEXYKL
FTM|Fantom|fantom|fantom|0.6512|2800000000|190|FTM|BEK
SAND|The Sandbox|the-sandbox|the-sandbox|0.2541|2350000000|60|SAND|BCXK
MANA|Decentraland|decentraland|decentraland|0.2912|1940000000|40|MANA|BCXYKL
AXS|Axie Infinity|axie-infinity|axie-infinity|4.812|150000000|30|AXS|BCXYK
XTZ|Tezos|tezos|tezos|0.6712|1010000000|25|XTZ|BCXYKL
EOS|EOS|eos|eos|0.4612|1520000000|65|EOS|BEXKL
XMR|Monero|monero|monero|161.2|18440000|70|XXMR|KL
ZEC|Zcash|zcash|zcash|35.41|16300000|60|XZEC|BCXKL
DASH|Dash|dash|dash|24.12|12000000|40|DASH|BXKL
ZRX|0x Protocol|0x|0x|0.3112|847000000|15|ZRX|BXYK
CRV|Curve DAO|curve-dao-token|curve-dao-token|0.2612|1240000000|70|CRV|BCXYKL
SNX|SNX|havven|synthetix-network-token|1.3912|327000000|20|SNX|BXYK
COMP|Compound|compound-governance-token|compound|44.12|8700000|35|COMP|BXK
LDO|Lido DAO|lido-dao|lido-dao|1.0712|895000000|70|LDO|BCXK
INJ|Injective|injective-protocol|injective|19.81|97700000|110|INJ|BCXK
RUNE|THORChain|thorchain|thorchain|4.912|336000000|260|RUNE|BCEK
SEI|Sei|sei-network|sei|0.4021|3700000000|170|SEI|BCXK
TIA|Celestia|celestia|celestia|5.412|216000000|90|TIA|BCXK
PEPE|Pepe|pepe|pepe|0.00000921|420690000000000|850|PEPE|BCEXK
SHIB|Shiba Inu|shiba-inu|shiba-inu|0.00001789|589260000000000|380|SHIB|BCEXYKL
BONK|Bonk|bonk|bonk|0.00002312|71000000000000|210|BONK|BCXK
FLOKI|FLOKI|floki|floki|0.0001412|9500000000000|150|FLOKI|BCXK
WIF|dogwifhat|dogwifcoin|dogwifhat|2.312|998000000|380|WIF|BCEXK
1INCH|1inch|1inch|1inch|0.2612|1300000000|20|1INCH|BXYK
1000SATS|1000SATS|1000sats-ordinals|sats-ordinals|0.0002812|2100000000000|35|1000SATS|B
ENS|ENS|ethereum-name-service|ethereum-name-service|18.12|33100000|60|ENS|BCXK
JUP|Jupiter|jupiter-exchange-solana|jupiter|0.8312|1350000000|90|JUP|BCXK
RENDER|Render|render-token|render-token|5.312|392000000|120|RENDER|BCEXK
币安人生|Life|bianrensheng|bianrensheng|0.1412|1000000000|45|BIANRENSHENG|B
USDT|Tether|tether|tether|0.9998|119000000000|48000|USDT|XYKL
USDC|USDC|usd-coin|usd-coin|0.9999|35000000000|7200|USDC|BKL
TUSD|TrueUSD|true-usd|trueusd|0.9991|495000000|40|TUSD|BK
EURC|EURC|euro-coin|euro-coin|1.0841|45000000|12|EURC|XYKL
"""


class AssetRow(Struct, frozen=True):
    """One asset as the exchanges list it; prices and sizes are decimal text."""

    symbol: str
    name: str
    gecko: str
    slug: str
    price: str
    supply: int
    volume_musd: int
    kraken: str
    listed: str


def _row(line: str) -> AssetRow:
    symbol, name, gecko, slug, price, supply, volume, kraken, listed = line.split("|")
    return AssetRow(
        symbol, name, gecko, slug, price, int(supply), int(volume), kraken, listed
    )


ASSETS = tuple(_row(line) for line in _TABLE.split("\n") if line)

# What the synthetic assets of a larger market cost, in turn.
_SYNTHETIC_PRICES = ("1.2345", "0.04321", "23.41", "0.0007312", "312.5", "0.00001234")


def synthetic_row(number: int) -> AssetRow:
    """Make asset ``number`` of a market that is larger than the table."""
    symbol = f"SIM{number:04d}"
    return AssetRow(
        symbol=symbol,
        name=f"Simulated {number}",
        gecko=f"simulated-{number}",
        slug=f"simulated-{number}",
        price=_SYNTHETIC_PRICES[number % len(_SYNTHETIC_PRICES)],
        supply=1_000_000 * (number + 1),
        volume_musd=1 + number % 9,
        kraken=symbol,
        listed="BXK",
    )


def asset_rows(instruments: int) -> tuple[AssetRow, ...]:
    """Give the table, with synthetic rows so that Binance trades ``instruments``."""
    listed = sum(len(set(row.listed) & set("BCE")) for row in ASSETS)
    synthetic = max(0, instruments - listed)
    return ASSETS + tuple(synthetic_row(number) for number in range(synthetic))
