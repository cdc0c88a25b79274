"""A check for tests: can old and new code read each other's events?

In a deploy both run side by side, and messages of both lie on the table. The JSON Schemas of what was released are
files beside the tests, and are compared with what the code says now.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import core_schema

from mainstay.patterns.events.event import Event

_NARROWER_IF_LESS = ("maxLength", "maximum", "exclusiveMaximum", "maxItems", "maxProperties")
_NARROWER_IF_MORE = ("minLength", "minimum", "exclusiveMinimum", "minItems", "minProperties")
_NARROWER_IF_OTHER = ("pattern", "format", "multipleOf", "uniqueItems", "contentEncoding")
_DEPTH = 30
"""Levels of nesting that are compared; models that contain themselves end there."""

Schema = Mapping[str, Any]


class Incompatible(AssertionError):
    """A change of an event that code or messages already out there cannot live with; one line for each break."""


def assert_compatible(event: type[Event], folder: str | Path) -> None:
    """Compare an event with the schemas of it that were stored; store that of its version if there is none yet.

    ``<name>.v<version>.json`` in `folder` says how messages of a version are written and read. Commit these files.
    Where the environment variable ``CI`` is set, a missing one is an error. Delete or replace one only while no
    code of it has been released.

    Against the same version: new code must read what old code wrote (backward) and old code what new code writes
    (forward, since workers are replaced one by one). Against older versions: upcasters must lead from each to the
    present one. An older worker leaves newer versions to newer workers, so nothing else is asked of these.

    Raises:
        Incompatible: a break, each in one sentence, or a missing file under ``CI``.
    """
    folder = Path(folder)
    name, version = event.event_name, event.event_version
    breaks = [
        f"nothing reads version {old} of {name} any more: write @upcast({event.__name__}, from_version={step})"
        for old in _stored_versions(folder, name)
        for step in range(old, version)
        if step not in event.event_upcasters
    ]
    breaks += [
        f"version {old} of {name} has been stored, and the code says version {version}: versions only rise"
        for old in _stored_versions(folder, name)
        if old > version
    ]
    writes, reads = _schema(event, "serialization"), _schema(event, "validation")
    breaks += [f"{name} cannot read what it writes: {why}" for why in _unreadable(writes, reads)]
    file = folder / f"{name}.v{version}.json"
    if file.exists():
        stored = json.loads(file.read_text(encoding="utf-8"))
        remedy = f"; if that must be, raise the version of {name} to {version + 1} and write an upcaster"
        breaks += [
            f"new code cannot read old messages of {name}: {why}{remedy}"
            for why in _unreadable(stored["writes"], reads)
        ]
        breaks += [
            f"old code cannot read new messages of {name}: {why}{remedy}"
            for why in _unreadable(writes, stored["reads"])
        ]
    elif os.environ.get("CI"):
        breaks.append(f"{file} is missing: run the test once without CI set, and commit the file")
    elif not breaks:
        folder.mkdir(parents=True, exist_ok=True)
        schemas = {"name": name, "version": version, "writes": writes, "reads": reads}
        file.write_text(json.dumps(schemas, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if breaks:
        raise Incompatible("\n".join(dict.fromkeys(breaks)))


def _stored_versions(folder: Path, name: str) -> list[int]:
    found = (
        file.name.removeprefix(f"{name}.v").removesuffix(".json") for file in folder.glob(f"{name}.v*.json")
    )
    return sorted(int(version) for version in found if version.isdecimal())


def _schema(event: type[Event], mode: JsonSchemaMode) -> dict[str, Any]:
    return event.model_json_schema(by_alias=True, mode=mode, schema_generator=_AllWritten)


class _AllWritten(GenerateJsonSchema):
    """Events are written whole, so in what is written every field of a model is there, default or not."""

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        """As pydantic's, but for models that are written."""
        if self.mode == "serialization" and field["type"] != "typed-dict-field":
            return field.get("serialization_exclude_if") is None
        return super().field_is_required(field, total)


def _unreadable(written: Schema, read: Schema) -> list[str]:
    """Why what the first schema describes may not be readable by the second; empty where it always is."""
    return list(dict.fromkeys(_compare(written, read, written, read, "", 0)))


