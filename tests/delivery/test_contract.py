"""The description is true: its examples, its codes, its headers."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

import relay.delivery
from relay.config import Settings
from relay.delivery.contract import MEANING, OPERATIONS
from relay.delivery.describe import describe, write_page
from relay.delivery.examples import FAULTS, MESSAGES
from relay.delivery.parameters import choices
from relay.delivery.poll import PARAMETERS
from relay.delivery.query import FIELDS

HERE = Path(next(iter(relay.delivery.__path__)))
Tree = dict[str, Any]

# An edge says it, and no instance.
OF_EDGES = {"edge_down"}
# How an error is raised that brings its own code; the last of them answers by hand.
RAISED = {"RequestError", "Locked", "Unready", "TooMany", "Fault", "Rule", "__init__"}


@pytest.fixture(scope="module")
def document(settings: Settings) -> Tree:
    """Return the description as it is served."""
    described: Tree = json.loads(describe(choices(settings)))
    return described


def parts(document: Tree) -> Iterator[tuple[str, Tree]]:
    """Yield every operation, by its name."""
    for methods in document["paths"].values():
        for operation in methods.values():
            yield operation["operationId"], operation


def shown(operation: Tree) -> Iterator[tuple[Tree, object]]:
    """Yield each example of an operation, with the schema that it must be true to."""
    for parameter in operation["parameters"]:
        if "example" in parameter:
            yield parameter["schema"], parameter["example"]
    bodies = [*operation["responses"].values(), operation.get("requestBody", {})]
    for body in bodies:
        for header in body.get("headers", {}).values():
            yield header["schema"], header["example"]
        for content in body.get("content", {}).values():
            for example in content.get("examples", {}).values():
                yield content["schema"], example["value"]


def test_every_example_is_true_to_its_schema(document: Tree) -> None:
    """Somebody copies it."""
    count = 0
    for name, operation in parts(document):
        for schema, example in shown(operation):
            whole = {**schema, "components": document["components"]}
            validator = jsonschema_rs.Draft202012Validator(whole)
            wrong = [error.message for error in validator.iter_errors(example)]
            assert (name, wrong) == (name, [])
            count += 1
    assert count > 500


def test_every_answer_with_a_body_has_an_example(document: Tree) -> None:
    """And each of its headers, each parameter, each error."""
    for name, operation in parts(document):
        for status, answer in operation["responses"].items():
            for content in answer.get("content", {}).values():
                assert content.get("examples") or content.get("example"), (name, status)
            for header in answer.get("headers", {}).values():
                assert header["description"], (name, status)
                assert header["example"], (name, status)
        for parameter in operation["parameters"]:
            assert parameter["description"], name
            assert parameter.get("example") or parameter["schema"].get("enum"), name


def test_every_error_of_a_route_has_a_meaning_and_an_example() -> None:
    """Of every status at least one code."""
    for operation in OPERATIONS:
        for status in operation.errors:
            assert MEANING[status]
            assert FAULTS[status]


def codes_in(file: Path) -> Iterator[str]:
    """Yield every code that a file raises or answers."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else ""
        name = called.id if isinstance(called, ast.Name) else name
        if name not in RAISED:
            continue
        # A rule begins with its status; everything else with its code.
        for argument in node.args[: 2 if name == "Rule" else 1]:
            match argument:
                case ast.Constant(value=str(text)) if text.replace("_", "").islower():
                    yield text


def test_every_code_that_is_raised_is_described_and_no_other() -> None:
    """Programs decide by it."""
    files = [*HERE.glob("*.py"), HERE.parent / "errors.py", HERE.parent / "hub.py"]
    raised = {
        code
        for file in files
        if file.name != "examples.py"
        for code in codes_in(file)
        if " " not in code
    }
    told = [fault for faults in FAULTS.values() for fault in faults]
    described = {fault.code for fault in (*told, *MESSAGES)}
    assert described - OF_EDGES == raised


def test_the_page_names_every_route_header_and_code(document: Tree) -> None:
    """It is the same description, to read."""
    page = write_page().decode()
    for operation in OPERATIONS:
        assert operation.path in page
        for header in operation.headers:
            assert header.name in page
    for faults in FAULTS.values():
        for fault in faults:
            assert f"<code>{fault.code}</code>" in page
    assert document["openapi"].startswith("3.1")


def test_the_parameters_of_a_poll_are_those_that_it_reads(document: Tree) -> None:
    """And no value is named that it does not take."""
    poll = document["paths"]["/v1/poll"]["get"]
    names = [one["name"] for one in poll["parameters"]]
    assert set(names) == {"symbols", "list", "fields", *PARAMETERS}
    fields = poll["parameters"][names.index("fields")]["schema"]["items"]["enum"]
    assert set(fields) == {*FIELDS, "offset", "stale", "via"}
