"""The settings for CloudFront, as far as they can be tried without it."""

import asyncio
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

from relay.delivery.poll import PARAMETERS
from tests.edge.edges import SHIPPED

DEFAULTS = Path(__file__).parents[2] / "config" / "default.toml"

LINTER = Path(sys.executable).with_name("cfn-lint")


def policy(name: str) -> dict[str, object]:
    """Return one cache policy of the template."""
    template = msgspec.json.decode((SHIPPED / "cloudfront.json").read_bytes())
    found: dict[str, object] = template["Resources"][name]["Properties"]
    return dict(found["CachePolicyConfig"])  # type: ignore[call-overload, no-any-return]


@pytest.mark.edge
@pytest.mark.timeout(60)
async def test_the_template_is_one_that_cloudformation_would_take() -> None:
    """By the linter of those who make it."""
    linting = await asyncio.create_subprocess_exec(
        *(str(LINTER), str(SHIPPED / "cloudfront.json")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await linting.communicate()
    assert (linting.returncode, said.decode()) == (0, "")


def test_a_polls_key_is_every_parameter_and_nothing_else() -> None:
    """One that was left out would answer one question with another's answer."""
    config = policy("PollCache")
    keys = config["ParametersInCacheKeyAndForwardedToOrigin"]
    assert isinstance(keys, dict)
    known = {"symbols", "list", "fields", *PARAMETERS}
    assert set(keys["QueryStringsConfig"]["QueryStrings"]) == known
    assert keys["HeadersConfig"] == {"HeaderBehavior": "none"}
    # With 0, the max-age=0 of a poll would keep requests from collapsing.
    assert (config["MinTTL"], config["MaxTTL"]) == (1, 1)


@pytest.mark.parametrize("name", ["varnish.vcl", "nginx.conf"])
def test_an_edge_waits_longer_than_the_longest_hold(name: str) -> None:
    """By ten seconds, and longer than a quiet stream stays silent."""
    text = (SHIPPED / name).read_text()
    http = tomllib.loads(DEFAULTS.read_text())["http"]
    assert f"{http['wait_max_ms'] // 1000 + 10}s;" in text
    assert f"{http['heartbeat_ms'] // 1000 + 10}s;" in text


def test_nginx_keys_a_poll_by_every_parameter() -> None:
    """In an order of its own, so that the client's does not matter."""
    text = (SHIPPED / "nginx.conf").read_text()
    for name in ("symbols", "list", "fields", *PARAMETERS):
        assert f"$arg_{name}" in text
