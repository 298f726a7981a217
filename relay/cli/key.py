"""``relay key new``: a key for who may read or operate, and its line for the settings.

What a key opens stands in ``relay.delivery.doors``.
"""

import re
from typing import Final

import rich_click as click

from relay.cli.run import console
from relay.delivery.doors import make_key

_NAME: Final = r"^[a-z0-9_-]{1,32}$"
_SCOPES: Final = ("read", "admin", "read+admin")


@click.group()
def key() -> None:
    """Make keys for who may read, where reading needs one, or operate.

    Example: `relay key new --name shop`
    """


@key.command()
@click.option("--name", required=True, help="Whose it is: a-z, 0-9, - and _.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(_SCOPES),
    default="read",
    show_default=True,
    help="What it may.",
)
def new(name: str, scopes: str) -> None:
    """Make a key, show it this once, and the line that the settings want.

    Nothing is kept: of the key the settings hold only the digest.

    Example: `relay key new --name shop --scope read`
    """
    if not re.fullmatch(_NAME, name):
        raise click.BadParameter("a name has 1 to 32 of a-z, 0-9, - and _")
    made, line = make_key(name, scopes)
    told = (
        f"The key, shown this once, for Authorization: Bearer\n  {made}\n",
        f'Its line in [doors] of the settings\n  keys = ["{line}"]\n',
        f"or in the environment, with commas between\n  RELAY_KEYS={line}\n",
        'Reading needs a key with reading = "keys", or RELAY_READING=keys.',
    )
    for one in told:
        console.print(one, markup=False)
