"""The events that gateways and schedules send, as AWS documents them."""

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from msgspec import Struct

Event = dict[str, Any]


class Told(Struct, frozen=True):
    """What a gateway makes of a function's answer."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON
        """Return the body."""
        return json.loads(self.text)


def http_api(
    path: str,
    query: str = "",
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: str = "",
) -> Event:
    """Return an event of the payload format 2.0, which HTTP APIs and URLs send."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {"host": "relay.test"} | (headers or {}),
        "requestContext": {
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "a-test",
            },
            "stage": "$default",
            "timeEpoch": 1763635200000,
        },
        "body": body,
        "isBase64Encoded": False,
    }


def rest_api(
    path: str,
    query: str = "",
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: str = "",
) -> Event:
    """Return an event of the payload format 1.0, which REST APIs send."""
    given = {"Host": "relay.test"} | (headers or {})
    pairs = parse_qsl(query, keep_blank_values=True)
    return {
        "version": "1.0",
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": given,
        "multiValueHeaders": {name: [value] for name, value in given.items()},
        "queryStringParameters": dict(pairs) or None,
        "multiValueQueryStringParameters": {k: [v] for k, v in pairs} or None,
        "requestContext": {
            "httpMethod": method,
            "path": path,
            "stage": "dev",
            "identity": {"sourceIp": "192.0.2.1"},
        },
        "body": body or None,
        "isBase64Encoded": False,
    }


def told(answer: dict[str, Any]) -> Told:
    """Read what a function hands its gateway."""
    several = answer.get("multiValueHeaders", {}).items()
    headers = {name.lower(): ",".join(values) for name, values in several}
    headers |= {name.lower(): value for name, value in answer["headers"].items()}
    assert not answer["isBase64Encoded"]
    return Told(answer["statusCode"], headers, answer["body"])


def schedule(unix_ms: int) -> Event:
    """Return the event of a schedule that meant to ring at this time."""
    meant = datetime.fromtimestamp(unix_ms // 1000, tz=UTC)
    return {"time": meant.strftime("%Y-%m-%dT%H:%M:%SZ")}
