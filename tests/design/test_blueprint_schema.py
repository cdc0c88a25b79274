"""The published JSON Schema says what the loader accepts."""

from __future__ import annotations

import json

import jsonschema

from mainstay.architect.design import schema


def test_the_file_is_made_from_the_classes() -> None:
    """``python -m mainstay.architect.design.schema`` has been run since the classes changed."""
    assert schema.FILE.read_text(encoding="utf-8") == schema.text()


def test_it_is_a_schema_that_tells_of_every_key() -> None:
    """JSON Schema 2020-12 accepts it, and what a docstring says of a key is there for the editor."""
    made = json.loads(schema.FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(made)
    timeout = made["$defs"]["Operation"]["properties"]["timeout"]
    assert timeout["description"].startswith(
        "How long its callers wait for it. Written as a time such as 800ms"
    )
    assert made["$defs"]["Assume"]["properties"]["hold"]["default"] == "15ms"
