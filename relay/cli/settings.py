"""``relay check-config``: every effective setting, and where it came from."""

import sys

import msgspec
import rich_click as click

from relay.cli.run import option_config, option_sim_url, read_settings, sentences
from relay.config import hide


@click.command("check-config")
@option_config
@option_sim_url
def check_config(file: str | None, sim_url: str) -> None:
    """Show every effective setting and the file or variable that set it.

    Exit status 2 when a setting is wrong, with file, key, value and what was expected.

    Example: `relay check-config --config production.toml`
    """
    with sentences():
        loaded = read_settings(file, sim_url)
    values = msgspec.to_builtins(loaded.settings)
    rows = [
        (path, _shown(path, value), loaded.origins.get(path, ""))
        for path, value in flatten(values)
    ]
    for path, text, origin in rows:
        sys.stdout.write(f"{path} = {text}  # {origin}\n")


def flatten(value: object, path: str = "") -> list[tuple[str, object]]:
    """Return every leaf of nested settings with its path."""
    if not isinstance(value, dict):
        return [(path, value)]
    return [
        leaf
        for key, inner in value.items()
        for leaf in flatten(inner, f"{path}.{key}" if path else key)
    ]


def _shown(path: str, value: object) -> str:
    return msgspec.json.encode(hide(path, value)).decode()
