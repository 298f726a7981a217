"""The table of the routes written out: as OpenAPI, and as a page to read.

Pure. The table itself stands in ``contract``.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

import msgspec

from relay import __version__
from relay.delivery.bodies import Fault, Told
from relay.delivery.contract import (
    MEANING,
    NOW,
    OF_BODY,
    OF_ERROR,
    OPERATIONS,
    Header,
    Operation,
)
from relay.delivery.doors import ADMIN, ANYBODY, HOLDER, TICKETED, needed
from relay.delivery.examples import BODIES, FAULTS, MESSAGES, TEXTS
from relay.delivery.parameters import Parameter

Tree = dict[str, Any]
Choices = Mapping[str, Sequence[str]]
"""The values of parameters that take only some."""

_OK: Final = 200
_ABOUT: Final = (
    "One cursor for reads, polls, streams and WebSockets. Errors are JSON with a "
    "stable code, a sentence, and what to do. What is no HTTP at all is answered with "
    "400 and the code request_malformed, and the connection is closed."
)


_SCHEMES: Final = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key, as Authorization: Bearer or X-API-Key. Reading needs "
        "one only where the relay is told so.",
    },
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "A ticket of /v1/ticket, for a browser's EventSource and "
        "WebSocket, which can send no header.",
    },
}


def describe(choices: Choices) -> bytes:
    """Return the OpenAPI document."""
    types = [Told, *BODIES]
    _, schemas = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, Tree] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {}).update(_methods(operation, choices))
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Price relay",
            "version": __version__,
            "description": _ABOUT,
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": _SCHEMES,
        },
    }
    return msgspec.json.encode(document)


def _methods(operation: Operation, choices: Choices) -> Iterator[tuple[str, Tree]]:
    yield operation.method, _describe(operation, operation.method, choices)
    if operation.head:
        yield "head", _describe(operation, "head", choices)


def _describe(operation: Operation, method: str, choices: Choices) -> Tree:
    described: Tree = {
        "operationId": _operation_id(operation, method),
        "summary": operation.summary,
        "description": operation.means,
        "parameters": [
            _describe_parameter(one, choices) for one in operation.parameters
        ],
        "responses": dict(_responses(operation, method)),
        "security": _security(operation),
    }
    if operation.sent is not None:
        content = {"application/json": _shaped(operation.sent)}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _security(operation: Operation) -> list[Tree]:
    """Return the ways to come in; an empty one is for whoever sends nothing."""
    need = needed(operation.path)
    if need == ANYBODY:
        return []
    ways: list[Tree] = [] if need in (ADMIN, HOLDER) else [{}]
    ways.append({"key": []})
    return [*ways, {"ticket": []}] if operation.path in TICKETED else ways


def errors_of(operation: Operation) -> list[int]:
    """Return the statuses that a route's errors have, those of its door as well."""
    door = () if needed(operation.path) == ANYBODY else (401, 403)
    return sorted({*operation.errors, *door})


def _operation_id(operation: Operation, method: str) -> str:
    words = operation.path.replace("{", "").replace("}", "").strip("/").split("/")
    return "_".join([method, *words])


def _describe_parameter(parameter: Parameter, choices: Choices) -> Tree:
    schema = dict(parameter.schema)
    if choices.get(parameter.name):
        schema["enum"] = list(choices[parameter.name])
    described: Tree = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.needed or parameter.place == "path",
        "description": parameter.means,
        "schema": schema,
    }
    if schema["type"] == "array":
        described["explode"] = False
        described["example"] = parameter.example.split(",")
    elif parameter.example:
        # Of a path it is written as it is before it is encoded.
        described["example"] = parameter.example
    return described


