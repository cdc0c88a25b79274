"""Entities, their fields and how they refer to each other, one picture a service (crow's foot notation)."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.diagrams.mermaid import label, node, title
from mainstay.architect.design.generated import Generated
from mainstay.architect.design.shapes import Type
from mainstay.architect.design.study import Result
from mainstay.architect.design.system import Entity, System


def generate(result: Result) -> Iterator[Generated]:
    """One picture for each service that owns something."""
    system = result.study.system
    for service in system.services:
        owned = [
            entity for group in system.entities.values() for entity in group if entity.service == service
        ]
        if not owned:
            continue
        made = ["erDiagram"]
        for entity in owned:
            made.append(f"  {node(entity.name)} {{")
            made += [
                f"    {_type(type)} {node(name)}{_keys(entity, name, type)}"
                for name, type in entity.fields.items()
            ]
            made.append("  }")
        made += _relations(system, owned)
        yield Generated(
            f"diagrams/entities/{service}.mmd",
            "\n".join(made) + "\n",
            f"{title(service)}: entities",
            "mermaid",
            "PK: the key. FK: refers to another. UK: no two rows share it.",
            "Entities",
        )


def _type(type: Type) -> str:
    if type.states is not None:
        return "state"
    if type.words:
        return "choice"
    many = {"*": "_list", "+": "_list", "?": "_optional"}.get(type.many, "")
    return node(type.name.replace(".", "_")) + many


def _keys(entity: Entity, name: str, type: Type) -> str:
    keys = ["PK"] if name == entity.key else []
    if type.entity:
        keys.append("FK")
    if "unique" in type.marks and name != entity.key:
        keys.append("UK")
    notes = [mark for mark in type.marks if mark in ("pii", "secret", "search")]
    if type.keep is not None:
        notes.append(f"keep {type.keep}")
    return (f" {', '.join(keys)}" if keys else "") + (f" {label(', '.join(notes))}" if notes else "")


def _relations(system: System, owned: list[Entity]) -> list[str]:
    names = {entity.name for entity in owned}
    made = []
    for entity in owned:
        for name, type in entity.fields.items():
            if not type.entity:
                continue
            other = system.entity(type.entity, entity.service, entity.where)
            ends = {"*": "||--o{", "+": "||--|{", "?": "}o--o|"}.get(type.many, "}o--||")
            if other.name not in names:
                ends = ends.replace("--", "..")  # of another service: no foreign key of the database holds it
            made.append(f"  {node(entity.name)} {ends} {node(other.name)} : {label(name)}")
    return made
