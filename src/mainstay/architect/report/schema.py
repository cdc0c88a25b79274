"""The JSON Schema of reports and witnesses, made from the classes of `findings`.

``python -m mainstay.architect.report.schema`` writes it to ``finding.schema.json``; a test compares the two.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from mainstay.architect import findings

FILE = Path(findings.__file__).with_name("finding.schema.json")


def schema() -> dict[str, Any]:
    """JSON Schema 2020-12: the document is a report; a witness file is described by ``#/$defs/Witness``."""
    made = TypeAdapter(findings.Report).json_schema(mode="serialization")
    definitions: dict[str, Any] = made.pop("$defs")
    for name, definition in definitions.items():
        _describe(definition, getattr(findings, name))
    _describe(made, findings.Report)
    definitions["Witness"]["properties"]["version"] = {"const": findings.WITNESS_VERSION}
    own = {
        "version": {"const": findings.REPORT_VERSION, "description": "Version of this format."},
        "mainstay": {"type": "string", "description": "Version of Mainstay that wrote the report."},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Mainstay report",
        **made,
        "properties": {**own, **made["properties"]},
        "required": [*own, *made["required"]],
        "$defs": definitions,
    }


def text() -> str:
    """The schema as it stands in the file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _describe(definition: dict[str, Any], cls: type) -> None:
    """Fill in what pydantic leaves out: docstrings of fields, and that every field is always written."""
    definition.pop("title", None)
    definition["description"] = inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    if not dataclasses.is_dataclass(cls):
        return
    definition["additionalProperties"] = False
    definition["required"] = [field.name for field in dataclasses.fields(cls)]
    told = dict(re.findall(r'^    (\w+): .*\n    """((?:.|\n)*?)"""', inspect.getsource(cls), re.MULTILINE))
    for name, field in definition["properties"].items():
        field.pop("title", None)
        field.pop("default", None)
        if name in told:
            field["description"] = " ".join(told[name].replace("``", "").split())


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
