"""The JSON Schema of blueprints, with which an editor completes and checks them while they are written.

It is made from the classes of `blueprint` and accepts whatever the loader accepts by the form of its values; names that
must be there are the loader's to check. ``python -m mainstay.architect.design.schema`` writes it to
``blueprint.schema.json``; a test compares the two. A blueprint names it in its first line::

    # yaml-language-server: $schema=blueprint.schema.json
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from mainstay.architect.design import blueprint
from mainstay.architect.design.units import Written

FILE = Path(__file__).with_name("blueprint.schema.json")
NULL: JsonSchemaValue = {"type": "null"}
SHORT = "x-short"
"""Marks, until the schema is whole, the key for which a bare value stands."""
# What pydantic takes for a number or a truth value when it is written in quotes.
DIGITS: JsonSchemaValue = {"type": "string", "pattern": r"^\s*[-+]?[0-9][0-9_]*(\.0*)?\s*$"}
NUMERAL: JsonSchemaValue = {"type": "string", "pattern": r"^\s*[-+]?[0-9_]*\.?[0-9]*([eE][-+]?[0-9]+)?\s*$"}
TRUTH: JsonSchemaValue = {
    "type": "string",
    "pattern": "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|[Yy]([Ee][Ss])?|[Nn][Oo]?|[Oo][Nn]|[Oo][Ff][Ff]|[TtFf]|[01])$",
}


class _Forms(GenerateJsonSchema):
    """The forms in which people write values, beside the ones that the classes hold."""

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        """A bare value stands for a list of one, a bare word for a mapping, nothing for an empty one."""
        made = super().function_before_schema(schema)
        function: Callable[..., Any] = schema["function"]["function"]
        match getattr(function, "__qualname__", ""):
            case "_several":
                items = made.get("items", {}).get("type", "string")
                return {"anyOf": [made, {"type": items if "number" in items else "string"}, NULL]}
            case "_one":
                return {"anyOf": [made, made.get("items", {}), NULL]}
            case "_together":
                return {"anyOf": [made, made.get("items", {})]}
            case "_mapping.<locals>.spread":
                return {"anyOf": [made, {SHORT: getattr(function, "key", "")}, NULL]}
            case "_empty" | "_none":
                return {"anyOf": [made, NULL]}
            case "_text":
                return {**made, "type": ["string", "number", "boolean"]}
        return made

    def function_after_schema(self, schema: core_schema.AfterValidatorFunctionSchema) -> JsonSchemaValue:
        """A name has its pattern."""
        made = super().function_after_schema(schema)
        pattern = getattr(schema["function"]["function"], "pattern", "")
        return {**made, "pattern": f"^(?:{pattern})$"} if pattern else made

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """Keys are names, and nothing else."""
        made = super().dict_schema(schema)
        if (
            "patternProperties" in made
        ):  # as pydantic writes names with a pattern; editors complete the plain form
            ((pattern, value),) = made.pop("patternProperties").items()
            made["additionalProperties"] = value
            made["propertyNames"] = {"pattern": pattern}
        return made

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        """A number in quotes is one too."""
        return {"anyOf": [super().int_schema(schema), DIGITS]}

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        """A number in quotes is one too."""
        return {"anyOf": [super().float_schema(schema), NUMERAL]}

    def bool_schema(self, schema: core_schema.BoolSchema) -> JsonSchemaValue:
        """``yes`` and ``no`` are read as well."""
        return {"anyOf": [super().bool_schema(schema), {"enum": [0, 1]}, TRUTH]}

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """The default as people write it: ``15ms``."""
        made = super().default_schema(schema)
        if made.get("default") in ("", None, {}, [], False):
            del made["default"]
        return made

    def encode_default(self, dft: Any) -> Any:
        """A value with a unit, as text."""
        return str(dft) if isinstance(dft, Written) else super().encode_default(dft)


def schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of a blueprint; an included file has the same keys, less the first."""
    made = blueprint.Blueprint.model_json_schema(schema_generator=_Forms)
    _tidy(made)
    _spread(made)
    for name, definition in (*made["$defs"].items(), ("Blueprint", made)):
        _describe(definition, getattr(blueprint, name))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Mainstay blueprint",
        **{key: value for key, value in made.items() if key != "title"},
    }


def text() -> str:
    """The schema as it stands in the file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _describe(definition: dict[str, Any], cls: type) -> None:
    """What stands below each field of a class, for whoever points at its key."""
    told = re.findall(r'^    (\w+): .*\n    """((?:.|\n)*?)"""', inspect.getsource(cls), re.MULTILINE)
    for name, said in told:
        field = definition["properties"][name]
        form = field.get("description") or next(
            (item["description"] for item in field.get("anyOf", ()) if "description" in item), ""
        )
        field["description"] = plain(f"{said} Written as {form}." if form else said)


def _spread(part: Any) -> None:
    """A bare value is held to what the key is for which it stands: an editor completes both alike."""
    if isinstance(part, dict):
        choices = part.get("anyOf", [])
        for at, choice in enumerate(choices):
            if SHORT in choice:
                whole = next(other["$ref"] for other in choices if "$ref" in other)
                choices[at] = {"$ref": f"{whole}/properties/{choice[SHORT]}"}
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        _spread(inner)


def plain(said: str) -> str:
    """A docstring as an editor shows it."""
    return " ".join(said.replace("``", "`").split())


def _tidy(part: Any) -> None:
    """Leave out titles that repeat the key, and marks of reStructuredText in what an editor shows."""
    if isinstance(part, dict):
        if isinstance(part.get("title"), str):
            del part["title"]
        if isinstance(part.get("description"), str):
            part["description"] = plain(part["description"])
        for value in part.values():
            _tidy(value)
    elif isinstance(part, list):
        for value in part:
            _tidy(value)


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