def _compare(
    writes: Schema, reads: Schema, w_root: Schema, r_root: Schema, at: str, depth: int
) -> Iterator[str]:
    writes, reads = _resolve(writes, w_root), _resolve(reads, r_root)
    if depth > _DEPTH or reads == {} or (writes == reads and w_root.get("$defs") == r_root.get("$defs")):
        return
    here = at or "the event"
    for choice in _choices(writes, w_root):
        options = _choices(reads, r_root)
        if not options:
            continue
        faults = [list(_compare_one(choice, option, w_root, r_root, at, depth)) for option in options]
        if not any(fault == [] for fault in faults):
            if len(options) == 1:
                yield from faults[0]
            else:
                yield f"{here} may be {_told(choice)}, which is none of {', '.join(_told(one) for one in options)}"


def _compare_one(
    writes: Schema, reads: Schema, w_root: Schema, r_root: Schema, at: str, depth: int
) -> Iterator[str]:
    here = at or "the event"
    if reads == {}:
        return
    if "const" in reads or "enum" in reads:
        allowed = [reads["const"]] if "const" in reads else reads["enum"]
        written = [writes["const"]] if "const" in writes else writes.get("enum")
        if written is None:
            yield f"{here} may be any {_told(writes)}, and only {_values(allowed)} is read"
        elif extra := [value for value in written if value not in allowed]:
            yield f"{here} may be {_values(extra)}, and only {_values(allowed)} is read"
        return
    kinds, wanted = _types(writes), _types(reads)
    if wanted and not kinds:
        yield f"{here} may be anything, and only {_told(reads)} is read"
        return
    if wanted and not all(kind in wanted or (kind == "integer" and "number" in wanted) for kind in kinds):
        yield f"{here} is {_told(writes)}, and {_told(reads)} is read"
        return
    for rule, value in reads.items():
        before = writes.get(rule)
        if rule in _NARROWER_IF_OTHER and before != value:
            yield f"{here} must have {rule} {value!r} to be read, and is written with {before!r}"
        elif (rule in _NARROWER_IF_LESS and (before is None or before > value)) or (
            rule in _NARROWER_IF_MORE and (before is None or before < value)
        ):
            yield f"{here} must have {rule} {value} to be read, and is written with {before}"
    yield from _compare_parts(writes, reads, w_root, r_root, at, depth)


def _compare_parts(
    writes: Schema, reads: Schema, w_root: Schema, r_root: Schema, at: str, depth: int
) -> Iterator[str]:
    written, read = writes.get("properties", {}), reads.get("properties", {})
    always = writes.get("required", ())
    for name in reads.get("required", ()):
        where = f"{at}.{name}" if at else name
        if name not in written:
            yield f"{where} is required to read it, and is not written; give it a default"
        elif name not in always:
            yield f"{where} is required to read it, and is not always written; give it a default"
    for name, schema in written.items():
        if name in read:
            yield from _compare(schema, read[name], w_root, r_root, f"{at}.{name}" if at else name, depth + 1)
        elif reads.get("additionalProperties") is False:
            yield (
                f"{at}.{name} is written, and unknown fields are forbidden there"
                if at
                else (f"{name} is written, and unknown fields are forbidden")
            )
    for part, place in (("items", "each of "), ("additionalProperties", "each value of ")):
        if isinstance(reads.get(part), dict):
            given = writes.get(part, {})
            if isinstance(given, dict):
                yield from _compare(given, reads[part], w_root, r_root, f"{place}{at}", depth + 1)
    for first, second in zip(writes.get("prefixItems", ()), reads.get("prefixItems", ()), strict=False):
        yield from _compare(first, second, w_root, r_root, f"an item of {at}", depth + 1)


def _resolve(schema: Schema, root: Schema) -> Schema:
    """Follow references; leave out what only people read."""
    while "$ref" in schema or len(schema.get("allOf", ())) == 1:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema["allOf"][0]
    return {
        rule: value
        for rule, value in schema.items()
        if rule not in ("title", "description", "default", "examples", "deprecated", "discriminator")
    }


def _choices(schema: Schema, root: Schema) -> list[Schema]:
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return [one for each in schema[union] for one in _choices(_resolve(each, root), root)]
    return [schema]


def _types(schema: Schema) -> list[str]:
    kind = schema.get("type", [])
    if "const" in schema or "enum" in schema:
        values = [schema["const"]] if "const" in schema else schema["enum"]
        return sorted({_JSON[type(value)] for value in values})
    return [kind] if isinstance(kind, str) else list(kind)


_JSON = {
    str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null", list: "array", dict: "object"
}  # fmt: skip


def _told(schema: Schema) -> str:
    kinds = " or ".join(_types(schema)) or "anything"
    return f"{kinds} ({schema['format']})" if "format" in schema else kinds


def _values(values: list[Any]) -> str:
    return " or ".join(json.dumps(value) for value in values)