def _responses(operation: Operation, method: str) -> Iterator[tuple[str, Tree]]:
    has_body = method != "head"
    answer: Tree = {"description": operation.summary}
    if operation.headers:
        answer["headers"] = _describe_headers(operation.headers)
    if has_body and operation.status == _OK:
        answer["content"] = {operation.kind: _content(operation)}
    yield str(operation.status), answer
    if operation.conditional:
        kept = [one for one in operation.headers if one.name not in OF_BODY]
        yield (
            "304",
            {
                "description": "What the client holds is the newest.",
                "headers": _describe_headers(kept),
            },
        )
    for status in errors_of(operation):
        yield str(status), _describe_error(status, has_body=has_body)


def _describe_error(status: int, *, has_body: bool) -> Tree:
    told: Tree = {
        "description": MEANING[status],
        "headers": _describe_headers((*NOW, *OF_ERROR.get(status, ()))),
    }
    if has_body:
        examples = {
            one.code: {"value": msgspec.to_builtins(Told(one))}
            for one in FAULTS[status]
        }
        content = {"schema": _reference(Told), "examples": examples}
        told["content"] = {"application/json": content}
    return told


def _describe_headers(headers: Iterable[Header]) -> Tree:
    return {
        one.name: {
            "description": one.means,
            "required": one.always,
            "schema": {"type": "string"},
            "example": one.example,
        }
        for one in headers
    }


def _content(operation: Operation) -> Tree:
    if operation.body is not None:
        return _shaped(operation.body)
    # What is no JSON has no schema; of a stream each event would need one of its own.
    return {"example": TEXTS[operation.path]}


def _shaped(kind: type) -> Tree:
    """Describe a JSON body: its schema, and how one looks."""
    examples = {name: {"value": body} for name, body in BODIES[kind].items()}
    return {"schema": _reference(kind), "examples": examples}


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
<section>
<h2>Errors</h2>
<p>Each is <code>{{"error":{{"code":…,"sentence":…,"hint":…}}}}</code>: a stable
code, what was wrong, and what to do.</p>
<dl>{errors}</dl>
</section>
</body>
</html>
"""


def write_page() -> bytes:
    """Return the page that lists the routes; it needs nothing from elsewhere."""
    routes = "\n".join(_section(operation) for operation in OPERATIONS)
    faults = [(f"{status}", one) for status, told in FAULTS.items() for one in told]
    faults += [("WebSocket", one) for one in MESSAGES]
    errors = "\n".join(_error(place, fault) for place, fault in faults)
    return _PAGE.format(routes=routes, errors=errors).encode()


def _error(place: str, fault: Fault) -> str:
    said = f"{fault.sentence} {fault.hint}"
    return (
        f"<dt><code>{escape(fault.code)}</code> <small>{place}</small></dt>"
        f"<dd>{escape(said)}</dd>"
    )


def _section(operation: Operation) -> str:
    method = escape(operation.method.upper())
    statuses = (operation.status, *((304,) if operation.conditional else ()))
    answered = ", ".join(str(one) for one in (*statuses, *errors_of(operation)))
    parts = [
        "<section>",
        f"<h2><code>{method} {escape(operation.path)}</code></h2>",
        f"<p><strong>{escape(operation.summary)}.</strong> {escape(operation.means)}",
        f"Answered with {answered}.</p>",
        _example(operation),
        *_rows(operation.parameters),
        *_head_rows(operation.headers),
        _shown(operation),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


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


def _head_rows(headers: Iterable[Header]) -> Iterator[str]:
    rows = [
        f"<dt><code>{escape(one.name)}: {escape(one.example)}</code></dt>"
        f"<dd>{escape(one.means)}</dd>"
        for one in headers
    ]
    if rows:
        yield f"<dl>{''.join(rows)}</dl>"


def _shown(operation: Operation) -> str:
    """Show how an answer looks, or its beginning."""
    if operation.body is not None:
        first = next(iter(BODIES[operation.body].values()))
        text = msgspec.json.format(msgspec.json.encode(first), indent=1).decode()
    else:
        text = TEXTS.get(operation.path, "")
    # It scrolls, so those who have no mouse must be able to go there.
    return f'<pre tabindex="0">{escape(text)}</pre>' if text else ""
