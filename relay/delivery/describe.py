"""The table of the routes written out: as OpenAPI, and as a page to read.

Pure. The table itself stands in ``contract``.
"""

from collections.abc import Iterable, Iterator
from html import escape
from typing import Any, Final

import msgspec

from relay import __version__
from relay.delivery.contract import MEANING, OPERATIONS, Operation, Parameter, Told
from relay.delivery.value import Portfolio

Tree = dict[str, Any]

_OK: Final = 200


def describe() -> bytes:
    """Return the OpenAPI document."""
    types = [Told, Portfolio, *{one.body for one in OPERATIONS if one.body}]
    _, schemas = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, Tree] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {}).update(_methods(operation))
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Price relay",
            "version": __version__,
            "description": "One cursor for reads, polls, streams and WebSockets.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.items()))},
    }
    return msgspec.json.encode(document)


def _methods(operation: Operation) -> Iterator[tuple[str, Tree]]:
    yield operation.method, _describe(operation, operation.method)
    if operation.head:
        yield "head", _describe(operation, "head")


def _describe(operation: Operation, method: str) -> Tree:
    described: Tree = {
        "operationId": _operation_id(operation, method),
        "summary": operation.summary,
        "description": operation.means,
        "parameters": [_describe_parameter(one) for one in operation.parameters],
        "responses": dict(_responses(operation, method)),
    }
    if operation.sent is not None:
        content = {"application/json": {"schema": _reference(operation.sent)}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _operation_id(operation: Operation, method: str) -> str:
    words = operation.path.replace("{", "").replace("}", "").strip("/").split("/")
    return "_".join([method, *words])


def _describe_parameter(parameter: Parameter) -> Tree:
    described: Tree = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "description": parameter.means,
        "schema": {"type": "string"},
    }
    if parameter.example:
        described["example"] = parameter.example
    return described


def _responses(operation: Operation, method: str) -> Iterator[tuple[str, Tree]]:
    answer: Tree = {"description": operation.summary}
    if method != "head" and operation.status == _OK:
        schema = _reference(operation.body) if operation.body else {}
        answer["content"] = {operation.kind: {"schema": schema}}
    yield str(operation.status), answer
    if operation.conditional:
        yield "304", {"description": "What the client holds is the newest."}
    for status in operation.errors:
        told: Tree = {"description": MEANING[status]}
        if method != "head":
            told["content"] = {"application/json": {"schema": _reference(Told)}}
        yield str(status), told


def _reference(kind: type) -> Tree:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Price relay: the routes</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/dashboard/docs.css">
</head>
<body>
<h1>Price relay: the routes</h1>
<p>One cursor for all ways out: the ETag of a read, the cursor of a poll, the id of a
stream's event and the resume token of a WebSocket are the same text.</p>
<p>The same as <a href="/docs/openapi.json">OpenAPI</a>. Back to
<a href="/">the prices</a>.</p>
{routes}
</body>
</html>
"""


def write_page() -> bytes:
    """Return the page that lists the routes; it needs nothing from elsewhere."""
    routes = "\n".join(_section(operation) for operation in OPERATIONS)
    return _PAGE.format(routes=routes).encode()


def _section(operation: Operation) -> str:
    method = escape(operation.method.upper())
    parts = [
        "<section>",
        f"<h2><code>{method} {escape(operation.path)}</code></h2>",
        f"<p><strong>{escape(operation.summary)}.</strong> {escape(operation.means)}",
        f"</p>{_example(operation)}",
        *_rows(operation.parameters),
        "</section>",
    ]
    return "\n".join(parts)


def _example(operation: Operation) -> str:
    if operation.method != "get" or operation.status != _OK:
        return ""
    place = operation.path
    for parameter in operation.parameters:
        if parameter.place == "path":
            place = place.replace(f"{{{parameter.name}}}", parameter.example)
    first = next((p for p in operation.parameters if p.place == "query"), None)
    if first is not None and first.example and "{" not in operation.path:
        place += f"?{first.name}={first.example}"
    return f'<p><a href="{escape(place)}"><code>{escape(place)}</code></a></p>'


def _rows(parameters: Iterable[Parameter]) -> Iterator[str]:
    rows = [
        f"<dt><code>{escape(one.name)}</code> <small>{escape(one.place)}</small></dt>"
        f"<dd>{escape(one.means)}</dd>"
        for one in parameters
    ]
    if rows:
        yield f"<dl>{''.join(rows)}</dl>"
