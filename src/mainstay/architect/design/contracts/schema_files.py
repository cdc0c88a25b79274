"""JSON Schema files: the entities of each service and what its events carry, for registries and code generators."""

from __future__ import annotations

import json
from collections.abc import Iterable

from mainstay.architect.design.contracts.examples import Examples
from mainstay.architect.design.contracts.json_schema import DIALECT, Schema, Schemas
from mainstay.architect.design.contracts.naming import dashed, words
from mainstay.architect.design.contracts.payloads import event_about, event_fields, event_state
from mainstay.architect.design.generated import Example, Generated
from mainstay.architect.design.study import Result


def generate(result: Result) -> Iterable[Generated]:
    """One file a service: its entities and the events that it emits, for registries and code generators."""
    system = result.study.system
    for service, spec in system.services.items():
        events = sorted({name for op in spec.does.values() for name in op.emits})
        if not spec.owns and not events:
            continue
        schemas = Schemas(system, service, "#/$defs/")
        for name in spec.owns:
            schemas.entity(system.entity(name, service, ()))
        roots: list[tuple[str, Schema]] = [
            (name, schemas.entity(system.entity(name, service, ()))) for name in spec.owns
        ]
        for name in events:
            fields, where = event_fields(system, name)
            made = {"description": event_about(system, name), **schemas.fields(fields, where)}
            roots.append((name, schemas.named(f"event {name}", name, made)))
        title = " ".join(words(service)).capitalize()
        document = {
            "$schema": DIALECT,
            "$id": f"https://{dashed(system.name)}.example/schemas/{dashed(service)}",
            "title": f"{title}: entities and events",
            "anyOf": [schema for _, schema in roots],
            "$defs": dict(sorted(schemas.components.items())),
        }
        examples = Examples(schemas)
        states = {name: event_state(system, name) for name in events}
        yield Generated(
            path=f"contracts/{service.replace('_', '-')}.schema.json",
            text=json.dumps(document, indent=2, ensure_ascii=False) + "\n",
            title=f"{title}: JSON Schemas",
            kind="json-schema",
            about="Its entities as it gives them, and what its events carry.",
            examples=tuple(
                Example(
                    f"{service} {name}",
                    examples.of(schema, name, **states.get(name, {})),
                    {**schema, "$defs": document["$defs"]},
                )
                for name, schema in roots
            ),
        )
